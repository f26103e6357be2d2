//! `wait`: until the first of several futures is done, or all, or the time is up.

use std::cell::{Cell, RefCell};

use crate::alarm::Alarm;
use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::is_future;
use crate::gather::{Retrieved, retrieve};
use crate::listener::{Listener, Listens, Told, listen, unlisten};
use crate::operation::{self, Kind, Operation, Step};
use crate::registry;
use crate::state::state;
use crate::waiters;

/// What is told of the futures while they are waited for.
#[derive(Debug)]
pub struct Waiting {
    futures: RefCell<Vec<Ref>>,
    /// Whether all of them are exactly ours, so that each tells us once that it is done.
    are_ours: Cell<bool>,
    /// The same, as Python has them.
    set: Slot,
    left: Cell<usize>,
    until: Cell<Until>,
    waiter: Slot,
    alarm: Alarm,
    current_task: Slot,
    told: Told,
}

/// `return_when`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    FirstCompleted,
    FirstException,
    AllCompleted,
}

static HOME: Home = Home::new();

impl Class for Waiting {
    const NAME: &'static std::ffi::CStr = c"velodrome.wait";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Waiting {
        Waiting {
            futures: RefCell::default(),
            are_ours: Cell::new(false),
            set: Slot::empty(),
            left: Cell::new(0),
            until: Cell::new(Until::AllCompleted),
            waiter: Slot::empty(),
            alarm: Alarm::default(),
            current_task: Slot::empty(),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<Waiting>, visitor: &mut Visitor<'_>) {
        if let Ok(futures) = this.futures.try_borrow() {
            futures.iter().for_each(|future| visitor.object(future));
        }
        for slot in [&this.set, &this.waiter, &this.current_task] {
            visitor.slot(slot);
        }
        this.alarm.traverse(visitor);
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<Waiting>) {
        drop(this.futures.take());
        for slot in [&this.set, &this.waiter, &this.current_task] {
            slot.clear();
        }
        this.alarm.clear();
        this.told.clear();
    }
}

impl Listens for Waiting {
    const METHOD: &'static std::ffi::CStr = c"_on_completion";

    fn told(&self) -> &Told {
        &self.told
    }

    fn hear(this: &Inst<Waiting>, future: &Obj) -> Fallible<()> {
        this.left.set(this.left.get().saturating_sub(1));
        let enough = match this.until.get() {
            _ if this.left.get() == 0 => true,
            Until::FirstCompleted => true,
            Until::FirstException => matches!(retrieve(future)?, Retrieved::Failed(_)),
            Until::AllCompleted => false,
        };
        if enough {
            this.alarm.cancel()?;
            if let Some(waiter) = this.waiter.get()
                && !waiters::is_done(&waiter)?
            {
                waiters::set_result(&waiter, none())?;
            }
        }
        match this.current_task.get() {
            Some(task) => registry::forget_awaited(future, &task),
            None => Ok(()),
        }
    }
}

static WAIT: Kind = Kind { name: "wait", qualname: "wait", begin, resume };
static CURRENT_TASK: Global<Ref> = Global::new();

/// `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`: `owner` is the futures, later what is told of them.
pub fn py_wait(args: Args<'_>) -> Fallible<Ref> {
    let [futures, timeout, return_when] = args.parse(&Signature {
        function: "wait",
        names: ["fs", "timeout", "return_when"],
        positional: 1,
        required: 1,
    })?;
    let operation = operation::create(&WAIT, futures.unwrap_or(none()))?;
    for (slot, value) in [(&operation.first, timeout), (&operation.second, return_when)] {
        if let Some(value) = value {
            slot.set(value.own());
        }
    }
    Ok(operation.into_ref())
}

fn until(return_when: Option<Ref>) -> Fallible<Until> {
    let Some(return_when) = return_when else { return Ok(Until::AllCompleted) };
    for (name, until) in [
        ("FIRST_COMPLETED", Until::FirstCompleted),
        ("FIRST_EXCEPTION", Until::FirstException),
        ("ALL_COMPLETED", Until::AllCompleted),
    ] {
        if return_when.equals(&*object::text(name)?)? {
            return Ok(until);
        }
    }
    let shown = return_when.str()?.to_text();
    Err(Raised::value_error(&format!("Invalid return_when value: {shown}")))
}

