//! Driving coroutines, and being driven as one.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use super::ffi;
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
    // SAFETY: a type's table of asynchronous methods lives as long as the type; plain calls with live arguments and a place
    // for the result, which is owned unless there is an error.
    unsafe {
        let table = (*coroutine.type_ptr()).tp_as_async;
        let (this, none) = (coroutine.as_ptr(), object::none().as_ptr());
        // What PyIter_Send() does first; a coroutine has this.
        let outcome = match (!table.is_null()).then(|| (*table).am_send).flatten() {
            Some(send) => ffi::call_send(send, this, none, &mut result),
            None => ffi::PyIter_Send(this, none, &mut result),
        };
        match outcome {
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

/// Whether what is awaited has a `throw` of its own.
pub fn takes_throw(iterator: &Obj, name: &Obj) -> Fallible<bool> {
    Ok(is_native(iterator) || iterator.get_if_there(name)?.is_some())
}

/// The iterator that `await` drives, of anything awaitable.
pub fn iterator_of(awaitable: &Obj) -> Fallible<Ref> {
    if is_native(awaitable) {
        if !awaited_by(awaitable)?.is_none() {
            return Err(Raised::runtime_error("coroutine is being awaited already"));
        }
        return Ok(awaitable.own());
    }
    if awaitable.is_generator() && is_iterable_coroutine(awaitable)? {
        return Ok(awaitable.own());
    }
    // SAFETY: a type's table of asynchronous methods lives as long as the type; the slot is called with an instance.
    let iterator = unsafe {
        let table = (*awaitable.type_ptr()).tp_as_async;
        let Some(method) = (!table.is_null()).then(|| (*table).am_await).flatten() else {
            return Err(not_awaitable(awaitable));
        };
        Ref::from_owned(method(awaitable.as_ptr()))?
    };
    if is_native(&iterator) {
        return Err(Raised::type_error("__await__() returned a coroutine"));
    }
    // SAFETY: plain call with a live object.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } == 0 {
        let class = iterator.class_name();
        return Err(Raised::type_error(&format!("__await__() returned non-iterator of type '{class}'")));
    }
    Ok(iterator)
}

/// `coroutine.cr_await`, of a native one.
#[inline]
fn awaited_by(coroutine: &Obj) -> Fallible<Ref> {
    type Getter = unsafe extern "C" fn(*mut ffi::PyObject, *mut c_void) -> *mut ffi::PyObject;
    static GETTER: OnceLock<Option<Getter>> = OnceLock::new();
    let found = GETTER.get_or_init(|| {
        // SAFETY: the attributes of a static type, whose names end with NUL; the one without a name ends them.
        unsafe {
            let mut attribute = ffi::PyCoro_Type.tp_getset;
            while !attribute.is_null() && !(*attribute).name.is_null() {
                if CStr::from_ptr((*attribute).name) == c"cr_await" && (*attribute).closure.is_null() {
                    return (*attribute).get;
                }
                attribute = attribute.add(1);
            }
        }
        None
    });
    match found {
        // SAFETY: the getter of the attribute, with a live coroutine of exactly this type and what it is registered with.
        Some(getter) => unsafe { Ref::from_owned(getter(coroutine.as_ptr(), std::ptr::null_mut())) },
        None => coroutine.get(&*object::interned(c"cr_await")?),
    }
}

/// `inspect.isawaitable(object)`, of what is no native coroutine.
pub fn is_awaitable(object: &Obj) -> Fallible<bool> {
    if object.is_generator() {
        return is_iterable_coroutine(object);
    }
    // SAFETY: a type's table of asynchronous methods lives as long as the type.
    Ok(unsafe {
        let table = (*object.type_ptr()).tp_as_async;
        !table.is_null() && (*table).am_await.is_some()
    })
}

/// Whether a generator was made by a function that `types.coroutine` has marked.
fn is_iterable_coroutine(generator: &Obj) -> Fallible<bool> {
    const CO_ITERABLE_COROUTINE: i64 = 0x100;
    let code = generator.get(&*object::interned(c"gi_code")?)?;
    Ok(code.get(&*object::interned(c"co_flags")?)?.to_i64()? & CO_ITERABLE_COROUTINE != 0)
}

#[cold]
fn not_awaitable(object: &Obj) -> Raised {
    let class = object.class_name();
    Raised::type_error(&if cfg!(Py_3_14) {
        format!("'{class}' object can't be awaited")
    } else {
        format!("object {class} can't be used in 'await' expression")
    })
}

/// The outcome of `tp_iternext`: NULL without an exception stands for `StopIteration(None)`.
#[inline(always)]
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

/// The same for what `await` iterates over, and programs do not.
#[inline(always)]
pub fn give_awaited(outcome: Fallible<Sent>) -> *mut ffi::PyObject {
    match outcome {
        Ok(Sent::Returned(value)) if !value.is_none() => {
            let _raised = stop_iteration::raise_fleeting(value);
            std::ptr::null_mut()
        }
        outcome => give_next(outcome),
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

/// What the arguments of `throw()` say: an exception, or its class with value and traceback. Fails where that is refused,
/// which coroutines and generators do in words of their own; what a class raises when it is called is what is thrown.
pub fn thrown(arguments: &[&Obj], into_code: bool) -> Fallible<Ref> {
    // From 3.12 on, as in the interpreter's own coroutines.
    if cfg!(Py_3_12) && arguments.len() > 1 {
        let message =
            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
        object::warn(object::deprecation_warning(), message)?;
    }
    let (kind, value, traceback) = match arguments {
        [kind] => (*kind, None, None),
        [kind, value] => (*kind, Some(*value), None),
        [kind, value, traceback] => (*kind, Some(*value), Some(*traceback)),
        _ => {
            let wanted = if arguments.is_empty() { "at least 1 argument" } else { "at most 3 arguments" };
            return Err(Raised::type_error(&format!("throw expected {wanted}, got {}", arguments.len())));
        }
    };
    let value = value.filter(|value| !value.is_none());
    let traceback = traceback.filter(|traceback| !traceback.is_none());
    // SAFETY: reads the type of a live object.
    if traceback.is_some_and(|traceback| unsafe { ffi::PyTraceBack_Check(traceback.as_ptr()) == 0 }) {
        let object = if into_code { " object" } else { "" };
        return Err(Raised::type_error(&format!("throw() third argument must be a traceback{object}")));
    }
    let exception = if kind.is_exception_class() {
        made_of(kind, value).unwrap_or_else(Raised::take)
    } else if !kind.is_exception() {
        return Err(Raised::type_error(&if into_code {
            let class = kind.class_name();
            format!("exceptions must be classes or instances deriving from BaseException, not {class}")
        } else {
            String::from("exceptions must be classes deriving BaseException or instances of such a class")
        }));
    } else if value.is_some() {
        return Err(Raised::type_error("instance exception may not have a separate value"));
    } else {
        kind.own()
    };
    if let Some(traceback) = traceback {
        super::raised::set_traceback(&exception, Some(traceback));
    }
    Ok(exception)
}

/// The exception of this class that the interpreter makes of a value: the value itself, if it is one already.
fn made_of(class: &Obj, value: Option<&Obj>) -> Fallible<Ref> {
    let exception = match value {
        Some(value) if value.derives_from(class) => return Ok(value.own()),
        Some(value) if object::is_tuple(value) => class.call_tuple(value)?,
        Some(value) => class.call(&[value])?,
        None => class.call(&[])?,
    };
    if exception.is_exception() {
        return Ok(exception);
    }
    let made = exception.class_name();
    let class = class.repr()?.to_text();
    Err(Raised::type_error(&format!(
        "calling {class} should have returned an instance of BaseException, not {made}"
    )))
}

/// A code object without code, for what has no function in Python.
pub fn empty_code(name: &str) -> Fallible<Ref> {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: the texts end with NUL and are copied.
    unsafe { Ref::from_owned(ffi::PyCode_NewEmpty(c"velodrome".as_ptr(), name.as_ptr(), 1).cast()) }
}
