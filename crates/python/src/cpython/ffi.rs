//! CPython's C interface, as PyO3 declares it, but for one thing.
//!
//! Up to 3.13 a thread that wants the GIL when the interpreter is about to go ends on the spot, by pthread_exit(3), in the
//! middle of whatever C function had let go of it. That unwinds the thread's stack, and ours with it: our destructors would
//! touch objects without the GIL, and the process would crash on its way out, as soon as a daemon thread runs a loop. From
//! 3.14 on such a thread waits for ever instead. So does one of ours here, on older versions, where the unwinding gets to the
//! first function of ours. Whatever can run Python, collect garbage or give up the GIL is therefore called by what is
//! defined in this file; it costs nothing as long as nothing unwinds.

// CPython's own names.
#![allow(non_snake_case)]

pub use pyo3::ffi::*;

#[cfg(not(Py_3_14))]
use std::ffi::{c_char, c_double, c_int, c_longlong, c_void};

#[cfg(not(Py_3_14))]
use libc::size_t;

#[cfg(Py_3_14)]
unsafe extern "C" {
    /// A bound method: `types.MethodType(function, instance)`.
    pub fn PyMethod_New(function: *mut PyObject, instance: *mut PyObject) -> *mut PyObject;
}

unsafe extern "C" {
    /// What CPython's own free lists call for an object that comes out of them: it has one reference, and those who trace
    /// objects hear of it.
    pub fn _Py_NewReference(object: *mut PyObject);
}

/// Calls something that may end the thread.
///
/// What it calls has to be declared `extern "C-unwind"`, up to 3.13.
#[inline(always)]
pub fn outlived<R>(call: impl FnOnce() -> R) -> R {
    struct WaitForEver;
    impl Drop for WaitForEver {
        fn drop(&mut self) {
            loop {
                std::thread::park();
            }
        }
    }
    let stop = WaitForEver;
    let outcome = call();
    std::mem::forget(stop);
    outcome
}

/// Calls a slot of a type.
macro_rules! slot_call {
    ($(#[$doc:meta])* $name:ident: $slot:ty, $($argument:ident: $type:ty),* => $result:ty) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As of the slot.
        #[inline(always)]
        pub unsafe fn $name(slot: $slot, $($argument: $type),*) -> $result {
            // SAFETY: the same function; that it may unwind is what the other type adds.
            let slot = unsafe {
                std::mem::transmute::<$slot, unsafe extern "C-unwind" fn($($type),*) -> $result>(slot)
            };
            // SAFETY: by contract.
            outlived(|| unsafe { slot($($argument),*) })
        }
    };
}

slot_call!(
    /// `am_send`.
    call_send: sendfunc, a: *mut PyObject, b: *mut PyObject, c: *mut *mut PyObject => PySendResult);
slot_call!(
    /// `tp_clear`.
    call_clear: inquiry, a: *mut PyObject => std::ffi::c_int);
slot_call!(
    /// `tp_alloc`.
    call_alloc: allocfunc, a: *mut PyTypeObject, b: Py_ssize_t => *mut PyObject);
slot_call!(
    /// `tp_new`.
    call_new: newfunc, a: *mut PyTypeObject, b: *mut PyObject, c: *mut PyObject => *mut PyObject);
slot_call!(
    /// `tp_repr`.
    call_repr: reprfunc, a: *mut PyObject => *mut PyObject);

/// Declares functions of CPython's once more, as ones that may unwind, and calls them so that it ends there.
#[cfg(not(Py_3_14))]
macro_rules! stopping {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            /// As PyO3's.
            ///
            /// # Safety
            /// As of that.
            #[inline(always)]
            pub unsafe fn $name($($argument: $type),*) $(-> $result)? {
                unsafe extern "C-unwind" {
                    fn $name($($argument: $type),*) $(-> $result)?;
                }
                // SAFETY: by contract.
                outlived(|| unsafe { $name($($argument),*) })
            }
        )*
    };
}

/// As PyO3's.
///
/// # Safety
/// As of that.
#[cfg(not(Py_3_14))]
#[inline(always)]
pub unsafe fn Py_DECREF(object: *mut PyObject) {
    // SAFETY: by contract; the last reference goes the way that may unwind. The count is an object's first word.
    unsafe {
        if Py_REFCNT(object) == 1 {
            object.cast::<Py_ssize_t>().write(0);
            _Py_Dealloc(object);
        } else {
            pyo3::ffi::Py_DECREF(object);
        }
    }
}

