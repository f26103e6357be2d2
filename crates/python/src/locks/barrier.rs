//! `Barrier`.
//!
//! Everything happens under the lock of a condition: it is notified whenever the barrier's state changes.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec};
use crate::getstate;
use crate::locks::condition::{self, Condition};
use crate::locks::count::Count;
use crate::locks::lock_class;
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::waiters::BoundLoop;

/// The class `Barrier`.
#[derive(Debug)]
pub struct Barrier {
    bound: BoundLoop,
    condition: Slot,
    parties: Count,
    phase: Cell<Phase>,
    /// How many tasks are inside.
    count: Cell<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Filling,
    Draining,
    Resetting,
    Broken,
}

impl Phase {
    /// As asyncio's `_BarrierState` calls it.
    fn name(self) -> &'static str {
        match self {
            Phase::Filling => "filling",
            Phase::Draining => "draining",
            Phase::Resetting => "resetting",
            Phase::Broken => "broken",
        }
    }
}

lock_class!(Barrier, c"velodrome.Barrier",
    Barrier {
        bound: BoundLoop::default(),
        condition: Slot::empty(),
        parties: Count::new(1),
        phase: Cell::new(Phase::Filling),
        count: Cell::new(0),
    };
    bound, condition, parties);

static WAIT: Kind = Kind { name: "wait", qualname: "Barrier.wait", begin: lock, resume: resume_wait };
static ENTER: Kind = Kind {
    name: "__aenter__",
    qualname: "Barrier.__aenter__",
    begin: begin_enter,
    resume: |_, index| index.map(Step::Done),
};
static EXIT: Kind = Kind {
    name: "__aexit__",
    qualname: "Barrier.__aexit__",
    begin: |_| Ok(Step::Done(none().own())),
    resume: |_, outcome| outcome.map(Step::Done),
};
static RESET: Kind = Kind {
    name: "reset",
    qualname: "Barrier.reset",
    begin: lock,
    resume: |operation, outcome| {
        under_lock(operation, outcome, |this| {
            this.phase.set(if this.count.get() > 0 { Phase::Resetting } else { Phase::Filling });
        })
    },
};
static ABORT: Kind = Kind {
    name: "abort",
    qualname: "Barrier.abort",
    begin: lock,
    resume: |operation, outcome| under_lock(operation, outcome, |this| this.phase.set(Phase::Broken)),
};

/// What is looked up once.
#[derive(Debug)]
struct Known {
    /// asyncio's class, which refuses bad numbers.
    original: Ref,
    phases: Ref,
    broken_barrier_error: Ref,
}

static KNOWN: Global<Known> = Global::new();

/// The stages of `wait()`: for the lock; until the barrier takes tasks in; until it lets them out.
const LOCKING: u8 = 0;
pub const BLOCKED: u8 = 1;
pub const INSIDE: u8 = 2;

impl Inst<Barrier> {
    fn with_condition<R>(&self, work: impl FnOnce(&Inst<Condition>) -> Fallible<R>) -> Fallible<R> {
        let condition = self.condition.get_or_none();
        match Inst::<Condition>::of(&condition) {
            Some(condition) => work(condition),
            None => Err(Raised::runtime_error("Barrier.__init__() was not called")),
        }
    }
}

fn broken(message: &str) -> Raised {
    Raised::new(&KNOWN.get().broken_barrier_error, message)
}

/// The beginning of all of them: `async with self._cond`.
fn lock(operation: &Inst<Operation>) -> Fallible<Step> {
    Barrier::of(operation, |this| this.with_condition(Inst::<Condition>::acquire).map(Step::Await))
}

/// The rest of `reset()` and `abort()`.
fn under_lock(
    operation: &Inst<Operation>,
    outcome: Fallible<Ref>,
    change: impl FnOnce(&Inst<Barrier>),
) -> Fallible<Step> {
    outcome?;
    Barrier::of(operation, |this| {
        change(this);
        this.with_condition(|condition| {
            condition.notify_all()?;
            condition.release()
        })?;
        Ok(Step::Done(none().own()))
    })
}

fn resume_wait(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let stage = operation.stage.get();
    if stage == LOCKING {
        outcome?;
        operation.stage.set(BLOCKED);
        return unlocking(operation, block);
    }
    match (outcome, stage) {
        (Ok(_), BLOCKED) => unlocking(operation, block),
        (Ok(_), _) => unlocking(operation, stay),
        (Err(raised), BLOCKED) => unlocking(operation, |_, _| Err(raised)),
        (Err(raised), _) => {
            let exception = raised.take();
            unlocking(operation, |_, this| {
                leave(this)?;
                Err(Raised::from_exception(exception))
            })
        }
    }
}

