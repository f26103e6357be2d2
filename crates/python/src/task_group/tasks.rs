//! The tasks of a group that are not done.
//!
//! asyncio keeps them in a set, which derived classes read and change (`self._tasks.discard(task)`). Ours is native
//! until somebody looks; from then on the Python object is what counts.

use std::cell::RefCell;

use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Ref, Slot, Visitor};
use crate::identity::IdentitySet;

/// See the file.
#[derive(Debug, Default)]
pub struct Tasks {
    native: RefCell<IdentitySet>,
    shown: Slot,
}

impl Tasks {
    #[inline]
    pub fn is_empty(&self) -> Fallible<bool> {
        match self.shown.get() {
            None => Ok(self.native.borrow().is_empty()),
            Some(shown) => shown.truthy().map(|some| !some),
        }
    }

    pub fn len(&self) -> Fallible<usize> {
        match self.shown.get() {
            None => Ok(self.native.borrow().len()),
            Some(shown) if shown.truthy()? => shown.length(),
            Some(_) => Ok(0),
        }
    }

    #[inline]
    pub fn insert(&self, task: &Obj) -> Fallible<()> {
        match self.shown.get() {
            None => {
                self.native.borrow_mut().insert(task);
                Ok(())
            }
            Some(shown) => shown.call_method(&*object::interned(c"add")?, &[task]).map(drop),
        }
    }

    #[inline]
    pub fn discard(&self, task: &Obj) -> Fallible<()> {
        match self.shown.get() {
            None => {
                let removed = self.native.borrow_mut().remove(task);
                drop(removed);
                Ok(())
            }
            Some(shown) => shown.call_method(&*object::interned(c"discard")?, &[task]).map(drop),
        }
    }

    /// All of them.
    pub fn list(&self) -> Fallible<Vec<Ref>> {
        match self.shown.get() {
            None => Ok(self.native.borrow().list()),
            Some(shown) => shown.items(),
        }
    }

    /// `_tasks`, as a set.
    pub fn show(&self) -> Fallible<Ref> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        let set = object::new_set()?;
        let tasks = self.native.borrow().list();
        for task in tasks {
            object::set_add(&set, &task)?;
        }
        self.replace(set.clone());
        Ok(set)
    }

    /// `_tasks = …`.
    pub fn replace(&self, shown: Ref) {
        self.shown.set(shown);
        drop(self.native.take());
    }

    pub fn clear(&self) {
        drop(self.native.take());
        self.shown.clear();
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(native) = self.native.try_borrow() {
            native.traverse(visitor);
        }
        visitor.slot(&self.shown);
    }
}