#[cfg(not(Py_3_14))]
stopping! {
    fn PyBuffer_Release(a: *mut Py_buffer);
    fn PyBytes_FromObject(a: *mut PyObject) -> *mut PyObject;
    fn PyCFunction_NewEx(a: *mut PyMethodDef, b: *mut PyObject, c: *mut PyObject) -> *mut PyObject;
    fn PyContext_Copy(a: *mut PyObject) -> *mut PyObject;
    fn PyContext_CopyCurrent() -> *mut PyObject;
    fn PyContext_Enter(a: *mut PyObject) -> c_int;
    fn PyContext_Exit(a: *mut PyObject) -> c_int;
    fn _Py_Dealloc(a: *mut PyObject);
    fn PyDict_DelItem(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PyDict_GetItemWithError(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyDict_New() -> *mut PyObject;
    fn PyDict_SetItem(a: *mut PyObject, b: *mut PyObject, c: *mut PyObject) -> c_int;
    fn PyDict_Update(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PyErr_CheckSignals() -> c_int;
    fn PyErr_Clear();
    fn PyErr_SetHandledException(a: *mut PyObject);
    fn PyErr_SetNone(a: *mut PyObject);
    fn PyErr_SetObject(a: *mut PyObject, b: *mut PyObject);
    fn PyErr_WarnEx(a: *mut PyObject, b: *const c_char, c: Py_ssize_t) -> c_int;
    fn PyErr_WriteUnraisable(a: *mut PyObject);
    fn PyException_SetCause(a: *mut PyObject, b: *mut PyObject);
    fn PyException_SetContext(a: *mut PyObject, b: *mut PyObject);
    fn PyException_SetTraceback(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PyFloat_AsDouble(a: *mut PyObject) -> c_double;
    fn Py_GenericAlias(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyImport_ImportModule(a: *const c_char) -> *mut PyObject;
    fn PyIter_Next(a: *mut PyObject) -> *mut PyObject;
    fn PyIter_Send(a: *mut PyObject, b: *mut PyObject, c: *mut *mut PyObject) -> PySendResult;
    fn PyList_Append(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PyList_New(a: Py_ssize_t) -> *mut PyObject;
    fn PyList_SetSlice(a: *mut PyObject, b: Py_ssize_t, c: Py_ssize_t, d: *mut PyObject) -> c_int;
    fn PyLong_AsDouble(a: *mut PyObject) -> c_double;
    fn PyLong_AsLongLong(a: *mut PyObject) -> c_longlong;
    fn PyLong_AsLongLongAndOverflow(a: *mut PyObject, b: *mut c_int) -> c_longlong;
    fn PyMemoryView_FromObject(a: *mut PyObject) -> *mut PyObject;
    fn PyMethod_New(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyNumber_Add(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyNumber_Long(a: *mut PyObject) -> *mut PyObject;
    fn PyObject_CallFinalizerFromDealloc(a: *mut PyObject) -> c_int;
    fn PyObject_ClearWeakRefs(a: *mut PyObject);
    fn PyObject_GenericGetDict(a: *mut PyObject, b: *mut c_void) -> *mut PyObject;
    fn PyObject_GenericSetAttr(a: *mut PyObject, b: *mut PyObject, c: *mut PyObject) -> c_int;
    fn PyObject_GenericSetDict(a: *mut PyObject, b: *mut PyObject, c: *mut c_void) -> c_int;
    fn PyObject_GetAttr(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyObject_GetBuffer(a: *mut PyObject, b: *mut Py_buffer, c: c_int) -> c_int;
    fn PyObject_GetItem(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
    fn PyObject_GetIter(a: *mut PyObject) -> *mut PyObject;
    fn PyObject_IsInstance(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PyObject_IsTrue(a: *mut PyObject) -> c_int;
    fn PyObject_Repr(a: *mut PyObject) -> *mut PyObject;
    fn PyObject_RichCompareBool(a: *mut PyObject, b: *mut PyObject, c: c_int) -> c_int;
    fn PyObject_SetAttr(a: *mut PyObject, b: *mut PyObject, c: *mut PyObject) -> c_int;
    fn PyObject_Size(a: *mut PyObject) -> Py_ssize_t;
    fn PyObject_Str(a: *mut PyObject) -> *mut PyObject;
    fn PyObject_Vectorcall(a: *mut PyObject, b: *const *mut PyObject, c: size_t, d: *mut PyObject) -> *mut PyObject;
    fn PyObject_VectorcallMethod(a: *mut PyObject, b: *const *mut PyObject, c: size_t, d: *mut PyObject) -> *mut PyObject;
    fn PySequence_DelSlice(a: *mut PyObject, b: Py_ssize_t, c: Py_ssize_t) -> c_int;
    fn PySequence_List(a: *mut PyObject) -> *mut PyObject;
    fn PySet_Add(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PySet_Contains(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PySet_Discard(a: *mut PyObject, b: *mut PyObject) -> c_int;
    fn PySet_New(a: *mut PyObject) -> *mut PyObject;
    fn PySlice_New(a: *mut PyObject, b: *mut PyObject, c: *mut PyObject) -> *mut PyObject;
    fn PyTuple_New(a: Py_ssize_t) -> *mut PyObject;
    fn PyWeakref_NewRef(a: *mut PyObject, b: *mut PyObject) -> *mut PyObject;
}

#[cfg(all(Py_3_12, not(Py_3_14)))]
stopping! {
    fn PyErr_GetRaisedException() -> *mut PyObject;
    fn PyErr_SetRaisedException(a: *mut PyObject);
}

#[cfg(not(Py_3_12))]
stopping! {
    fn PyErr_Fetch(a: *mut *mut PyObject, b: *mut *mut PyObject, c: *mut *mut PyObject);
    fn PyErr_NormalizeException(a: *mut *mut PyObject, b: *mut *mut PyObject, c: *mut *mut PyObject);
    fn PyErr_Restore(a: *mut PyObject, b: *mut PyObject, c: *mut PyObject);
}
