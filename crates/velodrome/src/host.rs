//! The table of functions through which futures of this crate reach the loop that polls them.
//!
//! The loop may hold other jobs than ours (the Python face's does), and may live in another shared library with its
//! own copy of every static. So nothing here is generic and nothing assumes a common Rust ABI: a `Host` is a C
//! table, found through a thread-local that is set around each poll, and handed to other libraries in a capsule.
//!
//! What must stay true: fields are only ever added, at the end; `size` says how many there are, so an older reader
//! ignores the newer ones and a newer reader looks before it uses them; and every function is called on the loop's
//! own thread, `schedule`, `retain` and `release` alone from any.

use std::ffi::{CStr, c_int, c_void};

pub use crate::abi::{Asked, Ran};
pub use crate::guest::{Guest, GuestTask, Incompatible};

/// The version of the table's layout that this crate speaks.
///
/// ```
/// assert_eq!(velodrome::host::HOST_VERSION, 1);
/// ```
pub const HOST_VERSION: u32 = 1;

/// The name of the capsule in which Python gets a table, from a loop's `__velodrome_host__`. Whoever has it has a share of the loop.
///
/// ```
/// assert_eq!(velodrome::host::CAPSULE, c"velodrome.Host");
/// ```
pub const CAPSULE: &CStr = c"velodrome.Host";

/// A timer, as the host numbers it: two words, so that a host can find it without a table. Never used again.
///
/// ```
/// use velodrome::host::TimerId;
/// assert_ne!(TimerId(1, 0), TimerId(2, 0));
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(pub u64, pub u64);

/// A registration of a descriptor, as the host numbers it. Never used again.
///
/// ```
/// use velodrome::host::Watch;
/// assert_ne!(Watch(1, 0), Watch(2, 0));
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch(pub u64, pub u64);

/// What a descriptor is watched for. Each direction is a registration of its own.
///
/// ```
/// use velodrome::host::Interest;
/// assert_ne!(Interest::READ, Interest::WRITE);
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interest(pub u32);

impl Interest {
    /// Something can be read, or the other side is gone.
    pub const READ: Interest = Interest(1);
    /// Something can be written, or the other side is gone.
    pub const WRITE: Interest = Interest(2);
}

/// A function that a host calls, on its own thread and outside of any of its borrows. It never unwinds.
///
/// ```
/// use std::ffi::c_void;
/// use velodrome::host::CallFn;
///
/// extern "C" fn nothing(_data: *mut c_void) {}
/// let call: CallFn = nothing;
/// ```
pub type CallFn = unsafe extern "C" fn(data: *mut c_void);

/// The functions of a loop, for futures that it polls.
///
/// A pointer to a table is valid as long as its `context` is retained. `data` that is handed in belongs to the host
/// until it has called the function with it, or has given it back: by a `false` or an error, or by a cancellation
/// that returns `true`. A loop that closes makes the calls that were scheduled; its timers and registrations end, and their
/// `data` is still given back by a cancellation.
///
/// ```
/// use std::mem::offset_of;
/// use velodrome::host::Host;
/// // Readers look at these two before anything else.
/// assert_eq!(offset_of!(Host, version), 0);
/// assert_eq!(offset_of!(Host, size), 4);
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// [`HOST_VERSION`] of whoever made the table.
    pub version: u32,
    /// The size of the table in bytes, as its maker knows it.
    pub size: u32,
    /// The loop; the first argument of every function.
    pub context: *mut c_void,
    /// One owner more. From any thread.
    pub retain: unsafe extern "C" fn(context: *mut c_void),
    /// One owner less. From any thread.
    pub release: unsafe extern "C" fn(context: *mut c_void),
    /// Queues a call behind all that is ready. From any thread. `false` if the loop is closed.
    pub schedule: unsafe extern "C" fn(context: *mut c_void, call: CallFn, data: *mut c_void) -> bool,
    /// Calls once, at a time in nanoseconds of `now`'s clock.
    pub timer_set:
        unsafe extern "C" fn(context: *mut c_void, at: u64, call: CallFn, data: *mut c_void) -> TimerId,
    /// Cancels a timer. `false` if it was too late: then its call has come or will come.
    pub timer_cancel: unsafe extern "C" fn(context: *mut c_void, timer: TimerId) -> bool,
    /// Watches one direction of a descriptor, level triggered: calls in each iteration that finds it ready. Stores the
    /// registration and returns 0, or returns an `errno`.
    pub descriptor_add: unsafe extern "C" fn(
        context: *mut c_void,
        descriptor: c_int,
        interest: Interest,
        call: CallFn,
        data: *mut c_void,
        watch: *mut Watch,
    ) -> c_int,
    /// Ends a registration: nothing is called any more, and its `data` is given back. `false` if there was none.
    pub descriptor_remove: unsafe extern "C" fn(context: *mut c_void, watch: Watch) -> bool,
    /// The monotonic clock, in nanoseconds.
    pub now: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// A number that is another one each time that the kernel was asked what is ready. Whoever has found a descriptor not ready
    /// since then knows a call for it, in the same turn, to be old.
    pub turn: unsafe extern "C" fn(context: *mut c_void) -> u64,
    /// Calls when the loop is about to close, while everything else still works; and again, as long as that has led to calls being
    /// scheduled, which are then made. The `data` stays the caller's. Does nothing if the loop is closed.
    pub at_close: unsafe extern "C" fn(context: *mut c_void, call: CallFn, data: *mut c_void),
}
