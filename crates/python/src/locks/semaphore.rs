//! `Semaphore` and `BoundedSemaphore`.

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Class, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec};
use crate::getstate::getstate_method;
use crate::locks::context_manager::context_manager_methods;
use crate::locks::count::Count;
use crate::locks::{get_loop_method, lock_class, waiting_attributes};
use crate::operation::{self, Kind, Operation, Step};
use crate::original::Code;
use crate::state::state;
use crate::waiters::{self, BoundLoop, Waiters, repr_with};

/// The class `Semaphore`.
#[derive(Debug)]
pub struct Semaphore {
    bound: BoundLoop,
    waiters: Waiters,
    value: Count,
    /// `_bound_value`, which a bounded one never exceeds.
    limit: Slot,
}

lock_class!(Semaphore, c"velodrome.Semaphore",
    Semaphore {
        bound: BoundLoop::default(),
        waiters: Waiters::default(),
        value: Count::new(1),
        limit: Slot::empty(),
    };
    bound, waiters, value, limit);

static ACQUIRE: Kind =
    Kind { name: "acquire", qualname: "Semaphore.acquire", begin: begin_acquire, resume: resume_acquire };

/// The stage of an operation that waits for its turn, by a future in `first`.
pub const WAITING: u8 = 2;

/// What is looked up once.
#[derive(Debug)]
struct Known {
    bounded: Ref,
    /// asyncio's class, which refuses bad values.
    original: Ref,
    /// Whether this version looks whether the future was given its turn before it takes a cancellation for one
    /// (from 3.13 on).
    careful: bool,
}

static KNOWN: Global<Known> = Global::new();

/// Whether what programs see of it is ours alone.
#[inline]
pub fn is_plain(this: &Inst<Semaphore>) -> bool {
    !this.has_dict()
        && (this.obj().is_exactly(Semaphore::home().class()) || this.obj().is_exactly(&KNOWN.get().bounded))
}

#[inline]
fn is_locked(this: &Inst<Semaphore>) -> Fallible<bool> {
    Ok(this.value.is(0)? || !(this.waiters.is_empty()? || this.waiters.all_cancelled()?))
}

fn begin_acquire(operation: &Inst<Operation>) -> Fallible<Step> {
    Semaphore::of(operation, |this| {
        if is_plain(this) {
            return begin_plain_acquire(operation, this);
        }
        match this.obj().call_method(&state().names.locked, &[])?.truthy()? {
            true => wait_for_turn(operation, this),
            false => take(this),
        }
    })
}

/// `acquire()` from its beginning, by an operation of a plain semaphore.
#[inline]
pub fn begin_plain_acquire(operation: &Inst<Operation>, this: &Inst<Semaphore>) -> Fallible<Step> {
    if is_locked(this)? { wait_for_turn(operation, this) } else { take(this) }
}

#[inline]
fn take(this: &Inst<Semaphore>) -> Fallible<Step> {
    this.value.add(-1)?;
    Ok(Step::Done(boolean(true).own()))
}

fn wait_for_turn(operation: &Inst<Operation>, this: &Inst<Semaphore>) -> Fallible<Step> {
    let future = this.bound.create_future(this.obj())?;
    this.waiters.push(future.clone())?;
    operation.stage.set(WAITING);
    operation.first.fill(future.clone());
    Ok(Step::Await(future))
}

/// The wait is over.
#[inline]
pub fn resume_acquire(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let exception = outcome.err().map(Raised::take);
    Semaphore::of(operation, |this| {
        let future = operation.first.get_or_none();
        this.waiters.remove(&future)?;
        let cancelled =
            exception.as_ref().is_some_and(|exception| exception.derives_from(&state().cancelled_error));
        if KNOWN.get().careful {
            // It was our turn, which we cannot take.
            if cancelled && waiters::is_done(&future)? && !waiters::is_cancelled(&future)? {
                this.value.add(1)?;
            }
            // Those who came meanwhile had to queue behind us.
            while this.value.is_positive()? && call_wake_next(this)? {}
        } else if cancelled {
            if !waiters::is_cancelled(&future)? {
                this.value.add(1)?;
                call_wake_next(this)?;
            }
        } else if exception.is_none() && this.value.is_positive()? {
            call_wake_next(this)?;
        }
        match exception {
            None => Ok(Step::Done(boolean(true).own())),
            Some(exception) => Err(Raised::from_exception(exception)),
        }
    })
}

/// `self._wake_up_next()`.
#[inline]
fn call_wake_next(this: &Inst<Semaphore>) -> Fallible<bool> {
    if is_plain(this) {
        return wake_next(this);
    }
    this.obj().call_method(&state().names.wake_up_next, &[])?.truthy()
}

/// Gives the first who waits its turn; says whether there was somebody.
fn wake_next(this: &Inst<Semaphore>) -> Fallible<bool> {
    if this.waiters.is_empty()? {
        return Ok(false);
    }
    this.value.add(-1)?;
    let woken = this.waiters.wake_one(boolean(true))?;
    if !woken {
        this.value.add(1)?;
    }
    Ok(woken)
}

