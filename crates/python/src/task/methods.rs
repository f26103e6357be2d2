//! The methods and attributes of tasks, as Python sees them, and the class.

use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature, Spec};
use crate::future;
use crate::state::state;
use crate::task::{Options, Task, as_name, begin, callable, cancel, cancelling, context, name, uncancel};

fn py_init(this: &Inst<Task>, args: Args<'_>) -> Fallible<()> {
    let [coro, event_loop, name, context, eager_start] = if state().minor >= 12 {
        args.parse(&Signature {
            function: "Task",
            names: ["coro", "loop", "name", "context", "eager_start"],
            positional: 1,
            required: 1,
        })?
    } else {
        let signature = Signature {
            function: "Task",
            names: ["coro", "loop", "name", "context"],
            positional: 1,
            required: 1,
        };
        let [coro, event_loop, name, context] = args.parse(&signature)?;
        [coro, event_loop, name, context, None]
    };
    let options = Options {
        name: name.filter(|name| !name.is_none()),
        context: context.filter(|context| !context.is_none()),
        eager_start: eager_start.map_or(Ok(false), Obj::truthy)?,
    };
    future::initialize(this, event_loop)?;
    let event_loop = future::loop_of(this)?;
    begin(this, &event_loop, coro.unwrap_or(none()), options)
}

fn py_cancel(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [message] = args.parse(&future::CANCEL)?;
    Ok(boolean(cancel(this, message)?).own())
}

fn py_cancelling(this: &Inst<Task>) -> Fallible<Ref> {
    object::int(i64::from(cancelling(this)))
}

fn py_uncancel(this: &Inst<Task>) -> Fallible<Ref> {
    object::int(i64::from(uncancel(this)))
}

fn py_repr(this: &Inst<Task>) -> Fallible<Ref> {
    state().task_repr.call(&[this.obj()])
}

fn py_set_name(this: &Inst<Task>, name: &Obj) -> Fallible<Ref> {
    let name = as_name(name)?;
    this.show_name(&name);
    this.name.set(name);
    Ok(none().own())
}

fn py_get_coro(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(this.coro.get_or_none())
}

fn py_set_result(_this: &Inst<Task>, _result: &Obj) -> Fallible<Ref> {
    Err(Raised::runtime_error("Task does not support set_result operation"))
}

fn py_set_exception(_this: &Inst<Task>, _exception: &Obj) -> Fallible<Ref> {
    Err(Raised::runtime_error("Task does not support set_exception operation"))
}

fn py_get_stack(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let [limit] =
        args.parse(&Signature { function: "get_stack", names: ["limit"], positional: 0, required: 0 })?;
    state().task_get_stack.call(&[this.obj(), limit.unwrap_or(none())])
}

fn py_print_stack(this: &Inst<Task>, args: Args<'_>) -> Fallible<Ref> {
    let signature =
        Signature { function: "print_stack", names: ["limit", "file"], positional: 0, required: 0 };
    let [limit, file] = args.parse(&signature)?;
    state().task_print_stack.call(&[this.obj(), limit.unwrap_or(none()), file.unwrap_or(none())])
}

fn py_fut_waiter(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(this.fut_waiter.get_or_none())
}

fn py_must_cancel(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(boolean(this.must_cancel.get()).own())
}

fn py_log_destroy_pending(this: &Inst<Task>) -> Fallible<Ref> {
    Ok(boolean(this.log_destroy_pending.get()).own())
}

fn py_set_log_destroy_pending(this: &Inst<Task>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    this.log_destroy_pending.set(value.truthy()?);
    Ok(())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    callable::define();
    let mut methods: Vec<_> = future_methods!(Task, "Task");
    methods.extend(outcome_methods!(Task, "Task"; methods, none, one, any));
    methods.extend(class_methods!(Task, "Task";
        c"cancel" => any py_cancel,
            c"cancel($self, /, msg=None)\n--\n\nRequest that this task cancel itself.\n\nCancelledError is thrown \
              into the coroutine at its next step, which can clean up\nor even deny the request. Return False if \
              the task is done already.";
        c"cancelling" => none py_cancelling,
            c"cancelling($self, /)\n--\n\nReturn the count of the task's cancellation requests.";
        c"uncancel" => none py_uncancel,
            c"uncancel($self, /)\n--\n\nDecrement the task's count of cancellation requests; return what remains.";
        c"get_name" => none name, c"get_name($self, /)\n--\n\nReturn the task's name.";
        c"set_name" => one py_set_name, c"set_name($self, value, /)\n--\n\nSet the task's name to str(value).";
        c"get_coro" => none py_get_coro, c"get_coro($self, /)\n--\n\nReturn the coroutine that the task runs.";
        c"set_result" => one py_set_result, c"set_result($self, result, /)\n--\n\nTasks refuse it.";
        c"set_exception" => one py_set_exception, c"set_exception($self, exception, /)\n--\n\nTasks refuse it.";
        c"get_stack" => any py_get_stack,
            c"get_stack($self, /, *, limit=None)\n--\n\nReturn the list of stack frames for this task's coroutine.";
        c"print_stack" => any py_print_stack,
            c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrint the stack or traceback for this task's \
              coroutine.";
    ));
    if state().minor >= 12 {
        methods.extend(class_methods!(Task, "Task";
            c"get_context" => none context,
                c"get_context($self, /)\n--\n\nReturn the context that the task's steps run in.";
        ));
    }
    let mut attributes: Vec<_> = future_attributes!(Task, "Task");
    attributes.extend(class_attributes!(Task, "Task";
        c"_coro" => py_get_coro;
        c"_fut_waiter" => py_fut_waiter;
        c"_must_cancel" => py_must_cancel;
        c"_log_destroy_pending" => py_log_destroy_pending, py_set_log_destroy_pending;
    ));
    let class = crate::cpython::spec::define::<Task>(Spec {
        base: Some(state().task_class.clone()),
        doc: Some(if state().minor >= 12 {
            c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA coroutine that runs on a \
              loop, and the future of its outcome; the same answers as\nasyncio.Task of this Python."
        } else {
            c"Task(coro, *, loop=None, name=None, context=None)\n--\n\nA coroutine that runs on a loop, and the \
              future of its outcome; the same answers as\nasyncio.Task of this Python."
        }),
        methods,
        attributes,
        slots: class_slots!(Task, "Task";
            init py_init, repr py_repr, iter future::py_iter, awaits future::py_itself, awaited_next future::next),
    })?;
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    Ok(class)
}
