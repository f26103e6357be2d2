//! Tuples, lists, dictionaries and sets.
//!
//! What is new is filled before anybody else can see it. A function that is given an object of another type says so by
//! an exception, as CPython's own do.

use super::builtin_exceptions::index_error;
use super::ffi;
use super::object::{Obj, Ref, status, truth};
use super::raised::{Fallible, Raised};

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

/// Whether this is exactly a `list`.
#[inline]
pub fn is_list(object: &Obj) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyList_CheckExact(object.as_ptr()) != 0 }
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

/// `object.__dict__`, whatever the object's class makes of that name.
pub fn instance_dict(object: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call with a live argument; an object without one is an error.
    unsafe { Ref::from_owned(ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut())) }
}

/// The same, set; or deleted, which is refused.
pub fn set_instance_dict(object: &Obj, dict: Option<&Obj>) -> Fallible<()> {
    let dict = dict.map_or(std::ptr::null_mut(), Obj::as_ptr);
    // SAFETY: plain call with live arguments, or NULL for none.
    status(unsafe { ffi::PyObject_GenericSetDict(object.as_ptr(), dict, std::ptr::null_mut()) })
}

/// Whether an object has been given attributes of its own, or somebody has looked for them in its `__dict__`.
#[inline]
pub fn has_instance_dict(object: &Obj) -> bool {
    // SAFETY: plain call with a live argument; the place, if there is one, holds a reference or NULL.
    unsafe {
        let place = _PyObject_GetDictPtr(object.as_ptr());
        !place.is_null() && !(*place).is_null()
    }
}

unsafe extern "C" {
    /// `object.h`: where an object has its `__dict__`, or NULL if it cannot have one.
    fn _PyObject_GetDictPtr(object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject;
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
