//! [`LocalWaker`]: what wakes a task, kept on the task's own thread.
//!
//! Whoever waits beside the task on its loop's thread (for a lock, a queue, another task) keeps one of these rather than a clone
//! of the waker: its share of the task is one of the loop's thread's, which is counted without atomic operations, and becomes
//! the queue's when it wakes.
//!
//! What must stay true: the share is used on the loop's thread only. On another one, where a value that was leaked and sent may
//! bring it, it is leaked.

use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::own_thread::is_this_thread;
use super::raw_task::{DONE, Header, release_local};
use super::waker::{WAKER, wake_local, waker_clone, waker_wake_by_ref};

/// A waker of this table has a share of the loop's thread's. Nobody else gets to see it; its clones are ordinary ones.
static LOCAL: RawWakerVTable = RawWakerVTable::new(waker_clone, local_wake, waker_wake_by_ref, local_drop);

/// What a waker wakes.
#[derive(Debug)]
pub(crate) struct LocalWaker(Waker);

impl LocalWaker {
    /// What a waker wakes, without atomic operations if that is a task of this thread.
    #[inline]
    pub(crate) fn of(waker: &Waker) -> Self {
        LocalWaker(match share_of(waker) {
            // SAFETY: the table is for headers, of which this has a share of the loop's thread's.
            Some(task) => unsafe { Waker::from_raw(RawWaker::new(task.as_ptr().cast(), &LOCAL)) },
            None => waker.clone(),
        })
    }

    /// What a waker wakes: `kept`, if that wakes the same.
    #[inline]
    pub(crate) fn keep(kept: Option<Self>, waker: &Waker) -> Self {
        kept.filter(|kept| kept.will_wake(waker)).unwrap_or_else(|| LocalWaker::of(waker))
    }

    /// Whether it wakes what the waker wakes.
    #[inline]
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        self.0.data() == waker.data()
            && (self.0.vtable() == waker.vtable()
                || std::ptr::eq(self.0.vtable(), &LOCAL) && std::ptr::eq(waker.vtable(), &WAKER))
    }

    #[inline]
    pub(crate) fn wake(self) {
        self.0.wake();
    }
}

/// A new share, of the loop's thread's, of the task that a waker wakes. `None` if it wakes something else, or a task of another
/// thread, or one that is over: that may have no such share any more, only wakers, and then their count never rises again.
#[inline]
pub(super) fn share_of(waker: &Waker) -> Option<NonNull<Header>> {
    if !std::ptr::eq(waker.vtable(), &WAKER) {
        return None;
    }
    let task = NonNull::new(waker.data().cast_mut().cast::<Header>())?;
    // SAFETY: a waker with this table is of a task, and has a share or is lent by one who has.
    let it = unsafe { task.as_ref() };
    let ours = is_this_thread(it.owner) && !it.is(DONE);
    ours.then(|| {
        it.retain();
        task
    })
}

/// # Safety
///
/// `data` is the header of a task of which the waker has a share of the loop's thread's, which is handed over.
unsafe fn local_wake(data: *const ()) {
    // SAFETY: the waker's share, which no other thread gives up.
    unsafe {
        let header = NonNull::new_unchecked(data.cast_mut().cast::<Header>());
        if is_this_thread(header.as_ref().owner) {
            wake_local(header);
        } else {
            waker_wake_by_ref(data);
        }
    }
}

/// # Safety
///
/// As for [`local_wake`].
unsafe fn local_drop(data: *const ()) {
    // SAFETY: the waker's share, which no other thread gives up.
    unsafe {
        let header = NonNull::new_unchecked(data.cast_mut().cast::<Header>());
        if is_this_thread(header.as_ref().owner) {
            release_local(header);
        }
    }
}
