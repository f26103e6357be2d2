//! `sleep`: a coroutine that suspends for a time.
//!
//! Not a generator in disguise but an object with a coroutine's methods, whose iteration is native. When it
//! suspends it yields a future of ours, so that any driver understands it; the timer resolves that future without a
//! handle between.

use std::cell::Cell;

use velodrome_engine::TimerKey;

use crate::cpython::coroutine::{self, Sent};
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor};
use crate::event_loop::EventLoop;
use crate::future::{self, Future};
use crate::job::Job;
use crate::sleep_iter::SleepIter;
use crate::state::state;

/// The class `Sleep`.
#[derive(Debug)]
pub struct Sleep {
    stage: Cell<Stage>,
    delay: Slot,
    result: Slot,
    /// What is waited for: a future of the running loop.
    future: Slot,
    /// The timer: ours, or a handle of another loop.
    timer: Cell<Option<TimerKey>>,
    handle: Slot,
    /// Where the sleep was made, while coroutines' origins are tracked (`cr_origin`).
    origin: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not awaited yet.
    Created,
    /// Gave way once (`sleep(0)`).
    GaveWay,
    /// Waits for the future.
    Waiting,
    /// Running Python just now (a loop's method, or the future of another loop).
    Running,
    Closed,
}

static HOME: Home = Home::new();

impl Class for Sleep {
    const NAME: &'static std::ffi::CStr = c"velodrome.Sleep";
    const SUBCLASSED: bool = false;
    const FINALIZED: bool = true;
    const KEPT: usize = crate::cpython::class::KEPT;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> Sleep {
        Sleep {
            stage: Cell::new(Stage::Closed),
            delay: Slot::empty(),
            result: Slot::empty(),
            future: Slot::empty(),
            timer: Cell::new(None),
            handle: Slot::empty(),
            origin: Slot::empty(),
        }
    }

    fn traverse(this: &Inst<Sleep>, visitor: &mut Visitor<'_>) {
        for slot in [&this.delay, &this.result, &this.future, &this.handle, &this.origin] {
            visitor.slot(slot);
        }
    }

    fn clear(this: &Inst<Sleep>) {
        for slot in [&this.delay, &this.result, &this.future, &this.handle, &this.origin] {
            slot.clear();
        }
    }

    fn finalize(this: &Inst<Sleep>) {
        let outcome = match this.stage.get() {
            Stage::Created => warn_never_awaited(this),
            Stage::Waiting => cancel_timer(this),
            _ => Ok(()),
        };
        if let Err(raised) = outcome {
            raised.report(Some(this.obj()));
        }
    }

    #[inline]
    fn needs_finalizing(&self) -> bool {
        matches!(self.stage.get(), Stage::Created | Stage::Waiting)
    }
}

