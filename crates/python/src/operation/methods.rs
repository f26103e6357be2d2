//! The methods and attributes of operations, which are those of a coroutine, and the class.

use crate::cpython::coroutine;
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Spec};
use crate::operation::{Operation, Status, close, executing, is_running, is_suspended, next, reused, throw};
use crate::operation_iter::OperationIter;
use crate::state::state;

pub fn py_send(this: &Inst<Operation>, value: &Obj) -> Fallible<Ref> {
    if this.status.get() == Status::Created && !value.is_none() {
        return Err(Raised::type_error("can't send non-None value to a just-started coroutine"));
    }
    coroutine::give_method(next(this))
}

pub fn py_throw(this: &Inst<Operation>, args: Args<'_>) -> Fallible<Ref> {
    match this.status.get() {
        Status::Running => return Err(executing()),
        Status::Closed => return Err(reused()),
        _ => {}
    }
    let exception = coroutine::thrown(args.positional(), true)?;
    coroutine::give_method(throw(this, exception))
}

pub fn py_close(this: &Inst<Operation>) -> Fallible<Ref> {
    close(this)?;
    Ok(none().own())
}

fn py_await(this: &Inst<Operation>) -> Fallible<Ref> {
    if is_suspended(this) {
        return Err(Raised::runtime_error("coroutine is being awaited already"));
    }
    Ok(this.obj().own())
}

fn py_iter(this: &Inst<Operation>) -> Fallible<Ref> {
    OperationIter::over(this).map(Own::into_ref)
}

fn py_name(this: &Inst<Operation>) -> Fallible<Ref> {
    object::text(this.kind.get().name)
}

fn py_qualname(this: &Inst<Operation>) -> Fallible<Ref> {
    object::text(this.kind.get().qualname)
}

/// From 3.15 on, where `inspect.getcoroutinestate` asks for it.
fn py_state(this: &Inst<Operation>) -> Fallible<Ref> {
    object::text(match this.status.get() {
        Status::Created => "CORO_CREATED",
        Status::GaveWay | Status::Waiting => "CORO_SUSPENDED",
        Status::Running => "CORO_RUNNING",
        Status::Closed => "CORO_CLOSED",
    })
}

fn py_suspended(this: &Inst<Operation>) -> Fallible<Ref> {
    Ok(object::boolean(is_suspended(this)).own())
}

fn py_running(this: &Inst<Operation>) -> Fallible<Ref> {
    Ok(object::boolean(is_running(this)).own())
}

fn py_origin(this: &Inst<Operation>) -> Fallible<Ref> {
    Ok(this.origin.get_or_none())
}

fn py_repr(this: &Inst<Operation>) -> Fallible<Ref> {
    let qualname = this.kind.get().qualname;
    object::text(&format!("<coroutine object {qualname} at {:p}>", std::ptr::from_ref(this)))
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut attributes: Vec<_> = class_attributes!(Operation, "Operation";
        c"__name__" => py_name;
        c"__qualname__" => py_qualname;
        c"cr_await" => crate::operation_frame::awaited_by_operation;
        c"cr_code" => crate::operation_frame::code_of_operation;
        c"cr_frame" => crate::operation_frame::of_operation;
        c"cr_origin" => py_origin;
        c"cr_running" => py_running;
        c"cr_suspended" => py_suspended;
    );
    if state().minor >= 15 {
        attributes.extend(class_attributes!(Operation, "Operation"; c"cr_state" => py_state;));
    }
    let class = crate::cpython::spec::define::<Operation>(Spec {
        doc: Some(c"What velodrome's coroutine functions return: a coroutine."),
        methods: class_methods!(Operation, "Operation";
            c"send" => one py_send, c"send($self, value, /)\n--\n\nResume the coroutine.";
            c"throw" => any py_throw,
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where the coroutine waits.";
            c"__await__" => none py_iter, c"__await__($self, /)\n--\n\nReturn an iterator that drives the coroutine.";
            c"close" => none py_close, c"close($self, /)\n--\n\nEnd the coroutine.";
        ),
        attributes,
        slots: class_slots!(Operation, "Operation"; repr py_repr, iter py_await, awaits py_await, awaited_next next),
        base: None,
    })?;
    // A coroutine is awaited, not iterated over.
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    crate::cpython::spec::hide_name(&class, c"__iter__")?;
    Ok(class)
}
