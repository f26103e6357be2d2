//! The one room of this crate in which `unsafe` may stand: a loop's table, coming in and going out; and what belongs to one
//! thread, in objects that Python may take anywhere.
//!
//! What must stay true: a table is only believed in a capsule of its name; a table made here lies in the [`Foreign`] that it is
//! of; what belongs to a thread is seen and dropped there only.

use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use velodrome::host::{CallFn, Guest, HOST_VERSION, Host, Incompatible, Interest, TimerId, Watch};

use crate::foreign::Foreign;

/// What the capsule of a loop is called.
const CAPSULE: &CStr = c"velodrome.Host";

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
// A function to call.

/// What was handed in through a table that was made here: called once, or again and again, or given back.
#[derive(Debug)]
pub(crate) struct Asked {
    function: CallFn,
    data: *mut c_void,
    /// Where it may be called; `None` is anywhere.
    thread: Option<ThreadId>,
    again: bool,
    owns_data: AtomicBool,
}

// SAFETY: the data is only ever handed to its function, on the thread that the function was meant for.
unsafe impl Send for Asked {}
// SAFETY: as above; what changes is atomic.
unsafe impl Sync for Asked {}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It was made, or there was none to make any more.
    Here,
    /// It belongs to another thread.
    Elsewhere,
}

impl Asked {
    fn new(function: CallFn, data: *mut c_void, thread: Option<ThreadId>, again: bool) -> Self {
        Asked { function, data, thread, again, owns_data: AtomicBool::new(true) }
    }

    /// Gives the data back; `false` if it was handed over or given back before.
    pub(crate) fn give_up(&self) -> bool {
        self.owns_data.swap(false, Ordering::AcqRel)
    }

    /// Makes the call, unless it was cancelled or belongs to another thread.
    pub(crate) fn run(&self) -> Ran {
        if self.thread.is_some_and(|thread| thread != thread::current().id()) {
            return Ran::Elsewhere;
        }
        let owned = if self.again { self.owns_data.load(Ordering::Acquire) } else { self.give_up() };
        if owned {
            // SAFETY: the function was handed in with this data, to be called on this thread; it does not unwind.
            unsafe { (self.function)(self.data) }
        }
        Ran::Here
    }
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
        let thread = foreign.is_own_thread().then(|| thread::current().id());
        foreign.schedule(Arc::new(Asked::new(call, data, thread, false)))
    })
}

unsafe extern "C" fn timer_set(context: *mut c_void, at: u64, call: CallFn, data: *mut c_void) -> TimerId {
    // SAFETY: the caller has a share of the loop.
    let foreign = unsafe { foreign(context) };
    let asked = Arc::new(Asked::new(call, data, Some(thread::current().id()), false));
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
    let asked = Arc::new(Asked::new(call, data, Some(thread::current().id()), true));
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
    let asked = Arc::new(Asked::new(call, data, Some(thread::current().id()), true));
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
