//! `LoopCore`: the part of the event loop that is Rust. `velodrome.Loop` is a Python class over it.
//!
//! It owns the engine. **The engine is borrowed for single operations only**, never while Python can run: a job is
//! taken out, the borrow ends, the job runs; a job that is removed is dropped after the borrow; and the loop waits
//! with nothing borrowed, so that other threads can call in meanwhile.
//!
//! Scheduling is in `scheduling`, running in `run`, descriptors in `readers`.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use velodrome_engine::{Engine, Interest, Key, Time, TimerKey};

use crate::cpython::address::Addresses;
use crate::cpython::host::{Call, HostSlot};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::socket::Overflow;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::future;
use crate::job::Job;
use crate::listener::Listener;
use crate::readers::{self, Readers};
use crate::sockets::Resting;
use crate::state::state;
use crate::task::{self, Options, Task};
use crate::transport::turn::Turns;
use crate::transports::{self, Transports};
use crate::{run, scheduling};

/// The class `LoopCore`.
#[derive(Debug)]
pub struct EventLoop {
    /// None before `__init__` and after `close()`.
    pub(crate) engine: RefCell<Option<Engine<Job>>>,
    pub(crate) readers: Readers,
    pub(crate) transports: Transports,
    /// For reads that bring more than was expected.
    pub(crate) overflow: Overflow,
    /// What the last `sock_recv` brought, which the next one is likely to bring as well.
    pub(crate) expected: Cell<usize>,
    pub(crate) resting: Resting,
    pub(crate) addresses: Addresses,
    pub(crate) turns: Turns,
    /// Made when somebody asks for it.
    host: RefCell<Option<HostSlot>>,
    /// The capsule that it is handed out in.
    capsule: Slot,
    closed: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    /// Counts iterations, from the moment that the kernel has been asked.
    pub(crate) iteration: Cell<u32>,
    debug: Cell<bool>,
    /// The thread that runs the loop; 0 is none.
    thread: Cell<u64>,
    hooks: Cell<Hooks>,
    task_factory: Slot,
    /// After how many iterations the kernel is asked even if nothing seems to need it.
    pub(crate) poll_every: Cell<u32>,
}

/// Methods that a program has replaced, on its subclass or on the instance. What we would do natively then goes
/// through them, as it does in asyncio.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks {
    pub call_soon: bool,
    pub call_at: bool,
    pub call_later: bool,
    pub time: bool,
    pub create_future: bool,
    pub create_task: bool,
    /// `asyncio.tasks.Task` and `asyncio.futures.Future` are neither asyncio's own nor ours.
    pub task_class: bool,
    pub future_class: bool,
}

static HOME: Home = Home::new();

impl Class for EventLoop {
    const NAME: &'static std::ffi::CStr = c"velodrome.LoopCore";
    const DERIVED_ONCE: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> EventLoop {
        EventLoop {
            engine: RefCell::new(None),
            readers: Readers::default(),
            transports: Transports::default(),
            overflow: Overflow::default(),
            expected: Cell::new(0),
            resting: Resting::default(),
            addresses: Addresses::default(),
            turns: Turns::default(),
            host: RefCell::new(None),
            capsule: Slot::empty(),
            closed: Cell::new(false),
            stopping: Cell::new(false),
            iteration: Cell::new(0),
            debug: Cell::new(false),
            thread: Cell::new(0),
            hooks: Cell::new(Hooks::default()),
            task_factory: Slot::empty(),
            poll_every: Cell::new(run::POLL_EVERY),
        }
    }

    fn traverse(this: &Inst<EventLoop>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.task_factory);
        visitor.slot(&this.capsule);
        this.readers.traverse(visitor);
        this.transports.traverse(visitor);
        this.turns.traverse(visitor);
        // The collector can run wherever Python can, and there nothing is borrowed and, since whoever holds the inbox's
        // lock also holds the GIL, nothing is locked.
        if let Ok(Some(engine)) = this.engine.try_borrow().as_deref() {
            engine.ready().for_each(|job| job.traverse(visitor));
            engine.timers().for_each(|(_, job)| job.traverse(visitor));
            engine.watches().for_each(|(_, _, job)| job.traverse(visitor));
            engine.inbox(|job| job.traverse(visitor));
        }
    }

    fn clear(this: &Inst<EventLoop>) {
        this.task_factory.clear();
        this.readers.clear();
        this.transports.clear();
        let jobs =
            this.engine.try_borrow_mut().ok().and_then(|mut engine| engine.as_mut().map(Engine::clear));
        drop(jobs);
    }
}

