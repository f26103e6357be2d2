//! `TaskGroup`: tasks that end together.
//!
//! What differs between versions is asked of asyncio's own class at import (`known`), because patch releases
//! differ too.
//!
//! Derived classes override what a group does when a task fails (`_abort`, `_on_task_done`, `_is_base_error`): a group
//! that is not of exactly this class, or has attributes of its own, goes through its methods.

use std::cell::Cell;

use crate::cpython::object;
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Raised, Ref, Slot, Visitor};
use crate::listener::{Listens, Told};
use crate::operation::{Kind, Operation, Step};
use crate::registry;
use crate::state::state;

mod attributes;
mod exit;
mod known;
mod members;
mod methods;
mod tasks;

pub use methods::define;

use exit::cancel;
use known::KNOWN;
use members::on_task_done;
use tasks::Tasks;

/// The class `TaskGroup`.
#[derive(Debug)]
pub struct TaskGroup {
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    parent_cancel_requested: Cell<bool>,
    /// `cancel()` was called before it was entered (from 3.15 on).
    cancel_on_enter: Cell<bool>,
    event_loop: Slot,
    parent_task: Slot,
    base_error: Slot,
    on_completed: Slot,
    /// The last cancellation that arrived during the exit.
    pending: Slot,
    tasks: Tasks,
    /// A list, made when it is needed; `None` once it is given up.
    errors: Slot,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for TaskGroup {
    const NAME: &'static std::ffi::CStr = c"velodrome.TaskGroup";
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> TaskGroup {
        TaskGroup {
            entered: Cell::new(false),
            exiting: Cell::new(false),
            aborting: Cell::new(false),
            parent_cancel_requested: Cell::new(false),
            cancel_on_enter: Cell::new(false),
            event_loop: Slot::empty(),
            parent_task: Slot::empty(),
            base_error: Slot::empty(),
            on_completed: Slot::empty(),
            pending: Slot::empty(),
            tasks: Tasks::default(),
            errors: Slot::empty(),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<TaskGroup>, visitor: &mut Visitor<'_>) {
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
        this.tasks.traverse(visitor);
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<TaskGroup>) {
        this.slots().into_iter().for_each(Slot::clear);
        this.tasks.clear();
        this.told.clear();
    }
}

impl TaskGroup {
    fn slots(&self) -> [&Slot; 6] {
        [
            &self.event_loop,
            &self.parent_task,
            &self.base_error,
            &self.on_completed,
            &self.pending,
            &self.errors,
        ]
    }
}

impl Listens for TaskGroup {
    const METHOD: &'static std::ffi::CStr = c"_on_task_done";

    fn told(&self) -> &Told {
        &self.told
    }

    #[inline]
    fn hear(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<()> {
        on_task_done(this, task)
    }
}

impl Inst<TaskGroup> {
    /// `_errors`.
    fn errors(&self) -> Fallible<Ref> {
        if self.errors.is_empty() {
            self.errors.set(object::list(&[])?);
        }
        Ok(self.errors.get_or_none())
    }

    fn has_errors(&self) -> Fallible<bool> {
        match self.errors.get() {
            Some(errors) => errors.truthy(),
            None => Ok(false),
        }
    }

    /// `_errors.append(error)`.
    fn add_error(&self, error: &Obj) -> Fallible<()> {
        if self.errors.holds(object::none()) {
            self.errors.clear();
        }
        self.errors()?.call_method(&state().names.append, &[error]).map(drop)
    }
}

static ENTER: Kind = Kind {
    name: "__aenter__",
    qualname: "TaskGroup.__aenter__",
    begin: |operation| with_group(operation, enter),
    resume: |_, outcome| outcome.map(Step::Done),
};
#[inline]
fn with_group<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<TaskGroup>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<TaskGroup>::of(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no group")),
    }
}

fn enter(this: &Inst<TaskGroup>) -> Fallible<Step> {
    if this.entered.get() {
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} has already been entered")));
    }
    if this.event_loop.is_empty() {
        let Some(event_loop) = registry::running_loop()? else {
            return Err(Raised::runtime_error("no running event loop"));
        };
        this.event_loop.set(event_loop);
    }
    let parent = registry::current_task_of(&this.event_loop.get_or_none(), &KNOWN.get().current_task)?;
    if parent.is_none() {
        let shown = this.obj().shown();
        return Err(Raised::runtime_error(&format!("TaskGroup {shown} cannot determine the parent task")));
    }
    this.parent_task.set(parent);
    this.entered.set(true);
    if this.cancel_on_enter.get() {
        cancel(this)?;
    }
    Ok(Step::Done(this.obj().own()))
}
