//! `sleep`: a coroutine that suspends for a time.
//!
//! Its future is resolved by the timer without a handle between.

use velodrome_engine::TimerKey;

use crate::cpython::object::none;
use crate::cpython::{Fallible, Inst, Obj, Own, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::future::{self, Future};
use crate::job::Job;
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;

static SLEEP: Kind = Kind { name: "sleep", qualname: "sleep", begin, resume };

// Where a sleep is.

/// It needed no timer.
const GAVE_WAY: u8 = 1;
/// The timer is ours, and `timer` its key.
const TIMED: u8 = 2;
/// The timer is a handle of another loop, in `owner`.
const TIMED_ELSEWHERE: u8 = 3;

/// `sleep(delay, result=None)`: `first` is the delay, later the future; `second` the result.
#[inline]
pub fn create(delay: &Obj, result: Option<&Obj>) -> Fallible<Own<Operation>> {
    let sleep = operation::unowned(&SLEEP)?;
    sleep.first.set(delay.own());
    if let Some(result) = result {
        sleep.second.set(result.own());
    }
    Ok(sleep)
}

/// From 3.13 on; before, asyncio goes on with it.
fn refuse_nan(seconds: f64) -> Fallible<()> {
    if seconds.is_nan() && state().minor >= 13 {
        return Err(Raised::value_error("Invalid delay: NaN (not a number)"));
    }
    Ok(())
}

fn begin(this: &Inst<Operation>) -> Fallible<Step> {
    let delay = this.first.take().unwrap_or_else(|| none().own());
    if delay.is(&state().zero) {
        this.stage.set(GAVE_WAY);
        return Ok(Step::GiveWay);
    }
    // What is no plain number is compared and added as it is.
    let plain = delay.plain_number()?;
    let at_once = match plain {
        Some(seconds) => {
            refuse_nan(seconds)?;
            seconds <= 0.0
        }
        None => delay.is_at_most(&state().zero)?,
    };
    if at_once {
        this.stage.set(GAVE_WAY);
        return Ok(Step::GiveWay);
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
        this.timer.set(ours.with_engine(|engine| engine.timer(at, Job::Resolve(future.clone())))?);
        this.stage.set(TIMED);
        let future = future.into_ref();
        this.first.set(future.clone());
        return Ok(Step::Await(future));
    }
    begin_elsewhere(this, &event_loop, &delay)
}

/// On a loop that is not ours, or whose methods are replaced: through its public methods.
fn begin_elsewhere(this: &Inst<Operation>, event_loop: &Obj, delay: &Obj) -> Fallible<Step> {
    let names = &state().names;
    let future = event_loop.call_method(&names.create_future, &[])?;
    let release = &state().set_result_unless_cancelled;
    this.owner.set(event_loop.call_method(&names.call_later, &[delay, release, &future, none()])?);
    this.stage.set(TIMED_ELSEWHERE);
    Ok(Step::Await(future))
}

/// The wait is over, and the timer goes.
fn resume(this: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    match outcome {
        Ok(value) => {
            cancel_timer(this)?;
            // Our own timer ends the future without knowing of a result.
            Ok(Step::Done(if value.is_none() { this.second.take().unwrap_or(value) } else { value }))
        }
        Err(raised) => {
            let exception = raised.take();
            cancel_timer(this)?;
            Err(Raised::from_exception(exception))
        }
    }
}

fn cancel_timer(this: &Inst<Operation>) -> Fallible<()> {
    match this.stage.get() {
        TIMED => {
            let key = this.timer.replace(TimerKey::from_raw((0, 0)));
            let future = this.first.get_or_none();
            // A timer that came is not looked for: of many, where it was is in no cache any more.
            if let Some(core) = Inst::<Future>::of(&future).map(|future| future::FutureLike::core(&**future))
                && !core.timer_came.get()
                && let Some(event_loop) = core.event_loop.get()
            {
                drop(Inst::<EventLoop>::of(&event_loop).and_then(|ours| ours.cancel_timer(key)));
            }
            Ok(())
        }
        TIMED_ELSEWHERE => this.owner.get_or_none().call_method(&state().names.cancel, &[]).map(drop),
        _ => Ok(()),
    }
}