impl Inst<EventLoop> {
    /// Our loop behind an object, if natively scheduled jobs are all that its program sees: it is open and its
    /// `call_soon` is ours.
    #[inline]
    pub fn direct(object: &Obj) -> Option<&Inst<EventLoop>> {
        Inst::<EventLoop>::of(object).filter(|this| !this.hooks.get().call_soon)
    }

    /// Runs one operation on the engine; an error if the loop is closed.
    #[inline]
    pub fn with_engine<R>(&self, operation: impl FnOnce(&mut Engine<Job>) -> R) -> Fallible<R> {
        match self.engine.borrow_mut().as_mut() {
            Some(engine) => Ok(operation(engine)),
            None => Err(self.closed_error()),
        }
    }

    /// Raises what a closed loop raises.
    #[cold]
    pub fn closed_error(&self) -> Raised {
        if self.closed.get() {
            Raised::runtime_error("Event loop is closed")
        } else {
            Raised::runtime_error("LoopCore.__init__() was not called")
        }
    }

    /// The debug mode.
    #[inline]
    pub fn is_debug(&self) -> bool {
        self.debug.get()
    }

    /// Runs one operation on the engine, if the loop is open.
    #[inline]
    pub fn with_open_engine<R>(&self, operation: impl FnOnce(&mut Engine<Job>) -> R) -> Option<R> {
        self.engine.borrow_mut().as_mut().map(operation)
    }

    /// Whether this thread runs the loop.
    #[inline]
    pub fn is_run_by(&self, thread: u64) -> bool {
        self.thread.get() == thread
    }

    /// Whether a thread runs the loop.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.thread.get() != 0
    }

    /// In debug mode, refuses calls from another thread than the one that runs the loop.
    #[inline]
    pub fn check_thread(&self) -> Fallible<()> {
        if self.debug.get() && self.thread.get() != 0 && self.thread.get() != crate::cpython::gil::thread_id()
        {
            return Err(Raised::runtime_error(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ));
        }
        Ok(())
    }

    /// Queues a task's step.
    #[inline]
    pub fn push_step(&self, task: Own<Task>) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Step(task)))
    }

    /// Queues the step of a task that waited.
    #[inline]
    pub fn push_wakeup(&self, task: Own<Task>) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Wakeup(task)))
    }

    /// Watches a descriptor; whatever watched this direction of it before, and was forgotten, no longer does.
    pub fn watch(&self, descriptor: BorrowedFd<'_>, interest: Interest, job: Job) -> Fallible<Key> {
        use std::os::fd::AsRawFd;
        let (old, watched) = self.with_engine(|engine| {
            let known = engine.find(descriptor.as_raw_fd(), interest).map(|(key, _job)| key);
            let old = known.and_then(|key| engine.unwatch(key));
            (old, engine.try_watch(descriptor, interest, job))
        })?;
        readers::cancel(old)?;
        watched.map_err(|(error, job)| {
            drop(job);
            Raised::os_error(&error)
        })
    }

    /// Ends a registration, if the loop is open.
    pub fn unwatch(&self, key: Key) {
        let job = self.engine.borrow_mut().as_mut().and_then(|engine| engine.unwatch(key));
        drop(job);
    }

    /// Queues the news for one that is told natively.
    #[inline]
    pub fn push_listener(&self, listener: Listener) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Listener(listener)))
    }

    /// Cancels a timer; the caller drops the job.
    pub fn cancel_timer(&self, key: TimerKey) -> Option<Job> {
        self.engine.borrow_mut().as_mut().and_then(|engine| engine.cancel(key))
    }

    /// The loop's clock, which a program may have replaced.
    #[inline]
    pub fn now(&self) -> Fallible<Time> {
        if self.hooks.get().time {
            let seconds = self.obj().call_method(&state().names.time, &[])?.to_f64()?;
            return Ok(crate::clock::at(seconds));
        }
        Ok(crate::clock::now())
    }

    /// Which methods are replaced.
    #[inline]
    pub fn hooks(&self) -> Hooks {
        self.hooks.get()
    }

    /// Looks which methods are replaced.
    pub fn refresh_hooks(&self) -> Fallible<()> {
        let names = &state().names;
        let class = EventLoop::home().class();
        let replaced = |name: &Obj| -> Fallible<bool> {
            Ok(!self.obj().class().get(name)?.is(&*class.get(name)?) || instance_has(self.obj(), name)?)
        };
        self.hooks.set(Hooks {
            call_soon: replaced(&names.call_soon)?,
            call_at: replaced(&names.call_at)?,
            call_later: replaced(&names.call_later)?,
            time: replaced(&names.time)?,
            create_future: replaced(&names.create_future)?,
            create_task: replaced(&names.create_task)?,
            task_class: state().task_class_replaced()?,
            future_class: state().future_class_replaced()?,
        });
        Ok(())
    }
}

