//! Letting go of the GIL, and asking for signals.

use pyo3::ffi;

use super::object::status;
use super::raised::Fallible;

/// Runs `work` without the GIL. What it captures is `Send`, so no Python object can be among it.
pub fn released<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    struct Reacquire(*mut ffi::PyThreadState);
    impl Drop for Reacquire {
        fn drop(&mut self) {
            // SAFETY: the state that this thread saved, restored once, also when `work` panics.
            unsafe { ffi::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: the GIL is held on entry (see the room's rules) and given back by the guard.
    let _reacquire = Reacquire(unsafe { ffi::PyEval_SaveThread() });
    work()
}

/// Runs the Python handlers of signals that have arrived; does nothing outside the main thread.
#[inline]
pub fn check_signals() -> Fallible<()> {
    // SAFETY: plain call with the GIL held.
    status(unsafe { ffi::PyErr_CheckSignals() })
}

/// An identifier of this thread, as `threading.get_ident()` gives it.
pub fn thread_id() -> u64 {
    // SAFETY: plain call.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}
