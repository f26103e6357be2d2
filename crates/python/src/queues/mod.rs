//! `Queue`, `LifoQueue` and `PriorityQueue`.
//!
//! A queue of exactly one of these classes, to which nobody has given attributes, goes the short way. A derived class
//! may override how items are kept (`_init`, `_get`, `_put`) and what is asked of a queue (`empty`, `full`, …): all
//! of that goes through its methods, as in asyncio.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object;
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::deque::Deque;
use crate::locks::event::{self, Event};
use crate::operation::{self, Operation};
use crate::state::state;
use crate::waiters::{BoundLoop, Waiters};

mod methods;
mod operations;

pub use methods::define;

/// The class `Queue`.
#[derive(Debug)]
pub struct Queue {
    bound: BoundLoop,
    /// Whatever the program gave; `limit` is its number, 0 for none.
    maxsize: Slot,
    limit: Cell<usize>,
    order: Cell<Order>,
    items: Deque,
    getters: Waiters,
    putters: Waiters,
    unfinished: Cell<i64>,
    /// An event, once somebody joins or looks at it; until then it is set as long as nothing is unfinished.
    finished: Slot,
    shut_down: Cell<bool>,
}

/// Which item comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Fifo,
    /// The items are in a list of Python's.
    Lifo,
    /// The items are in a list of Python's that is a heap.
    Priority,
    /// A derived class: its methods know.
    Custom,
}

static HOME: Home = Home::new();

