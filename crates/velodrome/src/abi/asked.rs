//! [`Asked`]: a function that was handed in through a table, as whoever fills the table keeps it.
//!
//! What must stay true: the data is handed to its function or given back, never both; and what was asked for on a thread for that
//! thread is called nowhere else.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use super::own_thread::this_thread;
use crate::host::CallFn;

/// What was handed in through a table: to be called once or again and again, or to be given back.
///
/// For those who fill a [`Host`](crate::host::Host) for their loop.
///
/// ```
/// use std::ffi::c_void;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use velodrome::host::{Asked, Ran};
///
/// unsafe extern "C" fn count(data: *mut c_void) {
///     // SAFETY: it was asked for with a counter.
///     unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
/// }
///
/// let mut counter = AtomicU32::new(0);
/// // SAFETY: the function takes a counter, on any thread, for as long as the counter lives.
/// let asked = unsafe { Asked::here(count, (&raw mut counter).cast()) };
/// assert_eq!(asked.run(), Ran::Here);
/// assert_eq!(asked.run(), Ran::Here); // once is once
/// assert!(!asked.give_up()); // too late
/// assert_eq!(counter.into_inner(), 1);
/// ```
#[derive(Debug)]
pub struct Asked {
    function: CallFn,
    data: *mut c_void,
    /// Where it may be called; 0 is anywhere.
    thread: u64,
    again: bool,
    /// Cleared as soon as the data is not ours any more.
    owns_data: AtomicBool,
}

// SAFETY: the data is only ever handed to its function, on the thread that it was asked for on, or on any if it may be.
unsafe impl Send for Asked {}
// SAFETY: as above; what changes is atomic.
unsafe impl Sync for Asked {}

/// What became of a call.
///
/// ```
/// use velodrome::host::Ran;
/// assert_ne!(Ran::Here, Ran::Elsewhere);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It was made, or there was none to make any more.
    Here,
    /// It belongs to another thread, and was not made.
    Elsewhere,
}

impl Asked {
    /// To be called once, on this thread.
    ///
    /// # Safety
    ///
    /// The function may be called with the data on this thread, once.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::{Asked, Ran};
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// let asked = unsafe { Asked::here(nothing, std::ptr::null_mut()) };
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| assert_eq!(asked.run(), Ran::Elsewhere));
    /// });
    /// assert_eq!(asked.run(), Ran::Here);
    /// ```
    pub unsafe fn here(function: CallFn, data: *mut c_void) -> Self {
        Asked { function, data, thread: this_thread(), again: false, owns_data: AtomicBool::new(true) }
    }

    /// To be called on this thread again and again, until it is given back.
    ///
    /// # Safety
    ///
    /// The function may be called with the data on this thread, as often as that.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::Asked;
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// let asked = unsafe { Asked::again(nothing, std::ptr::null_mut()) };
    /// asked.run();
    /// asked.run();
    /// assert!(asked.give_up());
    /// ```
    pub unsafe fn again(function: CallFn, data: *mut c_void) -> Self {
        Asked { function, data, thread: this_thread(), again: true, owns_data: AtomicBool::new(true) }
    }

    /// To be called once, on whichever thread runs the loop.
    ///
    /// # Safety
    ///
    /// The function may be called with the data on any thread, once.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::{Asked, Ran};
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// let asked = unsafe { Asked::anywhere(nothing, std::ptr::null_mut()) };
    /// std::thread::spawn(move || assert_eq!(asked.run(), Ran::Here)).join().unwrap();
    /// ```
    pub unsafe fn anywhere(function: CallFn, data: *mut c_void) -> Self {
        Asked { function, data, thread: 0, again: false, owns_data: AtomicBool::new(true) }
    }

    /// Gives the data back; `false` if it was handed over or given back before.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::Asked;
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// let asked = unsafe { Asked::here(nothing, std::ptr::null_mut()) };
    /// assert!(asked.give_up());
    /// assert!(!asked.give_up());
    /// ```
    pub fn give_up(&self) -> bool {
        self.owns_data.swap(false, Ordering::AcqRel)
    }

    /// Whether it is to be called again and again.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::Asked;
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// assert!(unsafe { Asked::again(nothing, std::ptr::null_mut()) }.is_again());
    /// ```
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Makes the call, unless that has been done, or it was given back, or belongs to another thread.
    ///
    /// ```
    /// use std::ffi::c_void;
    /// use velodrome::host::{Asked, Ran};
    ///
    /// extern "C" fn nothing(_data: *mut c_void) {}
    /// // SAFETY: it does nothing.
    /// let asked = unsafe { Asked::here(nothing, std::ptr::null_mut()) };
    /// assert_eq!(asked.run(), Ran::Here);
    /// ```
    pub fn run(&self) -> Ran {
        if self.thread != 0 && self.thread != this_thread() {
            return Ran::Elsewhere;
        }
        let owned = if self.again { self.owns_data.load(Ordering::Acquire) } else { self.give_up() };
        if owned {
            // SAFETY: whoever asked promised that the function may be called with the data here, and this often. It does not
            // unwind (see `CallFn`).
            unsafe { (self.function)(self.data) }
        }
        Ran::Here
    }
}
