//! The attributes of groups, by asyncio's names: derived classes read and set them.

use crate::cpython::object::none;
use crate::cpython::spec::Attribute;
use crate::cpython::{Fallible, Inst, Obj, Ref};
use crate::task_group::TaskGroup;

fn py_tasks(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    this.tasks.show()
}

fn py_set_tasks(this: &Inst<TaskGroup>, value: Option<&Obj>) -> Fallible<()> {
    this.tasks.replace(value.unwrap_or(none()).own());
    Ok(())
}

fn py_errors(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    this.errors()
}

fn py_set_errors(this: &Inst<TaskGroup>, value: Option<&Obj>) -> Fallible<()> {
    this.errors.set(value.unwrap_or(none()).own());
    Ok(())
}

flag_accessors! { TaskGroup;
    entered: py_entered py_set_entered;
    exiting: py_exiting py_set_exiting;
    aborting: py_aborting py_set_aborting;
    parent_cancel_requested: py_parent_cancel_requested py_set_parent_cancel_requested;
}

slot_accessors! { TaskGroup;
    event_loop: py_loop py_set_loop;
    parent_task: py_parent_task py_set_parent_task;
    base_error: py_base_error py_set_base_error;
    on_completed: py_on_completed py_set_on_completed;
}

/// All of them.
pub fn attributes() -> Vec<Attribute<TaskGroup>> {
    class_attributes!(TaskGroup, "TaskGroup";
        c"_entered" => py_entered, py_set_entered;
        c"_exiting" => py_exiting, py_set_exiting;
        c"_aborting" => py_aborting, py_set_aborting;
        c"_parent_cancel_requested" => py_parent_cancel_requested, py_set_parent_cancel_requested;
        c"_loop" => py_loop, py_set_loop;
        c"_parent_task" => py_parent_task, py_set_parent_task;
        c"_base_error" => py_base_error, py_set_base_error;
        c"_on_completed_fut" => py_on_completed, py_set_on_completed;
        c"_tasks" => py_tasks, py_set_tasks;
        c"_errors" => py_errors, py_set_errors;
    )
}
