//! What threads share, from `std`; or from loom, in a build with `--cfg velodrome_model`, which tries the orders in which
//! threads can come (`tests/model.rs`).
//!
//! What must stay true: whatever two threads touch through a task, a handle or the loop is made of what is named here, or the
//! model does not see it. (The pool of `blocking.rs` is a static under one lock, and not modelled.)

#[cfg(velodrome_model)]
pub(crate) use loom::{
    alloc::{alloc, dealloc},
    cell::Cell,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};
#[cfg(not(velodrome_model))]
pub(crate) use std::{
    alloc::{alloc, dealloc},
    cell::Cell,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};
