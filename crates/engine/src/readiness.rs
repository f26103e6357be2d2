//! Which job waits for which descriptor: one [`Source`] per descriptor, with a side for each direction.
//!
//! What must stay true:
//!
//! - Both directions of a descriptor share one registration in the kernel, whose mask is the set of armed sides.
//! - A [`Key`] carries a stamp that is never used twice, so a stale one does nothing.
//! - An event carries the epoch of its source. Watching gives the source a new epoch, so an event that was obtained before does
//!   not fire a job that was watched after. (What it loses by that, the next wait reports again: level triggered.)
//! - A side can outlive its descriptor, when the owner closed it without unwatching. Then the kernel has forgotten it, and if
//!   the number comes back for another file, the side stays but is not armed: it must not hear of a stranger's readiness.
//! - Methods that fail to take a job give it back.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use slab::Slab;

use crate::sys::{Mask, Ready, Selector, Token};

/// The direction that a job waits for.
///
/// ```
/// use velodrome_engine::Interest;
/// assert_ne!(Interest::Read, Interest::Write);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// There is something to read: data, a connection, the end, or an error.
    Read,
    /// There is room to write, or an error.
    Write,
}

/// Names a watched direction of a descriptor, see [`Engine::watch`](crate::Engine::watch). Stale once it was unwatched, and harmless then.
///
/// ```
/// use std::os::fd::AsFd;
/// use velodrome_engine::{Engine, Interest};
///
/// let (reader, _writer) = std::io::pipe()?;
/// let mut engine = Engine::new()?;
/// let key = engine.watch(reader.as_fd(), Interest::Read, "readable")?;
/// assert_eq!(engine.unwatch(key), Some("readable"));
/// assert_eq!(engine.unwatch(key), None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    stamp: u64,
    slot: u32,
    interest: Interest,
}

impl Key {
    /// The direction it names.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = Engine::new()?.watch(reader.as_fd(), Interest::Read, ())?;
    /// assert_eq!(key.interest(), Interest::Read);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn interest(self) -> Interest {
        self.interest
    }

    /// As two plain numbers, for a table of C functions.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest, Key};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = Engine::new()?.watch(reader.as_fd(), Interest::Read, ())?;
    /// assert_eq!(Key::from_raw(key.into_raw()), key);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn into_raw(self) -> (u64, u64) {
        let write = matches!(self.interest, Interest::Write);
        (self.stamp, (self.slot as u64) << 1 | write as u64)
    }

    /// Back from [`Key::into_raw`]. Numbers that never were a key name nothing.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Key};
    /// assert_eq!(Engine::<()>::new()?.unwatch(Key::from_raw((0, 0))), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn from_raw((stamp, rest): (u64, u64)) -> Key {
        let interest = if rest & 1 == 1 { Interest::Write } else { Interest::Read };
        Key { stamp, slot: (rest >> 1) as u32, interest }
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Readiness<J> {
    sources: Slab<Source<J>>,
    /// The slot of each descriptor, or [`NONE`]. A plain vector: the kernel hands out the lowest free number.
    by_fd: Vec<u32>,
    /// The stamp given out last; the first is 1, so that a zeroed key is stale.
    stamp: u64,
    sides: usize,
}

#[derive(Debug)]
struct Source<J> {
    fd: RawFd,
    /// The low half of the stamp that was given out last for this source.
    epoch: u32,
    read: Option<Side<J>>,
    write: Option<Side<J>>,
}

#[derive(Debug)]
struct Side<J> {
    stamp: u64,
    armed: bool,
    job: J,
}

fn armed<J>(side: &Option<Side<J>>) -> bool {
    side.as_ref().is_some_and(|side| side.armed)
}

impl<J> Source<J> {
    fn side(&mut self, interest: Interest) -> &mut Option<Side<J>> {
        match interest {
            Interest::Read => &mut self.read,
            Interest::Write => &mut self.write,
        }
    }

    fn sides(&self) -> impl Iterator<Item = (Interest, &Side<J>)> {
        let read = self.read.iter().map(|side| (Interest::Read, side));
        read.chain(self.write.iter().map(|side| (Interest::Write, side)))
    }

