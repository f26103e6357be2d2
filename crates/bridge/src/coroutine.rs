//! [`into_awaitable`]: a Rust future, as a coroutine of Python.
//!
//! Whoever drives the coroutine polls the future: a task of whatever class, `gather`, a bare `send(None)`. While the future is
//! pending, the driver is given a future of the running loop to wait for, which the waker resolves.
//!
//! What must stay true:
//!
//! - The future is polled and dropped on the thread that it belongs to.
//! - What is thrown in cancels the future. It comes out again, unless the future has caught the cancellation and ends otherwise.
//! - Nothing is borrowed while the future is polled or dropped: it may run Python, which may come back here.

use std::cell::RefCell;
use std::ffi::CString;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use pyo3::conversion::IntoPyObjectExt;
use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};
use velodrome::host::GuestTask;
use velodrome::{Handle, JoinError};

use crate::abi::ThreadBound;
use crate::running;
use crate::waking::{self, Waking};

/// Makes a coroutine, as Python sees it, of a future.
///
/// The future is polled by the task that awaits it, on the thread that called this, which must be the loop's. Being cancelled,
/// it is dropped where it waits, or gives [`Cancelled`](velodrome::Cancelled) to the [`catch_cancel`](velodrome::catch_cancel)
/// around that. In its name, `repr` and "was never awaited" it is called as the function that made it.
///
/// # Errors
///
/// What Python raises when the object cannot be made.
///
/// ```
/// use pyo3::prelude::*;
/// use velodrome_bridge::into_awaitable;
///
/// #[pyfunction]
/// fn double(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyAny>> {
///     into_awaitable(py, async move {
///         velodrome::yield_now().await;
///         Ok(2 * number)
///     })
/// }
///
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// let double = wrap_pyfunction!(double, py)?;
/// let answer = py.import("asyncio")?.call_method1("run", (double.call1((21,))?,))?;
/// assert_eq!(answer.extract::<i64>()?, 42);
/// # Ok(())
/// # })
/// # }
/// ```
pub fn into_awaitable<F, T>(py: Python<'_>, future: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    let created = State::Created(Box::pin(convert(future)));
    new_coroutine(py, Body::Here(ThreadBound::new(RefCell::new(created))), std::any::type_name::<F>())
}

/// [`into_awaitable`], of a future that is made on the thread of whichever loop awaits it: for
/// `asyncio.run_coroutine_threadsafe` and the like.
///
/// # Errors
///
/// What Python raises when the object cannot be made.
///
/// ```
/// use pyo3::prelude::*;
/// use velodrome_bridge::into_awaitable_with;
///
/// #[pyfunction]
/// fn double(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyAny>> {
///     into_awaitable_with(py, move || async move {
///         velodrome::yield_now().await;
///         Ok(2 * number)
///     })
/// }
///
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// let main = pyo3::types::PyModule::from_code(py, c"
/// import asyncio
/// async def main(double):
///     loop = asyncio.get_running_loop()
///     def elsewhere():
///         return asyncio.run_coroutine_threadsafe(double(21), loop).result()
///     return await asyncio.to_thread(elsewhere)
/// ", c"main.py", c"main")?.getattr("main")?;
/// let main = main.call1((wrap_pyfunction!(double, py)?,))?;
/// assert_eq!(py.import("asyncio")?.call_method1("run", (main,))?.extract::<i64>()?, 42);
/// # Ok(())
/// # })
/// # }
/// ```
pub fn into_awaitable_with<M, F, T>(py: Python<'_>, make: M) -> PyResult<Bound<'_, PyAny>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    let make: Make = Box::new(move || Box::pin(convert(make())));
    let body = Body::Anywhere { make: Mutex::new(Some(make)), here: OnceLock::new() };
    new_coroutine(py, body, std::any::type_name::<F>())
}

type Object = dyn Future<Output = PyResult<Py<PyAny>>>;
type Make = Box<dyn FnOnce() -> Pin<Box<Object>> + Send>;

async fn convert<F, T>(future: F) -> PyResult<Py<PyAny>>
where
    F: Future<Output = PyResult<T>>,
    T: for<'py> IntoPyObject<'py> + 'static,
{
    let value = future.await?;
    Python::attach(|py| value.into_py_any(py))
}

fn new_coroutine<'py>(py: Python<'py>, body: Body, type_name: &'static str) -> PyResult<Bound<'py, PyAny>> {
    Ok(Bound::new(py, Coroutine { body, begun: AtomicBool::new(false), handle: OnceLock::new(), type_name })?
        .into_any())
}

/// A Rust future, as a coroutine of Python.
#[pyclass(frozen, name = "RustCoroutine", module = "velodrome_bridge", weakref)]
struct Coroutine {
    body: Body,
    /// Whether anybody has asked for it: if not, whoever forgets it is warned.
    begun: AtomicBool,
    /// The loop that it was begun on.
    handle: OnceLock<Handle>,
    type_name: &'static str,
}

