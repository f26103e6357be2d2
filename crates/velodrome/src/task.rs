//! [`Task`] and [`create_task`]: a future that runs beside its creator.
//!
//! What must stay true: a task does not run before its creator has given way; a task that nobody holds runs on; it is done
//! only when its future is dropped.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use crate::abi::{CellRef, JoinHandle, spawn};
use crate::body::{Deliver, Keep};
use crate::context::Context;
use crate::join_error::JoinError;

/// Makes a task of a future: it runs beside its creator, from the next iteration of the loop on.
///
/// The future need not be `Send`, because it never leaves the thread; it is `'static`, because a task may outlive
/// whoever made it.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// use velodrome::{create_task, run};
///
/// run(async {
///     let task = create_task(async { 6 * 7 });
///     assert!(!task.is_done()); // it has not even begun
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
#[track_caller]
pub fn create_task<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
{
    create_in(&Context::current(), future, Keep)
}

/// A task whose outcome is somebody else's business first.
pub(crate) fn create_in<F, D, T>(context: &Rc<Context>, future: F, deliver: D) -> Task<T>
where
    F: Future + 'static,
    D: Deliver<F::Output, Value = T> + 'static,
{
    let task = spawn(&context.host, future, deliver);
    task.cell().register(context);
    Task { task }
}

/// A task: await it for its result.
///
/// Dropping a `Task` lets the task run on, as in asyncio; the loop keeps it alive until it is done, and [`run`](crate::run)
/// cancels what is left when the main future returns. [`Task::cancel_on_drop`] ties the task to its handle; a
/// [task group](crate::task_group) ties it to a block of code.
///
/// ```
/// use velodrome::{create_task, run, yield_now};
///
/// run(async {
///     let task = create_task(async {
///         yield_now().await;
///         "done"
///     });
///     assert_eq!(task.await.unwrap(), "done");
/// });
/// ```
#[must_use = "a task runs on when it is dropped; say so with `detach`"]
pub struct Task<T> {
    task: JoinHandle<Result<T, JoinError>>,
}

impl<T> Task<T> {
    /// Lets the task run on by itself.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use velodrome::{create_task, run, yield_now};
    ///
    /// run(async {
    ///     let ran = Rc::new(Cell::new(false));
    ///     let flag = Rc::clone(&ran);
    ///     create_task(async move { flag.set(true) }).detach();
    ///     yield_now().await;
    ///     assert!(ran.get());
    /// });
    /// ```
    pub fn detach(self) {}

    /// Ties the task to its handle: dropping what this returns cancels the task.
    ///
    /// ```
    /// use velodrome::{create_task, run, yield_now, all_tasks};
    ///
    /// run(async {
    ///     let task = create_task(std::future::pending::<()>()).cancel_on_drop();
    ///     yield_now().await;
    ///     drop(task);
    ///     yield_now().await;
    ///     assert_eq!(all_tasks().len(), 1); // only ourselves
    /// });
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(self)
    }

    /// Gives the task a name.
    ///
    /// ```
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     let task = create_task(async {}).named("worker");
    ///     assert_eq!(task.name(), "worker");
    /// });
    /// ```
    pub fn named(self, name: &str) -> Self {
        self.task.set_name(name);
        self
    }

    /// Its name: the one it was given, or `Task-1`, `Task-2` and so on.
    ///
    /// ```
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     assert!(create_task(async {}).name().starts_with("Task-"));
    /// });
    /// ```
    pub fn name(&self) -> String {
        self.task.name()
    }

    /// Asks the task to end: see [`catch_cancel`](crate::catch_cancel) for what happens then. Says whether it was still running.
    ///
    /// The task ends in its next step, so it is not done when this returns; await it to be sure.
    ///
    /// ```
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     let mut task = create_task(std::future::pending::<()>());
    ///     assert!(task.cancel());
    ///     assert!(!task.is_done());
    ///     assert!((&mut task).await.unwrap_err().is_cancelled());
    ///     assert!(task.is_done() && !task.cancel());
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.task.cell().cancel()
    }

    /// Whether the task has ended: its future is dropped, and its result is there (or was taken).
    ///
    /// ```
    /// use velodrome::{create_task, run, yield_now};
    ///
    /// run(async {
    ///     let task = create_task(async {});
    ///     yield_now().await;
    ///     assert!(task.is_done());
    /// });
    /// ```
    pub fn is_done(&self) -> bool {
        self.task.is_done()
    }

    pub(crate) fn cell(&self) -> CellRef {
        self.task.cell()
    }

    /// Lets the task run on, and keeps what is known of it.
    pub(crate) fn into_cell(self) -> CellRef {
        self.task.cell()
    }

    /// The task, without its result.
    ///
    /// ```
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     let task = create_task(async {});
    ///     assert_eq!(task.task_ref().id(), task.task_ref().id());
    /// });
    /// ```
    pub fn task_ref(&self) -> TaskRef {
        TaskRef(self.task.cell())
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.task).fmt(f)
    }
}

