//! Datagrams that a transport has accepted and the kernel has not taken yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::cpython::bytes;
use crate::cpython::object::none;
use crate::cpython::{Obj, Ref, Visitor};
use crate::state::state;

/// One of them: exact `bytes`, and the address, or None.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub data: Ref,
    pub address: Ref,
}

/// In the order in which they were accepted. No borrow of it lasts while Python can run.
#[derive(Debug, Default)]
pub struct Datagrams {
    queue: RefCell<VecDeque<Datagram>>,
    size: Cell<usize>,
}

/// What one counts for beside its content: an empty one is something too, from 3.13 on.
pub fn header() -> usize {
    if state().minor >= 13 { 8 } else { 0 }
}

fn size_of(datagram: &Datagram) -> usize {
    bytes::of_exact(&datagram.data).map_or(0, <[u8]>::len) + header()
}

impl Datagrams {
    /// How many bytes wait, headers included.
    pub fn size(&self) -> usize {
        self.size.get()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Adds one at the end.
    pub fn push(&self, data: Ref, address: &Obj) {
        let datagram = Datagram { data, address: address.own() };
        self.size.set(self.size.get() + size_of(&datagram));
        self.queue.borrow_mut().push_back(datagram);
    }

    /// Takes out the first one.
    pub fn pop(&self) -> Option<Datagram> {
        let datagram = self.queue.borrow_mut().pop_front()?;
        self.size.set(self.size.get() - size_of(&datagram));
        Some(datagram)
    }

    /// Puts back what `pop` gave.
    pub fn put_back(&self, datagram: Datagram) {
        self.size.set(self.size.get() + size_of(&datagram));
        self.queue.borrow_mut().push_front(datagram);
    }

    /// Forgets all.
    pub fn clear(&self) {
        let forgotten = self.queue.take();
        self.size.set(0);
        drop(forgotten);
    }

    /// All of them, with None for no address.
    pub fn all(&self) -> Vec<(Ref, Ref)> {
        self.queue.borrow().iter().map(|one| (one.data.clone(), one.address.clone())).collect()
    }

    /// Shows the addresses to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(queue) = self.queue.try_borrow() {
            queue.iter().filter(|one| !one.address.is(none())).for_each(|one| visitor.object(&one.address));
        }
    }
}
