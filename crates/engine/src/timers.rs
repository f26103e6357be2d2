//! Jobs with a deadline: small entries, in runs and a heap, over a slab of jobs.
//!
//! What must stay true:
//!
//! - Every live timer has exactly one entry, and its slot knows where that is (`line` and `position`). So a cancelled timer
//!   leaves at once, wherever it is.
//! - A timer that comes after the last of a run (`timer_run.rs`) is added to that, others go into the heap. The next timer is
//!   the first of the run or the heap that has the earliest.
//! - Order is `(at, stamp)`. Stamps count up, so timers of the same deadline fire in the order they were made.
//! - A stamp is never used twice: it is also the generation that makes a stale key harmless.
//! - Memory follows the number of live timers down again, in steps large enough to cost O(1) per timer. (A timer that outlives a
//!   burst keeps the slots below its own.)
//!
//! Why a heap that knows positions, and not one that lets cancelled entries surface: nearly every timer of a server is a timeout
//! that does not fire. Its deadline is late, so its entry lies near the end of the heap, and what replaces it (the last entry) is
//! late too: removing it moves an entry or two, while dead entries cost memory, a compaction, and a check on every look.
//!
//! Why runs beside it: most delays are the same ones over and over, so most timers are made in the order of their deadlines. Those
//! cost nothing to keep in order, where the heap moves entries at both ends: timers that are cancelled in the order in which they were
//! made, the earliest first, are its worst case. There are a few, because one late timer would close a run to the earlier ones.
//!
//! Four children per node: half the levels of a binary heap, and four entries of 24 bytes are two cache lines.

use slab::Slab;

use crate::time::Time;
use crate::timer_run::Run;

const ARITY: usize = 4;

/// Below this many slots nothing is given back: not worth the allocator's time.
pub(crate) const KEEP: usize = 64;

/// So many runs: for so many delays that are used over and over.
const RUNS: usize = 3;

/// So many timers that expire together are taken one by one before a shorter way is looked for.
const FEW: usize = 8;

/// So many entries are looked at to tell whether many are due.
const SAMPLE: usize = 16;

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
pub(crate) struct Entry {
    pub(crate) at: Time,
    stamp: u64,
    pub(crate) slot: u32,
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
    line: Line,
    job: J,
}

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Heap,
    Run(u8),
}

#[derive(Debug)]
pub(crate) struct Timers<J> {
    heap: Vec<Entry>,
    runs: [Run; RUNS],
    slots: Slab<Slot<J>>,
    /// The stamp given out last; the first is 1, so that a zeroed key is stale.
    stamp: u64,
    /// With fewer live timers than this it is time to give memory back.
    low: usize,
}

