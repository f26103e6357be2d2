//! The methods and attributes of groups, as Python sees them, and the class.

use crate::cpython::object::{self, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Ref, Signature, Spec};
use crate::create_task::HandsOn;
use crate::operation;
use crate::state::state;
use crate::task_group::attributes::attributes;
use crate::task_group::exit::{CANCELLED, EXIT, EXITED, RAISED, abort, cancel};
use crate::task_group::known::{KNOWN, look};
use crate::task_group::members::{create_task, on_task_done};
use crate::task_group::{ENTER, TaskGroup};

fn py_init(_this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<()> {
    let [] =
        args.parse(&Signature { function: "TaskGroup.__init__", names: [], positional: 0, required: 0 })?;
    Ok(())
}

fn py_enter(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    operation::create(&ENTER, this.obj()).map(Own::into_ref)
}

fn py_exit(this: &Inst<TaskGroup>, args: Args<'_>) -> Fallible<Ref> {
    const SIGNATURE: Signature<3> =
        Signature { function: "TaskGroup.__aexit__", names: ["et", "exc", "tb"], positional: 3, required: 3 };
    let [kind, exception, _traceback] = args.parse(&SIGNATURE)?;
    let operation = operation::create(&EXIT, this.obj())?;
    if let Some(kind) = kind.filter(|kind| !kind.is_none()) {
        let cancelled = &state().cancelled_error;
        let is_cancelled =
            kind.is(cancelled) || (KNOWN.get().derived_cancellations && kind.is_subtype_of(cancelled));
        let exited = kind.is_subtype_of(object::generator_exit());
        operation
            .stage
            .set(RAISED | if is_cancelled { CANCELLED } else { 0 } | if exited { EXITED } else { 0 });
    }
    if let Some(exception) = exception.filter(|exception| !exception.is_none()) {
        operation.first.set(exception.own());
    }
    Ok(operation.into_ref())
}

fn py_cancel(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    cancel(this)?;
    Ok(none().own())
}

fn py_abort(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    abort(this)?;
    Ok(none().own())
}

fn py_on_task_done(this: &Inst<TaskGroup>, task: &Obj) -> Fallible<Ref> {
    on_task_done(this, task)?;
    Ok(none().own())
}

fn py_is_base_error(_this: &Inst<TaskGroup>, exception: &Obj) -> Fallible<Ref> {
    Ok(object::boolean(stops_the_loop(exception)).own())
}

fn py_repr(this: &Inst<TaskGroup>) -> Fallible<Ref> {
    let mut text = String::from("<TaskGroup");
    let tasks = this.tasks.len()?;
    if tasks > 0 {
        text += &format!(" tasks={tasks}");
    }
    if this.has_errors()? {
        text += &format!(" errors={}", this.errors()?.length()?);
    }
    if this.aborting.get() {
        text += " cancelling";
    } else if this.entered.get() {
        text += " entered";
    }
    object::text(&(text + ">"))
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let known = look()?;
    let mut methods: Vec<_> = if known.hands_on == HandsOn::All {
        class_methods!(TaskGroup, "TaskGroup";
            c"create_task" => any create_task,
                c"create_task($self, coro, **kwargs)\n--\n\nCreate a task in this group and return it.";
        )
    } else {
        class_methods!(TaskGroup, "TaskGroup";
            c"create_task" => any create_task,
                c"create_task($self, coro, *, name=None, context=None)\n--\n\nCreate a task in this group and \
                  return it.";
        )
    };
    methods.extend(class_methods!(TaskGroup, "TaskGroup";
        c"__aenter__" => none py_enter, c"__aenter__($self, /)\n--\n\nBegin the group.";
        c"__aexit__" => any py_exit,
            c"__aexit__($self, et, exc, tb, /)\n--\n\nWait for all tasks; raise what they raised as an exception \
              group.";
        c"_abort" => none py_abort, c"_abort($self, /)\n--\n\nCancel all tasks.";
        c"_on_task_done" => one py_on_task_done, c"_on_task_done($self, task, /)\n--\n\nHear that a task is done.";
        c"_is_base_error" => one py_is_base_error,
            c"_is_base_error($self, exc, /)\n--\n\nReturn whether an exception stops the loop itself.";
    ));
    if known.has_cancel {
        methods.extend(class_methods!(TaskGroup, "TaskGroup";
            c"cancel" => none py_cancel,
                c"cancel($self, /)\n--\n\nCancel the group: its tasks, and the block, which then ends without an \
                  exception.";
        ));
    }
    KNOWN.set(known);
    crate::cpython::spec::define::<TaskGroup>(Spec {
        base: None,
        doc: Some(
            c"TaskGroup()\n--\n\nTasks that end together: the block waits for all of them, and when one fails the others \
              are\ncancelled and the exceptions raised as an ExceptionGroup.\n\n    async with TaskGroup() as \
              group:\n        group.create_task(...)",
        ),
        methods,
        attributes: attributes(),
        slots: class_slots!(TaskGroup, "TaskGroup"; init py_init, repr py_repr),
    })
}
