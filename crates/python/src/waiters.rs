//! `Waiters`: the futures by which tasks wait for a lock, an event or a queue; and the loop that they belong to.
//!
//! The loop is the one that runs when somebody first has to wait, as asyncio's mixin has it. Its futures may be
//! ours or another loop's; what is asked of them goes the short way for ours.

use std::cell::Cell;

use crate::cpython::object::none;
use crate::cpython::{Fallible, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::deque::Deque;
use crate::event_loop::EventLoop;
use crate::future::{self, Future, FutureCore, FutureLike, Progress};
use crate::state::state;
use crate::task::{self, Task};

/// The loop that an object is bound to, once somebody has waited.
#[derive(Debug, Default)]
pub struct BoundLoop(pub Slot);

impl BoundLoop {
    /// `_loop = …`.
    pub fn set(&self, event_loop: Option<&Obj>) {
        match event_loop {
            Some(event_loop) => self.0.set(event_loop.own()),
            None => self.0.clear(),
        }
    }

    pub fn clear(&self) {
        self.0.clear();
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.0);
    }

    /// The running loop, which has to be the one that `owner` is bound to; `None` outside of any.
    #[inline]
    pub fn get(&self, owner: &Obj) -> Fallible<Ref> {
        match self.0.get() {
            Some(bound) if crate::registry::is_running_loop(&bound) => Ok(bound),
            _ => self.bind(owner),
        }
    }

    #[inline(never)]
    fn bind(&self, owner: &Obj) -> Fallible<Ref> {
        let running = crate::registry::running_loop()?.unwrap_or_else(|| none().own());
        if self.0.is_empty() || self.0.holds(none()) {
            self.0.set(running.clone());
        }
        if !self.0.holds(&running) {
            let owner = owner.shown();
            return Err(Raised::runtime_error(&format!("{owner} is bound to a different event loop")));
        }
        Ok(running)
    }

    /// A future of that loop.
    #[inline]
    pub fn create_future(&self, owner: &Obj) -> Fallible<Ref> {
        create_future(&*self.get(owner)?)
    }
}

/// Futures in the order in which they came.
#[derive(Debug, Default)]
pub struct Waiters {
    deque: Deque,
    /// Whether anybody has ever waited; before, some of asyncio's classes show `None`.
    used: Cell<bool>,
}

impl Waiters {
    #[inline]
    pub fn is_empty(&self) -> Fallible<bool> {
        self.deque.is_empty()
    }

    pub fn len(&self) -> Fallible<usize> {
        self.deque.len()
    }

    /// Adds a future at the end.
    #[inline]
    pub fn push(&self, future: Ref) -> Fallible<()> {
        self.used.set(true);
        self.deque.push(future)
    }

    /// Takes out the first one.
    #[inline]
    pub fn pop(&self) -> Fallible<Option<Ref>> {
        self.deque.pop()
    }

    /// Removes a future that no longer waits.
    #[inline]
    pub fn remove(&self, future: &Obj) -> Fallible<bool> {
        self.deque.remove(future)
    }

    /// The first one.
    #[inline]
    pub fn first(&self) -> Fallible<Option<Ref>> {
        self.deque.first()
    }