impl<J> Timers<J> {
    pub(crate) fn new() -> Self {
        Timers { heap: Vec::new(), runs: Default::default(), slots: Slab::new(), stamp: 0, low: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn insert(&mut self, at: Time, job: J) -> TimerKey {
        self.stamp += 1;
        let stamp = self.stamp;
        let run = self.run_for(at);
        let full = run.map_or(self.heap.len() == self.heap.capacity(), |run| self.runs[run].is_full());
        let grows = full || self.slots.len() == self.slots.capacity();
        let line = run.map_or(Line::Heap, |run| Line::Run(run as u8));
        let slot = self.slots.insert(Slot { stamp, position: 0, line, job });
        let entry = Entry { at, stamp, slot: index(slot) };
        let position = match run {
            Some(run) => self.runs[run].push(entry),
            None => {
                self.heap.push(entry);
                index(self.heap.len() - 1)
            }
        };
        self.slots[slot].position = position;
        if grows {
            self.low = self.spare();
        }
        if run.is_none() {
            self.rise(position as usize);
        }
        TimerKey { stamp, slot: entry.slot }
    }

    /// The run whose last timer is the latest that is not after `at`; an empty one if there is none.
    #[inline]
    fn run_for(&self, at: Time) -> Option<usize> {
        let mut best: Option<(usize, Time)> = None;
        for (index, run) in self.runs.iter().enumerate() {
            let last = run.last();
            if last <= at && best.is_none_or(|(_, best)| best < last) {
                best = Some((index, last));
            }
        }
        best.map(|(index, _)| index)
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<J> {
        let slot = key.slot as usize;
        let (line, position) = match self.slots.get(slot) {
            Some(found) if found.stamp == key.stamp => (found.line, found.position),
            _ => return None,
        };
        self.leave(line, position);
        let job = self.slots.remove(slot).job;
        self.shrink();
        Some(job)
    }

    /// The earliest entry.
    #[inline]
    fn first(&self) -> Option<&Entry> {
        let mut first = self.heap.first();
        for entry in self.runs.iter().filter_map(Run::first) {
            if first.is_none_or(|first| entry.before(first)) {
                first = Some(entry);
            }
        }
        first
    }

    /// The earliest deadline.
    #[inline]
    pub(crate) fn next(&self) -> Option<Time> {
        self.first().map(|entry| entry.at)
    }

    /// Removes the first timer whose deadline is not after `now`.
    #[inline]
    pub(crate) fn pop(&mut self, now: Time) -> Option<J> {
        let first = *self.first()?;
        if first.at > now {
            return None;
        }
        let Slot { line, position, job, .. } = self.slots.remove(first.slot as usize);
        self.leave(line, position);
        self.shrink();
        Some(job)
    }

    /// Takes an entry out of where it is.
    #[inline]
    fn leave(&mut self, line: Line, position: u32) {
        match line {
            Line::Heap => self.unlink(position as usize),
            Line::Run(index) => {
                let run = &mut self.runs[usize::from(index)];
                run.remove(position);
                if run.is_ragged() {
                    run.close_gaps(|entry, position| self.slots[entry.slot as usize].position = position);
                }
            }
        }
    }

    /// Removes every timer whose deadline is not after `now` and hands the jobs over, in order.
    ///
    /// One after the other while they are few. When much of the heap turns out to be due, as after a burst of random
    /// delays, sorting what is due and building a heap of the rest is cheaper than as many walks down the heap.
    pub(crate) fn expire(&mut self, now: Time, mut fire: impl FnMut(J)) -> usize {
        let mut count = 0;
        while let Some(job) = self.pop(now) {
            fire(job);
            count += 1;
            if count == FEW && self.many_are_due(now) {
                return count + self.expire_many(now, fire);
            }
        }
        count
    }

    /// Whether about a quarter of the heap or more is due, by a sample of entries from all over it. (Three quarters of them are
    /// leaves, which nothing but themselves can speak for.)
    fn many_are_due(&self, now: Time) -> bool {
        let distance = self.heap.len() / SAMPLE;
        let sample = self.heap.iter().step_by(distance.max(1)).take(SAMPLE);
        distance > 0 && sample.filter(|entry| entry.at <= now).count() >= SAMPLE / 4
    }

    #[cold]
    fn expire_many(&mut self, now: Time, mut fire: impl FnMut(J)) -> usize {
        let mut due: Vec<Entry> = self.heap.extract_if(.., |entry| entry.at <= now).collect();
        for run in &mut self.runs {
            while let Some(entry) = run.first().filter(|entry| entry.at <= now).copied() {
                due.push(entry);
                run.remove(self.slots[entry.slot as usize].position);
            }
        }
        // (As one number: comparing two in turn has branches that nobody can guess.)
        due.sort_unstable_by_key(|entry| u128::from(entry.at.as_nanos()) << 64 | u128::from(entry.stamp));
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

    /// The next one, and then the others in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Time, &J)> {
        let first = self.first();
        let entries = self.heap.iter().chain(self.runs.iter().flat_map(Run::iter));
        let others = entries.filter(move |entry| first.is_some_and(|first| first.stamp != entry.stamp));
        first.into_iter().chain(others).map(|entry| (entry.at, &self.slots[entry.slot as usize].job))
    }

    /// Removes everything, in order of the slots. Keys given out before stay stale: stamps go on counting.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = J> + use<J> {
        self.heap = Vec::new();
        self.runs = Default::default();
        self.low = 0;
        std::mem::take(&mut self.slots).into_iter().map(|(_, slot)| slot.job)
    }

    /// Room for entries, and in the slab: what the memory tests look at.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        let runs: usize = self.runs.iter().map(Run::capacity).sum();
        (self.heap.capacity() + runs, self.slots.capacity())
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
        if self.slots.len() < self.low {
            self.give_back();
        }
    }

    /// Slots cannot move (keys name them), so the slab gives back only what lies after the last live one; and looking for that
    /// costs as much as there are slots. So the next attempt is not made before half of the timers are gone, or new ones needed
    /// more room.
    #[cold]
    fn give_back(&mut self) {
        let least = KEEP / (RUNS + 1);
        self.heap.shrink_to((self.heap.len() * 2).max(least));
        self.runs.iter_mut().for_each(|run| run.give_back(least));
        self.slots.shrink_to_fit();
        self.low = self.spare().min(self.slots.len().div_ceil(2));
    }

    /// A quarter of what there is room for; nothing if that is little.
    fn spare(&self) -> usize {
        let (entries, slots) = self.capacity();
        let room = entries.max(slots);
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
