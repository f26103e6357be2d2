//! Steps and wake-ups of tasks as Python callables, for loops and futures that are not ours.

use crate::cpython::global::Global;
use crate::cpython::object::none;
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Ref, Signature};
use crate::future;
use crate::task::Task;
use crate::task::step::{step, wake_by};

static CALLABLES: Global<Vec<Method<Task>>> = Global::new();

/// A callable that takes the next step, or throws its argument.
pub fn step_callable(this: &Inst<Task>) -> Fallible<Ref> {
    crate::cpython::spec::bind(&CALLABLES.get()[0], this)
}

/// A callable that wakes the task, called with the future that is done.
pub fn wakeup_callable(this: &Inst<Task>) -> Fallible<Ref> {
    crate::cpython::spec::bind(&CALLABLES.get()[1], this)
}

fn call_step(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [exception] =
        args.parse(&Signature { function: "task_step", names: ["exc"], positional: 1, required: 0 })?;
    let event_loop = future::loop_of(this)?;
    step(this, &event_loop, exception.filter(|exception| !exception.is_none()).map(Obj::own))?;
    Ok(none().own())
}

fn call_wakeup(this: &Inst<Task>, future: &Obj) -> Fallible<Ref> {
    wake_by(this, &*future::loop_of(this)?, future)?;
    Ok(none().own())
}

/// Makes the methods.
pub(super) fn define() {
    CALLABLES.set(class_methods!(Task, "Task";
        c"task_step" => any call_step, c"task_step($self, exc=None, /)\n--\n\nTake the next step.";
        c"task_wakeup" => one call_wakeup, c"task_wakeup($self, future, /)\n--\n\nWake the task.";
    ));
}
