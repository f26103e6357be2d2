//! Jobs with a deadline: a heap of small entries over a slab of jobs.
//!
//! What must stay true:
//!
//! - Every live timer has exactly one heap entry, and its slot knows where that entry is (`position`). So a cancelled timer
//!   leaves at once, wherever it is, and there are never dead entries to skip, count or compact.
//! - Order is `(at, stamp)`. Stamps count up, so timers of the same deadline fire in the order they were made.
//! - A stamp is never used twice: it is also the generation that makes a stale key harmless.
//! - Memory follows the number of live timers down again, in steps large enough to cost O(1) per timer. (A timer that outlives a
//!   burst keeps the slots below its own.)
//!
//! Why a heap that knows positions, and not one that lets cancelled entries surface: nearly every timer of a server is a timeout
//! that does not fire. Its deadline is late, so its entry lies near the end of the heap, and what replaces it (the last entry) is
//! late too: removing it moves an entry or two, while dead entries cost memory, a compaction, and a check on every look.
//! Four children per node: half the levels of a binary heap, and four entries of 24 bytes are two cache lines.

use slab::Slab;

use crate::time::Time;

const ARITY: usize = 4;

/// Below this many slots nothing is given back: not worth the allocator's time.
const KEEP: usize = 64;

/// So many timers that expire together are taken one by one before a shorter way is looked for.
const FEW: usize = 8;

/// Names a timer, see [`Engine::timer`](crate::Engine::timer). Stale once the timer fired or was cancelled, and harmless then.
///
/// ```
/// use velodrome_engine::{Engine, Time};
///
/// let mut engine = Engine::new()?;
/// let key = engine.timer(Time::MAX, "late");
/// assert_eq!(engine.cancel(key), Some("late"));
/// assert_eq!(engine.cancel(key), None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerKey {
    stamp: u64,
    slot: u32,
}

impl TimerKey {
    /// As two plain numbers, for a table of C functions.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time, TimerKey};
    ///
    /// let mut engine = Engine::new()?;
    /// let key = engine.timer(Time::MAX, ());
    /// assert_eq!(TimerKey::from_raw(key.into_raw()), key);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn into_raw(self) -> (u64, u32) {
        (self.stamp, self.slot)
    }

    /// Back from [`TimerKey::into_raw`]. Numbers that never were a key name no timer.
    ///
    /// ```
    /// use velodrome_engine::{Engine, TimerKey};
    ///
    /// let mut engine = Engine::<()>::new()?;
    /// assert_eq!(engine.cancel(TimerKey::from_raw((0, 0))), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn from_raw((stamp, slot): (u64, u32)) -> TimerKey {
        TimerKey { stamp, slot }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Time,
    stamp: u64,
    slot: u32,
}

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        (self.at, self.stamp) < (other.at, other.stamp)
    }
}

#[derive(Debug)]
struct Slot<J> {
    stamp: u64,
    position: u32,
    job: J,
}

#[derive(Debug)]
pub(crate) struct Timers<J> {
    heap: Vec<Entry>,
    slots: Slab<Slot<J>>,
    /// The stamp given out last; the first is 1, so that a zeroed key is stale.
    stamp: u64,
    /// With fewer live timers than this it is time to give memory back.
    low: usize,
}

