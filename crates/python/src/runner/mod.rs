//! `Runner` and `run`: a loop that lives as long as a block, and what runs on it.
//!
//! In asyncio's own place (see `velodrome.install`) a runner asks asyncio's policy for a loop, and makes that the
//! thread's current one; otherwise its loop is Velodrome's.
//!
//! Here is the course of it; what SIGINT does meanwhile is in `interrupt`, the methods are in `methods`.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Raised, Ref, Slot, Visitor};
use crate::ensure_future::coroutine_of;
use crate::state::state;
use crate::{gather, registry};

mod interrupt;
mod methods;

pub use methods::{define, py_run_function};

use interrupt::{give_sigint_back, interrupted, take_sigint};

/// The class `Runner`.
#[derive(Debug)]
pub struct Runner {
    phase: Cell<Phase>,
    /// What a program has set `_state` to, if that is none of asyncio's.
    state: Slot,
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
            state: Slot::empty(),
            debug: Slot::empty(),
            loop_factory: Slot::empty(),
            event_loop: Slot::empty(),
            context: Slot::empty(),
            interrupts: Cell::new(0),
            sets_event_loop: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<Runner>, visitor: &mut Visitor<'_>) {
        for slot in [&this.state, &this.debug, &this.loop_factory, &this.event_loop, &this.context] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Runner>) {
        for slot in [&this.state, &this.debug, &this.loop_factory, &this.event_loop, &this.context] {
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

fn set_phase(this: &Inst<Runner>, phase: Phase) {
    this.phase.set(phase);
    this.state.clear();
}

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
    set_phase(this, Phase::Initialized);
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
    Raised::finally(wind_up(&event_loop), || release(this, &event_loop))
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
    set_phase(this, Phase::Closed);
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
    let mut result = none().own();
    let outcome = event_loop
        .call_method(&known.run_until_complete, &[&task])
        .map(|returned| result = returned)
        .map_err(|raised| interrupted(this, &task, raised));
    Raised::finally(outcome, || handler.map_or(Ok(()), |handler| give_sigint_back(&handler))).map(|()| result)
}

fn initialize(this: &Inst<Runner>, debug: Option<&Obj>, loop_factory: Option<&Obj>) {
    set_phase(this, Phase::Created);
    this.debug.set(debug.unwrap_or(none()).own());
    this.loop_factory.set(loop_factory.unwrap_or(none()).own());
    this.event_loop.clear();
    this.context.clear();
    this.interrupts.set(0);
    this.sets_event_loop.set(false);
}
