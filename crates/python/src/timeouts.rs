//! `Timeout`, `timeout` and `timeout_at`.
//!
//! On a loop of ours the deadline is a timer of the engine, without a handle between; on others, or where a program
//! has replaced a loop's methods, it is a handle of the loop's.

use std::cell::Cell;

use velodrome_engine::TimerKey;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::{context_of, set_cause_and_context, set_context};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::task::{self, Task};
use crate::waiters;

/// The class `Timeout`.
#[derive(Debug)]
pub struct Timeout {
    phase: Cell<Phase>,
    /// The deadline, empty for None; or its `seconds`, of which no object is made before somebody asks.
    when: Slot,
    seconds: Cell<Option<f64>>,
    task: Slot,
    /// How many cancellations of the task were requested before.
    cancelling: Cell<i64>,
    /// What the deadline is kept by: a handle; or our loop, and then `timer` is the key.
    handler: Slot,
    timer: Cell<Option<TimerKey>>,
    /// How many ends that were called off, or put off, are in the loop's queue already.
    called_off: Cell<u32>,
    /// The iteration in which it was made of a long delay: who enters it in the same one need not ask the clock again.
    ahead: Cell<Option<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl Phase {
    /// As asyncio's `_State` calls it.
    fn name(self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Entered => "active",
            Phase::Expiring => "expiring",
            Phase::Expired => "expired",
            Phase::Exited => "finished",
        }
    }
}

/// A delay, in seconds, that does not pass between two lines of a program.
const LONG: f64 = 1.0;

static HOME: Home = Home::new();

impl Class for Timeout {
    const NAME: &'static std::ffi::CStr = c"velodrome.Timeout";
    const DICT: bool = true;
    const KEPT: usize = 64;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> Timeout {
        Timeout {
            phase: Cell::new(Phase::Created),
            when: Slot::empty(),
            seconds: Cell::new(None),
            task: Slot::empty(),
            cancelling: Cell::new(0),
            handler: Slot::empty(),
            timer: Cell::new(None),
            called_off: Cell::new(0),
            ahead: Cell::new(None),
        }
    }

    fn traverse(this: &Inst<Timeout>, visitor: &mut Visitor<'_>) {
        for slot in [&this.when, &this.task, &this.handler] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Timeout>) {
        for slot in [&this.when, &this.task, &this.handler] {
            slot.clear();
        }
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    phases: Ref,
    exception_group: Ref,
    /// Whether this version also tells of the timeout within other exceptions (from 3.13 on).
    within_others: bool,
    on_timeout: Ref,
    current_task: Ref,
    cancelling: Ref,
    uncancel: Ref,
}

static KNOWN: Global<Known> = Global::new();

static ENTER: Kind = Kind {
    name: "__aenter__",
    qualname: "Timeout.__aenter__",
    begin: |operation| with_timeout(operation, enter),
    resume: |_, outcome| outcome.map(Step::Done),
};
static EXIT: Kind = Kind {
    name: "__aexit__",
    qualname: "Timeout.__aexit__",
    begin: |operation| {
        let (kind, exception) = (operation.first.get(), operation.second.get());
        with_timeout(operation, |this| exit(this, kind.as_deref(), exception.as_deref()))
    },
    resume: |_, outcome| outcome.map(Step::Done),
};

#[inline]
fn with_timeout<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<Timeout>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<Timeout>::of(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no timeout")),
    }
}

/// A new timeout, of exactly this class.
#[inline]
fn create(when: Option<Ref>) -> Fallible<Own<Timeout>> {
    let this = Own::<Timeout>::new()?;
    set_deadline(&this, when.as_deref());
    Ok(this)
}

fn set_deadline(this: &Inst<Timeout>, when: Option<&Obj>) {
    this.seconds.set(None);
    this.ahead.set(None);
    match when.filter(|when| !when.is_none()) {
        Some(when) => this.when.set(when.own()),
        None => this.when.clear(),
    }
}

/// The deadline, or None.
fn deadline(this: &Inst<Timeout>) -> Fallible<Ref> {
    if let Some(seconds) = this.seconds.get() {
        this.when.set(object::float(seconds)?);
        this.seconds.set(None);
    }
    Ok(this.when.get_or_none())
}

