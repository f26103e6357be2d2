//! `Operation`: what our coroutine functions return (`lock.acquire()`, `queue.get()`, `sleep()`).
//!
//! Not a generator in disguise but an object with a coroutine's methods, whose iteration is native. What it does is
//! told by its [`Kind`]: two functions, one for the beginning and one for the end of each wait. They answer with a
//! [`Step`], and everything that coroutines have in common is here: nothing happens before it is awaited, it is
//! awaited once, `throw` and `close` reach what is awaited first, a dropped one is closed, one that was never
//! awaited warns.
//!
//! When an operation suspends it yields what the thing it awaits yields: at the bottom a future of its loop, so that
//! any driver understands it. It never shows `_asyncio_future_blocking` itself. The methods are in `methods`.

use std::cell::Cell;

use velodrome_engine::TimerKey;

use crate::cpython::coroutine::{self, Sent};
use crate::cpython::object::{self, none};
use crate::cpython::recursion;
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::future::{self, Future};
use crate::state::state;
use crate::task::Task;

mod methods;

pub use methods::{define, py_close, py_send, py_throw};

/// What an operation does, and what it is called.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub qualname: &'static str,
    /// From the first resumption to the first wait, or to the end.
    pub begin: fn(&Inst<Operation>) -> Fallible<Step>,
    /// From the end of a wait, with what came of it or was thrown into it, to the next one or to the end.
    pub resume: fn(&Inst<Operation>, Fallible<Ref>) -> Fallible<Step>,
}

/// How far a coroutine came.
#[derive(Debug)]
pub enum Step {
    /// `await` this: one of our futures, tasks or operations, or anything awaitable.
    Await(Ref),
    /// A bare `yield`: the driver goes on at once.
    GiveWay,
    /// `return` this.
    Done(Ref),
}

/// The class `Operation`.
#[derive(Debug)]
pub struct Operation {
    kind: Cell<&'static Kind>,
    status: Cell<Status>,
    /// Where in its own course the operation is; the kind's to use.
    pub stage: Cell<u8>,
    /// A number that it needs to remember; the kind's to use.
    pub number: Cell<usize>,
    /// Whose operation it is (a lock, a queue), and what else it needs to remember; the kind's to use.
    pub owner: Slot,
    pub first: Slot,
    pub second: Slot,
    /// The timer of a sleep.
    pub timer: Cell<TimerKey>,
    /// What it waits for: a future or an operation of ours, or an iterator.
    awaited: Slot,
    /// Where it was made, while coroutines' origins are tracked (`cr_origin`).
    origin: Slot,
    /// Whether it was finalised, which CPython does only once.
    finalized: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Not awaited yet.
    Created,
    /// Gave way; whoever resumes it only goes on.
    GaveWay,
    /// Waits for what `awaited` holds.
    Waiting,
    /// Running just now.
    Running,
    /// Over: nothing is held any more.
    Closed,
}

static HOME: Home = Home::new();

/// The kind of what nobody has begun.
static NOTHING: Kind = Kind {
    name: "",
    qualname: "",
    begin: |_| Ok(Step::Done(none().own())),
    resume: |_, outcome| outcome.map(Step::Done),
};

