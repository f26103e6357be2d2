//! `Task`: a future that is the outcome of a coroutine.
//!
//! A task is in one of three situations, as in asyncio: it waits (`fut_waiter` holds a future that is pending),
//! its step is queued (`fut_waiter` is empty or done), or its step runs. A step sends into the coroutine, or throws
//! into it, and looks at what comes back ([`handle_yield`]): nothing, so the next step is queued; one of our
//! futures, which then holds the task itself as its waiter; or somebody else's future, through its public methods.
//!
//! The class derives from `_asyncio.Task` and fills in, of that structure, what outside readers look for.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::callbacks::Entry;
use crate::cpython::coroutine::{self, Sent};
use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::prefetch;
use crate::cpython::raised::stops_the_loop;
use crate::cpython::spec::Method;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::future::{self, Future, FutureCore, FutureLike};
use crate::registry;
use crate::state::state;

/// The class `Task`.
#[derive(Debug)]
pub struct Task {
    core: FutureCore,
    coro: Slot,
    /// A `str`, or the `int` that asyncio's automatic names are made of.
    name: Slot,
    context: Slot,
    /// What the task waits for.
    fut_waiter: Slot,
    /// The weak reference in the register of tasks, on versions that keep one.
    pub registered: Slot,
    /// Whether the next step throws `CancelledError`.
    must_cancel: Cell<bool>,
    log_destroy_pending: Cell<bool>,
    cancels_requested: Cell<u32>,
}

static HOME: Home = Home::new();
/// Numbers for names.
static UNNAMED: AtomicU64 = AtomicU64::new(1);

impl Class for Task {
    const NAME: &'static std::ffi::CStr = c"velodrome.Task";
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;

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
        this.core.clear();
        for slot in [&this.coro, &this.name, &this.context, &this.fut_waiter, &this.registered] {
            slot.clear();
        }
    }

    fn dying(this: &Inst<Task>) {
        // Where the thread's list is asyncio's to change, the finaliser has done it.
        this.unlink();
        crate::cpython::stop_iteration::forget();
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
    let context = object::dict(&[(&names.task, this.obj()), (&names.message, &message)])?;
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

    /// The context that its steps run in.
    #[inline]
    pub fn context(&self) -> Ref {
        self.context.get_or_none()
    }
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
    let task = Own::<Task>::new()?;
    task.core.event_loop.set(event_loop.obj().own());
    if event_loop.is_debug() {
        task.core.rare().source_traceback.set(state().extract_stack()?);
    }
    begin(&task, event_loop.obj(), coro, options)?;
    Ok(task)
}

fn begin(this: &Inst<Task>, event_loop: &Obj, coro: &Obj, options: Options<'_>) -> Fallible<()> {
    if !state().is_coroutine(coro)? {
        this.log_destroy_pending.set(false);
        return Err(Raised::type_error(&format!("a coroutine was expected, got {}", coro.shown())));
    }
    let context = match options.context {
        Some(context) if state().minor >= 15 && !crate::cpython::context::is_context(context) => {
            this.log_destroy_pending.set(false);
            return Err(Raised::type_error(&format!(
                "a contextvars.Context was expected, got {}",
                context.class_name()
            )));
        }
        Some(context) => context.own(),
        None => crate::cpython::context::copy_current()?,
    };
    let name = match options.name {
        Some(name) => as_name(name)?,
        // asyncio's own numbers become text when they are asked for; on 3.11 they are text at once.
        None => match UNNAMED.fetch_add(1, Ordering::Relaxed) {
            number if state().minor == 11 => object::text(&format!("Task-{number}"))?,
            number => object::int(number as i64)?,
        },
    };
    this.show_task(event_loop, coro, &name);
    this.name.set(name);
    this.context.set(context);
    this.coro.set(coro.own());
    this.must_cancel.set(false);
    this.cancels_requested.set(0);
    this.fut_waiter.clear();
    if options.eager_start && is_running(event_loop)? {
        let outcome = start_eagerly(this, event_loop);
        if outcome.is_err() && state().minor >= 15 {
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
        let outcome = crate::cpython::context::within(&this.context(), || advance(this, None));
        let pending = Raised::pending_of(outcome);
        let left = registry::unregister_eager(this);
        Raised::again(pending, left)
    });
    let pending = Raised::pending_of(outcome);
    let restored = registry::swap(event_loop, previous.as_deref()).map(drop);
    if this.core.is_pending() {
        registry::register(this)?;
    } else {
        this.coro.clear();
        this.hide_coro();
        registry::unregister(this);
    }
    Raised::again(pending, restored)
}

