//! The same futures through velodrome-bridge, and through pyo3-async-runtimes with tokio.

use std::sync::{LazyLock, mpsc};
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::future_into_py;
use tokio::sync::oneshot;
use velodrome_bridge::into_awaitable;

/// A thread that answers whatever it is sent.
static ANSWERER: LazyLock<mpsc::Sender<oneshot::Sender<()>>> = LazyLock::new(|| {
    let (ask, asked) = mpsc::channel::<oneshot::Sender<()>>();
    thread::spawn(move || {
        asked.into_iter().for_each(|asked| {
            let _gone = asked.send(());
        })
    });
    ask
});

/// Waits for the other thread's answer.
async fn answered() -> PyResult<()> {
    let (answer, answered) = oneshot::channel();
    ANSWERER.send(answer).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    answered.await.map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

#[pyfunction]
fn ours_ready(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async { Ok(()) })
}

#[pyfunction]
fn theirs_ready(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, async { Ok(()) })
}

#[pyfunction]
fn ours_answered(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, answered())
}

#[pyfunction]
fn theirs_answered(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    future_into_py(py, answered())
}

#[pymodule]
fn bridge_bench(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(ours_ready, module)?)?;
    module.add_function(wrap_pyfunction!(theirs_ready, module)?)?;
    module.add_function(wrap_pyfunction!(ours_answered, module)?)?;
    module.add_function(wrap_pyfunction!(theirs_answered, module)?)
}
