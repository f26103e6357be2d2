//! The Python face of Velodrome: `velodrome._velodrome`, the native module under the package `velodrome`.
//!
//! One file for each of asyncio's concepts; raw CPython in `cpython`; the loop itself in the crate
//! `velodrome-engine`.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
#[macro_use]
mod cpython;
mod alarm;
mod as_completed;
mod as_completed_generator;
mod callbacks;
mod clock;
mod create_task;
mod deque;
mod eager;
mod ensure_future;
mod event_loop;
#[macro_use]
mod future;
mod future_iter;
mod gather;
mod getstate;
mod handle;
mod identity;
mod introspection;
mod job;
mod listener;
mod locks;
mod metaclass;
mod module;
mod operation;
mod operation_frame;
mod operation_iter;
mod original;
mod queues;
mod race;
mod readers;
mod registry;
mod run;
mod run_coroutine_threadsafe;
mod runner;
mod scheduling;
mod shield;
mod sleep;
mod sockets;
mod state;
mod streams;
mod task;
mod task_group;
mod thread_safe_handle;
mod timeouts;
mod timer_handle;
mod tls;
mod to_thread;
mod transport;
mod transports;
mod wait;
mod wait_for;
mod waiters;
mod wrap_future;
