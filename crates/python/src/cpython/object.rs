//! Borrowed and owned references to Python objects.
//!
//! [`Obj`] stands only behind a reference: `&Obj` is a borrowed reference. [`Ref`] owns one count and gives it
//! back when dropped. Unlike `pyo3::Py`, neither asks whether the GIL is held: they exist only where it is.

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use pyo3::ffi;

use super::raised::{Fallible, Raised};

/// A Python object, only ever seen behind `&`.
#[repr(transparent)]
pub struct Obj(UnsafeCell<ffi::PyObject>);

/// One owned reference to a Python object.
#[repr(transparent)]
pub struct Ref(NonNull<ffi::PyObject>);

/// How many arguments a call passes without touching the heap.
const INLINE_ARGUMENTS: usize = 6;

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

    /// `self(*arguments)`.
    #[inline]
    pub fn call(&self, arguments: &[&Obj]) -> Fallible<Ref> {
        self.vectorcall(arguments, 0, None)
    }

    /// `self(*arguments)`, the last `len(names)` of them by keyword; `names` is a tuple of strings.
    #[inline]
    pub fn call_with_keywords(&self, arguments: &[&Obj], names: &Obj) -> Fallible<Ref> {
        self.vectorcall(arguments, tuple_len(names), Some(names))
    }

    #[inline]
    fn vectorcall(&self, arguments: &[&Obj], keywords: usize, names: Option<&Obj>) -> Fallible<Ref> {
        let names = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        // One place in front, which bound methods use for `self` instead of copying the arguments.
        let mut inline = [std::ptr::null_mut(); INLINE_ARGUMENTS + 1];
        let mut heap;
        let buffer = if arguments.len() <= INLINE_ARGUMENTS {
            &mut inline[..=arguments.len()]
        } else {
            heap = vec![std::ptr::null_mut(); arguments.len() + 1];
            &mut heap[..]
        };
        for (place, argument) in buffer[1..].iter_mut().zip(arguments) {
            *place = argument.as_ptr();
        }
        let count = (arguments.len() - keywords) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: the buffer holds the arguments behind one spare place, as the flag promises.
        unsafe {
            Ref::from_owned(ffi::PyObject_Vectorcall(self.as_ptr(), buffer.as_ptr().add(1), count, names))
        }
    }

    /// `self(*items)`, with the items of a tuple.
    #[inline]
    pub fn call_tuple(&self, items: &Obj) -> Fallible<Ref> {
        debug_assert!(is_tuple(items));
        // SAFETY: callers pass a tuple; its items outlive the call because a reference to it is held.
        unsafe {
            let count = ffi::PyTuple_GET_SIZE(items.as_ptr()) as usize;
            let first = (&raw mut (*items.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
            Ref::from_owned(ffi::PyObject_Vectorcall(self.as_ptr(), first, count, std::ptr::null_mut()))
        }
    }

    /// `self.name(*arguments)`.
    #[inline]
    pub fn call_method(&self, name: &Obj, arguments: &[&Obj]) -> Fallible<Ref> {
        self.method_vectorcall(name, arguments, 0, None)
    }

    /// `self.name(*arguments)`, the last `len(names)` of them by keyword.
    pub fn call_method_with_keywords(&self, name: &Obj, arguments: &[&Obj], names: &Obj) -> Fallible<Ref> {
        self.method_vectorcall(name, arguments, tuple_len(names), Some(names))
    }

    fn method_vectorcall(
        &self,
        name: &Obj,
        arguments: &[&Obj],
        keywords: usize,
        names: Option<&Obj>,
    ) -> Fallible<Ref> {
        let names = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        let mut inline = [self.as_ptr(); INLINE_ARGUMENTS + 1];
        let mut heap;
        let buffer = if arguments.len() <= INLINE_ARGUMENTS {
            &mut inline[..=arguments.len()]
        } else {
            heap = vec![self.as_ptr(); arguments.len() + 1];
            &mut heap[..]
        };
        for (place, argument) in buffer[1..].iter_mut().zip(arguments) {
            *place = argument.as_ptr();
        }
        let count = (buffer.len() - keywords) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: `self` stands first and may be overwritten for the call, as the flag says.
        unsafe {
            Ref::from_owned(ffi::PyObject_VectorcallMethod(name.as_ptr(), buffer.as_ptr(), count, names))
        }
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
        // SAFETY: plain call with live arguments.
        truth(unsafe { ffi::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), ffi::Py_LE) })
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
            let plain = ffi::PyBaseObject_Type.tp_repr.unwrap_or(ffi::PyObject_Repr);
            Ref::from_owned(plain(self.as_ptr()))
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
        // SAFETY: plain calls; the list is new and nobody else's, and its items are owned at once.
        unsafe {
            let list = Ref::from_owned(ffi::PySequence_List(self.as_ptr()))?;
            let count = ffi::PyList_Size(list.as_ptr());
            Ok((0..count)
                .map(|index| Obj::from_ptr(ffi::PyList_GetItem(list.as_ptr(), index)).own())
                .collect())
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
        // SAFETY: plain call with a live argument; -1.0 is an error only with an exception set.
        let value = unsafe { ffi::PyFloat_AsDouble(self.as_ptr()) };
        if value == -1.0 { Raised::if_any().map_or(Ok(value), Err) } else { Ok(value) }
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

macro_rules! builtin_exceptions {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> &'static Obj {
            // SAFETY: built-in exceptions live as long as the interpreter.
            unsafe { Obj::from_ptr(ffi::$symbol) }
        }
    )*};
}

