//! The end of a group: waiting for its tasks, and what comes of it.

use crate::cpython::object::{self, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::operation::{Kind, Operation, Step};
use crate::state::state;
use crate::task::{self, Task};
use crate::task_group::known::KNOWN;
use crate::task_group::{TaskGroup, with_group};
use crate::waiters;

/// `first` is the exception of the block, `second` the cancellation to pass on.
pub static EXIT: Kind = Kind {
    name: "__aexit__",
    qualname: "TaskGroup.__aexit__",
    begin: |operation| with_group(operation, |this| giving_up(this, begin_exit(operation, this))),
    resume: |operation, outcome| {
        let exception = outcome.err().map(Raised::take);
        with_group(operation, |this| giving_up(this, resume_exit(operation, this, exception)))
    },
};

/// Stages, as bits: the block ended with an exception; which was a cancellation; which was a `GeneratorExit`.
pub const RAISED: u8 = 1;
pub const CANCELLED: u8 = 2;
pub const EXITED: u8 = 4;

/// What is given up when the exit is over, however that was.
#[inline]
pub fn giving_up(this: &Inst<TaskGroup>, step: Fallible<Step>) -> Fallible<Step> {
    if KNOWN.get().gives_up && !matches!(step, Ok(Step::Await(_))) {
        this.parent_task.clear();
        this.base_error.clear();
        this.errors.set(none().own());
    }
    step
}

pub fn begin_exit(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    let known = KNOWN.get();
    this.exiting.set(true);
    if let Some(exception) = operation.first.get()
        && is_base_error(this, &exception)?
        && this.base_error.is_empty()
    {
        this.base_error.set(exception);
    }
    if operation.stage.get() & CANCELLED != 0
        && let Some(exception) = operation.first.get()
    {
        operation.second.set(exception);
    }
    if known.uncancels_early && this.parent_cancel_requested.get() && uncancel_parent(this)? == 0 {
        operation.second.clear();
    }
    if operation.stage.get() & RAISED != 0 && !this.aborting.get() {
        call_abort(this)?;
    }
    wait_or_end(operation, this)
}

pub fn resume_exit(
    operation: &Inst<Operation>,
    this: &Inst<TaskGroup>,
    exception: Option<Ref>,
) -> Fallible<Step> {
    if let Some(exception) = exception {
        if !exception.derives_from(&state().cancelled_error) {
            return Err(Raised::from_exception(exception));
        }
        if KNOWN.get().keeps_pending {
            this.pending.set(exception.clone());
        }
        if !this.aborting.get() {
            operation.second.set(exception);
            call_abort(this)?;
        }
    }
    this.on_completed.clear();
    wait_or_end(operation, this)
}

pub fn wait_or_end(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    if this.tasks.is_empty()? {
        return end_exit(operation, this);
    }
    let event_loop = this.event_loop.get_or_none();
    let future = crate::waiters::create_future(&event_loop)?;
    this.on_completed.set(future.clone());
    Ok(Step::Await(future))
}

pub fn end_exit(operation: &Inst<Operation>, this: &Inst<TaskGroup>) -> Fallible<Step> {
    let known = KNOWN.get();
    if let Some(error) = this.base_error.get() {
        return Err(Raised::raise(&error));
    }
    if !known.uncancels_early && this.parent_cancel_requested.get() {
        if uncancel_parent(this)? == 0 {
            operation.second.clear();
        } else if operation.second.is_empty()
            && let Some(pending) = this.pending.take()
        {
            operation.second.set(pending);
        }
    }
    if let Some(cancelled) = operation.second.get()
        && !this.has_errors()?
    {
        return Err(Raised::raise(&cancelled));
    }
    let stage = operation.stage.get();
    if stage & RAISED != 0 && stage & CANCELLED == 0 {
        let exception = operation.first.get_or_none();
        this.add_error(&exception)?;
    }
    if !this.has_errors()? {
        let swallows = known.has_cancel;
        return Ok(Step::Done(if swallows { object::boolean(true).own() } else { none().own() }));
    }
    if known.cancels_again {
        let parent = this.parent_task.get_or_none();
        if cancelling(&parent)? > 0 {
            uncancel(&parent)?;
            waiters::cancel(&parent)?;
        }
    }
    if known.has_cancel
        && stage & EXITED != 0
        && this.errors()?.length()? == 1
        && let Some(exception) = operation.first.get()
    {
        return Err(Raised::raise(&exception));
    }
    let errors = this.errors()?;
    this.errors.set(none().own());
    let group = known.exception_group.call(&[&known.message, &errors])?;
    Err(Raised::raise_from_none(&group))
}

pub fn uncancel_parent(this: &Inst<TaskGroup>) -> Fallible<i64> {
    uncancel(&this.parent_task.get_or_none())
}

pub fn uncancel(parent: &Obj) -> Fallible<i64> {
    match Inst::<Task>::exactly(parent) {
        Some(task) => Ok(i64::from(task::uncancel(task))),
        None => parent.call_method(&KNOWN.get().uncancel, &[])?.to_i64(),
    }
}

pub fn cancelling(parent: &Obj) -> Fallible<i64> {
    match Inst::<Task>::exactly(parent) {
        Some(task) => Ok(i64::from(task::cancelling(task))),
        None => parent.call_method(&KNOWN.get().cancelling, &[])?.to_i64(),
    }
}

/// `self._is_base_error(exception)`.
pub fn is_base_error(this: &Inst<TaskGroup>, exception: &Obj) -> Fallible<bool> {
    if this.is_plain() {
        return Ok(stops_the_loop(exception));
    }
    this.obj().call_method(&KNOWN.get().is_base_error, &[exception])?.truthy()
}

/// `self._abort()`.
pub fn call_abort(this: &Inst<TaskGroup>) -> Fallible<()> {
    if this.is_plain() {
        return abort(this);
    }
    this.obj().call_method(&KNOWN.get().abort, &[]).map(drop)
}

/// Cancels every task that is not done.
pub fn abort(this: &Inst<TaskGroup>) -> Fallible<()> {
    this.aborting.set(true);
    for task in this.tasks.list()? {
        if !waiters::is_done(&task)? {
            waiters::cancel(&task)?;
        }
    }
    Ok(())
}

/// `cancel()`, from 3.15 on.
pub fn cancel(this: &Inst<TaskGroup>) -> Fallible<()> {
    if !this.entered.get() {
        this.cancel_on_enter.set(true);
        return Ok(());
    }
    if this.exiting.get() && this.tasks.is_empty()? {
        return Ok(());
    }
    if !this.aborting.get() {
        call_abort(this)?;
        if let Some(parent) = this.parent_task.get()
            && !this.parent_cancel_requested.replace(true)
        {
            waiters::cancel(&parent)?;
        }
    }
    Ok(())
}
