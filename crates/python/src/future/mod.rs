//! `Future`: a result that is not there yet.
//!
//! A future is `PENDING` until a result, an exception or a cancellation ends it, once. Then everybody in its
//! [`Callbacks`] is told through the loop, in order. Tasks are futures as well: what is here works on both
//! ([`FutureLike`]), and `task` adds what a coroutine needs. The methods are in `methods`.
//!
//! The class derives from `_asyncio.Future`, so that `isinstance` says what programs expect; of that base's fields
//! only those that outside readers look for are used (see `cpython::layout`).

use std::cell::{Cell, OnceCell};

use crate::callbacks::{Callbacks, Entry};
use crate::cpython::coroutine::Sent;
use crate::cpython::layout::FutureLayout;
use crate::cpython::object;
use crate::cpython::raised::{set_cause_and_context, set_traceback, traceback_of};
use crate::cpython::{Base, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::event_loop::EventLoop;
use crate::state::state;

#[macro_use]
pub mod methods;
mod shared;
mod telling;

use methods::py_exception;
pub use methods::{CANCEL, define, py_class_getitem, py_iter, py_itself};
pub use telling::call_soon;
use telling::{tell, tell_one};

/// How far a future is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Pending,
    Cancelled,
    Finished,
}

/// What futures and tasks have in common.
#[derive(Debug)]
pub struct FutureCore {
    /// The loop; empty until `__init__` has run.
    pub event_loop: Slot,
    pub progress: Cell<Progress>,
    /// `_asyncio_future_blocking`: set when the future is yielded by its own iterator, so that a task can tell
    /// `await future` from a stray `yield future`.
    pub blocking: Cell<bool>,
    /// Whether an exception is there that nobody has asked for.
    pub log_traceback: Cell<bool>,
    /// Whether the outcome is an exception.
    failed: Cell<bool>,
    /// Whether it was finalised, which CPython does only once.
    pub finalized: Cell<bool>,
    /// Whether the engine's timer that was to end it has come: there is nothing to call off then.
    pub timer_came: Cell<bool>,
    /// The result, or the exception.
    outcome: Slot,
    pub callbacks: Callbacks,
    rare: OnceCell<Box<Rare>>,
}

/// What most futures never have.
#[derive(Debug, Default)]
pub struct Rare {
    exception_traceback: Slot,
    pub cancel_message: Slot,
    /// The `CancelledError` that ended a task, kept so that those who await it see the same one.
    pub cancelled_error: Slot,
    pub source_traceback: Slot,
    /// What `gather` knows of the children, if this is its future.
    pub gathering: Slot,
}

impl FutureCore {
    /// Not initialised.
    #[inline]
    pub fn fresh() -> FutureCore {
        FutureCore {
            event_loop: Slot::empty(),
            progress: Cell::new(Progress::Pending),
            blocking: Cell::new(false),
            log_traceback: Cell::new(false),
            failed: Cell::new(false),
            finalized: Cell::new(false),
            timer_came: Cell::new(false),
            outcome: Slot::empty(),
            callbacks: Callbacks::default(),
            rare: OnceCell::new(),
        }
    }

    /// Initialised, of this loop.
    #[inline]
    pub fn of(event_loop: &Obj) -> FutureCore {
        FutureCore { event_loop: Slot::of(event_loop.own()), ..FutureCore::fresh() }
    }

    /// The rare part, made on demand.
    pub fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// What a slot of the rare part holds, if there is one.
    fn rare_value(&self, slot: impl FnOnce(&Rare) -> &Slot) -> Option<Ref> {
        self.rare.get().and_then(|rare| slot(rare).get())
    }

    /// The stack where the future was made, in debug mode.
    pub fn source_traceback(&self) -> Option<Ref> {
        self.rare_value(|rare| &rare.source_traceback)
    }

