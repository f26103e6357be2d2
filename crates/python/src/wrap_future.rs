//! `wrap_future`, and the chain between two futures: when one is done so is the other, and cancelling the other
//! cancels it.
//!
//! One of both may be a future of `concurrent.futures`, which is completed in any thread. What happens to a future of
//! a loop then happens on that loop.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::spec::Method;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::{is_future, loop_of};
use crate::original::Code;
use crate::state::state;
use crate::waiters;

/// One of the two callbacks that connect a source, whose outcome is handed on, with its destination.
///
/// Each knows the other future only. Futures of `concurrent.futures` keep the callbacks that were called, so one
/// that knew both would keep them, and an exception with its frames, until the garbage collector comes.
#[derive(Debug)]
pub struct Chain {
    /// Of the destination's callback.
    source: Slot,
    /// Of the source's callback.
    destination: Slot,
    /// Empty for futures of `concurrent.futures`.
    source_loop: Slot,
    destination_loop: Slot,
    /// Whether the destination belongs to a loop.
    onto_loop: Cell<bool>,
}

static HOME: Home = Home::new();

impl Class for Chain {
    const NAME: &'static std::ffi::CStr = c"velodrome._chain_future";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Chain {
        Chain {
            source: Slot::empty(),
            destination: Slot::empty(),
            source_loop: Slot::empty(),
            destination_loop: Slot::empty(),
            onto_loop: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<Chain>, visitor: &mut Visitor<'_>) {
        for slot in [&this.source, &this.destination, &this.source_loop, &this.destination_loop] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Chain>) {
        for slot in [&this.source, &this.destination, &this.source_loop, &this.destination_loop] {
            slot.clear();
        }
    }
}

/// What is looked up once, and how this version behaves.
#[derive(Debug)]
struct Known {
    future_class: Ref,
    /// `asyncio.futures._convert_future_exc`, for exceptions of these classes.
    convert: Ref,
    converted: Vec<Ref>,
    /// What runs on a loop's thread is found out by the loop that runs there (from a patch release of 3.14 on), rather
    /// than by both futures being of one loop.
    by_running_loop: bool,
    /// The outcome is asked for in one call (from 3.15 on).
    by_snapshot: bool,
    /// Whether `assert` statements are checked.
    asserts: bool,
    call_soon_threadsafe: Ref,
    set_running: Ref,
    snapshot: Ref,
}

static KNOWN: Global<Known> = Global::new();

static CALLABLES: Global<Vec<Method<Chain>>> = Global::new();

/// Whether this is a future of `concurrent.futures`.
fn is_concurrent(future: &Obj) -> Fallible<bool> {
    future.is_instance(&KNOWN.get().future_class)
}

/// An `assert` statement.
fn check(holds: bool) -> Fallible<()> {
    if holds || !KNOWN.get().asserts { Ok(()) } else { Err(Raised::bare(object::assertion_error())) }
}

/// Chains two futures: the source's outcome becomes the destination's.
pub fn chain(source: &Obj, destination: &Obj) -> Fallible<()> {
    let [of_destination, of_source] = [Own::<Chain>::new()?, Own::<Chain>::new()?];
    let both = [&of_destination, &of_source];
    if is_future(source)? {
        let event_loop = loop_of(source)?;
        for one in both {
            one.source_loop.set(event_loop.clone());
        }
    } else if !is_concurrent(source)? {
        return Err(Raised::type_error("A future is required for source argument"));
    }
    if is_future(destination)? {
        let event_loop = loop_of(destination)?;
        for one in both {
            one.destination_loop.set(event_loop.clone());
        }
        of_source.onto_loop.set(true);
    } else if !is_concurrent(destination)? {
        return Err(Raised::type_error("A future is required for destination argument"));
    }
    of_destination.source.set(source.own());
    of_source.destination.set(destination.own());
    let check_cancel = crate::cpython::spec::bind(&CALLABLES.get()[0], &of_destination)?;
    let set_state = crate::cpython::spec::bind(&CALLABLES.get()[1], &of_source)?;
    let add_done_callback = &state().names.add_done_callback;
    destination.call_method(add_done_callback, &[&check_cancel])?;
    source.call_method(add_done_callback, &[&set_state]).map(drop)
}