/// Queues the next step.
#[inline]
fn queue_step(this: &Inst<Task>, event_loop: &Obj) -> Fallible<()> {
    if let Some(ours) = EventLoop::direct(event_loop) {
        return ours.push_step(this.own());
    }
    future::call_soon(event_loop, &*step_callable(this)?, &[], &this.context())
}

/// Queues a step that throws.
fn queue_throw(this: &Inst<Task>, message: &str) -> Fallible<()> {
    let event_loop = future::loop_of(this)?;
    let exception = object::runtime_error().call(&[&*object::text(message)?])?;
    future::call_soon(&event_loop, &*step_callable(this)?, &[&exception], &this.context())
}

// ---------------------------------------------------------------------------------------------------------------
// Steps.

/// A step: sends into the coroutine, or throws `exception` into it. Runs in the task's context, on its loop.
#[inline]
pub fn step(this: &Inst<Task>, event_loop: &Obj, exception: Option<Ref>) -> Fallible<()> {
    if !this.core.is_pending() {
        return Err(already_done(this, exception));
    }
    let entered = registry::enter(event_loop, this.obj())?;
    let outcome = advance(this, exception);
    registry::leave(entered, event_loop, this.obj()).and(outcome)
}

#[cold]
fn already_done(this: &Inst<Task>, exception: Option<Ref>) -> Raised {
    let exception = exception.as_deref().unwrap_or(none()).shown();
    let step = if state().minor >= 14 { "__step" } else { "_step" };
    state().invalid_state(&format!("{step}(): already done: {} {exception}", this.obj().shown()))
}

/// A step of a task that waited, now that what it waited for is done.
#[inline]
pub fn wake(this: &Inst<Task>, event_loop: &Obj) -> Fallible<()> {
    match this.fut_waiter.get() {
        Some(future) => wake_by(this, event_loop, &future),
        None => step(this, event_loop, None),
    }
}

#[inline]
fn wake_by(this: &Inst<Task>, event_loop: &Obj, future: &Obj) -> Fallible<()> {
    let outcome = if let Some(future) = Inst::<Future>::exactly(future) {
        registry::discard_awaited_by(future, this)?;
        future::failure(future)
    } else if let Some(task) = Inst::<Task>::exactly(future) {
        registry::discard_awaited_by(task, this)?;
        future::failure(task)
    } else {
        registry::discard_any_awaited_by(future, this)?;
        future.call_method(&state().names.result, &[]).map(|_result| None)
    };
    match outcome {
        Ok(exception) => step(this, event_loop, exception),
        Err(raised) => step(this, event_loop, Some(raised.take())),
    }
}

/// Runs the coroutine once, and ends the task or arranges for what comes next.
fn advance(this: &Inst<Task>, exception: Option<Ref>) -> Fallible<()> {
    let exception = if this.must_cancel.get() {
        this.must_cancel.set(false);
        match exception {
            Some(exception) if exception.is_instance(&state().cancelled_error)? => Some(exception),
            _ => Some(future::make_cancelled_error(&this.core)?),
        }
    } else {
        exception
    };
    this.fut_waiter.clear();
    let Some(coro) = this.coro.get() else {
        return Err(Raised::runtime_error("uninitialized Task object"));
    };
    let sent = match exception {
        None => coroutine::send(&coro),
        Some(exception) => coroutine::throw(&coro, &state().names.throw, &exception),
    };
    match sent {
        Ok(Sent::Yielded(value)) => handle_yield(this, &value),
        Ok(Sent::Returned(value)) => {
            registry::unregister(this);
            if this.must_cancel.replace(false) {
                // Cancelled right before the coroutine returned.
                let message = future::cancel_message(&this.core);
                return future::cancel(this, message.as_deref()).map(drop);
            }
            future::finish(this, value)
        }
        Err(raised) => {
            registry::unregister(this);
            end_with(this, raised)
        }
    }
}

/// The coroutine raised.
fn end_with(this: &Inst<Task>, raised: Raised) -> Fallible<()> {
    let cancelled = raised.matches(&state().cancelled_error);
    let exception = raised.take();
    if cancelled {
        this.core.rare().cancelled_error.set(exception);
        return future::cancel(this, None).map(drop);
    }
    future::fail(this, &exception)?;
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    Ok(())
}

