//! Rust futures beside Python coroutines, in one loop and on one thread.
//!
//! - `fetch_all` is a plain `async fn` that Python gathers with its own coroutines, and that awaits coroutines itself.
//! - `KeyValue` is a client for key-value servers that speak Redis's protocol, over the sockets of the crate `velodrome`.
//! - `tokio_get` is a future of tokio's: its reactor runs on a thread of its own, and wakes Python's loop from there.

mod key_value;
mod on_tokio;

use std::time::Duration;

use pyo3::prelude::*;
use velodrome_bridge::{from_awaitable, into_awaitable};

/// Calls a Python coroutine function for each of the keys, all at a time, and gives up after some seconds.
///
/// In Python: `await mixed.fetch_all(fetch, keys, timeout)`.
#[pyfunction]
fn fetch_all(
    py: Python<'_>,
    fetch: Py<PyAny>,
    keys: Vec<String>,
    timeout: f64,
) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let calls = keys.iter().map(|key| Python::attach(|py| fetch.call1(py, (key,)).map(from_awaitable)));
        let calls = calls.collect::<PyResult<Vec<_>>>()?;
        match velodrome::timeout(Duration::from_secs_f64(timeout), velodrome::gather(calls)).await {
            Ok(results) => results.map_err(io_error)?.into_iter().collect::<PyResult<Vec<_>>>(),
            Err(elapsed) => Err(pyo3::exceptions::PyTimeoutError::new_err(elapsed.to_string())),
        }
    })
}

fn io_error(error: velodrome::JoinError) -> PyErr {
    std::io::Error::from(error).into()
}

#[pymodule]
fn mixed(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fetch_all, module)?)?;
    module.add_function(wrap_pyfunction!(on_tokio::tokio_get, module)?)?;
    module.add_class::<key_value::KeyValue>()
}
