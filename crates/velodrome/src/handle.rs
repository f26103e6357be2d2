//! [`Handle`]: a loop, as other threads see it.
//!
//! What must stay true: it can be sent anywhere and outlives the loop without harm; what was asked of a closed loop is
//! refused, and what a loop never came to is dropped on the thread that closes it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use crate::abi::HostRef;
use crate::body::Deliver;
use crate::context::Context;
use crate::join_error::JoinError;
use crate::sync::Mutex;
use crate::task::create_in;

/// A loop, as other threads see it: a place to call in. Cheap to clone; outlives the loop without harm.
///
/// ```
/// use velodrome::{Handle, run, spawn_blocking};
///
/// run(async {
///     let handle = Handle::current();
///     let answer = spawn_blocking(move || {
///         // In a thread of its own: ask the loop for something, without waiting for it.
///         handle.call_soon(|| assert!(velodrome::all_tasks().len() > 0)).unwrap();
///         42
///     });
///     assert_eq!(answer.await.unwrap(), 42);
/// });
/// ```
#[derive(Clone)]
pub struct Handle {
    host: HostRef,
}

/// The loop is closed. See [`Handle`].
///
/// ```
/// let handle = velodrome::run(async { velodrome::Handle::current() });
/// assert_eq!(handle.call_soon(|| ()).unwrap_err().to_string(), "the event loop is closed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event loop is closed")]
pub struct Closed;

impl Handle {
    pub(crate) fn new(host: HostRef) -> Self {
        Handle { host }
    }

    pub(crate) fn host(&self) -> &HostRef {
        &self.host
    }

    /// The running loop.
    ///
    /// # Panics
    ///
    /// Outside of a running loop.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let handle = velodrome::Handle::current();
    /// });
    /// ```
    #[track_caller]
    pub fn current() -> Handle {
        Handle { host: Context::current().host.host().clone() }
    }

    /// Has a function called on the loop's thread, behind all that is ready: asyncio's `call_soon_threadsafe`.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the loop is.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// use velodrome::{Handle, run, yield_now};
    ///
    /// run(async {
    ///     let called = Arc::new(AtomicBool::new(false));
    ///     let flag = Arc::clone(&called);
    ///     Handle::current().call_soon(move || flag.store(true, Ordering::Relaxed)).unwrap();
    ///     yield_now().await;
    ///     assert!(called.load(Ordering::Relaxed));
    /// });
    /// ```
    pub fn call_soon(&self, function: impl FnOnce() + Send + 'static) -> Result<(), Closed> {
        let host = self.host.clone();
        let function = move || {
            let _entered = Context::enter_guest(&host);
            function();
        };
        self.host.send(Box::new(function)).map_err(|_function| Closed)
    }

    /// Makes a task on the loop's thread of what `make` returns there; so the future itself need not be `Send`.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the loop is.
    ///
    /// ```
    /// use std::rc::Rc;
    /// use velodrome::{Runner, yield_now};
    ///
    /// let runner = Runner::new()?;
    /// let handle = runner.handle();
    /// let asked = std::thread::spawn(move || {
    ///     handle.create_task(|| async {
    ///         let local = Rc::new(20);
    ///         yield_now().await;
    ///         *local + 1
    ///     })
    /// });
    /// let task = asked.join().unwrap().unwrap();
    /// assert_eq!(runner.run(task).unwrap(), 21);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn create_task<M, F>(&self, make: M) -> Result<RemoteTask<F::Output>, Closed>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let sender = Sender(Some(Arc::clone(&shared)));
        self.call_soon(move || {
            let context = Context::current();
            let task = create_in(&context, make(), sender);
            task.detach();
        })?;
        Ok(RemoteTask { shared })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// A task that was asked for from another thread: await it anywhere, in any executor.
///
/// ```
/// let runner = velodrome::Runner::new()?;
/// let task: velodrome::RemoteTask<i32> = runner.handle().create_task(|| async { 1 })?;
/// assert_eq!(runner.run(task).unwrap(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the task runs on when this is dropped"]
pub struct RemoteTask<T> {
    shared: Arc<Shared<T>>,
}

/// Where the outcome is left, by one thread for another.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Slot<T>>);

#[derive(Debug)]
struct Slot<T> {
    outcome: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(Mutex::new(Slot { outcome: None, waker: None }))
    }
}

impl<T> Shared<T> {
    pub(crate) fn set(&self, outcome: Result<T, JoinError>) {
        let waker = {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.outcome = Some(outcome);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Result<T, JoinError>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                let old = slot.waker.replace(cx.waker().clone());
                drop(slot);
                drop(old);
                Poll::Pending
            }
        }
    }
}

/// Leaves the outcome; if it is dropped, that is one too.
pub(crate) struct Sender<T>(pub(crate) Option<Arc<Shared<T>>>);

impl<T> Sender<T> {
    pub(crate) fn send(mut self, outcome: Result<T, JoinError>) {
        if let Some(shared) = self.0.take() {
            shared.set(outcome);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.set(Err(JoinError::Cancelled));
        }
    }
}

impl<T> Deliver<T> for Sender<T> {
    type Value = ();

    fn deliver(self, outcome: Result<T, JoinError>) -> Result<(), JoinError> {
        self.send(outcome);
        Ok(())
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.shared.poll(cx)
    }
}
