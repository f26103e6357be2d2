//! What the module knows of Python and asyncio: names, classes and functions looked up once, at import.
//!
//! Functions that programs and tests replace in asyncio's modules are looked up when they are called instead; they
//! are methods here rather than fields.

use crate::cpython::global::Global;
use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Class, Fallible, Raised};
use crate::future::Future;
use crate::original::Code;
use crate::task::Task;

static STATE: Global<State> = Global::new();

/// The module's state.
#[inline]
pub fn state() -> &'static State {
    STATE.get()
}

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        /// Interned strings.
        #[derive(Debug)]
        pub struct Names { $(pub $name: Ref,)* }

        impl Names {
            fn new() -> Fallible<Names> {
                Ok(Names { $($name: object::interned($text)?,)* })
            }
        }
    };
}

names! {
    add_done_callback = c"add_done_callback";
    acquire = c"acquire";
    append = c"append";
    asyncio_future_blocking = c"_asyncio_future_blocking";
    call_at = c"call_at";
    call_exception_handler = c"call_exception_handler";
    call_later = c"call_later";
    call_soon = c"call_soon";
    callback_failed = c"_callback_failed";
    callback_slow = c"_callback_slow";
    begin_reading = c"_begin_reading";
    buffer_updated = c"buffer_updated";
    call_connection_lost = c"_call_connection_lost";
    class = c"__class__";
    close = c"close";
    connection_lost = c"connection_lost";
    connection_made = c"connection_made";
    data_received = c"data_received";
    datagram_received = c"datagram_received";
    error_received = c"error_received";
    sendto_ready = c"_sendto_ready";
    eof_received = c"eof_received";
    fileno = c"fileno";
    get_buffer = c"get_buffer";
    pause_writing = c"pause_writing";
    peername = c"peername";
    pending_method = c"pending";
    pipe = c"pipe";
    protocol = c"protocol";
    read = c"read";
    read_ready = c"_read_ready";
    resume_writing = c"resume_writing";
    set_exception = c"set_exception";
    ssl_protocol = c"_ssl_protocol";
    transport = c"transport";
    write = c"write";
    write_appdata = c"_write_appdata";
    write_ready = c"_write_ready";
    cancel = c"cancel";
    cancelled = c"CANCELLED";
    cancelled_method = c"cancelled";
    create_future = c"create_future";
    create_task = c"create_task";
    current_handle = c"_current_handle";
    create_task_with_factory = c"_create_task_with_factory";
    done = c"done";
    exception = c"exception";
    finished = c"FINISHED";
    future = c"future";
    future_add_to_awaited_by = c"future_add_to_awaited_by";
    future_discard_from_awaited_by = c"future_discard_from_awaited_by";
    get_debug = c"get_debug";
    get_event_loop = c"get_event_loop";
    get_loop = c"get_loop";
    get_running_loop_private = c"_get_running_loop";
    handle_signal = c"_handle_signal";
    is_running = c"is_running";
    loop_ = c"_loop";
    message = c"message";
    locked = c"locked";
    notify = c"notify";
    notify_private = c"_notify";
    pending = c"PENDING";
    popleft = c"popleft";
    release = c"release";
    result = c"result";
    run_private = c"_run";
    set_result = c"set_result";
    source_traceback = c"source_traceback";
    future_class = c"Future";
    task = c"task";
    task_class = c"Task";
    throw = c"throw";
    time = c"time";
    wait = c"wait";
    wake_up_first = c"_wake_up_first";
    wake_up_next = c"_wake_up_next";
}

/// `_asyncio`'s registers of tasks, as this version has them.
#[derive(Debug)]
pub struct Registers {
    pub enter: Ref,
    pub leave: Ref,
    /// From 3.12 on.
    pub swap: Option<Ref>,
    /// From 3.12 on.
    pub register_eager: Option<Ref>,
    pub unregister_eager: Option<Ref>,
    /// The dictionary of current tasks by loop; up to 3.13.
    pub current: Option<Ref>,
    pub register: Ref,
    pub unregister: Ref,
    /// `_asyncio.Task.set_name`, which sets the name in the C structure.
    pub set_base_name: Ref,
    /// The set inside the `WeakSet` of all tasks, and the callback of its references; up to 3.13.
    pub scheduled: Option<(Ref, Ref)>,
    /// From 3.14 on.
    pub add_awaited_by: Option<Ref>,
    pub discard_awaited_by: Option<Ref>,
}

