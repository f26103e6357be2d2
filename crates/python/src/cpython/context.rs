//! Context variables: copying, entering and leaving `contextvars.Context`.

use super::ffi;
use super::layout;
use super::object::{Obj, Ref, status};
use super::raised::Fallible;
use super::slot::Slot;

pub use super::layout::Variables;

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_current() -> Fallible<Ref> {
    // SAFETY: plain call; a new reference or NULL with an exception.
    unsafe { Ref::from_owned(ffi::PyContext_CopyCurrent()) }
}

/// `context.copy()`.
pub fn copy(context: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call; what is no context is refused with an exception.
    unsafe { Ref::from_owned(ffi::PyContext_Copy(context.as_ptr())) }
}

/// The variables of the current context, if they can be told.
#[inline]
pub fn current_variables() -> Option<Variables> {
    layout::current_variables()
}

/// The variables of the context that is held, if there is one, and if they can be told.
#[inline]
pub fn variables_of(slot: &Slot) -> Option<Variables> {
    slot.peek().and_then(layout::variables_of)
}

/// Whether this is a `contextvars.Context`.
#[inline]
pub fn is_context(object: &Obj) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Runs `work` inside `context`, as `context.run` does.
///
/// Fails without running it if the context is entered already. Leaving can fail only if `work` itself left or
/// entered contexts out of order; then that is the error, unless there already is one.
#[inline]
pub fn within<R>(context: &Obj, work: impl FnOnce() -> Fallible<R>) -> Fallible<R> {
    struct Leave<'a>(&'a Obj);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            // SAFETY: leaving on the way out of a panic, with the context that was entered; an error is moot.
            unsafe {
                if ffi::PyContext_Exit(self.0.as_ptr()) != 0 {
                    ffi::PyErr_Clear();
                }
            }
        }
    }
    // SAFETY: plain call; what is no context is refused with an exception.
    status(unsafe { ffi::PyContext_Enter(context.as_ptr()) })?;
    let guard = Leave(context);
    let outcome = work();
    std::mem::forget(guard);
    match outcome {
        // SAFETY: the context that was entered above.
        Ok(value) => status(unsafe { ffi::PyContext_Exit(context.as_ptr()) }).map(|()| value),
        Err(raised) => {
            // Leaving must not disturb the exception: it only swaps pointers while one is set.
            // SAFETY: the context that was entered above.
            if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
                return Err(super::raised::Raised::assert());
            }
            Err(raised)
        }
    }
}
