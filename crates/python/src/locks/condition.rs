//! `Condition`.

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::{context_of, set_context};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec};
use crate::getstate::getstate_method;
use crate::locks::context_manager::context_manager_methods;
use crate::locks::lock::{self, Lock};
use crate::locks::{get_loop_method, lock_class, waiting_attributes};
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::waiters::{BoundLoop, Waiters, repr_with};

/// The class `Condition`.
#[derive(Debug)]
pub struct Condition {
    bound: BoundLoop,
    waiters: Waiters,
    lock: Slot,
}

lock_class!(Condition, c"velodrome.Condition",
    Condition { bound: BoundLoop::default(), waiters: Waiters::default(), lock: Slot::empty() };
    bound, waiters, lock);

static WAIT: Kind = Kind { name: "wait", qualname: "Condition.wait", begin: begin_wait, resume: resume_wait };
static WAIT_FOR: Kind =
    Kind { name: "wait_for", qualname: "Condition.wait_for", begin: ask, resume: resume_wait_for };

/// Whether this version hands a notification on that somebody could not take, and tells of the last of several
/// cancellations (from 3.13 on).
static CAREFUL: Global<bool> = Global::new();

/// The stages of `wait()`: for a notification, by a future in `first`; then for the lock, with the exception that ended
/// the first wait in `first`, and the cancellation that arrived since in `second`.
const NOTIFIED: u8 = 1;
const LOCKED: u8 = 2;

impl Inst<Condition> {
    /// The lock, if what programs see of both is ours alone.
    #[inline]
    pub fn plain_lock(&self) -> Option<Own<Lock>> {
        let lock = self.lock.get()?;
        let lock = Inst::<Lock>::exactly(&lock)?;
        (self.is_plain() && lock.is_plain()).then(|| lock.own())
    }

    fn is_locked(&self) -> Fallible<bool> {
        let lock = self.lock.get();
        match lock.as_deref().and_then(Inst::<Lock>::exactly) {
            Some(lock) if self.is_plain() && lock.is_plain() => Ok(lock.is_locked()),
            _ => self.obj().call_method(&state().names.locked, &[])?.truthy(),
        }
    }

    /// `self.acquire()`.
    pub fn acquire(&self) -> Fallible<Ref> {
        match self.plain_lock() {
            Some(lock) => lock::acquire(&lock).map(Own::into_ref),
            None => self.obj().call_method(&state().names.acquire, &[]),
        }
    }

    /// `self.release()`.
    pub fn release(&self) -> Fallible<()> {
        match self.plain_lock() {
            Some(lock) => lock::release(&lock),
            None => self.obj().call_method(&state().names.release, &[]).map(drop),
        }
    }

    /// `self.wait()`.
    pub fn wait(&self) -> Fallible<Ref> {
        if self.is_plain() {
            return operation::create(&WAIT, self.obj()).map(Own::into_ref);
        }
        self.obj().call_method(&state().names.wait, &[])
    }

    /// `self.notify_all()`.
    pub fn notify_all(&self) -> Fallible<()> {
        if self.is_plain() {
            self.check_locked()?;
            return self.waiters.wake(usize::MAX, boolean(false)).map(drop);
        }
        let count = object::int(self.waiters.len()? as i64)?;
        self.obj().call_method(&state().names.notify, &[&count]).map(drop)
    }

    fn check_locked(&self) -> Fallible<()> {
        if self.is_locked()? {
            return Ok(());
        }
        Err(Raised::runtime_error("cannot notify on un-acquired lock"))
    }

    /// `self._notify(count)`, in versions that have it.
    fn hand_on(&self, count: &Obj) -> Fallible<()> {
        if self.is_plain() || !*CAREFUL.get() {
            return hand_on(self, count);
        }
        self.obj().call_method(&state().names.notify_private, &[count]).map(drop)
    }
}

/// Notifies so many of those who wait; it may be a float, as of `math.inf`.
fn hand_on(this: &Inst<Condition>, count: &Obj) -> Fallible<()> {
    let count = match count.is_float() {
        true => count.to_f64()?.ceil() as usize,
        false => usize::try_from(count.to_i64_or_nearest()?).unwrap_or(0),
    };
    this.waiters.wake(count, boolean(false)).map(drop)
}

