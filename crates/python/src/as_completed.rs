//! `as_completed`: from 3.13 on an iterator and an asynchronous iterator. (Before, it is a generator: see
//! `as_completed_generator`.)
//!
//! Futures that are done go through a queue, in which whoever iterates waits.

use std::cell::{Cell, RefCell};

use crate::cpython::coroutine::{Sent, is_awaitable};
use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::ensure_future;
use crate::identity::IdentitySet;
use crate::listener::{Listener, Listens, Told, listen, unlisten};
use crate::operation::{self, Kind, Operation, Step};
use crate::original::Code;
use crate::queues::{self, Queue};
use crate::registry;
use crate::state::state;
use crate::waiters;

/// What `as_completed` returns.
#[derive(Debug)]
pub struct Completing {
    done: Slot,
    todo: RefCell<IdentitySet>,
    /// How many are still to be given.
    left: Cell<usize>,
    handle: Slot,
    current_task: Slot,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for Completing {
    const NAME: &'static std::ffi::CStr = c"velodrome._AsCompletedIterator";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Completing {
        Completing {
            done: Slot::empty(),
            todo: RefCell::default(),
            left: Cell::new(0),
            handle: Slot::empty(),
            current_task: Slot::empty(),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<Completing>, visitor: &mut Visitor<'_>) {
        for slot in [&this.done, &this.handle, &this.current_task] {
            visitor.slot(slot);
        }
        if let Ok(todo) = this.todo.try_borrow() {
            todo.traverse(visitor);
        }
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<Completing>) {
        for slot in [&this.done, &this.handle, &this.current_task] {
            slot.clear();
        }
        drop(this.todo.take());
        this.told.clear();
    }
}

impl Listens for Completing {
    const METHOD: &'static std::ffi::CStr = c"_handle_completion";

    fn told(&self) -> &Told {
        &self.told
    }

