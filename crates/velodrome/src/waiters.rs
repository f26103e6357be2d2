//! [`Waiters`]: those who wait for a lock, an event, a place in a queue; in the order in which they came.
//!
//! Each takes a ticket, and a place in a line. They are woken from the front, so who was woken sees it by a ticket that is not
//! after the one that was called last: hearing of it needs no look at the line.
//!
//! What must stay true:
//!
//! - Places are in order of their tickets; the first and the last are taken. Those in between whose owner has given up are
//!   gaps, which are never more than the others, or few.
//! - A waiter that was woken and is dropped before it heard of it hands that on (`on_lost`), or a lock would be lost.
//! - Nothing is borrowed while somebody else's code runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::abi::LocalWaker;

/// So many gaps are always allowed.
const FEW: usize = 32;

pub(crate) struct Waiters {
    list: RefCell<List>,
}

struct List {
    line: VecDeque<Place>,
    gaps: usize,
    /// The ticket given out last; the first is 1.
    last: u64,
    /// The ticket called last: nobody with an earlier one waits.
    called: u64,
    /// How many were woken, and have not heard of it.
    unheard: usize,
}

struct Place {
    ticket: u64,
    /// `None`: a gap.
    waker: Option<LocalWaker>,
}

impl List {
    #[inline]
    fn push(&mut self, waker: LocalWaker) -> u64 {
        self.last += 1;
        self.line.push_back(Place { ticket: self.last, waker: Some(waker) });
        self.last
    }

    #[inline]
    fn wake_first(&mut self) -> Option<LocalWaker> {
        let Place { ticket, waker } = self.line.pop_front()?;
        self.called = ticket;
        self.unheard += 1;
        if self.gaps > 0 {
            self.trim();
        }
        waker
    }

    /// Whose ticket was not called yet.
    fn place(&mut self, ticket: u64) -> Option<&mut Place> {
        let index = self.line.binary_search_by_key(&ticket, |place| place.ticket).ok()?;
        self.line.get_mut(index)
    }

    /// Has somebody else woken. Gives back who is not woken any more, or not at all.
    fn replace(&mut self, ticket: u64, waker: LocalWaker) -> Option<LocalWaker> {
        match self.place(ticket) {
            Some(place) => place.waker.replace(waker),
            None => Some(waker),
        }
    }

    /// Gives up a place whose ticket was not called yet.
    fn leave(&mut self, ticket: u64) -> Option<LocalWaker> {
        let waker = self.place(ticket)?.waker.take();
        self.gaps += 1;
        self.trim();
        if self.gaps > FEW && self.gaps > self.line.len() / 2 {
            self.line.retain(|place| place.waker.is_some());
            self.gaps = 0;
        }
        waker
    }

    /// Takes the gaps at both ends away. (Apart, because it is rare.)
    #[cold]
    #[inline(never)]
    fn trim(&mut self) {
        while self.line.front().is_some_and(|place| place.waker.is_none()) {
            self.line.pop_front();
            self.gaps -= 1;
        }
        while self.line.back().is_some_and(|place| place.waker.is_none()) {
            self.line.pop_back();
            self.gaps -= 1;
        }
    }
}

impl Waiters {
    pub(crate) const fn new() -> Self {
        let list = List { line: VecDeque::new(), gaps: 0, last: 0, called: 0, unheard: 0 };
        Waiters { list: RefCell::new(list) }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().line.is_empty()
    }

    /// Whether nobody waits, and everybody who was woken has heard of it.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        let list = self.list.borrow();
        list.line.is_empty() && list.unheard == 0
    }

    /// Wakes who waits longest. `false` if nobody does.
    #[inline]
    pub(crate) fn wake_one(&self) -> bool {
        let waker = self.list.borrow_mut().wake_first();
        match waker {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        }
    }

    /// Wakes all who wait now.
    pub(crate) fn wake_all(&self) {
        while self.wake_one() {}
    }

    /// Waits to be woken. If it was, but is dropped before it heard of it, `on_lost` is called.
    #[inline]
    pub(crate) fn wait<F: FnMut()>(&self, on_lost: F) -> Wait<'_, F> {
        Wait { waiters: self, ticket: 0, on_lost }
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiters").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

pub(crate) struct Wait<'a, F: FnMut()> {
    waiters: &'a Waiters,
    /// 0 before the first poll and after the last.
    ticket: u64,
    on_lost: F,
}

impl<F: FnMut()> Unpin for Wait<'_, F> {}

impl<F: FnMut()> Wait<'_, F> {
    #[cold]
    fn give_up(&mut self) {
        let mut list = self.waiters.list.borrow_mut();
        if self.ticket > list.called {
            let waker = list.leave(self.ticket);
            drop(list);
            drop(waker);
        } else {
            list.unheard -= 1;
            drop(list);
            (self.on_lost)();
        }
    }

    /// Still waiting, and polled again: perhaps somebody else is to be woken now.
    fn wait_on(&self, waker: &Waker) {
        let wakes = |place: &mut Place| place.waker.as_ref().is_some_and(|kept| kept.will_wake(waker));
        if self.waiters.list.borrow_mut().place(self.ticket).is_none_or(wakes) {
            return;
        }
        let waker = LocalWaker::of(waker);
        let old = self.waiters.list.borrow_mut().replace(self.ticket, waker);
        drop(old);
    }
}

impl<F: FnMut()> Future for Wait<'_, F> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.ticket == 0 {
            let waker = LocalWaker::of(cx.waker());
            self.ticket = self.waiters.list.borrow_mut().push(waker);
            return Poll::Pending;
        }
        let mut list = self.waiters.list.borrow_mut();
        if self.ticket > list.called {
            drop(list);
            self.wait_on(cx.waker());
            return Poll::Pending;
        }
        list.unheard -= 1;
        drop(list);
        self.ticket = 0;
        Poll::Ready(())
    }
}

impl<F: FnMut()> Drop for Wait<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket != 0 {
            self.give_up();
        }
    }
}
