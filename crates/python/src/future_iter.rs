//! The iterator that `future.__await__()` gives to Python code.
//!
//! `await` itself needs none: there a future is its own iterator. This one has the `send`, `throw` and `close`
//! that a future must not have (it would be a coroutine in the eyes of `asyncio.iscoroutine`).

use crate::cpython::coroutine::{self, Sent};
use crate::cpython::object::none;
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Ref, Slot, Spec, Visitor, stop_iteration};
use crate::future::{self, Future};
use crate::state::state;
use crate::task::Task;

/// The class `FutureIter`.
#[derive(Debug)]
pub struct FutureIter {
    /// The future: until an exception is thrown into the iterator, and before 3.14 until it has given its result.
    future: Slot,
}

static HOME: Home = Home::new();

impl Class for FutureIter {
    const NAME: &'static std::ffi::CStr = c"velodrome.FutureIter";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> FutureIter {
        FutureIter { future: Slot::empty() }
    }

    fn traverse(this: &Inst<FutureIter>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.future);
    }

    fn clear(this: &Inst<FutureIter>) {
        this.future.clear();
    }
}

impl FutureIter {
    /// An iterator over this future or task.
    pub fn over(future: &Obj) -> Fallible<Own<FutureIter>> {
        let iterator = Own::<FutureIter>::new()?;
        iterator.future.set(future.own());
        Ok(iterator)
    }
}

fn next(this: &Inst<FutureIter>) -> Fallible<Sent> {
    let Some(future) = this.future.get() else { return Ok(Sent::Returned(none().own())) };
    let sent = match (Inst::<Future>::of(&future), Inst::<Task>::of(&future)) {
        (Some(future), _) => future::next(future),
        (_, Some(task)) => future::next(task),
        (None, None) => Ok(Sent::Returned(none().own())),
    };
    let used_up = match (Inst::<Future>::of(&future), Inst::<Task>::of(&future)) {
        (Some(future), _) => !future::FutureLike::core(&**future).is_pending(),
        (_, Some(task)) => !future::FutureLike::core(&**task).is_pending(),
        (None, None) => true,
    };
    if used_up && state().minor < 14 {
        this.future.clear();
    }
    sent
}

fn send(this: &Inst<FutureIter>, _value: &Obj) -> Fallible<Ref> {
    match next(this)? {
        Sent::Returned(value) if state().minor >= 14 && !this.future.is_empty() => {
            Err(stop_iteration::raise_even_none(&value))
        }
        sent => coroutine::give_method(Ok(sent)),
    }
}

fn throw(this: &Inst<FutureIter>, args: Args<'_>) -> Fallible<Ref> {
    let exception = coroutine::thrown(args.positional(), false)?;
    this.future.clear();
    Err(crate::cpython::Raised::from_exception(exception))
}

fn close(this: &Inst<FutureIter>) -> Fallible<Ref> {
    this.future.clear();
    Ok(none().own())
}

fn itself(this: &Inst<FutureIter>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    crate::cpython::spec::define::<FutureIter>(Spec {
        methods: class_methods!(FutureIter, "FutureIter";
            c"send" => one send, c"send($self, value, /)\n--\n\n";
            c"throw" => any throw, c"throw($self, typ, val=None, tb=None, /)\n--\n\n";
            c"close" => none close, c"close($self, /)\n--\n\n";
        ),
        slots: class_slots!(FutureIter, "FutureIter"; iter itself, next next),
        ..Spec::default()
    })
}
