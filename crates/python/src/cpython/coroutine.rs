//! Driving coroutines, and being driven as one.

use pyo3::ffi;

use super::object::{self, Obj, Ref};
use super::raised::{Fallible, Raised};
use super::stop_iteration;

/// What a coroutine does when it is resumed.
#[derive(Debug)]
pub enum Sent {
    /// It suspends and yields this.
    Yielded(Ref),
    /// It is done, with this result.
    Returned(Ref),
}

/// Whether this is a coroutine made by `async def`.
#[inline]
pub fn is_native(object: &Obj) -> bool {
    std::ptr::eq(object.type_ptr(), &raw const ffi::PyCoro_Type)
}

/// `coroutine.send(None)`.
#[inline]
pub fn send(coroutine: &Obj) -> Fallible<Sent> {
    let mut result = std::ptr::null_mut();
    // SAFETY: plain call with live arguments and a place for the result, which is owned unless there is an error.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), object::none().as_ptr(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(Ref::from_owned(result)?)),
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(Ref::from_owned(result)?)),
            ffi::PySendResult::PYGEN_ERROR => Err(Raised::assert()),
        }
    }
}

/// `coroutine.throw(exception)`.
pub fn throw(coroutine: &Obj, name: &Obj, exception: &Obj) -> Fallible<Sent> {
    match coroutine.call_method(name, &[exception]) {
        Ok(yielded) => Ok(Sent::Yielded(yielded)),
        Err(raised) => stop_iteration::returned(raised).map(Sent::Returned),
    }
}

/// The outcome of `tp_iternext`: NULL without an exception stands for `StopIteration(None)`.
#[inline]
pub fn give_next(outcome: Fallible<Sent>) -> *mut ffi::PyObject {
    match outcome {
        Ok(Sent::Yielded(value)) => value.into_ptr(),
        Ok(Sent::Returned(value)) if value.is_none() => std::ptr::null_mut(),
        Ok(Sent::Returned(value)) => {
            let _raised = stop_iteration::raise(&value);
            std::ptr::null_mut()
        }
        Err(_raised) => std::ptr::null_mut(),
    }
}

/// The outcome of `send()` as a method, which has to raise `StopIteration` outright.
pub fn give_method(outcome: Fallible<Sent>) -> Fallible<Ref> {
    match outcome? {
        Sent::Yielded(value) => Ok(value),
        Sent::Returned(value) => Err(stop_iteration::raise(&value)),
    }
}

/// The outcome of `am_send`.
///
/// # Safety
/// `result` is a place for a pointer.
#[inline]
pub unsafe fn give_sent(outcome: Fallible<Sent>, result: *mut *mut ffi::PyObject) -> ffi::PySendResult {
    let (value, answer) = match outcome {
        Ok(Sent::Yielded(value)) => (value.into_ptr(), ffi::PySendResult::PYGEN_NEXT),
        Ok(Sent::Returned(value)) => (value.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
        Err(_raised) => (std::ptr::null_mut(), ffi::PySendResult::PYGEN_ERROR),
    };
    // SAFETY: by contract.
    unsafe { *result = value };
    answer
}

/// The frame of the Python code that is running.
pub fn current_frame() -> Option<Ref> {
    // SAFETY: a borrowed frame or NULL, owned at once.
    unsafe { Obj::from_ptr_or_null(ffi::PyEval_GetFrame().cast()).map(Obj::own) }
}

/// Raises what the arguments of `throw()` say: an exception, or its class with value and traceback.
pub fn raise_thrown(arguments: &[&Obj]) -> Raised {
    let (kind, value, traceback) = match arguments {
        [kind] => (*kind, None, None),
        [kind, value] => (*kind, Some(*value), None),
        [kind, value, traceback] => (*kind, Some(*value), Some(*traceback)),
        _ => return Raised::type_error(&format!("throw expected 1 to 3 arguments, got {}", arguments.len())),
    };
    let value = value.filter(|value| !value.is_none());
    let exception = if kind.is_exception_class() {
        match value {
            Some(value) if value.is_exception() => Ok(value.own()),
            Some(value) => kind.call(&[value]),
            None => kind.call(&[]),
        }
    } else if !kind.is_exception() {
        Err(Raised::type_error(&format!(
            "exceptions must be classes deriving BaseException or instances of such a class, not {}",
            kind.class_name()
        )))
    } else if value.is_some() {
        Err(Raised::type_error("instance exception may not have a separate value"))
    } else {
        Ok(kind.own())
    };
    match exception {
        Ok(exception) => {
            if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
                super::raised::set_traceback(&exception, Some(traceback));
            }
            Raised::from_exception(exception)
        }
        Err(raised) => raised,
    }
}
