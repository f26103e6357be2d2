//! Who is told natively that a future of ours is done: `gather`, a `TaskGroup`, …
//!
//! asyncio gives a future a callback, which the loop calls by a handle in the iteration after. These stand in the same
//! places, among the future's callbacks and in the loop's queue, but as objects of ours: no context is copied, no
//! handle made. The futures that are done wait in the listener itself, in order, one for each job in the queue.
//! Futures and loops that are not ours get a callable.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::as_completed::Completing;
use crate::callbacks::Entry;
use crate::cpython::object::{self, none};
use crate::cpython::{Class, Fallible, Inst, Obj, Own, Ref, Visitor};
use crate::event_loop::EventLoop;
use crate::future::{self, Future, FutureLike};
use crate::gather::Gathering;
use crate::handle;
use crate::race::Race;
use crate::shield::Shielding;
use crate::task::Task;
use crate::task_group::TaskGroup;
use crate::wait::Waiting;
use crate::waiters;

/// One that is told.
#[derive(Clone, Debug)]
pub enum Listener {
    Gather(Own<Gathering>),
    Group(Own<TaskGroup>),
    Shield(Own<Shielding>),
    Wait(Own<Waiting>),
    Completed(Own<Completing>),
    Race(Own<Race>),
}

/// Does the same with every kind of listener.
macro_rules! of_any {
    ($listener:expr, $name:ident => $body:expr) => {
        match $listener {
            Listener::Gather($name) => $body,
            Listener::Group($name) => $body,
            Listener::Shield($name) => $body,
            Listener::Wait($name) => $body,
            Listener::Completed($name) => $body,
            Listener::Race($name) => $body,
        }
    };
}

fn hear<T: Listens>(listener: &Inst<T>, future: &Obj) -> Fallible<()> {
    T::hear(listener, future)
}

fn method<T: Listens>(_listener: &Inst<T>) -> &'static std::ffi::CStr {
    T::METHOD
}

/// The futures that are done and of which the listener has not heard yet.
#[derive(Debug, Default)]
pub struct Told(RefCell<VecDeque<Ref>>);

impl Told {
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(told) = self.0.try_borrow() {
            told.iter().for_each(|future| visitor.object(future));
        }
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}

/// A class whose instances listen.
pub trait Listens: Class {
    fn told(&self) -> &Told;
    /// A future is done: what asyncio's callback does.
    fn hear(this: &Inst<Self>, future: &Obj) -> Fallible<()>;
    /// The name of the method that does it.
    const METHOD: &'static std::ffi::CStr;
}

impl Listener {
    fn told(&self) -> &Told {
        of_any!(self, listener => listener.told())
    }

    /// Notes a future that is done; a job follows.
    #[inline(always)]
    pub fn note(&self, future: Ref) {
        self.told().0.borrow_mut().push_back(future);
    }

    /// Hears of the next one.
    #[inline]
    pub fn hear(&self) -> Fallible<()> {
        let Some(future) = self.told().0.borrow_mut().pop_front() else { return Ok(()) };
        of_any!(self, listener => hear(&**listener, &future))
    }

    /// The listener itself.
    pub fn obj(&self) -> &Obj {
        of_any!(self, listener => listener.obj())
    }

    /// A callable that does the same, for futures and loops that are not ours.
    pub fn callable(&self) -> Fallible<Ref> {
        let method = of_any!(self, listener => method(&**listener));
        self.obj().get(&*object::interned(method)?)
    }

    /// The handle that asyncio would have queued.
    pub fn as_handle(&self) -> Fallible<Ref> {
        let future = self.told().0.borrow().front().cloned().unwrap_or_else(|| none().own());
        let event_loop = crate::ensure_future::loop_of(&future)?;
        let context = crate::cpython::context::copy_current()?;
        handle::with_context(&event_loop, &*self.callable()?, &[&future], context).map(Own::into_ref)
    }
}

/// Has the listener told when the future is done.
#[inline(always)]
pub fn listen(future: &Obj, listener: Listener) -> Fallible<()> {
    match Inst::<Task>::exactly(future).filter(|task| task.core().is_pending()) {
        Some(task) => {
            task.core().callbacks.push(Entry::Listener(listener));
            Ok(())
        }
        None => listen_otherwise(future, listener),
    }
}

#[inline(never)]
fn listen_otherwise(future: &Obj, listener: Listener) -> Fallible<()> {
    if let Some(task) = Inst::<Task>::exactly(future) {
        return listen_natively(task, listener);
    }
    if let Some(future) = Inst::<Future>::exactly(future) {
        return listen_natively(future, listener);
    }
    let name = &crate::state::state().names.add_done_callback;
    future.call_method(name, &[&*listener.callable()?]).map(drop)
}

/// Has the listener told no more.
pub fn unlisten(future: &Obj, listener: &Listener) -> Fallible<()> {
    match waiters::core_of(future) {
        // One that is done has told everybody.
        Some(core) if !core.is_pending() => Ok(()),
        Some(core) => core.callbacks.remove(&*listener.callable()?).map(drop),
        None => {
            let name = object::interned(c"remove_done_callback")?;
            future.call_method(&name, &[&*listener.callable()?]).map(drop)
        }
    }
}

#[inline]
fn listen_natively<T: FutureLike>(future: &Inst<T>, listener: Listener) -> Fallible<()> {
    future::add_entry(future, Entry::Listener(listener))
}

/// Runs a job of the queue.
pub fn run(event_loop: &Inst<EventLoop>, listener: &Listener) -> Fallible<()> {
    match listener.hear() {
        Ok(()) => Ok(()),
        Err(raised) => handle::failed(event_loop.obj(), raised, || {
            let context = crate::cpython::context::copy_current()?;
            handle::with_context(event_loop.obj(), &*listener.callable()?, &[], context).map(Own::into_ref)
        }),
    }
}
