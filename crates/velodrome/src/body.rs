//! [`step`]: one step of a task: somebody's future is polled, and around it is what makes it a task.
//!
//! What must stay true: a panic of the future, also one in its destructors, ends in the outcome and nowhere else, and so does one
//! of whatever else of the program's runs on the way to that; the future is dropped before anybody hears of the outcome.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use crate::abi::{CellRef, contain};
use crate::join_error::JoinError;
use crate::task_cell::Told;

/// Who is told of the outcome, and what becomes of it.
pub(crate) trait Deliver<T> {
    /// What awaiting the task's handle gives, if all goes well.
    type Value;

    fn deliver(self, outcome: Result<T, JoinError>) -> Result<Self::Value, JoinError>;
}

/// The outcome is for the handle.
pub(crate) struct Keep;

impl<T> Deliver<T> for Keep {
    type Value = T;

    #[inline]
    fn deliver(self, outcome: Result<T, JoinError>) -> Result<T, JoinError> {
        outcome
    }
}

/// Delivers. What is dropped or woken there is the program's, and may panic.
#[inline]
pub(crate) fn deliver<T, D: Deliver<T>>(
    deliver: D,
    outcome: Result<T, JoinError>,
) -> Result<D::Value, JoinError> {
    catch_unwind(AssertUnwindSafe(|| deliver.deliver(outcome)))
        .unwrap_or_else(|payload| Err(JoinError::panicked(payload)))
}

/// One step of a task that is not done. If it is its last, `drop_future` is called; either may panic.
#[inline]
pub(crate) fn step<T>(
    cell: &CellRef,
    poll: impl FnOnce() -> Poll<T>,
    drop_future: impl FnOnce(),
) -> Poll<Result<T, JoinError>> {
    let entered = cell.enter();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        if cell.told() != Told::Nothing {
            return Poll::Ready(Err(JoinError::Cancelled));
        }
        match poll() {
            // As in asyncio, a cancellation that came while it was being polled is not forgotten because it was the last step.
            Poll::Ready(_) if cell.told() == Told::Cancel => Poll::Ready(Err(JoinError::Cancelled)),
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if cell.told() == Told::Unwind => Poll::Ready(Err(JoinError::Cancelled)),
            Poll::Pending => {
                cell.hand_down();
                Poll::Pending
            }
        }
    }));
    let mut outcome = match polled {
        Ok(Poll::Pending) => return Poll::Pending,
        Ok(Poll::Ready(outcome)) => outcome,
        Err(payload) => Err(JoinError::panicked(payload)),
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop_future)) {
        let other = std::mem::replace(&mut outcome, Err(JoinError::panicked(payload)));
        contain(|| drop(other));
    }
    drop(entered);
    cell.finish();
    Poll::Ready(outcome)
}