/// Everything that is looked up once.
#[derive(Debug)]
pub struct State {
    /// The minor version of Python: 11 to 15.
    pub minor: u8,
    /// Whether futures turn a `StopIteration` into a `RuntimeError` (from 3.12.6 on) rather than refuse it.
    pub wraps_stop_iteration: bool,
    /// Whether a task refuses a context that is none.
    pub checks_contexts: bool,
    /// Whether a task whose eager step failed is not reported as pending.
    pub forgets_failed_eager_tasks: bool,
    pub names: Names,
    /// `("context",)` and `("msg",)`, the names of keyword arguments.
    pub context_keyword: Ref,
    pub msg_keyword: Ref,
    pub registers: Registers,
    /// `abc.ABCMeta`.
    pub abstract_meta: Ref,
    pub cancelled_error: Ref,
    pub deque_class: Ref,
    pub invalid_state_error: Ref,
    pub task_class: Ref,
    pub future_class: Ref,
    pub handle_class: Ref,
    pub timer_handle_class: Ref,
    pub events: Ref,
    pub tasks_module: Ref,
    pub futures_module: Ref,
    pub is_coroutine: Ref,
    /// Types that `asyncio.iscoroutine` has said yes to.
    pub coroutine_types: Ref,
    /// `asyncio.format_helpers.extract_stack` and `sys._getframe`.
    pub extract_stack: Ref,
    pub future_repr: Ref,
    pub task_repr: Ref,
    pub task_get_stack: Ref,
    pub task_print_stack: Ref,
    pub set_result_unless_cancelled: Ref,
    /// Whether this version's `loop.create_task` passes any keyword on to the task.
    pub create_task_takes_all: bool,
    /// `asyncio.Handle._run`.
    pub handle_run: Ref,
    /// `asyncio.log.logger` and `warnings.warn`.
    pub logger: Ref,
    pub warn: Ref,
    /// `time.monotonic`.
    pub monotonic: Ref,
    pub buffered_protocol_class: Ref,
    /// `_socket.socket`.
    pub socket_class: Ref,
    /// `_FlowControlMixin._set_write_buffer_limits`.
    pub set_write_buffer_limits: Ref,
    /// The `int` -1.
    pub minus_one: Ref,
    /// Makes a coroutine of any awaitable, whose code asyncio keeps inside `ensure_future`.
    pub wrap_awaitable: Ref,
    /// The `int` 0 and the tuple `()`, of which there is one each.
    pub zero: Ref,
    pub empty_tuple: Ref,
}

