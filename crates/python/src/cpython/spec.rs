//! Making a class: its tables, and the type object.
//!
//! A table's line carries the class whose instances its function expects, so that it can only get into that class.
//! Lines are made by the macros in `tables`.

use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::fmt;
use std::marker::PhantomData;

use super::class::{Base, Class, Home, Inst};
use super::ffi;
use super::object::{Obj, Ref};
use super::raised::{Fallible, Raised};

/// The class of lines whose functions take any object.
#[derive(Debug)]
pub enum Anything {}

macro_rules! lines {
    ($($(#[$doc:meta])* $name:ident($raw:ty);)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name<T>($raw, PhantomData<fn(&T)>);

        impl<T> $name<T> {
            /// # Safety
            /// The function takes `T`'s instances, in the way that CPython calls it; names and texts live for ever.
            pub unsafe fn new(raw: $raw) -> $name<T> {
                $name(raw, PhantomData)
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

lines! {
    /// A method of `T`.
    Method(ffi::PyMethodDef);
    /// An attribute of `T`.
    Attribute(ffi::PyGetSetDef);
    /// A slot of `T`'s type.
    TypeSlot(ffi::PyType_Slot);
}

impl<T> Attribute<T> {
    fn is_called(&self, name: &CStr) -> bool {
        // SAFETY: an attribute's name is a text that lives for ever.
        unsafe { CStr::from_ptr(self.0.name) == name }
    }
}

impl Method<Anything> {
    /// The definition, for CPython.
    pub(super) fn raw(&mut self) -> &mut ffi::PyMethodDef {
        &mut self.0
    }
}

/// A table of methods with its end, for ever.
pub(super) fn leak_methods<T>(mut methods: Vec<Method<T>>) -> *mut c_void {
    methods.push(Method(ffi::PyMethodDef::zeroed(), PhantomData));
    methods.leak().as_mut_ptr().cast()
}

/// What a class is made of.
pub struct Spec<T> {
    /// The single base, if it is not `object`.
    pub base: Option<Ref>,
    pub doc: Option<&'static CStr>,
    pub methods: Vec<Method<T>>,
    pub attributes: Vec<Attribute<T>>,
    pub slots: Vec<TypeSlot<T>>,
}

impl<T> Default for Spec<T> {
    fn default() -> Spec<T> {
        Spec { base: None, doc: None, methods: Vec::new(), attributes: Vec::new(), slots: Vec::new() }
    }
}

impl<T> fmt::Debug for Spec<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Spec").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Makes the class and settles its home. Called once for each class, at import.
pub fn define<T: Class>(mut spec: Spec<T>) -> Fallible<Ref> {
    let base = spec.base.as_deref();
    // SAFETY: a base is a type object.
    let base_size = base.map_or(std::mem::size_of::<ffi::PyObject>(), |base| unsafe {
        (*base.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize
    });
    let offset = Home::offset_behind::<T>(base_size);
    if base.is_some() != (T::BASE != Base::Object) {
        return Err(Raised::runtime_error("the class does not say what it derives from"));
    }

    if T::DICT && !spec.attributes.iter().any(|attribute| attribute.is_called(c"__dict__")) {
        spec.attributes.push(dict_attribute());
    }
    // SAFETY: an all-zero entry ends the table.
    spec.attributes.push(Attribute(unsafe { std::mem::zeroed() }, PhantomData));
    let mut slots: Vec<_> = spec.slots.into_iter().map(|line| line.0).collect();
    slots.push(slot(ffi::Py_tp_methods, leak_methods(spec.methods)));
    slots.push(slot(ffi::Py_tp_getset, spec.attributes.leak().as_mut_ptr().cast()));
    if T::DICT {
        slots.push(slot(ffi::Py_tp_members, dict_members(Home::dict_offset::<T>(offset))));
    }
    if T::CALLED {
        slots.push(slot(ffi::Py_tp_members, offsets(vec![(c"__vectorcalloffset__", offset)])));
    }
    if let Some(doc) = spec.doc {
        slots.push(slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()));
    }
    slots.push(slot(0, std::ptr::null_mut()));

    let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC;
    if T::SUBCLASSED {
        flags |= ffi::Py_TPFLAGS_BASETYPE;
    }
    if T::CALLED {
        // The interpreter makes no bound method for a call, if the function's class cannot change.
        flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL
            | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
            | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    }
    let mut description = ffi::PyType_Spec {
        name: T::NAME.as_ptr(),
        basicsize: Home::size_of::<T>(offset) as c_int,
        itemsize: 0,
        flags: flags as c_ulong as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the description is complete and ends with a zero slot; tables and names live for ever.
    let class = unsafe {
        let base = base.map_or(std::ptr::null_mut(), Obj::as_ptr);
        Ref::from_owned(ffi::PyType_FromSpecWithBases(&mut description, base))?
    };
    // SAFETY: a class that was just made, and has no instances yet.
    unsafe { keep_no_values_inline(class.as_ptr().cast()) };
    if !T::CALLED {
        // As of a class written in Python, the name in messages is the short one.
        let short = T::NAME.to_string_lossy();
        let short = super::object::text(short.rsplit('.').next().unwrap_or_default())?;
        class.set(&*super::object::interned(c"__name__")?, &short)?;
    }
    // SAFETY: the type that was just made, of this base, with the structure at this offset.
    unsafe { T::home().settle::<T>(&class, base, offset) };
    Ok(class)
}

/// `Py_TPFLAGS_INLINE_VALUES`, from 3.13 on; no flag before.
pub(super) const INLINE_VALUES: c_ulong = 1 << 2;

/// From 3.14 on instances of asyncio's futures and tasks, and of what derives from them, have place behind them for the values of
/// one attribute. It would cost 24 bytes each, and nearly none has any: they go to a dictionary, as up to 3.13.
///
/// # Safety
/// A class without instances.
unsafe fn keep_no_values_inline(class: *mut ffi::PyTypeObject) {
    // A debug build insists that derived classes, which have such place again, agree with ours.
    #[cfg(all(Py_3_14, not(py_sys_config = "Py_DEBUG")))]
    // SAFETY: by contract. The interpreter asks the flag whenever it makes or looks at an instance.
    unsafe {
        (*class).tp_flags &= !INLINE_VALUES;
        ffi::PyType_Modified(class);
    }
    #[cfg(not(all(Py_3_14, not(py_sys_config = "Py_DEBUG"))))]
    let _ = class;
}

/// The members by which CPython learns where instances have their `__dict__` and their weak references.
fn dict_members(offset: usize) -> *mut c_void {
    let word = std::mem::size_of::<usize>();
    offsets(vec![(c"__dictoffset__", offset), (c"__weaklistoffset__", offset + word)])
}

/// Members that tell CPython where in an instance it finds something.
fn offsets(of: Vec<(&'static CStr, usize)>) -> *mut c_void {
    let member = |(name, offset): (&'static CStr, usize)| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as isize,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    };
    let mut members: Vec<_> = of.into_iter().map(member).collect();
    // SAFETY: an all-zero entry ends the table.
    members.push(unsafe { std::mem::zeroed() });
    members.leak().as_mut_ptr().cast()
}

/// `__dict__`, as CPython's own classes show it.
fn dict_attribute<T>() -> Attribute<T> {
    let definition = ffi::PyGetSetDef {
        name: c"__dict__".as_ptr(),
        get: Some(pyo3::ffi::PyObject_GenericGetDict),
        set: Some(pyo3::ffi::PyObject_GenericSetDict),
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    };
    Attribute(definition, PhantomData)
}

/// A class derived from `base` with nothing of its own, as `class name(base)` makes it.
pub fn derive(base: &Obj, name: &CStr, doc: &CStr) -> Fallible<Ref> {
    let [name, doc] = [name, doc].map(|text| super::object::text(&text.to_string_lossy()));
    let namespace = super::object::dict(&[
        (&*super::object::interned(c"__module__")?, &*super::object::interned(c"velodrome")?),
        (&*super::object::interned(c"__doc__")?, &*doc?),
    ])?;
    let bases = super::object::tuple(&[base])?;
    base.class().call(&[&*name?, &bases, &namespace])
}

/// One slot of a type.
pub(super) fn slot(number: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: number, pfunc: function }
}

/// Makes `metaclass` the type of a class, as `class C(metaclass=M)` would. (`PyType_FromMetaclass` exists from
/// 3.12 on only.)
pub fn set_metaclass(class: &Obj, metaclass: &Obj) {
    // SAFETY: both are heap types that live for ever; a metaclass of ours adds no fields to `type`.
    unsafe {
        ffi::Py_INCREF(metaclass.as_ptr());
        let old = ffi::Py_TYPE(class.as_ptr());
        (*class.as_ptr()).ob_type = metaclass.as_ptr().cast();
        ffi::Py_DECREF(old.cast());
        ffi::PyType_Modified(class.as_ptr().cast());
    }
}

/// A method as a callable of its own, which is in no class: `method` bound to `this`.
pub fn bind<T: Class>(method: &'static Method<T>, this: &Inst<T>) -> Fallible<Ref> {
    // SAFETY: the method lives for ever and is only read; the callable owns a reference to `this`.
    unsafe {
        Ref::from_owned(ffi::PyCFunction_NewEx(
            std::ptr::from_ref(&method.0).cast_mut(),
            this.obj().as_ptr(),
            std::ptr::null_mut(),
        ))
    }
}

/// `object.__setattr__(this, name, value)`, or `__delattr__` without a value.
pub fn set_generic(this: &Obj, name: &Obj, value: Option<&Obj>) -> Fallible<()> {
    let value = value.map_or(std::ptr::null_mut(), Obj::as_ptr);
    // SAFETY: plain call with live arguments; NULL deletes.
    super::object::status(unsafe { ffi::PyObject_GenericSetAttr(this.as_ptr(), name.as_ptr(), value) })
}

/// Gives a class methods that take instances of its base as well: `C.method(instance of the base)`.
///
/// They are method descriptors like any other, of the base's instances but in the class's dictionary.
pub fn share_methods(class: &Obj, base: &Obj, methods: Vec<Method<Anything>>) -> Fallible<()> {
    for method in methods.leak() {
        // SAFETY: the definition lives for ever and its function takes any object; the class is a heap type made by
        // `define`, whose dictionary is changed before anybody else sees it.
        unsafe {
            let descriptor = Ref::from_owned(ffi::PyDescr_NewMethod(
                base.as_ptr().cast(),
                std::ptr::from_mut(method.raw()),
            ))?;
            let dict = (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_dict;
            super::object::status(ffi::PyDict_SetItemString(dict, method.0.ml_name, descriptor.as_ptr()))?;
            ffi::PyType_Modified(class.as_ptr().cast());
        }
    }
    Ok(())
}

/// Takes a name out of a class without touching the slot that it stands for.
///
/// Our futures are their own iterators, which spares an allocation per await; but with a visible `__next__` they
/// would be `collections.abc.Iterator`s, which asyncio's are not.
pub fn hide_name(class: &Obj, name: &CStr) -> Fallible<()> {
    let name = super::object::interned(name)?;
    // SAFETY: a heap type made by `define`; its dictionary is changed before anybody else sees it.
    unsafe {
        let dict = (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_dict;
        super::object::status(ffi::PyDict_DelItem(dict, name.as_ptr()))?;
        ffi::PyType_Modified(class.as_ptr().cast());
    }
    Ok(())
}

/// The outcome of an entry that returns an object.
#[inline]
pub fn give(outcome: Fallible<Ref>) -> *mut ffi::PyObject {
    match outcome {
        Ok(value) => value.into_ptr(),
        Err(_raised) => std::ptr::null_mut(),
    }
}

/// The outcome of an entry that returns 0 or -1.
#[inline]
pub fn give_status(outcome: Fallible<()>) -> c_int {
    match outcome {
        Ok(()) => 0,
        Err(_raised) => -1,
    }
}
