//! What the engine needs from the platform, and the only place of this crate where `unsafe` may stand.
//!
//! Each platform supplies a *selector*: `Epoll` on Linux, `Poll` (poll(2)) wherever there is Unix. They are used through the
//! enum [`Selector`], and both keep this contract:
//!
//! - `new(pipe)` opens what is needed and watches the read end of the pipe under [`WAKE`]. It fails rather than leaving half.
//! - `add(fd, token, mask)`, `modify(fd, token, mask)`, `remove(fd)` change what is watched. Level triggered: a descriptor is
//!   reported by every wait as long as it is ready. There is at most one registration per descriptor; the caller keeps count.
//!   `modify` and `remove` of a descriptor that was closed meanwhile fail or do nothing, and never touch another one's.
//! - `ask(timeout)` gives everything one wait needs, borrowing nothing, as a `Question` that can go to another thread.
//!   `None` is for ever. The question keeps the kernel object and the pipe alive.
//! - `Question::block` makes **exactly one system call** and never retries it. It returns no earlier than the timeout unless
//!   something is ready or a signal came; a timeout is rounded up, never down, to what the platform can count.
//! - Answers come as ([`Token`], [`Ready`]) in the kernel's order. As in `selectors.EpollSelector`, any bit but "in" makes a
//!   descriptor writable and any bit but "out" makes it readable: an error or a hang-up wakes whoever watches.
//! - `reuse(answer)` takes the buffers back: a wait allocates nothing once they have grown.
//! - Changes made while a question is out: [`Selector::sees_changes`] says whether it notices. If not, the engine wakes it.
//! - A *ghost* is a registration that nobody can remove: its descriptor was closed before it was unwatched, while a duplicate (in
//!   the child of a fork, often) keeps the file open. It would be reported by every wait for ever, so the engine starts again
//!   with a new selector, which [inherits](Selector::inherit) the registrations that there are.
//! - Dropping a selector closes what it opened and does nothing else: in the child of a fork, whatever it would say to the
//!   kernel would be said to the parent's epoll set.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::Timespec;

use crate::engine::Backend;
use crate::wake::Pipe;

#[cfg(target_os = "linux")]
mod epoll;
mod poll;

#[cfg(target_os = "linux")]
use epoll::Epoll;
use poll::Poll;

/// What comes back with an event: which source, and which generation of it.
pub(crate) type Token = u64;

/// The token of the wake-up pipe.
pub(crate) const WAKE: Token = u64::MAX;

/// The directions to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mask {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// The directions that are ready.
pub(crate) type Ready = Mask;

/// The longest wait. `poll` and `epoll_wait` count milliseconds in an `int`; waking up every 24 days for nothing harms nobody.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

fn timespec(timeout: Duration) -> Timespec {
    let timeout = timeout.min(LONGEST);
    Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ }
}

/// A registered descriptor, for a call that takes one.
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    assert!(fd >= 0, "a descriptor is never negative");
    // SAFETY: `fd` is not -1. It came from a `BorrowedFd`, and whoever watches a descriptor keeps it open until it is unwatched.
    // If the owner broke that promise, the calls made here (epoll_ctl on an existing registration, poll) report an error or
    // look at another descriptor's readiness; none of them reads, writes or closes it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

pub(crate) enum Selector {
    #[cfg(target_os = "linux")]
    Epoll(Epoll),
    Poll(Poll),
}

pub(crate) enum Question {
    #[cfg(target_os = "linux")]
    Epoll(epoll::Question),
    Poll(poll::Question),
}

pub(crate) enum Answer {
    #[cfg(target_os = "linux")]
    Epoll(epoll::Answer),
    Poll(poll::Answer),
}

impl Selector {
    pub(crate) fn new(backend: Backend, pipe: &Arc<Pipe>) -> io::Result<Self> {
        match backend {
            #[cfg(target_os = "linux")]
            Backend::Epoll => Epoll::new(pipe).map(Selector::Epoll),
            Backend::Poll => Poll::new(pipe).map(Selector::Poll),
        }
    }

    /// Registers what another selector had. What is closed by now was not in that one either.
    pub(crate) fn inherit(&mut self, fd: RawFd, token: Token, mask: Mask) {
        let _closed = self.add(borrow(fd), token, mask);
    }

    pub(crate) fn add(&mut self, fd: BorrowedFd<'_>, token: Token, mask: Mask) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Selector::Epoll(epoll) => epoll.add(fd, token, mask),
            Selector::Poll(poll) => poll.add(fd, token, mask),
        }
    }

    pub(crate) fn modify(&mut self, fd: RawFd, token: Token, mask: Mask) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Selector::Epoll(epoll) => epoll.modify(fd, token, mask),
            Selector::Poll(poll) => poll.modify(fd, token, mask),
        }
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Selector::Epoll(epoll) => epoll.remove(fd),
            Selector::Poll(poll) => poll.remove(fd),
        }
    }

    /// Whether a wait that is already under way notices `add`, `modify` and `remove`.
    pub(crate) fn sees_changes(&self) -> bool {
        !matches!(self, Selector::Poll(_))
    }

    /// What one wait needs. `watched` is how many descriptors may be ready at once.
    pub(crate) fn ask(&mut self, timeout: Option<Duration>, watched: usize) -> Question {
        match self {
            #[cfg(target_os = "linux")]
            Selector::Epoll(epoll) => Question::Epoll(epoll.ask(timeout, watched)),
            Selector::Poll(poll) => Question::Poll(poll.ask(timeout, watched)),
        }
    }

    pub(crate) fn reuse(&mut self, answer: Answer) {
        match (self, answer) {
            #[cfg(target_os = "linux")]
            (Selector::Epoll(epoll), Answer::Epoll(answer)) => epoll.reuse(answer),
            (Selector::Poll(poll), Answer::Poll(answer)) => poll.reuse(answer),
            // The answer of another engine: of no use here.
            #[cfg(target_os = "linux")]
            _ => {}
        }
    }
}

impl Question {
    /// The one system call.
    #[inline]
    pub(crate) fn block(self) -> (Answer, io::Result<()>) {
        match self {
            #[cfg(target_os = "linux")]
            Question::Epoll(question) => {
                let (answer, result) = question.block();
                (Answer::Epoll(answer), result)
            }
            Question::Poll(question) => {
                let (answer, result) = question.block();
                (Answer::Poll(answer), result)
            }
        }
    }
}

impl Answer {
    /// The event at `index`: `None` after the last one; `Some(None)` where there is nothing to tell.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Option<(Token, Ready)>> {
        match self {
            #[cfg(target_os = "linux")]
            Answer::Epoll(answer) => answer.get(index),
            Answer::Poll(answer) => answer.get(index),
        }
    }
}