impl State {
    /// Looks everything up.
    pub fn init(minor: u8, micro: u8) -> Fallible<&'static State> {
        let of = |module: &std::ffi::CStr, name: &std::ffi::CStr| -> Fallible<Ref> {
            object::import(module)?.get(&*object::interned(name)?)
        };
        let asyncio = c"_asyncio";
        let optional = |name: &std::ffi::CStr| -> Fallible<Option<Ref>> {
            object::import(asyncio)?.get_if_there(&*object::interned(name)?)
        };
        let weak_set = match minor {
            11 => Some(of(c"asyncio.tasks", c"_all_tasks")?),
            12 | 13 => optional(c"_scheduled_tasks")?,
            _ => None,
        };
        let scheduled = match weak_set {
            Some(set) => match set.get_if_there(&*object::interned(c"data")?)? {
                Some(data) => Some((data, set.get(&*object::interned(c"_remove")?)?)),
                None => None,
            },
            None => None,
        };
        let asyncios = of(c"asyncio.base_events", c"BaseEventLoop")?;
        let create_task_takes_all = Code::of(&asyncios, c"create_task")?.takes_any_keyword()?;
        // Written in Python; the one in C is changed along with it.
        let task_init = Code::of(&*of(c"asyncio.tasks", c"_PyTask")?, c"__init__")?;
        let names = Names::new()?;
        let registers = Registers {
            enter: of(asyncio, c"_enter_task")?,
            leave: of(asyncio, c"_leave_task")?,
            swap: optional(c"_swap_current_task")?,
            register_eager: optional(c"_register_eager_task")?,
            unregister_eager: optional(c"_unregister_eager_task")?,
            current: optional(c"_current_tasks")?.filter(|current| minor < 14 && object::is_dict(current)),
            scheduled,
            register: of(asyncio, c"_register_task")?,
            set_base_name: of(asyncio, c"Task")?.get(&*object::interned(c"set_name")?)?,
            unregister: of(asyncio, c"_unregister_task")?,
            add_awaited_by: optional(c"future_add_to_awaited_by")?,
            discard_awaited_by: optional(c"future_discard_from_awaited_by")?,
        };
        STATE.set(State {
            minor,
            wraps_stop_iteration: (minor, micro) >= (12, 6),
            checks_contexts: task_init.uses("isinstance")?,
            forgets_failed_eager_tasks: task_init.handles_exceptions()?,
            context_keyword: object::tuple(&[&*object::interned(c"context")?])?,
            msg_keyword: object::tuple(&[&*object::interned(c"msg")?])?,
            names,
            registers,
            abstract_meta: of(c"abc", c"ABCMeta")?,
            cancelled_error: of(c"asyncio.exceptions", c"CancelledError")?,
            deque_class: of(c"collections", c"deque")?,
            invalid_state_error: of(c"asyncio.exceptions", c"InvalidStateError")?,
            task_class: of(asyncio, c"Task")?,
            future_class: of(asyncio, c"Future")?,
            handle_class: of(c"asyncio.events", c"Handle")?,
            timer_handle_class: of(c"asyncio.events", c"TimerHandle")?,
            tasks_module: object::import(c"asyncio.tasks")?,
            futures_module: object::import(c"asyncio.futures")?,
            events: object::import(c"asyncio.events")?,
            is_coroutine: of(c"asyncio.coroutines", c"iscoroutine")?,
            coroutine_types: object::new_set()?,
            extract_stack: of(c"asyncio.format_helpers", c"extract_stack")?,
            future_repr: of(c"asyncio.base_futures", c"_future_repr")?,
            task_repr: of(c"asyncio.base_tasks", c"_task_repr")?,
            task_get_stack: of(c"asyncio.base_tasks", c"_task_get_stack")?,
            task_print_stack: of(c"asyncio.base_tasks", c"_task_print_stack")?,
            set_result_unless_cancelled: of(c"asyncio.futures", c"_set_result_unless_cancelled")?,
            create_task_takes_all,
            handle_run: of(c"asyncio.events", c"Handle")?.get(&*object::interned(c"_run")?)?,
            logger: of(c"asyncio.log", c"logger")?,
            warn: of(c"warnings", c"warn")?,
            monotonic: of(c"time", c"monotonic")?,
            buffered_protocol_class: of(c"asyncio.protocols", c"BufferedProtocol")?,
            socket_class: of(c"_socket", c"socket")?,
            set_write_buffer_limits: of(c"asyncio.transports", c"_FlowControlMixin")?
                .get(&*object::interned(c"_set_write_buffer_limits")?)?,
            minus_one: object::int(-1)?,
            wrap_awaitable: of(c"velodrome._wrap_awaitable", c"_wrap_awaitable")?,
            zero: object::int(0)?,
            empty_tuple: object::tuple(&[])?,
        });
        Ok(state())
    }

    /// `asyncio.events.get_event_loop()`, as it is now.
    pub fn get_event_loop(&self) -> Fallible<Ref> {
        if self.minor == 11 {
            // There, futures ask the function that tells its caller's caller about the missing loop.
            return self.events.call_method(&*object::interned(c"_get_event_loop")?, &[]);
        }
        self.events.call_method(&self.names.get_event_loop, &[])
    }

    /// Whether a program has put another class in place of `asyncio.tasks.Task`; its tasks are then what it wants.
    pub fn task_class_replaced(&self) -> Fallible<bool> {
        let class = self.tasks_module.get(&self.names.task_class)?;
        Ok(!class.is(&self.task_class) && !class.is(Task::home().class()))
    }

    /// The same for `asyncio.futures.Future`.
    pub fn future_class_replaced(&self) -> Fallible<bool> {
        let class = self.futures_module.get(&self.names.future_class)?;
        Ok(!class.is(&self.future_class) && !class.is(Future::home().class()))
    }

    /// Whether `asyncio.iscoroutine(object)`.
    pub fn is_coroutine(&self, object: &Obj) -> Fallible<bool> {
        if crate::cpython::coroutine::is_native(object) {
            return Ok(true);
        }
        if object::set_contains(&self.coroutine_types, object.class())? {
            return Ok(true);
        }
        let answer = self.is_coroutine.call(&[object])?.truthy()?;
        if answer {
            object::set_add(&self.coroutine_types, object.class())?;
        }
        Ok(answer)
    }

    /// `asyncio.format_helpers.extract_stack()`: the stack of the Python code that called us.
    pub fn extract_stack(&self) -> Fallible<Ref> {
        match crate::cpython::coroutine::current_frame() {
            Some(frame) => self.extract_stack.call(&[&*frame]),
            None => object::list(&[]),
        }
    }

    /// Raises `InvalidStateError(message)`.
    #[cold]
    pub fn invalid_state(&self, message: &str) -> Raised {
        Raised::new(&self.invalid_state_error, message)
    }
}
