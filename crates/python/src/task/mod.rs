//! `Task`: a future that is the outcome of a coroutine.
//!
//! A task is in one of three situations, as in asyncio: it waits (`fut_waiter` holds a future that is pending),
//! its step is queued (`fut_waiter` is empty or done), or its step runs. A step sends into the coroutine, or throws
//! into it, and looks at what comes back (`step`): nothing, so the next step is queued; one of our futures, which
//! then holds the task itself as its waiter; or somebody else's future, through its public methods.
//!
//! The class derives from `_asyncio.Task` and fills in, of that structure, what outside readers look for.
//!
//! Here is what a task has, its birth and its cancellation; its methods are in `methods`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpython::coroutine::is_native;
use crate::cpython::object::{self, none};
use crate::cpython::prefetch;
use crate::cpython::{Base, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::event_loop::EventLoop;
use crate::future::{self, Future, FutureCore, FutureLike};
use crate::registry;
use crate::state::state;

mod callable;
mod methods;
mod shared_context;
mod step;

pub use callable::{step_callable, wakeup_callable};
pub use methods::define;
pub use shared_context::SharedContext;
use shared_context::StepContext;
pub use step::run;

use step::{advance, queue_step};

/// The class `Task`.
#[derive(Debug)]
pub struct Task {
    core: FutureCore,
    coro: Slot,
    /// A `str`, or the `int` that asyncio's automatic names are made of.
    name: Slot,
    /// The one that its steps run in, unless it [shares it](SharedContext).
    context: Slot,
    /// What the task waits for.
    fut_waiter: Slot,
    /// The weak reference in the register of tasks, on versions that keep one.
    pub registered: Slot,
    /// Whether the next step throws `CancelledError`.
    must_cancel: Cell<bool>,
    log_destroy_pending: Cell<bool>,
    shares_context: Cell<bool>,
    cancels_requested: Cell<u32>,
}

static HOME: Home = Home::new();
/// Numbers for names.
static UNNAMED: AtomicU64 = AtomicU64::new(1);

impl Class for Task {
    const NAME: &'static std::ffi::CStr = c"velodrome.Task";
    const BASE: Base = Base::Native;
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;
    const REFUSES_ABSTRACT: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> Task {
        Task {
            core: FutureCore::fresh(),
            coro: Slot::empty(),
            name: Slot::empty(),
            context: Slot::empty(),
            fut_waiter: Slot::empty(),
            registered: Slot::empty(),
            must_cancel: Cell::new(false),
            log_destroy_pending: Cell::new(true),
            shares_context: Cell::new(false),
            cancels_requested: Cell::new(0),
        }
    }

    fn traverse(this: &Inst<Task>, visitor: &mut Visitor<'_>) {
        this.core.traverse(visitor);
        for slot in [&this.coro, &this.name, &this.context, &this.fut_waiter, &this.registered] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Task>) {
        this.leave_context();
        this.core.clear();
        for slot in [&this.coro, &this.name, &this.context, &this.fut_waiter, &this.registered] {
            slot.clear();
        }
    }

    fn dying(this: &Inst<Task>) {
        // Where the thread's list is asyncio's to change, the finaliser has done it.
        this.unlink();
        this.leave_context();
        crate::cpython::stop_iteration::forget();
    }

    #[inline]
    fn empty_base(this: &Inst<Task>) -> bool {
        this.empty_base()
    }

    fn finalized(&self) {
        self.core.finalized.set(true);
    }

    #[inline]
    fn was_finalized(this: &Inst<Task>) -> bool {
        this.core.finalized.get()
    }

    fn finalize(this: &Inst<Task>) {
        if this.core.is_pending()
            && this.log_destroy_pending.get()
            && !this.core.event_loop.is_empty()
            && let Err(raised) = report_destroyed(this)
        {
            raised.report(Some(this.obj()));
        }
        future::report_unretrieved(this);
        registry::unregister(this);
    }

    #[inline]
    fn needs_finalizing(&self) -> bool {
        self.core.log_traceback.get()
            || !self.registered.is_empty()
            || (self.core.is_pending() && self.log_destroy_pending.get())
    }
}

impl FutureLike for Task {
    #[inline]
    fn core(&self) -> &FutureCore {
        &self.core
    }
}

fn report_destroyed(this: &Inst<Task>) -> Fallible<()> {
    let names = &state().names;
    let message = object::text("Task was destroyed but it is pending!")?;
    let context = object::dict(&[(&names.message, &message), (&names.task, this.obj())])?;
    future::call_exception_handler(this, &context)
}

/// What a suspended coroutine's step reads of it and its frame, about.
const COROUTINE_SIZE: usize = 192;

impl Task {
    /// Has the memory that the task's next step needs fetched; the task's own should be there already.
    #[inline]
    pub fn prefetch_step(&self) {
        prefetch::held(&self.coro, COROUTINE_SIZE);
        prefetch::held(&self.fut_waiter, std::mem::size_of::<Future>() + 2 * COROUTINE_SIZE / 3);
        prefetch::held(&self.context, 0);
    }
}

/// The context that the task's steps run in; its own, if it has shared one so far.
pub fn context(this: &Inst<Task>) -> Fallible<Ref> {
    this.own_context()?;
    Ok(this.context.get_or_none())
}

/// Runs a step in the task's context. Its loop is this one.
#[inline]
pub fn within_context<R>(
    this: &Inst<Task>,
    event_loop: &Inst<EventLoop>,
    step: impl FnOnce(&Inst<Task>) -> Fallible<R>,
) -> Fallible<R> {
    let step_context = StepContext::of(this, event_loop)?;
    crate::cpython::context::within(&step_context.context, || step(this))
}

// ---------------------------------------------------------------------------------------------------------------
// Birth.

/// What a task can be given when it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    pub name: Option<&'a Obj>,
    pub context: Option<&'a Obj>,
    pub eager_start: bool,
}