/// The deadline as a plain number, if that is what it is.
#[inline]
fn deadline_seconds(this: &Inst<Timeout>) -> Fallible<Option<f64>> {
    match this.seconds.get() {
        Some(seconds) => Ok(Some(seconds)),
        None => this.when.get_or_none().plain_number(),
    }
}

/// `timeout(delay)`.
pub fn after(args: Args<'_>) -> Fallible<Ref> {
    after_delay(Some(args.only("timeout", "delay")?)).map(Own::into_ref)
}

/// A timeout that ends after this delay.
#[inline]
pub fn after_delay(delay: Option<&Obj>) -> Fallible<Own<Timeout>> {
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    let Some(delay) = delay.filter(|delay| !delay.is_none()) else { return create(None) };
    let now = match Inst::<EventLoop>::of(&event_loop).filter(|ours| !ours.hooks().time) {
        Some(ours) if delay.is_float() || delay.is_int() => {
            let delay = delay.to_f64()?;
            let timeout = Own::<Timeout>::new()?;
            timeout.seconds.set(Some(crate::clock::seconds() + delay));
            timeout.ahead.set((delay > LONG).then(|| ours.iteration.get()));
            return Ok(timeout);
        }
        Some(_) => object::float(crate::clock::seconds())?,
        None => event_loop.call_method(&state().names.time, &[])?,
    };
    create(Some(now.add(delay)?))
}

/// `timeout_at(when)`.
pub fn at(args: Args<'_>) -> Fallible<Ref> {
    let [when] =
        args.parse(&Signature { function: "timeout_at", names: ["when"], positional: 1, required: 1 })?;
    create(when.map(Obj::own)).map(Own::into_ref)
}

/// `__aenter__()`.
pub fn enter(this: &Inst<Timeout>) -> Fallible<Step> {
    if this.phase.get() != Phase::Created {
        return Err(Raised::runtime_error("Timeout has already been entered"));
    }
    let task = crate::registry::current_task(&KNOWN.get().current_task)?;
    if task.is_none() {
        return Err(Raised::runtime_error("Timeout should be used inside a task"));
    }
    this.phase.set(Phase::Entered);
    let cancelling = match Inst::<Task>::exactly(&task) {
        Some(task) => i64::from(task::cancelling(task)),
        None => task.call_method(&KNOWN.get().cancelling, &[])?.to_i64()?,
    };
    this.cancelling.set(cancelling);
    this.task.set(task);
    schedule(this)?;
    Ok(Step::Done(this.obj().own()))
}

/// Has the timeout fire at its deadline, or soon if that is past.
fn schedule(this: &Inst<Timeout>) -> Fallible<()> {
    if this.seconds.get().is_none() && this.when.is_empty() {
        return Ok(());
    }
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    let names = &state().names;
    let ours = Inst::<EventLoop>::of(&event_loop)
        .filter(|ours| !(ours.hooks().call_at || ours.hooks().call_soon || ours.hooks().time));
    if let Some(ours) = ours
        && let Some(seconds) = deadline_seconds(this)?
        && (this.ahead.take() == Some(ours.iteration.get()) || seconds > crate::clock::seconds())
    {
        ours.check_thread()?;
        let at = crate::clock::at(seconds);
        let key = ours.with_engine(|engine| engine.timer(at, Job::Expire(this.own())))?;
        this.timer.set(Some(key));
        this.handler.set(event_loop);
        return Ok(());
    }
    let on_timeout = this.obj().get(&KNOWN.get().on_timeout)?;
    let when = deadline(this)?;
    let handler = if when.is_at_most(&*event_loop.call_method(&names.time, &[])?)? {
        event_loop.call_method(&names.call_soon, &[&on_timeout])?
    } else {
        event_loop.call_method(&names.call_at, &[&when, &on_timeout])?
    };
    this.handler.set(handler);
    Ok(())
}

/// Forgets the deadline.
#[inline]
fn unschedule(this: &Inst<Timeout>) -> Fallible<()> {
    let Some(handler) = this.handler.take() else { return Ok(()) };
    match this.timer.take() {
        Some(key) => {
            let job = Inst::<EventLoop>::of(&handler).and_then(|ours| ours.cancel_timer(key));
            if job.is_none() {
                this.called_off.set(this.called_off.get().saturating_add(1));
            }
            Ok(())
        }
        None => handler.call_method(&state().names.cancel, &[]).map(drop),
    }
}

