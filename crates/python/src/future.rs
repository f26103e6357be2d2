//! `Future`: a result that is not there yet.
//!
//! A future is `PENDING` until a result, an exception or a cancellation ends it, once. Then everybody in its
//! [`Callbacks`] is told through the loop, in order. Tasks are futures as well: what is here works on both
//! ([`FutureLike`]), and a task's own file adds what a coroutine needs.
//!
//! The class derives from `_asyncio.Future`, so that `isinstance` says what programs expect; of that base's fields
//! only those that outside readers look for are used (see `cpython::layout`).

use std::cell::{Cell, OnceCell};

use crate::callbacks::{Callbacks, Entry};
use crate::cpython::coroutine::Sent;
use crate::cpython::layout::FutureLayout;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::{set_cause_and_context, set_traceback, traceback_of};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::future_iter::FutureIter;
use crate::state::state;
use crate::task::Task;

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
            outcome: Slot::empty(),
            callbacks: Callbacks::default(),
            rare: OnceCell::new(),
        }
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
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;

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
    let future = Own::<Future>::new()?;
    future.0.event_loop.set(event_loop.obj().own());
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

/// Tells everybody that the future is done.
#[inline]
fn tell<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    if let Some(entry) = this.core().callbacks.take_single() {
        return tell_one(this, entry);
    }
    tell_many(this)
}

fn tell_many<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    for entry in this.core().callbacks.take() {
        tell_one(this, entry)?;
    }
    Ok(())
}

#[inline]
fn tell_one<T: FutureLike>(this: &Inst<T>, entry: Entry) -> Fallible<()> {
    let event_loop = loop_of(this)?;
    if let Some(ours) = EventLoop::direct(&event_loop) {
        return match entry {
            Entry::Waiter(task) => ours.push_wakeup(task),
            Entry::Callback(callback, context) => {
                ours.call_soon(&callback, &[this.obj()], Some(&context)).map(drop)
            }
            Entry::Listener(listener) => {
                listener.note(this.obj().own());
                ours.push_listener(listener)
            }
        };
    }
    match entry {
        Entry::Waiter(task) => {
            let context = task.context();
            call_soon(&event_loop, &*crate::task::wakeup_callable(&task)?, &[this.obj()], &context)
        }
        Entry::Callback(callback, context) => call_soon(&event_loop, &callback, &[this.obj()], &context),
        Entry::Listener(listener) => {
            let context = crate::cpython::context::copy_current()?;
            call_soon(&event_loop, &*listener.callable()?, &[this.obj()], &context)
        }
    }
}

/// `loop.call_soon(callback, *arguments, context=context)` on any loop.
pub fn call_soon(event_loop: &Obj, callback: &Obj, arguments: &[&Obj], context: &Obj) -> Fallible<()> {
    let mut all = Vec::with_capacity(arguments.len() + 2);
    all.push(callback);
    all.extend_from_slice(arguments);
    all.push(context);
    event_loop.call_method_with_keywords(&state().names.call_soon, &all, &state().context_keyword).map(drop)
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
#[inline]
pub fn failure<T: FutureLike>(this: &Inst<T>) -> Fallible<Option<Ref>> {
    let core = this.core();
    match core.progress.get() {
        Progress::Finished if !core.failed.get() => Ok(None),
        Progress::Finished => {
            core.log_traceback.set(false);
            let exception = core.outcome.get_or_none();
            // What the exception gathered elsewhere since then is not part of this raise.
            let traceback = core.rare.get().and_then(|rare| rare.exception_traceback.take());
            set_traceback(&exception, traceback.as_deref());
            Ok(Some(exception))
        }
        Progress::Cancelled => make_cancelled_error(core).map(Some),
        Progress::Pending => Err(state().invalid_state("Result is not set.")),
    }
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
#[inline]
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

// ---------------------------------------------------------------------------------------------------------------
// The methods, for the tables of both classes.

pub fn py_exception<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_has_outcome(this)?;
    let core = this.core();
    match core.progress.get() {
        Progress::Pending => Err(state().invalid_state("Exception is not set.")),
        Progress::Cancelled => Err(Raised::raise(&*make_cancelled_error(core)?)),
        Progress::Finished => {
            core.log_traceback.set(false);
            Ok(if core.failed.get() { core.outcome.get_or_none() } else { none().own() })
        }
    }
}

pub fn py_result<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_has_outcome(this)?;
    if this.core().is_pending() {
        return Err(state().invalid_state("Result is not set."));
    }
    result(this)
}