    /// Shows the collector what is owned.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.event_loop);
        visitor.slot(&self.outcome);
        self.callbacks.traverse(visitor);
        if let Some(rare) = self.rare.get() {
            visitor.slot(&rare.exception_traceback);
            visitor.slot(&rare.cancel_message);
            visitor.slot(&rare.cancelled_error);
            visitor.slot(&rare.source_traceback);
            visitor.slot(&rare.gathering);
        }
    }

    /// Gives up what is owned.
    pub fn clear(&self) {
        self.event_loop.clear();
        self.outcome.clear();
        self.callbacks.clear();
        if let Some(rare) = self.rare.get() {
            rare.exception_traceback.clear();
            rare.cancel_message.clear();
            rare.cancelled_error.clear();
            rare.source_traceback.clear();
            rare.gathering.clear();
        }
    }

    /// Whether the future is pending.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.progress.get() == Progress::Pending
    }
}

/// Futures and tasks.
pub trait FutureLike: FutureLayout {
    /// The part that both have.
    fn core(&self) -> &FutureCore;
}

/// The class `Future`.
#[derive(Debug)]
pub struct Future(FutureCore);

impl FutureLike for Future {
    #[inline]
    fn core(&self) -> &FutureCore {
        &self.0
    }
}

static HOME: Home = Home::new();

impl Class for Future {
    const NAME: &'static std::ffi::CStr = c"velodrome.Future";
    const BASE: Base = Base::Native;
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;
    const REFUSES_ABSTRACT: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> Future {
        Future(FutureCore::fresh())
    }

    fn traverse(this: &Inst<Future>, visitor: &mut Visitor<'_>) {
        this.0.traverse(visitor);
    }

    fn clear(this: &Inst<Future>) {
        this.0.clear();
    }

    fn dying(_this: &Inst<Future>) {
        crate::cpython::stop_iteration::forget();
    }

    #[inline]
    fn empty_base(this: &Inst<Future>) -> bool {
        this.base_is_zero()
    }

    fn finalized(&self) {
        self.0.finalized.set(true);
    }

    #[inline]
    fn was_finalized(this: &Inst<Future>) -> bool {
        this.0.finalized.get()
    }

    fn finalize(this: &Inst<Future>) {
        report_unretrieved(this);
    }

    #[inline]
    fn needs_finalizing(&self) -> bool {
        self.0.log_traceback.get()
    }
}

/// A new future of this loop, as `loop.create_future()` makes it.
#[inline]
pub fn create(event_loop: &Inst<EventLoop>) -> Fallible<Own<Future>> {
    let future = Own::with(|| Future(FutureCore::of(event_loop.obj())))?;
    if event_loop.is_debug() {
        future.0.rare().source_traceback.set(state().extract_stack()?);
    }
    Ok(future)
}

/// `__init__` of futures and tasks: settles the loop, and in debug mode notes where this is.
pub fn initialize<T: FutureLike>(this: &Inst<T>, event_loop: Option<&Obj>) -> Fallible<()> {
    let core = this.core();
    if !core.event_loop.is_empty() {
        if state().minor >= 15 {
            return Err(Raised::runtime_error(&format!(
                "{} object is already initialized",
                this.obj().class_name()
            )));
        }
        core.clear();
    }
    core.progress.set(Progress::Pending);
    core.blocking.set(false);
    core.log_traceback.set(false);
    core.failed.set(false);
    let event_loop = match event_loop.filter(|event_loop| !event_loop.is_none()) {
        Some(event_loop) => event_loop.own(),
        None => state().get_event_loop()?,
    };
    core.event_loop.set(event_loop.clone());
    let debug = match Inst::<EventLoop>::of(&event_loop) {
        Some(ours) => ours.is_debug(),
        None => event_loop.call_method(&state().names.get_debug, &[])?.truthy()?,
    };
    if debug {
        core.rare().source_traceback.set(state().extract_stack()?);
    }
    Ok(())
}

