//! The metaclass of `Future` and `Task`, and of `Handle` and `TimerHandle`.
//!
//! `velodrome.Task` derives from `_asyncio.Task` and `velodrome.Future` from `_asyncio.Future`, each with fields of
//! its own, so one cannot derive from the other as well: their layouts conflict. What a program asks,
//! `isinstance(task, velodrome.Future)`, is answered here instead. asyncio's own tasks and futures count too, so
//! that old and new ones mix where `asyncio.Future` has become ours. Handles are the same case: `velodrome.TimerHandle`
//! derives from asyncio's, and not from `velodrome.Handle`.
//!
//! asyncio's classes have no metaclass of their own, so programs derive from one of them and from an abstract class. That works only
//! where one metaclass derives from the other: ours does from `abc.ABCMeta`, which knows whatever programs derive.

use crate::cpython::object::{Obj, Ref, boolean, interned};
use crate::cpython::{Class, Fallible};
use crate::future::Future;
use crate::handle::Handle;
use crate::state::state;
use crate::task::Task;
use crate::timer_handle::TimerHandle;

/// asyncio's class behind exactly one of our four classes.
fn behind(class: &Obj) -> Option<&'static Obj> {
    if class.is(Future::home().class()) {
        Some(&state().future_class)
    } else if class.is(Task::home().class()) {
        Some(&state().task_class)
    } else if class.is(Handle::home().class()) {
        Some(&state().handle_class)
    } else if class.is(TimerHandle::home().class()) {
        Some(&state().timer_handle_class)
    } else {
        None
    }
}

fn instance_check(class: &Obj, instance: &Obj) -> Fallible<Ref> {
    if let Some(base) = behind(class) {
        return Ok(boolean(instance.derives_from(base) || instance.is_instance(base)?).own());
    }
    state().abstract_meta.get(&*interned(c"__instancecheck__")?)?.call(&[class, instance])
}

fn subclass_check(class: &Obj, candidate: &Obj) -> Fallible<Ref> {
    match behind(class) {
        Some(base) if candidate.is_subtype_of(base) => Ok(boolean(true).own()),
        Some(_) => crate::cpython::metaclass::subclass_check(class, candidate),
        None => state().abstract_meta.get(&*interned(c"__subclasscheck__")?)?.call(&[class, candidate]),
    }
}

/// Makes the metaclass, and makes it that of these classes.
pub fn define(classes: &[&Obj]) -> Fallible<()> {
    let methods = vec![
        metaclass_method!(
            "AsyncioMeta",
            c"__instancecheck__",
            instance_check,
            c"Whether an object is what asyncio's class of this name stands for."
        ),
        metaclass_method!(
            "AsyncioMeta",
            c"__subclasscheck__",
            subclass_check,
            c"Whether a class is, or derives from, asyncio's class of this name."
        ),
    ];
    let metaclass = crate::cpython::metaclass::define(&state().abstract_meta, methods)?;
    for class in classes {
        crate::cpython::spec::set_metaclass(class, &metaclass);
    }
    Ok(())
}
