//! The metaclass of `Future` and `Task`.
//!
//! `velodrome.Task` derives from `_asyncio.Task` and `velodrome.Future` from `_asyncio.Future`, each with fields of
//! its own, so one cannot derive from the other as well: their layouts conflict. What a program asks,
//! `isinstance(task, velodrome.Future)`, is answered here instead. asyncio's own tasks and futures count too, so
//! that old and new ones mix where `asyncio.Future` has become ours.

use crate::cpython::object::{self, Obj, Ref, boolean};
use crate::cpython::{Class, Fallible};
use crate::future::Future;
use crate::state::state;
use crate::task::Task;

/// asyncio's class behind exactly one of our two classes.
fn behind(class: &Obj) -> Option<&'static Obj> {
    if class.is(Future::home().class()) {
        Some(&state().future_class)
    } else if class.is(Task::home().class()) {
        Some(&state().task_class)
    } else {
        None
    }
}

fn instance_check(class: &Obj, instance: &Obj) -> Fallible<Ref> {
    if let Some(base) = behind(class) {
        return Ok(boolean(instance.derives_from(base) || instance.is_instance(base)?).own());
    }
    crate::cpython::metaclass::instance_check(class, instance)
}

fn subclass_check(class: &Obj, candidate: &Obj) -> Fallible<Ref> {
    if let Some(base) = behind(class)
        && candidate.is_subtype_of(base)
    {
        return Ok(boolean(true).own());
    }
    crate::cpython::metaclass::subclass_check(class, candidate)
}

/// Makes the metaclass, and makes it that of both classes.
pub fn define(future: &Obj, task: &Obj) -> Fallible<Ref> {
    let metaclass = crate::cpython::metaclass::define(vec![
        metaclass_method!(
            "FutureMeta",
            c"__instancecheck__",
            instance_check,
            c"Whether an object is a future."
        ),
        metaclass_method!(
            "FutureMeta",
            c"__subclasscheck__",
            subclass_check,
            c"Whether a class is one of futures."
        ),
    ])?;
    crate::cpython::spec::set_metaclass(future, &metaclass);
    crate::cpython::spec::set_metaclass(task, &metaclass);
    let _ = object::none;
    Ok(metaclass)
}