    fn hear(this: &Inst<Completing>, future: &Obj) -> Fallible<()> {
        if this.todo.borrow().is_empty() {
            return Ok(()); // the time was up before
        }
        let removed = this.todo.borrow_mut().remove(future);
        drop(removed);
        forget(this, future)?;
        with_queue(this, |queue| queue.put_nowait(future))?;
        if this.todo.borrow().is_empty()
            && let Some(handle) = this.handle.take()
        {
            handle.call_method(&state().names.cancel, &[])?;
        }
        Ok(())
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    current_task: Ref,
    /// Whether a wait that fails leaves one more to be given.
    gives_back: bool,
}

static KNOWN: Global<Known> = Global::new();

static NEXT: Kind = Kind {
    name: "__anext__",
    qualname: "_AsCompletedIterator.__anext__",
    begin: |operation| {
        let ended = with_iterator(operation, |this| Ok(!take_one(this)))?;
        if ended {
            return Err(Raised::bare(object::stop_async_iteration()));
        }
        wait_for_one(operation, come)
    },
    resume: come,
};
static ONE: Kind = Kind {
    name: "_wait_for_one",
    qualname: "_AsCompletedIterator._wait_for_one",
    begin: |operation| wait_for_one(operation, result_of_one),
    resume: result_of_one,
};

/// The outcome of the one that is done.
pub fn result_of_one(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    match come(operation, outcome)? {
        Step::Done(future) => waiters::result(&future).map(Step::Done),
        step => Ok(step),
    }
}

fn with_iterator<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<Completing>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<Completing>::exactly(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no iterator")),
    }
}

fn with_queue<R>(this: &Inst<Completing>, work: impl FnOnce(&Inst<Queue>) -> Fallible<R>) -> Fallible<R> {
    let queue = this.done.get_or_none();
    match Inst::<Queue>::exactly(&queue) {
        Some(queue) => work(queue),
        None => Err(Raised::runtime_error("the iterator has no queue")),
    }
}

fn forget(this: &Inst<Completing>, future: &Obj) -> Fallible<()> {
    match this.current_task.get() {
        Some(task) => registry::forget_awaited(future, &task),
        None => Ok(()),
    }
}

/// Takes one of those that are to be given; says whether there was one.
fn take_one(this: &Inst<Completing>) -> bool {
    let left = this.left.get();
    this.left.set(left.saturating_sub(1));
    left > 0
}

/// Takes the next one that is done, of which `come` makes what is returned, or waits for it.
pub fn wait_for_one(
    operation: &Inst<Operation>,
    come: fn(&Inst<Operation>, Fallible<Ref>) -> Fallible<Step>,
) -> Fallible<Step> {
    with_iterator(operation, |this| {
        with_queue(this, |queue| match queues::at_hand(queue)? {
            Some(future) => come(operation, Ok(future)),
            None => queues::get_from(queue).map(|get| Step::Await(get.into_ref())),
        })
    })
}

/// One is done, or the time is up.
fn come(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    match outcome {
        Ok(future) if future.is_none() => Err(Raised::bare(object::timeout_error())),
        Ok(future) => Ok(Step::Done(future)),
        Err(raised) => {
            let exception = raised.take();
            if KNOWN.get().gives_back {
                with_iterator(operation, |this| {
                    this.left.set(this.left.get() + 1);
                    Ok(())
                })?;
            }
            Err(Raised::from_exception(exception))
        }
    }
}

/// `as_completed(fs, *, timeout=None)`.
pub fn py_as_completed(args: Args<'_>) -> Fallible<Ref> {
    let [awaitables, timeout] = args.parse(&Signature {
        function: "as_completed",
        names: ["fs", "timeout"],
        positional: 1,
        required: 1,
    })?;
    let awaitables = awaitables.unwrap_or(none());
    if is_awaitable(awaitables)? {
        let class = awaitables.class_name();
        return Err(Raised::type_error(&format!("expects an iterable of awaitables, not {class}")));
    }
    begin(awaitables, timeout).map(Own::into_ref)
}

/// Begins to wait for all of them.
pub fn begin(awaitables: &Obj, timeout: Option<&Obj>) -> Fallible<Own<Completing>> {
    let this = Own::<Completing>::new()?;
    this.done.set(queues::create()?.into_ref());
    let event_loop = state().get_event_loop()?;
    if state().registers.add_awaited_by.is_some() {
        this.current_task.set(registry::current_task(&KNOWN.get().current_task)?);
    }
    for awaitable in object::set_of(awaitables)?.items()? {
        let future = ensure_future(&awaitable, Some(&event_loop))?;
        this.todo.borrow_mut().insert(&future);
    }
    let current_task = this.current_task.get();
    let todo = this.todo.borrow().list();
    for future in &todo {
        listen(future, Listener::Completed(this.clone()))?;
        if let Some(task) = &current_task {
            registry::note_awaited(future, task)?;
        }
    }
    if let Some(timeout) = timeout.filter(|timeout| !timeout.is_none() && !todo.is_empty()) {
        let callback = this.obj().get(&*object::interned(c"_handle_timeout")?)?;
        this.handle.set(event_loop.call_method(&state().names.call_later, &[timeout, &callback])?);
    }
    this.left.set(todo.len());
    Ok(this)
}

/// The time is up: whoever iterates on hears so, as often as futures are left.
fn py_handle_timeout(this: &Inst<Completing>) -> Fallible<Ref> {
    let todo = this.todo.borrow().list();
    for future in &todo {
        unlisten(future, &Listener::Completed(this.own()))?;
        forget(this, future)?;
        with_queue(this, |queue| queue.put_nowait(none()))?;
    }
    drop(this.todo.take());
    Ok(none().own())
}

fn py_handle_completion(this: &Inst<Completing>, future: &Obj) -> Fallible<Ref> {
    Completing::hear(this, future)?;
    Ok(none().own())
}

fn py_itself(this: &Inst<Completing>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn next(this: &Inst<Completing>) -> Fallible<Sent> {
    next_one(this, &ONE)
}

/// A coroutine for the next one that will be done, or the end.
pub fn next_one(this: &Inst<Completing>, kind: &'static Kind) -> Fallible<Sent> {
    if !take_one(this) {
        return Ok(Sent::Returned(none().own()));
    }
    operation::create(kind, this.obj()).map(|one| Sent::Yielded(one.into_ref()))
}

fn py_anext(this: &Inst<Completing>) -> Fallible<Ref> {
    operation::create(&NEXT, this.obj()).map(Own::into_ref)
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    let class = state().tasks_module.get_if_there(&*object::interned(c"_AsCompletedIterator")?)?;
    let gives_back = match class {
        Some(class) => Code::of(&class, c"_wait_for_one")?.uses("_todo_left")?,
        None => false,
    };
    KNOWN.set(Known { current_task: object::interned(c"current_task")?, gives_back });
    crate::cpython::spec::define::<Completing>(Spec {
        methods: class_methods!(Completing, "Completing";
            c"_handle_completion" => one py_handle_completion,
                c"_handle_completion($self, future, /)\n--\n\nHear that a future is done.";
            c"_handle_timeout" => none py_handle_timeout,
                c"_handle_timeout($self, /)\n--\n\nGive up those that are not done.";
        ),
        slots: class_slots!(Completing, "Completing"; iter py_itself, next next, aiter py_itself, anext py_anext),
        ..Spec::default()
    })
    .map(drop)
}
