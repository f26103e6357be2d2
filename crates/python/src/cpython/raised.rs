//! Exceptions in flight.
//!
//! As in C, an exception that is being raised is kept in the thread's error indicator; [`Raised`] is the word
//! that says so. Whoever receives one passes it on, [takes](Raised::take) it or [discards](Raised::discard) it.

use std::marker::PhantomData;

use super::ffi;
use super::object::{self, Obj, Ref};

/// The thread's error indicator is set.
#[derive(Debug)]
#[must_use = "an exception is set; pass it on, take it or discard it"]
pub struct Raised(PhantomData<*mut ()>);

/// A value, or an exception in the thread's error indicator.
pub type Fallible<T> = Result<T, Raised>;

impl Raised {
    /// States that the indicator is set, because CPython just said so.
    #[inline]
    pub(super) fn assert() -> Raised {
        // SAFETY: plain call.
        debug_assert!(unsafe { !ffi::PyErr_Occurred().is_null() }, "no exception is set");
        Raised(PhantomData)
    }

    /// The exception that is set, if one is.
    #[inline]
    pub(super) fn if_any() -> Option<Raised> {
        // SAFETY: plain call.
        (unsafe { !ffi::PyErr_Occurred().is_null() }).then_some(Raised(PhantomData))
    }

    /// Takes the exception that is set, if one is, so that Python can run meanwhile.
    pub fn pending() -> Option<Ref> {
        Raised::if_any().map(Raised::take)
    }

    /// `try: outcome  finally: work`: the exception of the outcome goes on after the work, unless that raises one.
    pub fn finally(outcome: Fallible<()>, work: impl FnOnce() -> Fallible<()>) -> Fallible<()> {
        let Err(raised) = outcome else { return work() };
        let exception = raised.take();
        while_handling(&exception, work)?;
        Err(Raised::from_exception(exception))
    }

    /// Raises `class(message)`.
    #[cold]
    pub fn new(class: &Obj, message: &str) -> Raised {
        match object::text(message) {
            // SAFETY: plain call with live arguments.
            Ok(message) => unsafe { ffi::PyErr_SetObject(class.as_ptr(), message.as_ptr()) },
            Err(raised) => return raised,
        }
        Raised::assert()
    }

    /// Raises `class()`.
    #[cold]
    pub fn bare(class: &Obj) -> Raised {
        // SAFETY: plain call with a live exception class.
        unsafe { ffi::PyErr_SetNone(class.as_ptr()) }
        Raised::assert()
    }

    /// Raises this exception anew, as `raise exception` does: with the traceback that it carries, and with what is being
    /// handled just now as its context.
    #[cold]
    pub fn raise(exception: &Obj) -> Raised {
        debug_assert!(exception.is_exception());
        // SAFETY: plain call with live arguments.
        unsafe { ffi::PyErr_SetObject(exception.class().as_ptr(), exception.as_ptr()) }
        Raised::assert()
    }

    /// Raises this exception as `raise exception from None` does.
    #[cold]
    pub fn raise_from_none(exception: &Obj) -> Raised {
        // SAFETY: plain call; without a cause, only the context is suppressed.
        unsafe { ffi::PyException_SetCause(exception.as_ptr(), std::ptr::null_mut()) }
        Raised::raise(exception)
    }

    /// Puts an exception that was taken back into the indicator, as it was.
    #[cold]
    pub fn from_exception(exception: Ref) -> Raised {
        debug_assert!(exception.is_exception());
        #[cfg(Py_3_12)]
        // SAFETY: the reference is given away; an exception is what the call wants.
        unsafe {
            ffi::PyErr_SetRaisedException(exception.into_ptr());
        }
        #[cfg(not(Py_3_12))]
        // SAFETY: all three references are given away; the traceback may be NULL.
        unsafe {
            let class = exception.class().own().into_ptr();
            let traceback = ffi::PyException_GetTraceback(exception.as_ptr());
            ffi::PyErr_Restore(class, exception.into_ptr(), traceback);
        }
        Raised::assert()
    }

    /// Raises `TypeError(message)`.
    #[cold]
    pub fn type_error(message: &str) -> Raised {
        Raised::new(object::type_error(), message)
    }

    /// Raises `RuntimeError(message)`.
    #[cold]
    pub fn runtime_error(message: &str) -> Raised {
        Raised::new(object::runtime_error(), message)
    }

    /// Raises `ValueError(message)`.
    #[cold]
    pub fn value_error(message: &str) -> Raised {
        Raised::new(object::value_error(), message)
    }

    /// Raises the `OSError` of a failed system call, as a method of Python's that makes the call does: with what is being
    /// handled just now as its context.
    #[cold]
    pub fn os_error(error: &std::io::Error) -> Raised {
        let Some(code) = error.raw_os_error() else {
            return Raised::new(object::os_error(), &error.to_string());
        };
        // SAFETY: strerror(3) gives a string that is copied at once.
        let message = unsafe { std::ffi::CStr::from_ptr(strerror(code)) }.to_string_lossy().into_owned();
        let exception = object::int(i64::from(code))
            .and_then(|code| object::os_error().call(&[&*code, &*object::text(&message)?]));
        match exception {
            Ok(exception) => Raised::raise(&exception),
            Err(raised) => raised,
        }
    }