/// `Future.set_result`, of whatever is an `asyncio.Future`: of a task it can be called as `Future.set_result(task, 1)`.
fn py_set_result(this: &Obj, value: &Obj) -> Fallible<Ref> {
    if let Some(future) = Inst::<Future>::of(this) {
        check_initialized(future)?;
        finish(future, value.own())?;
    } else if let Some(task) = Inst::<Task>::of(this) {
        check_initialized(task)?;
        finish(task, value.own())?;
    } else {
        return state().future_class.call_method(&state().names.set_result, &[this, value]);
    }
    Ok(none().own())
}

/// `Future.set_exception`, likewise.
fn py_set_exception(this: &Obj, exception: &Obj) -> Fallible<Ref> {
    if let Some(future) = Inst::<Future>::of(this) {
        check_initialized(future)?;
        fail(future, exception)?;
    } else if let Some(task) = Inst::<Task>::of(this) {
        check_initialized(task)?;
        fail(task, exception)?;
    } else {
        return state().future_class.call_method(&*object::interned(c"set_exception")?, &[this, exception]);
    }
    Ok(none().own())
}

pub fn py_add_done_callback<T: FutureLike>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    const SIGNATURE: Signature<2> =
        Signature { function: "add_done_callback", names: ["", "context"], positional: 1, required: 1 };
    let [callback, context] = args.parse(&SIGNATURE)?;
    let callback = callback.unwrap_or(none());
    let context = match context.filter(|context| !context.is_none()) {
        Some(context) => context.own(),
        None => crate::cpython::context::copy_current()?,
    };
    add_done_callback(this, callback, context)?;
    Ok(none().own())
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

pub fn py_remove_done_callback<T: FutureLike>(this: &Inst<T>, callback: &Obj) -> Fallible<Ref> {
    check_initialized(this)?;
    object::int(this.core().callbacks.remove(callback)? as i64)
}

fn py_cancel(this: &Inst<Future>, args: Args<'_>) -> Fallible<Ref> {
    let [message] = args.parse(&CANCEL)?;
    check_initialized(this)?;
    if this.0.is_pending()
        && let Some(gathering) = this.0.rare_value(|rare| &rare.gathering)
    {
        return Ok(boolean(crate::gather::cancel(&gathering, message)?).own());
    }
    Ok(boolean(cancel(this, message)?).own())
}

/// The parameters of `cancel`.
pub const CANCEL: Signature<1> = Signature { function: "cancel", names: ["msg"], positional: 1, required: 0 };

pub fn py_cancelled<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.core().progress.get() == Progress::Cancelled).own())
}

pub fn py_done<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(!this.core().is_pending()).own())
}

pub fn py_make_cancelled_error<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    make_cancelled_error(this.core())
}

pub fn py_class_getitem(class: &Obj, arguments: &Obj) -> Fallible<Ref> {
    object::generic_alias(class, arguments)
}

pub fn py_iter<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    FutureIter::over(this.obj()).map(Own::into_ref)
}

pub fn py_itself<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn py_init(this: &Inst<Future>, args: Args<'_>) -> Fallible<()> {
    const SIGNATURE: Signature<1> =
        Signature { function: "Future", names: ["loop"], positional: 0, required: 0 };
    let [event_loop] = args.parse(&SIGNATURE)?;
    initialize(this, event_loop)
}

fn py_repr(this: &Inst<Future>) -> Fallible<Ref> {
    check_initialized(this)?;
    state().future_repr.call(&[this.obj()])
}

pub fn py_state<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let names = &state().names;
    Ok(match this.core().progress.get() {
        Progress::Pending => names.pending.clone(),
        Progress::Cancelled => names.cancelled.clone(),
        Progress::Finished => names.finished.clone(),
    })
}

pub fn py_blocking<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.core().blocking.get()).own())
}

pub fn py_set_blocking<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    check_initialized(this)?;
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    this.core().blocking.set(value.truthy()?);
    Ok(())
}

pub fn py_loop<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.core().event_loop.get_or_none())
}

/// `_callbacks`: pairs of callback and context, or `None`; a task of ours is shown as the callback that would wake
/// it.
pub fn py_callbacks<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let entries = this.core().callbacks.list();
    if entries.is_empty() {
        return Ok(none().own());
    }
    let pairs: Fallible<Vec<Ref>> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Callback(callback, context) => object::tuple(&[callback, context]),
            Entry::Waiter(task) => object::tuple(&[&*crate::task::wakeup_callable(task)?, &*task.context()]),
            Entry::Listener(listener) => {
                object::tuple(&[&*listener.callable()?, &*crate::cpython::context::copy_current()?])
            }
        })
        .collect();
    object::list(&pairs?)
}

pub fn py_result_attribute<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let core = this.core();
    Ok(if core.failed.get() { none().own() } else { core.outcome.get_or_none() })
}

pub fn py_exception_attribute<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let core = this.core();
    Ok(if core.failed.get() { core.outcome.get_or_none() } else { none().own() })
}

