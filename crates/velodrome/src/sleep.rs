//! [`sleep`] and [`sleep_until`]: a timer of the loop, as a future.
//!
//! A timer wakes a task of ours directly. For other wakers (those of `FuturesUnordered`, or the main future's) it calls an
//! [`Alarm`], which the timer and the future share.
//!
//! What must stay true: a timer is set when the future is first polled, and is gone when the future is dropped. Whether the time
//! is over is what the clock says, not the timer: so a poll that comes for another reason asks it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use crate::abi::{Callee, TaskTimer};
use crate::context::Context;
use crate::host::TimerId;

/// Waits for a time. It begins when it is first polled.
///
/// `Duration::MAX` is for ever; [`Duration::ZERO`] gives way once, as [`yield_now`](crate::yield_now).
///
/// # Panics
///
/// When it is polled outside of a running loop.
///
/// ```
/// use std::time::{Duration, Instant};
/// use velodrome::{run, sleep};
///
/// let begun = Instant::now();
/// run(sleep(Duration::from_millis(2)));
/// assert!(begun.elapsed() >= Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { state: State::New(Until::After(duration)) }
}

/// Waits for a point in time. What is past gives way once. Who waits for the same one wakes in the order of having begun to.
///
/// ```
/// use std::time::{Duration, Instant};
/// use velodrome::{run, sleep_until};
///
/// let deadline = Instant::now() + Duration::from_millis(2);
/// run(sleep_until(deadline));
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { state: State::New(Until::At(deadline)) }
}

/// What [`sleep`] and [`sleep_until`] return.
///
/// ```
/// use std::time::Duration;
/// let mut nap: velodrome::Sleep = velodrome::sleep(Duration::from_millis(1));
/// velodrome::run(async { (&mut nap).await });
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    state: State,
}

enum State {
    New(Until),
    Set {
        context: Rc<Context>,
        at: u64,
        timer: Timer,
    },
    /// It gave way, and that is all.
    Yielded,
    Done,
}

enum Timer {
    Task(TaskTimer),
    Alarm(TimerId, Rc<Alarm>),
}

impl Timer {
    #[inline]
    fn set(context: &Context, at: u64, waker: &Waker) -> Self {
        match TaskTimer::set(&context.host, at, waker) {
            Some(timer) => Timer::Task(timer),
            None => {
                let alarm = Rc::new(Alarm { rung: Cell::new(false), waker: Cell::new(Some(waker.clone())) });
                Timer::Alarm(context.host.timer_set(at, Rc::clone(&alarm)), alarm)
            }
        }
    }

    /// Sees to it that this is who is woken. `false` if that takes another timer.
    #[inline]
    fn wake(&self, waker: &Waker) -> bool {
        match self {
            Timer::Task(timer) => timer.wakes(waker),
            Timer::Alarm(_, alarm) => {
                let kept = alarm.waker.take().filter(|kept| kept.will_wake(waker));
                alarm.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
                !alarm.rung.get()
            }
        }
    }

    #[inline]
    fn cancel(self, context: &Context) {
        match self {
            Timer::Task(timer) => timer.cancel(&context.host),
            Timer::Alarm(timer, alarm) => {
                let _waker = alarm.waker.take();
                if !alarm.rung.get() {
                    context.host.timer_cancel(timer, &alarm);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Until {
    After(Duration),
    At(Instant),
}

impl Sleep {
    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Done)
    }

    #[inline]
    fn end(&mut self) {
        if let State::Set { context, timer, .. } = std::mem::replace(&mut self.state, State::Done) {
            timer.cancel(&context);
        }
    }
}

/// What a timer calls, if not a task.
struct Alarm {
    rung: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Callee for Alarm {
    fn called(self: Rc<Self>) {
        self.rung.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        match &mut self.state {
            State::New(until) => {
                let context = Context::current();
                let left = match *until {
                    Until::After(duration) => duration,
                    Until::At(deadline) => deadline.saturating_duration_since(Instant::now()),
                };
                if left.is_zero() {
                    self.state = State::Yielded;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
                let at = match *until {
                    Until::After(_) => context.host.now().saturating_add(left),
                    Until::At(deadline) => context.clocks.time_of(deadline, left, &context.host),
                };
                let timer = Timer::set(&context, at, cx.waker());
                self.state = State::Set { context, at, timer };
                return Poll::Pending;
            }
            State::Set { context, at, timer } => {
                if !context.host.has_come(*at) {
                    if !timer.wake(cx.waker()) {
                        let other = Timer::set(context, *at, cx.waker());
                        std::mem::replace(timer, other).cancel(context);
                    }
                    return Poll::Pending;
                }
            }
            State::Yielded | State::Done => {}
        }
        self.end();
        Poll::Ready(())
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(_) => "new",
            State::Set { .. } => "set",
            State::Yielded | State::Done => "over",
        };
        f.debug_tuple("Sleep").field(&state).finish()
    }
}