    /// Whether the exception is an instance of `class`.
    pub fn matches(&self, class: &Obj) -> bool {
        // SAFETY: plain call with a live argument.
        unsafe { ffi::PyErr_ExceptionMatches(class.as_ptr()) != 0 }
    }

    /// Takes the exception out of the indicator, traceback included.
    pub fn take(self) -> Ref {
        #[cfg(Py_3_12)]
        // SAFETY: the indicator is set, so this is an owned reference to an exception.
        unsafe {
            Ref::from_owned_or_null(ffi::PyErr_GetRaisedException()).unwrap_or_else(|| object::none().own())
        }
        #[cfg(not(Py_3_12))]
        // SAFETY: the three pointers are owned; after normalising, the value is an exception.
        unsafe {
            let (mut class, mut value, mut traceback) =
                (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
            ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
            ffi::PyErr_NormalizeException(&mut class, &mut value, &mut traceback);
            if !traceback.is_null() {
                ffi::PyException_SetTraceback(value, traceback);
            }
            drop((Ref::from_owned_or_null(class), Ref::from_owned_or_null(traceback)));
            Ref::from_owned_or_null(value).unwrap_or_else(|| object::none().own())
        }
    }

    /// Forgets the exception.
    pub fn discard(self) {
        // SAFETY: plain call.
        unsafe { ffi::PyErr_Clear() }
    }

    /// Hands the exception to `sys.unraisablehook`, for places that cannot raise.
    pub fn report(self, place: Option<&Obj>) {
        // SAFETY: plain call; NULL means no object.
        unsafe { ffi::PyErr_WriteUnraisable(place.map_or(std::ptr::null_mut(), Obj::as_ptr)) }
    }
}

unsafe extern "C" {
    /// strerror(3).
    fn strerror(code: std::ffi::c_int) -> *const std::ffi::c_char;
}

/// `exception.__traceback__`.
pub fn traceback_of(exception: &Obj) -> Option<Ref> {
    // SAFETY: plain call; the result is owned or NULL.
    unsafe { Ref::from_owned_or_null(ffi::PyException_GetTraceback(exception.as_ptr())) }
}

/// `exception.__traceback__ = traceback`.
pub fn set_traceback(exception: &Obj, traceback: Option<&Obj>) {
    let traceback = traceback.unwrap_or_else(|| object::none());
    // SAFETY: plain call with live arguments; it fails only for objects that are no tracebacks.
    if unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()) } != 0 {
        Raised::assert().discard();
    }
}

/// `exception.__cause__ = exception.__context__ = cause`.
pub fn set_cause_and_context(exception: &Obj, cause: &Obj) {
    // SAFETY: both calls take over a reference.
    unsafe {
        ffi::PyException_SetCause(exception.as_ptr(), cause.own().into_ptr());
        ffi::PyException_SetContext(exception.as_ptr(), cause.own().into_ptr());
    }
}

/// `exception.__context__`.
pub fn context_of(exception: &Obj) -> Option<Ref> {
    // SAFETY: plain call; the result is owned or NULL.
    unsafe { Ref::from_owned_or_null(ffi::PyException_GetContext(exception.as_ptr())) }
}

/// `exception.__context__ = context`.
pub fn set_context(exception: &Obj, context: &Obj) {
    // SAFETY: the call takes over a reference.
    unsafe { ffi::PyException_SetContext(exception.as_ptr(), context.own().into_ptr()) }
}

/// Does something as in the `except` block of this exception: `sys.exc_info()` gives it, and what is raised meanwhile has it as
/// its context.
pub fn while_handling<R>(exception: &Obj, work: impl FnOnce() -> R) -> R {
    /// What was handled before, and is again at the end, also if `work` panics.
    struct Before(Option<Ref>);
    impl Drop for Before {
        fn drop(&mut self) {
            let before = self.0.as_ref().map_or(std::ptr::null_mut(), |before| before.as_ptr());
            // SAFETY: plain call, which takes no reference over; NULL is none.
            unsafe { ffi::PyErr_SetHandledException(before) }
        }
    }
    // SAFETY: the one that is handled by now is owned, or NULL.
    let _before = Before(unsafe { Ref::from_owned_or_null(ffi::PyErr_GetHandledException()) });
    // SAFETY: plain call, which takes no reference over.
    unsafe { ffi::PyErr_SetHandledException(exception.as_ptr()) };
    work()
}

/// Whether the exception that is being raised stops the loop itself: `KeyboardInterrupt` or `SystemExit`.
pub fn stops_the_loop(exception: &Obj) -> bool {
    exception.derives_from(object::keyboard_interrupt()) || exception.derives_from(object::system_exit())
}
