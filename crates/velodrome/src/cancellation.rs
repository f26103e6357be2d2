//! [`catch_cancel`]: how a task hears that it is to end, and what it can do about it.
//!
//! asyncio throws `CancelledError` into a coroutine, which can catch it and still await. In Rust a future ends by being
//! dropped: its destructors run, and cannot await. Here it is both. A cancelled task's future is dropped, up to the
//! innermost `catch_cancel` around what it waits for; that one gives `Err(Cancelled)`, and the code behind it goes on,
//! awaits what it has to, and lets the cancellation pass on or not.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::abi::CellRef;
use crate::task_cell::{Kind, ScopeGuard, Told};

/// A task was cancelled while it was in a [`catch_cancel`], which has dropped what it waited for.
///
/// ```
/// use velodrome::{catch_cancel, create_task, run, yield_now};
///
/// run(async {
///     let task = create_task(async {
///         match catch_cancel(std::future::pending::<()>()).await {
///             Ok(()) => unreachable!(),
///             Err(cancelled) => cancelled.to_string(),
///         }
///     });
///     yield_now().await;
///     task.cancel();
///     assert_eq!(task.await.unwrap(), "cancelled");
/// });
/// ```
#[derive(thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled(());

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled")
    }
}

impl Cancelled {
    /// Lets the cancellation pass on, as `raise` does in asyncio: to the next [`catch_cancel`] around this, or to the
    /// end of the task. This never returns.
    ///
    /// ```
    /// use velodrome::{catch_cancel, create_task, run, sleep, yield_now};
    /// use std::time::Duration;
    ///
    /// run(async {
    ///     let task = create_task(async {
    ///         if let Err(cancelled) = catch_cancel(sleep(Duration::MAX)).await {
    ///             yield_now().await; // say goodbye
    ///             cancelled.propagate().await
    ///         }
    ///     });
    ///     yield_now().await;
    ///     task.cancel();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub async fn propagate<T>(self) -> T {
        propagate().await
    }
}

/// Hands a cancellation to whoever is next, and waits for the end.
pub(crate) async fn propagate<T>() -> T {
    poll_fn(|_| {
        if let Some(cell) = CellRef::current() {
            cell.unwind();
        }
        Poll::Pending
    })
    .await
}

/// Drives a future, and stops where the task is cancelled instead of letting the task end.
///
/// When a task is cancelled, what it awaits is dropped. Without a `catch_cancel` that is the whole of the task's future;
/// with one, it is what the innermost `catch_cancel` drives, which then gives [`Cancelled`]. So destructors always run, and
/// what has to await in order to clean up can do so behind a `catch_cancel`:
///
/// ```
/// use velodrome::{catch_cancel, create_task, run, yield_now};
///
/// run(async {
///     let task = create_task(async {
///         let mut goodbyes = 0;
///         match catch_cancel(std::future::pending::<()>()).await {
///             Ok(()) => {}
///             Err(_cancelled) => {
///                 yield_now().await; // a cancelled task may still await
///                 goodbyes += 1;
///             }
///         }
///         goodbyes
///     });
///     yield_now().await; // it has to have begun, or it would never run at all
///     task.cancel();
///     assert_eq!(task.await.unwrap(), 1);
/// });
/// ```
///
/// - A task that is cancelled before its first step never runs.
/// - A second cancellation ends the cleaning up, unless that is in a `catch_cancel` again.
/// - Branches of one task (of [`gather!`](crate::gather!), say) each hear of it.
/// - [`timeout`](crate::timeout) asks what is in it in the same way; a task group cancels and awaits its members first.
/// - Who drops a future instead of cancelling a task (`select!` and the like) gets destructors, nothing else.
///
/// In a task of another executor nothing is ever cancelled.
pub fn catch_cancel<F: Future>(future: F) -> CatchCancel<F> {
    CatchCancel { future: Some(future), scope: None }
}

pin_project! {
    /// What [`catch_cancel`] returns.
    ///
    /// ```
    /// let future: velodrome::CatchCancel<_> = velodrome::catch_cancel(async { 1 });
    /// assert_eq!(velodrome::run(future).unwrap(), 1);
    /// ```
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct CatchCancel<F> {
        #[pin]
        future: Option<F>,
        // Behind the future, so that it is dropped after it.
        scope: Option<ScopeGuard>,
    }
}

impl<F> fmt::Debug for CatchCancel<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchCancel").finish_non_exhaustive()
    }
}

impl<F: Future> Future for CatchCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ScopeGuard::follow(this.scope, Kind::Catches, None);
        let mut future = this.future.as_mut().as_pin_mut().expect("polled after its end");
        let mut cancelled = this.scope.as_ref().is_some_and(|scope| scope.told() != Told::Nothing);
        if !cancelled {
            let polled = match this.scope {
                Some(scope) => scope.poll(cx.waker(), || future.as_mut().poll(cx)),
                None => future.as_mut().poll(cx),
            };
            if let Poll::Ready(output) = polled {
                this.future.set(None);
                *this.scope = None;
                return Poll::Ready(Ok(output));
            }
            // Asked by ourselves from within: woken, and told again in the next step. Handed on from within: now.
            cancelled = this.scope.as_ref().is_some_and(ScopeGuard::unwinds);
        }
        if cancelled {
            this.future.set(None);
            *this.scope = None;
            return Poll::Ready(Err(Cancelled(())));
        }
        Poll::Pending
    }
}
