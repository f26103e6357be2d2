//! [`Guest`] and [`GuestTask`]: futures of this crate in a loop that somebody else runs, as the Python face does.
//!
//! What polls a guest's future is a task of that loop, in whatever language it is written; what the future asks of a loop
//! goes through that loop's [`Host`](crate::host::Host) table. There is no second ready queue, timer heap or poller.
//!
//! What must stay true:
//!
//! - There is one context for each loop and thread, so that tasks and readiness are found again from one future to the next.
//! - When the loop closes on its thread, the tasks that futures have made on it are cancelled, and ended.
//! - A future is dropped where its loop's context is set, as it was polled there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use crate::abi::CellRef;
use crate::body::step;
use crate::context::Context;
use crate::handle::Handle;
use crate::join_error::JoinError;

/// So many awaits a task may clean up in when its loop closes, which cannot wait for anything else any more.
const PATIENCE: u32 = 32;

/// The table of a loop is not one that this crate can use.
///
/// ```
/// use velodrome::host::Incompatible;
/// let text = Incompatible { version: 9, size: 96 }.to_string();
/// assert_eq!(text, "the event loop offers version 9 of its table (96 bytes), where version 1 is wanted");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event loop offers version {version} of its table ({size} bytes), where version {} is wanted",
    crate::host::HOST_VERSION
)]
pub struct Incompatible {
    /// The version of the table.
    pub version: u32,
    /// Its size in bytes.
    pub size: u32,
}

/// A loop that somebody else runs, as the futures of this thread see it. Cheap to clone.
///
/// ```
/// use std::task::Waker;
/// use velodrome::host::{Guest, GuestTask};
///
/// # let runner = velodrome::Runner::new()?;
/// # // SAFETY: the table is the runner's, which is on this thread.
/// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
/// let mut task = GuestTask::new(&guest, Box::pin(async { 6 * 7 }));
/// assert!(task.poll(Waker::noop()).is_ready());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Guest {
    context: Rc<Context>,
}

impl Guest {
    pub(crate) fn new(context: Rc<Context>) -> Self {
        Guest { context }
    }

    /// The loop, for other threads.
    ///
    /// ```
    /// # use velodrome::host::Guest;
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let handle = guest.handle();
    /// handle.call_soon(|| println!("called on the loop's thread"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(self.context.host.host().clone())
    }

    /// Whether a handle is this loop's.
    ///
    /// ```
    /// # use velodrome::host::Guest;
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// assert!(guest.is_loop_of(&guest.handle()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_loop_of(&self, handle: &Handle) -> bool {
        handle.host() == self.context.host.host()
    }

    /// Cancels the tasks that are left, and ends those that go on in spite of that. Wakes, once, what others poll: who waits
    /// for that keeps it alive, perhaps in a circle.
    pub(crate) fn close(&self) {
        let round = self.context.closing.get();
        self.context.closing.set(round.saturating_add(1));
        for task in self.context.all_tasks() {
            match task.is_alone() {
                true if round == 0 => task.wake(),
                true => {}
                false if round < PATIENCE => {
                    task.cancel();
                }
                false => task.end(),
            }
        }
    }
}

/// A future that is polled by a task of somebody else's loop. Its own tasks, timers and sockets are that loop's.
///
/// It has a place among [`all_tasks`](crate::all_tasks), can be cancelled, and hears of it through
/// [`catch_cancel`](crate::catch_cancel). Dropping it drops the future.
///
/// ```
/// use std::task::{Poll, Waker};
/// use velodrome::host::{Guest, GuestTask};
///
/// # let runner = velodrome::Runner::new()?;
/// # // SAFETY: the table is the runner's, which is on this thread.
/// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
/// let mut task = GuestTask::new(&guest, Box::pin(std::future::pending::<()>()));
/// assert!(task.poll(Waker::noop()).is_pending());
/// task.cancel();
/// let Poll::Ready(Err(error)) = task.poll(Waker::noop()) else { unreachable!() };
/// assert!(error.is_cancelled());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GuestTask<F: Future + ?Sized> {
    context: Rc<Context>,
    cell: CellRef,
    /// `None` once it has ended.
    future: Option<Pin<Box<F>>>,
    /// Whether the cell knows whom to wake.
    has_waker: bool,
}

impl<F: Future + ?Sized> GuestTask<F> {
    /// A task for a future, which nobody has polled yet.
    ///
    /// ```
    /// use velodrome::host::{Guest, GuestTask};
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let task = GuestTask::new(&guest, Box::pin(async {}));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(guest: &Guest, future: Pin<Box<F>>) -> Self {
        let cell = CellRef::alone(&guest.context.host);
        cell.clone().register(&guest.context);
        GuestTask { context: Rc::clone(&guest.context), cell, future: Some(future), has_waker: false }
    }

    /// Polls the future, as a task of this crate is polled: a panic, or being cancelled, is an error. After its end it is
    /// pending for ever.
    ///
    /// # Errors
    ///
    /// [`JoinError::Cancelled`] or [`JoinError::Panicked`].
    ///
    /// ```
    /// use std::task::{Poll, Waker};
    /// use velodrome::host::{Guest, GuestTask};
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let mut task = GuestTask::new(&guest, Box::pin(async { 1 }));
    /// assert!(matches!(task.poll(Waker::noop()), Poll::Ready(Ok(1))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(&mut self, waker: &Waker) -> Poll<Result<F::Output, JoinError>> {
        if self.future.is_none() {
            return Poll::Pending;
        }
        let _entered = self.context.enter();
        let slot = std::cell::RefCell::new(&mut self.future);
        let polled = step(
            &self.cell,
            || match slot.borrow_mut().as_mut() {
                Some(future) => future.as_mut().poll(&mut TaskContext::from_waker(waker)),
                None => Poll::Pending,
            },
            || drop(slot.borrow_mut().take()),
        );
        if polled.is_pending() {
            self.has_waker = true;
            self.cell.set_waker(waker);
        }
        polled
    }

    /// Whether a waker that it was polled with is kept, for those who count them.
    ///
    /// ```
    /// use std::task::Waker;
    /// use velodrome::host::{Guest, GuestTask};
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let mut task = GuestTask::new(&guest, Box::pin(std::future::pending::<()>()));
    /// assert!(task.poll(Waker::noop()).is_pending());
    /// assert!(task.has_waker());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn has_waker(&self) -> bool {
        self.has_waker
    }

    /// Asks the future to end, as [`Task::cancel`](crate::Task::cancel) does. The next poll sees to it.
    ///
    /// ```
    /// use velodrome::host::{Guest, GuestTask};
    /// # let runner = velodrome::Runner::new()?;
    /// # // SAFETY: the table is the runner's, which is on this thread.
    /// # let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let task = GuestTask::new(&guest, Box::pin(async {}));
    /// assert!(task.cancel());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.cell.cancel()
    }
}

impl<F: Future + ?Sized> Drop for GuestTask<F> {
    fn drop(&mut self) {
        let entered = self.context.enter();
        let finish = Finish(&self.cell);
        let current = self.cell.enter();
        self.future = None;
        drop(current);
        drop(finish);
        drop(entered);
    }
}

/// The task is done, also if what it drops panics.
struct Finish<'a>(&'a CellRef);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl<F: Future + ?Sized> fmt::Debug for GuestTask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}
