//! [`run`] and [`Runner`]: the door into the async world.
//!
//! What must stay true: a thread runs one loop at a time; when a runner is closed, every task it had is done and every future
//! in it is dropped, on this thread.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use velodrome_engine::Backend;

use crate::abi::{CellRef, host_of};
use crate::body::step;
use crate::context::Context;
use crate::event_loop::{EventLoop, Next};
use crate::handle::Handle;
use crate::host::Host;
use crate::join_error::JoinError;
use crate::sync::{AtomicBool, Ordering};

/// Runs a future to its end on a new loop, cancels the tasks it left, and closes the loop.
///
/// The future may borrow; it is a task like any other, and what it panics with goes on here.
///
/// # Panics
///
/// If a loop is running in this thread; if the process has no descriptors left, or somebody closes the loop's; if the future
/// panics or is cancelled. [`Runner::new`] and [`Runner::try_run`] return errors instead.
///
/// ```
/// use std::time::Duration;
///
/// let name = String::from("track");
/// let greeting = velodrome::run(async {
///     velodrome::sleep(Duration::from_millis(1)).await;
///     format!("hello, {name}")
/// });
/// assert_eq!(greeting, "hello, track");
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    Runner::new().expect("no loop could be made").run(future)
}

/// A loop for several runs.
///
/// Tasks that a run leaves wait for the next one; those that the runner's end finds are cancelled, and awaited.
///
/// ```
/// use velodrome::{Runner, create_task, yield_now};
///
/// let runner = Runner::new()?;
/// let task = runner.run(async {
///     create_task(async {
///         yield_now().await;
///         yield_now().await;
///         "finished in the second run"
///     })
/// });
/// assert_eq!(runner.run(task).unwrap(), "finished in the second run");
/// runner.close();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runner {
    event_loop: Arc<EventLoop>,
    context: Rc<Context>,
}

/// How a [`Runner`] is to be made.
///
/// ```
/// use velodrome::Runner;
///
/// let runner = Runner::builder().poll(true).build()?;
/// assert_eq!(runner.run(async { 1 }), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    poll: bool,
    counted_time: bool,
}

impl Builder {
    /// Asks the kernel through `poll(2)`, as on systems that have no epoll.
    ///
    /// ```
    /// use velodrome::Runner;
    /// Runner::builder().poll(true).build()?.run(async {});
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn poll(mut self, poll: bool) -> Self {
        self.poll = poll;
        self
    }

    /// Counts the time: it stands still while anything is ready, and jumps to the next timer when nothing is. For tests of what
    /// is told in durations, on one thread; an [`Instant`](std::time::Instant) is of the world's time.
    #[doc(hidden)]
    #[must_use]
    pub fn counted_time(mut self, counted_time: bool) -> Self {
        self.counted_time = counted_time;
        self
    }

    /// Makes the runner.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    ///
    /// ```
    /// let runner = velodrome::Runner::builder().build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn build(self) -> io::Result<Runner> {
        let backend = if self.poll { Backend::Poll } else { Backend::default() };
        let event_loop = EventLoop::new(backend, self.counted_time)?;
        let context = Context::new(host_of(&event_loop));
        Ok(Runner { event_loop, context })
    }
}