/// Looks at what the coroutine yielded.
#[inline]
fn handle_yield(this: &Inst<Task>, yielded: &Obj) -> Fallible<()> {
    if let Some(future) = Inst::<Future>::exactly(yielded) {
        return wait_for(this, future);
    }
    if yielded.is_none() {
        return queue_step(this, &*future::loop_of(this)?);
    }
    if let Some(task) = Inst::<Task>::exactly(yielded) {
        return wait_for(this, task);
    }
    handle_other_yield(this, yielded)
}

/// One of our own futures or tasks: this task becomes its waiter.
#[inline]
fn wait_for<T: FutureLike>(this: &Inst<Task>, future: &Inst<T>) -> Fallible<()> {
    if future.obj().is(this.obj()) {
        return queue_throw(this, &awaits_itself(this));
    }
    let core = future.core();
    if !core.event_loop.peek_is(&this.core.event_loop) {
        return queue_throw(this, &different_loop(this, future.obj()));
    }
    if !core.blocking.replace(false) {
        return queue_throw(this, &yield_without_from(this, future.obj()));
    }
    registry::add_awaited_by(future, this)?;
    this.fut_waiter.set(future.obj().own());
    if core.is_pending() {
        core.callbacks.push(Entry::Waiter(this.own()));
    } else {
        queue_wakeup(this)?;
    }
    if this.must_cancel.get() {
        let message = future::cancel_message(&this.core);
        if cancel_any(future.obj(), message.as_deref())? {
            this.must_cancel.set(false);
        }
    }
    Ok(())
}

fn queue_wakeup(this: &Inst<Task>) -> Fallible<()> {
    let event_loop = future::loop_of(this)?;
    if let Some(ours) = EventLoop::direct(&event_loop) {
        return ours.push_wakeup(this.own());
    }
    let future = this.fut_waiter.get_or_none();
    future::call_soon(&event_loop, &*wakeup_callable(this)?, &[&future], &this.context())
}

fn awaits_itself(this: &Inst<Task>) -> String {
    format!("Task cannot await on itself: {}", this.obj().shown())
}

fn different_loop(this: &Inst<Task>, future: &Obj) -> String {
    format!("Task {} got Future {} attached to a different loop", this.obj().shown(), future.shown())
}

fn yield_without_from(this: &Inst<Task>, yielded: &Obj) -> String {
    format!("yield was used instead of yield from in task {} with {}", this.obj().shown(), yielded.shown())
}

/// Anything else: `gather`'s future, which is ours by another name; others through their public methods; the rest is a
/// mistake.
fn handle_other_yield(this: &Inst<Task>, yielded: &Obj) -> Fallible<()> {
    if crate::gather::is_outer(yielded)
        && let Some(outer) = Inst::<Future>::of(yielded)
    {
        return wait_for(this, outer);
    }
    handle_foreign_yield(this, yielded)
}

/// Anything that is not ours: futures through their public methods; the rest is a mistake.
fn handle_foreign_yield(this: &Inst<Task>, yielded: &Obj) -> Fallible<()> {
    if yielded.is(this.obj()) {
        return queue_throw(this, &awaits_itself(this));
    }
    let names = &state().names;
    let blocking =
        yielded.get_if_there(&names.asyncio_future_blocking)?.filter(|blocking| !blocking.is_none());
    let Some(blocking) = blocking else {
        if yielded.is_generator() {
            return queue_throw(
                this,
                &format!(
                    "yield was used instead of yield from for generator in task {} with {}",
                    this.obj().shown(),
                    yielded.shown()
                ),
            );
        }
        return queue_throw(this, &format!("Task got bad yield: {}", yielded.shown()));
    };
    let event_loop = future::loop_of(this)?;
    if !crate::ensure_future::loop_of(yielded)?.is(&event_loop) {
        return queue_throw(this, &different_loop(this, yielded));
    }
    if !blocking.truthy()? {
        return queue_throw(this, &yield_without_from(this, yielded));
    }
    registry::add_foreign_awaited_by(yielded, this)?;
    yielded.set(&names.asyncio_future_blocking, boolean(false))?;
    let wakeup = wakeup_callable(this)?;
    yielded.call_method_with_keywords(
        &names.add_done_callback,
        &[&wakeup, &*this.context()],
        &state().context_keyword,
    )?;
    this.fut_waiter.set(yielded.own());
    if this.must_cancel.get() {
        let message = future::cancel_message(&this.core);
        if cancel_any(yielded, message.as_deref())? {
            this.must_cancel.set(false);
        }
    }
    Ok(())
}

