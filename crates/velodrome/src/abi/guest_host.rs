//! A loop that is not this crate's: its table, looked at before it is trusted.
//!
//! What must stay true: of a table, `version` and `size` are read first, and nothing else if they do not fit.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::rc::Rc;

use super::host_ref::{HostRef, LocalHost, contain};
use crate::context::Context;
use crate::guest::{Guest, Incompatible};
use crate::host::{HOST_VERSION, Host};

impl Guest {
    /// What a loop is to the futures of this thread.
    ///
    /// # Errors
    ///
    /// [`Incompatible`] if the table is of another version, or shorter than this crate's.
    ///
    /// # Safety
    ///
    /// `host` points to a table that keeps the contract of [`Host`], and that is valid during this call. This is the thread on
    /// which the loop runs.
    ///
    /// ```
    /// use velodrome::host::Guest;
    ///
    /// let runner = velodrome::Runner::new()?;
    /// let table = runner.host_table(); // or the pointer of a capsule
    /// // SAFETY: the runner keeps the table alive, and its loop is of this thread.
    /// let guest = unsafe { Guest::from_raw(table) }?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_raw(host: NonNull<Host>) -> Result<Guest, Incompatible> {
        if let Some(context) = Context::guest(|context| context.host.host().is_of(host)) {
            return Ok(Guest::new(context));
        }
        // SAFETY: every table begins with these two.
        let (version, size) = unsafe {
            let start = host.cast::<u8>();
            let word = |offset| start.byte_add(offset).cast::<u32>().read();
            (word(offset_of!(Host, version)), word(offset_of!(Host, size)))
        };
        if version != HOST_VERSION || (size as usize) < size_of::<Host>() {
            return Err(Incompatible { version, size });
        }
        // SAFETY: it is of our version and has all of our fields, and the caller promises the rest. The share is taken first.
        let local = unsafe {
            let table = host.as_ref();
            (table.retain)(table.context);
            LocalHost::new(HostRef::from_raw(host), false)
        };
        let context = Context::new(local);
        // SAFETY: `close_guest` only compares the address, and finds the context by it.
        unsafe { context.host.at_close(close_guest, host.as_ptr().cast()) };
        Context::add_guest(Rc::clone(&context));
        Ok(Guest::new(context))
    }
}

/// The loop with this table is about to close, or to be closed a little more.
unsafe extern "C" fn close_guest(data: *mut c_void) {
    contain(|| {
        let Some(host) = NonNull::new(data.cast::<Host>()) else { return };
        if let Some(context) = Context::guest(|context| context.host.host().is_of(host)) {
            Guest::new(context).close();
        }
    });
}
