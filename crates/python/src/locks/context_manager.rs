//! `async with` over what has `acquire` and `release`.

use crate::cpython::object::none;
use crate::cpython::{Args, Class, Fallible, Inst, Own, Ref};
use crate::locks::condition::Condition;
use crate::locks::lock::{self, Lock};
use crate::locks::semaphore::{self, Semaphore};
use crate::operation::{self, Kind, Step};
use crate::state::state;

static ENTER: Kind = Kind {
    name: "__aenter__",
    qualname: "_ContextManagerMixin.__aenter__",
    begin: |operation| {
        let owner = operation.owner.get_or_none();
        if let Some(lock) = Inst::<Lock>::exactly(&owner).filter(|lock| lock.is_plain()) {
            return lock::begin_acquire_of(operation, lock).map(entered);
        }
        if let Some(semaphore) = Inst::<Semaphore>::of(&owner).filter(|this| semaphore::is_plain(this)) {
            return semaphore::begin_plain_acquire(operation, semaphore).map(entered);
        }
        if let Some(lock) = Inst::<Condition>::exactly(&owner).and_then(|condition| condition.plain_lock()) {
            operation.owner.set(lock.clone().into_ref());
            return lock::begin_acquire_of(operation, &lock).map(entered);
        }
        owner.call_method(&state().names.acquire, &[]).map(Step::Await)
    },
    resume: |operation, outcome| match operation.stage.get() {
        lock::WAITING => lock::resume_acquire(operation, outcome).map(entered),
        semaphore::WAITING => semaphore::resume_acquire(operation, outcome).map(entered),
        _ => outcome.map(|_| Step::Done(none().own())),
    },
};

static EXIT: Kind = Kind {
    name: "__aexit__",
    qualname: "_ContextManagerMixin.__aexit__",
    begin: |operation| {
        let owner = operation.owner.get_or_none();
        if let Some(lock) = Inst::<Lock>::exactly(&owner).filter(|lock| lock.is_plain()) {
            lock::release(lock)?;
        } else if let Some(semaphore) = Inst::<Semaphore>::of(&owner).filter(|this| semaphore::is_plain(this))
        {
            semaphore::release(semaphore)?;
        } else if let Some(condition) = Inst::<Condition>::exactly(&owner) {
            condition.release()?;
        } else {
            drop(owner.call_method(&state().names.release, &[])?);
        }
        Ok(Step::Done(none().own()))
    },
    resume: |_, outcome| outcome.map(Step::Done),
};

/// There is no use for the `as` clause.
#[inline]
fn entered(step: Step) -> Step {
    match step {
        Step::Done(_) => Step::Done(none().own()),
        step => step,
    }
}

pub fn py_enter<T: Class>(this: &Inst<T>) -> Fallible<Ref> {
    operation::create(&ENTER, this.obj()).map(Own::into_ref)
}

pub fn py_exit<T: Class>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    if args.has_keywords() || args.positional().len() != 3 {
        let [_, _, _] = args.parse(&EXIT_SIGNATURE)?;
    }
    operation::create(&EXIT, this.obj()).map(Own::into_ref)
}

/// What `__aexit__` is given.
pub const EXIT_SIGNATURE: crate::cpython::Signature<3> = crate::cpython::Signature {
    function: "_ContextManagerMixin.__aexit__",
    names: ["exc_type", "exc", "tb"],
    positional: 3,
    required: 3,
};

/// The methods of both ends.
macro_rules! context_manager_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"__aenter__" => none $crate::locks::context_manager::py_enter::<$class>,
                c"__aenter__($self, /)\n--\n\nAcquire it.";
            c"__aexit__" => any $crate::locks::context_manager::py_exit::<$class>,
                c"__aexit__($self, exc_type, exc, tb, /)\n--\n\nRelease it.";
        )
    };
}

pub(super) use context_manager_methods;
