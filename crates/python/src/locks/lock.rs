//! `Lock`.

use std::cell::Cell;

use crate::cpython::object::{boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::getstate::getstate_method;
use crate::locks::context_manager::context_manager_methods;
use crate::locks::{get_loop_method, lock_class, waiting_attributes};
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::waiters::{BoundLoop, Waiters, repr_with};

/// The class `Lock`.
#[derive(Debug)]
pub struct Lock {
    bound: BoundLoop,
    waiters: Waiters,
    locked: Cell<bool>,
}

lock_class!(Lock, c"velodrome.Lock",
    Lock { bound: BoundLoop::default(), waiters: Waiters::default(), locked: Cell::new(false) };
    bound, waiters);

static ACQUIRE: Kind =
    Kind { name: "acquire", qualname: "Lock.acquire", begin: begin_acquire, resume: resume_acquire };

/// The stage of an operation that waits for the lock, by a future in `first`.
pub const WAITING: u8 = 1;

impl Inst<Lock> {
    /// Whether it is locked.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.locked.get()
    }
}

/// Takes the lock, if that needs no wait; says whether it did.
#[inline]
pub fn try_acquire(this: &Inst<Lock>) -> Fallible<bool> {
    // Whoever comes waits behind those who wait already, unless all of those have given up.
    let free = !this.locked.get() && (this.waiters.is_empty()? || this.waiters.all_cancelled()?);
    if free {
        this.locked.set(true);
    }
    Ok(free)
}

fn begin_acquire(operation: &Inst<Operation>) -> Fallible<Step> {
    Lock::of(operation, |this| begin_acquire_of(operation, this))
}

/// `acquire()` from its beginning, by an operation of this lock.
#[inline]
pub fn begin_acquire_of(operation: &Inst<Operation>, this: &Inst<Lock>) -> Fallible<Step> {
    if try_acquire(this)? { Ok(Step::Done(boolean(true).own())) } else { wait_for_turn(operation, this) }
}

fn wait_for_turn(operation: &Inst<Operation>, this: &Inst<Lock>) -> Fallible<Step> {
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
    Lock::of(operation, |this| {
        this.waiters.remove(&operation.first.get_or_none())?;
        let Some(exception) = exception else {
            this.locked.set(true);
            return Ok(Step::Done(boolean(true).own()));
        };
        // The lock is free and somebody else waits, who has to hear of it from us.
        if !this.locked.get() && exception.derives_from(&state().cancelled_error) {
            call_wake_first(this)?;
        }
        Err(Raised::from_exception(exception))
    })
}

/// `release()`.
#[inline]
pub fn release(this: &Inst<Lock>) -> Fallible<()> {
    if !this.locked.replace(false) {
        return Err(Raised::runtime_error("Lock is not acquired."));
    }
    call_wake_first(this)
}

/// `self._wake_up_first()`.
#[inline]
fn call_wake_first(this: &Inst<Lock>) -> Fallible<()> {
    if this.is_plain() {
        return wake_first(this);
    }
    this.obj().call_method(&state().names.wake_up_first, &[]).map(drop)
}

/// Makes sure that the first who waits will run: either it does already, or it is told to.
#[inline]
fn wake_first(this: &Inst<Lock>) -> Fallible<()> {
    match this.waiters.first()? {
        Some(first) if !crate::waiters::is_done(&first)? => crate::waiters::set_result(&first, boolean(true)),
        _ => Ok(()),
    }
}

/// A call of `acquire()`.
#[inline]
pub fn acquire(this: &Inst<Lock>) -> Fallible<Own<Operation>> {
    operation::create(&ACQUIRE, this.obj())
}

fn py_init(_this: &Inst<Lock>, args: Args<'_>) -> Fallible<()> {
    let [] = args.parse(&Signature { function: "Lock.__init__", names: [], positional: 0, required: 0 })?;
    Ok(())
}

fn py_acquire(this: &Inst<Lock>) -> Fallible<Ref> {
    acquire(this).map(Own::into_ref)
}

fn py_release(this: &Inst<Lock>) -> Fallible<Ref> {
    release(this)?;
    Ok(none().own())
}

fn py_wake_up_first(this: &Inst<Lock>) -> Fallible<Ref> {
    wake_first(this)?;
    Ok(none().own())
}

fn py_locked(this: &Inst<Lock>) -> Fallible<Ref> {
    Ok(boolean(this.locked.get()).own())
}

fn py_set_locked(this: &Inst<Lock>, value: Option<&Obj>) -> Fallible<()> {
    this.locked.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_repr(this: &Inst<Lock>) -> Fallible<Ref> {
    repr_with(this.obj(), if this.locked.get() { "locked" } else { "unlocked" }, &this.waiters)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = class_methods!(Lock, "Lock";
        c"acquire" => none py_acquire,
            c"acquire($self, /)\n--\n\nAcquire the lock: wait until it is unlocked, lock it and return True.";
        c"release" => none py_release,
            c"release($self, /)\n--\n\nRelease the lock, and let the first task that waits for it go on.\n\nRaises \
              RuntimeError if the lock is not locked.";
        c"locked" => none py_locked, c"locked($self, /)\n--\n\nReturn True if the lock is acquired.";
        c"_wake_up_first" => none py_wake_up_first,
            c"_wake_up_first($self, /)\n--\n\nEnsure that the first who waits will wake up.";
    );
    methods.extend(context_manager_methods!(Lock, "Lock"));
    methods.extend(get_loop_method!(Lock, "Lock"));
    methods.extend(getstate_method!(Lock, "Lock"; c"_locked", c"_waiters", c"_loop"));
    let mut attributes: Vec<_> = waiting_attributes!(Lock, "Lock", show_if_used);
    attributes.extend(class_attributes!(Lock, "Lock"; c"_locked" => py_locked, py_set_locked;));
    crate::cpython::spec::define::<Lock>(Spec {
        base: None,
        doc: Some(
            c"Lock()\n--\n\nA lock for tasks: one at a time holds it, the others wait in the order in which they \
              came.\n\n    async with lock:\n        ...",
        ),
        methods,
        attributes,
        slots: class_slots!(Lock, "Lock"; init py_init, repr py_repr),
    })
}