fn py_init(this: &Inst<Semaphore>, args: Args<'_>) -> Fallible<()> {
    let bounded = this.obj().derives_from(&KNOWN.get().bounded);
    let function = if bounded { "BoundedSemaphore.__init__" } else { "Semaphore.__init__" };
    let [value] = args.parse(&Signature { function, names: ["value"], positional: 1, required: 0 })?;
    match value {
        None => this.value.set(&*object::int(1)?)?,
        Some(value) => {
            if !value.is_int() || value.to_i64_or_nearest()? < 0 {
                drop(KNOWN.get().original.call(&[value])?);
            }
            this.value.set(value)?;
        }
    }
    if bounded {
        this.limit.set(this.value.get()?);
    }
    Ok(())
}

fn py_acquire(this: &Inst<Semaphore>) -> Fallible<Ref> {
    operation::create(&ACQUIRE, this.obj()).map(Own::into_ref)
}

/// `release()`.
#[inline]
pub fn release(this: &Inst<Semaphore>) -> Fallible<()> {
    if let Some(limit) = this.limit.get()
        && this.value.is_at_least(&limit)?
        && this.obj().derives_from(&KNOWN.get().bounded)
    {
        return Err(Raised::value_error("BoundedSemaphore released too many times"));
    }
    this.value.add(1)?;
    call_wake_next(this).map(drop)
}

fn py_release(this: &Inst<Semaphore>) -> Fallible<Ref> {
    release(this)?;
    Ok(none().own())
}

fn py_wake_up_next(this: &Inst<Semaphore>) -> Fallible<Ref> {
    let woken = wake_next(this)?;
    Ok(if KNOWN.get().careful { boolean(woken).own() } else { none().own() })
}

fn py_locked(this: &Inst<Semaphore>) -> Fallible<Ref> {
    Ok(boolean(is_locked(this)?).own())
}

fn py_value(this: &Inst<Semaphore>) -> Fallible<Ref> {
    this.value.get()
}

fn py_set_value(this: &Inst<Semaphore>, value: Option<&Obj>) -> Fallible<()> {
    this.value.set(value.unwrap_or(&state().zero))
}

fn py_bound_value(this: &Inst<Semaphore>) -> Fallible<Ref> {
    match this.limit.get() {
        Some(limit) => Ok(limit),
        None => Err(Raised::new(
            object::attribute_error(),
            &format!("'{}' object has no attribute '_bound_value'", this.obj().class_name()),
        )),
    }
}

fn py_set_bound_value(this: &Inst<Semaphore>, value: Option<&Obj>) -> Fallible<()> {
    match value {
        Some(value) => this.limit.set(value.own()),
        None => this.limit.clear(),
    }
    Ok(())
}

fn py_repr(this: &Inst<Semaphore>) -> Fallible<Ref> {
    let locked = if is_plain(this) {
        is_locked(this)?
    } else {
        this.obj().call_method(&state().names.locked, &[])?.truthy()?
    };
    let extra = if locked {
        String::from("locked")
    } else {
        format!("unlocked, value:{}", this.value.get()?.str()?.to_text())
    };
    repr_with(this.obj(), &extra, &this.waiters)
}

/// Makes both classes.
pub fn define() -> Fallible<(Ref, Ref)> {
    let mut methods: Vec<_> = class_methods!(Semaphore, "Semaphore";
        c"acquire" => none py_acquire,
            c"acquire($self, /)\n--\n\nAcquire the semaphore: wait until its counter is larger than zero, decrement \
              it and return True.";
        c"release" => none py_release,
            c"release($self, /)\n--\n\nIncrement the counter, and let the first task that waits go on.";
        c"locked" => none py_locked,
            c"locked($self, /)\n--\n\nReturn True if the semaphore cannot be acquired immediately.";
        c"_wake_up_next" => none py_wake_up_next,
            c"_wake_up_next($self, /)\n--\n\nGive the first who waits its turn.";
    );
    methods.extend(context_manager_methods!(Semaphore, "Semaphore"));
    methods.extend(get_loop_method!(Semaphore, "Semaphore"));
    methods
        .extend(getstate_method!(Semaphore, "Semaphore"; c"_value", c"_bound_value", c"_waiters", c"_loop"));
    let mut attributes: Vec<_> = waiting_attributes!(Semaphore, "Semaphore", show_if_used);
    attributes.extend(class_attributes!(Semaphore, "Semaphore";
        c"_value" => py_value, py_set_value;
        c"_bound_value" => py_bound_value, py_set_bound_value;
    ));
    let class = crate::cpython::spec::define::<Semaphore>(Spec {
        base: None,
        doc: Some(
            c"Semaphore(value=1)\n--\n\nA counter that acquire() decrements and release() increments; acquire() waits \
              rather than\nlet it fall below zero.",
        ),
        methods,
        attributes,
        slots: class_slots!(Semaphore, "Semaphore"; init py_init, repr py_repr),
    })?;
    let bounded = crate::cpython::spec::derive(
        &class,
        c"BoundedSemaphore",
        c"BoundedSemaphore(value=1)\n--\n\nA semaphore whose release() raises ValueError when it would exceed the initial \
          value.",
    )?;
    let original = object::import(c"asyncio.locks")?.get(&*object::interned(c"Semaphore")?)?;
    let careful = Code::of(&original, c"acquire")?.uses("done")?;
    KNOWN.set(Known { bounded: bounded.clone(), original, careful });
    Ok((class, bounded))
}
