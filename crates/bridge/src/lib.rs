//! Rust futures awaited from Python, in the loop that Python runs and on its thread: no second runtime, no thread hop.
//!
//! For authors of extension modules (with [PyO3](https://pyo3.rs)): [`into_awaitable`] makes an object of a future that Python awaits
//! like a coroutine, [`from_awaitable`] makes a future of anything that Python can await.
//!
//! ```
//! use std::time::Duration;
//! use pyo3::prelude::*;
//! use velodrome_bridge::into_awaitable;
//!
//! /// A coroutine function, as Python sees it.
//! #[pyfunction]
//! fn nap(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
//!     into_awaitable(py, async move {
//!         velodrome::sleep(Duration::from_secs_f64(seconds)).await;
//!         Ok("rested")
//!     })
//! }
//!
//! # fn main() -> PyResult<()> {
//! # Python::attach(|py| {
//! let asyncio = py.import("asyncio")?;
//! let main = pyo3::types::PyModule::from_code(py, c"
//! import asyncio
//! async def main(nap):
//!     return await asyncio.gather(nap(0.01), nap(0.02))
//! ", c"main.py", c"main")?.getattr("main")?;
//! let answers = asyncio.call_method1("run", (main.call1((wrap_pyfunction!(nap, py)?,))?,))?;
//! assert_eq!(answers.extract::<Vec<String>>()?, ["rested", "rested"]);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! What `into_awaitable` returns is a coroutine to Python: `await` polls the future within the task that awaits, so it
//! sees that task's context variables and is what is cancelled with it; `create_task` and `gather` make it a task, which
//! `asyncio.all_tasks()` shows. A panic becomes a `PanicException`, an error what [`PyErr`](pyo3::PyErr) makes of it.
//!
//! - **Under a loop of velodrome**, wherever that comes from, the future reaches the loop through a C table that the loop hands
//!   out in a capsule, so no version of Rust or of this crate has to be shared. `velodrome::sleep`, `velodrome::create_task` and
//!   the sockets of the crate `velodrome` are served by that loop's own ready queue, timers and poller.
//! - **Under any other loop** (asyncio's, uvloop's) the same table is made of the loop's public methods: `call_soon`, `call_later`,
//!   `add_reader`. Everything works; your users need no velodrome.
//! - **Futures of another runtime**, as tokio's, keep their reactor on its own thread, and wake the loop from there. Enter the
//!   runtime around each poll; `examples/mixed` shows how.
//!
//! # Threads
//!
//! A future need not be `Send`, and so belongs to the thread that made the awaitable: awaiting it on another is a
//! `RuntimeError`. What is meant for the loop of another thread is made with [`into_awaitable_with`].
//!
//! # Ends
//!
//! Dropping a future ends it, and its destructors run; so a future that Python cancels is dropped, unless it is in a
//! [`velodrome::catch_cancel`]. When a loop of velodrome closes, on the thread that ran it, the tasks that `velodrome::create_task`
//! made on it are cancelled. Other loops tell nobody: there the tasks end when the loop is collected.
//!
//! Those tasks are Rust's alone: they have no place in `asyncio.all_tasks()`, and no context variables that could be relied on.
//!
//! Python's garbage collector does not see what a future holds. A future that holds its own task, or whoever holds that, is
//! freed when it ends or is cancelled, and not before.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod abi;
mod coroutine;
mod foreign;
mod from_awaitable;
mod running;
mod waking;

pub use coroutine::{into_awaitable, into_awaitable_with};
pub use from_awaitable::{FromAwaitable, from_awaitable};