impl<J> Timers<J> {
    pub(crate) fn new() -> Self {
        Timers { heap: Vec::new(), slots: Slab::new(), stamp: 0, low: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn insert(&mut self, at: Time, job: J) -> TimerKey {
        self.stamp += 1;
        let stamp = self.stamp;
        let position = self.heap.len();
        let capacity = self.capacity();
        let slot = self.slots.insert(Slot { stamp, position: index(position), job });
        let slot = index(slot);
        self.heap.push(Entry { at, stamp, slot });
        if self.capacity() != capacity {
            self.low = self.spare();
        }
        self.rise(position);
        TimerKey { stamp, slot }
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<J> {
        let slot = key.slot as usize;
        let position = match self.slots.get(slot) {
            Some(found) if found.stamp == key.stamp => found.position as usize,
            _ => return None,
        };
        self.unlink(position);
        let job = self.slots.remove(slot).job;
        self.shrink();
        Some(job)
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Removes the first timer whose deadline is not after `now`.
    #[inline]
    pub(crate) fn pop(&mut self, now: Time) -> Option<J> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.unlink(0);
        let job = self.slots.remove(first.slot as usize).job;
        self.shrink();
        Some(job)
    }

    /// Removes every timer whose deadline is not after `now` and hands the jobs over, in order.
    ///
    /// One after the other while they are few. When most of the heap turns out to be due, as after a burst of equal
    /// delays, sorting what is due and building a heap of the rest is cheaper than as many walks down the heap.
    pub(crate) fn expire(&mut self, now: Time, mut fire: impl FnMut(J)) -> usize {
        let mut count = 0;
        while let Some(job) = self.pop(now) {
            fire(job);
            count += 1;
            if count == FEW && self.mostly_due(now) {
                return count + self.expire_many(now, fire);
            }
        }
        count
    }

    /// Whether at least half of the timers are due, by a sample: any node that is due has due ancestors only, so the
    /// nodes in the middle of the array speak for those before them.
    fn mostly_due(&self, now: Time) -> bool {
        let half = self.heap.len() / 2;
        half >= FEW && self.heap[half - FEW..half].iter().all(|entry| entry.at <= now)
    }

    #[cold]
    fn expire_many(&mut self, now: Time, mut fire: impl FnMut(J)) -> usize {
        let mut due: Vec<Entry> = self.heap.extract_if(.., |entry| entry.at <= now).collect();
        due.sort_unstable_by_key(|entry| (entry.at, entry.stamp));
        for position in 0..self.heap.len() {
            self.place(position, self.heap[position]);
        }
        for position in (0..self.heap.len().div_ceil(ARITY)).rev() {
            self.sink(position);
        }
        for entry in &due {
            fire(self.slots.remove(entry.slot as usize).job);
        }
        self.shrink();
        due.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Time, &J)> {
        self.heap.iter().map(|entry| (entry.at, &self.slots[entry.slot as usize].job))
    }

    /// Removes everything, in order of the slots. Keys given out before stay stale: stamps go on counting.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = J> + use<J> {
        self.heap = Vec::new();
        self.low = 0;
        std::mem::take(&mut self.slots).into_iter().map(|(_, slot)| slot.job)
    }

    /// Capacity of the heap and of the slab: what the memory tests look at.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        (self.heap.capacity(), self.slots.capacity())
    }

    /// Takes the entry at `position` out of the heap.
    fn unlink(&mut self, position: usize) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            // What came from the end may belong on either side of its new place.
            if !self.rise(position) {
                self.sink(position);
            }
        }
    }

    /// Puts `entry` at `position`, and tells its slot.
    #[inline]
    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.slots[entry.slot as usize].position = index(position);
    }

    /// Moves the entry at `position` towards the root; whether it moved. If it did not, its slot was not told where it is: a
    /// fresh one was born with it, and after `unlink` comes `sink`.
    fn rise(&mut self, mut position: usize) -> bool {
        let entry = self.heap[position];
        let start = position;
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        if position == start {
            return false;
        }
        self.place(position, entry);
        true
    }

    /// Moves the entry at `position` towards the leaves, and tells its slot where it ends.
    fn sink(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let children = position * ARITY + 1;
            let end = (children + ARITY).min(self.heap.len());
            let Some(offset) = least(self.heap.get(children..end).unwrap_or_default()) else {
                break;
            };
            let child = children + offset;
            if !self.heap[child].before(&entry) {
                break;
            }
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, entry);
    }

    /// Gives memory back if three quarters of it are unused.
    #[inline]
    fn shrink(&mut self) {
        if self.heap.len() < self.low {
            self.give_back();
        }
    }

    /// Slots cannot move (keys name them), so the slab gives back only what lies after the last live one; and looking for that
    /// costs as much as there are slots. So the next attempt is not made before half of the timers are gone, or new ones needed
    /// more room.
    #[cold]
    fn give_back(&mut self) {
        self.heap.shrink_to((self.heap.len() * 2).max(KEEP));
        self.slots.shrink_to_fit();
        self.low = self.spare().min(self.heap.len().div_ceil(2));
    }

    /// A quarter of what there is room for; nothing if that is little.
    fn spare(&self) -> usize {
        let (heap, slots) = self.capacity();
        let room = heap.max(slots);
        if room > KEEP { room / 4 } else { 0 }
    }
}

/// The index of the least entry.
#[inline]
fn least(entries: &[Entry]) -> Option<usize> {
    let (first, rest) = entries.split_first()?;
    let mut least = (0, first);
    for (index, entry) in (1..).zip(rest) {
        if entry.before(least.1) {
            least = (index, entry);
        }
    }
    Some(least.0)
}

/// Entries are 24 bytes because indices are 32 bits: four billion timers would be 200 GB.
#[inline]
fn index(wide: usize) -> u32 {
    u32::try_from(wide).expect("fewer than four billion timers")
}