fn begin_wait(operation: &Inst<Operation>) -> Fallible<Step> {
    Condition::of(operation, |this| {
        if !this.is_locked()? {
            return Err(Raised::runtime_error("cannot wait on un-acquired lock"));
        }
        let careful = *CAREFUL.get();
        let early = if careful { Some(this.bound.create_future(this.obj())?) } else { None };
        this.release()?;
        let future = match early {
            Some(future) => future,
            None => match this.bound.create_future(this.obj()) {
                Ok(future) => future,
                Err(raised) => return lock_again(operation, this, Some(raised.take())),
            },
        };
        this.waiters.push(future.clone())?;
        operation.stage.set(NOTIFIED);
        operation.first.set(future.clone());
        Ok(Step::Await(future))
    })
}

/// The first wait is over, with this exception or well; the lock is taken again whatever happened.
fn lock_again(operation: &Inst<Operation>, this: &Inst<Condition>, exception: Option<Ref>) -> Fallible<Step> {
    operation.stage.set(LOCKED);
    match exception {
        Some(exception) => operation.first.set(exception),
        None => operation.first.clear(),
    }
    match this.plain_lock() {
        Some(lock) if lock::try_acquire(&lock)? => locked(operation, this),
        Some(lock) => lock::acquire(&lock).map(|acquire| Step::Await(acquire.into_ref())),
        None => this.acquire().map(Step::Await),
    }
}

fn resume_wait(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    let exception = outcome.err().map(Raised::take);
    Condition::of(operation, |this| {
        if operation.stage.get() == NOTIFIED {
            this.waiters.remove(&operation.first.get_or_none())?;
            return lock_again(operation, this, exception);
        }
        let before = operation.first.get();
        match exception {
            Some(cancelled) if cancelled.derives_from(&state().cancelled_error) => {
                in_context_of(&cancelled, before.as_deref());
                operation.second.set(cancelled);
                this.acquire().map(Step::Await)
            }
            Some(fatal) => {
                in_context_of(&fatal, before.as_deref());
                fail(this, fatal)
            }
            None => locked(operation, this),
        }
    })
}

/// The lock is ours again.
fn locked(operation: &Inst<Operation>, this: &Inst<Condition>) -> Fallible<Step> {
    match (operation.second.get(), operation.first.get()) {
        (None, None) => Ok(Step::Done(boolean(true).own())),
        (None, Some(before)) => fail(this, before),
        (Some(cancelled), _) if *CAREFUL.get() => fail(this, cancelled),
        (Some(_), before) => {
            let cancelled = state().cancelled_error.call(&[])?;
            in_context_of(&cancelled, before.as_deref());
            fail(this, cancelled)
        }
    }
}

/// Raises what ended the wait. It may have come after a notification, which somebody else gets then.
fn fail(this: &Inst<Condition>, exception: Ref) -> Fallible<Step> {
    if *CAREFUL.get() {
        this.hand_on(&*object::int(1)?)?;
    }
    Err(Raised::from_exception(exception))
}

/// An exception that was raised while another one was on its way.
fn in_context_of(exception: &Ref, before: Option<&Obj>) {
    if let Some(before) = before
        && !before.is(exception)
        && context_of(exception).is_none()
    {
        set_context(exception, before);
    }
}

/// Whether the predicate holds; if not, another wait.
fn ask(operation: &Inst<Operation>) -> Fallible<Step> {
    let result = operation.first.get_or_none().call(&[])?;
    if result.truthy()? {
        return Ok(Step::Done(result));
    }
    Condition::of(operation, |this| this.wait().map(Step::Await))
}

fn resume_wait_for(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    outcome?;
    ask(operation)
}

/// A condition over a lock of its own.
pub fn create() -> Fallible<Own<Condition>> {
    let this = Own::<Condition>::new()?;
    this.lock.set(Own::<Lock>::new()?.into_ref());
    Ok(this)
}

fn py_init(this: &Inst<Condition>, args: Args<'_>) -> Fallible<()> {
    let signature = Signature { function: "Condition.__init__", names: ["lock"], positional: 1, required: 0 };
    let [lock] = args.parse(&signature)?;
    let lock = match lock.filter(|lock| !lock.is_none()) {
        None => Own::<Lock>::new()?.into_ref(),
        Some(lock) => {
            for name in [&state().names.locked, &state().names.acquire, &state().names.release] {
                lock.get(name)?;
            }
            lock.own()
        }
    };
    this.lock.set(lock);
    Ok(())
}

fn py_lock(this: &Inst<Condition>) -> Fallible<Ref> {
    Ok(this.lock.get_or_none())
}

fn py_set_lock(this: &Inst<Condition>, value: Option<&Obj>) -> Fallible<()> {
    this.lock.assign(value);
    Ok(())
}

