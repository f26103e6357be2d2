//! [`timeout`]: an end to waiting.
//!
//! What must stay true: when the time is over, what in the future catches cancellations is asked first and awaited; the future
//! is dropped when nothing in it objects. As in asyncio, a cancellation that somebody in there has caught and not taken back
//! (`uncancel`) goes on then: it is not made up for by [`Elapsed`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::abi::CellRef;
use crate::sleep::{Sleep, sleep, sleep_until};
use crate::task_cell::{Kind, ScopeGuard, Told};

/// The time was over. See [`timeout`].
///
/// ```
/// use std::time::Duration;
/// use velodrome::{Elapsed, run, timeout};
///
/// let outcome: Result<(), Elapsed> = run(timeout(Duration::from_millis(1), std::future::pending()));
/// assert_eq!(outcome.unwrap_err().to_string(), "the time is over");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Drives a future for at most a time.
///
/// When the time is over, the future is dropped. If something in it is in a [`catch_cancel`](crate::catch_cancel) or is a task
/// group, that is cancelled first and awaited; should the future then give a value all the same, that value counts.
///
/// ```
/// use std::time::Duration;
/// use velodrome::{run, timeout};
///
/// run(async {
///     assert_eq!(timeout(Duration::from_secs(60), async { 1 }).await, Ok(1));
///     assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
/// });
/// ```
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep(duration), scope: None }
}

/// Drives a future until a point in time: see [`timeout`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use velodrome::{run, timeout_at};
///
/// let deadline = Instant::now() + Duration::from_millis(1);
/// assert!(run(timeout_at(deadline, std::future::pending::<()>())).is_err());
/// ```
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep_until(deadline), scope: None }
}

pin_project! {
    /// What [`timeout`] returns.
    ///
    /// ```
    /// use std::time::Duration;
    /// let future: velodrome::Timeout<_> = velodrome::timeout(Duration::from_secs(60), async { 1 });
    /// assert_eq!(velodrome::run(future), Ok(1));
    /// ```
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        sleep: Sleep,
        scope: Option<ScopeGuard>,
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("sleep", &self.sleep).finish_non_exhaustive()
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ScopeGuard::follow(this.scope, Kind::Sends, None);
        let mut future = this.future.as_mut().as_pin_mut().expect("polled after its end");
        let polled = match this.scope {
            Some(scope) => scope.poll(cx.waker(), || future.as_mut().poll(cx)),
            None => future.as_mut().poll(cx),
        };
        if let Poll::Ready(output) = polled {
            this.future.set(None);
            *this.scope = None;
            return Poll::Ready(Ok(output));
        }
        let mut over = this.scope.as_ref().is_some_and(|scope| scope.told() != Told::Nothing);
        if !over && !this.sleep.is_over() && Pin::new(&mut *this.sleep).poll(cx).is_ready() {
            // Those who hear of it are woken, and end in the next step.
            over = !this.scope.as_ref().is_some_and(ScopeGuard::send);
        }
        if over {
            this.future.set(None);
            let cancelled = this.scope.take().is_some_and(|scope| scope.was_cancelled());
            if cancelled && let Some(task) = CellRef::current() {
                task.unwind();
                return Poll::Pending;
            }
            return Poll::Ready(Err(Elapsed));
        }
        Poll::Pending
    }
}
