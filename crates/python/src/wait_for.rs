//! `wait_for`, as it is from 3.12 on: `async with timeout(…)` around an `await`. Before, it is a `race`.

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::raised::set_cause_and_context;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature};
use crate::ensure_future::ensure_future;
use crate::operation::{self, Kind, Operation, Step};
use crate::original::Code;
use crate::state::state;
use crate::timeouts::{self, Timeout};
use crate::{race, waiters};

static WAIT_FOR: Kind = Kind { name: "wait_for", qualname: "wait_for", begin, resume };

/// Inside the timeout, which is in `owner` then.
const TIMED: u8 = 1;
/// Without time: waits until what was cancelled is done.
pub const CANCELLED: u8 = 2;

/// Whether what was cancelled is shown to be awaited by the task that waits for its end (not in all patch releases).
static SHOWS_WAITER: Global<bool> = Global::new();

/// Asks asyncio's own function what it does.
pub fn define() -> Fallible<()> {
    let cancel_and_wait = Code::of(&state().tasks_module, c"_cancel_and_wait")?;
    SHOWS_WAITER.set(cancel_and_wait.uses("future_add_to_awaited_by")?);
    Ok(())
}

/// `wait_for(fut, timeout)`: `first` is what is waited for, `second` the time.
pub fn py_wait_for(args: Args<'_>) -> Fallible<Ref> {
    let [awaitable, timeout] = args.parse(&Signature {
        function: "wait_for",
        names: ["fut", "timeout"],
        positional: 2,
        required: 2,
    })?;
    let kind = if state().minor >= 12 { &WAIT_FOR } else { &race::WAIT_FOR };
    let operation = operation::unowned(kind)?;
    operation.first.set(awaitable.unwrap_or(none()).own());
    operation.second.set(timeout.unwrap_or(none()).own());
    Ok(operation.into_ref())
}

fn begin(operation: &Inst<Operation>) -> Fallible<Step> {
    let delay = operation.second.take().unwrap_or_else(|| none().own());
    if !delay.is_none() && delay.is_at_most(&state().zero)? {
        operation.stage.set(CANCELLED);
        return without_time(operation, None);
    }
    let timeout = timeouts::after_delay(Some(&delay))?;
    timeouts::enter(&timeout)?;
    operation.owner.set(timeout.into_ref());
    operation.stage.set(TIMED);
    Ok(Step::Await(operation.first.take().unwrap_or_else(|| none().own())))
}

/// It may be done already; otherwise it is cancelled, and has to be done before we return.
pub fn without_time(operation: &Inst<Operation>, event_loop: Option<&Obj>) -> Fallible<Step> {
    let future = ensure_future(&operation.first.get_or_none(), event_loop)?;
    if waiters::is_done(&future)? {
        return future.call_method(&state().names.result, &[]).map(Step::Done);
    }
    cancel_and_wait(operation, &future)
}

/// Cancels a future and waits until it is done: by another one, so that we can be cancelled as well. `first` is the
/// future, `owner` the callback that tells, and `second` the task that waits, where that is shown.
pub fn cancel_and_wait(operation: &Inst<Operation>, future: &Obj) -> Fallible<Step> {
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    let waiter = waiters::create_future(&event_loop)?;
    let release = state().tasks_module.get(&*object::interned(c"_release_waiter")?)?;
    let partial = object::import(c"functools")?.get(&*object::interned(c"partial")?)?;
    let callback = partial.call(&[&release, &waiter])?;
    future.call_method(&state().names.add_done_callback, &[&callback])?;
    operation.first.set(future.own());
    operation.owner.set(callback);
    if *SHOWS_WAITER.get() {
        let current = crate::registry::current_task_of(&event_loop, &*object::interned(c"current_task")?)?;
        crate::registry::note_awaited(future, &current)?;
        operation.second.set(current);
    }
    waiters::cancel(future)?;
    Ok(Step::Await(waiter))
}

/// The wait for what was cancelled is over.
pub fn waited(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<()> {
    let exception = outcome.err().map(Raised::take);
    let future = operation.first.get_or_none();
    let callback = operation.owner.get_or_none();
    future.call_method(&*object::interned(c"remove_done_callback")?, &[&callback])?;
    if *SHOWS_WAITER.get()
        && let Some(current) = operation.second.take()
    {
        crate::registry::forget_awaited(&future, &current)?;
    }
    exception.map_or(Ok(()), |exception| Err(Raised::from_exception(exception)))
}

fn resume(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    if operation.stage.get() == CANCELLED {
        return cancelled_in_time(operation, outcome);
    }
    let owner = operation.owner.take().unwrap_or_else(|| none().own());
    let Some(timeout) = Inst::<Timeout>::of(&owner) else { return outcome.map(Step::Done) };
    match outcome {
        Ok(result) => {
            timeouts::exit(timeout, None, None)?;
            Ok(Step::Done(result))
        }
        Err(raised) => {
            let exception = raised.take();
            timeouts::exit(timeout, Some(exception.class()), Some(&exception))?;
            Err(Raised::from_exception(exception))
        }
    }
}

/// What was cancelled because the time was up is done; its cancellation is the error of being late.
pub fn cancelled_in_time(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    waited(operation, outcome)?;
    match operation.first.get_or_none().call_method(&state().names.result, &[]) {
        Ok(result) => Ok(Step::Done(result)),
        Err(raised) if raised.matches(&state().cancelled_error) => {
            let cancelled = raised.take();
            let late = object::timeout_error().call(&[])?;
            set_cause_and_context(&late, &cancelled);
            Err(Raised::from_exception(late))
        }
        Err(raised) => Err(raised),
    }
}
