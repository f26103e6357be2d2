//! [`Roster`]: the tasks of a loop that are not done.
//!
//! A list to which tasks are added at the end, with holes where they have ended. (A slab would hand out its free places in the
//! order in which they were left, which is a walk through cold memory when tasks end in random order: 67 ns of 700 for each
//! of 100,000 sleepers.)
//!
//! What must stay true: a task's slot says where it is; there are never more holes than tasks, but for a few.

use crate::abi::CellRef;

/// So many holes are always allowed.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Roster {
    places: Vec<Option<CellRef>>,
    count: usize,
}

impl Roster {
    #[inline]
    pub(crate) fn add(&mut self, task: CellRef) {
        if self.places.len() == self.places.capacity() && self.places.len() > 2 * self.count + FEW {
            self.close_up();
        }
        task.set_slot(self.places.len());
        self.places.push(Some(task));
        self.count += 1;
    }

    /// Takes a task out, for the caller to drop when nothing is borrowed.
    #[inline]
    pub(crate) fn remove(&mut self, slot: usize) -> Option<CellRef> {
        let task = self.places[slot].take()?;
        self.count -= 1;
        while let Some(None) = self.places.last() {
            self.places.pop();
        }
        Some(task)
    }

    /// Where a task is kept, to be fetched.
    #[inline]
    pub(crate) fn place(&self, slot: usize) -> Option<*const Option<CellRef>> {
        self.places.get(slot).map(std::ptr::from_ref)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CellRef> {
        self.places.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[cold]
    fn close_up(&mut self) {
        self.places.retain(Option::is_some);
        for (slot, task) in self.places.iter().flatten().enumerate() {
            task.set_slot(slot);
        }
        self.places.shrink_to(2 * self.count + FEW);
    }
}