/// A new task of this loop, whose first step is queued (or taken, if it starts eagerly).
#[inline]
pub fn create(event_loop: &Inst<EventLoop>, coro: &Obj, options: Options<'_>) -> Fallible<Own<Task>> {
    if matches!(options, Options { name: None, context: None, eager_start: false })
        && is_native(coro)
        && !event_loop.is_debug()
    {
        return create_plain(event_loop, coro);
    }
    let task = Own::<Task>::new()?;
    task.core.event_loop.set(event_loop.obj().own());
    if event_loop.is_debug() {
        task.core.rare().source_traceback.set(state().extract_stack()?);
    }
    begin(&task, event_loop.obj(), coro, options)?;
    Ok(task)
}

/// Of what needs no second look, with nothing set twice.
#[inline]
fn create_plain(event_loop: &Inst<EventLoop>, coro: &Obj) -> Fallible<Own<Task>> {
    let ((context, shares_context), name) =
        (event_loop.shared_context.of_new_task(event_loop.iteration.get())?, next_name()?);
    let shown = name.clone();
    let task = Own::with(|| Task {
        core: FutureCore::of(event_loop.obj()),
        coro: Slot::of(coro.own()),
        name: Slot::of(name),
        context: Slot::of(context),
        // Taken from `fresh()` these would bring its core along, to be dropped.
        fut_waiter: Slot::empty(),
        registered: Slot::empty(),
        must_cancel: Cell::new(false),
        log_destroy_pending: Cell::new(true),
        shares_context: Cell::new(shares_context),
        cancels_requested: Cell::new(0),
    })?;
    task.show_task(event_loop.obj(), coro, shown);
    if event_loop.hooks().call_soon {
        queue_step(&task, event_loop.obj())?;
    } else {
        event_loop.push_step(task.clone())?;
    }
    registry::register(&task)?;
    Ok(task)
}

/// asyncio's own numbers become text when they are asked for; on 3.11 they are text at once.
#[inline]
fn next_name() -> Fallible<Ref> {
    match UNNAMED.fetch_add(1, Ordering::Relaxed) {
        number if state().minor == 11 => object::text(&format!("Task-{number}")),
        number => object::int(number as i64),
    }
}

fn begin(this: &Inst<Task>, event_loop: &Obj, coro: &Obj, options: Options<'_>) -> Fallible<()> {
    if !state().is_coroutine(coro)? {
        this.log_destroy_pending.set(false);
        return Err(Raised::type_error(&format!("a coroutine was expected, got {}", coro.shown())));
    }
    let context = match options.context {
        Some(context) if state().checks_contexts && !crate::cpython::context::is_context(context) => {
            this.log_destroy_pending.set(false);
            return Err(Raised::type_error(&format!(
                "a contextvars.Context was expected, got {}",
                context.class_name()
            )));
        }
        Some(context) => context.own(),
        None => crate::cpython::context::copy_current()?,
    };
    this.leave_context();
    this.context.set(context);
    this.coro.set(coro.own());
    let name = match options.name {
        // Where that fails, the task is reported with its coroutine.
        Some(name) => as_name(name)?,
        None => next_name()?,
    };
    this.show_task(event_loop, coro, name.clone());
    this.name.set(name);
    this.must_cancel.set(false);
    this.cancels_requested.set(0);
    this.fut_waiter.clear();
    if options.eager_start && is_running(event_loop)? {
        let outcome = start_eagerly(this, event_loop);
        if outcome.is_err() && state().forgets_failed_eager_tasks {
            this.log_destroy_pending.set(false);
        }
        return outcome;
    }
    queue_step(this, event_loop)?;
    registry::register(this)
}

