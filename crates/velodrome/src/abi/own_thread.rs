//! [`OwnThread`]: a value that only the thread that made it can reach, inside something that all threads hold.
//!
//! What must stay true: a thread's number is never used again, so the check cannot be passed by a later thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(not(velodrome_model))]
thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
#[cfg(velodrome_model)]
loom::thread_local!(static NUMBER: Cell<u64> = Cell::new(0));

/// The number of this thread; never zero.
#[inline]
pub(super) fn this_thread() -> u64 {
    #[cold]
    fn assign() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.with(|it| it.set(number));
        number
    }

    match NUMBER.with(Cell::get) {
        0 => assign(),
        number => number,
    }
}

/// Whether a number that a thread has got is this one's.
#[inline]
pub(super) fn is_this_thread(number: u64) -> bool {
    NUMBER.with(Cell::get) == number
}

/// A value and the thread that it belongs to. It may be dropped on any thread, so it must be `Send`.
#[derive(Debug)]
pub(crate) struct OwnThread<T> {
    owner: u64,
    value: T,
}

// SAFETY: a shared reference gives access to the value on one thread only, its owner's; whoever drops it has it alone, and
// `T` may be sent to them.
unsafe impl<T: Send> Sync for OwnThread<T> {}

impl<T> OwnThread<T> {
    pub(crate) fn new(value: T) -> Self {
        OwnThread { owner: this_thread(), value }
    }

    /// The value, if this is its thread.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        is_this_thread(self.owner).then_some(&self.value)
    }
}
