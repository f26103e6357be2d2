//! What the engine watches: see `readiness.rs` for how it is kept.
//!
//! What must stay true: a wait that is under way hears of every change, or its events are recognised as stale; an engine that
//! forgot its kernel keeps its table and tells nobody.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use super::Engine;
use crate::readiness::{Interest, Key};

/// Readiness of descriptors.
impl<J> Engine<J> {
    /// Watches one direction of a descriptor: every [`Engine::harvest`] that finds it ready pushes a clone of the job (level
    /// triggered, as asyncio's `add_reader`). An error or a hang-up makes both directions ready.
    ///
    /// Keep the descriptor open until it is unwatched. If it is closed before, the registration stays in the table without effect
    /// until it is unwatched, and the same direction of a descriptor that got the same number cannot be watched.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if this direction of this descriptor is watched; what the kernel says
    /// otherwise (epoll refuses regular files with [`PermissionDenied`](io::ErrorKind::PermissionDenied)). The job is dropped
    /// then; [`Engine::try_watch`] gives it back.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// engine.watch(reader.as_fd(), Interest::Read, "readable")?;
    ///
    /// writer.write_all(b"x")?;
    /// let events = engine.prepare(None).block();
    /// assert_eq!(engine.harvest(events).jobs, 1);
    /// assert_eq!(engine.pop(), Some("readable"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn watch(&mut self, fd: BorrowedFd<'_>, interest: Interest, job: J) -> io::Result<Key> {
        self.try_watch(fd, interest, job).map_err(|(error, _job)| error)
    }

    /// [`Engine::watch`] that gives the job back if it fails.
    ///
    /// # Errors
    ///
    /// As [`Engine::watch`].
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// engine.watch(reader.as_fd(), Interest::Read, 1)?;
    /// let (error, job) = engine.try_watch(reader.as_fd(), Interest::Read, 2).unwrap_err();
    /// assert_eq!((error.kind(), job), (ErrorKind::AlreadyExists, 2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_watch(
        &mut self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        job: J,
    ) -> Result<Key, (io::Error, J)> {
        if let Err(error) = self.own_kernel() {
            return Err((error, job));
        }
        let key = self.readiness.watch(&mut self.selector, fd, interest, job)?;
        self.tell_the_wait();
        Ok(key)
    }

    /// Puts another job in the place of a watched one, and returns the old one.
    ///
    /// # Errors
    ///
    /// Gives `job` back if the key is stale.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// let key = engine.watch(reader.as_fd(), Interest::Read, "old")?;
    /// assert_eq!(engine.replace(key, "new"), Ok("old"));
    /// assert_eq!(engine.unwatch(key), Some("new"));
    /// assert_eq!(engine.replace(key, "too late"), Err("too late"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn replace(&mut self, key: Key, job: J) -> Result<J, J> {
        self.readiness.replace(key, job)
    }

    /// Makes a registration anew, with another job: as [`Engine::unwatch`] and [`Engine::try_watch`] would, for less than half of
    /// what those cost. The descriptor may be another of the same number by now. Returns the new key and the old job.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the key is stale, or of another number; what the kernel says otherwise. The old
    /// registration stays then, and the new job is given back.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// let key = engine.watch(reader.as_fd(), Interest::Read, "first")?;
    /// let (renewed, old) = engine.renew(reader.as_fd(), key, "second").unwrap();
    /// assert_eq!(old, "first");
    /// assert_eq!(engine.unwatch(key), None);
    /// assert_eq!(engine.unwatch(renewed), Some("second"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn renew(&mut self, fd: BorrowedFd<'_>, key: Key, job: J) -> Result<(Key, J), (io::Error, J)> {
        if let Err(error) = self.own_kernel() {
            return Err((error, job));
        }
        let renewed = self.readiness.renew(&mut self.selector, fd, key, job)?;
        self.tell_the_wait();
        Ok(renewed)
    }

    /// Ends a registration and returns its job: `None`, and nothing happens, if the key is stale. Works also after the descriptor
    /// was closed.
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
    pub fn unwatch(&mut self, key: Key) -> Option<J> {
        let selector = (!self.forgotten).then_some(&mut self.selector);
        let job = self.readiness.unwatch(selector, key)?;
        self.tell_the_wait();
        Some(job)
    }

    /// The registration of a descriptor's direction, if there is one.
    ///
    /// ```
    /// use std::os::fd::{AsFd, AsRawFd};
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// let key = engine.watch(reader.as_fd(), Interest::Read, "readable")?;
    /// assert_eq!(engine.find(reader.as_raw_fd(), Interest::Read), Some((key, &"readable")));
    /// assert_eq!(engine.find(reader.as_raw_fd(), Interest::Write), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn find(&self, fd: RawFd, interest: Interest) -> Option<(Key, &J)> {
        self.readiness.find(fd, interest)
    }

    /// How many directions are watched. The engine's own wake-up is not counted.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// assert_eq!(engine.watched(), 0);
    /// engine.watch(reader.as_fd(), Interest::Read, ())?;
    /// assert_eq!(engine.watched(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn watched(&self) -> usize {
        self.readiness.len()
    }

    /// The watched directions and their jobs, in no particular order.
    ///
    /// ```
    /// use std::os::fd::{AsFd, AsRawFd};
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// engine.watch(reader.as_fd(), Interest::Read, "readable")?;
    /// assert!(engine.watches().eq([(reader.as_raw_fd(), Interest::Read, &"readable")]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn watches(&self) -> impl Iterator<Item = (RawFd, Interest, &J)> {
        self.readiness.iter()
    }

    /// A wait that is under way may have to hear that there is something else to watch.
    pub(super) fn tell_the_wait(&mut self) {
        self.changed = true;
        if self.waiting && !self.selector.sees_changes() {
            self.inbox.wake();
        }
    }
}