/// Whether what belongs to `event_loop` can be done here and now.
fn is_here(this: &Inst<Chain>, event_loop: &Obj) -> Fallible<bool> {
    if KNOWN.get().by_running_loop {
        return Ok(crate::registry::running_loop()?.is_some_and(|running| running.is(event_loop)));
    }
    Ok(this.source_loop.peek_is(&this.destination_loop))
}

/// The destination is done; if it was cancelled, so is the source.
fn py_check_cancel(this: &Inst<Chain>, destination: &Obj) -> Fallible<Ref> {
    if waiters::is_cancelled(destination)? {
        let source = this.source.get_or_none();
        let name = &state().names.cancel;
        match this.source_loop.get() {
            Some(event_loop) if !is_here(this, &event_loop)? => {
                let cancel = source.get(name)?;
                event_loop.call_method(&KNOWN.get().call_soon_threadsafe, &[&cancel])?;
            }
            _ => drop(source.call_method(name, &[])?),
        }
    }
    Ok(none().own())
}

/// The source is done, in whichever thread this is.
fn py_set_state(this: &Inst<Chain>, source: &Obj) -> Fallible<Ref> {
    let destination = this.destination.get_or_none();
    let is_closed = object::interned(c"is_closed")?;
    let event_loop = this.destination_loop.get();
    if waiters::is_cancelled(&destination)?
        && let Some(event_loop) = &event_loop
        && event_loop.call_method(&is_closed, &[])?.truthy()?
    {
        return Ok(none().own());
    }
    match event_loop {
        Some(event_loop) if !is_here(this, &event_loop)? => {
            if !event_loop.call_method(&is_closed, &[])?.truthy()? {
                let hand_on = crate::cpython::spec::bind(&CALLABLES.get()[2], this)?;
                event_loop
                    .call_method(&KNOWN.get().call_soon_threadsafe, &[&hand_on, &destination, source])?;
            }
        }
        _ => hand_on(this, &destination, source)?,
    }
    Ok(none().own())
}

fn py_hand_on(this: &Inst<Chain>, args: Args<'_>) -> Fallible<Ref> {
    let [destination, source] = args.parse(&Signature {
        function: "_set_state",
        names: ["future", "other"],
        positional: 2,
        required: 2,
    })?;
    hand_on(this, destination.unwrap_or(none()), source.unwrap_or(none()))?;
    Ok(none().own())
}

/// Ends the destination as the source has ended.
fn hand_on(this: &Inst<Chain>, destination: &Obj, source: &Obj) -> Fallible<()> {
    if this.onto_loop.get() { end_future(destination, source) } else { end_concurrent(destination, source) }
}

fn end_future(destination: &Obj, source: &Obj) -> Fallible<()> {
    let names = &state().names;
    let by_snapshot = KNOWN.get().by_snapshot;
    if !by_snapshot {
        check(waiters::is_done(source)?)?;
    }
    if waiters::is_cancelled(destination)? {
        return Ok(());
    }
    check(!waiters::is_done(destination)?)?;
    let (exception, result) = if by_snapshot {
        let snapshot = source.call_method(&KNOWN.get().snapshot, &[])?.items()?;
        let [done, cancelled, result, exception] = &snapshot[..] else {
            return Err(Raised::value_error("_get_snapshot() has to return four values"));
        };
        check(done.truthy()?)?;
        if cancelled.truthy()? {
            return waiters::cancel(destination);
        }
        (exception.clone(), Some(result.clone()))
    } else {
        if waiters::is_cancelled(source)? {
            return waiters::cancel(destination);
        }
        (source.call_method(&names.exception, &[])?, None)
    };
    if !exception.is_none() {
        return destination.call_method(&names.set_exception, &[&*converted(&exception)?]).map(drop);
    }
    let result = match result {
        Some(result) => result,
        None => source.call_method(&names.result, &[])?,
    };
    waiters::set_result(destination, &result)
}

