//! [`Run`]: timers that were made in the order of their deadlines.
//!
//! What must stay true:
//!
//! - Entries are in order of `(at, stamp)`. The first and the last are live.
//! - Those in between that were cancelled leave a gap. Gaps are never more than the live entries, or few.
//! - A place counts from the first entry that ever was, so it stays the same when entries before it leave.

use std::collections::VecDeque;

use crate::timers::{Entry, KEEP};

#[derive(Debug, Default)]
pub(crate) struct Run {
    entries: VecDeque<Option<Entry>>,
    /// The place of the first entry. Wraps around.
    first: u32,
    gaps: usize,
}

impl Run {
    /// The entry whose time comes first.
    #[inline]
    pub(crate) fn first(&self) -> Option<&Entry> {
        self.entries.front()?.as_ref()
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.back()?.as_ref()
    }

    /// Adds an entry that comes after all others, and says at which place.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> u32 {
        let place = self.first.wrapping_add(self.entries.len() as u32);
        self.entries.push_back(Some(entry));
        place
    }

    /// Takes the entry at a place away.
    #[inline]
    pub(crate) fn remove(&mut self, place: u32) {
        let index = place.wrapping_sub(self.first) as usize;
        self.entries[index] = None;
        self.gaps += 1;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
            self.gaps -= 1;
        }
        while let Some(None) = self.entries.back() {
            self.entries.pop_back();
            self.gaps -= 1;
        }
    }

    /// Whether there are too many gaps.
    #[inline]
    pub(crate) fn is_ragged(&self) -> bool {
        self.gaps > KEEP && self.gaps > self.entries.len() / 2
    }

    /// Closes the gaps, and tells which entry is where now.
    #[cold]
    pub(crate) fn close_gaps(&mut self, mut tell: impl FnMut(&Entry, u32)) {
        self.entries.retain(Option::is_some);
        self.gaps = 0;
        for (entry, index) in self.iter().zip(0..) {
            tell(entry, self.first.wrapping_add(index));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn give_back(&mut self, least: usize) {
        self.entries.shrink_to((self.entries.len() * 2).max(least));
    }
}
