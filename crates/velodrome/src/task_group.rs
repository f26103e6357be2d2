//! [`task_group`]: tasks that end with a block of code.
//!
//! What must stay true, as in asyncio: the block is left only when every member is done; when a member fails, or the block,
//! the others are cancelled and awaited; every error is told, none is lost.
//!
//! Members are tasks of the loop, and so `'static`: they cannot borrow from the block around them. What borrows has to end
//! before what is borrowed, and nothing can make sure of that here: the block's future may be leaked (`mem::forget`), and
//! then its variables are gone while the loop still runs the members. (A scope of threads can promise it because it blocks.
//! A group whose members are polled by the block itself could, but that would be a scheduler of its own within one task.)
//! Futures need not be `Send`, so an `Rc` goes a long way; and [`gather!`](crate::gather!) runs futures that borrow.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;
use slab::Slab;

use crate::abi::{Callee, CellRef, LocalWaker};
use crate::body::Deliver;
use crate::context::Context;
use crate::join_error::{JoinError, Panic};
use crate::task::{Task, create_in};
use crate::task_cell::{Kind, ScopeGuard, ScopeRef, Told};

/// Runs a block of code with a group of tasks, and waits for them all.
///
/// When a member fails, the block and the other members are cancelled and awaited, and the errors come out together. When
/// the task around is cancelled, so are the members, and the task ends when they have. (Dropping the future cancels the
/// members too, but cannot wait for them.)
///
/// # Errors
///
/// [`GroupError`] with what members failed with, and the block.
///
/// # Panics
///
/// Outside of a running loop. A member that panics does not panic here: it is one of the errors.
///
/// ```
/// use velodrome::{run, task_group, yield_now};
///
/// let sum = run(task_group(async |group| {
///     let one = group.create_task(async { Ok(1) });
///     let two = group.create_task(async {
///         yield_now().await;
///         Ok::<i32, String>(2)
///     });
///     Ok(one.await.unwrap() + two.await.unwrap())
/// }));
/// assert_eq!(sum.unwrap(), 3);
/// ```
///
/// A member that fails:
///
/// ```
/// use velodrome::{run, task_group};
///
/// let error = run(task_group(async |group| {
///     group.create_task(std::future::pending::<Result<(), &str>>()).detach(); // will be cancelled
///     group.create_task(async { Err::<(), _>("no luck") }).detach();
///     Ok(())
/// }))
/// .unwrap_err();
/// assert_eq!(error.to_string(), "a task group failed: no luck");
/// ```
pub async fn task_group<T, E, B>(block: B) -> Result<T, GroupError<E>>
where
    B: AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
    E: 'static,
{
    let group = TaskGroup::new();
    let members = CancelMembers(Rc::clone(&group.state));
    let outcome = Block {
        block: Some(block(&group)),
        outcome: None,
        scope: Scope::default(),
        state: Rc::clone(&group.state),
    }
    .await;
    drop(members);
    outcome
}

/// The group of a [`task_group`]. Clones are the same group: a member can have one, and add others.
///
/// ```
/// use velodrome::{TaskGroup, run, task_group};
///
/// run(task_group(async |group: &TaskGroup<String>| {
///     let inner = group.clone();
///     group.create_task(async move {
///         inner.create_task(async { Ok(()) }).detach();
///         Ok(())
///     }).detach();
///     Ok(())
/// }))
/// .unwrap();
/// ```
pub struct TaskGroup<E> {
    state: Rc<State<E>>,
}

struct State<E> {
    context: Rc<Context>,
    members: RefCell<Slab<CellRef>>,
    errors: RefCell<Vec<MemberError<E>>>,
    /// The others are cancelled: whoever joins now is born cancelled.
    aborting: Cell<bool>,
    /// How many times the loop was told and has not come back to it yet: asyncio's callbacks of done tasks.
    unheard: Cell<usize>,
    /// What is in the block, as long as nobody has asked it to end.
    block: Cell<Option<ScopeRef>>,
    /// What is in the block was asked to end, because a member failed; it ends by itself.
    asked: Cell<bool>,
    /// The block is to be dropped, because a member failed.
    ends: Cell<bool>,
    /// The block is over, and the task waits for the members: only then is it woken because they are done.
    waits: Cell<bool>,
    waker: Cell<Option<LocalWaker>>,
}

