//! What happens when a future is done: those who wait for it are queued, on whichever loop it is.
//!
//! What must stay true: nobody is told within the call that ends the future; each is told once, in the order in which they came.

use super::{FutureLike, loop_of};
use crate::callbacks::Entry;
use crate::cpython::{Fallible, Inst, Obj, Own};
use crate::event_loop::EventLoop;
use crate::listener::Listener;
use crate::state::state;
use crate::task::Task;

/// Tells everybody that the future is done.
#[inline]
pub(super) fn tell<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    let callbacks = &this.core().callbacks;
    if callbacks.are_listed() {
        return tell_many(this);
    }
    match callbacks.take_first() {
        Some(Entry::Waiter(task)) => wake(this, task),
        Some(Entry::Listener(listener)) => notify(this, listener),
        Some(entry) => tell_one(this, entry),
        None => Ok(()),
    }
}

/// Tells a task of ours that awaits the future.
#[inline(always)]
fn wake<T: FutureLike>(this: &Inst<T>, task: Own<Task>) -> Fallible<()> {
    let event_loop = loop_of(this)?;
    match EventLoop::direct(&event_loop) {
        Some(ours) => ours.push_wakeup(task),
        None => wake_elsewhere(this, &event_loop, &task),
    }
}

#[inline(never)]
fn wake_elsewhere<T: FutureLike>(this: &Inst<T>, event_loop: &Obj, task: &Inst<Task>) -> Fallible<()> {
    call_soon(event_loop, &*crate::task::wakeup_callable(task)?, &[this.obj()], &*crate::task::context(task)?)
}

/// Tells one of those who are told natively.
#[inline]
fn notify<T: FutureLike>(this: &Inst<T>, listener: Listener) -> Fallible<()> {
    let event_loop = loop_of(this)?;
    match EventLoop::direct(&event_loop) {
        Some(ours) => {
            listener.note(this.obj().own());
            ours.push_listener(listener)
        }
        None => notify_elsewhere(this, &event_loop, &listener),
    }
}

#[inline(never)]
fn notify_elsewhere<T: FutureLike>(this: &Inst<T>, event_loop: &Obj, listener: &Listener) -> Fallible<()> {
    let context = crate::cpython::context::copy_current()?;
    call_soon(event_loop, &*listener.callable()?, &[this.obj()], &context)
}

#[inline(never)]
fn tell_many<T: FutureLike>(this: &Inst<T>) -> Fallible<()> {
    for entry in this.core().callbacks.take() {
        tell_one(this, entry)?;
    }
    Ok(())
}

/// Tells one of those who wait.
#[inline(never)]
pub(super) fn tell_one<T: FutureLike>(this: &Inst<T>, entry: Entry) -> Fallible<()> {
    match entry {
        Entry::Waiter(task) => wake(this, task),
        Entry::Listener(listener) => notify(this, listener),
        Entry::Callback(callback, context) => {
            let event_loop = loop_of(this)?;
            match EventLoop::direct(&event_loop) {
                Some(ours) => ours.call_soon(&callback, &[this.obj()], Some(&context)).map(drop),
                None => call_soon(&event_loop, &callback, &[this.obj()], &context),
            }
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