/// Does something under the lock, which is released unless another wait follows.
fn unlocking(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<Operation>, &Inst<Barrier>) -> Fallible<Step>,
) -> Fallible<Step> {
    Barrier::of(operation, |this| match work(operation, this) {
        Ok(Step::Done(index)) => {
            this.with_condition(Inst::<Condition>::release)?;
            Ok(Step::Done(index))
        }
        Ok(step) => Ok(step),
        Err(raised) => {
            let exception = raised.take();
            this.with_condition(Inst::<Condition>::release)?;
            Err(Raised::from_exception(exception))
        }
    })
}

/// Waits until those who are on their way out are out; then enters.
fn block(operation: &Inst<Operation>, this: &Inst<Barrier>) -> Fallible<Step> {
    match this.phase.get() {
        Phase::Draining | Phase::Resetting => this.with_condition(Inst::<Condition>::wait).map(Step::Await),
        Phase::Broken => Err(broken("Barrier aborted")),
        Phase::Filling => {
            let index = this.count.get();
            this.count.set(index + 1);
            operation.first.set(object::int(index)?);
            operation.stage.set(INSIDE);
            if !this.parties.is(index + 1)? {
                return stay(operation, this);
            }
            this.phase.set(Phase::Draining);
            this.with_condition(Inst::<Condition>::notify_all)?;
            leave(this)?;
            Ok(Step::Done(operation.first.get_or_none()))
        }
    }
}

/// Waits until the last one is there.
fn stay(operation: &Inst<Operation>, this: &Inst<Barrier>) -> Fallible<Step> {
    match this.phase.get() {
        Phase::Filling => this.with_condition(Inst::<Condition>::wait).map(Step::Await),
        Phase::Draining => {
            leave(this)?;
            Ok(Step::Done(operation.first.get_or_none()))
        }
        Phase::Broken | Phase::Resetting => {
            leave(this)?;
            Err(broken("Abort or reset of barrier"))
        }
    }
}

/// One is out; the last one opens the barrier for those who wait before it.
fn leave(this: &Inst<Barrier>) -> Fallible<()> {
    this.count.set(this.count.get() - 1);
    if this.count.get() != 0 {
        return Ok(());
    }
    if matches!(this.phase.get(), Phase::Resetting | Phase::Draining) {
        this.phase.set(Phase::Filling);
    }
    this.with_condition(Inst::<Condition>::notify_all)
}

fn begin_enter(operation: &Inst<Operation>) -> Fallible<Step> {
    Barrier::of(operation, |this| {
        if this.is_plain() {
            return operation::create(&WAIT, this.obj()).map(Own::into_ref).map(Step::Await);
        }
        this.obj().call_method(&state().names.wait, &[]).map(Step::Await)
    })
}

fn py_init(this: &Inst<Barrier>, args: Args<'_>) -> Fallible<()> {
    let signature =
        Signature { function: "Barrier.__init__", names: ["parties"], positional: 1, required: 1 };
    let [parties] = args.parse(&signature)?;
    let parties = parties.unwrap_or(none());
    if !parties.is_int() || parties.to_i64_or_nearest()? < 1 {
        drop(KNOWN.get().original.call(&[parties])?);
    }
    this.parties.set(parties)?;
    this.condition.set(condition::create()?.into_ref());
    this.phase.set(Phase::Filling);
    this.count.set(0);
    Ok(())
}

fn py_wait(this: &Inst<Barrier>) -> Fallible<Ref> {
    operation::create(&WAIT, this.obj()).map(Own::into_ref)
}

fn py_enter(this: &Inst<Barrier>) -> Fallible<Ref> {
    operation::create(&ENTER, this.obj()).map(Own::into_ref)
}

fn py_exit(this: &Inst<Barrier>, _args: Args<'_>) -> Fallible<Ref> {
    operation::create(&EXIT, this.obj()).map(Own::into_ref)
}

fn py_reset(this: &Inst<Barrier>) -> Fallible<Ref> {
    operation::create(&RESET, this.obj()).map(Own::into_ref)
}

fn py_abort(this: &Inst<Barrier>) -> Fallible<Ref> {
    operation::create(&ABORT, this.obj()).map(Own::into_ref)
}

fn py_parties(this: &Inst<Barrier>) -> Fallible<Ref> {
    this.parties.get()
}

fn waiting(this: &Inst<Barrier>) -> i64 {
    if this.phase.get() == Phase::Filling { this.count.get() } else { 0 }
}

fn py_n_waiting(this: &Inst<Barrier>) -> Fallible<Ref> {
    object::int(waiting(this))
}

fn py_broken(this: &Inst<Barrier>) -> Fallible<Ref> {
    Ok(boolean(this.phase.get() == Phase::Broken).own())
}