/// Why a task group failed: with each error: its members' in the order in which they came, and then its block's.
///
/// ```
/// use velodrome::{MemberError, run, task_group};
///
/// let error = run(task_group(async |group| {
///     group.create_task(async { Err::<(), _>("one") }).detach();
///     group.create_task(async { Err::<(), _>("two") }).detach();
///     Ok(())
/// }))
/// .unwrap_err();
/// assert!(matches!(error.errors[..], [MemberError::Failed("one"), MemberError::Failed("two")]));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct GroupError<E> {
    /// What went wrong.
    pub errors: Vec<MemberError<E>>,
}

/// What went wrong in one member of a task group, or in its block.
///
/// ```
/// let error: velodrome::MemberError<&str> = velodrome::MemberError::Failed("oh");
/// assert_eq!(error.to_string(), "oh");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MemberError<E> {
    /// It gave an error.
    Failed(E),
    /// It panicked.
    Panicked(Panic),
}

impl<E: fmt::Display> fmt::Display for MemberError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberError::Failed(error) => error.fmt(f),
            MemberError::Panicked(panic) => write!(f, "panicked: {panic}"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task group failed: ")?;
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for GroupError<E> {}

impl<E: 'static> TaskGroup<E> {
    #[track_caller]
    fn new() -> Self {
        let state = State {
            context: Context::current(),
            block: Cell::new(None),
            asked: Cell::new(false),
            ends: Cell::new(false),
            waits: Cell::new(false),
            members: RefCell::new(Slab::new()),
            errors: RefCell::new(Vec::new()),
            aborting: Cell::new(false),
            unheard: Cell::new(0),
            waker: Cell::new(None),
        };
        TaskGroup { state: Rc::new(state) }
    }

    /// Makes a task of the group. Its value is for whoever awaits it, its error for the group.
    ///
    /// A group that is ending takes no more members: the task is cancelled before it begins.
    ///
    /// ```
    /// use velodrome::{run, task_group};
    ///
    /// run(task_group(async |group| {
    ///     let task = group.create_task(async { Ok::<i32, String>(1) });
    ///     assert_eq!(task.await.unwrap(), 1);
    ///     Ok(())
    /// }))
    /// .unwrap();
    /// ```
    pub fn create_task<F, T>(&self, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
    {
        let state = &self.state;
        let key = state.members.borrow().vacant_key();
        let task = create_in(&state.context, future, Member { state: Rc::clone(state), key });
        state.members.borrow_mut().insert(task.cell());
        if state.aborting.get() {
            task.cancel();
        }
        task
    }
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        TaskGroup { state: Rc::clone(&self.state) }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("members", &self.state.members.borrow().len())
            .finish_non_exhaustive()
    }
}

impl<E> State<E> {
    /// Cancels all members, and whoever will join.
    fn abort(&self) {
        if self.aborting.replace(true) {
            return;
        }
        let members: Vec<_> = self.members.borrow().iter().map(|(_, cell)| cell.clone()).collect();
        for member in members {
            member.cancel();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.unheard.get() == 0 && self.members.borrow().is_empty()
    }
}

impl<E: 'static> State<E> {
    /// Has the loop come back here when it has done what is ready now: where asyncio calls back for a task that is done.
    fn tell(self: &Rc<Self>) {
        self.unheard.set(self.unheard.get() + 1);
        self.context.host.defer(Rc::clone(self));
    }
}

impl<E: 'static> Callee for State<E> {
    fn called(self: Rc<Self>) {
        self.unheard.set(self.unheard.get() - 1);
        // Nobody is woken for nothing: what the task waits for would find it queued already, before its turn.
        if !self.aborting.get() && !self.errors.borrow().is_empty() {
            self.abort();
            self.asked.set(self.block.take().is_some_and(|block| block.send()));
            self.ends.set(!self.asked.get());
            if self.ends.get() {
                self.wake();
            }
        } else if self.waits.get() && self.is_over() {
            self.wake();
        }
    }
}

