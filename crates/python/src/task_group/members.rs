//! The tasks of a group: how they get in, and what their end does.

use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref};
use crate::create_task::spawn_with;
use crate::future::{self, FutureLike, Progress};
use crate::listener::{Listener, Listens, listen};
use crate::registry;
use crate::state::state;
use crate::task::Task;
use crate::task_group::TaskGroup;
use crate::task_group::exit::{call_abort, is_base_error};
use crate::task_group::known::KNOWN;
use crate::waiters;

pub fn create_task(this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<Ref> {
    let coro = match args.positional() {
        [coro, ..] => coro.own(),
        [] => args.keyword("coro")?.ok_or_else(|| {
            Raised::type_error("TaskGroup.create_task() missing 1 required positional argument: 'coro'")
        })?,
    };
    let refusal = if !this.entered.get() {
        Some("has not been entered")
    } else if this.exiting.get() && this.tasks.is_empty()? {
        Some("is finished")
    } else if this.aborting.get() {
        Some("is shutting down")
    } else {
        None
    };
    let known = KNOWN.get();
    if let Some(refusal) = refusal {
        if known.closes {
            coro.call_method(&state().names.close, &[])?;
        }
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} {refusal}")));
    }
    let event_loop = this.event_loop.get_or_none();
    let task = spawn_with(&event_loop, args, "TaskGroup.create_task", known.hands_on)?;
    if let Some(parent) = this.parent_task.get() {
        registry::note_awaited(&task, &parent)?;
    }
    if known.hears_at_once && waiters::is_done(&task)? {
        call_on_task_done(this, &task)?;
        return Ok(task);
    }
    this.tasks.insert(&task)?;
    if this.is_plain() {
        listen(&task, Listener::Group(this.own()))?;
    } else {
        let callback = this.obj().get(&*object::interned(TaskGroup::METHOD)?)?;
        task.call_method(&state().names.add_done_callback, &[&callback])?;
    }
    if known.cancels_late_tasks && this.aborting.get() && !waiters::is_done(&task)? {
        waiters::cancel(&task)?;
    }
    Ok(task)
}

pub fn call_on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
    if this.is_plain() {
        return on_task_done(this, task);
    }
    this.obj().call_method(&*object::interned(TaskGroup::METHOD)?, &[task]).map(drop)
}

pub fn on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
    this.tasks.discard(task)?;
    let parent = this.parent_task.get();
    if let Some(parent) = &parent {
        registry::forget_awaited(task, parent)?;
    }
    if let Some(future) = this.on_completed.get()
        && this.tasks.is_empty()?
        && !waiters::is_done(&future)?
    {
        waiters::set_result(&future, object::boolean(true))?;
    }
    let exception = match Inst::<Task>::exactly(task) {
        Some(ours) if ours.core().progress.get() == Progress::Cancelled => return Ok(()),
        Some(ours) => future::exception(ours)?,
        None => {
            if task.call_method(&state().names.cancelled_method, &[])?.truthy()? {
                return Ok(());
            }
            let exception = task.call_method(&state().names.exception, &[])?;
            (!exception.is_none()).then_some(exception)
        }
    };
    match exception {
        Some(exception) => fail(this, task, parent, &exception),
        None => Ok(()),
    }
}

/// A task of the group failed.
#[inline(never)]
fn fail(this: &Inst<TaskGroup>, task: &Obj, parent: Option<Ref>, exception: &Obj) -> Fallible<()> {
    this.add_error(exception)?;
    if is_base_error(this, exception)? && this.base_error.is_empty() {
        this.base_error.set(exception.own());
    }
    let parent = parent.unwrap_or_else(|| none().own());
    if waiters::is_done(&parent)? {
        return report_orphan(this, task, &parent, exception);
    }
    if !this.aborting.get() && !this.parent_cancel_requested.get() {
        call_abort(this)?;
        this.parent_cancel_requested.set(true);
        waiters::cancel(&parent)?;
    }
    Ok(())
}

/// The parent ended before the group: nobody will raise the exception.
pub fn report_orphan(this: &Inst<TaskGroup>, task: &Obj, parent: &Obj, exception: &Obj) -> Fallible<()> {
    let names = &state().names;
    let message = object::text(&format!(
        "Task {} has errored out but its parent task {} is already completed",
        task.shown(),
        parent.shown()
    ))?;
    let context =
        object::dict(&[(&names.message, &*message), (&names.exception, exception), (&names.task, task)])?;
    this.event_loop.get_or_none().call_method(&names.call_exception_handler, &[&context]).map(drop)
}