builtin_exceptions! {
    /// `AssertionError`.
    assertion_error = PyExc_AssertionError;
    /// `AttributeError`.
    attribute_error = PyExc_AttributeError;
    /// `BlockingIOError`.
    blocking_io_error = PyExc_BlockingIOError;
    /// `BrokenPipeError`.
    broken_pipe_error = PyExc_BrokenPipeError;
    /// `ConnectionError`.
    connection_error = PyExc_ConnectionError;
    /// `ConnectionResetError`.
    connection_reset_error = PyExc_ConnectionResetError;
    /// `DeprecationWarning`.
    deprecation_warning = PyExc_DeprecationWarning;
    /// `GeneratorExit`.
    generator_exit = PyExc_GeneratorExit;
    /// `ImportError`.
    import_error = PyExc_ImportError;
    /// `IndexError`.
    index_error = PyExc_IndexError;
    /// `InterruptedError`.
    interrupted_error = PyExc_InterruptedError;
    /// `KeyboardInterrupt`.
    keyboard_interrupt = PyExc_KeyboardInterrupt;
    /// `NotImplementedError`.
    not_implemented_error = PyExc_NotImplementedError;
    /// `OverflowError`.
    overflow_error = PyExc_OverflowError;
    /// `OSError`.
    os_error = PyExc_OSError;
    /// `ResourceWarning`.
    resource_warning = PyExc_ResourceWarning;
    /// `RuntimeError`.
    runtime_error = PyExc_RuntimeError;
    /// `RuntimeWarning`.
    runtime_warning = PyExc_RuntimeWarning;
    /// `StopAsyncIteration`.
    stop_async_iteration = PyExc_StopAsyncIteration;
    /// `StopIteration`.
    stop_iteration = PyExc_StopIteration;
    /// `SystemError`.
    system_error = PyExc_SystemError;
    /// `SystemExit`.
    system_exit = PyExc_SystemExit;
    /// `TimeoutError`.
    timeout_error = PyExc_TimeoutError;
    /// `TypeError`.
    type_error = PyExc_TypeError;
    /// `ValueError`.
    value_error = PyExc_ValueError;
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

/// A new `tuple`.
#[inline]
pub fn tuple(items: &[&Obj]) -> Fallible<Ref> {
    // SAFETY: the tuple is new and not shared until every place is filled with an owned reference.
    unsafe {
        let tuple = Ref::from_owned(ffi::PyTuple_New(items.len() as isize))?;
        for (index, item) in items.iter().enumerate() {
            ffi::PyTuple_SET_ITEM(tuple.as_ptr(), index as isize, item.own().into_ptr());
        }
        Ok(tuple)
    }
}

/// A new `list`.
pub fn list(items: &[Ref]) -> Fallible<Ref> {
    // SAFETY: the list is new and not shared until every place is filled with an owned reference.
    unsafe {
        let list = Ref::from_owned(ffi::PyList_New(items.len() as isize))?;
        for (index, item) in items.iter().enumerate() {
            ffi::PyList_SET_ITEM(list.as_ptr(), index as isize, item.clone().into_ptr());
        }
        Ok(list)
    }
}

/// A new `list` that takes the references over.
pub fn list_of(items: Vec<Ref>) -> Fallible<Ref> {
    // SAFETY: the list is new and not shared until every place is filled with an owned reference.
    unsafe {
        let list = Ref::from_owned(ffi::PyList_New(items.len() as isize))?;
        for (index, item) in items.into_iter().enumerate() {
            ffi::PyList_SET_ITEM(list.as_ptr(), index as isize, item.into_ptr());
        }
        Ok(list)
    }
}

/// `list.append(item)`.
#[inline]
pub fn list_append(list: &Obj, item: &Obj) -> Fallible<()> {
    // SAFETY: plain call with live arguments; a non-list is an error, not undefined.
    status(unsafe { ffi::PyList_Append(list.as_ptr(), item.as_ptr()) })
}

/// `list.pop()`.
pub fn list_pop(list: &Obj) -> Fallible<Ref> {
    // SAFETY: plain calls with live arguments; a non-list is an error, not undefined, and the item is owned before the
    // list gives its reference up.
    unsafe {
        let last = ffi::PyList_Size(list.as_ptr()) - 1;
        if last < 0 {
            if let Some(raised) = Raised::if_any() {
                return Err(raised);
            }
            return Err(Raised::new(index_error(), "pop from empty list"));
        }
        let item = Obj::from_ptr(ffi::PyList_GetItem(list.as_ptr(), last)).own();
        status(ffi::PyList_SetSlice(list.as_ptr(), last, last + 1, std::ptr::null_mut()))?;
        Ok(item)
    }
}

/// A new `dict` with these entries.
pub fn dict(entries: &[(&Obj, &Obj)]) -> Fallible<Ref> {
    // SAFETY: plain calls with live arguments.
    unsafe {
        let dict = Ref::from_owned(ffi::PyDict_New())?;
        for (key, value) in entries {
            dict_set(&dict, key, value)?;
        }
        Ok(dict)
    }
}

/// `dict(mapping)`.
pub fn dict_of(mapping: &Obj) -> Fallible<Ref> {
    let copy = dict(&[])?;
    // SAFETY: plain call with live arguments; what is no mapping is an error.
    status(unsafe { ffi::PyDict_Update(copy.as_ptr(), mapping.as_ptr()) })?;
    Ok(copy)
}

/// `dict[key] = value`.
#[inline]
pub fn dict_set(dict: &Obj, key: &Obj, value: &Obj) -> Fallible<()> {
    // SAFETY: plain call with live arguments; a non-dict is an error, not undefined.
    status(unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) })
}