enum Body {
    /// On the thread that made it.
    Here(ThreadBound<RefCell<State>>),
    /// On the thread that is the first to await it.
    Anywhere {
        make: Mutex<Option<Make>>,
        here: OnceLock<ThreadBound<RefCell<State>>>,
    },
    Gone,
}

enum State {
    Created(Pin<Box<Object>>),
    Begun(Box<Begun>),
    Running,
    Closed,
}

struct Begun {
    task: GuestTask<Object>,
    waking: Arc<Waking>,
    waker: Waker,
    /// What was thrown in last, and is raised again if the future passes it on.
    thrown: Option<PyErr>,
}

impl Coroutine {
    /// The state, on its thread. `None` if nobody has asked for the future yet.
    fn state(&self) -> PyResult<Option<&RefCell<State>>> {
        let bound = match &self.body {
            Body::Here(state) => Some(state),
            Body::Anywhere { here, .. } => here.get(),
            Body::Gone => None,
        };
        match bound {
            None => Ok(None),
            Some(bound) => bound.get().map(Some).ok_or_else(|| {
                PyRuntimeError::new_err(format!(
                    "{} belongs to another thread: the one that made it, which must be that of the loop that awaits it",
                    self.qualname()
                ))
            }),
        }
    }

    /// The state, once there is a future.
    fn made(&self) -> PyResult<&RefCell<State>> {
        if let Body::Anywhere { make, here } = &self.body {
            // Made outside of the cell, because making it can run Python.
            let make = make.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(make) = make {
                let _lost = here.set(ThreadBound::new(RefCell::new(State::Created(make()))));
            }
        }
        self.state()?.ok_or_else(|| PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
    }

    fn is(&self, matches: impl Fn(&State) -> bool) -> bool {
        self.state().is_ok_and(|state| state.is_some_and(|state| matches(&state.borrow())))
    }

    /// The path of the function that made the future, within its crate.
    fn qualname(&self) -> &'static str {
        let path = self.type_name.trim_end_matches("::{{closure}}");
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path)
    }

    /// One step. `thrown` is what the driver throws in.
    fn step(&self, py: Python<'_>, thrown: Option<PyErr>) -> PyResult<Py<PyAny>> {
        self.begun.store(true, Ordering::Relaxed);
        let state = self.made()?;
        let before = state.replace(State::Running);
        let closing = Closing(state);
        let value = match before {
            State::Created(future) => match thrown {
                Some(thrown) => {
                    drop(future);
                    return Err(thrown);
                }
                None => {
                    // Many a future is ready at once: only one that is not takes memory to be kept in.
                    let mut begun = Begun::new(py, future)?;
                    match begun.step(py)? {
                        Step::Done(value) => {
                            begun.end();
                            value
                        }
                        Step::Waits(awaited) => {
                            let _unset = self.handle.set(begun.waking.handle().clone());
                            closing.forget();
                            state.replace(State::Begun(Box::new(begun)));
                            return Ok(awaited);
                        }
                    }
                }
            },
            State::Begun(mut begun) => {
                if let Some(thrown) = thrown {
                    begun.task.cancel();
                    begun.thrown = Some(thrown);
                }
                begun.waking.begin();
                match begun.step(py)? {
                    Step::Done(value) => value,
                    Step::Waits(awaited) => {
                        closing.forget();
                        state.replace(State::Begun(begun));
                        return Ok(awaited);
                    }
                }
            }
            State::Running => {
                closing.forget();
                return Err(PyValueError::new_err("coroutine already executing"));
            }
            State::Closed => return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        };
        Err(PyStopIteration::new_err((value,)))
    }
}

/// What came of a step.
enum Step {
    Done(Py<PyAny>),
    /// For this, or for nothing: then it wants another turn.
    Waits(Py<PyAny>),
}

impl Begun {
    fn new(py: Python<'_>, future: Pin<Box<Object>>) -> PyResult<Begun> {
        let event_loop = running::event_loop(py)?;
        let guest = running::guest(&event_loop)?;
        let (waking, waker) = waking::of(&guest);
        let task = GuestTask::new(&guest, future);
        Ok(Begun { task, waking, waker, thrown: None })
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<Step> {
        match self.task.poll(&self.waker) {
            Poll::Ready(Ok(output)) => output.map(Step::Done),
            // PyO3 makes a `PanicException` of it.
            Poll::Ready(Err(JoinError::Panicked(panic))) => std::panic::resume_unwind(panic.into_payload()),
            Poll::Ready(Err(error)) => Err(self.thrown.take().map_or_else(|| cancelled(py, &error), Ok)?),
            Poll::Pending => wait(py, &self.waking).map(Step::Waits),
        }
    }

    /// It is over.
    fn end(self) {
        drop(self.task);
        waking::keep(self.waking, self.waker);
    }
}

/// Closes a coroutine that a step leaves without another state.
struct Closing<'a>(&'a RefCell<State>);