fn py_locked(this: &Inst<Condition>) -> Fallible<Ref> {
    this.lock.get_or_none().call_method(&state().names.locked, &[])
}

fn py_acquire(this: &Inst<Condition>) -> Fallible<Ref> {
    this.lock.get_or_none().call_method(&state().names.acquire, &[])
}

fn py_release(this: &Inst<Condition>) -> Fallible<Ref> {
    this.lock.get_or_none().call_method(&state().names.release, &[])
}

fn py_wait(this: &Inst<Condition>) -> Fallible<Ref> {
    operation::create(&WAIT, this.obj()).map(Own::into_ref)
}

fn py_wait_for(this: &Inst<Condition>, args: Args<'_>) -> Fallible<Ref> {
    let signature =
        Signature { function: "Condition.wait_for", names: ["predicate"], positional: 1, required: 1 };
    let [predicate] = args.parse(&signature)?;
    let operation = operation::create(&WAIT_FOR, this.obj())?;
    operation.first.set(predicate.unwrap_or(none()).own());
    Ok(operation.into_ref())
}

fn py_notify(this: &Inst<Condition>, args: Args<'_>) -> Fallible<Ref> {
    let [count] = match args.positional() {
        [] if !args.has_keywords() => [None],
        _ => {
            args.parse(&Signature { function: "Condition.notify", names: ["n"], positional: 1, required: 0 })?
        }
    };
    this.check_locked()?;
    match count {
        Some(count) => this.hand_on(count)?,
        None if this.is_plain() => drop(this.waiters.wake_one(boolean(false))?),
        None => this.hand_on(&*object::int(1)?)?,
    }
    Ok(none().own())
}

fn py_notify_private(this: &Inst<Condition>, count: &Obj) -> Fallible<Ref> {
    hand_on(this, count)?;
    Ok(none().own())
}

fn py_notify_all(this: &Inst<Condition>) -> Fallible<Ref> {
    this.notify_all()?;
    Ok(none().own())
}

fn py_repr(this: &Inst<Condition>) -> Fallible<Ref> {
    repr_with(this.obj(), if this.is_locked()? { "locked" } else { "unlocked" }, &this.waiters)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = class_methods!(Condition, "Condition";
        c"acquire" => none py_acquire, c"acquire($self, /)\n--\n\nAcquire the lock.";
        c"release" => none py_release, c"release($self, /)\n--\n\nRelease the lock.";
        c"locked" => none py_locked, c"locked($self, /)\n--\n\nReturn True if the lock is acquired.";
        c"wait" => none py_wait,
            c"wait($self, /)\n--\n\nWait until notified.\n\nReleases the lock, waits for notify() or notify_all(), \
              acquires the lock again and\nreturns True. Raises RuntimeError if the lock is not acquired.";
        c"wait_for" => any py_wait_for,
            c"wait_for($self, predicate)\n--\n\nWait until the predicate becomes true, and return its value.";
        c"notify" => any py_notify,
            c"notify($self, n=1)\n--\n\nWake up n of the tasks that wait, or all if they are fewer.\n\nRaises \
              RuntimeError if the lock is not acquired.";
        c"notify_all" => none py_notify_all, c"notify_all($self, /)\n--\n\nWake up all tasks that wait.";
    );
    methods.extend(context_manager_methods!(Condition, "Condition"));
    methods.extend(get_loop_method!(Condition, "Condition"));
    methods.extend(getstate_method!(Condition, "Condition"; c"_lock", c"_waiters", c"_loop"));
    let mut attributes: Vec<_> = waiting_attributes!(Condition, "Condition", show);
    attributes.extend(class_attributes!(Condition, "Condition"; c"_lock" => py_lock, py_set_lock;));
    let original = object::import(c"asyncio.locks")?.get(&*object::interned(c"Condition")?)?;
    let careful = original.get_if_there(&*object::interned(c"_notify")?)?.is_some();
    CAREFUL.set(careful);
    if careful {
        methods.extend(class_methods!(Condition, "Condition";
            c"_notify" => one py_notify_private, c"_notify($self, n, /)\n--\n\nWake up n of the tasks that wait.";
        ));
    }
    crate::cpython::spec::define::<Condition>(Spec {
        base: None,
        doc: Some(
            c"Condition(lock=None)\n--\n\nLets tasks that hold a lock wait until another one notifies them.",
        ),
        methods,
        attributes,
        slots: class_slots!(Condition, "Condition"; init py_init, repr py_repr),
    })
}