pub fn py_log_traceback<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    Ok(boolean(this.core().log_traceback.get()).own())
}

pub fn py_set_log_traceback<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    if value.truthy()? {
        return Err(Raised::value_error("_log_traceback can only be set to False"));
    }
    this.core().log_traceback.set(false);
    Ok(())
}

pub fn py_source_traceback<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.core().source_traceback().unwrap_or_else(|| none().own()))
}

pub fn py_cancel_message<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(cancel_message(this.core()).unwrap_or_else(|| none().own()))
}

pub fn py_set_cancel_message<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    set_cancel_message(this.core(), Some(value));
    Ok(())
}

/// The attributes of both classes.
macro_rules! future_attributes {
    ($class:ty, $owner:literal) => {
        class_attributes!($class, $owner;
            c"_state" => $crate::future::py_state;
            c"_asyncio_future_blocking" => $crate::future::py_blocking, $crate::future::py_set_blocking;
            c"_loop" => $crate::future::py_loop;
            c"_callbacks" => $crate::future::py_callbacks;
            c"_result" => $crate::future::py_result_attribute;
            c"_exception" => $crate::future::py_exception_attribute;
            c"_log_traceback" => $crate::future::py_log_traceback, $crate::future::py_set_log_traceback;
            c"_source_traceback" => $crate::future::py_source_traceback;
            c"_cancel_message" => $crate::future::py_cancel_message, $crate::future::py_set_cancel_message;
        )
    };
}

/// The methods of both classes.
macro_rules! future_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"result" => none $crate::future::py_result,
                c"result($self, /)\n--\n\nReturn the result this future represents.\n\nRaises CancelledError if the \
                  future was cancelled, InvalidStateError if it is\nnot done, and its exception if it has one.";
            c"exception" => none $crate::future::py_exception,
                c"exception($self, /)\n--\n\nReturn the exception that was set on this future, or None.\n\nRaises \
                  CancelledError if the future was cancelled and InvalidStateError if\nit is not done.";
            c"add_done_callback" => any $crate::future::py_add_done_callback,
                c"add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCall fn(future) through the \
                  loop when the future is done, soon if it is.";
            c"remove_done_callback" => one $crate::future::py_remove_done_callback,
                c"remove_done_callback($self, fn, /)\n--\n\nRemove all instances of a callback; return how many \
                  there were.";
            c"cancelled" => none $crate::future::py_cancelled,
                c"cancelled($self, /)\n--\n\nReturn True if the future was cancelled.";
            c"done" => none $crate::future::py_done,
                c"done($self, /)\n--\n\nReturn True if the future has a result or an exception, or was cancelled.";
            c"get_loop" => none $crate::future::loop_of,
                c"get_loop($self, /)\n--\n\nReturn the event loop the future is bound to.";
            c"_make_cancelled_error" => none $crate::future::py_make_cancelled_error,
                c"_make_cancelled_error($self, /)\n--\n\nCreate the CancelledError to raise if the future is \
                  cancelled.";
            c"__await__" => none $crate::future::py_iter,
                c"__await__($self, /)\n--\n\nReturn an iterator to be used in an await expression.";
            c"__iter__" => none $crate::future::py_iter,
                c"__iter__($self, /)\n--\n\nImplement iter(self).";
            c"__class_getitem__" => class $crate::future::py_class_getitem,
                c"__class_getitem__($type, item, /)\n--\n\nSee PEP 585.";
        )
    };
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = future_methods!(Future, "Future");
    methods.extend(class_methods!(Future, "Future";
        c"cancel" => any py_cancel,
            c"cancel($self, /, msg=None)\n--\n\nCancel the future and schedule callbacks.\n\nReturn False if the \
              future is done already.";
    ));
    let class = crate::cpython::spec::define::<Future>(Spec {
        base: Some(state().future_class.clone()),
        doc: Some(
            c"Future(*, loop=None)\n--\n\nA result that is not there yet; the same answers as asyncio.Future of \
              this Python.\n\nNot thread-safe. Callbacks are called through the loop's call_soon().",
        ),
        methods,
        attributes: future_attributes!(Future, "Future"),
        slots: class_slots!(Future, "Future"; init py_init, repr py_repr, iter py_iter, awaits py_itself, awaited_next next),
    })?;
    let shared = class_methods!(Future, "Future";
        c"set_result" => shared py_set_result,
            c"set_result($self, result, /)\n--\n\nMark the future done and set its result.\n\nRaises \
              InvalidStateError if the future is done already.";
        c"set_exception" => shared py_set_exception,
            c"set_exception($self, exception, /)\n--\n\nMark the future done and set an exception.\n\nRaises \
              InvalidStateError if the future is done already.";
    );
    crate::cpython::spec::share_methods(&class, &state().future_class, shared)?;
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    Ok(class)
}
