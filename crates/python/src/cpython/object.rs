//! Borrowed and owned references to Python objects.
//!
//! [`Obj`] stands only behind a reference: `&Obj` is a borrowed reference. [`Ref`] owns one count and gives it
//! back when dropped. Unlike `pyo3::Py`, neither asks whether the GIL is held: they exist only where it is.
//!
//! Here is what every object has, and text and numbers. Calls are in `call`, tuples, lists, dictionaries and sets in
//! `container`, the exception classes in `builtin_exceptions`; the rest of the crate finds the last two here as well.

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::ffi;

pub use super::builtin_exceptions::*;
pub use super::container::*;
use super::raised::{Fallible, Raised};

/// A Python object, only ever seen behind `&`.
#[repr(transparent)]
pub struct Obj(UnsafeCell<ffi::PyObject>);

/// One owned reference to a Python object.
#[repr(transparent)]
pub struct Ref(NonNull<ffi::PyObject>);

impl Obj {
    /// The object behind a borrowed pointer.
    ///
    /// # Safety
    /// `pointer` is a live object for as long as `'a`, and the GIL is held.
    #[inline]
    pub(super) unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Obj {
        debug_assert!(!pointer.is_null());
        // SAFETY: by contract; `Obj` is a transparent wrapper of the object.
        unsafe { &*pointer.cast::<Obj>() }
    }

    /// The same, where NULL means that there is none.
    ///
    /// # Safety
    /// As for [`Obj::from_ptr`], or `pointer` is NULL.
    #[inline]
    pub(super) unsafe fn from_ptr_or_null<'a>(pointer: *mut ffi::PyObject) -> Option<&'a Obj> {
        // SAFETY: by contract.
        (!pointer.is_null()).then(|| unsafe { Obj::from_ptr(pointer) })
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.get()
    }

    #[inline]
    pub(super) fn type_ptr(&self) -> *mut ffi::PyTypeObject {
        // SAFETY: every object has a type.
        unsafe { ffi::Py_TYPE(self.as_ptr()) }
    }

    /// Another owned reference.
    #[inline]
    pub fn own(&self) -> Ref {
        // SAFETY: the object is live, since `self` borrows it.
        unsafe {
            ffi::Py_INCREF(self.as_ptr());
            Ref(NonNull::new_unchecked(self.as_ptr()))
        }
    }

    /// How many references there are to it.
    #[inline]
    pub fn references(&self) -> usize {
        // SAFETY: reads the count of a live object.
        unsafe { ffi::Py_REFCNT(self.as_ptr()) as usize }
    }

    /// Whether both are the same object.
    #[inline]
    pub fn is(&self, other: &Obj) -> bool {
        std::ptr::eq(self, other)
    }

