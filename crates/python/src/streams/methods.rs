//! `Methods`: whether the methods of an object are still ours.
//!
//! Programs override methods in derived classes, replace them in a class or on an instance. asyncio's streams call one
//! another's methods by name, so whoever goes the short way asks here first. The answer is kept by the version of the
//! object's type, a number that CPython changes with every change of the type or its bases: usually it takes one
//! comparison.

use std::cell::Cell;
use std::ffi::CStr;

use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Class, Fallible, Inst};

/// For how many types the answer is kept.
const KEPT: usize = 8;

/// The methods that matter in a class.
#[derive(Debug)]
pub struct Methods {
    /// Their names, and what they are in a class that changes nothing.
    entries: Vec<(Ref, Ref)>,
    /// The same of attributes, which an instance's `__dict__` does not hide.
    attributes: Vec<(Ref, Ref)>,
    /// Versions of types that have all of them.
    versions: [Cell<u32>; KEPT],
}

impl Methods {
    /// The methods of these names, which `class` has or else asyncio's class `behind`; and the attributes that `class` has.
    pub fn note(class: &Obj, behind: &Obj, names: &[&CStr], attributes: &[&CStr]) -> Fallible<Methods> {
        let found = |name: &CStr| {
            let name = object::interned(name)?;
            let value = match class.get_if_there(&name)? {
                Some(value) => value,
                None => behind.get(&name)?,
            };
            Ok((name, value))
        };
        let names = names.iter().copied().chain([c"__getattribute__"]);
        let entries = names.map(found).collect::<Fallible<_>>()?;
        let attributes = attributes.iter().copied().map(found).collect::<Fallible<_>>()?;
        let versions = std::array::from_fn(|_| Cell::new(0));
        Ok(Methods { entries, attributes, versions })
    }

    /// Whether this object has all of them, unchanged.
    #[inline]
    pub fn are_ours<T: Class>(&self, this: &Inst<T>) -> Fallible<bool> {
        Ok(self.are_of_class(this.obj())? && (!this.has_dict() || !self.any_is_in_dict(this.obj())?))
    }

    /// Whether this object's class has all of them, unchanged.
    #[inline]
    pub fn are_of_class(&self, this: &Obj) -> Fallible<bool> {
        let version = this.class_version();
        let known = version != 0 && self.versions[version as usize % KEPT].get() == version;
        Ok(known || self.are_in_class(this)?)
    }

    #[cold]
    fn are_in_class(&self, this: &Obj) -> Fallible<bool> {
        for (name, value) in self.entries.iter().chain(&self.attributes) {
            if !this.class().get_if_there(name)?.is_some_and(|found| found.is(value)) {
                return Ok(false);
            }
        }
        // Looking has given the type a version, if it is to have one.
        let version = this.class_version();
        self.versions[version as usize % KEPT].set(version);
        Ok(true)
    }

    fn any_is_in_dict(&self, this: &Obj) -> Fallible<bool> {
        let dict = object::instance_dict(this)?;
        for (name, _method) in &self.entries {
            if object::dict_get(&dict, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
