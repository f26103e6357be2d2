//! `TaskGroup`: tasks that end together.
//!
//! What differs between versions is asked of asyncio's own class at import ([`Known`]), because patch releases
//! differ too.

use std::cell::{Cell, RefCell};

use crate::cpython::{Class, Fallible, Home, Inst, Obj, Raised, Ref, Slot, Visitor};
use crate::identity::IdentitySet;
use crate::listener::{Listens, Told};
use crate::operation::{Kind, Operation, Step};
use crate::registry;

mod exit;
mod known;
mod members;
mod methods;

pub use methods::define;

use exit::cancel;
use known::KNOWN;
use members::on_task_done;

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
    tasks: RefCell<IdentitySet>,
    errors: RefCell<Option<Vec<Ref>>>,
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
            tasks: RefCell::default(),
            errors: RefCell::new(Some(Vec::new())),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<TaskGroup>, visitor: &mut Visitor<'_>) {
        for slot in [&this.event_loop, &this.parent_task, &this.base_error, &this.on_completed, &this.pending]
        {
            visitor.slot(slot);
        }
        if let Ok(tasks) = this.tasks.try_borrow() {
            tasks.traverse(visitor);
        }
        if let Ok(Some(errors)) = this.errors.try_borrow().as_deref() {
            errors.iter().for_each(|error| visitor.object(error));
        }
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<TaskGroup>) {
        for slot in [&this.event_loop, &this.parent_task, &this.base_error, &this.on_completed, &this.pending]
        {
            slot.clear();
        }
        drop(this.tasks.take());
        drop(this.errors.take());
        this.told.clear();
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
