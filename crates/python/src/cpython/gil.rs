//! Letting go of the GIL, and asking for signals.

use super::ffi;
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

/// Whether this thread holds the GIL.
#[inline]
pub fn is_held() -> bool {
    #[cfg(Py_3_13)]
    // SAFETY: plain call; from 3.12 on the state is the thread's own, and there only while it holds the GIL.
    let held = unsafe { !ffi::PyThreadState_GetUnchecked().is_null() };
    #[cfg(not(Py_3_13))]
    // SAFETY: plain calls. Before 3.12 the state is that of whoever holds the GIL, so it has to be this thread's.
    let held = unsafe {
        unsafe extern "C" {
            fn _PyThreadState_UncheckedGet() -> *mut ffi::PyThreadState;
        }
        let current = _PyThreadState_UncheckedGet();
        !current.is_null() && (cfg!(Py_3_12) || current == ffi::PyGILState_GetThisThreadState())
    };
    held
}

/// Takes the GIL for as long as the guard lives, if it is not held.
pub fn hold() -> Held {
    // SAFETY: the interpreter is there as long as a loop is that can be asked; the guard gives back what was taken.
    Held((!is_held()).then(|| unsafe { ffi::PyGILState_Ensure() }))
}

/// See [`hold`].
pub struct Held(Option<ffi::PyGILState_STATE>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            // SAFETY: taken by `hold`, on this thread, and given back once.
            unsafe { ffi::PyGILState_Release(state) }
        }
    }
}