fn begin(operation: &Inst<Operation>) -> Fallible<Step> {
    let futures = operation.owner.get_or_none();
    if is_future(&futures)? || state().is_coroutine(&futures)? {
        let class = futures.class_name();
        return Err(Raised::type_error(&format!("expect a list of futures, not {class}")));
    }
    if !futures.truthy()? {
        return Err(Raised::value_error("Set of Tasks/Futures is empty."));
    }
    let until = until(operation.second.take())?;
    let set = object::set_of(&futures)?;
    let (futures, are_ours) = distinct(&futures, &set)?;
    let Some(event_loop) = registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    // An iterator that gives nothing is true all the same.
    if futures.is_empty() {
        return Err(Raised::new(object::assertion_error(), "Set of Futures is empty."));
    }
    let this = Own::<Waiting>::new()?;
    let waiter = waiters::create_future(&event_loop)?;
    this.set.set(set);
    this.are_ours.set(are_ours);
    this.waiter.set(waiter.clone());
    this.until.set(until);
    this.left.set(futures.len());
    if let Some(timeout) = operation.first.take().filter(|timeout| !timeout.is_none()) {
        this.alarm.set(&event_loop, &waiter, &timeout)?;
    }
    if state().registers.add_awaited_by.is_some() {
        this.current_task.set(registry::current_task(CURRENT_TASK.get())?);
    }
    let current_task = this.current_task.get();
    for future in &futures {
        listen(future, Listener::Wait(this.clone()))?;
        if let Some(task) = &current_task {
            registry::note_awaited(future, task)?;
        }
    }
    *this.futures.borrow_mut() = futures;
    operation.owner.set(this.into_ref());
    Ok(Step::Await(waiter))
}

/// What is to be waited for, each once, and whether all of it is exactly ours.
///
/// A list of our own futures is faster gone through than the set of them, and nobody sees in which order; that of others
/// may have to do with their hashes.
fn distinct(given: &Obj, set: &Obj) -> Fallible<(Vec<Ref>, bool)> {
    let are_ours = |futures: &[Ref]| futures.iter().all(|future| waiters::core_of(future).is_some());
    if object::is_list(given) {
        let futures = given.items()?;
        if futures.len() == set.length()? && are_ours(&futures) {
            return Ok((futures, true));
        }
    }
    let futures = set.items()?;
    if are_ours(&futures) {
        return Ok((futures, true));
    }
    for future in &futures {
        if !is_future(future)? && state().is_coroutine(future)? {
            return Err(Raised::type_error("Passing coroutines is forbidden, use tasks explicitly."));
        }
    }
    Ok((futures, false))
}

fn resume(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let exception = outcome.err().map(Raised::take);
    let owner = operation.owner.get_or_none();
    let Some(this) = Inst::<Waiting>::exactly(&owner) else {
        return Err(Raised::runtime_error("the operation waits for nothing"));
    };
    this.alarm.cancel()?;
    let futures = this.futures.take();
    let current_task = this.current_task.take();
    // Those that have told us are done, and forgotten.
    let all_told = this.are_ours.get() && this.left.get() == 0;
    if !all_told {
        let listener = Listener::Wait(this.own());
        for future in &futures {
            unlisten(future, &listener)?;
            if let Some(task) = &current_task {
                registry::forget_awaited(future, task)?;
            }
        }
    }
    if let Some(exception) = exception {
        return Err(Raised::from_exception(exception));
    }
    let mut pending = Vec::new();
    if !all_told {
        for future in &futures {
            if !waiters::is_done(future)? {
                pending.push(future);
            }
        }
    }
    // Nobody else has the set, so it is one of both if the other one is empty.
    let (done, pending) = match this.set.take() {
        Some(set) if pending.is_empty() => (set, object::new_set()?),
        Some(set) if pending.len() == futures.len() => (object::new_set()?, set),
        _ => divide(&futures, &pending)?,
    };
    object::tuple(&[&done, &pending]).map(Step::Done)
}

/// Those that are done, and those that are pending, in order.
fn divide(futures: &[Ref], pending: &[&Ref]) -> Fallible<(Ref, Ref)> {
    let (done, waiting) = (object::new_set()?, object::new_set()?);
    let mut pending = pending.iter().peekable();
    for future in futures {
        let waits = pending.next_if(|next| next.is(future)).is_some();
        object::set_add(if waits { &waiting } else { &done }, future)?;
    }
    Ok((done, waiting))
}

fn py_on_completion(this: &Inst<Waiting>, future: &Obj) -> Fallible<Ref> {
    Waiting::hear(this, future)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    CURRENT_TASK.set(object::interned(c"current_task")?);
    crate::cpython::spec::define::<Waiting>(Spec {
        methods: class_methods!(Waiting, "Waiting";
            c"_on_completion" => one py_on_completion,
                c"_on_completion($self, future, /)\n--\n\nHear that a future is done.";
        ),
        slots: class_slots!(Waiting, "Waiting";),
        ..Spec::default()
    })
    .map(drop)
}
