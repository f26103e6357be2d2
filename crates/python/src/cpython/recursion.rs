//! The interpreter's guard against endless recursion, for what recurses natively.

use std::ffi::CStr;

use super::ffi;
use super::object::status;
use super::raised::Fallible;

/// Runs `work` one level deeper, or raises `RecursionError` ("maximum recursion depth exceeded" and `place`).
pub fn guarded<R>(place: &'static CStr, work: impl FnOnce() -> Fallible<R>) -> Fallible<R> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            // SAFETY: ends the level that was entered.
            unsafe { ffi::Py_LeaveRecursiveCall() }
        }
    }
    // SAFETY: a NUL-terminated string.
    status(unsafe { ffi::Py_EnterRecursiveCall(place.as_ptr()) })?;
    let _leave = Leave;
    work()
}