/// A timer of the loop's queue has come to its turn. Those that were called off meanwhile are in front of any other.
pub fn come_to_turn(this: &Inst<Timeout>) -> Fallible<()> {
    match this.called_off.get().checked_sub(1) {
        Some(left) => {
            this.called_off.set(left);
            Ok(())
        }
        None => expire(this),
    }
}

/// The time is up.
fn expire(this: &Inst<Timeout>) -> Fallible<()> {
    if this.phase.get() != Phase::Entered {
        return Err(Raised::bare(object::assertion_error()));
    }
    waiters::cancel(&this.task.get_or_none())?;
    this.phase.set(Phase::Expiring);
    this.timer.set(None);
    this.handler.clear();
    Ok(())
}

/// `__aexit__(…)`; fails with what the timeout turns an exception into.
pub fn exit(this: &Inst<Timeout>, kind: Option<&Obj>, exception: Option<&Obj>) -> Fallible<Step> {
    if !matches!(this.phase.get(), Phase::Entered | Phase::Expiring) {
        return Err(Raised::bare(object::assertion_error()));
    }
    unschedule(this)?;
    if this.phase.get() == Phase::Entered {
        this.phase.set(Phase::Exited);
        return Ok(Step::Done(none().own()));
    }
    this.phase.set(Phase::Expired);
    let task = this.task.get_or_none();
    let left = match Inst::<Task>::exactly(&task) {
        Some(task) => i64::from(task::uncancel(task)),
        None => task.call_method(&KNOWN.get().uncancel, &[])?.to_i64()?,
    };
    // Somebody else wants the task cancelled as well.
    if left > this.cancelling.get() {
        return Ok(Step::Done(none().own()));
    }
    let known = KNOWN.get();
    let cancelled = &state().cancelled_error;
    if kind.is_some_and(|kind| kind.is(cancelled) || (known.within_others && kind.is_subtype_of(cancelled))) {
        let late = object::timeout_error().call(&[])?;
        if let Some(exception) = exception {
            set_cause_and_context(&late, exception);
        }
        return Err(Raised::from_exception(late));
    }
    if let (Some(exception), true) = (exception, known.within_others) {
        tell_within(exception)?;
        if exception.derives_from(&known.exception_group) {
            for each in exception.get(&*object::interned(c"exceptions")?)?.items()? {
                tell_within(&each)?;
            }
        }
    }
    Ok(Step::Done(none().own()))
}

/// Puts a `TimeoutError` before the cancellation among the contexts of an exception.
fn tell_within(exception: &Obj) -> Fallible<()> {
    let mut exception = exception.own();
    while let Some(context) = context_of(&exception) {
        if context.derives_from(&state().cancelled_error) {
            let late = object::timeout_error().call(&[])?;
            set_cause_and_context(&late, &context);
            set_context(&exception, &late);
            break;
        }
        exception = context;
    }
    Ok(())
}

fn py_init(this: &Inst<Timeout>, args: Args<'_>) -> Fallible<()> {
    let [when] =
        args.parse(&Signature { function: "Timeout.__init__", names: ["when"], positional: 1, required: 1 })?;
    this.phase.set(Phase::Created);
    set_deadline(this, when);
    Ok(())
}

fn py_when(this: &Inst<Timeout>) -> Fallible<Ref> {
    deadline(this)
}

fn py_reschedule(this: &Inst<Timeout>, args: Args<'_>) -> Fallible<Ref> {
    let signature = Signature { function: "Timeout.reschedule", names: ["when"], positional: 1, required: 1 };
    let [when] = args.parse(&signature)?;
    match this.phase.get() {
        Phase::Entered => {}
        Phase::Created => return Err(Raised::runtime_error("Timeout has not been entered")),
        phase => {
            let phase = phase.name();
            return Err(Raised::runtime_error(&format!("Cannot change state of {phase} Timeout")));
        }
    }
    set_deadline(this, when);
    unschedule(this)?;
    schedule(this)?;
    Ok(none().own())
}

