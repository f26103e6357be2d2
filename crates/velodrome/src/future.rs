//! [`Future`] and [`Promise`]: a result that somebody will give.
//!
//! What must stay true: one result, given once, to one who waits; either side may go first, and the other hears of it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::abi::LocalWaker;

struct State<T> {
    result: RefCell<Slot<T>>,
    waker: Cell<Option<LocalWaker>>,
}

enum Slot<T> {
    Pending,
    Set(T),
    /// Given and taken, or dropped by one of the two.
    Over,
}

/// A result that a [`Promise`] will give: asyncio's `Future`, seen by who waits.
///
/// ```
/// use velodrome::{Future, create_task, run};
///
/// run(async {
///     let (promise, future) = Future::new();
///     create_task(async move { promise.set("a word").unwrap() }).detach();
///     assert_eq!(future.await.unwrap(), "a word");
/// });
/// ```
#[must_use = "the promise is broken when this is dropped"]
pub struct Future<T> {
    state: Rc<State<T>>,
}

/// Gives a [`Future`] its result.
///
/// ```
/// use velodrome::{Future, run};
///
/// let (promise, future) = Future::new();
/// promise.set(1).unwrap();
/// assert_eq!(run(future).unwrap(), 1);
/// ```
pub struct Promise<T> {
    state: Rc<State<T>>,
}

/// The result was given before, or nobody waits for it any more; with the result that nobody took.
///
/// ```
/// use velodrome::{Future, InvalidState};
///
/// let (promise, future) = Future::new();
/// promise.set(1).unwrap();
/// assert_eq!(promise.set(2), Err(InvalidState(2)));
/// # drop(future);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid state")]
pub struct InvalidState<T>(pub T);

/// The promise was dropped without giving a result.
///
/// ```
/// use velodrome::{BrokenPromise, Future, run};
///
/// let (promise, future) = Future::<i32>::new();
/// drop(promise);
/// assert_eq!(run(future), Err(BrokenPromise));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the promise was dropped")]
pub struct BrokenPromise;

impl<T> Future<T> {
    /// A promise and its future.
    ///
    /// ```
    /// use velodrome::Future;
    /// let (promise, future) = Future::<String>::new();
    /// assert!(!future.is_done());
    /// ```
    #[allow(clippy::new_ret_no_self, reason = "a future without its promise is of no use")]
    pub fn new() -> (Promise<T>, Future<T>) {
        let state = Rc::new(State { result: RefCell::new(Slot::Pending), waker: Cell::new(None) });
        (Promise { state: Rc::clone(&state) }, Future { state })
    }

    /// Whether the result is there, or never will be.
    ///
    /// ```
    /// use velodrome::Future;
    /// let (promise, future) = Future::new();
    /// promise.set(1).unwrap();
    /// assert!(future.is_done());
    /// ```
    pub fn is_done(&self) -> bool {
        !matches!(*self.state.result.borrow(), Slot::Pending)
    }
}

impl<T> Promise<T> {
    /// Gives the result, and wakes who waits.
    ///
    /// # Errors
    ///
    /// [`InvalidState`], with the result, if there was one before or nobody can take it any more.
    ///
    /// ```
    /// use velodrome::{Future, run};
    /// let (promise, future) = Future::new();
    /// promise.set(1).unwrap();
    /// assert_eq!(run(future).unwrap(), 1);
    /// ```
    pub fn set(&self, result: T) -> Result<(), InvalidState<T>> {
        {
            let mut slot = self.state.result.borrow_mut();
            if !matches!(*slot, Slot::Pending) {
                return Err(InvalidState(result));
            }
            *slot = Slot::Set(result);
        }
        self.wake();
        Ok(())
    }

    /// Whether nobody waits any more: the future was dropped without a result.
    ///
    /// ```
    /// use velodrome::Future;
    /// let (promise, future) = Future::<i32>::new();
    /// drop(future);
    /// assert!(promise.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.state.result.borrow(), Slot::Over) && Rc::strong_count(&self.state) == 1
    }

    fn wake(&self) {
        if let Some(waker) = self.state.waker.take() {
            waker.wake();
        }
    }
}

impl<T> std::future::Future for Future<T> {
    type Output = Result<T, BrokenPromise>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.state.result.borrow_mut();
        match std::mem::replace(&mut *slot, Slot::Over) {
            Slot::Set(result) => Poll::Ready(Ok(result)),
            Slot::Over => Poll::Ready(Err(BrokenPromise)),
            Slot::Pending => {
                *slot = Slot::Pending;
                drop(slot);
                self.state.waker.set(Some(LocalWaker::keep(self.state.waker.take(), cx.waker())));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Future<T> {
    fn drop(&mut self) {
        let result = self.state.result.replace(Slot::Over);
        let _waker = self.state.waker.take();
        drop(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        {
            let mut slot = self.state.result.borrow_mut();
            if !matches!(*slot, Slot::Pending) {
                return;
            }
            *slot = Slot::Over;
        }
        self.wake();
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}
