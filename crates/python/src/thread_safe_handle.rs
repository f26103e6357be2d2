//! `ThreadSafeHandle`: a callback from another thread, on Pythons (3.14 and later) where cancelling one waits for a
//! callback that has begun.
//!
//! asyncio holds an `RLock` while the callback runs. Here it is a mutex and the number of the thread that holds it. It
//! is never waited for with the GIL held, because whoever holds it may want the GIL.

use std::cell::Cell;
use std::sync::{Mutex, TryLockError};

use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Base, Class, Fallible, Home, Inst, Obj, Own, Ref, Spec, Visitor, gil};
use crate::handle;
use crate::state::state;

/// The class `ThreadSafeHandle`.
#[derive(Debug)]
pub struct ThreadSafeHandle {
    mutex: Mutex<()>,
    /// The thread that holds the mutex; 0 is none.
    holder: Cell<u64>,
}

static HOME: Home = Home::new();

impl Class for ThreadSafeHandle {
    const NAME: &'static std::ffi::CStr = c"velodrome.ThreadSafeHandle";
    const KEPT: usize = crate::cpython::class::KEPT;
    const BASE: Base = Base::Python;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> ThreadSafeHandle {
        ThreadSafeHandle { mutex: Mutex::new(()), holder: Cell::new(0) }
    }

    fn traverse(this: &Inst<ThreadSafeHandle>, visitor: &mut Visitor<'_>) {
        handle::traverse_slots(this, visitor);
        visitor.slot(this.lock_slot());
    }

    fn clear(this: &Inst<ThreadSafeHandle>) {
        handle::clear_slots(this);
        this.lock_slot().clear();
    }

    fn dying(this: &Inst<ThreadSafeHandle>) {
        ThreadSafeHandle::clear(this);
    }
}

/// A new handle.
pub fn create(
    event_loop: &Obj,
    callback: &Obj,
    arguments: &[&Obj],
    context: Ref,
) -> Fallible<Own<ThreadSafeHandle>> {
    let new = Own::<ThreadSafeHandle>::new()?;
    handle::fill(&*new, event_loop, callback, handle::arguments_tuple(arguments)?, context)?;
    Ok(new)
}

/// Runs something while no other thread runs or cancels the handle.
fn alone<R>(this: &Inst<ThreadSafeHandle>, work: impl FnOnce() -> R) -> R {
    let me = gil::thread_id();
    if this.holder.get() == me {
        return work();
    }
    let guard = loop {
        match this.mutex.try_lock() {
            Ok(guard) => break guard,
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            // Waits until the other is done, then tries again with the GIL.
            Err(TryLockError::WouldBlock) => {
                let mutex = &this.mutex;
                gil::released(move || drop(mutex.lock()));
            }
        }
    };
    this.holder.set(me);
    let outcome = work();
    this.holder.set(0);
    drop(guard);
    outcome
}

/// Calls the callback, unless it was cancelled.
pub fn run(this: &Inst<ThreadSafeHandle>) -> Fallible<()> {
    alone(this, || handle::run(this))
}

fn py_run(this: &Inst<ThreadSafeHandle>) -> Fallible<Ref> {
    run(this)?;
    Ok(none().own())
}

fn py_cancel(this: &Inst<ThreadSafeHandle>) -> Fallible<Ref> {
    alone(this, || handle::cancel(this))?;
    Ok(none().own())
}

fn py_cancelled(this: &Inst<ThreadSafeHandle>) -> Fallible<Ref> {
    Ok(boolean(alone(this, || handle::is_cancelled(this))).own())
}

/// Makes the class, if the version has its base.
pub fn define() -> Fallible<Option<Ref>> {
    let Some(base) = state().events.get_if_there(&*object::interned(c"_ThreadSafeHandle")?)? else {
        return Ok(None);
    };
    crate::cpython::handle_slots::find_in_thread_safe_handle(&base)?;
    crate::cpython::spec::define::<ThreadSafeHandle>(Spec {
        base: Some(base),
        doc: Some(c"A callback from another thread, as call_soon_threadsafe() returns it."),
        methods: class_methods!(ThreadSafeHandle, "ThreadSafeHandle";
            c"cancel" => none py_cancel,
                c"cancel($self, /)\n--\n\nCancel the callback; if it runs in another thread, wait until it is done.";
            c"cancelled" => none py_cancelled,
                c"cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.";
            c"_run" => none py_run, c"_run($self, /)\n--\n\nCall the callback.";
        ),
        slots: class_slots!(ThreadSafeHandle, "ThreadSafeHandle";),
        ..Spec::default()
    })
    .map(Some)
}