impl Closing<'_> {
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.replace(State::Closed);
    }
}

/// What the driver is to wait for: nothing (which means: go on soon) if a wake has come already.
fn wait(py: Python<'_>, waking: &Waking) -> PyResult<Py<PyAny>> {
    if waking.is_woken() {
        return Ok(py.None());
    }
    let future = running::event_loop(py)?.call_method0(intern!(py, "create_future"))?;
    future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    if waking.wait(future.clone().unbind()) { Ok(future.unbind()) } else { Ok(py.None()) }
}

/// The exception for a future that has cancelled its own task.
fn cancelled(py: Python<'_>, error: &JoinError) -> PyResult<PyErr> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = running::function(py, &CLASS, "CancelledError")?;
    let exception = if error.is_cancelled() { class.call0()? } else { class.call1((error.to_string(),))? };
    Ok(PyErr::from_value(exception))
}

#[pymethods]
impl Coroutine {
    fn __await__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if slf.get().is(|state| matches!(state, State::Begun(_) | State::Running)) {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        Ok(slf)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py, None)
    }

    /// Resume the coroutine.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if !value.is_none() && !self.begun.load(Ordering::Relaxed) {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
        }
        self.step(py, None)
    }

    /// Raise an exception where the coroutine waits.
    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.step(py, Some(exception(typ, val, tb)?))
    }

    /// End the coroutine where it is.
    fn close(&self) -> PyResult<()> {
        self.begun.store(true, Ordering::Relaxed);
        let Some(state) = self.state()? else {
            if let Body::Anywhere { make, .. } = &self.body {
                let make = make.lock().unwrap_or_else(PoisonError::into_inner).take();
                drop(make);
            }
            return Ok(());
        };
        let before = state.replace(State::Closed);
        if matches!(before, State::Running) {
            state.replace(before);
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        drop(before);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let bound = match &self.body {
            Body::Here(bound) => Some(bound),
            Body::Anywhere { here, .. } => here.get(),
            Body::Gone => None,
        };
        // On another thread, or in the middle of something, nothing is shown; so nothing is taken for garbage.
        if let Some(state) = bound.and_then(ThreadBound::get)
            && let Ok(state) = state.try_borrow()
            && let State::Begun(begun) = &*state
        {
            begun.waking.traverse(&begun.task, &visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(Some(state)) = self.state() {
            let before = state.replace(State::Closed);
            drop(before);
        }
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.qualname()
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.qualname()
    }

    #[getter]
    fn cr_running(&self) -> bool {
        self.is(|state| matches!(state, State::Running))
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        self.is(|state| matches!(state, State::Begun(_)))
    }

    #[getter]
    fn cr_await(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __repr__(&self) -> String {
        format!("<coroutine object {} at {:p}>", self.qualname(), std::ptr::from_ref(self))
    }
}

/// The exception that `throw` is told to raise, in any of the ways in which it can be told.
fn exception(
    typ: &Bound<'_, PyAny>,
    val: Option<&Bound<'_, PyAny>>,
    tb: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let py = typ.py();
    let exception = match val {
        Some(val) if !val.is_none() && val.is_instance_of::<PyBaseException>() => val.clone(),
        Some(val) if !val.is_none() => typ.call1((val,))?,
        _ if typ.is_instance_of::<pyo3::types::PyType>() => typ.call0()?,
        _ => typ.clone(),
    };
    if !exception.is_instance_of::<PyBaseException>() {
        let class = exception.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "exceptions must be classes or instances deriving from BaseException, not {class}"
        )));
    }
    if let Some(tb) = tb.filter(|tb| !tb.is_none()) {
        exception.call_method1(intern!(py, "with_traceback"), (tb,))?;
    }
    Ok(PyErr::from_value(exception))
}

impl Coroutine {
    fn warn_never_awaited(&self) {
        let message = format!("coroutine '{}' was never awaited", self.qualname());
        Python::try_attach(|py| {
            // What is on its way goes on.
            let raised = PyErr::take(py);
            let category = py.get_type::<PyRuntimeWarning>();
            let warned = CString::new(message).map(|message| PyErr::warn(py, &category, &message, 1));
            if let Ok(Err(error)) = warned {
                error.write_unraisable(py, None);
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        if !*self.begun.get_mut() {
            self.warn_never_awaited();
        }
        let bound = match std::mem::replace(&mut self.body, Body::Gone) {
            Body::Here(bound) => Some(bound),
            Body::Anywhere { here, .. } => here.into_inner(),
            Body::Gone => None,
        };
        // Collected on another thread than its own, which is where it can be dropped; if the loop is closed, nowhere.
        if let Some(bound) = bound.filter(|bound| !bound.is_here())
            && let Some(handle) = self.handle.get()
        {
            let _closed = handle.call_soon(move || drop(bound));
        }
    }
}
