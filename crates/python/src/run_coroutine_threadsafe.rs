//! `run_coroutine_threadsafe`: a coroutine for a loop of another thread, whose outcome any thread can wait for.

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::spec::Method;
use crate::cpython::{Args, Class, Fallible, Home, Inst, Own, Raised, Ref, Signature, Slot, Spec, Visitor};
use crate::ensure_future::ensure_future;
use crate::state::state;
use crate::wrap_future;

/// A coroutine on its way to a loop.
#[derive(Debug)]
pub struct Submission {
    coro: Slot,
    event_loop: Slot,
    /// The future of `concurrent.futures` that its sender has.
    future: Slot,
}

static HOME: Home = Home::new();

impl Class for Submission {
    const NAME: &'static std::ffi::CStr = c"velodrome.run_coroutine_threadsafe";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Submission {
        Submission { coro: Slot::empty(), event_loop: Slot::empty(), future: Slot::empty() }
    }

    fn traverse(this: &Inst<Submission>, visitor: &mut Visitor<'_>) {
        for slot in [&this.coro, &this.event_loop, &this.future] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Submission>) {
        for slot in [&this.coro, &this.event_loop, &this.future] {
            slot.clear();
        }
    }
}

static CALLABLE: Global<Vec<Method<Submission>>> = Global::new();

/// On the loop's own thread: makes a task of it.
fn py_callback(this: &Inst<Submission>) -> Fallible<Ref> {
    let (coro, event_loop) = (this.coro.get_or_none(), this.event_loop.get_or_none());
    let future = this.future.get_or_none();
    let task = ensure_future(&coro, Some(&event_loop));
    let Err(raised) = task.and_then(|task| wrap_future::chain(&task, &future)) else {
        return Ok(none().own());
    };
    let exception = raised.take();
    if !stops_the_loop(&exception) {
        wrap_future::fail_concurrent(&future, &exception)?;
    }
    Err(Raised::from_exception(exception))
}

/// `run_coroutine_threadsafe(coro, loop)`.
pub fn py_run_coroutine_threadsafe(args: Args<'_>) -> Fallible<Ref> {
    let [coro, event_loop] = args.parse(&Signature {
        function: "run_coroutine_threadsafe",
        names: ["coro", "loop"],
        positional: 2,
        required: 2,
    })?;
    let (coro, event_loop) = (coro.unwrap_or(none()), event_loop.unwrap_or(none()));
    if !state().is_coroutine(coro)? {
        return Err(Raised::type_error("A coroutine object is required"));
    }
    let future = wrap_future::new_concurrent()?;
    let this = Own::<Submission>::new()?;
    this.coro.set(coro.own());
    this.event_loop.set(event_loop.own());
    this.future.set(future.clone());
    let callback = crate::cpython::spec::bind(&CALLABLE.get()[0], &this)?;
    event_loop.call_method(&*object::interned(c"call_soon_threadsafe")?, &[&callback])?;
    Ok(future)
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    CALLABLE.set(class_methods!(Submission, "Submission";
        c"callback" => none py_callback, c"callback($self, /)\n--\n\nMake a task of the coroutine.";
    ));
    crate::cpython::spec::define::<Submission>(Spec {
        slots: class_slots!(Submission, "Submission";),
        ..Spec::default()
    })
    .map(drop)
}
