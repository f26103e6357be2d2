//! [`sleep`] and [`sleep_until`]: a timer of the loop, as a future.
//!
//! What must stay true: a timer is set when the future is first polled, and is gone when the future is dropped; the timer and
//! the future share one [`Alarm`], so neither can outlive what the other needs.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use crate::abi::Callee;
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

/// Waits for a point in time. What is past gives way once.
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
        timer: TimerId,
        alarm: Rc<Alarm>,
    },
    /// It gave way, and that is all.
    Yielded,
    Done,
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
}

/// What a timer calls.
#[derive(Default)]
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

impl Alarm {
    fn keep(&self, waker: &Waker) {
        let kept = self.waker.take().filter(|kept| kept.will_wake(waker));
        self.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        match &self.state {
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
                let at = context.host.now().saturating_add(left);
                let alarm = Rc::new(Alarm::default());
                alarm.keep(cx.waker());
                let timer = context.host.timer_set(at, Rc::clone(&alarm));
                self.state = State::Set { context, timer, alarm };
                Poll::Pending
            }
            State::Set { alarm, .. } => {
                if !alarm.rung.get() {
                    alarm.keep(cx.waker());
                    return Poll::Pending;
                }
                self.state = State::Done;
                Poll::Ready(())
            }
            State::Yielded | State::Done => {
                self.state = State::Done;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        if let State::Set { context, timer, alarm } = &self.state
            && !alarm.rung.get()
        {
            let _waker = alarm.waker.take();
            context.host.timer_cancel(*timer, alarm);
        }
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