fn py_count(this: &Inst<Barrier>) -> Fallible<Ref> {
    object::int(this.count.get())
}

fn py_state(this: &Inst<Barrier>) -> Fallible<Ref> {
    KNOWN.get().phases.call(&[&*object::text(this.phase.get().name())?])
}

fn py_set_parties(this: &Inst<Barrier>, value: Option<&Obj>) -> Fallible<()> {
    match value {
        Some(value) => this.parties.set(value),
        None => this.parties.set(&*object::int(1)?),
    }
}

fn py_set_count(this: &Inst<Barrier>, value: Option<&Obj>) -> Fallible<()> {
    this.count.set(value.map_or(Ok(0), Obj::to_i64)?);
    Ok(())
}

fn py_set_state(this: &Inst<Barrier>, value: Option<&Obj>) -> Fallible<()> {
    let name = value.unwrap_or(none()).get(&*object::interned(c"value")?)?.to_text();
    let phases = [Phase::Filling, Phase::Draining, Phase::Resetting, Phase::Broken];
    match phases.into_iter().find(|phase| phase.name() == name) {
        Some(phase) => {
            this.phase.set(phase);
            Ok(())
        }
        None => Err(Raised::value_error(&format!("not a state of a barrier: {name}"))),
    }
}

fn py_set_condition(this: &Inst<Barrier>, value: Option<&Obj>) -> Fallible<()> {
    this.condition.assign(value);
    Ok(())
}

fn py_condition(this: &Inst<Barrier>) -> Fallible<Ref> {
    Ok(this.condition.get_or_none())
}

fn py_get_loop(this: &Inst<Barrier>) -> Fallible<Ref> {
    this.bound.get(this.obj())
}

fn py_loop(this: &Inst<Barrier>) -> Fallible<Ref> {
    Ok(this.bound.0.get_or_none())
}

fn py_set_loop(this: &Inst<Barrier>, value: Option<&Obj>) -> Fallible<()> {
    this.bound.set(value);
    Ok(())
}

fn py_repr(this: &Inst<Barrier>) -> Fallible<Ref> {
    let plain = this.obj().plain_repr()?.to_text();
    let inner = plain.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(&plain);
    let phase = this.phase.get().name();
    object::text(&match this.phase.get() {
        Phase::Broken => format!("<{inner} [{phase}]>"),
        _ => {
            format!("<{inner} [{phase}, waiters:{}/{}]>", waiting(this), this.parties.get()?.str()?.to_text())
        }
    })
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let locks = object::import(c"asyncio.locks")?;
    KNOWN.set(Known {
        original: locks.get(&*object::interned(c"Barrier")?)?,
        phases: locks.get(&*object::interned(c"_BarrierState")?)?,
        broken_barrier_error: object::import(c"asyncio.exceptions")?
            .get(&*object::interned(c"BrokenBarrierError")?)?,
    });
    crate::cpython::spec::define::<Barrier>(Spec {
        base: None,
        doc: Some(
            c"Barrier(parties)\n--\n\nLets tasks wait for each other until as many as `parties` are there.",
        ),
        methods: class_methods!(Barrier, "Barrier";
            c"wait" => none py_wait,
                c"wait($self, /)\n--\n\nWait until all parties wait; return a different number for each, from 0 to \
                  parties - 1.";
            c"reset" => none py_reset,
                c"reset($self, /)\n--\n\nReset the barrier; tasks that wait get BrokenBarrierError.";
            c"abort" => none py_abort,
                c"abort($self, /)\n--\n\nBreak the barrier; tasks that wait, or try to, get BrokenBarrierError.";
            c"__aenter__" => none py_enter, c"__aenter__($self, /)\n--\n\nWait for the others.";
            c"__aexit__" => any py_exit, c"__aexit__($self, /, *args)\n--\n\nDo nothing.";
            c"_get_loop" => none py_get_loop,
                c"_get_loop($self, /)\n--\n\nReturn the running loop, which has to be the one that this is bound to.";
            c"__getstate__" => none |this: &Inst<Barrier>|
                getstate::state_of(this, &[c"_cond", c"_parties", c"_state", c"_count", c"_loop"]),
                c"__getstate__($self, /)\n--\n\nReturn what is to be copied or pickled.";
        ),
        attributes: class_attributes!(Barrier, "Barrier";
            c"parties" => py_parties;
            c"n_waiting" => py_n_waiting;
            c"broken" => py_broken;
            c"_parties" => py_parties, py_set_parties;
            c"_count" => py_count, py_set_count;
            c"_state" => py_state, py_set_state;
            c"_cond" => py_condition, py_set_condition;
            c"_loop" => py_loop, py_set_loop;
        ),
        slots: class_slots!(Barrier, "Barrier"; init py_init, repr py_repr),
    })
}
