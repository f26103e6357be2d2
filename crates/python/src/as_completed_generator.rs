//! `as_completed`, as it is up to 3.12: a generator, which does nothing before it is iterated over.

use std::cell::Cell;

use crate::as_completed::{self, Completing};
use crate::cpython::coroutine::{self, Sent};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::ensure_future::is_future;
use crate::operation::{GENERATOR, Kind, refuse_stop_iteration};
use crate::state::state;

/// What `as_completed` returns.
#[derive(Debug)]
pub struct Generator {
    status: Cell<Status>,
    /// What it was called with, until it begins.
    awaitables: Slot,
    timeout: Slot,
    completing: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Created,
    Suspended,
    Running,
    Closed,
}

static HOME: Home = Home::new();

impl Class for Generator {
    const NAME: &'static std::ffi::CStr = c"velodrome.as_completed";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Generator {
        Generator {
            status: Cell::new(Status::Closed),
            awaitables: Slot::empty(),
            timeout: Slot::empty(),
            completing: Slot::empty(),
        }
    }

    fn traverse(this: &Inst<Generator>, visitor: &mut Visitor<'_>) {
        for slot in [&this.awaitables, &this.timeout, &this.completing] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Generator>) {
        this.give_up();
    }
}

impl Generator {
    fn give_up(&self) {
        for slot in [&self.awaitables, &self.timeout, &self.completing] {
            slot.clear();
        }
    }

    fn end(&self) {
        self.status.set(Status::Closed);
        self.give_up();
    }
}

static ONE: Kind = Kind {
    name: "_wait_for_one",
    qualname: "as_completed.<locals>._wait_for_one",
    begin: |operation| as_completed::wait_for_one(operation, as_completed::result_of_one),
    resume: as_completed::result_of_one,
};

/// `as_completed(fs, *, timeout=None)`.
pub fn py_as_completed(args: Args<'_>) -> Fallible<Ref> {
    let [awaitables, timeout] = args.parse(&Signature {
        function: "as_completed",
        names: ["fs", "timeout"],
        positional: 1,
        required: 1,
    })?;
    let this = Own::<Generator>::new()?;
    this.awaitables.set(awaitables.unwrap_or(none()).own());
    this.timeout.set(timeout.unwrap_or(none()).own());
    this.status.set(Status::Created);
    Ok(this.into_ref())
}

/// The first resumption.
fn begin(this: &Inst<Generator>) -> Fallible<Own<Completing>> {
    let awaitables = this.awaitables.take().unwrap_or_else(|| none().own());
    if is_future(&awaitables)? || state().is_coroutine(&awaitables)? {
        let class = awaitables.class_name();
        return Err(Raised::type_error(&format!("expect an iterable of futures, not {class}")));
    }
    let timeout = this.timeout.take();
    let completing = as_completed::begin(&awaitables, timeout.as_deref())?;
    this.completing.set(completing.obj().own());
    Ok(completing)
}

fn next(this: &Inst<Generator>) -> Fallible<Sent> {
    let outcome = match this.status.replace(Status::Running) {
        Status::Running => return Err(executing()),
        Status::Closed => {
            this.status.set(Status::Closed);
            return Ok(Sent::Returned(none().own()));
        }
        Status::Created => begin(this).and_then(|completing| as_completed::next_one(&completing, &ONE)),
        Status::Suspended => {
            let completing = this.completing.get_or_none();
            match Inst::<Completing>::exactly(&completing) {
                Some(completing) => as_completed::next_one(completing, &ONE),
                None => Ok(Sent::Returned(none().own())),
            }
        }
    };
    match outcome {
        Ok(Sent::Yielded(one)) => {
            this.status.set(Status::Suspended);
            Ok(Sent::Yielded(one))
        }
        Ok(returned) => {
            this.end();
            Ok(returned)
        }
        Err(raised) => {
            let exception = raised.take();
            this.end();
            Err(refuse_stop_iteration(Raised::from_exception(exception), GENERATOR))
        }
    }
}

#[cold]
fn executing() -> Raised {
    Raised::value_error("generator already executing")
}

fn py_send(this: &Inst<Generator>, value: &Obj) -> Fallible<Ref> {
    if this.status.get() == Status::Created && !value.is_none() {
        return Err(Raised::type_error("can't send non-None value to a just-started generator"));
    }
    coroutine::give_method(next(this))
}

fn py_throw(this: &Inst<Generator>, args: Args<'_>) -> Fallible<Ref> {
    let status = this.status.get();
    if status == Status::Running {
        return Err(executing());
    }
    let exception = coroutine::thrown(args.positional(), true)?;
    this.end();
    let raised = Raised::from_exception(exception);
    // One that has not begun has no code that the exception could leave.
    let within = status == Status::Suspended || (status == Status::Created && state().minor < 12);
    Err(if within { refuse_stop_iteration(raised, GENERATOR) } else { raised })
}

fn py_close(this: &Inst<Generator>) -> Fallible<Ref> {
    if this.status.get() == Status::Running {
        return Err(executing());
    }
    this.end();
    Ok(none().own())
}

fn py_itself(this: &Inst<Generator>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn py_name(_this: &Inst<Generator>) -> Fallible<Ref> {
    object::text("as_completed")
}

fn py_running(this: &Inst<Generator>) -> Fallible<Ref> {
    Ok(boolean(this.status.get() == Status::Running).own())
}

fn py_nothing(_this: &Inst<Generator>) -> Fallible<Ref> {
    Ok(none().own())
}

fn py_repr(this: &Inst<Generator>) -> Fallible<Ref> {
    object::text(&format!("<generator object as_completed at {:p}>", std::ptr::from_ref(this)))
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    crate::cpython::spec::define::<Generator>(Spec {
        methods: class_methods!(Generator, "Generator";
            c"send" => one py_send, c"send($self, value, /)\n--\n\nResume the generator.";
            c"throw" => any py_throw,
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where the generator waits.";
            c"close" => none py_close, c"close($self, /)\n--\n\nEnd the generator.";
        ),
        attributes: class_attributes!(Generator, "Generator";
            c"__name__" => py_name;
            c"__qualname__" => py_name;
            c"gi_running" => py_running;
            c"gi_frame" => py_nothing;
            c"gi_yieldfrom" => py_nothing;
        ),
        slots: class_slots!(Generator, "Generator"; repr py_repr, iter py_itself, next next),
        ..Spec::default()
    })
    .map(drop)
}
