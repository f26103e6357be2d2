//! What a class has, itself or from those that it derives from, without the exception that tells of a missing attribute: making
//! that one's message takes longer than a task does.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::ffi;
use super::object::Obj;

unsafe extern "C" {
    /// Borrowed, or NULL without an exception. Private, and exported by all versions, because Cython uses it.
    fn _PyType_Lookup(class: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Whether neither the object's class nor the one that it says it has (which is the same) has an attribute of this name, so
/// that a search would not find it. `false` where only a search can tell.
pub fn lacks(object: &Obj, dunder_class: &Obj, name: &Obj) -> bool {
    /// What `object.__class__` is, in the class `object`.
    static DESCRIPTOR: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

    let class: *mut ffi::PyTypeObject = object.class().as_ptr().cast();
    let metaclass = object.class().class().as_ptr();
    // SAFETY: live types, and names that are strings; what is found is only compared.
    unsafe {
        if metaclass != (&raw mut ffi::PyType_Type).cast() {
            return false;
        }
        let mut descriptor = DESCRIPTOR.load(Ordering::Relaxed);
        if descriptor.is_null() {
            descriptor = _PyType_Lookup(&raw mut ffi::PyBaseObject_Type, dunder_class.as_ptr());
            DESCRIPTOR.store(descriptor, Ordering::Relaxed);
        }
        _PyType_Lookup(class, dunder_class.as_ptr()) == descriptor
            && _PyType_Lookup(class, name.as_ptr()).is_null()
            && _PyType_Lookup(&raw mut ffi::PyType_Type, name.as_ptr()).is_null()
    }
}
