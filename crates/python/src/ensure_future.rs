//! `ensure_future`: a future of whatever can be awaited.

use crate::cpython::coroutine;
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature};
use crate::event_loop::EventLoop;
use crate::future::{self, Future};
use crate::operation::Operation;
use crate::state::state;
use crate::task::{self, Options, Task};

/// `asyncio.isfuture(object)`.
#[inline]
pub fn is_future(object: &Obj) -> Fallible<bool> {
    if coroutine::is_native(object) || Inst::<Operation>::exactly(object).is_some() {
        return Ok(false);
    }
    if Inst::<Future>::of(object).is_some() || Inst::<Task>::of(object).is_some() {
        return Ok(true);
    }
    // The class that it says it has, as mocks do.
    let names = &state().names;
    let name = &names.asyncio_future_blocking;
    if crate::cpython::mro::lacks(object, &names.class, name) {
        return Ok(false);
    }
    let class = object.get(&names.class)?;
    Ok(class.get_if_there(name)?.is_some() && !object.get(name)?.is_none())
}

/// `isfuture(obj)`.
pub fn py_is_future(args: Args<'_>) -> Fallible<Ref> {
    is_future(args.only("isfuture", "obj")?).map(|answer| object::boolean(answer).own())
}

/// `iscoroutine(obj)`.
pub fn py_is_coroutine(args: Args<'_>) -> Fallible<Ref> {
    state().is_coroutine(args.only("iscoroutine", "obj")?).map(|answer| object::boolean(answer).own())
}

/// `event_loop.create_task(coro)`.
#[inline]
fn spawn(event_loop: &Obj, coro: &Obj) -> Fallible<Ref> {
    if let Some(ours) = Inst::<EventLoop>::of(event_loop)
        && ours.makes_plain_tasks()
    {
        return task::create(ours, coro, Options::default()).map(Own::into_ref);
    }
    event_loop.call_method(&state().names.create_task, &[coro])
}

/// A coroutine that awaits this, which is the coroutine itself if it is one; and whether it was made here.
pub fn coroutine_of(awaitable: &Obj) -> Fallible<(Ref, bool)> {
    if state().is_coroutine(awaitable)? {
        Ok((awaitable.own(), false))
    } else if coroutine::is_awaitable(awaitable)? {
        Ok((state().wrap_awaitable.call(&[awaitable])?, true))
    } else {
        Err(Raised::type_error("An asyncio.Future, a coroutine or an awaitable is required"))
    }
}

/// The future of an awaitable, on this loop or on the current one.
#[inline]
pub fn ensure_future(awaitable: &Obj, event_loop: Option<&Obj>) -> Fallible<Ref> {
    if let Some(event_loop) = event_loop
        && let Some(ours) = Inst::<EventLoop>::of(event_loop)
        && coroutine::is_native(awaitable)
        && ours.makes_plain_tasks()
    {
        let task = task::create(ours, awaitable, Options::default());
        return task.map(Own::into_ref).map_err(|raised| close_unused(raised, awaitable));
    }
    ensure_other_future(awaitable, event_loop)
}

#[inline(never)]
fn ensure_other_future(awaitable: &Obj, event_loop: Option<&Obj>) -> Fallible<Ref> {
    if is_future(awaitable)? {
        if let Some(event_loop) = event_loop
            && !loop_of(awaitable)?.is(event_loop)
        {
            return Err(Raised::value_error(
                "The future belongs to a different loop than the one specified as the loop argument",
            ));
        }
        return Ok(awaitable.own());
    }
    let (coro, ours) = coroutine_of(awaitable)?;
    let outcome = match event_loop {
        Some(event_loop) => spawn(event_loop, &coro),
        None => match crate::registry::running_loop()? {
            Some(running) => spawn(&running, &coro),
            None => match state().get_event_loop() {
                Ok(event_loop) => spawn(&event_loop, &coro),
                Err(raised) => return Err(raised),
            },
        },
    };
    outcome.map_err(|raised| if ours { raised } else { close_unused(raised, &coro) })
}

/// No task could be made. The coroutine will never run, and shall not complain of that.
#[cold]
fn close_unused(raised: Raised, coro: &Obj) -> Raised {
    if !raised.matches(object::runtime_error()) {
        return raised;
    }
    let exception = raised.take();
    match coro.call_method(&state().names.close, &[]) {
        Ok(_none) => Raised::from_exception(exception),
        Err(raised) => raised,
    }
}

/// `asyncio.futures._get_loop(future)`.
#[inline]
pub fn loop_of(future: &Obj) -> Fallible<Ref> {
    if let Some(ours) = Inst::<Task>::exactly(future) {
        return future::loop_of(ours);
    }
    if let Some(ours) = Inst::<Future>::exactly(future) {
        return future::loop_of(ours);
    }
    match future.get_if_there(&state().names.get_loop)? {
        Some(get_loop) => get_loop.call(&[]),
        None => future.get(&state().names.loop_),
    }
}

/// `ensure_future(coro_or_future, *, loop=None)`.
pub fn py_ensure_future(args: Args<'_>) -> Fallible<Ref> {
    let [awaitable, event_loop] = args.parse(&Signature {
        function: "ensure_future",
        names: ["coro_or_future", "loop"],
        positional: 1,
        required: 1,
    })?;
    ensure_future(awaitable.unwrap_or(none()), event_loop.filter(|event_loop| !event_loop.is_none()))
}