/// `future.cancel(msg=message)` of any future.
pub fn cancel_any(future: &Obj, message: Option<&Obj>) -> Fallible<bool> {
    if let Some(future) = Inst::<Future>::exactly(future) {
        return future::cancel(future, message);
    }
    if let Some(task) = Inst::<Task>::exactly(future) {
        return crate::cpython::recursion::guarded(c" while cancelling a task", || cancel(task, message));
    }
    let message = message.unwrap_or(none());
    future.call_method_with_keywords(&state().names.cancel, &[message], &state().msg_keyword)?.truthy()
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

// ---------------------------------------------------------------------------------------------------------------
// Steps and wake-ups as Python callables, for loops and futures that are not ours.

static CALLABLES: Global<Vec<Method<Task>>> = Global::new();

/// A callable that takes the next step, or throws its argument.
pub fn step_callable(this: &Inst<Task>) -> Fallible<Ref> {
    crate::cpython::spec::bind(&CALLABLES.get()[0], this)
}

/// A callable that wakes the task, called with the future that is done.
pub fn wakeup_callable(this: &Inst<Task>) -> Fallible<Ref> {
    crate::cpython::spec::bind(&CALLABLES.get()[1], this)
}

fn call_step(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [exception] =
        args.parse(&Signature { function: "task_step", names: ["exc"], positional: 1, required: 0 })?;
    let event_loop = future::loop_of(this)?;
    step(this, &event_loop, exception.filter(|exception| !exception.is_none()).map(Obj::own))?;
    Ok(none().own())
}

fn call_wakeup(this: &Inst<Task>, future: &Obj) -> Fallible<Ref> {
    wake_by(this, &*future::loop_of(this)?, future)?;
    Ok(none().own())
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<Task>, args: Args<'_>) -> Fallible<()> {
    let [coro, event_loop, name, context, eager_start] = if state().minor >= 12 {
        args.parse(&Signature {
            function: "Task",
            names: ["coro", "loop", "name", "context", "eager_start"],
            positional: 1,
            required: 1,
        })?
    } else {
        let signature = Signature {
            function: "Task",
            names: ["coro", "loop", "name", "context"],
            positional: 1,
            required: 1,
        };
        let [coro, event_loop, name, context] = args.parse(&signature)?;
        [coro, event_loop, name, context, None]
    };
    let options = Options {
        name: name.filter(|name| !name.is_none()),
        context: context.filter(|context| !context.is_none()),
        eager_start: eager_start.map_or(Ok(false), Obj::truthy)?,
    };
    future::initialize(this, event_loop)?;
    let event_loop = future::loop_of(this)?;
    begin(this, &event_loop, coro.unwrap_or(none()), options)
}

fn py_cancel(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [message] = args.parse(&future::CANCEL)?;
    Ok(boolean(cancel(this, message)?).own())
}

/// How many cancellations are requested.
pub fn cancelling(this: &Inst<Task>) -> u32 {
    this.cancels_requested.get()
}

fn py_cancelling(this: &Inst<Task>) -> Fallible<Ref> {
    object::int(i64::from(cancelling(this)))
}

/// One request less; says how many remain.
pub fn uncancel(this: &Inst<Task>) -> u32 {
    let left = this.cancels_requested.get().saturating_sub(1);
    if this.cancels_requested.replace(left) == 1 && state().minor >= 13 {
        this.must_cancel.set(false);
    }
    left
}

fn py_uncancel(this: &Inst<Task>) -> Fallible<Ref> {
    object::int(i64::from(uncancel(this)))
}

fn py_repr(this: &Inst<Task>) -> Fallible<Ref> {
    state().task_repr.call(&[this.obj()])
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

fn py_set_name(this: &Inst<Task>, name: &Obj) -> Fallible<Ref> {
    let name = as_name(name)?;
    this.show_name(&name);
    this.name.set(name);
    Ok(none().own())
}

fn py_get_coro(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(this.coro.get_or_none())
}

fn py_get_context(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(this.context())
}

fn py_set_result(_this: &Inst<Task>, _result: &Obj) -> Fallible<Ref> {
    Err(Raised::runtime_error("Task does not support set_result operation"))
}

fn py_set_exception(_this: &Inst<Task>, _exception: &Obj) -> Fallible<Ref> {
    Err(Raised::runtime_error("Task does not support set_exception operation"))
}

fn py_get_stack(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [limit] =
        args.parse(&Signature { function: "get_stack", names: ["limit"], positional: 0, required: 0 })?;
    state().task_get_stack.call(&[this.obj(), limit.unwrap_or(none())])
}

fn py_print_stack(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let signature =
        Signature { function: "print_stack", names: ["limit", "file"], positional: 0, required: 0 };
    let [limit, file] = args.parse(&signature)?;
    state().task_print_stack.call(&[this.obj(), limit.unwrap_or(none()), file.unwrap_or(none())])
}

fn py_fut_waiter(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(this.fut_waiter.get_or_none())
}

fn py_must_cancel(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(boolean(this.must_cancel.get()).own())
}

/// Whether destroying the task while it is pending is reported.
pub fn set_log_destroy_pending(this: &Inst<Task>, value: bool) {
    this.log_destroy_pending.set(value);
}

fn py_log_destroy_pending(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(boolean(this.log_destroy_pending.get()).own())
}

fn py_set_log_destroy_pending(this: &Inst<Task>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    this.log_destroy_pending.set(value.truthy()?);
    Ok(())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    CALLABLES.set(class_methods!(Task, "Task";
        c"task_step" => any call_step, c"task_step($self, exc=None, /)\n--\n\nTake the next step.";
        c"task_wakeup" => one call_wakeup, c"task_wakeup($self, future, /)\n--\n\nWake the task.";
    ));
    let mut methods: Vec<_> = future_methods!(Task, "Task");
    methods.extend(class_methods!(Task, "Task";
        c"cancel" => any py_cancel,
            c"cancel($self, /, msg=None)\n--\n\nRequest that this task cancel itself.\n\nCancelledError is thrown \
              into the coroutine at its next step, which can clean up\nor even deny the request. Return False if \
              the task is done already.";
        c"cancelling" => none py_cancelling,
            c"cancelling($self, /)\n--\n\nReturn the count of the task's cancellation requests.";
        c"uncancel" => none py_uncancel,
            c"uncancel($self, /)\n--\n\nDecrement the task's count of cancellation requests; return what remains.";
        c"get_name" => none name, c"get_name($self, /)\n--\n\nReturn the task's name.";
        c"set_name" => one py_set_name, c"set_name($self, value, /)\n--\n\nSet the task's name to str(value).";
        c"get_coro" => none py_get_coro, c"get_coro($self, /)\n--\n\nReturn the coroutine that the task runs.";
        c"set_result" => one py_set_result, c"set_result($self, result, /)\n--\n\nTasks refuse it.";
        c"set_exception" => one py_set_exception, c"set_exception($self, exception, /)\n--\n\nTasks refuse it.";
        c"get_stack" => any py_get_stack,
            c"get_stack($self, /, *, limit=None)\n--\n\nReturn the list of stack frames for this task's coroutine.";
        c"print_stack" => any py_print_stack,
            c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrint the stack or traceback for this task's \
              coroutine.";
    ));
    if state().minor >= 12 {
        methods.extend(class_methods!(Task, "Task";
            c"get_context" => none py_get_context,
                c"get_context($self, /)\n--\n\nReturn the context that the task's steps run in.";
        ));
    }
    let mut attributes: Vec<_> = future_attributes!(Task, "Task");
    attributes.extend(class_attributes!(Task, "Task";
        c"_coro" => py_get_coro;
        c"_fut_waiter" => py_fut_waiter;
        c"_must_cancel" => py_must_cancel;
        c"_log_destroy_pending" => py_log_destroy_pending, py_set_log_destroy_pending;
    ));
    let class = crate::cpython::spec::define::<Task>(Spec {
        base: Some(state().task_class.clone()),
        doc: Some(if state().minor >= 12 {
            c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA coroutine that runs on a \
              loop, and the future of its outcome; the same answers as\nasyncio.Task of this Python."
        } else {
            c"Task(coro, *, loop=None, name=None, context=None)\n--\n\nA coroutine that runs on a loop, and the \
              future of its outcome; the same answers as\nasyncio.Task of this Python."
        }),
        methods,
        attributes,
        slots: class_slots!(Task, "Task";
            init py_init, repr py_repr, iter future::py_iter, awaits future::py_itself, awaited_next future::next),
    })?;
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    Ok(class)
}