fn end_concurrent(destination: &Obj, source: &Obj) -> Fallible<()> {
    let names = &state().names;
    check(waiters::is_done(source)?)?;
    if waiters::is_cancelled(source)? {
        destination.call_method(&names.cancel, &[])?;
    }
    if !destination.call_method(&KNOWN.get().set_running, &[])?.truthy()? {
        return Ok(());
    }
    let exception = source.call_method(&names.exception, &[])?;
    if !exception.is_none() {
        return destination.call_method(&names.set_exception, &[&*converted(&exception)?]).map(drop);
    }
    let result = source.call_method(&names.result, &[])?;
    destination.call_method(&names.set_result, &[&result]).map(drop)
}

/// `concurrent.futures` has exceptions of its own of the same meaning.
fn converted(exception: &Obj) -> Fallible<Ref> {
    let known = KNOWN.get();
    if known.converted.iter().any(|class| exception.is_exactly(class)) {
        return known.convert.call(&[exception]);
    }
    Ok(exception.own())
}

/// Has `destination`, a future of `concurrent.futures`, fail unless it was cancelled.
pub fn fail_concurrent(destination: &Obj, exception: &Obj) -> Fallible<()> {
    if destination.call_method(&KNOWN.get().set_running, &[])?.truthy()? {
        destination.call_method(&state().names.set_exception, &[exception])?;
    }
    Ok(())
}

/// A new future of `concurrent.futures`.
pub fn new_concurrent() -> Fallible<Ref> {
    KNOWN.get().future_class.call(&[])
}

/// `wrap_future(future, *, loop=None)`.
pub fn py_wrap_future(args: Args<'_>) -> Fallible<Ref> {
    let [future, event_loop] = args.parse(&Signature {
        function: "wrap_future",
        names: ["future", "loop"],
        positional: 1,
        required: 1,
    })?;
    let future = future.unwrap_or(none());
    if is_future(future)? {
        return Ok(future.own());
    }
    if KNOWN.get().asserts && !is_concurrent(future)? {
        let shown = future.repr()?.to_text();
        let message = format!("concurrent.futures.Future is expected, got {shown}");
        return Err(Raised::new(object::assertion_error(), &message));
    }
    let event_loop = match event_loop.filter(|event_loop| !event_loop.is_none()) {
        Some(event_loop) => event_loop.own(),
        None => state().get_event_loop()?,
    };
    let wrapped = waiters::create_future(&event_loop)?;
    chain(future, &wrapped)?;
    Ok(wrapped)
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    let concurrent = object::import(c"concurrent.futures")?;
    let futures = &state().futures_module;
    let mut by_running_loop = false;
    for code in Code::of(futures, c"_chain_future")?.inner()? {
        by_running_loop |= code.uses("_get_running_loop")?;
    }
    let convert = Code::of(futures, c"_convert_future_exc")?;
    let mut converted = Vec::new();
    for name in [c"CancelledError", c"InvalidStateError", c"TimeoutError"] {
        if convert.uses(&name.to_string_lossy())? {
            converted.push(concurrent.get(&*object::interned(name)?)?);
        }
    }
    let optimize = object::import(c"sys")?
        .get(&*object::interned(c"flags")?)?
        .get(&*object::interned(c"optimize")?)?
        .to_i64()?;
    KNOWN.set(Known {
        future_class: concurrent.get(&state().names.future_class)?,
        convert: futures.get(&*object::interned(c"_convert_future_exc")?)?,
        converted,
        by_running_loop,
        by_snapshot: Code::of(futures, c"_copy_future_state")?.uses("_get_snapshot")?,
        asserts: optimize == 0,
        call_soon_threadsafe: object::interned(c"call_soon_threadsafe")?,
        set_running: object::interned(c"set_running_or_notify_cancel")?,
        snapshot: object::interned(c"_get_snapshot")?,
    });
    CALLABLES.set(class_methods!(Chain, "Chain";
        c"_call_check_cancel" => one py_check_cancel,
            c"_call_check_cancel($self, destination, /)\n--\n\nHand a cancellation on.";
        c"_call_set_state" => one py_set_state,
            c"_call_set_state($self, source, /)\n--\n\nHand an outcome on, on the right loop.";
        c"_set_state" => any py_hand_on, c"_set_state($self, future, other, /)\n--\n\nHand an outcome on.";
    ));
    crate::cpython::spec::define::<Chain>(Spec { slots: class_slots!(Chain, "Chain";), ..Spec::default() })
        .map(drop)
}
