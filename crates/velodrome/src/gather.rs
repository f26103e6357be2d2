//! [`gather`] and [`try_gather`]: many at once, as tasks. (For futures of different types, and for those that borrow, there
//! are the macros of `gather_in_place.rs`.)
//!
//! What must stay true, as in asyncio: the results come in the order of the futures; the first failure is out at once, and the
//! others go on; who is cancelled while gathering cancels the tasks, and ends when they have.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use crate::abi::{Callee, CellRef, LocalWaker};
use crate::body::Deliver;
use crate::context::Context;
use crate::join_error::JoinError;
use crate::members::Members;
use crate::task::create_in;
use crate::task_cell::{Kind, ScopeGuard, Told};

/// Runs futures at once, each as a task, and collects what they give, in their order.
///
/// Whatever a future gives is a result like any other, an `Err` too; see [`try_gather`] to stop at the first. Only a task
/// that panics or is cancelled ends the waiting at once; the others go on then.
///
/// Dropping what this returns cancels the tasks, if it is not done.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// use velodrome::{gather, run, yield_now};
///
/// run(async {
///     let squares = gather((1..4).map(|number| async move {
///         yield_now().await;
///         number * number
///     }));
///     assert_eq!(squares.await.unwrap(), [1, 4, 9]);
/// });
/// ```
#[track_caller]
pub fn gather<I, F>(futures: I) -> Gather<F::Output, JoinError>
where
    I: IntoIterator<Item = F>,
    F: Future + 'static,
{
    Gather::new(futures, |error| error, |state, index| Child { state, index })
}

/// Runs futures at once, each as a task, and collects what they give, in their order; the first `Err` is out at once.
///
/// The other tasks are not cancelled by that: they go on, and nobody waits for them (a [task group](crate::task_group) does
/// both). Dropping what this returns before it is done cancels them all.
///
/// The error has to be able to say that a task panicked or was cancelled; `Box<dyn Error + Send + Sync>` and `io::Error` can.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// use std::error::Error;
/// use velodrome::{run, try_gather};
///
/// run(async {
///     let texts = ["1", "2", "three"];
///     let numbers = try_gather(texts.map(|text| async move { Ok::<i32, Box<dyn Error>>(text.parse()?) }));
///     assert_eq!(numbers.await.unwrap_err().to_string(), "invalid digit found in string");
/// });
/// ```
#[track_caller]
pub fn try_gather<I, F, T, E>(futures: I) -> Gather<T, E>
where
    I: IntoIterator<Item = F>,
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: From<JoinError> + 'static,
{
    Gather::new(futures, E::from, |state, index| TryChild { state, index })
}

/// What [`gather`] and [`try_gather`] return.
///
/// ```
/// use velodrome::{Gather, JoinError, gather, run};
///
/// run(async {
///     let both: Gather<i32, JoinError> = gather([1, 2].map(|number| async move { number }));
///     assert_eq!(both.await.unwrap(), [1, 2]);
/// });
/// ```
#[must_use = "the tasks are cancelled when this is dropped"]
pub struct Gather<T, E> {
    state: Rc<State<T, E>>,
    scope: Option<ScopeGuard>,
    /// Somebody asked us to end. If the tasks were cancelled for that, we wait for them.
    cancelled: bool,
    over: bool,
    /// Makes an error of what became of a task. (Called by who awaits, because it may panic: [`JoinError::resume`] does.)
    convert: fn(JoinError) -> E,
}

struct State<T, E> {
    context: Rc<Context>,
    results: RefCell<Vec<Option<T>>>,
    failure: Cell<Option<Failure<E>>>,
    left: Cell<usize>,
    members: Rc<Members>,
    /// The loop was told, and has come back to it: as asyncio's callback of a done task, an iteration later.
    heard: Cell<bool>,
    waker: Cell<Option<LocalWaker>>,
}

/// Why there are no results.
enum Failure<E> {
    Own(E),
    Join(JoinError),
}

impl<T, E> Unpin for Gather<T, E> {}

