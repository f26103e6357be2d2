//! `Deque`: a queue of objects that becomes a `collections.deque` when a program looks at it.
//!
//! asyncio's locks and queues keep waiters and items in a `collections.deque`, which programs read and change
//! (`queue._queue.clear()`). Ours is native as long as nobody asks for it; from then on the Python object is what
//! counts.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Ref, Slot, Visitor};
use crate::state::state;

/// See the file.
#[derive(Debug, Default)]
pub struct Deque {
    native: RefCell<VecDeque<Ref>>,
    shown: Slot,
}

impl Deque {
    /// Whether it holds nothing.
    #[inline]
    pub fn is_empty(&self) -> Fallible<bool> {
        match self.shown.get() {
            None => Ok(self.native.borrow().is_empty()),
            Some(shown) => is_falsy(&shown),
        }
    }

    /// How many it holds.
    #[inline]
    pub fn len(&self) -> Fallible<usize> {
        match self.shown.get() {
            None => Ok(self.native.borrow().len()),
            Some(shown) => shown.length(),
        }
    }

    /// Adds one at the end.
    #[inline]
    pub fn push(&self, item: Ref) -> Fallible<()> {
        match self.shown.get() {
            None => {
                self.native.borrow_mut().push_back(item);
                Ok(())
            }
            Some(shown) => shown.call_method(&state().names.append, &[&item]).map(drop),
        }
    }

    /// Takes the first one out; `None` if it is empty.
    #[inline]
    pub fn pop(&self) -> Fallible<Option<Ref>> {
        match self.shown.get() {
            None => Ok(self.native.borrow_mut().pop_front()),
            Some(shown) if shown.truthy()? => shown.call_method(&state().names.popleft, &[]).map(Some),
            Some(_) => Ok(None),
        }
    }

    /// Goes through what is there, from the first on; it may change meanwhile.
    #[inline]
    pub fn walk(&self) -> Fallible<Walk<'_>> {
        let shown = match self.shown.get() {
            None => None,
            Some(shown) => Some(shown.items()?),
        };
        Ok(Walk { deque: self, shown, index: 0 })
    }

    /// The first one.
    #[inline]
    pub fn first(&self) -> Fallible<Option<Ref>> {
        match self.shown.get() {
            None => Ok(self.native.borrow().front().cloned()),
            Some(_) => Ok(self.walk()?.next()),
        }
    }

    /// The first one of which this is true, if the deque is native still.
    #[inline]
    pub fn first_native(&self, mut is_it: impl FnMut(&Obj) -> bool) -> Option<Option<Ref>> {
        if !self.shown.is_empty() {
            return None;
        }
        Some(self.native.borrow().iter().find(|item| is_it(item)).cloned())
    }

    /// Removes an object; says whether it was there.
    #[inline]
    pub fn remove(&self, item: &Obj) -> Fallible<bool> {
        // Most leave in the order in which they came.
        if self.shown.is_empty() && self.native.borrow().front().is_some_and(|first| first.is(item)) {
            return self.pop().map(|first| first.is_some());
        }
        self.remove_further(item)
    }

    #[inline(never)]
    fn remove_further(&self, item: &Obj) -> Fallible<bool> {
        let Some(shown) = self.shown.get() else {
            let mut native = self.native.borrow_mut();
            let place = native.iter().position(|held| held.is(item));
            let removed = place.and_then(|place| native.remove(place));
            drop(native);
            return Ok(removed.is_some());
        };
        match shown.call_method(&*object::interned(c"remove")?, &[item]) {
            Ok(_none) => Ok(true),
            Err(raised) if raised.matches(object::value_error()) => {
                raised.discard();
                Ok(false)
            }
            Err(raised) => Err(raised),
        }
    }

    /// The Python object, which it is from now on.
    pub fn show(&self) -> Fallible<Ref> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        let items: Vec<Ref> = self.native.borrow().iter().cloned().collect();
        let shown = state().deque_class.call(&[&*object::list(&items)?])?;
        self.replace(shown.clone());
        Ok(shown)
    }

    /// Puts a Python object of the program's in its place.
    pub fn replace(&self, shown: Ref) {
        self.shown.set(shown);
        drop(self.native.take());
    }

    /// Forgets everything.
    pub fn clear(&self) {
        drop(self.native.take());
        self.shown.clear();
    }

    /// Shows it to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(native) = self.native.try_borrow() {
            native.iter().for_each(|item| visitor.object(item));
        }
        visitor.slot(&self.shown);
    }
}

#[cold]
fn is_falsy(shown: &Obj) -> Fallible<bool> {
    shown.truthy().map(|some| !some)
}

/// A walk through a deque.
#[derive(Debug)]
pub struct Walk<'a> {
    deque: &'a Deque,
    shown: Option<Vec<Ref>>,
    index: usize,
}

impl Iterator for Walk<'_> {
    type Item = Ref;

    #[inline]
    fn next(&mut self) -> Option<Ref> {
        let index = self.index;
        self.index += 1;
        match &self.shown {
            None => self.deque.native.borrow().get(index).cloned(),
            Some(shown) => shown.get(index).cloned(),
        }
    }
}
