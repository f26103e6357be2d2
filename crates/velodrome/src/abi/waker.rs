//! What makes a task run: its wakers, which may be anywhere, and the steps that they queue.
//!
//! What must stay true:
//!
//! - A task is queued at most once by its own thread (`QUEUED`), and polled by one step at a time; a wake while it is being
//!   polled (`WOKEN`) queues it behind all that is ready.
//! - A wake from another thread sets `waking` before it queues the call that runs the task; that call clears it before
//!   it polls. So a wake either finds it clear, and queues a call, or what it announces is seen by the poll to come.
//! - Whatever is queued has a share of the task: one of the loop's thread's, or a waker's if another thread has queued it.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::host_ref::contain;
use super::own_thread::is_this_thread;
use super::raw_task::{DETACHED, DONE, Header, QUEUED, RUNNING, WOKEN, release, release_local};
use crate::sync::Ordering;

/// One step of a task that was queued. The queue's share is handed over.
pub(super) unsafe extern "C" fn step(data: *mut c_void) {
    // SAFETY: it was queued with this.
    let header = unsafe { NonNull::new_unchecked(data.cast::<Header>()) };
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    if !is_this_thread(it.owner) {
        // Somebody else's loop has moved to another thread, where a task cannot follow it. Its share is leaked.
        return;
    }
    it.clear(QUEUED);
    // SAFETY: on the loop's thread, with a share.
    unsafe { run(header) };
}

/// One step of a task that another thread has woken. That waker's share is handed over.
unsafe extern "C" fn step_remote(data: *mut c_void) {
    // SAFETY: it was queued with this.
    let header = unsafe { NonNull::new_unchecked(data.cast::<Header>()) };
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    // Acquire: what the other thread did before it woke is visible to the poll.
    it.waking.swap(false, Ordering::AcqRel);
    // Somebody else's loop may have moved to another thread, where a task cannot follow it.
    if is_this_thread(it.owner) {
        if it.is(RUNNING) {
            // Somebody else's loop is run again within the step.
            it.set(WOKEN);
        } else if !it.is(QUEUED | DONE) {
            it.retain();
            // SAFETY: on the loop's thread, with the share just taken.
            unsafe { run(header) };
        }
    }
    // SAFETY: the share that was handed over.
    unsafe { release(header) };
}

/// Polls the task.
///
/// # Safety
///
/// On the loop's thread, with a share of it that is handed over.
#[inline]
unsafe fn run(header: NonNull<Header>) {
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    if it.is(DONE) {
        // SAFETY: the share that was handed over.
        unsafe { release_local(header) };
        return;
    }
    let _entered = it.cell.enter_guest();
    it.set(RUNNING);
    // Lent: the waker owns no share, and is not dropped.
    // SAFETY: the table is for headers.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(header.as_ptr().cast(), &WAKER)) });
    // SAFETY: this is the step. It does not unwind (`body.rs`); if it did, this function would abort.
    let done = unsafe { (it.vtable.poll)(header, &mut Context::from_waker(&waker)) };
    it.clear(RUNNING);
    if done {
        it.set(DONE);
        if it.is(DETACHED) {
            // SAFETY: the task is over, and its handle is gone.
            contain(|| unsafe { (it.vtable.discard)(header) });
        } else if let Some(waker) = it.join.take() {
            contain(|| waker.wake());
        }
    } else if it.is(WOKEN) {
        it.clear(WOKEN);
        it.set(QUEUED);
        // SAFETY: the share goes to the queue.
        if unsafe { it.host.try_schedule(step, header.as_ptr().cast()) } {
            return;
        }
        it.clear(QUEUED);
    }
    // SAFETY: the share that was handed over.
    unsafe { release_local(header) };
}

pub(super) static WAKER: RawWakerVTable =
    RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

/// # Safety
///
/// `data` is the header of a task of which the waker has a share, or is lent by one who has.
pub(super) unsafe fn waker_clone(data: *const ()) -> RawWaker {
    let header = data.cast::<Header>();
    // SAFETY: the waker has a share, or is lent by one who has.
    unsafe { &*header }.retain_anywhere();
    RawWaker::new(data, &WAKER)
}

/// # Safety
///
/// As for [`waker_clone`]; the share is handed over.
unsafe fn waker_wake(data: *const ()) {
    // SAFETY: the waker's share is handed over, and given up here.
    unsafe {
        waker_wake_by_ref(data);
        waker_drop(data);
    }
}

/// # Safety
///
/// As for [`waker_clone`].
pub(super) unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: the waker has a share.
    let it = unsafe { &*data.cast::<Header>() };
    if is_this_thread(it.owner) {
        if it.is(RUNNING) {
            it.set(WOKEN);
        } else if !it.is(QUEUED | DONE) {
            it.retain();
            // SAFETY: the share that was just taken.
            unsafe { wake_local(NonNull::new_unchecked(data.cast_mut().cast())) };
        }
    } else if !it.waking.swap(true, Ordering::AcqRel) {
        it.retain_anywhere();
        // SAFETY: `step_remote` takes the share over that was just taken, unless the loop is closed.
        if !unsafe { it.host.try_schedule(step_remote, data.cast_mut().cast()) } {
            // SAFETY: then it is ours still.
            unsafe { release(NonNull::new_unchecked(data.cast_mut().cast())) };
        }
    }
}

/// Wakes the task from its own thread.
///
/// # Safety
///
/// On the loop's thread, with a share of it that is handed over.
#[inline]
pub(super) unsafe fn wake_local(header: NonNull<Header>) {
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    if it.is(RUNNING) {
        it.set(WOKEN);
    } else if !it.is(QUEUED | DONE) {
        it.set(QUEUED);
        // SAFETY: `step` takes the share over.
        if unsafe { it.host.try_schedule(step, header.as_ptr().cast()) } {
            return;
        }
        // The loop is closed. If it is somebody else's, the task may still be cancelled.
        it.clear(QUEUED);
    }
    // SAFETY: the share is not needed.
    unsafe { release_local(header) };
}

/// # Safety
///
/// As for [`waker_wake`].
unsafe fn waker_drop(data: *const ()) {
    // SAFETY: the waker's share.
    unsafe { release(NonNull::new_unchecked(data.cast_mut().cast())) };
}