impl<T, E> Gather<T, E> {
    #[track_caller]
    fn new<I, F, D>(
        futures: I,
        convert: fn(JoinError) -> E,
        child: impl Fn(Rc<State<T, E>>, usize) -> D,
    ) -> Self
    where
        I: IntoIterator<Item = F>,
        F: Future + 'static,
        D: Deliver<F::Output, Value = ()> + 'static,
    {
        let futures = futures.into_iter();
        let context = Context::current();
        let likely = futures.size_hint().0;
        let state = Rc::new(State {
            context: Rc::clone(&context),
            results: RefCell::new(Vec::with_capacity(likely)),
            failure: Cell::new(None),
            left: Cell::new(0),
            members: Rc::new(Members::with_capacity(likely)),
            heard: Cell::new(false),
            waker: Cell::new(None),
        });
        for (index, future) in futures.enumerate() {
            state.results.borrow_mut().push(None);
            state.left.set(index + 1);
            let task = create_in(&context, future, child(Rc::clone(&state), index));
            state.members.add(task.into_cell());
        }
        let heard = state.left.get() == 0;
        state.heard.set(heard);
        Gather { state, scope: None, cancelled: false, over: false, convert }
    }
}

impl<T: 'static, E: 'static> State<T, E> {
    fn child_done(self: Rc<Self>, index: usize, outcome: Result<T, Failure<E>>) -> Result<(), JoinError> {
        let left = self.left.get() - 1;
        self.left.set(left);
        let mut failed = false;
        let second = match outcome {
            Ok(result) => {
                self.results.borrow_mut()[index] = Some(result);
                None
            }
            Err(failure) => {
                let first = self.failure.take();
                failed = first.is_none();
                let (first, second) = match first {
                    Some(first) => (first, Some(failure)),
                    None => (failure, None),
                };
                self.failure.set(Some(first));
                second
            }
        };
        if left == 0 || (failed && !self.members.were_cancelled()) {
            let context = Rc::clone(&self.context);
            context.host.defer(self);
        }
        // At the end, because it may panic.
        drop(second);
        Ok(())
    }
}

impl<T, E> Callee for State<T, E> {
    fn called(self: Rc<Self>) {
        self.heard.set(true);
        // From now on the others are their own masters, as in asyncio: who is cancelled now cancels none of them.
        self.members.release();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct Child<T> {
    state: Rc<State<T, JoinError>>,
    index: usize,
}

impl<T: 'static> Deliver<T> for Child<T> {
    type Value = ();

    #[inline]
    fn deliver(self, outcome: Result<T, JoinError>) -> Result<(), JoinError> {
        self.state.child_done(self.index, outcome.map_err(Failure::Own))
    }
}

struct TryChild<T, E> {
    state: Rc<State<T, E>>,
    index: usize,
}

impl<T: 'static, E: From<JoinError> + 'static> Deliver<Result<T, E>> for TryChild<T, E> {
    type Value = ();

    #[inline]
    fn deliver(self, outcome: Result<Result<T, E>, JoinError>) -> Result<(), JoinError> {
        let outcome = match outcome {
            Ok(outcome) => outcome.map_err(Failure::Own),
            Err(error) => Err(Failure::Join(error)),
        };
        self.state.child_done(self.index, outcome)
    }
}

impl<T, E> Future for Gather<T, E> {
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        assert!(!self.over, "polled after its end");
        let this = &mut *self;
        if !this.state.heard.get() {
            ScopeGuard::follow(&mut this.scope, Kind::Catches, Some(&this.state.members));
        }
        // (The tasks were cancelled when it was told.)
        let state = &*this.state;
        this.cancelled |= this.scope.as_ref().is_some_and(|scope| scope.told() != Told::Nothing);
        let ended = state.heard.get() && (!state.members.were_cancelled() || state.left.get() == 0);
        if !ended {
            state.waker.set(Some(LocalWaker::keep(state.waker.take(), cx.waker())));
            if let Some(scope) = &this.scope {
                scope.poll(cx.waker(), || ());
            }
            return Poll::Pending;
        }
        if this.cancelled {
            this.scope = None;
            if let Some(task) = CellRef::current() {
                task.unwind();
            }
            return Poll::Pending;
        }
        this.over = true;
        this.scope = None;
        if let Some(failure) = state.failure.take() {
            return Poll::Ready(Err(match failure {
                Failure::Own(error) => error,
                Failure::Join(error) => (this.convert)(error),
            }));
        }
        let results = std::mem::take(&mut *state.results.borrow_mut());
        Poll::Ready(Ok(results.into_iter().map(|result| result.expect("every task is done")).collect()))
    }
}

impl<T, E> Drop for Gather<T, E> {
    fn drop(&mut self) {
        if !self.over {
            self.state.members.cancel();
        }
    }
}

impl<T, E> fmt::Debug for Gather<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("left", &self.state.left.get()).finish_non_exhaustive()
    }
}