fn is_running(event_loop: &Obj) -> Fallible<bool> {
    match Inst::<EventLoop>::of(event_loop) {
        Some(ours) => Ok(ours.is_running()),
        None => event_loop.call_method(&state().names.is_running, &[])?.truthy(),
    }
}

/// Exactly a `str`, made of whatever was given.
fn as_name(name: &Obj) -> Fallible<Ref> {
    name.str()
}

/// The first step, within the call that makes the task.
fn start_eagerly(this: &Inst<Task>, event_loop: &Obj) -> Fallible<()> {
    let previous = registry::swap(event_loop, Some(this.obj()))?;
    let outcome = registry::register_eager(this).and_then(|()| {
        let outcome =
            crate::cpython::context::within(&this.context.get_or_none(), || advance(this, event_loop, None));
        Raised::finally(outcome, || registry::unregister_eager(this))
    });
    Raised::finally(outcome, || {
        let restored = registry::swap(event_loop, previous.as_deref()).map(drop);
        Raised::finally(restored, || {
            if this.core.is_pending() {
                return registry::register(this);
            }
            this.coro.clear();
            this.hide_coro();
            registry::unregister(this);
            Ok(())
        })
    })
}

/// `future.cancel(message)` of any future.
pub fn cancel_any(future: &Obj, message: Option<&Obj>) -> Fallible<bool> {
    match cancel_ours(future, message) {
        Some(outcome) => outcome,
        None => future.call_method(&state().names.cancel, &[message.unwrap_or(none())])?.truthy(),
    }
}

/// The same of what is exactly a future or a task of ours, unless it may have been given another `cancel`.
#[inline]
pub fn cancel_ours(future: &Obj, message: Option<&Obj>) -> Option<Fallible<bool>> {
    if object::has_instance_dict(future) {
        return None;
    }
    if let Some(future) = Inst::<Future>::exactly(future) {
        return Some(future::cancel(future, message));
    }
    Inst::<Task>::exactly(future)
        .map(|task| crate::cpython::recursion::guarded(c" while cancelling a task", || cancel(task, message)))
}

/// Asks the task to cancel itself; says whether it was still possible.
pub fn cancel(this: &Inst<Task>, message: Option<&Obj>) -> Fallible<bool> {
    this.core.log_traceback.set(false);
    if !this.core.is_pending() {
        return Ok(false);
    }
    this.cancels_requested.set(this.cancels_requested.get() + 1);
    if let Some(future) = this.fut_waiter.get()
        && cancel_any(&future, message)?
    {
        return Ok(true);
    }
    this.must_cancel.set(true);
    future::set_cancel_message(&this.core, message);
    Ok(true)
}

/// How many cancellations are requested.
pub fn cancelling(this: &Inst<Task>) -> u32 {
    this.cancels_requested.get()
}

/// One request less; says how many remain.
pub fn uncancel(this: &Inst<Task>) -> u32 {
    let left = this.cancels_requested.get().saturating_sub(1);
    if this.cancels_requested.replace(left) == 1 && state().minor >= 13 {
        this.must_cancel.set(false);
    }
    left
}

/// The task's name; an automatic one becomes text when it is first asked for.
pub fn name(this: &Inst<Task>) -> Fallible<Ref> {
    match this.name.get() {
        Some(name) if name.is_int() => {
            let name = object::text(&format!("Task-{}", name.to_i64()?))?;
            this.name.set(name.clone());
            this.show_name(&name);
            Ok(name)
        }
        Some(name) => Ok(name),
        None => Ok(none().own()),
    }
}

/// Whether destroying the task while it is pending is reported.
pub fn set_log_destroy_pending(this: &Inst<Task>, value: bool) {
    this.log_destroy_pending.set(value);
}