/// Warns as for Python's coroutines, and says where this one was made if that is known.
fn warn_never_awaited(this: &Inst<Sleep>) -> Fallible<()> {
    if this.origin.is_empty() {
        return object::warn(object::runtime_warning(), c"coroutine 'sleep' was never awaited");
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

/// `sleep(delay, result=None)`.
#[inline]
pub fn create(delay: &Obj, result: Option<&Obj>) -> Fallible<Own<Sleep>> {
    let sleep = Own::<Sleep>::new()?;
    sleep.delay.set(delay.own());
    if let Some(result) = result {
        sleep.result.set(result.own());
    }
    if crate::event_loop::any_debug()
        && let Some(origin) = origin()?
    {
        sleep.origin.set(origin);
    }
    sleep.stage.set(Stage::Created);
    Ok(sleep)
}

/// The delay in seconds where it is a plain number; others, and an `int` that no `float` can hold, are compared and
/// added as they are.
fn plain_delay(delay: &Obj) -> Fallible<Option<f64>> {
    if delay.is_float() || (delay.is_int() && delay.to_i64_or_nearest()?.unsigned_abs() < 1 << 53) {
        return delay.to_f64().map(Some);
    }
    Ok(None)
}

/// From 3.13 on; before, asyncio goes on with it.
fn refuse_nan(seconds: f64) -> Fallible<()> {
    if seconds.is_nan() && state().minor >= 13 {
        return Err(Raised::value_error("Invalid delay: NaN (not a number)"));
    }
    Ok(())
}

/// Resumes the sleep.
#[inline]
pub fn next(this: &Inst<Sleep>) -> Fallible<Sent> {
    match this.stage.get() {
        Stage::Created => start(this),
        Stage::GaveWay => {
            this.stage.set(Stage::Closed);
            Ok(Sent::Returned(this.result.take().unwrap_or_else(|| none().own())))
        }
        Stage::Waiting => resume(this),
        Stage::Running => Err(Raised::value_error("coroutine already executing")),
        Stage::Closed => Err(Raised::runtime_error("cannot reuse already awaited coroutine")),
    }
}

fn start(this: &Inst<Sleep>) -> Fallible<Sent> {
    this.stage.set(Stage::Closed);
    let Some(delay) = this.delay.take() else { return Err(Raised::runtime_error("sleep without a delay")) };
    if delay.is(&state().zero) {
        this.stage.set(Stage::GaveWay);
        return Ok(Sent::Yielded(none().own()));
    }
    let plain = plain_delay(&delay)?;
    let at_once = match plain {
        Some(seconds) => {
            refuse_nan(seconds)?;
            seconds <= 0.0
        }
        None => delay.is_at_most(&state().zero)?,
    };
    if at_once {
        this.stage.set(Stage::GaveWay);
        return Ok(Sent::Yielded(none().own()));
    }
    if plain.is_none() && state().minor >= 13 {
        refuse_nan(delay.to_f64()?)?;
    }
    let Some(event_loop) = crate::registry::running_loop()? else {
        return Err(Raised::runtime_error("no running event loop"));
    };
    let ours = Inst::<EventLoop>::of(&event_loop).filter(|ours| {
        let hooks = ours.hooks();
        !(hooks.call_later || hooks.call_at || hooks.time || hooks.create_future)
    });
    if let (Some(ours), Some(seconds)) = (ours, plain) {
        ours.check_thread()?;
        let future = future::create(ours)?;
        let at = crate::clock::at(crate::clock::seconds() + seconds);
        let key = ours.with_engine(|engine| engine.timer(at, Job::Resolve(future.clone())))?;
        this.timer.set(Some(key));
        let sent = future::next(&*future);
        this.future.set(future.into_ref());
        this.stage.set(Stage::Waiting);
        return sent;
    }
    this.stage.set(Stage::Running);
    let sent = start_elsewhere(this, &event_loop, &delay);
    this.stage.set(if sent.is_ok() { Stage::Waiting } else { Stage::Closed });
    sent
}

/// On a loop that is not ours, or whose methods are replaced: through its public methods.
fn start_elsewhere(this: &Inst<Sleep>, event_loop: &Obj, delay: &Obj) -> Fallible<Sent> {
    let names = &state().names;
    let future = event_loop.call_method(&names.create_future, &[])?;
    let release = &state().set_result_unless_cancelled;
    let handle = event_loop.call_method(&names.call_later, &[delay, release, &future, none()])?;
    this.handle.set(handle);
    let iterator = future.call_method(&*object::interned(c"__await__")?, &[])?;
    this.future.set(iterator.clone());
    coroutine::send(&iterator)
}

/// The driver says that what was waited for is done.
fn resume(this: &Inst<Sleep>) -> Fallible<Sent> {
    let Some(future) = this.future.get() else { return Err(Raised::runtime_error("sleep without a future")) };
    let sent = match Inst::<Future>::exactly(&future) {
        Some(future) => future::next(future),
        None => {
            this.stage.set(Stage::Running);
            coroutine::send(&future)
        }
    };
    match sent {
        Ok(Sent::Yielded(again)) => {
            this.stage.set(Stage::Waiting);
            Ok(Sent::Yielded(again))
        }
        Ok(Sent::Returned(_)) => {
            // Our own future has its result from the timer, which is gone then.
            this.timer.set(None);
            finish(this)?;
            Ok(Sent::Returned(this.result.take().unwrap_or_else(|| none().own())))
        }
        Err(raised) => {
            let exception = raised.take();
            finish(this)?;
            Err(Raised::from_exception(exception))
        }
    }
}

/// No more waiting: the timer goes, as asyncio's `finally: handle.cancel()`.
fn finish(this: &Inst<Sleep>) -> Fallible<()> {
    this.stage.set(Stage::Closed);
    let outcome = cancel_timer(this);
    this.future.clear();
    outcome
}

fn cancel_timer(this: &Inst<Sleep>) -> Fallible<()> {
    if let (Some(key), Some(future)) = (this.timer.take(), this.future.get())
        && let Some(event_loop) = Inst::<Future>::of(&future).and_then(|future| future::loop_of(future).ok())
    {
        let job = Inst::<EventLoop>::of(&event_loop).and_then(|ours| ours.cancel_timer(key));
        drop(job);
    }
    match this.handle.take() {
        Some(handle) => handle.call_method(&state().names.cancel, &[]).map(drop),
        None => Ok(()),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods of a coroutine.

pub fn py_send(this: &Inst<Sleep>, value: &Obj) -> Fallible<Ref> {
    if this.stage.get() == Stage::Created && !value.is_none() {
        return Err(Raised::type_error("can't send non-None value to a just-started coroutine"));
    }
    coroutine::give_method(next(this))
}

pub fn py_throw(this: &Inst<Sleep>, args: Args<'_>) -> Fallible<Ref> {
    let stage = this.stage.get();
    match stage {
        Stage::Running => return Err(Raised::value_error("coroutine already executing")),
        Stage::Closed => return Err(Raised::runtime_error("cannot reuse already awaited coroutine")),
        _ => {}
    }
    let exception = coroutine::raise_thrown(args.positional()).take();
    if let (Stage::Waiting, Some(iterator)) = (stage, this.future.get())
        && Inst::<Future>::exactly(&iterator).is_none()
    {
        return throw_elsewhere(this, &iterator, &exception);
    }
    finish(this)?;
    // A StopIteration that meets an await is a return; so is one that meets a coroutine not yet begun, from 3.12 on.
    // What gives way is a generator inside the coroutine.
    let refusal = match stage {
        Stage::GaveWay => Some("generator raised StopIteration"),
        Stage::Created if state().minor < 12 => Some("coroutine raised StopIteration"),
        _ => None,
    };
    if let (Some(refusal), true) = (refusal, exception.derives_from(object::stop_iteration())) {
        let text = object::text(refusal)?;
        let wrapped = object::runtime_error().call(&[&*text])?;
        crate::cpython::raised::set_cause_and_context(&wrapped, &exception);
        return Err(Raised::from_exception(wrapped));
    }
    Err(Raised::from_exception(exception))
}

/// Another loop's future has an iterator of its own, which may make something else of the exception.
fn throw_elsewhere(this: &Inst<Sleep>, iterator: &Obj, exception: &Obj) -> Fallible<Ref> {
    match coroutine::throw(iterator, &state().names.throw, exception) {
        Ok(Sent::Yielded(again)) => Ok(again),
        Ok(Sent::Returned(value)) => {
            finish(this)?;
            Err(crate::cpython::stop_iteration::raise(&value))
        }
        Err(raised) => {
            let exception = raised.take();
            finish(this)?;
            Err(Raised::from_exception(exception))
        }
    }
}

pub fn py_close(this: &Inst<Sleep>) -> Fallible<Ref> {
    if this.stage.get() == Stage::Running {
        return Err(Raised::value_error("coroutine already executing"));
    }
    finish(this)?;
    Ok(none().own())
}

fn py_await(this: &Inst<Sleep>) -> Fallible<Ref> {
    if matches!(this.stage.get(), Stage::GaveWay | Stage::Waiting) {
        return Err(Raised::runtime_error("coroutine is being awaited already"));
    }
    Ok(this.obj().own())
}

fn py_iter(this: &Inst<Sleep>) -> Fallible<Ref> {
    SleepIter::over(this).map(Own::into_ref)
}

fn py_name(_this: &Inst<Sleep>) -> Fallible<Ref> {
    Ok(state().names.sleep.clone())
}

fn py_awaited(this: &Inst<Sleep>) -> Fallible<Ref> {
    Ok(this.future.get_or_none())
}

fn py_running(this: &Inst<Sleep>) -> Fallible<Ref> {
    Ok(object::boolean(this.stage.get() == Stage::Running).own())
}

fn py_origin(this: &Inst<Sleep>) -> Fallible<Ref> {
    Ok(this.origin.get_or_none())
}

fn py_nothing(_this: &Inst<Sleep>) -> Fallible<Ref> {
    Ok(none().own())
}

fn py_repr(this: &Inst<Sleep>) -> Fallible<Ref> {
    object::text(&format!("<coroutine object sleep at {:p}>", std::ptr::from_ref(this)))
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let class = crate::cpython::spec::define::<Sleep>(Spec {
        doc: Some(c"What sleep() returns: a coroutine."),
        methods: class_methods!(Sleep, "Sleep";
            c"send" => one py_send, c"send($self, value, /)\n--\n\nResume the coroutine.";
            c"throw" => any py_throw,
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where the coroutine waits.";
            c"__await__" => none py_iter, c"__await__($self, /)\n--\n\nReturn an iterator that drives the coroutine.";
            c"close" => none py_close, c"close($self, /)\n--\n\nEnd the coroutine.";
        ),
        attributes: class_attributes!(Sleep, "Sleep";
            c"__name__" => py_name;
            c"__qualname__" => py_name;
            c"cr_await" => py_awaited;
            c"cr_running" => py_running;
            c"cr_frame" => py_nothing;
            c"cr_origin" => py_origin;
        ),
        slots: class_slots!(Sleep, "Sleep"; repr py_repr, iter py_await, awaits py_await, next next),
        base: None,
    })?;
    // A coroutine is awaited, not iterated over.
    crate::cpython::spec::hide_name(&class, c"__next__")?;
    crate::cpython::spec::hide_name(&class, c"__iter__")?;
    Ok(class)
}
