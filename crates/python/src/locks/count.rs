//! What semaphores and barriers count with: an integer, nearly always.
//!
//! asyncio takes whatever can be compared and counted, and programs make use of it: a semaphore of `math.inf` is one
//! that never blocks. Such a number is kept as it was given, and counted by its own operators.

use std::cell::Cell;

use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Ref, Slot, Visitor};
use crate::state::state;

/// A number that is counted up and down.
#[derive(Debug)]
pub struct Count {
    /// It, unless there is another.
    whole: Cell<i64>,
    other: Slot,
}

/// Integers beyond it are Python's to count, so that ours never overflow.
const LARGEST: i64 = 1 << 62;

impl Count {
    pub const fn new(whole: i64) -> Count {
        Count { whole: Cell::new(whole), other: Slot::empty() }
    }

    /// Takes over a number of a program.
    pub fn set(&self, number: &Obj) -> Fallible<()> {
        if number.is_int() {
            let whole = number.to_i64_or_nearest()?;
            if whole.abs() <= LARGEST {
                self.whole.set(whole);
                self.other.clear();
                return Ok(());
            }
        }
        self.other.set(number.own());
        Ok(())
    }

    /// The number as Python has it.
    pub fn get(&self) -> Fallible<Ref> {
        self.other.get().map_or_else(|| object::int(self.whole.get()), Ok)
    }

    /// Counts up, or down.
    #[inline]
    pub fn add(&self, step: i64) -> Fallible<()> {
        if self.other.is_empty() {
            self.whole.set(self.whole.get() + step);
            return Ok(());
        }
        self.add_otherwise(step)
    }

    #[cold]
    fn add_otherwise(&self, step: i64) -> Fallible<()> {
        self.set(&*self.get()?.add(&*object::int(step)?)?)
    }

    /// Whether it is this integer.
    #[inline]
    pub fn is(&self, whole: i64) -> Fallible<bool> {
        if self.other.is_empty() { Ok(self.whole.get() == whole) } else { self.is_otherwise(whole) }
    }

    #[cold]
    fn is_otherwise(&self, whole: i64) -> Fallible<bool> {
        self.get()?.equals(&*object::int(whole)?)
    }

    /// Whether it is above zero.
    #[inline]
    pub fn is_positive(&self) -> Fallible<bool> {
        if self.other.is_empty() { Ok(self.whole.get() > 0) } else { self.is_otherwise_positive() }
    }

    #[cold]
    fn is_otherwise_positive(&self) -> Fallible<bool> {
        self.get()?.exceeds(&state().zero)
    }

    /// Whether it has reached a limit.
    pub fn is_at_least(&self, limit: &Obj) -> Fallible<bool> {
        limit.is_at_most(&*self.get()?)
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.other);
    }

    pub fn clear(&self) {
        self.other.clear();
    }
}
