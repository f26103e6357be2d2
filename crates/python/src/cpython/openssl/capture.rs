//! Which connection a call of Python's `wrap_bio` makes.
//!
//! OpenSSL tells everybody who has registered an index for extra data of every connection, inside the call that makes it.
//! What is made in this thread between [`begin`] and [`end`] is noted; nothing else is looked at.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};

use super::library::{Library, Ssl};

/// `CRYPTO_EX_INDEX_SSL`.
const OF_CONNECTIONS: c_int = 0;

#[derive(Clone, Copy)]
enum Noted {
    /// Nobody asks.
    Idle,
    Nothing,
    One(*mut Ssl),
    Several,
}

thread_local! {
    static NOTED: Cell<Noted> = const { Cell::new(Noted::Idle) };
}

/// Registers with this library; for ever, since there is no way back. Whether it worked.
pub fn register(library: &Library) -> bool {
    let none = std::ptr::null_mut();
    // The GIL may be held by somebody else, so that not even a report is possible.
    let told = entry!(silent "openssl", c"ex_new",
        (connection: *mut c_void, _value: *mut c_void, _all: *mut c_void, _index: c_int, _number: c_long,
         _pointer: *mut c_void) -> (), (), note(connection));
    // SAFETY: the function may be called from any thread at any time, and the code is never unloaded.
    let index = unsafe { (library.get_ex_new_index)(OF_CONNECTIONS, 0, none, Some(told), none, none) };
    index > 0
}

/// From now on, what is made in this thread is noted.
pub fn begin() {
    NOTED.set(Noted::Nothing);
}

/// Ends it; the connection, if there was exactly one.
pub fn end() -> Option<*mut Ssl> {
    match NOTED.replace(Noted::Idle) {
        Noted::One(ssl) => Some(ssl),
        _ => None,
    }
}

/// OpenSSL makes a connection, in whatever thread.
fn note(connection: *mut c_void) {
    // A thread that ends has no such place any more.
    let _ = NOTED.try_with(|noted| {
        noted.set(match noted.get() {
            Noted::Idle => Noted::Idle,
            Noted::Nothing => Noted::One(connection.cast()),
            // Two threads that ask for the verdict at once register twice.
            Noted::One(known) if std::ptr::eq(known.cast(), connection) => Noted::One(known),
            Noted::One(_) | Noted::Several => Noted::Several,
        });
    });
}
