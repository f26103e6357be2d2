//! [`Run`]: timers that were made in the order of their deadlines.
//!
//! What must stay true:
//!
//! - Entries are in order of `(at, stamp)`. The first and the last are live.
//! - Those in between that were cancelled leave a gap. Gaps are never more than the live entries, or few.
//! - A place counts from the first entry that ever was, so it stays the same when entries before it leave.

use std::collections::VecDeque;

use crate::time::Time;
use crate::timers::{Entry, KEEP};

/// The slot of an entry that was cancelled.
const GAP: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Run {
    entries: VecDeque<Entry>,
    /// The deadline of the last entry, to be had without looking there; zero if there is none.
    last: Time,
    /// The place of the first entry. Wraps around.
    first: u32,
    gaps: usize,
}

impl Run {
    /// The entry whose time comes first.
    #[inline]
    pub(crate) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// The deadline that is not before those of all entries.
    #[inline]
    pub(crate) fn last(&self) -> Time {
        self.last
    }

    /// Adds an entry that comes after all others, and says at which place.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) -> u32 {
        let place = self.first.wrapping_add(self.entries.len() as u32);
        self.last = entry.at;
        self.entries.push_back(entry);
        place
    }

    /// Takes the entry at a place away.
    #[inline]
    pub(crate) fn remove(&mut self, place: u32) {
        let index = place.wrapping_sub(self.first) as usize;
        self.entries[index].slot = GAP;
        self.gaps += 1;
        while self.entries.front().is_some_and(|entry| entry.slot == GAP) {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
            self.gaps -= 1;
        }
        while self.entries.back().is_some_and(|entry| entry.slot == GAP) {
            self.entries.pop_back();
            self.gaps -= 1;
        }
        self.last = self.entries.back().map_or(Time::ZERO, |entry| entry.at);
    }

    /// Whether there are too many gaps.
    #[inline]
    pub(crate) fn is_ragged(&self) -> bool {
        self.gaps > KEEP && self.gaps > self.entries.len() / 2
    }

    /// Closes the gaps, and tells which entry is where now.
    #[cold]
    pub(crate) fn close_gaps(&mut self, mut tell: impl FnMut(&Entry, u32)) {
        self.entries.retain(|entry| entry.slot != GAP);
        self.gaps = 0;
        for (entry, index) in self.iter().zip(0..) {
            tell(entry, self.first.wrapping_add(index));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.slot != GAP)
    }

    /// Whether the next entry needs more memory.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() == self.entries.capacity()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn give_back(&mut self, least: usize) {
        self.entries.shrink_to((self.entries.len() * 2).max(least));
    }
}
