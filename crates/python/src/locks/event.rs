//! `Event`.

use std::cell::Cell;

use crate::cpython::object::{boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::getstate::getstate_method;
use crate::locks::{get_loop_method, lock_class, waiting_attributes};
use crate::operation::{self, Kind, Operation, Step};
use crate::waiters::{BoundLoop, Waiters, repr_with};

/// The class `Event`.
#[derive(Debug)]
pub struct Event {
    bound: BoundLoop,
    waiters: Waiters,
    value: Cell<bool>,
}

lock_class!(Event, c"velodrome.Event",
    Event { bound: BoundLoop::default(), waiters: Waiters::default(), value: Cell::new(false) };
    bound, waiters);

static WAIT: Kind = Kind { name: "wait", qualname: "Event.wait", begin: begin_wait, resume: resume_wait };

fn begin_wait(operation: &Inst<Operation>) -> Fallible<Step> {
    Event::of(operation, |this| {
        if this.value.get() {
            return Ok(Step::Done(boolean(true).own()));
        }
        let future = this.bound.create_future(this.obj())?;
        this.waiters.push(future.clone())?;
        operation.first.set(future.clone());
        Ok(Step::Await(future))
    })
}

fn resume_wait(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let exception = outcome.err().map(Raised::take);
    Event::of(operation, |this| {
        this.waiters.remove(&operation.first.get_or_none())?;
        match exception {
            None => Ok(Step::Done(boolean(true).own())),
            Some(exception) => Err(Raised::from_exception(exception)),
        }
    })
}

/// `set()`: wakes everybody who waits.
pub fn set(this: &Inst<Event>) -> Fallible<()> {
    if !this.value.replace(true) {
        this.waiters.wake(usize::MAX, boolean(true))?;
    }
    Ok(())
}

/// `clear()`.
#[inline]
pub fn clear(this: &Inst<Event>) {
    this.value.set(false);
}

/// A call of `wait()`.
pub fn wait(this: &Inst<Event>) -> Fallible<Own<Operation>> {
    operation::create(&WAIT, this.obj())
}

fn py_init(_this: &Inst<Event>, args: Args<'_>) -> Fallible<()> {
    let [] = args.parse(&Signature { function: "Event.__init__", names: [], positional: 0, required: 0 })?;
    Ok(())
}

fn py_is_set(this: &Inst<Event>) -> Fallible<Ref> {
    Ok(boolean(this.value.get()).own())
}

fn py_set_value(this: &Inst<Event>, value: Option<&Obj>) -> Fallible<()> {
    this.value.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_set(this: &Inst<Event>) -> Fallible<Ref> {
    set(this)?;
    Ok(none().own())
}

fn py_clear(this: &Inst<Event>) -> Fallible<Ref> {
    clear(this);
    Ok(none().own())
}

fn py_wait(this: &Inst<Event>) -> Fallible<Ref> {
    wait(this).map(Own::into_ref)
}

fn py_repr(this: &Inst<Event>) -> Fallible<Ref> {
    repr_with(this.obj(), if this.value.get() { "set" } else { "unset" }, &this.waiters)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = class_methods!(Event, "Event";
        c"is_set" => none py_is_set, c"is_set($self, /)\n--\n\nReturn True if and only if the event is set.";
        c"set" => none py_set, c"set($self, /)\n--\n\nSet the event: every task that waits for it goes on.";
        c"clear" => none py_clear, c"clear($self, /)\n--\n\nUnset the event: who waits from now on blocks.";
        c"wait" => none py_wait, c"wait($self, /)\n--\n\nWait until the event is set, and return True.";
    );
    methods.extend(get_loop_method!(Event, "Event"));
    methods.extend(getstate_method!(Event, "Event"; c"_value", c"_waiters", c"_loop"));
    let mut attributes: Vec<_> = waiting_attributes!(Event, "Event", show);
    attributes.extend(class_attributes!(Event, "Event"; c"_value" => py_is_set, py_set_value;));
    crate::cpython::spec::define::<Event>(Spec {
        base: None,
        doc: Some(c"Event()\n--\n\nA flag that tasks can wait for. It is unset at first."),
        methods,
        attributes,
        slots: class_slots!(Event, "Event"; init py_init, repr py_repr),
    })
}
