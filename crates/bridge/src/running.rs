//! The loop that is running, as the futures of this thread reach it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{exceptions::PyRuntimeError, intern};
use velodrome::host::Guest;

use crate::{abi, foreign};

/// A function of `asyncio`, looked up once.
pub(crate) fn function<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    Ok(cell.get_or_try_init(py, || py.import("asyncio")?.getattr(name).map(Bound::unbind))?.bind(py))
}

/// The running loop.
///
/// # Errors
///
/// `RuntimeError` if none runs in this thread.
pub(crate) fn event_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &GET, "get_running_loop")?.call0()
}

/// What a running loop is to futures: through its own table if it has one, by its public methods otherwise.
pub(crate) fn guest(event_loop: &Bound<'_, PyAny>) -> PyResult<Guest> {
    let py = event_loop.py();
    if let Some(capsule) = event_loop.getattr_opt(intern!(py, "__velodrome_host__"))?
        && let Some(Ok(guest)) = abi::guest_of_capsule(&capsule)
    {
        return Ok(guest);
    }
    let foreign = foreign::of(event_loop)?;
    abi::guest_of_foreign(&foreign).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