impl Runner {
    /// A runner with a loop of its own.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    ///
    /// ```
    /// let runner = velodrome::Runner::new()?;
    /// assert_eq!(runner.run(async { 1 }), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// A runner that is made otherwise.
    ///
    /// ```
    /// let runner = velodrome::Runner::builder().poll(true).build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs a future to its end, and beside it the tasks of this and earlier runs.
    ///
    /// # Panics
    ///
    /// If a loop is running in this thread; if the future panics, or is cancelled; if somebody closes the loop's descriptors.
    ///
    /// ```
    /// let runner = velodrome::Runner::new()?;
    /// let mut count = 0;
    /// runner.run(async { count += 1 });
    /// runner.run(async { count += 1 });
    /// assert_eq!(count, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        match self.try_run(future) {
            Ok(output) => output,
            Err(error) => panic!("{}", error.resume()),
        }
    }

    /// Runs a future to its end, and says so if it was cancelled or panicked.
    ///
    /// # Errors
    ///
    /// [`JoinError::Cancelled`] or [`JoinError::Panicked`].
    ///
    /// # Panics
    ///
    /// If a loop is running in this thread; if somebody closes the loop's descriptors.
    ///
    /// ```
    /// let runner = velodrome::Runner::new()?;
    /// let outcome = runner.try_run(async {
    ///     velodrome::current_task().unwrap().cancel();
    ///     std::future::pending::<()>().await
    /// });
    /// assert!(outcome.unwrap_err().is_cancelled());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn try_run<F: Future>(&self, future: F) -> Result<F::Output, JoinError> {
        assert!(Context::try_current().is_none(), "run() cannot be called from a running event loop");
        let entered = self.context.enter();
        let number = self.event_loop.begin_run();
        let main = Arc::new(MainWaker {
            event_loop: Arc::clone(&self.event_loop),
            run: number,
            queued: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&main));
        let cell = CellRef::alone(&self.context.host);
        cell.set_waker(&waker);
        cell.clone().register(&self.context);
        let finish = Finish(cell.clone());
        let future = pin!(Some(future));
        let future = RefCell::new(future);
        let outcome = RefCell::new(None);
        main.wake_by_ref();
        let poll = || {
            // Not a mere store: what a wake announced that found it set must be visible to the poll.
            main.queued.swap(false, Ordering::AcqRel);
            if outcome.borrow().is_some() {
                return;
            }
            let polled = step(
                &cell,
                || match future.borrow_mut().as_mut().as_pin_mut() {
                    Some(future) => future.poll(&mut TaskContext::from_waker(&waker)),
                    None => Poll::Pending,
                },
                || future.borrow_mut().set(None),
            );
            if let Poll::Ready(polled) = polled {
                outcome.replace(Some(polled));
            }
        };
        // As in asyncio, what was ready when the main future ended gets its turn.
        let mut ended = false;
        let next = || match outcome.borrow().is_some() {
            false => Next::Wait,
            true if std::mem::replace(&mut ended, true) => Next::Stop,
            true => Next::Turn,
        };
        self.event_loop.run(number, poll, next);
        drop(finish);
        drop(entered);
        outcome.into_inner().expect("the loop ran until there was an outcome")
    }

    /// The loop, for libraries that have a copy of this crate of their own, and poll futures on this thread. Valid as long as the
    /// runner, or whoever has [retained](Host::retain) it.
    ///
    /// ```
    /// use std::task::{Poll, Waker};
    /// use velodrome::Runner;
    /// use velodrome::host::{Guest, GuestTask};
    ///
    /// let runner = Runner::new()?;
    /// // SAFETY: the table is the runner's, which is on this thread.
    /// let guest = unsafe { Guest::from_raw(runner.host_table()) }?;
    /// let mut task = GuestTask::new(&guest, Box::pin(async { 6 * 7 }));
    /// assert!(matches!(task.poll(Waker::noop()), Poll::Ready(Ok(42))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn host_table(&self) -> NonNull<Host> {
        self.event_loop.table().address()
    }

    /// The loop, for other threads.
    ///
    /// ```
    /// use velodrome::{Promise, Runner};
    ///
    /// let runner = Runner::new()?;
    /// let handle = runner.handle();
    /// let asked = std::thread::spawn(move || handle.create_task(|| async { 1 + 1 }));
    /// runner.run(async {
    ///     assert_eq!(asked.join().unwrap().unwrap().await.unwrap(), 2);
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(self.context.host.host().clone())
    }

    /// Cancels the tasks that are left, awaits them, and closes the loop. Dropping the runner does the same; where another loop
    /// is running, which cannot wait for that, they are dropped at once, and do not hear of it in a
    /// [`catch_cancel`](crate::catch_cancel).
    ///
    /// # Panics
    ///
    /// If the kernel cannot be asked any more, because somebody has closed the loop's descriptors.
    ///
    /// ```
    /// let runner = velodrome::Runner::new()?;
    /// runner.run(async { velodrome::create_task(std::future::pending::<()>()).detach() });
    /// runner.close(); // the task is cancelled here
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(self) {}

    fn shut(&self) {
        let entered = self.context.enter();
        loop {
            let tasks = self.context.all_tasks();
            if tasks.is_empty() {
                break;
            }
            for task in &tasks {
                task.cancel();
            }
            let run = self.event_loop.begin_run();
            let mut left = tasks.iter();
            let mut last = left.next();
            self.event_loop.run(
                run,
                || (),
                || {
                    while last.is_some_and(|task| task.is_done()) {
                        last = left.next();
                    }
                    if last.is_none() { Next::Stop } else { Next::Wait }
                },
            );
        }
        self.event_loop.close();
        drop(entered);
    }

    /// Drops what is left, and awaits nothing: another loop is running, and waits meanwhile.
    fn cut(&self) {
        let entered = self.context.enter();
        loop {
            let tasks = self.context.all_tasks();
            if tasks.is_empty() {
                break;
            }
            tasks.iter().for_each(CellRef::end);
            self.event_loop.run_ready();
        }
        self.event_loop.close();
        drop(entered);
    }

    #[doc(hidden)]
    pub fn registered(&self) -> (usize, usize) {
        self.event_loop.registered()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        match Context::is_running() {
            Some(false) => self.shut(),
            Some(true) => self.cut(),
            // At the thread's end nothing can be run any more, and what is left is leaked.
            None => {}
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("tasks", &self.context.tasks.borrow().len()).finish_non_exhaustive()
    }
}

/// A run that unwinds leaves no task that is waited for.
struct Finish(CellRef);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Wakes the main future of one run.
struct MainWaker {
    event_loop: Arc<EventLoop>,
    run: usize,
    /// A wake is on its way: one is enough.
    queued: AtomicBool,
}

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.event_loop.wake_main(self.run);
        }
    }
}