    /// Whether all of them are cancelled, or there are none.
    pub fn all_cancelled(&self) -> Fallible<bool> {
        for waiter in self.deque.walk()? {
            if !is_cancelled(&waiter)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends up to `count` of those that are not done, with this result; says how many there were.
    #[inline(never)]
    pub fn wake(&self, count: usize, result: &Obj) -> Fallible<usize> {
        let mut woken = 0;
        for waiter in self.deque.walk()? {
            if woken >= count {
                break;
            }
            if !is_done(&waiter)? {
                set_result(&waiter, result)?;
                woken += 1;
            }
        }
        Ok(woken)
    }

    /// Ends the first of them that is not done, with this result; says whether there was one.
    #[inline]
    pub fn wake_one(&self, result: &Obj) -> Fallible<bool> {
        // Not being ours counts as pending, to be looked at more closely.
        match self.deque.first_native(|waiter| core_of(waiter).is_none_or(FutureCore::is_pending)) {
            Some(None) => Ok(false),
            Some(Some(first)) if Inst::<Future>::exactly(&first).is_some() => {
                set_result(&first, result).map(|()| true)
            }
            _ => self.wake(1, result).map(|woken| woken > 0),
        }
    }

    /// Takes out the first ones up to and including one that is not done, and ends that.
    #[inline]
    pub fn wake_and_remove(&self) -> Fallible<()> {
        if self.deque.is_empty()? { Ok(()) } else { self.wake_and_remove_some() }
    }

    #[inline(never)]
    fn wake_and_remove_some(&self) -> Fallible<()> {
        while let Some(waiter) = self.deque.pop()? {
            if !is_done(&waiter)? {
                return set_result(&waiter, none());
            }
        }
        Ok(())
    }

    /// `_waiters`, as a deque.
    pub fn show(&self) -> Fallible<Ref> {
        self.deque.show()
    }

    /// `_waiters`, or `None` before anybody has waited.
    pub fn show_if_used(&self) -> Fallible<Ref> {
        if self.used.get() { self.deque.show() } else { Ok(none().own()) }
    }

    /// `_waiters = …`.
    pub fn replace(&self, value: Option<&Obj>) -> Fallible<()> {
        match value.filter(|value| !value.is_none()) {
            Some(value) => {
                self.used.set(true);
                self.deque.replace(value.own());
            }
            None => {
                self.used.set(false);
                self.deque.clear();
            }
        }
        Ok(())
    }

    pub fn clear(&self) {
        self.deque.clear();
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        self.deque.traverse(visitor);
    }
}

/// `event_loop.create_future()`.
#[inline(always)]
pub fn create_future(event_loop: &Obj) -> Fallible<Ref> {
    if let Some(ours) = Inst::<EventLoop>::of(event_loop)
        && !ours.hooks().create_future
        && !ours.hooks().future_class
    {
        return future::create(ours).map(Own::into_ref);
    }
    create_future_otherwise(event_loop)
}

#[inline(never)]
fn create_future_otherwise(event_loop: &Obj) -> Fallible<Ref> {
    event_loop.call_method(&state().names.create_future, &[])
}

/// What is inside, if this is exactly a future or a task of ours.
#[inline]
pub fn core_of(future: &Obj) -> Option<&FutureCore> {
    match Inst::<Future>::exactly(future) {
        Some(future) => Some(future.core()),
        None => Inst::<Task>::exactly(future).map(|task| task.core()),
    }
}

/// `future.done()`.
#[inline]
pub fn is_done(future: &Obj) -> Fallible<bool> {
    match core_of(future) {
        Some(core) => Ok(!core.is_pending()),
        None => future.call_method(&state().names.done, &[])?.truthy(),
    }
}

/// `future.cancelled()`.
#[inline]
pub fn is_cancelled(future: &Obj) -> Fallible<bool> {
    match core_of(future) {
        Some(core) => Ok(core.progress.get() == Progress::Cancelled),
        None => future.call_method(&state().names.cancelled_method, &[])?.truthy(),
    }
}

/// `future.set_result(result)`.
#[inline]
pub fn set_result(future: &Obj, result: &Obj) -> Fallible<()> {
    match Inst::<Future>::exactly(future) {
        Some(ours) => future::finish(ours, result.own()),
        None => future.call_method(&state().names.set_result, &[result]).map(drop),
    }
}

/// `future.result()`.
#[inline]
pub fn result(future: &Obj) -> Fallible<Ref> {
    if let Some(task) = Inst::<Task>::exactly(future) {
        return future::result(task);
    }
    match Inst::<Future>::exactly(future) {
        Some(ours) => future::result(ours),
        None => future.call_method(&state().names.result, &[]),
    }
}

/// `future.cancel()`.
pub fn cancel(future: &Obj) -> Fallible<()> {
    match task::cancel_ours(future, None) {
        Some(outcome) => outcome.map(drop),
        None => future.call_method(&state().names.cancel, &[]).map(drop),
    }
}

/// `<… object at 0x… [extra, waiters:n]>`.
pub fn repr_with(owner: &Obj, extra: &str, waiters: &Waiters) -> Fallible<Ref> {
    let plain = owner.plain_repr()?.to_text();
    let inner = plain.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(&plain);
    let text = match waiters.len()? {
        0 => format!("<{inner} [{extra}]>"),
        count => format!("<{inner} [{extra}, waiters:{count}]>"),
    };
    crate::cpython::object::text(&text)
}
