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
    dict: Ref,
    /// Versions of types that have all of them.
    versions: [Cell<u32>; KEPT],
}

impl Methods {
    /// The methods of these names, which `class` has or else asyncio's class `behind`.
    pub fn note(class: &Obj, behind: &Obj, names: &[&CStr]) -> Fallible<Methods> {
        let mut entries = Vec::new();
        for name in names.iter().copied().chain([c"__getattribute__"]) {
            let name = object::interned(name)?;
            let method = match class.get_if_there(&name)? {
                Some(method) => method,
                None => behind.get(&name)?,
            };
            entries.push((name, method));
        }
        let versions = std::array::from_fn(|_| Cell::new(0));
        Ok(Methods { entries, dict: object::interned(c"__dict__")?, versions })
    }

    /// Whether this object has all of them, unchanged.
    #[inline]
    pub fn are_ours<T: Class>(&self, this: &Inst<T>) -> Fallible<bool> {
        let version = this.obj().class_version();
        if (version == 0 || self.versions[version as usize % KEPT].get() != version)
            && !self.are_in_class(this.obj())?
        {
            return Ok(false);
        }
        Ok(!this.has_dict() || !self.any_is_in_dict(this.obj())?)
    }

    #[cold]
    fn are_in_class(&self, this: &Obj) -> Fallible<bool> {
        for (name, method) in &self.entries {
            if !this.class().get_if_there(name)?.is_some_and(|found| found.is(method)) {
                return Ok(false);
            }
        }
        // Looking has given the type a version, if it is to have one.
        let version = this.class_version();
        self.versions[version as usize % KEPT].set(version);
        Ok(true)
    }

    fn any_is_in_dict(&self, this: &Obj) -> Fallible<bool> {
        let dict = this.get(&self.dict)?;
        for (name, _method) in &self.entries {
            if object::dict_get(&dict, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