    /// Whether this is `None`.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.is(none())
    }

    /// The object's type.
    #[inline]
    pub fn class(&self) -> &Obj {
        // SAFETY: an object keeps its type alive.
        unsafe { Obj::from_ptr(self.type_ptr().cast()) }
    }

    /// The version of the object's type: another number whenever the type, or one that it derives from, has
    /// changed, and never that of another type; 0 if it has none.
    #[inline]
    pub fn class_version(&self) -> u32 {
        // SAFETY: reads a field of a live type.
        unsafe { (*self.type_ptr()).tp_version_tag }
    }

    /// Whether the object's type is exactly `class`.
    #[inline]
    pub fn is_exactly(&self, class: &Obj) -> bool {
        self.class().is(class)
    }

    /// Whether the object's type is `class` or derives from it, by layout (no `__instancecheck__`).
    #[inline]
    pub fn derives_from(&self, class: &Obj) -> bool {
        // SAFETY: callers pass types; a heap or static type is a `PyTypeObject`.
        self.is_exactly(class)
            || unsafe { ffi::PyType_IsSubtype(self.type_ptr(), class.as_ptr().cast()) != 0 }
    }

    /// Whether this type object is `class` or derives from it.
    pub fn is_subtype_of(&self, class: &Obj) -> bool {
        // SAFETY: checked to be types before they are taken for such.
        unsafe {
            ffi::PyType_Check(self.as_ptr()) != 0
                && ffi::PyType_IsSubtype(self.as_ptr().cast(), class.as_ptr().cast()) != 0
        }
    }

    /// `isinstance(self, class)`.
    pub fn is_instance(&self, class: &Obj) -> Fallible<bool> {
        // SAFETY: plain call with live arguments.
        truth(unsafe { ffi::PyObject_IsInstance(self.as_ptr(), class.as_ptr()) })
    }

    /// `getattr(self, name)`.
    #[inline]
    pub fn get(&self, name: &Obj) -> Fallible<Ref> {
        // SAFETY: plain call with live arguments; the result is a new reference or NULL with an exception.
        unsafe { Ref::from_owned(ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// `getattr(self, name, None)`, where a missing attribute is `None` on this side as well.
    pub fn get_if_there(&self, name: &Obj) -> Fallible<Option<Ref>> {
        match self.get(name) {
            Ok(value) => Ok(Some(value)),
            Err(raised) if raised.matches(attribute_error()) => {
                raised.discard();
                Ok(None)
            }
            Err(raised) => Err(raised),
        }
    }

    /// `setattr(self, name, value)`.
    pub fn set(&self, name: &Obj, value: &Obj) -> Fallible<()> {
        // SAFETY: plain call with live arguments.
        status(unsafe { ffi::PyObject_SetAttr(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// `bool(self)`.
    pub fn truthy(&self) -> Fallible<bool> {
        // SAFETY: plain call with a live argument.
        truth(unsafe { ffi::PyObject_IsTrue(self.as_ptr()) })
    }

    /// `self == other`.
    pub fn equals(&self, other: &Obj) -> Fallible<bool> {
        // SAFETY: plain call with live arguments.
        truth(unsafe { ffi::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), ffi::Py_EQ) })
    }

    /// `self <= other`.
    pub fn is_at_most(&self, other: &Obj) -> Fallible<bool> {
        if let (Some(number), Some(most)) = (self.plain_number()?, other.plain_number()?) {
            return Ok(number <= most);
        }
        // SAFETY: plain call with live arguments.
        truth(unsafe { ffi::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), ffi::Py_LE) })
    }

    /// `self > other`.
    pub fn exceeds(&self, other: &Obj) -> Fallible<bool> {
        // SAFETY: plain call with live arguments.
        truth(unsafe { ffi::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), ffi::Py_GT) })
    }

    /// `repr(self)` as Rust text, for messages; what cannot be shown is named by its type.
    pub fn shown(&self) -> String {
        // SAFETY: plain call with a live argument.
        match unsafe { Ref::from_owned(ffi::PyObject_Repr(self.as_ptr())) } {
            Ok(text) => text.to_text(),
            Err(raised) => {
                raised.discard();
                format!("<{} object>", self.class_name())
            }
        }
    }

    /// `repr(self)`.
    pub fn repr(&self) -> Fallible<Ref> {
        // SAFETY: plain call with a live argument.
        unsafe { Ref::from_owned(ffi::PyObject_Repr(self.as_ptr())) }
    }

    /// `object.__repr__(self)`.
    pub fn plain_repr(&self) -> Fallible<Ref> {
        // SAFETY: `object` has a repr, which takes any live object.
        unsafe {
            match ffi::PyBaseObject_Type.tp_repr {
                Some(plain) => Ref::from_owned(ffi::call_repr(plain, self.as_ptr())),
                None => Ref::from_owned(ffi::PyObject_Repr(self.as_ptr())),
            }
        }
    }

    /// The text of a `str`; what cannot be encoded is replaced.
    pub fn to_text(&self) -> String {
        let mut length = 0;
        // SAFETY: for a `str` the buffer lives as long as the object; for anything else the call fails.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut length);
            if data.is_null() {
                ffi::PyErr_Clear();
                return String::from("?");
            }
            String::from_utf8_lossy(std::slice::from_raw_parts(data.cast(), length as usize)).into_owned()
        }
    }

    /// `type(self).__name__`.
    pub fn class_name(&self) -> String {
        // SAFETY: a type's name is a NUL-terminated string that lives as long as the type.
        let full = unsafe { CStr::from_ptr((*self.type_ptr()).tp_name) }.to_string_lossy();
        full.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// `str(self)`.
    pub fn str(&self) -> Fallible<Ref> {
        // SAFETY: plain call with a live argument.
        unsafe { Ref::from_owned(ffi::PyObject_Str(self.as_ptr())) }
    }

    /// `len(self)`.
    pub fn length(&self) -> Fallible<usize> {
        // SAFETY: plain call with a live argument; -1 is an error.
        let length = unsafe { ffi::PyObject_Size(self.as_ptr()) };
        usize::try_from(length).map_err(|_| Raised::assert())
    }

    /// `list(self)`, as references.
    pub fn items(&self) -> Fallible<Vec<Ref>> {
        if is_list(self) {
            return Ok(self.items_of_list());
        }
        // SAFETY: plain call; a new reference or NULL with an exception.
        let list = unsafe { Ref::from_owned(ffi::PySequence_List(self.as_ptr()))? };
        Ok(list.items_of_list())
    }

    fn items_of_list(&self) -> Vec<Ref> {
        debug_assert!(is_list(self));
        // SAFETY: a list, which nothing changes meanwhile: taking references to its items runs no Python.
        unsafe {
            (0..ffi::PyList_GET_SIZE(self.as_ptr()))
                .map(|index| Obj::from_ptr(ffi::PyList_GET_ITEM(self.as_ptr(), index)).own())
                .collect()
        }
    }

    /// The value of an `int` or of anything with `__index__`, if it fits.
    pub fn to_i64(&self) -> Fallible<i64> {
        // SAFETY: plain call with a live argument; -1 is an error only with an exception set.
        let value = unsafe { ffi::PyLong_AsLongLong(self.as_ptr()) };
        if value == -1 { Raised::if_any().map_or(Ok(value), Err) } else { Ok(value) }
    }

    /// The value of an `int`, or the nearest one that fits.
    pub fn to_i64_or_nearest(&self) -> Fallible<i64> {
        let mut overflow = 0;
        // SAFETY: plain call with a live argument and a place for the overflow's sign.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(self.as_ptr(), &mut overflow) };
        match overflow {
            0 if value == -1 => Raised::if_any().map_or(Ok(value), Err),
            0 => Ok(value),
            sign if sign < 0 => Ok(i64::MIN),
            _ => Ok(i64::MAX),
        }
    }

    /// The value of a `float`, an `int` or of anything with `__float__`.
    #[inline]
    pub fn to_f64(&self) -> Fallible<f64> {
        // SAFETY: reads the value of a live `float`; plain calls with a live argument; -1.0 is an error only with an
        // exception set. `PyFloat_AsDouble` makes a `float` of an `int` first.
        let value = unsafe {
            if self.is_float() {
                return Ok(ffi::PyFloat_AS_DOUBLE(self.as_ptr()));
            }
            if self.is_int() {
                ffi::PyLong_AsDouble(self.as_ptr())
            } else {
                ffi::PyFloat_AsDouble(self.as_ptr())
            }
        };
        if value == -1.0 { Raised::if_any().map_or(Ok(value), Err) } else { Ok(value) }
    }

    /// The value of a plain number: a `float`, or an `int` that a `float` holds exactly.
    #[inline]
    pub fn plain_number(&self) -> Fallible<Option<f64>> {
        if self.is_float() {
            return self.to_f64().map(Some);
        }
        if !self.is_int() {
            return Ok(None);
        }
        let value = self.to_i64_or_nearest()?;
        Ok((value.unsigned_abs() < 1 << 53).then_some(value as f64))
    }

    /// Whether this is exactly a `float`.
    #[inline]
    pub fn is_float(&self) -> bool {
        // SAFETY: reads the type of a live object.
        unsafe { ffi::PyFloat_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether this is exactly an `int`.
    #[inline]
    pub fn is_int(&self) -> bool {
        // SAFETY: reads the type of a live object.
        unsafe { ffi::PyLong_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether this is an `int`, or of a class derived from it.
    pub fn is_any_int(&self) -> bool {
        // SAFETY: reads flags of a live object.
        unsafe { ffi::PyLong_Check(self.as_ptr()) != 0 }
    }

    /// `int(self)`.
    pub fn as_int(&self) -> Fallible<Ref> {
        // SAFETY: plain call with a live argument.
        unsafe { Ref::from_owned(ffi::PyNumber_Long(self.as_ptr())) }
    }

    /// Whether this is exactly a generator.
    pub fn is_generator(&self) -> bool {
        // SAFETY: reads the type of a live object.
        unsafe { ffi::PyGen_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether this is an exception class.
    pub fn is_exception_class(&self) -> bool {
        // SAFETY: reads flags of a live object.
        unsafe { ffi::PyExceptionClass_Check(self.as_ptr()) != 0 }
    }

    /// Whether this is an exception.
    pub fn is_exception(&self) -> bool {
        // SAFETY: reads flags of a live object.
        unsafe { ffi::PyExceptionInstance_Check(self.as_ptr()) != 0 }
    }

    /// `for item in self: work(item)`.
    pub fn for_each(&self, mut work: impl FnMut(&Obj) -> Fallible<()>) -> Fallible<()> {
        // SAFETY: plain call with a live argument.
        let iterator = unsafe { Ref::from_owned(ffi::PyObject_GetIter(self.as_ptr()))? };
        // SAFETY: an iterator; NULL is the end, or an error if an exception is set.
        while let Some(item) = unsafe { Ref::from_owned_or_null(ffi::PyIter_Next(iterator.as_ptr())) } {
            work(&item)?;
        }
        Raised::if_any().map_or(Ok(()), Err)
    }

    /// `self + other`.
    pub fn add(&self, other: &Obj) -> Fallible<Ref> {
        // SAFETY: plain call with live arguments.
        unsafe { Ref::from_owned(ffi::PyNumber_Add(self.as_ptr(), other.as_ptr())) }
    }
}

impl fmt::Debug for Obj {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{} at {:p}>", self.class_name(), self.as_ptr())
    }
}

impl Ref {
    /// Takes over a new reference from CPython; NULL means that an exception is set.
    ///
    /// # Safety
    /// `pointer` is an owned reference, or NULL with an exception set.
    #[inline]
    pub(super) unsafe fn from_owned(pointer: *mut ffi::PyObject) -> Fallible<Ref> {
        NonNull::new(pointer).map(Ref).ok_or_else(Raised::assert)
    }

    /// The same where NULL means that there is none.
    ///
    /// # Safety
    /// `pointer` is an owned reference or NULL.
    #[inline]
    pub(super) unsafe fn from_owned_or_null(pointer: *mut ffi::PyObject) -> Option<Ref> {
        NonNull::new(pointer).map(Ref)
    }

    /// Gives the reference away, for C to own.
    #[inline]
    pub(super) fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Deref for Ref {
    type Target = Obj;

    #[inline]
    fn deref(&self) -> &Obj {
        // SAFETY: an owned reference keeps its object alive.
        unsafe { Obj::from_ptr(self.0.as_ptr()) }
    }
}

impl Clone for Ref {
    #[inline]
    fn clone(&self) -> Ref {
        self.own()
    }
}

impl Drop for Ref {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this reference is owned and given back once.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}

/// `None`.
#[inline]
pub fn none() -> &'static Obj {
    // SAFETY: `None` is immortal, or kept alive by the interpreter.
    unsafe { Obj::from_ptr(ffi::Py_None()) }
}

/// `True` or `False`.
#[inline]
pub fn boolean(value: bool) -> &'static Obj {
    // SAFETY: both are immortal, or kept alive by the interpreter.
    unsafe { Obj::from_ptr(if value { ffi::Py_True() } else { ffi::Py_False() }) }
}

/// A new `str`.
pub fn text(value: &str) -> Fallible<Ref> {
    // SAFETY: the pointer and the length are those of a Rust string.
    unsafe { Ref::from_owned(ffi::PyUnicode_FromStringAndSize(value.as_ptr().cast(), value.len() as isize)) }
}

/// An interned `str`, for attribute names.
pub fn interned(value: &CStr) -> Fallible<Ref> {
    // SAFETY: a NUL-terminated string.
    unsafe { Ref::from_owned(ffi::PyUnicode_InternFromString(value.as_ptr())) }
}

/// A new `int`.
#[inline]
pub fn int(value: i64) -> Fallible<Ref> {
    // SAFETY: plain call.
    unsafe { Ref::from_owned(ffi::PyLong_FromLongLong(value)) }
}

/// A new `float`.
#[inline]
pub fn float(value: f64) -> Fallible<Ref> {
    // SAFETY: plain call.
    unsafe { Ref::from_owned(ffi::PyFloat_FromDouble(value)) }
}

/// `weakref.ref(object, callback)`.
pub fn weak_reference(object: &Obj, callback: Option<&Obj>) -> Fallible<Ref> {
    let callback = callback.map_or(std::ptr::null_mut(), Obj::as_ptr);
    // SAFETY: plain call with live arguments; NULL means no callback.
    unsafe { Ref::from_owned(ffi::PyWeakref_NewRef(object.as_ptr(), callback)) }
}

/// What a weak reference refers to, if it is alive.
#[inline]
pub fn referent(reference: &Obj) -> Option<Ref> {
    let mut object = std::ptr::null_mut();
    // SAFETY: the type is checked; the result is an owned reference, or NULL if the object is gone.
    unsafe {
        if ffi::PyWeakref_CheckRefExact(reference.as_ptr()) != 0 {
            return match ffi::compat::PyWeakref_GetRef(reference.as_ptr(), &mut object) {
                ..=0 => None,
                _ => Ref::from_owned_or_null(object),
            };
        }
    }
    match reference.call(&[]) {
        Ok(object) => (!object.is_none()).then_some(object),
        Err(raised) => {
            raised.discard();
            None
        }
    }
}

/// `importlib.import_module(name)`.
pub fn import(name: &CStr) -> Fallible<Ref> {
    // SAFETY: a NUL-terminated string.
    unsafe { Ref::from_owned(ffi::PyImport_ImportModule(name.as_ptr())) }
}

/// `warnings.warn(message, category)`, attributed to the caller's line.
pub fn warn(category: &Obj, message: &str) -> Fallible<()> {
    let message = CString::new(message).unwrap_or_default();
    // SAFETY: plain call with live arguments.
    status(unsafe { ffi::PyErr_WarnEx(category.as_ptr(), message.as_ptr(), 1) })
}

/// `types.GenericAlias(origin, arguments)`.
pub fn generic_alias(origin: &Obj, arguments: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call with live arguments.
    unsafe { Ref::from_owned(ffi::Py_GenericAlias(origin.as_ptr(), arguments.as_ptr())) }
}

/// 0 is success, anything else says that an exception is set.
#[inline]
pub(super) fn status(code: std::ffi::c_int) -> Fallible<()> {
    if code == 0 { Ok(()) } else { Err(Raised::assert()) }
}

/// 0 and 1 are answers, a negative number says that an exception is set.
#[inline]
pub(super) fn truth(code: std::ffi::c_int) -> Fallible<bool> {
    if code < 0 { Err(Raised::assert()) } else { Ok(code != 0) }
}