/// Tells the group of a member's end.
struct Member<E> {
    state: Rc<State<E>>,
    key: usize,
}

impl<T, E: 'static> Deliver<Result<T, E>> for Member<E> {
    type Value = T;

    #[inline]
    fn deliver(self, outcome: Result<Result<T, E>, JoinError>) -> Result<T, JoinError> {
        let (_cell, last) = {
            let mut members = self.state.members.borrow_mut();
            (members.try_remove(self.key), members.is_empty())
        };
        // The value goes through as it is: what is moved about here costs as much as all the rest.
        match outcome {
            Ok(Ok(value)) => {
                if last {
                    self.state.tell();
                }
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(MemberError::Failed(error))),
            Err(JoinError::Panicked(panic)) => Err(self.failed(MemberError::Panicked(panic))),
            Err(other) => {
                if last {
                    self.state.tell();
                }
                Err(other)
            }
        }
    }
}

impl<E: 'static> Member<E> {
    #[cold]
    fn failed(self, error: MemberError<E>) -> JoinError {
        self.state.errors.borrow_mut().push(error);
        self.state.tell();
        JoinError::Failed
    }
}

/// The last resort: who drops the block's future cancels its members.
struct CancelMembers<E>(Rc<State<E>>);

impl<E> Drop for CancelMembers<E> {
    fn drop(&mut self) {
        drop(self.0.block.take());
        self.0.abort();
    }
}

pin_project! {
    /// The block, and then the wait for its members.
    struct Block<B, T, E> {
        #[pin]
        block: Option<B>,
        outcome: Option<Result<T, E>>,
        scope: Scope,
        state: Rc<State<E>>,
    }
}

#[derive(Default)]
struct Scope {
    guard: Option<ScopeGuard>,
    /// The task around was cancelled.
    cancelled: bool,
}

impl<B, T, E> Future for Block<B, T, E>
where
    B: Future<Output = Result<T, E>>,
{
    type Output = Result<T, GroupError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let state = &**this.state;
        let scope = this.scope;
        if ScopeGuard::follow(&mut scope.guard, Kind::Catches, None) && this.block.is_some() {
            state.block.set(scope.guard.as_ref().map(ScopeGuard::scope));
        }
        if scope.guard.as_ref().is_some_and(|guard| guard.told() != Told::Nothing) {
            scope.cancelled = true;
            this.block.set(None);
            state.abort();
        }
        if state.ends.get() {
            this.block.set(None);
        }
        if let Some(block) = this.block.as_mut().as_pin_mut() {
            let polled = match &scope.guard {
                Some(guard) => guard.poll(cx.waker(), || block.poll(cx)),
                None => block.poll(cx),
            };
            match polled {
                Poll::Ready(outcome) => {
                    let failed = outcome.is_err();
                    *this.outcome = Some(outcome);
                    this.block.set(None);
                    if failed {
                        state.abort();
                    }
                }
                Poll::Pending => {
                    if scope.guard.as_ref().is_some_and(ScopeGuard::unwinds) {
                        scope.cancelled |= !state.asked.get();
                        this.block.set(None);
                        state.abort();
                    }
                }
            }
        }
        if this.block.is_none() && !state.waits.replace(true) {
            drop(state.block.take());
        }
        if this.block.is_some() || !state.is_over() {
            state.waker.set(Some(LocalWaker::keep(state.waker.take(), cx.waker())));
            return Poll::Pending;
        }
        let cancelled = scope.cancelled;
        scope.guard = None;
        let mut errors = std::mem::take(&mut *state.errors.borrow_mut());
        let outcome = this.outcome.take();
        if let Some(Err(error)) = outcome {
            errors.push(MemberError::Failed(error));
            return Poll::Ready(Err(GroupError { errors }));
        }
        if !errors.is_empty() {
            return Poll::Ready(Err(GroupError { errors }));
        }
        match outcome {
            Some(Ok(value)) if !cancelled => Poll::Ready(Ok(value)),
            _ => {
                if let Some(task) = CellRef::current() {
                    task.unwind();
                }
                Poll::Pending
            }
        }
    }
}
