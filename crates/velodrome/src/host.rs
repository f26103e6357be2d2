//! The table of functions through which futures of this crate reach the loop that polls them.
//!
//! The loop may hold other jobs than ours (the Python face's does), and may live in another shared library with its
//! own copy of every static. So nothing here is generic and nothing assumes a common Rust ABI: a `Host` is a C
//! table, found through a thread-local that is set around each poll, and handed to other libraries in a capsule.
//!
//! What must stay true: fields are only ever added, at the end; `size` says how many there are, so an older reader
//! ignores the newer ones and a newer reader looks before it uses them; and every function is called on the loop's
//! own thread, `schedule` alone from any.

use std::ffi::{c_int, c_void};

/// The version of the table's layout that this crate speaks.
///
/// ```
/// assert_eq!(velodrome::HOST_VERSION, 1);
/// ```
pub const HOST_VERSION: u32 = 1;

/// A timer, as the host numbers it. Numbers are not used again.
///
/// ```
/// assert_ne!(velodrome::TimerId(1), velodrome::TimerId(2));
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(pub u64);

/// A registration of a descriptor, as the host numbers it. Numbers are not used again.
///
/// ```
/// assert_ne!(velodrome::Watch(1), velodrome::Watch(2));
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch(pub u64);

/// What a descriptor is watched for; the two can be combined.
///
/// ```
/// use velodrome::Interest;
/// assert_eq!(Interest::READ.0 | Interest::WRITE.0, 3);
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

/// The functions of a loop, for futures that it polls.
///
/// `call` arguments are functions that the host calls once, with `data`, on its own thread and outside of any of its
/// borrows. Whoever passes them keeps `data` alive until then, or until the matching cancellation has returned
/// `true`.
///
/// ```
/// use std::mem::offset_of;
/// use velodrome::Host;
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
    /// Queues a call. From any thread.
    pub schedule: extern "C" fn(context: *mut c_void, call: extern "C" fn(*mut c_void), data: *mut c_void),
    /// Calls at a time, in nanoseconds of `now`'s clock.
    pub timer_set: extern "C" fn(
        context: *mut c_void,
        at: u64,
        call: extern "C" fn(*mut c_void),
        data: *mut c_void,
    ) -> TimerId,
    /// Cancels a timer; `false` if it has fired or was cancelled.
    pub timer_cancel: extern "C" fn(context: *mut c_void, timer: TimerId) -> bool,
    /// Watches a descriptor, level triggered: calls in each iteration in which it is ready, with what it is ready
    /// for. Returns 0 and stores the registration, or returns an `errno`.
    pub descriptor_add: extern "C" fn(
        context: *mut c_void,
        descriptor: c_int,
        interest: Interest,
        call: extern "C" fn(*mut c_void, Interest),
        data: *mut c_void,
        watch: *mut Watch,
    ) -> c_int,
    /// Changes what a descriptor is watched for. Returns 0 or an `errno`.
    pub descriptor_modify: extern "C" fn(context: *mut c_void, watch: Watch, interest: Interest) -> c_int,
    /// Ends a registration; nothing is called any more. `false` if there was none.
    pub descriptor_remove: extern "C" fn(context: *mut c_void, watch: Watch) -> bool,
    /// The monotonic clock, in nanoseconds.
    pub now: extern "C" fn(context: *mut c_void) -> u64,
}