/// A [`Task`] that is cancelled when this is dropped. See [`Task::cancel_on_drop`].
///
/// ```
/// use velodrome::{create_task, run};
///
/// run(async {
///     let task = create_task(async { 1 }).cancel_on_drop();
///     assert_eq!(task.await.unwrap(), 1);
/// });
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T>(Task<T>);

impl<T> std::ops::Deref for CancelOnDrop<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        &self.0
    }
}

impl<T> Future for CancelOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A task, whatever its result: to look at it, and to cancel it.
///
/// ```
/// use velodrome::{all_tasks, current_task, run};
///
/// run(async {
///     let me = current_task().unwrap();
///     assert_eq!(all_tasks(), [me]);
/// });
/// ```
#[derive(Clone, Debug)]
pub struct TaskRef(pub(crate) CellRef);

impl TaskRef {
    /// Its number, which no other task of the thread has.
    ///
    /// ```
    /// velodrome::run(async {
    ///     assert!(velodrome::current_task().unwrap().id() > 0);
    /// });
    /// ```
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// Its name.
    ///
    /// ```
    /// velodrome::run(async {
    ///     assert!(velodrome::current_task().unwrap().name().starts_with("Task-"));
    /// });
    /// ```
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Gives it a name.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let me = velodrome::current_task().unwrap();
    ///     me.set_name("main");
    ///     assert_eq!(me.name(), "main");
    /// });
    /// ```
    pub fn set_name(&self, name: &str) {
        self.0.set_name(name);
    }

    /// Asks it to end, as [`Task::cancel`].
    ///
    /// ```
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     let task = create_task(std::future::pending::<()>());
    ///     task.task_ref().cancel();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }

    /// How many cancellations it was sent, less those that were taken back by [`TaskRef::uncancel`].
    ///
    /// ```
    /// use velodrome::{catch_cancel, create_task, current_task, run, yield_now};
    ///
    /// run(async {
    ///     let task = create_task(async {
    ///         let _ = catch_cancel(std::future::pending::<()>()).await;
    ///         current_task().unwrap().cancelling()
    ///     });
    ///     yield_now().await;
    ///     task.cancel();
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    pub fn cancelling(&self) -> u32 {
        self.0.cancelling()
    }

    /// Says that one cancellation was dealt with. Returns how many are left.
    ///
    /// ```
    /// velodrome::run(async {
    ///     assert_eq!(velodrome::current_task().unwrap().uncancel(), 0);
    /// });
    /// ```
    pub fn uncancel(&self) -> u32 {
        self.0.uncancel()
    }

    /// Whether it has ended.
    ///
    /// ```
    /// velodrome::run(async {
    ///     assert!(!velodrome::current_task().unwrap().is_done());
    /// });
    /// ```
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }
}

impl PartialEq for TaskRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

impl Eq for TaskRef {}

/// The task that is running: `None` outside of one.
///
/// ```
/// use velodrome::{create_task, current_task, run};
///
/// assert!(current_task().is_none());
/// run(async {
///     let task = create_task(async { current_task() }).named("worker");
///     assert_eq!(task.await.unwrap().unwrap().name(), "worker");
/// });
/// ```
pub fn current_task() -> Option<TaskRef> {
    CellRef::current().map(TaskRef)
}

/// The tasks of the running loop that are not done, the main future among them, in no particular order.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// use velodrome::{all_tasks, create_task, run};
///
/// run(async {
///     create_task(async {}).detach();
///     assert_eq!(all_tasks().len(), 2);
/// });
/// ```
#[track_caller]
pub fn all_tasks() -> Vec<TaskRef> {
    Context::current().all_tasks().into_iter().map(TaskRef).collect()
}
