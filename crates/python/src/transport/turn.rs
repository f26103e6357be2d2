//! Several small writes in one turn of the loop, as one segment.
//!
//! A response is often written in two pieces, head and body, and sending each in a segment of its own costs more than all
//! else that is done for it. A transport is expected to write as often in a turn (one callback, one step of a task) as it did in
//! the turn before in which it wrote. All writes go to the kernel at once as ever, but those before the last one that is
//! expected with the remark that more follows; the last one sends them all. If it does not come, the kernel is told to send
//! at the end of the turn.
//!
//! What must stay true: nothing depends on that end. If a callback blocks, or the loop is left in the middle of a turn,
//! the kernel sends by itself after 200 ms (tcp(7), `TCP_CORK`).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::SendFlags;
use rustix::net::sockopt::{set_tcp_cork, set_tcp_nodelay, tcp_cork};

use crate::cpython::{Inst, Own, Raised, Visitor};
use crate::event_loop::EventLoop;

use super::SocketTransport;
use super::outgoing::{FLAGS, send};

/// What a loop knows of its turns.
#[derive(Debug, Default)]
pub struct Turns {
    /// Which turn this is.
    number: Cell<u64>,
    /// Whether there is anything in `held`.
    any: Cell<bool>,
    /// Transports whose data the kernel holds back.
    held: RefCell<Vec<Own<SocketTransport>>>,
}

impl Turns {
    /// A job has been run.
    #[inline]
    pub fn end(&self) {
        self.number.set(self.number.get().wrapping_add(1));
        if self.any.get() {
            self.release();
        }
    }

    fn release(&self) {
        self.any.set(false);
        // The job may have raised, and Python can run here.
        let pending = Raised::pending();
        let mut held = self.held.take();
        for transport in held.drain(..) {
            if !transport.writing_habit.end_of_turn() {
                continue;
            }
            if let Ok(descriptor) = transport.socket.descriptor() {
                send_what_is_held(descriptor);
            }
        }
        // Its memory serves the next turn.
        if self.held.borrow().is_empty() {
            self.held.replace(held);
        }
        if let Some(exception) = pending {
            let _raised = Raised::from_exception(exception);
        }
    }

    /// Shows what is held to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(held) = self.held.try_borrow() {
            held.iter().for_each(|transport| visitor.object(transport.obj()));
        }
    }
}

/// Has the kernel send what it was told that more follows, unless the program itself has told it to hold everything back.
#[cold]
fn send_what_is_held(descriptor: BorrowedFd<'_>) {
    if let Ok(false) = tcp_cork(descriptor) {
        // Whatever the socket says, its next write or read will say as well.
        let _ = set_tcp_cork(descriptor, false);
    }
}

/// How a transport writes.
#[derive(Debug, Default)]
pub struct Habit {
    /// Whether the socket is a TCP one, whose kernel can hold back.
    applies: Cell<bool>,
    /// The turn of the last write, and how many there were in it.
    turn: Cell<u64>,
    writes: Cell<u32>,
    /// How many are expected in a turn; 0 is taken for 1.
    expected: Cell<u32>,
    /// Whether the kernel holds data back.
    held: Cell<bool>,
}

impl Habit {
    /// Lets small writes go out without waiting for the peer's acknowledgement, if it is a TCP socket.
    ///
    /// asyncio does so only for sockets whose protocol was named when they were made. A listening socket made by a plain
    /// `socket.socket()`, as uvicorn's for several workers, leaves it 0, and two small writes then take 40 ms.
    pub fn begin(&self, descriptor: BorrowedFd<'_>) {
        self.applies.set(set_tcp_nodelay(descriptor, true).is_ok());
    }

    /// Notes what to expect of the next turn; whether the kernel still holds something back.
    fn end_of_turn(&self) -> bool {
        self.expected.set(self.writes.get());
        self.held.replace(false)
    }
}

/// Sends, in its own segment or together with what follows in this turn.
#[inline]
pub fn write(
    this: &Inst<SocketTransport>,
    event_loop: &Inst<EventLoop>,
    descriptor: BorrowedFd<'_>,
    content: &[u8],
) -> io::Result<usize> {
    let (habit, turns) = (&this.writing_habit, &event_loop.turns);
    let number = turns.number.get();
    let first = habit.turn.replace(number) != number;
    let writes = if first { 1 } else { habit.writes.get().saturating_add(1) };
    habit.writes.set(writes);
    let expected = habit.expected.get();
    if expected <= writes || !event_loop.is_running() {
        // The last one that is expected, or one more.
        let sent = send(descriptor, content, FLAGS);
        if writes > 1 && habit.applies.get() {
            habit.expected.set(writes.max(expected));
            habit.held.set(habit.held.get() && sent.is_err());
        }
        return sent;
    }
    if !habit.held.replace(true) {
        turns.held.borrow_mut().push(this.own());
        turns.any.set(true);
    }
    send(descriptor, content, FLAGS | SendFlags::MORE)
}
