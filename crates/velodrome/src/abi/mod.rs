//! The one room of this crate in which `unsafe` may stand: where Rust meets the [`Host`](crate::host::Host) table,
//! on both of its sides, and where a future becomes a task.
//!
//! - `host_ref.rs` calls a table: safe methods over a loop that may be anybody's.
//! - `asked.rs` is a call that somebody asked for through a table, for those who fill one elsewhere.
//! - `guest_host.rs` looks at the table of a loop that is not ours.
//! - `serve.rs` fills one: the table of this crate's own loop.
//! - `own_thread.rs` keeps what belongs to the loop's thread from the others, who may hold the loop too.
//! - `blocks.rs` keeps memory for tasks.
//! - `raw_task.rs` is a task's memory, `waker.rs` what wakes it and its steps; `cell_ref.rs` holds what is known of it,
//!   `join_handle.rs` awaits it, `task_timer.rs` wakes it at a time; `local_waker.rs` is for who keeps its waker on its thread.
//! - `payload.rs` is what a panic carries.
//!
//! What must stay true: everything that is called through the table is called with the `data` that it was made for;
//! nothing unwinds out of an `extern "C"` function.

mod asked;
mod blocks;
mod cell_ref;
mod guest_host;
mod host_ref;
mod join_handle;
mod local_waker;
mod own_thread;
mod payload;
mod raw_task;
mod serve;
mod task_timer;
mod waker;

pub use asked::{Asked, Ran};
pub(crate) use cell_ref::CellRef;
pub(crate) use host_ref::{Callee, HostRef, LocalHost, contain};
pub(crate) use join_handle::JoinHandle;
pub(crate) use local_waker::LocalWaker;
pub(crate) use own_thread::OwnThread;
pub(crate) use payload::Payload;
pub(crate) use raw_task::spawn;
pub(crate) use serve::{HostTable, Job, host_of, table};
pub(crate) use task_timer::TaskTimer;