impl Class for Operation {
    const NAME: &'static std::ffi::CStr = c"velodrome.Operation";
    const SUBCLASSED: bool = false;
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;
    const SPARED: usize = 64;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> Operation {
        Operation {
            kind: Cell::new(&NOTHING),
            status: Cell::new(Status::Closed),
            stage: Cell::new(0),
            number: Cell::new(0),
            owner: Slot::empty(),
            first: Slot::empty(),
            second: Slot::empty(),
            timer: Cell::new(TimerKey::from_raw((0, 0))),
            awaited: Slot::empty(),
            origin: Slot::empty(),
            finalized: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<Operation>, visitor: &mut Visitor<'_>) {
        for slot in [&this.owner, &this.first, &this.second, &this.awaited, &this.origin] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Operation>) {
        for slot in [&this.owner, &this.first, &this.second, &this.awaited, &this.origin] {
            slot.clear();
        }
    }

    #[inline]
    fn dying(_this: &Inst<Operation>) {
        crate::cpython::stop_iteration::forget();
    }

    fn finalize(this: &Inst<Operation>) {
        let outcome = match this.status.get() {
            Status::Created => warn_never_awaited(this),
            Status::Waiting | Status::GaveWay => close(this),
            Status::Running | Status::Closed => Ok(()),
        };
        if let Err(raised) = outcome {
            raised.report(Some(this.obj()));
        }
    }

    fn finalized(&self) {
        self.finalized.set(true);
    }

    #[inline]
    fn needs_finalizing(&self) -> bool {
        self.status.get() != Status::Closed
    }

    #[inline]
    fn link(&self) -> Option<&Slot> {
        let ended = self.status.get() == Status::Closed && !self.finalized.get() && self.origin.is_empty();
        ended.then_some(&self.owner)
    }
}

impl Operation {
    /// Ends it: what it holds is given up, as a coroutine's frame is cleared.
    #[inline]
    fn end(&self) {
        self.status.set(Status::Closed);
        for slot in [&self.owner, &self.first, &self.second, &self.awaited] {
            if !slot.is_empty() {
                slot.clear();
            }
        }
    }
}

/// A new operation, which nothing has begun yet.
#[inline]
pub fn create(kind: &'static Kind, owner: &Obj) -> Fallible<Own<Operation>> {
    let this = unowned(kind)?;
    this.owner.fill(owner.own());
    Ok(this)
}

/// A new operation of nobody's.
#[inline]
pub fn unowned(kind: &'static Kind) -> Fallible<Own<Operation>> {
    let this = match Own::<Operation>::spared() {
        Some(this) => this,
        None => unspared()?,
    };
    let operation: &Operation = &this;
    operation.kind.set(kind);
    operation.stage.set(0);
    operation.number.set(0);
    if crate::event_loop::any_debug() {
        note_origin(operation)?;
    }
    operation.status.set(Status::Created);
    Ok(this)
}

#[inline(never)]
fn unspared() -> Fallible<Own<Operation>> {
    Own::new()
}

#[cold]
fn note_origin(operation: &Operation) -> Fallible<()> {
    if let Some(origin) = origin()? {
        operation.origin.set(origin);
    }
    Ok(())
}

/// Warns as for Python's coroutines, and says where this one was made if that is known.
fn warn_never_awaited(this: &Inst<Operation>) -> Fallible<()> {
    if this.origin.is_empty() {
        let message = format!("coroutine '{}' was never awaited", this.kind.get().qualname);
        return object::warn(object::runtime_warning(), &message);
    }
    let warn = object::import(c"warnings")?.get(&*object::interned(c"_warn_unawaited_coroutine")?)?;
    warn.call(&[this.obj()]).map(drop)
}

/// The stack as `cr_origin` has it, innermost first, if origins are tracked on this thread.
fn origin() -> Fallible<Option<Ref>> {
    let depth = object::interned(c"get_coroutine_origin_tracking_depth")?;
    let depth = object::import(c"sys")?.call_method(&depth, &[])?.to_i64()?;
    if depth <= 0 {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let mut frame = coroutine::current_frame();
    while let (Some(current), true) = (&frame, (entries.len() as i64) < depth) {
        let code = current.get(&*object::interned(c"f_code")?)?;
        let file = code.get(&*object::interned(c"co_filename")?)?;
        let line = current.get(&*object::interned(c"f_lineno")?)?;
        let name = code.get(&*object::interned(c"co_name")?)?;
        entries.push(object::tuple(&[&file, &line, &name])?);
        let back = current.get(&*object::interned(c"f_back")?)?;
        frame = (!back.is_none()).then_some(back);
    }
    object::tuple(&entries.iter().map(|entry| &**entry).collect::<Vec<_>>()).map(Some)
}

// ---------------------------------------------------------------------------------------------------------------
// Driving.

/// Resumes the operation.
#[inline]
pub fn next(this: &Inst<Operation>) -> Fallible<Sent> {
    match this.status.replace(Status::Running) {
        Status::Created => take(this, (this.kind.get().begin)(this)),
        Status::Waiting => {
            let awaited = this.awaited.get_or_none();
            came_of(this, drive(&awaited))
        }
        Status::GaveWay => go_on(this, Ok(none().own())),
        Status::Running => Err(executing()),
        Status::Closed => {
            this.status.set(Status::Closed);
            Err(reused())
        }
    }
}

#[cold]
fn executing() -> Raised {
    Raised::value_error("coroutine already executing")
}

#[cold]
fn reused() -> Raised {
    Raised::runtime_error("cannot reuse already awaited coroutine")
}

/// Resumes what is awaited.
#[inline]
fn drive(awaited: &Obj) -> Fallible<Sent> {
    if let Some(future) = Inst::<Future>::exactly(awaited) {
        return future::next(future);
    }
    if let Some(operation) = Inst::<Operation>::exactly(awaited) {
        // Each level is one of the native stack, which has an end.
        return recursion::guarded(c" while awaiting a coroutine", || next(operation));
    }
    if let Some(task) = Inst::<Task>::exactly(awaited) {
        return future::next(task);
    }
    coroutine::send(awaited)
}

/// What is awaited was resumed: the wait goes on, or is over.
#[inline]
fn came_of(this: &Inst<Operation>, sent: Fallible<Sent>) -> Fallible<Sent> {
    match sent {
        Ok(Sent::Yielded(value)) => {
            this.status.set(Status::Waiting);
            Ok(Sent::Yielded(value))
        }
        Ok(Sent::Returned(value)) => go_on(this, Ok(value)),
        Err(raised) => go_on(this, Err(raised)),
    }
}

/// A wait is over.
#[inline]
fn go_on(this: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Sent> {
    take(this, (this.kind.get().resume)(this, outcome))
}

/// Takes a step, and others if that does not suspend or end the operation.
#[inline(always)]
fn take(this: &Inst<Operation>, step: Fallible<Step>) -> Fallible<Sent> {
    match step {
        Ok(Step::Done(value)) => {
            this.end();
            Ok(Sent::Returned(value))
        }
        Ok(Step::GiveWay) => {
            this.status.set(Status::GaveWay);
            Ok(Sent::Yielded(none().own()))
        }
        step => settle(this, step),
    }
}

/// Takes steps until the operation suspends or ends.
#[inline(never)]
fn settle(this: &Inst<Operation>, mut step: Fallible<Step>) -> Fallible<Sent> {
    loop {
        match step {
            Ok(Step::Done(value)) => {
                this.end();
                return Ok(Sent::Returned(value));
            }
            Ok(Step::Await(awaitable)) => match begin_await(this, awaitable) {
                Ok(Sent::Yielded(value)) => {
                    this.status.set(Status::Waiting);
                    return Ok(Sent::Yielded(value));
                }
                Ok(Sent::Returned(value)) => step = (this.kind.get().resume)(this, Ok(value)),
                Err(raised) => step = (this.kind.get().resume)(this, Err(raised)),
            },
            Ok(Step::GiveWay) => {
                this.status.set(Status::GaveWay);
                return Ok(Sent::Yielded(none().own()));
            }
            Err(raised) => {
                this.end();
                return Err(refuse_stop_iteration(raised, COROUTINE));
            }
        }
    }
}

/// The first resumption of what is awaited from here on.
#[inline]
fn begin_await(this: &Inst<Operation>, awaitable: Ref) -> Fallible<Sent> {
    if let Some(future) = Inst::<Future>::exactly(&awaitable) {
        this.awaited.set(awaitable.clone());
        return future::next(future);
    }
    let ours = Inst::<Operation>::exactly(&awaitable)
        .is_some_and(|operation| operation.status.get() == Status::Created)
        || Inst::<Task>::exactly(&awaitable).is_some();
    let awaited = if ours { awaitable } else { coroutine::iterator_of(&awaitable)? };
    this.awaited.set(awaited.clone());
    drive(&awaited)
}

const COROUTINE: &str = "coroutine raised StopIteration";
pub const GENERATOR: &str = "generator raised StopIteration";

/// A `StopIteration` cannot leave a coroutine, or a generator.
#[inline]
pub fn refuse_stop_iteration(raised: Raised, refusal: &str) -> Raised {
    if !raised.matches(object::stop_iteration()) {
        return raised;
    }
    let exception = raised.take();
    let wrapped = object::text(refusal).and_then(|text| object::runtime_error().call(&[&*text]));
    match wrapped {
        Ok(wrapped) => {
            crate::cpython::raised::set_cause_and_context(&wrapped, &exception);
            Raised::from_exception(wrapped)
        }
        Err(raised) => raised,
    }
}

/// Throws an exception into the operation, which means: into what it awaits, if it awaits something.
fn throw(this: &Inst<Operation>, exception: Ref) -> Fallible<Sent> {
    // A StopIteration that meets an await is a return; so is one that meets a coroutine not yet begun, from 3.12 on.
    // What gives way is a generator inside the coroutine.
    let stops = exception.derives_from(object::stop_iteration());
    match this.status.replace(Status::Running) {
        Status::Created => {
            this.end();
            let raised = Raised::from_exception(exception);
            Err(if stops && state().minor >= 12 { raised } else { refuse_stop_iteration(raised, COROUTINE) })
        }
        Status::GaveWay => {
            let raised = refuse_stop_iteration(Raised::from_exception(exception), GENERATOR);
            go_on(this, Err(raised))
        }
        Status::Waiting => {
            let awaited = this.awaited.get_or_none();
            if exception.derives_from(object::generator_exit()) {
                let closed = close_awaited(&awaited);
                return go_on(this, closed.and_then(|()| Err(Raised::from_exception(exception))));
            }
            if let Some(operation) = Inst::<Operation>::exactly(&awaited) {
                return came_of(this, throw(operation, exception));
            }
            let passed_on = match is_plain_future(&awaited) {
                true => Ok(false),
                false => coroutine::takes_throw(&awaited, &state().names.throw),
            };
            // Where it cannot even be asked, the operation goes on waiting, as a coroutine does.
            if !passed_on.inspect_err(|_| this.status.set(Status::Waiting))? {
                let raised = Raised::from_exception(exception);
                let outcome =
                    if stops { crate::cpython::stop_iteration::returned(raised) } else { Err(raised) };
                return go_on(this, outcome);
            }
            came_of(this, coroutine::throw(&awaited, &state().names.throw, &exception))
        }
        Status::Running => Err(executing()),
        Status::Closed => {
            this.status.set(Status::Closed);
            Err(reused())
        }
    }
}

/// One of our own, whose iteration holds nothing that could be closed or thrown into.
fn is_plain_future(awaited: &Obj) -> bool {
    Inst::<Future>::exactly(awaited).is_some() || Inst::<Task>::exactly(awaited).is_some()
}

/// Ends the operation where it is, by `GeneratorExit`.
fn close(this: &Inst<Operation>) -> Fallible<()> {
    match this.status.replace(Status::Running) {
        Status::Running => return Err(executing()),
        Status::Created | Status::Closed => {
            this.end();
            return Ok(());
        }
        Status::GaveWay => {}
        Status::Waiting => {
            if let Err(raised) = close_awaited(&this.awaited.get_or_none()) {
                return closed(go_on(this, Err(raised)));
            }
        }
    }
    closed(go_on(this, Err(Raised::bare(object::generator_exit()))))
}

fn close_awaited(awaited: &Obj) -> Fallible<()> {
    if let Some(operation) = Inst::<Operation>::exactly(awaited) {
        return close(operation);
    }
    if is_plain_future(awaited) {
        return Ok(());
    }
    match awaited.get_if_there(&state().names.close) {
        Ok(Some(close)) => close.call(&[]).map(drop),
        Ok(None) => Ok(()),
        Err(raised) => {
            raised.report(Some(awaited));
            Ok(())
        }
    }
}

fn closed(outcome: Fallible<Sent>) -> Fallible<()> {
    match outcome {
        Ok(Sent::Returned(_)) => Ok(()),
        Ok(Sent::Yielded(_)) => Err(Raised::runtime_error("coroutine ignored GeneratorExit")),
        Err(raised) if raised.matches(object::generator_exit()) => {
            raised.discard();
            Ok(())
        }
        Err(raised) => Err(raised),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What is asked of an operation by those who show it.

pub fn qualname(this: &Inst<Operation>) -> &'static str {
    this.kind.get().qualname
}

/// What it waits for, or `None`.
pub fn awaited(this: &Inst<Operation>) -> Ref {
    this.awaited.get_or_none()
}

pub fn is_suspended(this: &Inst<Operation>) -> bool {
    matches!(this.status.get(), Status::GaveWay | Status::Waiting)
}

pub fn is_running(this: &Inst<Operation>) -> bool {
    this.status.get() == Status::Running
}

pub fn is_closed(this: &Inst<Operation>) -> bool {
    this.status.get() == Status::Closed
}
