//! `Queue`, `LifoQueue` and `PriorityQueue`.
//!
//! A queue of exactly one of these classes, to which nobody has given attributes, goes the short way. A derived class
//! may override how items are kept (`_init`, `_get`, `_put`) and what is asked of a queue (`empty`, `full`, …): all
//! of that goes through its methods, as in asyncio.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::deque::Deque;
use crate::locks::event::{self, Event};
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::waiters::{self, BoundLoop, Waiters};

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

static GET: Kind = Kind { name: "get", qualname: "Queue.get", begin: get, resume: resume_get };
static PUT: Kind = Kind { name: "put", qualname: "Queue.put", begin: put, resume: resume_put };
static JOIN: Kind = Kind {
    name: "join",
    qualname: "Queue.join",
    begin: join,
    resume: |_, outcome| outcome.map(|_| Step::Done(none().own())),
};

/// The instance whose operation this is.
#[inline]
fn with_queue<R>(operation: &Inst<Operation>, work: impl FnOnce(&Inst<Queue>) -> Fallible<R>) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<Queue>::of(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no queue")),
    }
}

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
            Order::Lifo => object::list_pop(&*self.items.show()?),
            Order::Priority => KNOWN.get().pop.call(&[&*self.items.show()?]),
        }
    }

    fn add_item(&self, order: Order, item: &Obj) -> Fallible<()> {
        match order {
            Order::Fifo | Order::Custom => self.items.push(item.own()),
            Order::Lifo => object::list_append(&*self.items.show()?, item),
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

/// A call of `get()`.
pub fn get_from(this: &Inst<Queue>) -> Fallible<Own<Operation>> {
    operation::create(&GET, this.obj())
}

#[cold]
fn was_shut_down() -> Raised {
    match &KNOWN.get().shut_down {
        Some(class) => Raised::bare(class),
        None => Raised::bare(&KNOWN.get().empty),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Operations: `first` is the item to put, `second` the future that is waited for.

fn get(operation: &Inst<Operation>) -> Fallible<Step> {
    with_queue(operation, |this| {
        if this.is_empty()? {
            if this.shut_down.get() && this.is_empty()? {
                return Err(was_shut_down());
            }
            return wait_among(operation, this, &this.getters);
        }
        if this.is_native() {
            return this.get_at_once().map(Step::Done);
        }
        this.obj().call_method(&KNOWN.get().names.get_nowait, &[]).map(Step::Done)
    })
}

fn put(operation: &Inst<Operation>) -> Fallible<Step> {
    with_queue(operation, |this| {
        if this.is_full()? {
            if this.shut_down.get() {
                return Err(was_shut_down());
            }
            return wait_among(operation, this, &this.putters);
        }
        let item = operation.first.get_or_none();
        if this.is_native() {
            if this.shut_down.get() {
                return Err(was_shut_down());
            }
            this.put_at_once(&item)?;
            return Ok(Step::Done(none().own()));
        }
        this.obj().call_method(&KNOWN.get().names.put_nowait, &[&item]).map(Step::Done)
    })
}

fn wait_among(operation: &Inst<Operation>, this: &Inst<Queue>, waiters: &Waiters) -> Fallible<Step> {
    let future = this.bound.create_future(this.obj())?;
    waiters.push(future.clone())?;
    operation.second.set(future.clone());
    Ok(Step::Await(future))
}

fn resume_get(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    match outcome {
        Ok(_) => get(operation),
        Err(raised) => {
            let exception = raised.take();
            with_queue(operation, |this| give_up(operation, this, &this.getters, |this| this.is_empty()))?;
            Err(Raised::from_exception(exception))
        }
    }
}

fn resume_put(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    match outcome {
        Ok(_) => put(operation),
        Err(raised) => {
            let exception = raised.take();
            with_queue(operation, |this| give_up(operation, this, &this.putters, |this| this.is_full()))?;
            Err(Raised::from_exception(exception))
        }
    }
}

/// The wait failed. If it was somebody's turn, the next one has it now.
fn give_up(
    operation: &Inst<Operation>,
    this: &Inst<Queue>,
    waiters: &Waiters,
    blocked: impl FnOnce(&Inst<Queue>) -> Fallible<bool>,
) -> Fallible<()> {
    let future = operation.second.get_or_none();
    waiters::cancel(&future)?;
    waiters.remove(&future)?;
    if !blocked(this)? && !waiters::is_cancelled(&future)? {
        waiters.wake_and_remove()?;
    }
    Ok(())
}

fn join(operation: &Inst<Operation>) -> Fallible<Step> {
    with_queue(operation, |this| {
        if this.unfinished.get() <= 0 {
            return Ok(Step::Done(none().own()));
        }
        let finished = this.finished()?;
        match Inst::<Event>::exactly(&finished).filter(|event| event.is_plain()) {
            Some(event) => event::wait(event).map(|wait| Step::Await(wait.into_ref())),
            None => finished.call_method(&state().names.wait, &[]).map(Step::Await),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<Queue>, args: Args<'_>) -> Fallible<()> {
    let [maxsize] = args.parse(&Signature {
        function: "Queue.__init__",
        names: ["maxsize"],
        positional: 1,
        required: 0,
    })?;
    let maxsize = maxsize.map_or_else(|| state().zero.clone(), Obj::own);
    let known = KNOWN.get();
    let exact = [Queue::home().class(), &known.lifo, &known.priority];
    let plain = exact.iter().any(|class| this.obj().is_exactly(class)) && maxsize.is_any_int();
    if maxsize.is_any_int() {
        this.limit.set(usize::try_from(maxsize.to_i64_or_nearest()?).unwrap_or(0));
    }
    this.order.set(if plain { this.inherited_order() } else { Order::Custom });
    this.maxsize.set(maxsize.clone());
    this.items.clear();
    this.getters.clear();
    this.putters.clear();
    this.unfinished.set(0);
    this.finished.clear();
    this.shut_down.set(false);
    if plain { prepare(this) } else { this.obj().call_method(&known.names.init, &[&maxsize]).map(drop) }
}

fn prepare(this: &Inst<Queue>) -> Fallible<()> {
    if this.inherited_order() == Order::Fifo {
        this.items.clear();
    } else {
        this.items.replace(object::list(&[])?);
    }
    Ok(())
}

fn py_prepare(this: &Inst<Queue>, _maxsize: &Obj) -> Fallible<Ref> {
    prepare(this)?;
    Ok(none().own())
}

fn py_take(this: &Inst<Queue>) -> Fallible<Ref> {
    this.take_item(this.inherited_order())
}

fn py_add(this: &Inst<Queue>, item: &Obj) -> Fallible<Ref> {
    this.add_item(this.inherited_order(), item)?;
    Ok(none().own())
}

fn py_qsize(this: &Inst<Queue>) -> Fallible<Ref> {
    object::int(this.items.len()? as i64)
}

fn py_empty(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(boolean(this.items.is_empty()?).own())
}

fn py_full(this: &Inst<Queue>) -> Fallible<Ref> {
    if this.is_native() {
        return Ok(boolean(this.is_full()?).own());
    }
    let maxsize = this.maxsize.get_or_none();
    if maxsize.is_at_most(&state().zero)? {
        return Ok(boolean(false).own());
    }
    let size = this.obj().call_method(&KNOWN.get().names.qsize, &[])?;
    Ok(boolean(maxsize.is_at_most(&size)?).own())
}

fn py_get(this: &Inst<Queue>) -> Fallible<Ref> {
    get_from(this).map(Own::into_ref)
}

fn py_put(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let item = match (args.positional(), args.has_keywords()) {
        ([item], false) => item,
        _ => {
            let signature = Signature { function: "Queue.put", names: ["item"], positional: 1, required: 1 };
            args.parse(&signature)?[0].unwrap_or(none())
        }
    };
    let operation = operation::create(&PUT, this.obj())?;
    operation.first.set(item.own());
    Ok(operation.into_ref())
}

fn py_get_nowait(this: &Inst<Queue>) -> Fallible<Ref> {
    this.get_nowait()
}

fn py_put_nowait(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let signature = Signature { function: "Queue.put_nowait", names: ["item"], positional: 1, required: 1 };
    let [item] = args.parse(&signature)?;
    this.put_nowait(item.unwrap_or(none()))?;
    Ok(none().own())
}

fn py_task_done(this: &Inst<Queue>) -> Fallible<Ref> {
    if this.unfinished.get() <= 0 {
        return Err(Raised::value_error("task_done() called too many times"));
    }
    this.unfinished.set(this.unfinished.get() - 1);
    if this.unfinished.get() == 0 {
        this.tell_finished(true)?;
    }
    Ok(none().own())
}

fn py_join(this: &Inst<Queue>) -> Fallible<Ref> {
    operation::create(&JOIN, this.obj()).map(Own::into_ref)
}

fn py_shutdown(this: &Inst<Queue>, args: Args<'_>) -> Fallible<Ref> {
    let [immediate] = args.parse(&Signature {
        function: "Queue.shutdown",
        names: ["immediate"],
        positional: 1,
        required: 0,
    })?;
    this.shut_down.set(true);
    if immediate.map_or(Ok(false), Obj::truthy)? {
        while !this.is_empty()? {
            drop(this.take()?);
            if this.unfinished.get() > 0 {
                this.unfinished.set(this.unfinished.get() - 1);
            }
        }
        if this.unfinished.get() == 0 {
            this.tell_finished(true)?;
        }
    }
    for waiters in [&this.getters, &this.putters] {
        while let Some(waiter) = waiters.pop()? {
            if !waiters::is_done(&waiter)? {
                waiters::set_result(&waiter, none())?;
            }
        }
    }
    Ok(none().own())
}

fn py_format(this: &Inst<Queue>) -> Fallible<Ref> {
    let mut text = format!("maxsize={}", this.maxsize.get_or_none().shown());
    if !this.items.is_empty()? {
        let items = object::list(&this.items.show()?.items()?)?;
        text += &format!(" _queue={}", items.repr()?.to_text());
    }
    if !this.getters.is_empty()? {
        text += &format!(" _getters[{}]", this.getters.len()?);
    }
    if !this.putters.is_empty()? {
        text += &format!(" _putters[{}]", this.putters.len()?);
    }
    if this.unfinished.get() != 0 {
        text += &format!(" tasks={}", this.unfinished.get());
    }
    if this.shut_down.get() {
        text += " shutdown";
    }
    object::text(&text)
}

fn formatted(this: &Inst<Queue>) -> Fallible<String> {
    Ok(this.obj().call_method(&KNOWN.get().names.format, &[])?.to_text())
}

fn py_repr(this: &Inst<Queue>) -> Fallible<Ref> {
    let (class, address) = (this.obj().class_name(), std::ptr::from_ref(this.obj()));
    object::text(&format!("<{class} at {address:p} {}>", formatted(this)?))
}

fn py_str(this: &Inst<Queue>) -> Fallible<Ref> {
    object::text(&format!("<{} {}>", this.obj().class_name(), formatted(this)?))
}

fn py_maxsize(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(this.maxsize.get_or_none())
}

fn py_set_maxsize(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.unwrap_or(none());
    match value.is_any_int() {
        true => this.limit.set(usize::try_from(value.to_i64_or_nearest()?).unwrap_or(0)),
        false => this.order.set(Order::Custom),
    }
    this.maxsize.set(value.own());
    Ok(())
}

fn py_items(this: &Inst<Queue>) -> Fallible<Ref> {
    this.items.show()
}

fn py_set_items(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    // What the program puts there need not be what our orders count on.
    this.order.set(Order::Custom);
    this.items.replace(value.unwrap_or(none()).own());
    Ok(())
}

fn py_getters(this: &Inst<Queue>) -> Fallible<Ref> {
    this.getters.show()
}

fn py_set_getters(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.getters.replace(value)
}

fn py_putters(this: &Inst<Queue>) -> Fallible<Ref> {
    this.putters.show()
}

fn py_set_putters(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.putters.replace(value)
}

fn py_unfinished(this: &Inst<Queue>) -> Fallible<Ref> {
    object::int(this.unfinished.get())
}

fn py_set_unfinished(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.unfinished.set(value.map_or(Ok(0), Obj::to_i64)?);
    Ok(())
}

fn py_finished(this: &Inst<Queue>) -> Fallible<Ref> {
    this.finished()
}

fn py_set_finished(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.finished.set(value.unwrap_or(none()).own());
    Ok(())
}

fn py_is_shutdown(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(boolean(this.shut_down.get()).own())
}

fn py_set_is_shutdown(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.shut_down.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_loop(this: &Inst<Queue>) -> Fallible<Ref> {
    Ok(this.bound.0.get_or_none())
}

fn py_set_loop(this: &Inst<Queue>, value: Option<&Obj>) -> Fallible<()> {
    this.bound.set(value);
    Ok(())
}

fn py_get_loop(this: &Inst<Queue>) -> Fallible<Ref> {
    this.bound.get(this.obj())
}

fn py_wakeup_next(_this: &Inst<Queue>, waiters: &Obj) -> Fallible<Ref> {
    while waiters.truthy()? {
        let waiter = waiters.call_method(&state().names.popleft, &[])?;
        if !waiters::is_done(&waiter)? {
            waiters::set_result(&waiter, none())?;
            break;
        }
    }
    Ok(none().own())
}

/// Makes the three classes.
pub fn define() -> Fallible<[Ref; 3]> {
    let mut methods: Vec<_> = class_methods!(Queue, "Queue";
        c"qsize" => none py_qsize, c"qsize($self, /)\n--\n\nReturn the number of items in the queue.";
        c"empty" => none py_empty, c"empty($self, /)\n--\n\nReturn True if the queue is empty.";
        c"full" => none py_full, c"full($self, /)\n--\n\nReturn True if there are maxsize items in the queue.";
        c"get" => none py_get,
            c"get($self, /)\n--\n\nRemove and return an item; wait for one if the queue is empty.";
        c"put" => any py_put,
            c"put($self, item)\n--\n\nPut an item into the queue; wait for a free slot if it is full.";
        c"get_nowait" => none py_get_nowait,
            c"get_nowait($self, /)\n--\n\nRemove and return an item, or raise QueueEmpty.";
        c"put_nowait" => any py_put_nowait,
            c"put_nowait($self, item)\n--\n\nPut an item into the queue, or raise QueueFull.";
        c"task_done" => none py_task_done,
            c"task_done($self, /)\n--\n\nSay that the work on an item that was gotten is complete.\n\nRaises \
              ValueError if called more often than there were items.";
        c"join" => none py_join,
            c"join($self, /)\n--\n\nWait until the work on all items that were put is complete.";
        c"_init" => one py_prepare, c"_init($self, maxsize, /)\n--\n\nMake what holds the items.";
        c"_get" => none py_take, c"_get($self, /)\n--\n\nTake out the item whose turn it is.";
        c"_put" => one py_add, c"_put($self, item, /)\n--\n\nAdd an item.";
        c"_format" => none py_format, c"_format($self, /)\n--\n\nReturn what the queue's repr says of it.";
        c"_wakeup_next" => one py_wakeup_next,
            c"_wakeup_next($self, waiters, /)\n--\n\nWake the first of the waiters that is not done.";
        c"_get_loop" => none py_get_loop,
            c"_get_loop($self, /)\n--\n\nReturn the running loop, which has to be the one that this is bound to.";
        c"__class_getitem__" => class crate::future::py_class_getitem,
            c"__class_getitem__($type, item, /)\n--\n\nSee PEP 585.";
    );
    if state().minor >= 13 {
        methods.extend(class_methods!(Queue, "Queue";
            c"shutdown" => any py_shutdown,
                c"shutdown($self, immediate=False)\n--\n\nHave put() raise QueueShutDown, and get() once the queue \
                  is empty; with immediate, empty it.";
        ));
    }
    let class = crate::cpython::spec::define::<Queue>(Spec {
        base: None,
        doc: Some(
            c"Queue(maxsize=0)\n--\n\nItems that tasks put and get, first in, first out.\n\nputs wait while there are \
              maxsize items; 0 stands for no limit.",
        ),
        methods,
        attributes: class_attributes!(Queue, "Queue";
            c"maxsize" => py_maxsize;
            c"_maxsize" => py_maxsize, py_set_maxsize;
            c"_queue" => py_items, py_set_items;
            c"_getters" => py_getters, py_set_getters;
            c"_putters" => py_putters, py_set_putters;
            c"_unfinished_tasks" => py_unfinished, py_set_unfinished;
            c"_finished" => py_finished, py_set_finished;
            c"_is_shutdown" => py_is_shutdown, py_set_is_shutdown;
            c"_loop" => py_loop, py_set_loop;
        ),
        slots: class_slots!(Queue, "Queue"; init py_init, repr py_repr, str py_str),
    })?;
    let lifo = crate::cpython::spec::derive(
        &class,
        c"LifoQueue",
        c"LifoQueue(maxsize=0)\n--\n\nA queue that gives the item added last.",
    )?;
    let priority = crate::cpython::spec::derive(
        &class,
        c"PriorityQueue",
        c"PriorityQueue(maxsize=0)\n--\n\nA queue that gives the lowest item.",
    )?;
    let queues = object::import(c"asyncio.queues")?;
    let heap = object::import(c"heapq")?;
    KNOWN.set(Known {
        lifo: lifo.clone(),
        priority: priority.clone(),
        empty: queues.get(&*object::interned(c"QueueEmpty")?)?,
        full: queues.get(&*object::interned(c"QueueFull")?)?,
        shut_down: queues.get_if_there(&*object::interned(c"QueueShutDown")?)?,
        push: heap.get(&*object::interned(c"heappush")?)?,
        pop: heap.get(&*object::interned(c"heappop")?)?,
        names: QueueNames {
            empty: object::interned(c"empty")?,
            full: object::interned(c"full")?,
            qsize: object::interned(c"qsize")?,
            get: object::interned(c"_get")?,
            put: object::interned(c"_put")?,
            get_nowait: object::interned(c"get_nowait")?,
            put_nowait: object::interned(c"put_nowait")?,
            format: object::interned(c"_format")?,
            init: object::interned(c"_init")?,
        },
    });
    Ok([class, lifo, priority])
}