    fn mask(&self) -> Mask {
        Mask { read: armed(&self.read), write: armed(&self.write) }
    }

    /// Has the kernel watch one direction besides those that it watches already, all of them under a new token.
    fn arm(
        &mut self,
        selector: &mut Selector,
        fd: BorrowedFd<'_>,
        token: Token,
        only: Mask,
    ) -> io::Result<()> {
        let Mask { read, write } = self.mask();
        let both = Mask { read: read || only.read, write: write || only.write };
        match selector.modify(self.fd, token, both) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The descriptor that we watch was closed, and this is another of the same number.
                selector.add(fd, token, only)?;
                for side in [&mut self.read, &mut self.write].into_iter().flatten() {
                    side.armed = false;
                }
                Ok(())
            }
            done => done,
        }
    }
}

/// `slot` and `epoch` as the kernel carries them. [`WAKE`](crate::sys::WAKE) has a slot that no slab reaches.
fn token(slot: u32, epoch: u32) -> Token {
    Token::from(epoch) << 32 | Token::from(slot)
}

impl<J> Readiness<J> {
    pub(crate) fn new() -> Self {
        Readiness { sources: Slab::new(), by_fd: Vec::new(), stamp: 0, sides: 0 }
    }

    /// Watched directions.
    pub(crate) fn len(&self) -> usize {
        self.sides
    }

    /// Watched descriptors.
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Where the source of a descriptor is. (A negative one wraps to a number that no descriptor has.)
    fn slot(&self, fd: RawFd) -> Option<usize> {
        let slot = *self.by_fd.get(fd as usize)?;
        (slot != NONE).then_some(slot as usize)
    }

    pub(crate) fn watch(
        &mut self,
        selector: &mut Selector,
        fd: BorrowedFd<'_>,
        interest: Interest,
        job: J,
    ) -> Result<Key, (io::Error, J)> {
        let stamp = self.stamp + 1;
        let epoch = stamp as u32;
        let only = Mask { read: interest == Interest::Read, write: interest == Interest::Write };
        let slot = match self.slot(fd.as_raw_fd()) {
            None => {
                let slot = self.sources.vacant_key();
                if let Err(error) = selector.add(fd, token(slot as u32, epoch), only) {
                    return Err((error, job));
                }
                self.sources.insert(Source { fd: fd.as_raw_fd(), epoch, read: None, write: None });
                let place = fd.as_raw_fd() as usize;
                if self.by_fd.len() <= place {
                    self.by_fd.resize(place + 1, NONE);
                }
                self.by_fd[place] = slot as u32;
                slot
            }
            Some(slot) => {
                let source = &mut self.sources[slot];
                if source.side(interest).is_some() {
                    return Err((io::ErrorKind::AlreadyExists.into(), job));
                }
                if let Err(error) = source.arm(selector, fd, token(slot as u32, epoch), only) {
                    return Err((error, job));
                }
                source.epoch = epoch;
                slot
            }
        };
        self.stamp = stamp;
        self.sides += 1;
        *self.sources[slot].side(interest) = Some(Side { stamp, armed: true, job });
        Ok(Key { stamp, slot: slot as u32, interest })
    }

    /// `selector` is `None` where the kernel must not be told (in the child of a fork).
    pub(crate) fn unwatch(&mut self, selector: Option<&mut Selector>, key: Key) -> Option<J> {
        let slot = key.slot as usize;
        let source = self.sources.get_mut(slot)?;
        let side = source.side(key.interest).take_if(|side| side.stamp == key.stamp)?;
        let token = token(key.slot, source.epoch);
        let (fd, rest) = (source.fd, source.mask());
        let last = source.read.is_none() && source.write.is_none();
        if last {
            self.sources.remove(slot);
            self.by_fd[fd as usize] = NONE;
        }
        self.sides -= 1;
        if let Some(selector) = selector.filter(|_| side.armed) {
            // If the owner closed the descriptor already, the kernel has forgotten it and says so: nothing left to do.
            let _ =
                if rest.read || rest.write { selector.modify(fd, token, rest) } else { selector.remove(fd) };
        }
        Some(side.job)
    }

