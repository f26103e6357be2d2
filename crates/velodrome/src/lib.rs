//! Velodrome's Rust face.
//!
//! What is here so far is the [`Host`] table, through which everything in this crate talks to the loop that polls
//! it. `run`, tasks, `sleep`, `gather`, task groups, locks and sockets build on it.
#![deny(unsafe_code)]

mod host;

pub use host::{HOST_VERSION, Host, Interest, TimerId, Watch};
