//! [`from_awaitable`]: anything that Python can await, as a Rust future.
//!
//! What must stay true: the awaitable becomes a task of the running loop when the future is first polled, and is cancelled when
//! the future is dropped before its end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::running;

/// Waits for a coroutine, a future, or anything else that Python can await, beside everything else that the loop does.
///
/// The first poll makes a task of it, as `asyncio.ensure_future` does, on the running loop; dropping the future cancels that task.
/// The output is the awaitable's result, or what it raised; `asyncio.CancelledError` if the task was cancelled. Polled where no
/// loop runs, as on a thread of tokio's, it gives the `RuntimeError` of `asyncio.get_running_loop()`.
///
/// ```
/// use pyo3::prelude::*;
/// use velodrome_bridge::{from_awaitable, into_awaitable};
///
/// /// Awaits two things at a time, and adds what they give.
/// #[pyfunction]
/// fn sum<'py>(py: Python<'py>, a: Py<PyAny>, b: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     into_awaitable(py, async move {
///         let (a, b) = velodrome::gather!(from_awaitable(a), from_awaitable(b));
///         Python::attach(|py| Ok(a?.bind(py).add(b?)?.unbind()))
///     })
/// }
///
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// let main = pyo3::types::PyModule::from_code(py, c"
/// import asyncio
/// async def later(value):
///     await asyncio.sleep(0.01)
///     return value
/// async def main(sum):
///     return await sum(later(40), later(2))
/// ", c"main.py", c"main")?.getattr("main")?;
/// let main = main.call1((wrap_pyfunction!(sum, py)?,))?;
/// assert_eq!(py.import("asyncio")?.call_method1("run", (main,))?.extract::<i32>()?, 42);
/// # Ok(())
/// # })
/// # }
/// ```
pub fn from_awaitable(awaitable: Py<PyAny>) -> FromAwaitable {
    FromAwaitable { state: State::New(awaitable) }
}

/// What [`from_awaitable`] returns.
///
/// ```
/// use pyo3::prelude::*;
/// use velodrome_bridge::FromAwaitable;
///
/// async fn first(awaited: FromAwaitable) -> PyResult<Py<PyAny>> {
///     awaited.await
/// }
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct FromAwaitable {
    state: State,
}

enum State {
    New(Py<PyAny>),
    Waiting { task: Py<PyAny>, waiter: Arc<Waiter> },
    Done,
}

/// Who is told that the task is done.
#[derive(Default)]
struct Waiter(Mutex<Option<Waker>>);

impl Waiter {
    fn swap(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }
}

/// What Python calls when the task is done.
#[pyclass(frozen)]
struct TaskDone(Arc<Waiter>);

#[pymethods]
impl TaskDone {
    fn __call__(&self, _task: &Bound<'_, PyAny>) {
        if let Some(waker) = self.0.swap(None) {
            waker.wake();
        }
    }
}

impl Future for FromAwaitable {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            let polled = self.poll_in(py, cx);
            if polled.is_ready() {
                self.state = State::Done;
            }
            polled
        })
    }
}

impl FromAwaitable {
    fn poll_in(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        if let State::New(awaitable) = &self.state {
            let begun = begin(awaitable.bind(py))?;
            self.state = begun;
        }
        let State::Waiting { task, waiter } = &self.state else {
            return Poll::Pending;
        };
        let task = task.bind(py);
        if task.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Poll::Ready(task.call_method0(intern!(py, "result")).map(Bound::unbind));
        }
        drop(waiter.swap(Some(cx.waker().clone())));
        Poll::Pending
    }
}

/// Makes a task of an awaitable, or takes the future that it is.
fn begin(awaitable: &Bound<'_, PyAny>) -> PyResult<State> {
    static ENSURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = awaitable.py();
    // Asked first: `ensure_future` would leave a coroutine unawaited where no loop runs, with a warning on top.
    running::event_loop(py)?;
    let task = running::function(py, &ENSURE, "ensure_future")?.call1((awaitable,))?;
    let waiter = Arc::new(Waiter::default());
    let done = Py::new(py, TaskDone(Arc::clone(&waiter)))?;
    task.call_method1(intern!(py, "add_done_callback"), (done,))?;
    Ok(State::Waiting { task: task.unbind(), waiter })
}

impl Drop for FromAwaitable {
    fn drop(&mut self) {
        let State::Waiting { task, waiter } = std::mem::replace(&mut self.state, State::Done) else { return };
        drop(waiter.swap(None));
        // Without an interpreter there is no task.
        Python::try_attach(|py| {
            let task = task.into_bound(py);
            if let Err(error) = task.call_method0(intern!(py, "cancel")) {
                error.write_unraisable(py, Some(&task));
            }
        });
    }
}

impl fmt::Debug for FromAwaitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(_) => "new",
            State::Waiting { .. } => "waiting",
            State::Done => "done",
        };
        f.debug_tuple("FromAwaitable").field(&state).finish()
    }
}
