//! The methods and attributes of futures, as Python sees them, and the class.
//!
//! Tasks have them as well: most are generic, and the tables are macros, for a table's line belongs to one class.

use crate::callbacks::Entry;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::future::{
    Future, FutureLike, Progress, add_done_callback, cancel, cancel_message, check_has_outcome,
    check_initialized, initialize, loop_of, make_cancelled_error, next, result, set_cancel_message, shared,
};
use crate::future_iter::FutureIter;
use crate::state::state;

pub fn py_exception<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_has_outcome(this)?;
    let core = this.core();
    match core.progress.get() {
        Progress::Pending => Err(state().invalid_state("Exception is not set.")),
        Progress::Cancelled => Err(Raised::raise(&*make_cancelled_error(core)?)),
        Progress::Finished => {
            core.log_traceback.set(false);
            Ok(if core.failed.get() { core.outcome.get_or_none() } else { none().own() })
        }
    }
}

pub fn py_result<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_has_outcome(this)?;
    if this.core().is_pending() {
        return Err(state().invalid_state("Result is not set."));
    }
    result(this)
}

/// The parameters of `add_done_callback`.
pub const ADD_DONE_CALLBACK: Signature<2> =
    Signature { function: "add_done_callback", names: ["", "context"], positional: 1, required: 1 };

pub fn py_add_done_callback<T: FutureLike>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    let [callback, context] = args.parse(&ADD_DONE_CALLBACK)?;
    let callback = callback.unwrap_or(none());
    let context = match context {
        // `None` is kept: the loop makes it a copy of the context in which the future ends.
        Some(context) => context.own(),
        None => crate::cpython::context::copy_current()?,
    };
    add_done_callback(this, callback, context)?;
    Ok(none().own())
}

pub fn py_remove_done_callback<T: FutureLike>(this: &Inst<T>, callback: &Obj) -> Fallible<Ref> {
    check_initialized(this)?;
    object::int(this.core().callbacks.remove(callback)? as i64)
}

pub fn py_cancel(this: &Inst<Future>, args: Args<'_>) -> Fallible<Ref> {
    let [message] = args.parse(&CANCEL)?;
    check_initialized(this)?;
    if this.0.is_pending()
        && let Some(gathering) = this.0.rare_value(|rare| &rare.gathering)
    {
        return Ok(boolean(crate::gather::cancel(&gathering, message)?).own());
    }
    Ok(boolean(cancel(this, message)?).own())
}

pub fn py_cancelled<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.core().progress.get() == Progress::Cancelled).own())
}

pub fn py_done<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(!this.core().is_pending()).own())
}

pub fn py_make_cancelled_error<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    make_cancelled_error(this.core())
}

pub fn py_get_loop<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    loop_of(this)
}

pub fn py_class_getitem(class: &Obj, arguments: &Obj) -> Fallible<Ref> {
    object::generic_alias(class, arguments)
}

pub fn py_iter<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    FutureIter::over(this.obj()).map(Own::into_ref)
}

pub fn py_itself<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn py_init(this: &Inst<Future>, args: Args<'_>) -> Fallible<()> {
    const SIGNATURE: Signature<1> =
        Signature { function: "Future", names: ["loop"], positional: 0, required: 0 };
    let [event_loop] = args.parse(&SIGNATURE)?;
    initialize(this, event_loop)
}

fn py_repr(this: &Inst<Future>) -> Fallible<Ref> {
    check_initialized(this)?;
    state().future_repr.call(&[this.obj()])
}

pub fn py_state<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let names = &state().names;
    Ok(match this.core().progress.get() {
        Progress::Pending => names.pending.clone(),
        Progress::Cancelled => names.cancelled.clone(),
        Progress::Finished => names.finished.clone(),
    })
}

pub fn py_blocking<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.core().blocking.get()).own())
}

pub fn py_set_blocking<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    check_initialized(this)?;
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    this.core().blocking.set(value.truthy()?);
    Ok(())
}

pub fn py_loop<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.core().event_loop.get_or_none())
}

/// `_callbacks`: pairs of callback and context, or `None`; a task of ours is shown as the callback that would wake
/// it.
pub fn py_callbacks<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let entries = this.core().callbacks.list();
    if entries.is_empty() {
        return Ok(none().own());
    }
    let pairs: Fallible<Vec<Ref>> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Callback(callback, context) => object::tuple(&[callback, context]),
            Entry::Waiter(task) => {
                object::tuple(&[&*crate::task::wakeup_callable(task)?, &*crate::task::context(task)?])
            }
            Entry::Listener(listener) => {
                object::tuple(&[&*listener.callable()?, &*crate::cpython::context::copy_current()?])
            }
        })
        .collect();
    object::list(&pairs?)
}

pub fn py_result_attribute<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let core = this.core();
    Ok(if core.failed.get() { none().own() } else { core.outcome.get_or_none() })
}

pub fn py_exception_attribute<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    let core = this.core();
    Ok(if core.failed.get() { core.outcome.get_or_none() } else { none().own() })
}

pub fn py_log_traceback<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    check_initialized(this)?;
    Ok(boolean(this.core().log_traceback.get()).own())
}

pub fn py_set_log_traceback<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    if value.truthy()? {
        return Err(Raised::value_error("_log_traceback can only be set to False"));
    }
    this.core().log_traceback.set(false);
    Ok(())
}

