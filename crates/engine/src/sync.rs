//! What threads share, from `std`; or from loom, in a build with `--cfg velodrome_model`, which tries the orders in which
//! threads can come (`tests/model.rs`).
//!
//! What must stay true: whatever two threads touch is made of what is named here, or the model does not see it. The kernel's
//! part of a wait is [`Level`].

#[cfg(velodrome_model)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(velodrome_model))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// Whether the wake-up pipe is readable, and who waits for that. The model cannot see into the kernel, and a thread that
/// blocks there would block all of its threads.
#[cfg(velodrome_model)]
#[derive(Debug, Default)]
pub(crate) struct Level {
    high: Mutex<bool>,
    rises: loom::sync::Condvar,
}

#[cfg(velodrome_model)]
impl Level {
    pub(crate) fn new() -> Self {
        Level::default()
    }

    /// Writes to the pipe.
    pub(crate) fn raise(&self, write: impl FnOnce()) {
        let mut high = self.high.lock().unwrap();
        write();
        *high = true;
        self.rises.notify_all();
    }

    /// Reads from the pipe until it is empty.
    pub(crate) fn lower<R>(&self, read: impl FnOnce() -> R) -> R {
        let mut high = self.high.lock().unwrap();
        *high = false;
        read()
    }

    /// Waits for ever, unless the pipe is or becomes readable.
    pub(crate) fn wait(&self) {
        let mut high = self.high.lock().unwrap();
        while !*high {
            high = self.rises.wait(high).unwrap();
        }
    }
}

/// The kernel knows.
#[cfg(not(velodrome_model))]
#[derive(Debug)]
pub(crate) struct Level;

#[cfg(not(velodrome_model))]
impl Level {
    pub(crate) const fn new() -> Self {
        Level
    }

    #[inline(always)]
    pub(crate) fn raise(&self, write: impl FnOnce()) {
        write();
    }

    #[inline(always)]
    pub(crate) fn lower<R>(&self, read: impl FnOnce() -> R) -> R {
        read()
    }
}
