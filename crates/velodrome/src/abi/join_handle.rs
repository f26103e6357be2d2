//! [`JoinHandle`]: who awaits what a task gives.
//!
//! What must stay true: it is on the loop's thread, with a share of its own; what the task gave is taken or dropped once, and
//! only when the task is done.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::cell_ref::CellRef;
use super::local_waker::LocalWaker;
use super::raw_task::{DETACHED, DONE, Header, TAKEN, release_local};
use crate::task_cell::TaskCell;

/// Awaits what a task gives. Dropping it lets the task run on.
#[must_use]
pub(crate) struct JoinHandle<T> {
    header: NonNull<Header>,
    /// On the loop's thread.
    output: PhantomData<*mut T>,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Takes one of the loop's thread's shares of a task that gives a `T`.
    pub(super) fn new(header: NonNull<Header>) -> Self {
        JoinHandle { header, output: PhantomData }
    }

    /// What is known of the task.
    #[inline]
    pub(crate) fn cell(&self) -> CellRef {
        // SAFETY: the handle has a share, and lends it.
        (*unsafe { CellRef::lent(self.header) }).clone()
    }
}

impl<T> Deref for JoinHandle<T> {
    type Target = TaskCell;

    #[inline]
    fn deref(&self) -> &TaskCell {
        // SAFETY: the handle has a share, on the loop's thread.
        unsafe { &self.header.as_ref().cell }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the handle has a share, on the loop's thread.
        let it = unsafe { self.header.as_ref() };
        if it.is(DONE) {
            let mut output = None;
            // SAFETY: the task is over, and `T` is what it gives.
            unsafe { (it.vtable.take)(self.header, (&raw mut output).cast()) };
            it.set(TAKEN);
            return Poll::Ready(output.expect("a task is not polled after it gave its result"));
        }
        it.join.set(Some(LocalWaker::keep(it.join.take(), cx.waker())));
        Poll::Pending
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle has a share, on the loop's thread.
        let it = unsafe { self.header.as_ref() };
        it.set(DETACHED);
        if !it.is(DONE) {
            drop(it.join.take());
        } else if !it.is(TAKEN) {
            // SAFETY: the task is over, and nobody else will take what it gave.
            unsafe { (it.vtable.discard)(self.header) };
        }
        // SAFETY: the handle's share.
        unsafe { release_local(self.header) };
    }
}