pub fn py_source_traceback<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.core().source_traceback().unwrap_or_else(|| none().own()))
}

pub fn py_cancel_message<T: FutureLike>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(cancel_message(this.core()).unwrap_or_else(|| none().own()))
}

pub fn py_set_cancel_message<T: FutureLike>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.ok_or_else(|| Raised::new(object::attribute_error(), "cannot delete attribute"))?;
    set_cancel_message(this.core(), Some(value));
    Ok(())
}

/// The parameters of `cancel`.
pub const CANCEL: Signature<1> = Signature { function: "cancel", names: ["msg"], positional: 1, required: 0 };

/// The attributes of both classes.
macro_rules! future_attributes {
    ($class:ty, $owner:literal) => {
        class_attributes!($class, $owner;
            c"_state" => $crate::future::methods::py_state;
            c"_asyncio_future_blocking" => $crate::future::methods::py_blocking, $crate::future::methods::py_set_blocking;
            c"_loop" => $crate::future::methods::py_loop;
            c"_callbacks" => $crate::future::methods::py_callbacks;
            c"_result" => $crate::future::methods::py_result_attribute;
            c"_exception" => $crate::future::methods::py_exception_attribute;
            c"_log_traceback" => $crate::future::methods::py_log_traceback, $crate::future::methods::py_set_log_traceback;
            c"_source_traceback" => $crate::future::methods::py_source_traceback;
            c"_cancel_message" => $crate::future::methods::py_cancel_message, $crate::future::methods::py_set_cancel_message;
        )
    };
}

/// The methods of both classes, apart from those below.
macro_rules! future_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"_make_cancelled_error" => none $crate::future::methods::py_make_cancelled_error,
                c"_make_cancelled_error($self, /)\n--\n\nCreate the CancelledError to raise if the future is \
                  cancelled.";
            c"__await__" => none $crate::future::methods::py_iter,
                c"__await__($self, /)\n--\n\nReturn an iterator to be used in an await expression.";
            c"__iter__" => none $crate::future::methods::py_iter,
                c"__iter__($self, /)\n--\n\nImplement iter(self).";
            c"__class_getitem__" => class $crate::future::methods::py_class_getitem,
                c"__class_getitem__($type, item, /)\n--\n\nSee PEP 585.";
        )
    };
}

/// The methods by which others see and hear of an outcome, from one of the modules `methods` and `shared`, with the kinds that
/// its functions are of.
macro_rules! outcome_methods {
    ($class:ty, $owner:literal; $module:ident, $none:ident, $one:ident, $any:ident) => {
        class_methods!($class, $owner;
            c"result" => $none $crate::future::$module::py_result,
                c"result($self, /)\n--\n\nReturn the result this future represents.\n\nRaises CancelledError if the \
                  future was cancelled, InvalidStateError if it is\nnot done, and its exception if it has one.";
            c"exception" => $none $crate::future::$module::py_exception,
                c"exception($self, /)\n--\n\nReturn the exception that was set on this future, or None.\n\nRaises \
                  CancelledError if the future was cancelled and InvalidStateError if\nit is not done.";
            c"add_done_callback" => $any $crate::future::$module::py_add_done_callback,
                c"add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCall fn(future) through the \
                  loop when the future is done, soon if it is.";
            c"remove_done_callback" => $one $crate::future::$module::py_remove_done_callback,
                c"remove_done_callback($self, fn, /)\n--\n\nRemove all instances of a callback; return how many \
                  there were.";
            c"cancelled" => $none $crate::future::$module::py_cancelled,
                c"cancelled($self, /)\n--\n\nReturn True if the future was cancelled.";
            c"done" => $none $crate::future::$module::py_done,
                c"done($self, /)\n--\n\nReturn True if the future has a result or an exception, or was cancelled.";
            c"get_loop" => $none $crate::future::$module::py_get_loop,
                c"get_loop($self, /)\n--\n\nReturn the event loop the future is bound to.";
        )
    };
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let class = crate::cpython::spec::define::<Future>(Spec {
        base: Some(state().future_class.clone()),
        doc: Some(
            c"Future(*, loop=None)\n--\n\nA result that is not there yet; the same answers as asyncio.Future of \
              this Python.\n\nNot thread-safe. Callbacks are called through the loop's call_soon().",
        ),
        methods: future_methods!(Future, "Future"),
        attributes: future_attributes!(Future, "Future"),
        slots: class_slots!(Future, "Future"; init py_init, repr py_repr, iter py_iter, awaits py_itself, awaited_next next),
    })?;
    let mut shared: Vec<_> = outcome_methods!(Future, "Future"; shared, shared_none, shared, shared_any);
    shared.extend(class_methods!(Future, "Future";
        c"cancel" => shared_any shared::py_cancel,
            c"cancel($self, /, msg=None)\n--\n\nCancel the future and schedule callbacks.\n\nReturn False if the \
              future is done already.";
        c"set_result" => shared shared::py_set_result,
            c"set_result($self, result, /)\n--\n\nMark the future done and set its result.\n\nRaises \
              InvalidStateError if the future is done already.";
        c"set_exception" => shared shared::py_set_exception,
            c"set_exception($self, exception, /)\n--\n\nMark the future done and set an exception.\n\nRaises \
              InvalidStateError if the future is done already.";
    ));
    crate::cpython::spec::share_methods(&class, &state().future_class, shared)?;
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    Ok(class)
}