/// The loop, or the error that there is none because `__init__` was not called.
pub fn loop_of<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    this.core().event_loop.get().ok_or_else(|| Raised::runtime_error(NOT_INITIALIZED))
}

/// What asyncio says, of tasks as well.
const NOT_INITIALIZED: &str = "Future object is not initialized.";

fn check_initialized<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    if this.core().event_loop.is_empty() { loop_of(this).map(drop) } else { Ok(()) }
}

/// For those who ask for the outcome, not being initialised is a matter of state.
fn check_has_outcome<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    if this.core().event_loop.is_empty() { Err(state().invalid_state(NOT_INITIALIZED)) } else { Ok(()) }
}

/// Ends the future with a result.
#[inline]
pub fn finish<T: FutureLike>(this: &Inst<T>, result: Ref) -> Fallible<()> {
    let core = this.core();
    if !core.is_pending() {
        return Err(state().invalid_state("invalid state"));
    }
    core.outcome.set(result);
    core.progress.set(Progress::Finished);
    tell(this)
}

/// Ends the future with an exception, or with one of this class.
pub fn fail<T: FutureLike>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    let core = this.core();
    if !core.is_pending() {
        return Err(state().invalid_state("invalid state"));
    }
    let mut exception = if exception.is_exception_class() { exception.call(&[])? } else { exception.own() };
    if !core.is_pending() {
        return Err(state().invalid_state("invalid state"));
    }
    if !exception.is_exception() {
        return Err(Raised::type_error("invalid exception object"));
    }
    if exception.derives_from(object::stop_iteration()) {
        const WHY: &str = "StopIteration interacts badly with generators and cannot be raised into a Future";
        if state().wraps_stop_iteration {
            let wrapped = object::runtime_error().call(&[&*object::text(WHY)?])?;
            set_cause_and_context(&wrapped, &exception);
            exception = wrapped;
        } else if exception.is_exactly(object::stop_iteration()) {
            return Err(Raised::type_error(WHY));
        }
    }
    if let Some(traceback) = traceback_of(&exception) {
        core.rare().exception_traceback.set(traceback);
    }
    core.outcome.set(exception);
    core.failed.set(true);
    core.progress.set(Progress::Finished);
    tell(this)?;
    core.log_traceback.set(true);
    Ok(())
}

/// Cancels the future; says whether that was still possible.
pub fn cancel<T: FutureLike>(this: &Inst<T>, message: Option<&Obj>) -> Fallible<bool> {
    let core = this.core();
    core.log_traceback.set(false);
    if !core.is_pending() {
        return Ok(false);
    }
    core.progress.set(Progress::Cancelled);
    set_cancel_message(core, message);
    tell(this)?;
    Ok(true)
}

/// Notes the message for a `CancelledError`.
pub fn set_cancel_message(core: &FutureCore, message: Option<&Obj>) {
    match message.filter(|message| !message.is_none()) {
        Some(message) => core.rare().cancel_message.set(message.own()),
        None => {
            if let Some(rare) = core.rare.get() {
                rare.cancel_message.clear();
            }
        }
    }
}

/// The message for a `CancelledError`.
pub fn cancel_message(core: &FutureCore) -> Option<Ref> {
    core.rare_value(|rare| &rare.cancel_message)
}

/// The exception for somebody who asks a cancelled future.
pub fn make_cancelled_error(core: &FutureCore) -> Fallible<Ref> {
    if let Some(saved) = core.rare.get().and_then(|rare| rare.cancelled_error.take()) {
        return Ok(saved);
    }
    match cancel_message(core) {
        Some(message) => state().cancelled_error.call(&[&*message]),
        None => state().cancelled_error.call(&[]),
    }
}

/// The exception that a task which awaits this future resumes with, if it is one: the future's own, or the one made
/// for its cancellation. It counts as retrieved. An error if the future is pending.
#[inline(always)]
pub fn failure<T: FutureLike>(this: &Inst<T>) -> Fallible<Option<Ref>> {
    if has_result(this) { Ok(None) } else { take_failure(this.core()) }
}

