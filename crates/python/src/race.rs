//! `wait_for`, as it is up to 3.11: a race between a future and the time.

use crate::alarm::Alarm;
use crate::cpython::object::none;
use crate::cpython::raised::set_context;
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor};
use crate::ensure_future::ensure_future;
use crate::listener::{Listener, Listens, Told, listen, unlisten};
use crate::operation::{Kind, Operation, Step};
use crate::state::state;
use crate::wait_for::{cancel_and_wait, cancelled_in_time, without_time};
use crate::waiters;

/// A future and a time; whichever comes first releases the waiter.
#[derive(Debug)]
pub struct Race {
    waiter: Slot,
    future: Slot,
    alarm: Alarm,
    /// The cancellation from outside that ended the race, while the future is waited for all the same.
    cancelled: Slot,
    told: Told,
}

static HOME: Home = Home::new();

impl Class for Race {
    const NAME: &'static std::ffi::CStr = c"velodrome.wait_for";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Race {
        Race {
            waiter: Slot::empty(),
            future: Slot::empty(),
            alarm: Alarm::default(),
            cancelled: Slot::empty(),
            told: Told::default(),
        }
    }

    fn traverse(this: &Inst<Race>, visitor: &mut Visitor<'_>) {
        for slot in [&this.waiter, &this.future, &this.cancelled] {
            visitor.slot(slot);
        }
        this.alarm.traverse(visitor);
        this.told.traverse(visitor);
    }

    fn clear(this: &Inst<Race>) {
        for slot in [&this.waiter, &this.future, &this.cancelled] {
            slot.clear();
        }
        this.alarm.clear();
        this.told.clear();
    }
}

impl Listens for Race {
    const METHOD: &'static std::ffi::CStr = c"_release_waiter";

    fn told(&self) -> &Told {
        &self.told
    }

    fn hear(this: &Inst<Race>, _future: &Obj) -> Fallible<()> {
        match this.waiter.get() {
            Some(waiter) if !waiters::is_done(&waiter)? => waiters::set_result(&waiter, none()),
            _ => Ok(()),
        }
    }
}

/// Waits for the awaitable in `first`, for the time in `second`; which later holds the race.
pub static WAIT_FOR: Kind = Kind { name: "wait_for", qualname: "wait_for", begin, resume };

/// The race is on.
const RACING: u8 = 3;
/// The time was up, or has never been; what was cancelled has to be done before we return.
const LATE: u8 = 4;
/// The same, because we are cancelled ourselves.
const ABANDONED: u8 = 5;
/// `timeout <= 0`.
const WITHOUT_TIME: u8 = 6;

fn begin(operation: &Inst<Operation>) -> Fallible<Step> {
    let delay = operation.second.take().unwrap_or_else(|| none().own());
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    if delay.is_none() {
        return Ok(Step::Await(operation.first.take().unwrap_or_else(|| none().own())));
    }
    if delay.is_at_most(&state().zero)? {
        operation.stage.set(WITHOUT_TIME);
        return without_time(operation, Some(&event_loop));
    }
    let this = Own::<Race>::new()?;
    let waiter = waiters::create_future(&event_loop)?;
    this.waiter.set(waiter.clone());
    this.alarm.set(&event_loop, &waiter, &delay)?;
    let future = ensure_future(&operation.first.get_or_none(), Some(&event_loop))?;
    this.future.set(future.clone());
    listen(&future, Listener::Race(this.clone()))?;
    operation.second.set(this.into_ref());
    operation.stage.set(RACING);
    Ok(Step::Await(waiter))
}

fn resume(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let race = operation.second.get_or_none();
    let Some(this) = Inst::<Race>::exactly(&race) else {
        return match operation.stage.get() {
            WITHOUT_TIME => cancelled_in_time(operation, outcome),
            _ => outcome.map(Step::Done),
        };
    };
    let step = match operation.stage.get() {
        RACING => ended(operation, this, outcome),
        ABANDONED => abandoned(operation, this, outcome),
        _ => cancelled_in_time(operation, outcome),
    };
    match step {
        Ok(Step::Done(result)) => this.alarm.cancel().map(|()| Step::Done(result)),
        Ok(step) => Ok(step),
        Err(raised) => {
            let exception = raised.take();
            this.alarm.cancel()?;
            Err(Raised::from_exception(exception))
        }
    }
}

/// The race is over, or we are cancelled.
fn ended(operation: &Inst<Operation>, this: &Inst<Race>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let future = this.future.get_or_none();
    let cancelled = match outcome {
        Ok(_) => None,
        Err(raised) if raised.matches(&state().cancelled_error) => Some(raised.take()),
        Err(raised) => return Err(raised),
    };
    if waiters::is_done(&future)? {
        let result = future.call_method(&state().names.result, &[]).map(Step::Done);
        return result.map_err(|raised| after(cancelled.as_deref(), raised));
    }
    unlisten(&future, &Listener::Race(this.own()))?;
    operation.stage.set(if cancelled.is_some() { ABANDONED } else { LATE });
    if let Some(cancelled) = cancelled {
        this.cancelled.set(cancelled);
    }
    cancel_and_wait(operation, &future)
}

/// What we were to wait for is done; now our own cancellation goes on.
fn abandoned(operation: &Inst<Operation>, this: &Inst<Race>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let waited = crate::wait_for::waited(operation, outcome);
    let Some(cancelled) = this.cancelled.take() else { return waited.map(|()| Step::Done(none().own())) };
    match waited {
        Ok(()) => Err(Raised::from_exception(cancelled)),
        Err(raised) => Err(after(Some(&cancelled), raised)),
    }
}

/// What is raised while another exception is handled.
fn after(handled: Option<&Obj>, raised: Raised) -> Raised {
    let Some(handled) = handled else { return raised };
    let exception = raised.take();
    if !exception.is(handled) {
        set_context(&exception, handled);
    }
    Raised::from_exception(exception)
}

fn py_release(this: &Inst<Race>, future: &Obj) -> Fallible<Ref> {
    Race::hear(this, future)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    crate::cpython::spec::define::<Race>(Spec {
        methods: class_methods!(Race, "Race";
            c"_release_waiter" => one py_release,
                c"_release_waiter($self, future, /)\n--\n\nEnd the race.";
        ),
        slots: class_slots!(Race, "Race";),
        ..Spec::default()
    })
    .map(drop)
}
