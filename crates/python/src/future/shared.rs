//! Methods of the class `Future` that take whatever is an `asyncio.Future`, as asyncio's do: `map(Future.result, tasks)`.
//!
//! Our tasks do not derive from `Future`, and asyncio's own futures and tasks do not either.

use crate::cpython::object::{boolean, interned, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Ref};
use crate::future::methods::{self, ADD_DONE_CALLBACK, CANCEL};
use crate::future::{self, Future, check_initialized};
use crate::state::state;
use crate::task::Task;

/// Does the same with a future and with a task of ours, and something else with others.
macro_rules! of_any {
    ($object:expr, $future:ident => $body:expr, others => $others:expr) => {
        if let Some($future) = Inst::<Future>::of($object) {
            $body
        } else if let Some($future) = Inst::<Task>::of($object) {
            $body
        } else {
            $others
        }
    };
}

/// asyncio's own method, of what is not ours.
fn call_asyncios(name: &std::ffi::CStr, arguments: &[&Obj]) -> Fallible<Ref> {
    state().future_class.call_method(&*interned(name)?, arguments)
}

pub fn py_result(this: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_result(future), others => call_asyncios(c"result", &[this]))
}

pub fn py_exception(this: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_exception(future), others => call_asyncios(c"exception", &[this]))
}

pub fn py_cancelled(this: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_cancelled(future), others => call_asyncios(c"cancelled", &[this]))
}

pub fn py_done(this: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_done(future), others => call_asyncios(c"done", &[this]))
}

pub fn py_get_loop(this: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_get_loop(future), others => call_asyncios(c"get_loop", &[this]))
}

pub fn py_add_done_callback(this: &Obj, args: Args<'_>) -> Fallible<Ref> {
    of_any!(this, future => methods::py_add_done_callback(future, args), others => {
        let [callback, context] = args.parse(&ADD_DONE_CALLBACK)?;
        let arguments = [this, callback.unwrap_or(none())];
        let Some(context) = context else { return call_asyncios(c"add_done_callback", &arguments) };
        let [this, callback] = arguments;
        let name = &state().names.add_done_callback;
        let keyword = &state().context_keyword;
        state().future_class.call_method_with_keywords(name, &[this, callback, context], keyword)
    })
}

pub fn py_remove_done_callback(this: &Obj, callback: &Obj) -> Fallible<Ref> {
    of_any!(this, future => methods::py_remove_done_callback(future, callback),
        others => call_asyncios(c"remove_done_callback", &[this, callback]))
}

/// Of a task as well it ends the future, rather than asking the coroutine.
pub fn py_cancel(this: &Obj, args: Args<'_>) -> Fallible<Ref> {
    if let Some(ours) = Inst::<Future>::of(this) {
        return methods::py_cancel(ours, args);
    }
    let [message] = args.parse(&CANCEL)?;
    let Some(task) = Inst::<Task>::of(this) else {
        return call_asyncios(c"cancel", &[this, message.unwrap_or(none())]);
    };
    check_initialized(task)?;
    Ok(boolean(future::cancel(task, message)?).own())
}

pub fn py_set_result(this: &Obj, value: &Obj) -> Fallible<Ref> {
    of_any!(this, future => {
        check_initialized(future)?;
        future::finish(future, value.own())?;
        Ok(none().own())
    }, others => call_asyncios(c"set_result", &[this, value]))
}

pub fn py_set_exception(this: &Obj, exception: &Obj) -> Fallible<Ref> {
    of_any!(this, future => {
        check_initialized(future)?;
        future::fail(future, exception)?;
        Ok(none().own())
    }, others => call_asyncios(c"set_exception", &[this, exception]))
}