#[inline(never)]
fn take_failure(core: &FutureCore) -> Fallible<Option<Ref>> {
    match core.progress.get() {
        Progress::Finished => {
            core.log_traceback.set(false);
            let exception = core.outcome.get_or_none();
            // What the exception gathered elsewhere since then is not part of this raise.
            let traceback = core.rare.get().and_then(|rare| rare.exception_traceback.take());
            set_traceback(&exception, traceback.as_deref());
            Ok(Some(exception))
        }
        // Raised here also for a task that awaits it: what is being handled around the loop is its context.
        Progress::Cancelled => Ok(Some(Raised::raise(&*make_cancelled_error(core)?).take())),
        Progress::Pending => Err(state().invalid_state("Result is not set.")),
    }
}

/// `exception()`, of a future that is done and was not cancelled; `None` if it has a result.
#[inline]
pub fn exception<T: FutureLike>(this: &Inst<T>) -> Fallible<Option<Ref>> {
    if has_result(this) { Ok(None) } else { py_exception(this).map(Some) }
}

/// Whether the future is done and has a result.
#[inline]
pub fn has_result<T: FutureLike>(this: &Inst<T>) -> bool {
    let core = this.core();
    core.progress.get() == Progress::Finished && !core.failed.get()
}

/// `result()`.
#[inline]
pub fn result<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    match failure(this)? {
        None => Ok(this.core().outcome.get_or_none()),
        Some(exception) => Err(Raised::raise(&exception)),
    }
}

/// Resumes whoever iterates over the future: `await`.
#[inline(always)]
pub fn next<T: FutureLike>(this: &Inst<T>) -> Fallible<Sent> {
    let core = this.core();
    if core.is_pending() {
        check_initialized(this)?;
        if core.blocking.replace(true) {
            return Err(Raised::runtime_error("await wasn't used with future"));
        }
        return Ok(Sent::Yielded(this.obj().own()));
    }
    result(this).map(Sent::Returned)
}

/// `__del__`: an exception that nobody asked for is reported.
pub fn report_unretrieved<T: FutureLike>(this: &Inst<T>) {
    let core = this.core();
    if !core.log_traceback.replace(false) {
        return;
    }
    let report = || -> Fallible<()> {
        let names = &state().names;
        let message = object::text(&format!("{} exception was never retrieved", this.obj().class_name()))?;
        let exception = core.outcome.get_or_none();
        let context = object::dict(&[
            (&names.message, &message),
            (&names.exception, &exception),
            (&names.future, this.obj()),
        ])?;
        call_exception_handler(this, &context)
    };
    if let Err(raised) = report() {
        raised.report(Some(this.obj()));
    }
}

/// `loop.call_exception_handler(context)`, with the stack where the future was made if it is known.
pub fn call_exception_handler<T: FutureLike>(this: &Inst<T>, context: &Obj) -> Fallible<()> {
    let names = &state().names;
    if let Some(traceback) = this.core().source_traceback() {
        object::dict_set(context, &names.source_traceback, &traceback)?;
    }
    loop_of(this)?.call_method(&names.call_exception_handler, &[context]).map(drop)
}

/// Tells `callback` when the future is done, or soon if it is.
pub fn add_done_callback<T: FutureLike>(this: &Inst<T>, callback: &Obj, context: Ref) -> Fallible<()> {
    check_initialized(this)?;
    add_entry(this, Entry::Callback(callback.own(), context))
}

/// The same for anybody who is told.
#[inline]
pub fn add_entry<T: FutureLike>(this: &Inst<T>, entry: Entry) -> Fallible<()> {
    if this.core().is_pending() {
        this.core().callbacks.push(entry);
        return Ok(());
    }
    tell_one(this, entry)
}
