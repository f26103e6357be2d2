//! [`TaskTimer`]: a timer that wakes a task.
//!
//! What must stay true: a timer that is set has one of the loop's thread's shares of its task; who takes the timer away, or
//! runs it, gives that up.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::task::Waker;

use super::host_ref::LocalHost;
use super::local_waker::share_of;
use super::own_thread::is_this_thread;
use super::raw_task::{Header, release_local};
use super::waker::wake_local;
use crate::host::TimerId;

/// A timer that wakes a task, and needs no memory of its own for that.
pub(crate) struct TaskTimer {
    /// Only to be compared: the share is the timer's.
    task: NonNull<Header>,
    timer: TimerId,
}

impl TaskTimer {
    /// Sets a timer for the task that a waker wakes. `None` if it wakes something else, or nothing any more.
    #[inline]
    pub(crate) fn set(host: &LocalHost, at: u64, waker: &Waker) -> Option<Self> {
        let task = share_of(waker)?;
        // SAFETY: `ring` takes the share over that was just taken.
        let timer = unsafe { host.timer_call(at, ring, task.as_ptr().cast()) };
        Some(TaskTimer { task, timer })
    }

    /// Whether it wakes what the waker wakes.
    #[inline]
    pub(crate) fn wakes(&self, waker: &Waker) -> bool {
        self.task.as_ptr().cast_const().cast() == waker.data()
    }

    /// Cancels it, on the host on which it was set.
    #[inline]
    pub(crate) fn cancel(self, host: &LocalHost) {
        if host.timer_uncall(self.timer) {
            // SAFETY: the share that was handed in is given back.
            unsafe { release_local(self.task) };
        }
    }
}

/// A timer's time has come. Its share of the task is handed over.
pub(super) unsafe extern "C" fn ring(data: *mut c_void) {
    // SAFETY: it was set with this, and a share. Somebody else's loop may have moved to another thread, where a task cannot follow
    // it: there the share is leaked.
    unsafe {
        let header = NonNull::new_unchecked(data.cast::<Header>());
        if is_this_thread(header.as_ref().owner) {
            wake_local(header);
        }
    }
}