fn py_expired(this: &Inst<Timeout>) -> Fallible<Ref> {
    Ok(boolean(matches!(this.phase.get(), Phase::Expiring | Phase::Expired)).own())
}

fn py_enter(this: &Inst<Timeout>) -> Fallible<Ref> {
    operation::create(&ENTER, this.obj()).map(Own::into_ref)
}

fn py_exit(this: &Inst<Timeout>, args: Args<'_>) -> Fallible<Ref> {
    const SIGNATURE: Signature<3> = Signature {
        function: "Timeout.__aexit__",
        names: ["exc_type", "exc_val", "exc_tb"],
        positional: 3,
        required: 3,
    };
    let [kind, exception, _traceback] = args.parse(&SIGNATURE)?;
    let operation = operation::create(&EXIT, this.obj())?;
    for (slot, value) in [(&operation.first, kind), (&operation.second, exception)] {
        if let Some(value) = value.filter(|value| !value.is_none()) {
            slot.set(value.own());
        }
    }
    Ok(operation.into_ref())
}

fn py_on_timeout(this: &Inst<Timeout>) -> Fallible<Ref> {
    expire(this)?;
    Ok(none().own())
}

fn py_state(this: &Inst<Timeout>) -> Fallible<Ref> {
    KNOWN.get().phases.call(&[&*object::text(this.phase.get().name())?])
}

fn py_task(this: &Inst<Timeout>) -> Fallible<Ref> {
    Ok(this.task.get_or_none())
}

fn py_handler(this: &Inst<Timeout>) -> Fallible<Ref> {
    Ok(if this.timer.get().is_some() { none().own() } else { this.handler.get_or_none() })
}

fn py_repr(this: &Inst<Timeout>) -> Fallible<Ref> {
    let phase = this.phase.get();
    let mut text = format!("<Timeout [{}]", phase.name());
    if phase == Phase::Entered {
        let when = deadline(this)?;
        let when = if when.is_none() {
            when
        } else {
            let round = object::import(c"builtins")?.get(&*object::interned(c"round")?)?;
            round.call(&[&*when, &*object::int(3)?])?
        };
        text += &format!(" when={}", when.str()?.to_text());
    }
    object::text(&(text + ">"))
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let timeouts = object::import(c"asyncio.timeouts")?;
    let builtins = object::import(c"builtins")?;
    let within_others = timeouts
        .get(&*object::interned(c"Timeout")?)?
        .get_if_there(&*object::interned(c"_insert_timeout_error")?)?
        .is_some();
    KNOWN.set(Known {
        phases: timeouts.get(&*object::interned(c"_State")?)?,
        exception_group: builtins.get(&*object::interned(c"ExceptionGroup")?)?,
        within_others,
        on_timeout: object::interned(c"_on_timeout")?,
        current_task: object::interned(c"current_task")?,
        cancelling: object::interned(c"cancelling")?,
        uncancel: object::interned(c"uncancel")?,
    });
    crate::cpython::spec::define::<Timeout>(Spec {
        base: None,
        doc: Some(
            c"Timeout(when)\n--\n\nCancels what runs in its block at a time of the loop's clock, or never.\n\nMade by \
              timeout() and timeout_at().",
        ),
        methods: class_methods!(Timeout, "Timeout";
            c"when" => none py_when, c"when($self, /)\n--\n\nReturn the current deadline.";
            c"reschedule" => any py_reschedule, c"reschedule($self, when)\n--\n\nReschedule the timeout.";
            c"expired" => none py_expired,
                c"expired($self, /)\n--\n\nReturn True if the deadline has passed inside the block.";
            c"__aenter__" => none py_enter, c"__aenter__($self, /)\n--\n\nBegin to count.";
            c"__aexit__" => any py_exit,
                c"__aexit__($self, exc_type, exc_val, exc_tb, /)\n--\n\nTurn our own cancellation into TimeoutError.";
            c"_on_timeout" => none py_on_timeout, c"_on_timeout($self, /)\n--\n\nCancel the task.";
        ),
        attributes: class_attributes!(Timeout, "Timeout";
            c"_state" => py_state;
            c"_when" => py_when;
            c"_task" => py_task;
            c"_timeout_handler" => py_handler;
        ),
        slots: class_slots!(Timeout, "Timeout"; init py_init, repr py_repr),
    })
}
