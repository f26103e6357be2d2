//! [`Body`]: the future that a task is: somebody's future, and around it what makes it a task.
//!
//! What must stay true: the future is dropped exactly once, on the loop's thread, and before anybody hears of the outcome;
//! a panic of it, also one in its destructors, ends in the outcome and nowhere else.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::abi::CellRef;
use crate::join_error::JoinError;
use crate::task_cell::Told;

/// Who is told of the outcome, and what becomes of it.
pub(crate) trait Deliver<T> {
    /// What awaiting the task's handle gives.
    type Output;

    fn deliver(self, outcome: Result<T, JoinError>) -> Self::Output;
}

/// The outcome is for the handle.
pub(crate) struct Keep;

impl<T> Deliver<T> for Keep {
    type Output = Result<T, JoinError>;

    #[inline]
    fn deliver(self, outcome: Result<T, JoinError>) -> Self::Output {
        outcome
    }
}

pin_project! {
    pub(crate) struct Body<F, D> {
        #[pin]
        future: Option<F>,
        cell: CellRef,
        deliver: Option<D>,
    }

    impl<F, D> PinnedDrop for Body<F, D> {
        fn drop(this: Pin<&mut Self>) {
            // Not polled to its end: the run was given up.
            this.cell.finish();
        }
    }
}

impl<F, D> Body<F, D> {
    pub(crate) fn new(future: F, cell: CellRef, deliver: D) -> Self {
        Body { future: Some(future), cell, deliver: Some(deliver) }
    }
}

impl<F: Future, D: Deliver<F::Output>> Future for Body<F, D> {
    type Output = D::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<D::Output> {
        let mut this = self.project();
        let cell = &*this.cell;
        let entered = this.cell.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if cell.told() != Told::Nothing {
                return Poll::Ready(Err(JoinError::Cancelled));
            }
            let future = this.future.as_mut().as_pin_mut().expect("a task is not polled after its end");
            match future.poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending if cell.told() == Told::Unwind => Poll::Ready(Err(JoinError::Cancelled)),
                Poll::Pending => Poll::Pending,
            }
        }));
        let mut outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => outcome,
            Err(payload) => Err(JoinError::panicked(payload)),
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            outcome = Err(JoinError::panicked(payload));
        }
        drop(entered);
        cell.finish();
        let deliver = this.deliver.take().expect("a task ends once");
        Poll::Ready(deliver.deliver(outcome))
    }
}

/// What a panic said, if it said it in words.
pub(crate) fn words(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("(no words)", String::as_str),
    }
}
