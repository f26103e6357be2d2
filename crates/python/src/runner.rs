//! `Runner` and `run`: a loop that lives as long as a block, and what runs on it.
//!
//! In asyncio's own place (see `velodrome.install`) a runner asks asyncio's policy for a loop, and makes that the
//! thread's current one; otherwise its loop is Velodrome's.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::set_context;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::coroutine_of;
use crate::original::Code;
use crate::state::state;
use crate::{gather, registry};

/// The class `Runner`.
#[derive(Debug)]
pub struct Runner {
    phase: Cell<Phase>,
    debug: Slot,
    loop_factory: Slot,
    event_loop: Slot,
    context: Slot,
    /// How often SIGINT has arrived in this run.
    interrupts: Cell<u32>,
    /// Whether our loop was made the thread's current one.
    sets_event_loop: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Created,
    Initialized,
    Closed,
}

static HOME: Home = Home::new();

impl Class for Runner {
    const NAME: &'static std::ffi::CStr = c"velodrome.Runner";
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Runner {
        Runner {
            phase: Cell::new(Phase::Created),
            debug: Slot::empty(),
            loop_factory: Slot::empty(),
            event_loop: Slot::empty(),
            context: Slot::empty(),
            interrupts: Cell::new(0),
            sets_event_loop: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<Runner>, visitor: &mut Visitor<'_>) {
        for slot in [&this.debug, &this.loop_factory, &this.event_loop, &this.context] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Runner>) {
        for slot in [&this.debug, &this.loop_factory, &this.event_loop, &this.context] {
            slot.clear();
        }
    }
}

macro_rules! known {
    ($($name:ident = $text:literal;)*) => {
        /// What is looked up once, and how this version behaves.
        #[derive(Debug)]
        struct Known {
            runners: Ref,
            constants: Ref,
            partial: Ref,
            /// `("main_task",)`.
            main_task: Ref,
            nothing: Ref,
            /// Anything awaitable can be run (from 3.14 on).
            takes_awaitables: bool,
            /// Threads are waited for so long (from 3.12 on).
            joins_for_a_time: bool,
            $($name: Ref,)*
        }

        impl Known {
            fn new(takes_awaitables: bool, joins_for_a_time: bool, nothing: Ref) -> Fallible<Known> {
                Ok(Known {
                    runners: object::import(c"asyncio.runners")?,
                    constants: object::import(c"asyncio.constants")?,
                    partial: object::import(c"functools")?.get(&*object::interned(c"partial")?)?,
                    main_task: object::tuple(&[&*object::interned(c"main_task")?])?,
                    nothing,
                    takes_awaitables,
                    joins_for_a_time,
                    $($name: object::interned($text)?,)*
                })
            }
        }
    };
}

known! {
    all_tasks = c"all_tasks";
    call_soon_threadsafe = c"call_soon_threadsafe";
    default_int_handler = c"default_int_handler";
    getsignal = c"getsignal";
    lazy_init = c"_lazy_init";
    new_event_loop = c"new_event_loop";
    on_sigint = c"_on_sigint";
    phases = c"_State";
    run_until_complete = c"run_until_complete";
    runner_class = c"Runner";
    set_debug = c"set_debug";
    set_event_loop = c"set_event_loop";
    shutdown_asyncgens = c"shutdown_asyncgens";
    shutdown_default_executor = c"shutdown_default_executor";
    sigint = c"SIGINT";
    signal = c"signal";
    thread_join_timeout = c"THREAD_JOIN_TIMEOUT";
    uncancel = c"uncancel";
}

static KNOWN: Global<Known> = Global::new();

/// Whether asyncio's own name means our class.
fn in_asyncios_place() -> Fallible<bool> {
    let known = KNOWN.get();
    Ok(known.runners.get(&known.runner_class)?.is(Runner::home().class()))
}

fn refuse_running_loop(function: &str) -> Fallible<()> {
    match registry::running_loop()? {
        None => Ok(()),
        Some(_) => {
            Err(Raised::runtime_error(&format!("{function}() cannot be called from a running event loop")))
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Birth and death of the loop.

/// Makes the loop, unless there is one. A derived class may do that in its own way.
fn begin(this: &Inst<Runner>) -> Fallible<()> {
    if this.is_plain() {
        return lazy_init(this);
    }
    this.obj().call_method(&KNOWN.get().lazy_init, &[]).map(drop)
}

fn lazy_init(this: &Inst<Runner>) -> Fallible<()> {
    match this.phase.get() {
        Phase::Closed => return Err(Raised::runtime_error("Runner is closed")),
        Phase::Initialized => return Ok(()),
        Phase::Created => {}
    }
    let known = KNOWN.get();
    let factory = this.loop_factory.get().filter(|factory| !factory.is_none());
    let event_loop = match &factory {
        Some(factory) => factory.call(&[])?,
        None if in_asyncios_place()? => state().events.call_method(&known.new_event_loop, &[])?,
        None => object::import(c"velodrome")?.call_method(&known.new_event_loop, &[])?,
    };
    this.event_loop.set(event_loop.clone());
    if factory.is_none() && in_asyncios_place()? && !this.sets_event_loop.get() {
        state().events.call_method(&known.set_event_loop, &[&event_loop])?;
        this.sets_event_loop.set(true);
    }
    if let Some(debug) = this.debug.get().filter(|debug| !debug.is_none()) {
        event_loop.call_method(&known.set_debug, &[&debug])?;
    }
    this.context.set(crate::cpython::context::copy_current()?);
    this.phase.set(Phase::Initialized);
    Ok(())
}

fn end(this: &Inst<Runner>) -> Fallible<()> {
    if this.is_plain() {
        return close(this);
    }
    this.obj().call_method(&state().names.close, &[]).map(drop)
}

fn close(this: &Inst<Runner>) -> Fallible<()> {
    if this.phase.get() != Phase::Initialized {
        return Ok(());
    }
    let event_loop = this.event_loop.get_or_none();
    let pending = Raised::pending_of(wind_up(&event_loop));
    Raised::again(pending, release(this, &event_loop))
}

/// Runs the loop until nothing is left on it.
fn wind_up(event_loop: &Obj) -> Fallible<()> {
    let known = KNOWN.get();
    cancel_all_tasks(event_loop)?;
    let generators = event_loop.call_method(&known.shutdown_asyncgens, &[])?;
    event_loop.call_method(&known.run_until_complete, &[&generators])?;
    let threads = if known.joins_for_a_time {
        let timeout = known.constants.get(&known.thread_join_timeout)?;
        event_loop.call_method(&known.shutdown_default_executor, &[&timeout])?
    } else {
        event_loop.call_method(&known.shutdown_default_executor, &[])?
    };
    event_loop.call_method(&known.run_until_complete, &[&threads]).map(drop)
}

fn release(this: &Inst<Runner>, event_loop: &Obj) -> Fallible<()> {
    if this.sets_event_loop.get() {
        state().events.call_method(&KNOWN.get().set_event_loop, &[none()])?;
    }
    event_loop.call_method(&state().names.close, &[])?;
    this.event_loop.clear();
    this.phase.set(Phase::Closed);
    Ok(())
}

/// Cancels every task, waits for all of them, and tells of those that failed on the way.
fn cancel_all_tasks(event_loop: &Obj) -> Fallible<()> {
    let known = KNOWN.get();
    let names = &state().names;
    let tasks = state().tasks_module.call_method(&known.all_tasks, &[event_loop])?.items()?;
    if tasks.is_empty() {
        return Ok(());
    }
    for task in &tasks {
        task.call_method(&names.cancel, &[])?;
    }
    let all: Vec<&Obj> = tasks.iter().map(|task| &**task).collect();
    let gathered = gather::gather(&all, true)?;
    event_loop.call_method(&known.run_until_complete, &[&gathered])?;
    for task in &tasks {
        if task.call_method(&names.cancelled_method, &[])?.truthy()? {
            continue;
        }
        let exception = task.call_method(&names.exception, &[])?;
        if !exception.is_none() {
            let message = object::text("unhandled exception during asyncio.run() shutdown")?;
            let context = object::dict(&[
                (&names.message, &message),
                (&names.exception, &exception),
                (&names.task, task),
            ])?;
            event_loop.call_method(&names.call_exception_handler, &[&context])?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// Running.

fn run(this: &Inst<Runner>, coro: &Obj, context: Option<&Obj>) -> Fallible<Ref> {
    let known = KNOWN.get();
    if !known.takes_awaitables && !state().is_coroutine(coro)? {
        return Err(Raised::value_error(&format!(
            "a coroutine was expected, got {}",
            coro.repr()?.to_text()
        )));
    }
    refuse_running_loop("Runner.run")?;
    begin(this)?;
    let coro = if known.takes_awaitables { coroutine_of(coro)?.0 } else { coro.own() };
    let context = match context.filter(|context| !context.is_none()) {
        Some(context) => context.own(),
        None => this.context.get_or_none(),
    };
    let event_loop = this.event_loop.get_or_none();
    let names = &state().names;
    let task = event_loop.call_method_with_keywords(
        &names.create_task,
        &[&coro, &context],
        &state().context_keyword,
    )?;
    let handler = take_sigint(this, &task)?;
    this.interrupts.set(0);
    let outcome = event_loop
        .call_method(&known.run_until_complete, &[&task])
        .map_err(|raised| interrupted(this, &task, raised));
    let Some(handler) = handler else { return outcome };
    match outcome {
        Ok(result) => give_sigint_back(&handler).map(|()| result),
        Err(raised) => {
            let exception = raised.take();
            match Raised::again(Some(exception), give_sigint_back(&handler)) {
                Ok(()) => Ok(none().own()),
                Err(raised) => Err(raised),
            }
        }
    }
}

/// Where SIGINT means `KeyboardInterrupt`, it is ours while the task runs. Gives the handler.
fn take_sigint(this: &Inst<Runner>, task: &Obj) -> Fallible<Option<Ref>> {
    let known = KNOWN.get();
    let threading = object::import(c"threading")?;
    let here = threading.call_method(&*object::interned(c"current_thread")?, &[])?;
    if !here.is(&*threading.call_method(&*object::interned(c"main_thread")?, &[])?) {
        return Ok(None);
    }
    let signals = object::import(c"signal")?;
    let sigint = signals.get(&known.sigint)?;
    let now = signals.call_method(&known.getsignal, &[&sigint])?;
    if !now.is(&*signals.get(&known.default_int_handler)?) {
        return Ok(None);
    }
    let on_sigint = this.obj().get(&known.on_sigint)?;
    let handler = known.partial.call_with_keywords(&[&on_sigint, task], &known.main_task)?;
    match signals.call_method(&known.signal, &[&sigint, &handler]) {
        Ok(_) => Ok(Some(handler)),
        // Where the main thread cannot have signal handlers, being embedded.
        Err(raised) if raised.matches(object::value_error()) => {
            raised.discard();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

fn give_sigint_back(handler: &Obj) -> Fallible<()> {
    let known = KNOWN.get();
    let signals = object::import(c"signal")?;
    let sigint = signals.get(&known.sigint)?;
    if signals.call_method(&known.getsignal, &[&sigint])?.is(handler) {
        let default = signals.get(&known.default_int_handler)?;
        signals.call_method(&known.signal, &[&sigint, &default])?;
    }
    Ok(())
}

/// The run has failed. If it was cancelled because of SIGINT and nothing else, that is a `KeyboardInterrupt`.
fn interrupted(this: &Inst<Runner>, task: &Obj, raised: Raised) -> Raised {
    if this.interrupts.get() == 0 || !raised.matches(&state().cancelled_error) {
        return raised;
    }
    let cancelled = raised.take();
    let ours = || -> Fallible<bool> {
        match task.get_if_there(&KNOWN.get().uncancel)? {
            Some(uncancel) => uncancel.call(&[])?.equals(&state().zero),
            None => Ok(false),
        }
    };
    let raised = match ours() {
        Ok(false) => return Raised::from_exception(cancelled),
        Ok(true) => Raised::bare(object::keyboard_interrupt()),
        Err(raised) => raised,
    };
    let exception = raised.take();
    set_context(&exception, &cancelled);
    Raised::from_exception(exception)
}

/// SIGINT: the first one cancels the task that runs.
fn py_on_sigint(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [_signum, _frame, main_task] = args.parse(&Signature {
        function: "Runner._on_sigint",
        names: ["signum", "frame", "main_task"],
        positional: 3,
        required: 3,
    })?;
    let main_task = main_task.unwrap_or(none());
    this.interrupts.set(this.interrupts.get().saturating_add(1));
    if this.interrupts.get() == 1 && !main_task.call_method(&state().names.done, &[])?.truthy()? {
        main_task.call_method(&state().names.cancel, &[])?;
        // The loop may be waiting.
        let known = KNOWN.get();
        let event_loop = this.event_loop.get_or_none();
        event_loop.call_method(&known.call_soon_threadsafe, &[&known.nothing])?;
        return Ok(none().own());
    }
    Err(Raised::bare(object::keyboard_interrupt()))
}

/// `run(main, *, debug=None, loop_factory=None)`.
pub fn py_run_function(args: Args<'_>) -> Fallible<Ref> {
    let [main, debug, loop_factory] = args.parse(&Signature {
        function: "run",
        names: ["main", "debug", "loop_factory"],
        positional: 1,
        required: 1,
    })?;
    refuse_running_loop(if in_asyncios_place()? { "asyncio.run" } else { "velodrome.run" })?;
    let runner = Own::<Runner>::new()?;
    initialize(&runner, debug, loop_factory);
    lazy_init(&runner)?;
    match run(&runner, main.unwrap_or(none()), None) {
        Ok(result) => close(&runner).map(|()| result),
        Err(raised) => {
            let exception = raised.take();
            Raised::again(Some(exception), close(&runner)).map(|()| none().own())
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn initialize(this: &Inst<Runner>, debug: Option<&Obj>, loop_factory: Option<&Obj>) {
    this.phase.set(Phase::Created);
    this.debug.set(debug.unwrap_or(none()).own());
    this.loop_factory.set(loop_factory.unwrap_or(none()).own());
    this.event_loop.clear();
    this.context.clear();
    this.interrupts.set(0);
    this.sets_event_loop.set(false);
}

fn py_init(this: &Inst<Runner>, args: Args<'_>) -> Fallible<()> {
    let [debug, loop_factory] = args.parse(&Signature {
        function: "Runner.__init__",
        names: ["debug", "loop_factory"],
        positional: 0,
        required: 0,
    })?;
    initialize(this, debug, loop_factory);
    Ok(())
}

fn py_enter(this: &Inst<Runner>) -> Fallible<Ref> {
    begin(this)?;
    Ok(this.obj().own())
}

fn py_exit(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [_, _, _] = args.parse(&Signature {
        function: "Runner.__exit__",
        names: ["exc_type", "exc_val", "exc_tb"],
        positional: 3,
        required: 3,
    })?;
    end(this)?;
    Ok(none().own())
}

fn py_close(this: &Inst<Runner>) -> Fallible<Ref> {
    close(this)?;
    Ok(none().own())
}

fn py_get_loop(this: &Inst<Runner>) -> Fallible<Ref> {
    begin(this)?;
    Ok(this.event_loop.get_or_none())
}

fn py_run(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [coro, context] = args.parse(&Signature {
        function: "Runner.run",
        names: ["coro", "context"],
        positional: 1,
        required: 1,
    })?;
    run(this, coro.unwrap_or(none()), context)
}

fn py_lazy_init(this: &Inst<Runner>) -> Fallible<Ref> {
    lazy_init(this)?;
    Ok(none().own())
}

fn py_phase(this: &Inst<Runner>) -> Fallible<Ref> {
    let name = match this.phase.get() {
        Phase::Created => "created",
        Phase::Initialized => "initialized",
        Phase::Closed => "closed",
    };
    let known = KNOWN.get();
    known.runners.get(&known.phases)?.call(&[&*object::text(name)?])
}

fn py_debug(this: &Inst<Runner>) -> Fallible<Ref> {
    Ok(this.debug.get_or_none())
}

fn py_loop_factory(this: &Inst<Runner>) -> Fallible<Ref> {
    Ok(this.loop_factory.get_or_none())
}

fn py_loop(this: &Inst<Runner>) -> Fallible<Ref> {
    Ok(this.event_loop.get_or_none())
}

fn py_context(this: &Inst<Runner>) -> Fallible<Ref> {
    Ok(this.context.get_or_none())
}

fn py_interrupts(this: &Inst<Runner>) -> Fallible<Ref> {
    object::int(i64::from(this.interrupts.get()))
}

fn py_sets_event_loop(this: &Inst<Runner>) -> Fallible<Ref> {
    Ok(boolean(this.sets_event_loop.get()).own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let original = object::import(c"asyncio.runners")?.get(&*object::interned(c"Runner")?)?;
    fn nothing(_args: Args<'_>) -> Fallible<Ref> {
        Ok(none().own())
    }
    let nothing = module_function!("Runner", c"nothing", nothing, c"nothing()\n--\n\nWake the loop.");
    KNOWN.set(Known::new(
        Code::of(&original, c"run")?.uses("isawaitable")?,
        Code::of(&original, c"close")?.uses("THREAD_JOIN_TIMEOUT")?,
        crate::cpython::module::callable(nothing)?,
    )?);
    crate::cpython::spec::define::<Runner>(Spec {
        base: None,
        doc: Some(
            c"Runner(*, debug=None, loop_factory=None)\n--\n\nA loop that lives as long as a block, to run one thing \
              after the other on it.\n\n    with Runner() as runner:\n        runner.run(main())\n\nThe loop is made \
              when it is first needed. At the end all its tasks are cancelled and waited\nfor, and it is closed.",
        ),
        methods: class_methods!(Runner, "Runner";
            c"__enter__" => none py_enter, c"__enter__($self, /)\n--\n\nMake the loop.";
            c"__exit__" => any py_exit,
                c"__exit__($self, exc_type, exc_val, exc_tb, /)\n--\n\nClose the runner.";
            c"close" => none py_close,
                c"close($self, /)\n--\n\nCancel all tasks, shut down what is left, and close the loop.";
            c"get_loop" => none py_get_loop, c"get_loop($self, /)\n--\n\nReturn the runner's event loop.";
            c"run" => any py_run,
                c"run($self, coro, *, context=None)\n--\n\nRun a coroutine on the runner's loop and return its \
                  result.\n\nThe first SIGINT cancels it, where SIGINT would raise KeyboardInterrupt.";
            c"_lazy_init" => none py_lazy_init, c"_lazy_init($self, /)\n--\n\nMake the loop, unless there is one.";
            c"_on_sigint" => any py_on_sigint,
                c"_on_sigint($self, signum, frame, main_task)\n--\n\nCancel what runs; the second time, interrupt.";
        ),
        attributes: class_attributes!(Runner, "Runner";
            c"_state" => py_phase;
            c"_debug" => py_debug;
            c"_loop_factory" => py_loop_factory;
            c"_loop" => py_loop;
            c"_context" => py_context;
            c"_interrupt_count" => py_interrupts;
            c"_set_event_loop" => py_sets_event_loop;
        ),
        slots: class_slots!(Runner, "Runner"; init py_init),
    })
}
