//! The one room of this crate in which `unsafe` may stand: a loop's table, coming in and going out; and what belongs to one
//! thread, in objects that Python may take anywhere.
//!
//! What must stay true: a table is only believed in a capsule of its name; a table made here lies in the [`Foreign`] that it is
//! of; what belongs to a thread is seen and dropped there only.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use velodrome::host::{
    Asked, CAPSULE, CallFn, Guest, HOST_VERSION, Host, Incompatible, Interest, TimerId, Watch,
};

use crate::foreign::Foreign;

/// The loop of a capsule, which runs in this thread. `None` if it is not a capsule of a loop.
pub(crate) fn guest_of_capsule(capsule: &Bound<'_, PyAny>) -> Option<Result<Guest, Incompatible>> {
    let capsule = capsule.cast::<PyCapsule>().ok()?;
    let table = capsule.pointer_checked(Some(CAPSULE)).ok()?;
    // SAFETY: a capsule of that name holds the table of the loop that it was asked of, with a share; that loop is running here.
    Some(unsafe { Guest::from_raw(table.cast()) })
}

/// The loop of a table that was made here.
pub(crate) fn guest_of_foreign(foreign: &Arc<Foreign>) -> Result<Guest, Incompatible> {
    // SAFETY: the table lies in the structure, which is borrowed; its loop is running here, or the caller could not have it.
    unsafe { Guest::from_raw(NonNull::from(&foreign.table().0)) }
}

// ---------------------------------------------------------------------------------------------------------------
// A table.

/// A table that lies in the loop that it is of.
#[derive(Debug)]
pub(crate) struct Table(Host);

// SAFETY: its pointer is to the structure that it lies in, which is `Send` and `Sync` itself.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// The table of a loop that is being made.
pub(crate) fn table(foreign: &Weak<Foreign>) -> Table {
    Table(Host {
        version: HOST_VERSION,
        size: size_of::<Host>() as u32,
        context: foreign.as_ptr().cast_mut().cast(),
        retain,
        release,
        schedule,
        timer_set,
        timer_cancel,
        descriptor_add,
        descriptor_remove,
        now,
        turn,
        at_close,
    })
}

/// Nothing unwinds out of the table.
fn contained<R>(otherwise: R, work: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // Dropping a payload can panic again.
        std::mem::forget(payload);
        otherwise
    })
}

/// # Safety
///
/// `context` is that of a table made here, and somebody has a share of it.
unsafe fn foreign<'a>(context: *mut c_void) -> &'a Foreign {
    // SAFETY: as promised.
    unsafe { &*context.cast_const().cast::<Foreign>() }
}

unsafe extern "C" fn retain(context: *mut c_void) {
    // SAFETY: it is an `Arc`'s, of which the caller has a share.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<Foreign>()) }
}

unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: as above; the caller gives their share up.
    contained((), || unsafe { Arc::decrement_strong_count(context.cast_const().cast::<Foreign>()) });
}

unsafe extern "C" fn schedule(context: *mut c_void, call: CallFn, data: *mut c_void) -> bool {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    contained(false, || {
        // SAFETY: it may be called on the loop's thread. What that thread itself asks for may be called there alone.
        let asked = unsafe {
            if foreign.is_own_thread() { Asked::here(call, data) } else { Asked::anywhere(call, data) }
        };
        foreign.schedule(Arc::new(asked))
    })
}

unsafe extern "C" fn timer_set(context: *mut c_void, at: u64, call: CallFn, data: *mut c_void) -> TimerId {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    // SAFETY: timers are set on the loop's thread, to be called once on it.
    let asked = Arc::new(unsafe { Asked::here(call, data) });
    contained(TimerId(0, 0), || foreign.timer_set(at, asked))
}

unsafe extern "C" fn timer_cancel(context: *mut c_void, timer: TimerId) -> bool {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    contained(false, || foreign.timer_cancel(timer))
}

unsafe extern "C" fn descriptor_add(
    context: *mut c_void,
    descriptor: c_int,
    interest: Interest,
    call: CallFn,
    data: *mut c_void,
    watch: *mut Watch,
) -> c_int {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    // SAFETY: a descriptor is watched on the loop's thread, to be called on it until that ends.
    let asked = Arc::new(unsafe { Asked::again(call, data) });
    match contained(Err(crate::foreign::EINVAL), || foreign.descriptor_add(descriptor, interest, asked)) {
        Ok(added) => {
            // SAFETY: the caller gave a place for it.
            unsafe { watch.write(added) };
            0
        }
        Err(errno) => errno,
    }
}

unsafe extern "C" fn descriptor_remove(context: *mut c_void, watch: Watch) -> bool {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    contained(false, || foreign.descriptor_remove(watch))
}

unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    // SAFETY: the caller has a share of the loop.
    unsafe { foreign(context) }.now()
}

unsafe extern "C" fn turn(context: *mut c_void) -> u64 {
    // SAFETY: the caller has a share of the loop.
    unsafe { foreign(context) }.turn()
}

unsafe extern "C" fn at_close(context: *mut c_void, call: CallFn, data: *mut c_void) {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    // SAFETY: asked for on the loop's thread, to be called on it in each round of its closing.
    let asked = Arc::new(unsafe { Asked::again(call, data) });
    contained((), || foreign.at_close(asked));
}

// ---------------------------------------------------------------------------------------------------------------
// What belongs to one thread.

/// A value that belongs to the thread that made it, in an object that may be taken anywhere. Dropped on another thread, it is
/// leaked: see [`ThreadBound::is_here`].
#[derive(Debug)]
pub(crate) struct ThreadBound<T> {
    owner: ThreadId,
    value: ManuallyDrop<T>,
}

// SAFETY: only the owner's thread gets to see the value, or drops it.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    pub(crate) fn new(value: T) -> Self {
        ThreadBound { owner: thread::current().id(), value: ManuallyDrop::new(value) }
    }

    /// Whether this is the value's thread.
    pub(crate) fn is_here(&self) -> bool {
        self.owner == thread::current().id()
    }

    /// The value, on its thread.
    pub(crate) fn get(&self) -> Option<&T> {
        self.is_here().then(|| &*self.value)
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: dropped once, on its own thread.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
