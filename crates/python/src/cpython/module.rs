//! The module: what PyO3 makes, filled through our own references.

use std::ffi::CStr;

use super::ffi;
use pyo3::prelude::*;

use super::object::{Obj, Ref, interned};
use super::raised::Fallible;
use super::spec::{Anything, Method};

/// The module while it is filled.
#[derive(Debug)]
pub struct Module<'a>(&'a Obj);

/// A function of a module, which lives for ever.
#[derive(Debug)]
pub struct Function(Method<Anything>);

impl Function {
    /// A function of a module, whose entry takes any object as the module.
    pub fn new(method: Method<Anything>) -> Function {
        Function(method)
    }

    fn leak(self) -> &'static mut ffi::PyMethodDef {
        Box::leak(Box::new(self.0)).raw()
    }
}

/// Lets `work` fill the module that PyO3 made.
pub fn fill(module: &Bound<'_, PyModule>, work: impl FnOnce(&Module<'_>) -> Fallible<()>) -> PyResult<()> {
    // SAFETY: a live module, for the duration of the call.
    let object = unsafe { Obj::from_ptr(module.as_ptr()) };
    work(&Module(object)).map_err(|_raised| PyErr::fetch(module.py()))
}

impl Module<'_> {
    /// Adds an attribute.
    pub fn add(&self, name: &CStr, value: &Obj) -> Fallible<()> {
        self.0.set(&*interned(name)?, value)
    }

    /// Adds a function of this name, which says that it is of the package. It may be one that returns coroutines.
    pub fn add_function(
        &self,
        function: Function,
        returns_coroutines: impl Fn(&Obj) -> Fallible<bool>,
    ) -> Fallible<()> {
        let definition = function.leak();
        // SAFETY: the definition's name is a NUL-terminated string that lives for ever.
        let name = unsafe { CStr::from_ptr(definition.ml_name) };
        let package = interned(c"velodrome")?;
        // SAFETY: the definition lives for ever; the module's name is a string.
        let callable = unsafe {
            Ref::from_owned(ffi::PyCFunction_NewEx(definition, std::ptr::null_mut(), package.as_ptr()))?
        };
        if returns_coroutines(&*interned(name)?)? {
            return self.add(name, &*super::function::marked(&callable)?);
        }
        self.add(name, &callable)
    }

    /// Gets an attribute.
    pub fn get(&self, name: &Obj) -> Fallible<Ref> {
        self.0.get(name)
    }
}

/// A function as a callable in no module.
pub fn callable(function: Function) -> Fallible<Ref> {
    // SAFETY: the definition lives for ever.
    unsafe {
        Ref::from_owned(ffi::PyCFunction_NewEx(function.leak(), std::ptr::null_mut(), std::ptr::null_mut()))
    }
}

/// A function of a module: `fn(Args<'_>) -> Fallible<Ref>`.
macro_rules! module_function {
    ($owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (_module: *mut pyo3::ffi::PyObject, arguments: *const *mut pyo3::ffi::PyObject,
             count: pyo3::ffi::Py_ssize_t, names: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: a vectorcall's arguments.
            $crate::cpython::spec::give($function(unsafe {
                $crate::cpython::tables::vector(arguments, count, names)
            })));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: pyo3::ffi::METH_FASTCALL | pyo3::ffi::METH_KEYWORDS,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes any object for the module.
        $crate::cpython::module::Function::new(unsafe { $crate::cpython::spec::Method::new(definition) })
    }};
}