/// `del dict[key]`.
#[inline]
pub fn dict_del(dict: &Obj, key: &Obj) -> Fallible<()> {
    // SAFETY: plain call with live arguments; a non-dict is an error, not undefined.
    status(unsafe { ffi::PyDict_DelItem(dict.as_ptr(), key.as_ptr()) })
}

/// `dict.get(key)`.
#[inline]
pub fn dict_get(dict: &Obj, key: &Obj) -> Fallible<Option<Ref>> {
    // SAFETY: the result is borrowed from the dict, so a count of our own is taken at once.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(dict.as_ptr(), key.as_ptr());
        match Obj::from_ptr_or_null(found) {
            Some(value) => Ok(Some(value.own())),
            None => Raised::if_any().map_or(Ok(None), Err),
        }
    }
}

/// Whether this is a `dict`.
pub fn is_dict(object: &Obj) -> bool {
    // SAFETY: reads flags of a live object.
    unsafe { ffi::PyDict_Check(object.as_ptr()) != 0 }
}

/// `set.add(item)`.
pub fn set_add(set: &Obj, item: &Obj) -> Fallible<()> {
    // SAFETY: plain call with live arguments; a non-set is an error, not undefined.
    status(unsafe { ffi::PySet_Add(set.as_ptr(), item.as_ptr()) })
}

/// `item in set`.
pub fn set_contains(set: &Obj, item: &Obj) -> Fallible<bool> {
    // SAFETY: plain call with live arguments; a non-set is an error, not undefined.
    truth(unsafe { ffi::PySet_Contains(set.as_ptr(), item.as_ptr()) })
}

/// `set.discard(item)`.
pub fn set_discard(set: &Obj, item: &Obj) -> Fallible<()> {
    // SAFETY: plain call with live arguments; a non-set is an error, not undefined.
    truth(unsafe { ffi::PySet_Discard(set.as_ptr(), item.as_ptr()) }).map(drop)
}

/// A new empty `set`.
pub fn new_set() -> Fallible<Ref> {
    // SAFETY: plain call.
    unsafe { Ref::from_owned(ffi::PySet_New(std::ptr::null_mut())) }
}

/// `set(iterable)`.
pub fn set_of(iterable: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call with a live argument.
    unsafe { Ref::from_owned(ffi::PySet_New(iterable.as_ptr())) }
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

/// Whether this is exactly a `tuple`.
#[inline]
pub fn is_tuple(object: &Obj) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyTuple_CheckExact(object.as_ptr()) != 0 }
}

/// How many items a tuple has.
#[inline]
pub fn tuple_len(tuple: &Obj) -> usize {
    // SAFETY: a non-tuple gives -1 and an exception, which the assertion would catch in tests.
    let length = unsafe { ffi::PyTuple_Size(tuple.as_ptr()) };
    debug_assert!(length >= 0);
    length.max(0) as usize
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
