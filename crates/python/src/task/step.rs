//! The steps of a task: what it sends into its coroutine, and what it makes of what comes back.

use crate::callbacks::Entry;
use crate::cpython::coroutine::{self, Sent};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::future::{self, Future, FutureLike};
use crate::registry;
use crate::state::state;
use crate::task::callable::{step_callable, wakeup_callable};
use crate::task::{Task, cancel_any, context};

/// Queues the next step.
#[inline]
pub(super) fn queue_step(this: &Inst<Task>, event_loop: &Obj) -> Fallible<()> {
    if let Some(ours) = EventLoop::direct(event_loop) {
        return ours.push_step(this.own());
    }
    future::call_soon(event_loop, &*step_callable(this)?, &[], &*context(this)?)
}

/// Queues a step that throws.
fn queue_throw(this: &Inst<Task>, message: &str) -> Fallible<()> {
    let event_loop = future::loop_of(this)?;
    let exception = object::runtime_error().call(&[&*object::text(message)?])?;
    future::call_soon(&event_loop, &*step_callable(this)?, &[&exception], &*context(this)?)
}

/// A step: sends into the coroutine, or throws `exception` into it. Runs in the task's context, on its loop.
#[inline(never)]
pub(super) fn step(this: &Inst<Task>, event_loop: &Obj, exception: Option<Ref>) -> Fallible<()> {
    take(this, event_loop, exception)
}

/// The same, in place.
#[inline(always)]
fn take(this: &Inst<Task>, event_loop: &Obj, exception: Option<Ref>) -> Fallible<()> {
    if !this.core.is_pending() {
        return Err(already_done(this, exception));
    }
    let entered = registry::enter(event_loop, this.obj())?;
    let outcome = go_on(this, event_loop, exception);
    registry::leave(entered, event_loop, this.obj()).and(outcome)
}

#[cold]
fn already_done(this: &Inst<Task>, exception: Option<Ref>) -> Raised {
    let exception = exception.as_deref().unwrap_or(none()).shown();
    let step = if state().minor >= 14 { "__step" } else { "_step" };
    state().invalid_state(&format!("{step}(): already done: {} {exception}", this.obj().shown()))
}

/// The step that was queued; if the task waited, what it waited for is done now.
#[inline(always)]
pub fn run(this: &Inst<Task>, event_loop: &Obj, woken: bool) -> Fallible<()> {
    // Held until the step is over, as the callback's argument is in asyncio.
    let future = if woken { this.fut_waiter.get() } else { None };
    let exception = match &future {
        Some(future) => exception_from(this, future)?,
        None => None,
    };
    take(this, event_loop, exception)
}

pub(super) fn wake_by(this: &Inst<Task>, event_loop: &Obj, future: &Obj) -> Fallible<()> {
    let exception = exception_from(this, future)?;
    step(this, event_loop, exception)
}

/// What the task resumes with, now that the future is done: an exception, or none.
#[inline(always)]
fn exception_from(this: &Inst<Task>, future: &Obj) -> Fallible<Option<Ref>> {
    if let Some(future) = Inst::<Future>::exactly(future) {
        registry::discard_awaited_by(future, this)?;
        return future::failure(future).or_else(|raised| Ok(Some(raised.take())));
    }
    exception_from_other(this, future)
}

#[inline(never)]
fn exception_from_other(this: &Inst<Task>, future: &Obj) -> Fallible<Option<Ref>> {
    let outcome = if let Some(task) = Inst::<Task>::exactly(future) {
        registry::discard_awaited_by(task, this)?;
        future::failure(task)
    } else {
        registry::discard_any_awaited_by(future, this)?;
        future.call_method(&state().names.result, &[]).map(|_result| None)
    };
    outcome.or_else(|raised| Ok(Some(raised.take())))
}

/// Runs the coroutine once, and ends the task or arranges for what comes next.
#[inline(never)]
pub(super) fn advance(this: &Inst<Task>, event_loop: &Obj, exception: Option<Ref>) -> Fallible<()> {
    go_on(this, event_loop, exception)
}

/// A cancellation was asked for, so this is what is thrown.
#[inline(never)]
fn cancellation(this: &Inst<Task>, exception: Option<Ref>) -> Fallible<Ref> {
    this.must_cancel.set(false);
    match exception {
        Some(exception) if exception.is_instance(&state().cancelled_error)? => Ok(exception),
        _ => future::make_cancelled_error(&this.core),
    }
}

#[inline(never)]
fn throw(coro: &Obj, exception: Ref) -> Fallible<Sent> {
    coroutine::throw(coro, &state().names.throw, &exception)
}

/// What both `step` and `advance` do, in place in either.
#[inline(always)]
fn go_on(this: &Inst<Task>, event_loop: &Obj, exception: Option<Ref>) -> Fallible<()> {
    let exception = if this.must_cancel.get() { Some(cancellation(this, exception)?) } else { exception };
    this.fut_waiter.clear();
    let Some(coro) = this.coro.get() else {
        return Err(Raised::runtime_error("uninitialized Task object"));
    };
    let sent = match exception {
        None => coroutine::send(&coro),
        Some(exception) => throw(&coro, exception),
    };
    match sent {
        Ok(Sent::Yielded(value)) => handle_yield(this, event_loop, &value),
        Ok(Sent::Returned(value)) => end(this, value),
        Err(raised) => end_with(this, raised),
    }
}

/// The coroutine returned.
#[inline(never)]
fn end(this: &Inst<Task>, value: Ref) -> Fallible<()> {
    registry::unregister(this);
    if this.must_cancel.replace(false) {
        // Cancelled right before the coroutine returned.
        let message = future::cancel_message(&this.core);
        return future::cancel(this, message.as_deref()).map(drop);
    }
    future::finish(this, value)
}

/// The coroutine raised.
#[inline(never)]
fn end_with(this: &Inst<Task>, raised: Raised) -> Fallible<()> {
    registry::unregister(this);
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
#[inline(always)]
fn handle_yield(this: &Inst<Task>, event_loop: &Obj, yielded: &Obj) -> Fallible<()> {
    if let Some(future) = Inst::<Future>::exactly(yielded) {
        return wait_for(this, future);
    }
    if yielded.is_none() {
        return queue_step(this, event_loop);
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
    future::call_soon(&event_loop, &*wakeup_callable(this)?, &[&future], &*context(this)?)
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
#[inline(never)]
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
        &[&wakeup, &*context(this)?],
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