    pub(crate) fn replace(&mut self, key: Key, job: J) -> Result<J, J> {
        match self.get_mut(key) {
            Some(old) => Ok(std::mem::replace(old, job)),
            None => Err(job),
        }
    }

    /// Makes a registration anew, for whatever file its number names now.
    pub(crate) fn renew(
        &mut self,
        selector: &mut Selector,
        fd: BorrowedFd<'_>,
        key: Key,
        job: J,
    ) -> Result<(Key, J), (io::Error, J)> {
        let slot = key.slot as usize;
        let source = match self.sources.get_mut(slot) {
            Some(source) if source.fd == fd.as_raw_fd() => source,
            _ => return Err((io::ErrorKind::NotFound.into(), job)),
        };
        if source.side(key.interest).as_ref().is_none_or(|side| side.stamp != key.stamp) {
            return Err((io::ErrorKind::NotFound.into(), job));
        }
        let stamp = self.stamp + 1;
        let epoch = stamp as u32;
        let only = Mask { read: key.interest == Interest::Read, write: key.interest == Interest::Write };
        if let Err(error) = source.arm(selector, fd, token(key.slot, epoch), only) {
            return Err((error, job));
        }
        self.stamp = stamp;
        source.epoch = epoch;
        let Some(side) = source.side(key.interest) else { return Err((io::ErrorKind::NotFound.into(), job)) };
        let old = std::mem::replace(side, Side { stamp, armed: true, job });
        Ok((Key { stamp, ..key }, old.job))
    }

    fn get_mut(&mut self, key: Key) -> Option<&mut J> {
        let side = self.sources.get_mut(key.slot as usize)?.side(key.interest).as_mut()?;
        (side.stamp == key.stamp).then_some(&mut side.job)
    }

    pub(crate) fn find(&self, fd: RawFd, interest: Interest) -> Option<(Key, &J)> {
        let slot = self.slot(fd)?;
        let (_, side) = self.sources[slot].sides().find(|(direction, _)| *direction == interest)?;
        Some((Key { stamp: side.stamp, slot: slot as u32, interest }, &side.job))
    }

    /// The jobs that an event makes ready, of the reader and of the writer. `None` if the event is of no source (any more).
    #[inline]
    pub(crate) fn fired<'a>(&'a self, token: Token, ready: Ready) -> Option<[Option<&'a J>; 2]> {
        let source =
            self.sources.get(token as u32 as usize).filter(|source| source.epoch == (token >> 32) as u32)?;
        let job = |side: &'a Option<Side<J>>, ready| {
            side.as_ref().filter(|side| ready && side.armed).map(|side| &side.job)
        };
        Some([job(&source.read, ready.read), job(&source.write, ready.write)])
    }

    /// What the kernel should know.
    pub(crate) fn registrations(&self) -> impl Iterator<Item = (RawFd, Token, Mask)> {
        self.sources
            .iter()
            .map(|(slot, source)| (source.fd, token(slot as u32, source.epoch), source.mask()))
            .filter(|(_, _, mask)| mask.read || mask.write)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RawFd, Interest, &J)> {
        self.sources
            .iter()
            .flat_map(|(_, source)| source.sides().map(|(interest, side)| (source.fd, interest, &side.job)))
    }

    /// Removes everything. Keys given out before stay stale: stamps go on counting.
    pub(crate) fn drain(&mut self, mut selector: Option<&mut Selector>) -> impl Iterator<Item = J> + use<J> {
        for (_, source) in &self.sources {
            let mask = source.mask();
            if let Some(selector) = selector.as_deref_mut().filter(|_| mask.read || mask.write) {
                let _ = selector.remove(source.fd);
            }
        }
        self.by_fd = Vec::new();
        self.sides = 0;
        let sources = std::mem::take(&mut self.sources);
        sources.into_iter().flat_map(|(_, source)| [source.read, source.write]).flatten().map(|side| side.job)
    }
}
