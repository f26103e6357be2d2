//! What `__dict__` shows, and when attributes are kept there.
//!
//! asyncio's streams keep everything in their `__dict__`, and programs take it out and put it back (aioconsole's protocol
//! does, to outlive the end of one of its pipes). Ours are native until somebody looks; then they are moved there, and
//! that is what counts. A class that has made something else of an attribute's name, a property or a default of its own,
//! is taken to have looked from the beginning.

use std::cell::Cell;
use std::ffi::CStr;

use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Class, Fallible, Inst};

/// A class whose attributes can be kept in `__dict__`.
pub trait Shown: Class {
    /// Whether they are.
    fn shown(&self) -> &Cell<bool>;

    /// All that are there, with their values, in asyncio's order.
    fn attributes(this: &Inst<Self>) -> Fallible<Vec<(&'static CStr, Option<Ref>)>>;

    /// Gives up what is native.
    fn forget(this: &Inst<Self>);
}

#[inline]
pub fn is_shown<T: Shown>(this: &Inst<T>) -> bool {
    this.shown().get()
}

/// From now on the attributes are kept in `__dict__`, which whoever calls this fills.
pub fn begin<T: Shown>(this: &Inst<T>) {
    this.shown().set(true);
    T::forget(this);
}

/// An attribute, of an object that keeps them in `__dict__`.
#[cold]
pub fn get(this: &Obj, name: &CStr) -> Fallible<Ref> {
    find(this, name)?.ok_or_else(|| super::no_attribute(this, &name.to_string_lossy()))
}

/// One that is `None` where nobody has set it.
#[cold]
pub fn get_or_none(this: &Obj, name: &CStr) -> Fallible<Ref> {
    Ok(find(this, name)?.unwrap_or_else(|| object::none().own()))
}

fn find(this: &Obj, name: &CStr) -> Fallible<Option<Ref>> {
    object::dict_get(&*object::instance_dict(this)?, &*object::interned(name)?)
}

/// The same, set or deleted.
#[cold]
pub fn set(this: &Obj, name: &CStr, value: Option<&Obj>) -> Fallible<()> {
    let dict = object::instance_dict(this)?;
    let key = object::interned(name)?;
    match value {
        Some(value) => object::dict_set(&dict, &key, value),
        None => {
            get(this, name)?;
            object::dict_del(&dict, &key)
        }
    }
}

/// `__dict__`.
pub fn dict<T: Shown>(this: &Inst<T>) -> Fallible<Ref> {
    let dict = object::instance_dict(this.obj())?;
    if !is_shown(this) {
        for (name, value) in T::attributes(this)? {
            if let Some(value) = value {
                object::dict_set(&dict, &*object::interned(name)?, &value)?;
            }
        }
        begin(this);
    }
    Ok(dict)
}

/// `__dict__ = …`.
pub fn set_dict<T: Shown>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    object::set_instance_dict(this.obj(), value)?;
    if !is_shown(this) {
        begin(this);
    }
    Ok(())
}
