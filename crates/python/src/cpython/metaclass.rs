//! Making a metaclass, and what `type` itself answers.

use std::ffi::c_uint;

use super::ffi;
use super::object::{Obj, Ref, interned};
use super::raised::Fallible;
use super::spec::{Anything, Method, leak_methods, slot};

/// A metaclass derived from `base` with these methods and no fields.
pub fn define(base: &Obj, methods: Vec<Method<Anything>>) -> Fallible<Ref> {
    let mut slots = [slot(ffi::Py_tp_methods, leak_methods(methods)), slot(0, std::ptr::null_mut())];
    let mut description = ffi::PyType_Spec {
        name: c"velodrome.AsyncioMeta".as_ptr(),
        basicsize: 0,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the description is complete and ends with a zero slot; sizes are inherited from the base, which is a class.
    unsafe { Ref::from_owned(ffi::PyType_FromSpecWithBases(&mut description, base.as_ptr())) }
}

/// `type.__subclasscheck__(class, candidate)`: what there is without a metaclass's opinion.
pub fn subclass_check(class: &Obj, candidate: &Obj) -> Fallible<Ref> {
    // SAFETY: `type` is a static object.
    let type_itself = unsafe { Obj::from_ptr((&raw mut ffi::PyType_Type).cast()) };
    type_itself.get(&*interned(c"__subclasscheck__")?)?.call(&[class, candidate])
}

/// One method of a metaclass: `fn(class, argument)`.
macro_rules! metaclass_method {
    ($owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (class: *mut pyo3::ffi::PyObject, argument: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: `self` is a class here; the argument is live.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::tables::argument(class), $crate::cpython::tables::argument(argument))
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_O,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes any two objects.
        unsafe { $crate::cpython::spec::Method::<$crate::cpython::spec::Anything>::new(definition) }
    }};
}
