//! [`Waking`]: how a Rust waker wakes the Python task that awaits.
//!
//! The task waits for a future of its loop, made anew for each wait. On the loop's thread a wake resolves that future at once; from
//! another thread it first goes through the loop's queue, without the GIL where the loop is velodrome's.
//!
//! What must stay true:
//!
//! - No wake is lost: one that comes while the Rust future is polled is seen before the Python task is sent to wait.
//! - Nothing of Python's is touched, and no GIL asked for, under the lock.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use velodrome::Handle;
use velodrome::host::{Guest, GuestTask};

pub(crate) struct Waking {
    handle: Handle,
    thread: ThreadId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    woken: bool,
    /// What the Python task waits for.
    future: Option<Py<PyAny>>,
}

thread_local! {
    /// One that a future left which was ready at once, for the next such future: nobody has a waker of it.
    static SPARE: Cell<Option<(Arc<Waking>, Waker)>> = const { Cell::new(None) };
}

/// A waker of its own for a future on this loop.
pub(crate) fn of(guest: &Guest) -> (Arc<Waking>, Waker) {
    match SPARE.take() {
        Some(spare) if guest.is_loop_of(&spare.0.handle) => spare,
        _ => {
            let handle = guest.handle();
            let waking = Arc::new(Waking { handle, thread: thread::current().id(), state: Mutex::default() });
            let waker = Waker::from(Arc::clone(&waking));
            (waking, waker)
        }
    }
}

/// Keeps what a future does not need any more, unless somebody could still wake it.
pub(crate) fn keep(waking: Arc<Waking>, waker: Waker) {
    if Arc::strong_count(&waking) == 2 {
        waking.begin();
        SPARE.set(Some((waking, waker)));
    }
}

impl Waking {
    /// The loop, from any thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes from now on is for the poll to come, which sees it.
    pub(crate) fn begin(&self) {
        let old = {
            let mut state = self.state();
            state.woken = false;
            state.future.take()
        };
        drop(old);
    }

    /// Whether a wake has come since the poll began. (If not, [`Waking::wait`] is next.)
    pub(crate) fn is_woken(&self) -> bool {
        self.state().woken
    }

    /// The Python task will wait for this future. `false` if a wake has come, so that it must not.
    pub(crate) fn wait(&self, future: Py<PyAny>) -> bool {
        let refused = {
            let mut state = self.state();
            if state.woken {
                Some(future)
            } else {
                state.future = Some(future);
                None
            }
        };
        refused.is_none()
    }

    /// Shows the collector what the Python task waits for, unless somebody else may still wake it: a task that sleeps is referred
    /// to by nothing else, and is no garbage.
    pub(crate) fn traverse(
        self: &Arc<Self>,
        task: &GuestTask<impl Future + ?Sized>,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        // The coroutine has two, and its task another one once it has waited.
        let own = if task.has_waker() { 3 } else { 2 };
        match &self.state().future {
            Some(future) if Arc::strong_count(self) == own => visit.call(future),
            _ => Ok(()),
        }
    }

    /// Resolves what the Python task waits for. On the loop's thread.
    fn fire(&self) {
        let future = self.state().future.take();
        let Some(future) = future else { return };
        // Without an interpreter nobody waits. (The future is dropped within: elsewhere PyO3 would put that off.)
        Python::try_attach(|py| {
            let future = &future.into_bound(py);
            let resolved = match future.call_method0(intern!(py, "done")).and_then(|done| done.is_truthy()) {
                Ok(true) => Ok(()),
                Ok(false) => future.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop),
                Err(error) => Err(error),
            };
            // As asyncio has it, a closed loop has nobody to wake.
            if let Err(error) = resolved
                && !is_of_closed_loop(future)
            {
                error.write_unraisable(py, Some(future));
            }
        });
    }
}

fn is_of_closed_loop(future: &Bound<'_, PyAny>) -> bool {
    let py = future.py();
    let closed = future
        .call_method0(intern!(py, "get_loop"))
        .and_then(|event_loop| event_loop.call_method0(intern!(py, "is_closed")));
    closed.and_then(|closed| closed.is_truthy()).unwrap_or(false)
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if std::mem::replace(&mut state.woken, true) || state.future.is_none() {
                return;
            }
        }
        if self.thread == thread::current().id() {
            self.fire();
        } else {
            let this = Arc::clone(self);
            // A closed loop has nobody to wake.
            let _closed = self.handle.call_soon(move || this.fire());
        }
    }
}