impl EventLoop {
    /// See [`Inst::<EventLoop>::direct`].
    #[inline]
    pub fn direct(object: &Obj) -> Option<&Inst<EventLoop>> {
        Inst::<EventLoop>::direct(object)
    }
}

/// Whether the instance itself has an attribute of this name.
fn instance_has(object: &Obj, name: &Obj) -> Fallible<bool> {
    match object.get_if_there(&*object::interned(c"__dict__")?)? {
        Some(dict) if object::is_dict(&dict) => Ok(object::dict_get(&dict, name)?.is_some()),
        _ => Ok(false),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<()> {
    let [] = args.parse(&Signature { function: "LoopCore", names: [], positional: 0, required: 0 })?;
    let engine = Engine::new().map_err(|error| Raised::os_error(&error))?;
    let old = this.engine.replace(Some(engine));
    drop(old);
    this.readers.clear();
    this.poll_every.set(run::poll_every_from_environment());
    this.refresh_hooks()
}

fn py_set_attribute(this: &Inst<EventLoop>, name: &Obj, value: Option<&Obj>) -> Fallible<()> {
    crate::cpython::spec::set_generic(this.obj(), name, value)?;
    let names = &state().names;
    let watched = [
        &names.call_soon,
        &names.call_at,
        &names.call_later,
        &names.time,
        &names.create_future,
        &names.create_task,
    ];
    if watched.iter().any(|watched| watched.is(name)) { this.refresh_hooks() } else { Ok(()) }
}

fn py_time(_this: &Inst<EventLoop>) -> Fallible<Ref> {
    object::float(crate::clock::seconds())
}

fn py_get_debug(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.debug.get()).own())
}

fn py_set_debug(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    let debug = value.map_or(Ok(false), Obj::truthy)?;
    this.debug.set(debug);
    if debug {
        ANY_DEBUG.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether some loop has ever been in debug mode; so long there is no need to ask whether coroutines' origins are
/// tracked.
static ANY_DEBUG: AtomicBool = AtomicBool::new(false);

/// See [`ANY_DEBUG`].
#[inline]
pub fn any_debug() -> bool {
    ANY_DEBUG.load(Ordering::Relaxed)
}

fn py_is_closed(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.closed.get()).own())
}

fn py_is_running(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.is_running()).own())
}

fn py_check_closed(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if this.closed.get() { Err(this.closed_error()) } else { Ok(none().own()) }
}

fn py_check_thread(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.check_thread()?;
    Ok(none().own())
}

fn py_stop(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.stopping.set(true);
    Ok(none().own())
}

fn py_stopping(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.stopping.get()).own())
}

