//! [`Waiters`]: those who wait for a lock, an event, a place in a queue; in the order in which they came.
//!
//! A list within a slab: the last memory of one who waited serves the next, and who gives up leaves at once.
//!
//! What must stay true: a waiter that was woken and is dropped before it heard of it hands that on (`on_lost`), or a lock
//! would be lost; nothing is borrowed while somebody else's code runs.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

const NONE: usize = usize::MAX;

pub(crate) struct Waiters {
    list: RefCell<List>,
}

struct List {
    nodes: Slab<Node>,
    first: usize,
    last: usize,
}

struct Node {
    before: usize,
    after: usize,
    /// `None`: it was woken, and is no longer in the list.
    waker: Option<Waker>,
}

impl List {
    fn push(&mut self, waker: Waker) -> usize {
        let node = self.nodes.insert(Node { before: self.last, after: NONE, waker: Some(waker) });
        match self.nodes.get_mut(self.last) {
            Some(last) => last.after = node,
            None => self.first = node,
        }
        self.last = node;
        node
    }

    fn unlink(&mut self, node: usize) {
        let Node { before, after, .. } = self.nodes[node];
        match self.nodes.get_mut(before) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        match self.nodes.get_mut(after) {
            Some(after) => after.before = before,
            None => self.last = before,
        }
    }

    fn wake_first(&mut self) -> Option<Waker> {
        let first = self.first;
        let waker = self.nodes.get_mut(first)?.waker.take();
        self.unlink(first);
        waker
    }
}

impl Waiters {
    pub(crate) const fn new() -> Self {
        Waiters { list: RefCell::new(List { nodes: Slab::new(), first: NONE, last: NONE }) }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().first == NONE
    }

    /// Whether nobody waits, and everybody who was woken has heard of it.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.list.borrow().nodes.is_empty()
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
        Wait { waiters: self, node: NONE, on_lost }
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiters").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

pub(crate) struct Wait<'a, F: FnMut()> {
    waiters: &'a Waiters,
    /// `NONE` before the first poll and after the last.
    node: usize,
    on_lost: F,
}

impl<F: FnMut()> Unpin for Wait<'_, F> {}

impl<F: FnMut()> Future for Wait<'_, F> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut list = self.waiters.list.borrow_mut();
        let Some(node) = list.nodes.get_mut(self.node) else {
            let node = list.push(cx.waker().clone());
            drop(list);
            self.node = node;
            return Poll::Pending;
        };
        match &mut node.waker {
            None => {
                list.nodes.remove(self.node);
                drop(list);
                self.node = NONE;
                Poll::Ready(())
            }
            Some(waker) => {
                if !waker.will_wake(cx.waker()) {
                    let old = std::mem::replace(waker, cx.waker().clone());
                    drop(list);
                    drop(old);
                }
                Poll::Pending
            }
        }
    }
}

impl<F: FnMut()> Drop for Wait<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.node == NONE {
            return;
        }
        let mut list = self.waiters.list.borrow_mut();
        let waiting = list.nodes[self.node].waker.is_some();
        if waiting {
            list.unlink(self.node);
        }
        let node = list.nodes.remove(self.node);
        drop(list);
        drop(node);
        if !waiting {
            (self.on_lost)();
        }
    }
}
