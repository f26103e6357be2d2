//! Velodrome's Rust face: asyncio's ideas with Rust's guarantees, on one thread.
//!
//! ```
//! use std::time::Duration;
//! use velodrome::{create_task, gather, run, sleep, task_group};
//!
//! async fn greet(name: &'static str, delay: u64) -> Result<String, String> {
//!     sleep(Duration::from_millis(delay)).await;
//!     Ok(format!("hello, {name}"))
//! }
//!
//! let greetings = run(task_group(async |group| {
//!     let track = group.create_task(greet("track", 2));
//!     let bend = group.create_task(greet("bend", 1));
//!     Ok([track.await.unwrap(), bend.await.unwrap()])
//! }));
//! assert_eq!(greetings.unwrap(), ["hello, track", "hello, bend"]);
//! ```
//!
//! A future need not be `Send`, and nothing here asks for a mutex: between two awaits nobody else runs.
//!
//! | asyncio | here |
//! | --- | --- |
//! | `run`, `Runner` | [`run`], [`Runner`] |
//! | `create_task`, `Task` | [`create_task`], [`Task`] |
//! | `sleep(0)`, `sleep`, `timeout` | [`yield_now`], [`sleep`], [`timeout`] |
//! | `gather` | [`gather()`], [`try_gather()`], and in place [`gather!`], [`try_gather!`] |
//! | `TaskGroup` | [`task_group`] |
//! | `Future` | [`Future`] and [`Promise`] |
//! | `Lock`, `Event`, `Condition`, `Semaphore`, `Barrier` | [`Lock`], [`Event`], [`Condition`], [`Semaphore`], [`Barrier`] |
//! | `Queue`, `PriorityQueue`, `LifoQueue` | [`Queue`], [`PriorityQueue`], [`LifoQueue`] |
//! | `CancelledError` | [`catch_cancel`], [`Cancelled`] |
//! | `to_thread`, `call_soon_threadsafe` | [`spawn_blocking`], [`Handle`] |
//! | `open_connection`, `start_server`, `create_datagram_endpoint` | [`net`] |
//! | `create_subprocess_exec` | [`Child`] |
//! | `add_signal_handler` | [`Signal`], [`ctrl_c`] |
//! | `add_reader`, `add_writer` | [`AsyncFd`] |
//!
//! # Tasks, cancellation, and being dropped
//!
//! A [`Task`] that is dropped runs on, as in asyncio; [`run`] cancels what is left when the main future returns. Cancelling
//! drops what the task waits for, so its destructors run; a [`catch_cancel`] on the way stops that, and can await what has to
//! be done. A panic ends its task and nothing else.
//!
//! # One loop
//!
//! Everything here talks to the loop through one table of C functions ([`host::Host`]), so it runs on the loop of the Python face
//! as well as on this crate's own.
//!
//! # Features
//!
//! By default there are all but `tokio`:
//!
//! - `net`: the module [`net`], sockets of TCP, UDP and Unix.
//! - `process`: [`Child`], on Linux.
//! - `signal`: [`Signal`] and [`ctrl_c`].
//! - `futures-io`, `tokio`: the streams of both are `futures_io::AsyncRead` and `AsyncWrite`, or `tokio::io`'s. No part of tokio's
//!   runtime comes with it.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod abi;
mod async_fd;
mod blocking;
mod body;
mod cancellation;
mod clocks;
mod context;
mod event_loop;
mod future;
mod gather;
#[allow(missing_debug_implementations, non_snake_case, reason = "made by a macro, seen by nobody")]
mod gather_in_place;
mod guest;
mod handle;
pub mod host;
mod join_error;
mod locks;
mod members;
#[cfg(feature = "net")]
pub mod net;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
mod queue;
mod readiness;
mod roster;
mod runner;
#[cfg(feature = "signal")]
mod signal;
mod sleep;
#[cfg(any(feature = "net", feature = "process"))]
mod stream;
mod sync;
mod task;
mod task_cell;
mod task_group;
mod timeout;
mod waiters;
mod yield_now;

pub use async_fd::AsyncFd;
pub use blocking::{Blocking, spawn_blocking};
pub use cancellation::{Cancelled, CatchCancel, catch_cancel};
pub use future::{BrokenPromise, Future, InvalidState, Promise};
pub use gather::{Gather, gather, try_gather};
pub use handle::{Closed, Handle, RemoteTask};
pub use join_error::{JoinError, Panic};
pub use locks::{Barrier, BrokenBarrier, Condition, Event, Lock, LockGuard, Permit, Semaphore};
#[cfg(all(feature = "process", target_os = "linux"))]
pub use process::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use queue::{GetError, LifoQueue, Order, PriorityQueue, PutError, Queue, ShutDown};
pub use runner::{Builder, Runner, run};
#[cfg(feature = "signal")]
pub use signal::{Signal, ctrl_c};
pub use sleep::{Sleep, sleep, sleep_until};
pub use task::{CancelOnDrop, Task, TaskRef, all_tasks, create_task, current_task};
pub use task_group::{GroupError, MemberError, TaskGroup, task_group};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};
pub use yield_now::{YieldNow, yield_now};

/// What the macros are made of.
#[doc(hidden)]
pub mod macros {
    pub use crate::gather_in_place::{Together, TryTogether};
}