fn py_set_stopping(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    this.stopping.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_thread_id(this: &Inst<EventLoop>) -> Fallible<Ref> {
    match this.thread.get() {
        0 => Ok(none().own()),
        thread => object::int(thread as i64),
    }
}

fn py_set_thread_id(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    this.thread.set(match value.filter(|value| !value.is_none()) {
        Some(value) => value.to_i64()? as u64,
        None => 0,
    });
    Ok(())
}

fn py_task_factory(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(this.task_factory.get_or_none())
}

fn py_set_task_factory(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    match value.filter(|value| !value.is_none()) {
        Some(factory) => this.task_factory.set(factory.own()),
        None => this.task_factory.clear(),
    }
    Ok(())
}

fn py_clock_resolution(_this: &Inst<EventLoop>) -> Fallible<Ref> {
    object::float(1e-9)
}

fn handles_of(jobs: Vec<Job>) -> Fallible<Ref> {
    let mut handles = Vec::with_capacity(jobs.len());
    for job in jobs {
        handles.extend(job.as_handle()?);
    }
    object::list(&handles)
}

fn py_ready(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let jobs = this.with_engine(|engine| {
        engine.begin(); // what came from other threads belongs to it
        engine.ready().cloned().collect()
    });
    match jobs {
        Ok(jobs) => handles_of(jobs),
        Err(closed) => {
            closed.discard();
            handles_of(Vec::new())
        }
    }
}

fn py_scheduled(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let jobs = this
        .engine
        .borrow()
        .as_ref()
        .map(|engine| engine.timers().map(|(_, job)| job.clone()).collect())
        .unwrap_or_default();
    handles_of(jobs)
}

/// `__velodrome_host__`: the loop for Rust futures, in a capsule. (See the crate `velodrome-bridge`.)
fn py_host(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if let Some(capsule) = this.capsule.get() {
        return Ok(capsule);
    }
    let host = this.with_engine(|engine| HostSlot::new(this, engine))?;
    let capsule = host.capsule();
    this.host.replace(Some(host));
    let capsule = capsule?;
    this.capsule.set(capsule.clone());
    Ok(capsule)
}

/// Makes the calls that Rust futures have asked for, and that lead to more of them; takes none any more. Other jobs are
/// returned, for they are not run.
fn close_host(this: &Inst<EventLoop>) -> Vec<Job> {
    let mut others = Vec::new();
    let Some(at_close) = this.host.borrow().as_ref().map(HostSlot::at_close) else { return others };
    let mut run_calls = || {
        let mut any = false;
        let next = || {
            this.with_open_engine(|engine| {
                engine.begin();
                engine.pop()
            })
        };
        while let Some(job) = next().flatten() {
            match job.as_call() {
                Some(call) => {
                    call.run();
                    any = true;
                }
                None => others.push(job),
            }
        }
        any
    };
    loop {
        at_close.iter().for_each(Call::run);
        if !run_calls() {
            break;
        }
    }
    this.with_open_engine(Engine::close_inbox);
    run_calls();
    others
}

/// `_release()`: closes the engine's descriptors and drops everything that is queued.
fn py_release(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let unrun = close_host(this);
    this.closed.set(true);
    if let (Some(host), Some(engine)) = (&*this.host.borrow(), &*this.engine.borrow()) {
        host.close(engine.timers().map(|(_, job)| job), engine.watches().map(|(_, _, job)| job));
    }
    drop(unrun);
    let engine = this.engine.take();
    let jobs = engine.map(|mut engine| (engine.clear(), engine));
    drop(jobs);
    this.readers.clear();
    Ok(none().own())
}

/// `_forget_kernel()`: in a forked child, the engine no longer touches what it shares with the parent's.
fn py_forget_kernel(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if let Some(engine) = this.engine.borrow_mut().as_mut() {
        engine.forget_kernel();
    }
    if let Some(host) = &*this.host.borrow() {
        host.forget_kernel();
    }
    Ok(none().own())
}

/// `_wake_fd()`: any byte written there wakes the loop; a nonzero one is a signal number.
fn py_wake_fd(this: &Inst<EventLoop>) -> Fallible<Ref> {
    use std::os::fd::AsRawFd;
    object::int(i64::from(this.with_engine(|engine| engine.wake_fd().as_raw_fd())?))
}

fn py_create_future(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if !this.is_running() {
        this.refresh_hooks()?;
    }
    if this.hooks.get().future_class {
        return this.obj().call_method(&*object::interned(c"_create_foreign_future")?, &[]);
    }
    future::create(this).map(Own::into_ref)
}

impl Inst<EventLoop> {
    /// Whether `create_task` makes a task of ours and nothing else, while the loop runs.
    #[inline]
    pub fn makes_plain_tasks(&self) -> bool {
        let hooks = self.hooks.get();
        self.is_running()
            && !self.closed.get()
            && self.task_factory.is_empty()
            && !hooks.create_task
            && !hooks.task_class
    }
}

pub fn py_create_task(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    if this.closed.get() {
        return Err(this.closed_error());
    }
    if !this.is_running() {
        this.refresh_hooks()?;
    }
    if !this.task_factory.is_empty() || this.hooks.get().task_class {
        let with_factory = this.obj().get(&state().names.create_task_with_factory)?;
        return args.forward(&with_factory, &[]);
    }
    create_task(this, args).map(Own::into_ref)
}

/// `create_task` without a factory.
pub fn create_task(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Own<Task>> {
    if let ([coro], false) = (args.positional(), args.has_keywords()) {
        return task::create(this, coro, Options::default());
    }
    let [coro, name, context, eager_start] = if state().create_task_takes_all {
        args.parse(&Signature {
            function: "create_task",
            names: ["coro", "name", "context", "eager_start"],
            positional: 1,
            required: 1,
        })?
    } else {
        let signature = Signature {
            function: "create_task",
            names: ["coro", "name", "context"],
            positional: 1,
            required: 1,
        };
        let [coro, name, context] = args.parse(&signature)?;
        [coro, name, context, None]
    };
    let options = Options {
        name: name.filter(|name| !name.is_none()),
        context: context.filter(|context| !context.is_none()),
        eager_start: eager_start.map_or(Ok(false), Obj::truthy)?,
    };
    task::create(this, coro.unwrap_or(none()), options)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = class_methods!(EventLoop, "LoopCore";
        c"time" => none py_time,
            c"time($self, /)\n--\n\nReturn the time according to the loop's clock, in seconds (time.monotonic()).";
        c"get_debug" => none py_get_debug, c"get_debug($self, /)\n--\n\nReturn whether debug mode is on.";
        c"is_closed" => none py_is_closed, c"is_closed($self, /)\n--\n\nReturn True if the loop was closed.";
        c"is_running" => none py_is_running, c"is_running($self, /)\n--\n\nReturn True if the loop is running.";
        c"stop" => none py_stop,
            c"stop($self, /)\n--\n\nStop running the loop, after the iteration that is under way.";
        c"create_future" => none py_create_future,
            c"create_future($self, /)\n--\n\nCreate a Future attached to the loop.";
        c"create_task" => any py_create_task,
            c"create_task($self, coro, /, **kwargs)\n--\n\nSchedule a coroutine, or begin to run it; return its \
              Task.";
        c"_check_closed" => none py_check_closed, c"_check_closed($self, /)\n--\n\nRaise if the loop is closed.";
        c"_check_thread" => none py_check_thread,
            c"_check_thread($self, /)\n--\n\nIn debug mode, raise if another thread runs the loop.";
        c"_release" => none py_release,
            c"_release($self, /)\n--\n\nClose the loop's descriptors and drop what is queued.";
        c"_forget_kernel" => none py_forget_kernel,
            c"_forget_kernel($self, /)\n--\n\nIn a forked child: leave alone what the parent's loop uses.";
        c"_ensure_fd_no_transport" => one transports::py_ensure_no_transport,
            c"_ensure_fd_no_transport($self, fd, /)\n--\n\nRaise if an open transport uses the descriptor.";
        c"_watched" => one readers::py_watched,
            c"_watched($self, fd, /)\n--\n\nReturn what is watched of a descriptor: selectors.EVENT_READ, \
              EVENT_WRITE, both or 0.";
        c"_lend_descriptor" => one transports::py_lend,
            c"_lend_descriptor($self, transport, /)\n--\n\nAllow to watch the descriptor of a transport.";
        c"_take_descriptor_back" => one transports::py_take_back,
            c"_take_descriptor_back($self, transport, /)\n--\n\nEnd what _lend_descriptor() began.";
        c"_wake_fd" => none py_wake_fd,
            c"_wake_fd($self, /)\n--\n\nReturn the descriptor that wakes the loop when a byte is written to it.";
    );
    methods.extend(scheduling::methods());
    methods.extend(readers::methods());
    methods.extend(run::methods());
    methods.extend(crate::sockets::methods());
    methods.extend(crate::sockets::send_file::methods());
    crate::cpython::spec::define::<EventLoop>(Spec {
        doc: Some(c"The part of velodrome.Loop that is Rust."),
        methods,
        attributes: class_attributes!(EventLoop, "LoopCore";
            c"_debug" => py_get_debug, py_set_debug;
            c"_closed" => py_is_closed;
            c"_stopping" => py_stopping, py_set_stopping;
            c"_thread_id" => py_thread_id, py_set_thread_id;
            c"_task_factory" => py_task_factory, py_set_task_factory;
            c"_clock_resolution" => py_clock_resolution;
            c"__velodrome_host__" => py_host;
            c"_ready" => py_ready;
            c"_scheduled" => py_scheduled;
        ),
        slots: class_slots!(EventLoop, "LoopCore"; init py_init, setattr py_set_attribute),
        base: None,
    })
}