impl Class for Queue {
    const NAME: &'static std::ffi::CStr = c"velodrome.Queue";
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Queue {
        Queue {
            bound: BoundLoop::default(),
            maxsize: Slot::empty(),
            limit: Cell::new(0),
            order: Cell::new(Order::Custom),
            items: Deque::default(),
            getters: Waiters::default(),
            putters: Waiters::default(),
            unfinished: Cell::new(0),
            finished: Slot::empty(),
            shut_down: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<Queue>, visitor: &mut Visitor<'_>) {
        for slot in [&this.bound.0, &this.maxsize, &this.finished] {
            visitor.slot(slot);
        }
        this.items.traverse(visitor);
        this.getters.traverse(visitor);
        this.putters.traverse(visitor);
    }

    fn clear(this: &Inst<Queue>) {
        for slot in [&this.bound.0, &this.maxsize, &this.finished] {
            slot.clear();
        }
        this.items.clear();
        this.getters.clear();
        this.putters.clear();
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    lifo: Ref,
    priority: Ref,
    empty: Ref,
    full: Ref,
    /// From 3.13 on.
    shut_down: Option<Ref>,
    push: Ref,
    pop: Ref,
    names: QueueNames,
}

/// Interned names of the methods that derived classes override.
#[derive(Debug)]
struct QueueNames {
    empty: Ref,
    full: Ref,
    qsize: Ref,
    get: Ref,
    put: Ref,
    get_nowait: Ref,
    put_nowait: Ref,
    format: Ref,
    init: Ref,
}

static KNOWN: Global<Known> = Global::new();

impl Inst<Queue> {
    /// Whether what programs see of it is ours alone.
    #[inline]
    fn is_native(&self) -> bool {
        self.order.get() != Order::Custom && !self.has_dict()
    }

    #[inline]
    fn is_empty(&self) -> Fallible<bool> {
        if self.is_native() {
            return self.items.is_empty();
        }
        self.obj().call_method(&KNOWN.get().names.empty, &[])?.truthy()
    }

    #[inline]
    fn is_full(&self) -> Fallible<bool> {
        if self.is_native() {
            return Ok(self.limit.get() > 0 && self.items.len()? >= self.limit.get());
        }
        self.obj().call_method(&KNOWN.get().names.full, &[])?.truthy()
    }

    /// `_get()`.
    #[inline]
    fn take(&self) -> Fallible<Ref> {
        if self.is_native() {
            self.take_item(self.order.get())
        } else {
            self.obj().call_method(&KNOWN.get().names.get, &[])
        }
    }

    /// `_put(item)`.
    #[inline]
    fn add(&self, item: &Obj) -> Fallible<()> {
        if self.is_native() {
            return self.add_item(self.order.get(), item);
        }
        self.obj().call_method(&KNOWN.get().names.put, &[item]).map(drop)
    }

    fn take_item(&self, order: Order) -> Fallible<Ref> {
        match order {
            Order::Fifo | Order::Custom => match self.items.pop()? {
                Some(item) => Ok(item),
                // What asyncio's deque says.
                None => self.items.show()?.call_method(&state().names.popleft, &[]),
            },
            Order::Lifo => {
                let items = self.items.show()?;
                match object::is_list(&items) {
                    true => object::list_pop(&items),
                    false => items.call_method(&*object::interned(c"pop")?, &[]),
                }
            }
            Order::Priority => KNOWN.get().pop.call(&[&*self.items.show()?]),
        }
    }

    fn add_item(&self, order: Order, item: &Obj) -> Fallible<()> {
        match order {
            Order::Fifo | Order::Custom => self.items.push(item.own()),
            Order::Lifo => {
                let items = self.items.show()?;
                match object::is_list(&items) {
                    true => object::list_append(&items, item),
                    false => items.call_method(&state().names.append, &[item]).map(drop),
                }
            }
            Order::Priority => KNOWN.get().push.call(&[&*self.items.show()?, item]).map(drop),
        }
    }

    /// How the class orders items, whether or not a derived class overrides it.
    fn inherited_order(&self) -> Order {
        if self.obj().derives_from(&KNOWN.get().lifo) {
            Order::Lifo
        } else if self.obj().derives_from(&KNOWN.get().priority) {
            Order::Priority
        } else {
            Order::Fifo
        }
    }

    /// The event that is set while nothing is unfinished.
    fn finished(&self) -> Fallible<Ref> {
        if let Some(finished) = self.finished.get() {
            return Ok(finished);
        }
        let finished = Own::<Event>::new()?;
        if self.unfinished.get() == 0 {
            event::set(&finished)?;
        }
        self.finished.set(finished.obj().own());
        Ok(finished.into_ref())
    }

    /// The number of unfinished items has changed to zero, or from zero.
    fn tell_finished(&self, finished: bool) -> Fallible<()> {
        let Some(held) = self.finished.get() else { return Ok(()) };
        match Inst::<Event>::of(&held) {
            Some(held) if finished => event::set(held),
            Some(held) => {
                event::clear(held);
                Ok(())
            }
            None => {
                held.call_method(&*object::interned(if finished { c"set" } else { c"clear" })?, &[]).map(drop)
            }
        }
    }

    /// `put_nowait(item)`.
    pub fn put_nowait(&self, item: &Obj) -> Fallible<()> {
        if self.shut_down.get() {
            return Err(was_shut_down());
        }
        if self.is_full()? {
            return Err(Raised::bare(&KNOWN.get().full));
        }
        self.put_at_once(item)
    }

    #[inline]
    fn put_at_once(&self, item: &Obj) -> Fallible<()> {
        self.add(item)?;
        self.unfinished.set(self.unfinished.get() + 1);
        self.tell_finished(false)?;
        self.getters.wake_and_remove()
    }

    fn get_nowait(&self) -> Fallible<Ref> {
        if self.is_empty()? {
            if self.shut_down.get() {
                return Err(was_shut_down());
            }
            return Err(Raised::bare(&KNOWN.get().empty));
        }
        self.get_at_once()
    }

    #[inline]
    fn get_at_once(&self) -> Fallible<Ref> {
        let item = self.take()?;
        self.putters.wake_and_remove()?;
        Ok(item)
    }
}

/// A queue without a limit, first in, first out.
pub fn create() -> Fallible<Own<Queue>> {
    let this = Own::<Queue>::new()?;
    this.maxsize.set(state().zero.clone());
    this.order.set(Order::Fifo);
    Ok(this)
}

/// What `get()` would return without waiting, if that is seen at once.
#[inline]
pub fn at_hand(this: &Inst<Queue>) -> Fallible<Option<Ref>> {
    if this.is_native() && !this.items.is_empty()? { this.get_at_once().map(Some) } else { Ok(None) }
}

/// A call of `get()`.
pub fn get_from(this: &Inst<Queue>) -> Fallible<Own<Operation>> {
    operation::create(&operations::GET, this.obj())
}

#[cold]
fn was_shut_down() -> Raised {
    match &KNOWN.get().shut_down {
        Some(class) => Raised::bare(class),
        None => Raised::bare(&KNOWN.get().empty),
    }
}
