//! What waits at a queue: `get()`, `put()` and `join()`.
//!
//! In an operation `first` is the item to put, and `second` the future that is waited for.

use crate::cpython::object::none;
use crate::cpython::{Fallible, Inst, Raised, Ref};
use crate::locks::event::{self, Event};
use crate::operation::{Kind, Operation, Step};
use crate::queues::{KNOWN, Queue, was_shut_down};
use crate::state::state;
use crate::waiters::{self, Waiters};

pub static GET: Kind = Kind { name: "get", qualname: "Queue.get", begin: get, resume: resume_get };
pub static PUT: Kind = Kind { name: "put", qualname: "Queue.put", begin: put, resume: resume_put };
pub static JOIN: Kind = Kind {
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
