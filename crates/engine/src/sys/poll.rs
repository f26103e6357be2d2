//! The selector of every Unix: poll(2).
//!
//! What must stay true, beside the contract in `mod.rs`: a question is a copy of the list, so what changes while it is out is
//! seen by the next one only. The wake-up pipe is always the first of the list.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use super::{Mask, Ready, Token, WAKE, borrow, timespec};
use crate::wake::Pipe;

pub(crate) struct Poll {
    list: List,
    /// Where in the list a descriptor is.
    places: HashMap<RawFd, usize>,
    pipe: Arc<Pipe>,
    /// The copy that waits use, when no wait has it.
    spare: List,
}

/// Two vectors, because poll(2) wants the descriptors alone.
#[derive(Debug, Default)]
struct List {
    fds: Vec<PollFd<'static>>,
    tokens: Vec<Token>,
}

pub(crate) struct Question {
    list: List,
    timeout: Option<Timespec>,
    /// Its read end is in the list.
    _pipe: Arc<Pipe>,
}

pub(crate) struct Answer {
    list: List,
}

fn entry(fd: RawFd, mask: Mask) -> PollFd<'static> {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, mask.read);
    flags.set(PollFlags::OUT, mask.write);
    PollFd::from_borrowed_fd(borrow(fd), flags)
}

impl List {
    fn push(&mut self, fd: RawFd, token: Token, mask: Mask) {
        self.fds.push(entry(fd, mask));
        self.tokens.push(token);
    }
}

impl Poll {
    pub(crate) fn new(pipe: &Arc<Pipe>) -> io::Result<Self> {
        let mut list = List::default();
        list.push(pipe.reader().as_raw_fd(), WAKE, Mask { read: true, write: false });
        Ok(Poll { list, places: HashMap::new(), pipe: Arc::clone(pipe), spare: List::default() })
    }

    pub(crate) fn add(&mut self, fd: BorrowedFd<'_>, token: Token, mask: Mask) -> io::Result<()> {
        // poll(2) itself would report a closed descriptor only later, as an event.
        rustix::io::fcntl_getfd(fd)?;
        let fd = fd.as_raw_fd();
        self.places.insert(fd, self.list.fds.len());
        self.list.push(fd, token, mask);
        Ok(())
    }

    pub(crate) fn modify(&mut self, fd: RawFd, token: Token, mask: Mask) -> io::Result<()> {
        let place = self.place(fd)?;
        self.list.fds[place] = entry(fd, mask);
        self.list.tokens[place] = token;
        Ok(())
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        let place = self.place(fd)?;
        self.places.remove(&fd);
        self.list.fds.swap_remove(place);
        self.list.tokens.swap_remove(place);
        if let Some(moved) = self.list.fds.get(place) {
            use std::os::fd::AsFd;
            self.places.insert(moved.as_fd().as_raw_fd(), place);
        }
        Ok(())
    }

    fn place(&self, fd: RawFd) -> io::Result<usize> {
        self.places.get(&fd).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn ask(&mut self, timeout: Option<Duration>, _watched: usize) -> Question {
        let mut list = std::mem::take(&mut self.spare);
        list.fds.extend_from_slice(&self.list.fds);
        list.tokens.extend_from_slice(&self.list.tokens);
        Question { list, timeout: timeout.map(timespec), _pipe: Arc::clone(&self.pipe) }
    }

    pub(crate) fn reuse(&mut self, answer: Answer) {
        self.spare = answer.list;
        self.spare.fds.clear();
        self.spare.tokens.clear();
    }
}

impl Question {
    pub(crate) fn block(self) -> (Answer, io::Result<()>) {
        let Question { mut list, timeout, _pipe } = self;
        let result = rustix::event::poll(&mut list.fds, timeout.as_ref());
        (Answer { list }, result.map(drop).map_err(io::Error::from))
    }
}

impl Answer {
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Option<(Token, Ready)>> {
        let flags = self.list.fds.get(index)?.revents();
        let ready = Ready {
            read: flags.intersects(PollFlags::OUT.complement()),
            write: flags.intersects(PollFlags::IN.complement()),
        };
        Some((ready.read || ready.write).then(|| (self.list.tokens[index], ready)))
    }
}
