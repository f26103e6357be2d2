//! A place in a Rust structure that owns a Python object, or none.

use std::cell::Cell;
use std::fmt;

use super::object::{Obj, Ref};

/// Owns an object or none; it can be replaced through `&`, and never hands out a borrow of what it holds.
///
/// The old value is dropped when the new one is already in place, because dropping it can run Python, which can
/// look here.
#[derive(Default)]
#[repr(transparent)]
pub struct Slot(Cell<Option<Ref>>);

impl Slot {
    /// An empty slot.
    pub const fn empty() -> Slot {
        Slot(Cell::new(None))
    }

    /// A slot that holds this.
    #[inline]
    pub const fn of(object: Ref) -> Slot {
        Slot(Cell::new(Some(object)))
    }

    /// Another reference to what is held.
    #[inline]
    pub fn get(&self) -> Option<Ref> {
        // SAFETY: the cell is read in place, without moving the reference out; `own` runs no Python.
        unsafe { (*self.0.as_ptr()).as_ref().map(|held| held.own()) }
    }

    /// The same, `None` as Python has it.
    pub fn get_or_none(&self) -> Ref {
        self.get().unwrap_or_else(|| super::object::none().own())
    }

    /// Puts an object in place of what was there.
    #[inline]
    pub fn set(&self, object: Ref) {
        drop(self.0.replace(Some(object)));
    }

    /// Puts an object, or none, in place of what was there, which is returned.
    #[inline]
    pub fn replace(&self, object: Option<Ref>) -> Option<Ref> {
        self.0.replace(object)
    }

    /// Puts an object into a slot that is known to be empty, which is not looked at again.
    #[inline]
    pub fn fill(&self, object: Ref) {
        debug_assert!(self.is_empty());
        std::mem::forget(self.0.replace(Some(object)));
    }

    /// Puts in what an attribute is set to, of which nothing is held if that is `None`, or if it is deleted.
    pub fn assign(&self, value: Option<&Obj>) {
        match value.filter(|value| !value.is_none()) {
            Some(value) => self.set(value.own()),
            None => self.clear(),
        }
    }

    /// Takes out what is there.
    #[inline]
    pub fn take(&self) -> Option<Ref> {
        self.0.take()
    }

    /// Empties the slot.
    #[inline]
    pub fn clear(&self) {
        drop(self.0.take());
    }

    /// Whether nothing is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: read in place.
        unsafe { (*self.0.as_ptr()).is_none() }
    }

    /// Whether this very object is held.
    #[inline]
    pub fn holds(&self, object: &Obj) -> bool {
        // SAFETY: read in place.
        unsafe { (*self.0.as_ptr()).as_ref().is_some_and(|held| held.is(object)) }
    }

    /// Whether both hold the same object.
    #[inline]
    pub fn peek_is(&self, other: &Slot) -> bool {
        match (self.peek(), other.peek()) {
            (Some(ours), Some(theirs)) => ours.is(theirs),
            _ => false,
        }
    }

    /// How many references there are to what is held, this one included.
    #[inline]
    pub fn references(&self) -> usize {
        self.peek().map_or(0, Obj::references)
    }

    /// Shows what is held to the garbage collector.
    pub fn traverse(&self, visitor: &mut super::class::Visitor<'_>) {
        visitor.slot(self);
    }

    /// The pointer held, for the garbage collector, which takes no references.
    pub(super) fn peek(&self) -> Option<&Obj> {
        // SAFETY: read in place; the borrow is used before anything can replace the value.
        unsafe { (*self.0.as_ptr()).as_deref() }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.peek(), formatter)
    }
}
