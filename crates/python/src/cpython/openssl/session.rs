//! One connection, read and written natively if that is proven to be safe.

use std::cell::Cell;
use std::ffi::c_int;

use crate::cpython::bytes;
use crate::cpython::class::Visitor;
use crate::cpython::object::{Obj, Ref};
use crate::cpython::raised::Fallible;
use crate::cpython::slot::Slot;

use super::capture;
use super::library::{Bio, Library, Ssl};
use super::proof::{is_of, owner_of, verdict};

/// The most that one record holds.
pub const RECORD: usize = 16 * 1024;

/// So much is handed to OpenSSL at a time, whose lengths are `int`s.
const MOST: usize = 1 << 30;

const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const SSL_RECEIVED_SHUTDOWN: c_int = 2;
const SSL_CTRL_MODE: c_int = 33;
const SSL_MODE_RELEASE_BUFFERS: std::ffi::c_long = 0x10;

/// How a series of reads ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// More has to come in first.
    Starved,
    /// The place to read to is full.
    Full,
    /// The peer has said that it will send no more.
    Closed,
    /// Something is wrong; Python's own method says what.
    Failed,
}

/// A place for a connection; without one, everything goes through Python's methods.
#[derive(Debug)]
pub struct Session {
    native: Cell<Option<Native>>,
    /// The object in C that owns the connection.
    owner: Slot,
}

#[derive(Clone, Copy, Debug)]
struct Native {
    library: &'static Library,
    ssl: *mut Ssl,
}

impl Session {
    /// Without a connection.
    pub const fn empty() -> Session {
        Session { native: Cell::new(None), owner: Slot::empty() }
    }

    /// Whether there is a connection to read and write natively.
    #[inline]
    pub fn is_native(&self) -> bool {
        self.native.get().is_some()
    }

    /// Shows what is owned to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.owner);
    }

    /// Gives the connection up.
    pub fn clear(&self) {
        self.native.set(None);
        self.owner.clear();
    }

    /// Takes the connection of this `SSLObject` over, if it is the one that was made since [`capture::begin`]; the caller
    /// has made sure that nothing of it is replaced by a program.
    pub fn adopt(&self, ssl_object: &Obj, plain_class: &Obj) -> Fallible<()> {
        self.clear();
        let (Some(library), Some(noted)) = (&verdict().library, capture::end()) else { return Ok(()) };
        let owner = owner_of(ssl_object)?;
        if !owner.is_exactly(plain_class) {
            return Ok(());
        }
        // SAFETY: the connection was made in this thread since `begin`; the object that is proven to own it is held.
        unsafe {
            if !is_of(library, noted, &owner) {
                return Ok(());
            }
            (library.ssl_ctrl)(noted, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, std::ptr::null_mut());
        }
        self.owner.set(owner);
        self.native.set(Some(Native { library, ssl: noted }));
        Ok(())
    }

    /// The connection, and what keeps it alive while OpenSSL may call Python.
    #[inline]
    fn enter(&self) -> Option<(Native, Ref)> {
        Some((self.native.get()?, self.owner.get()?))
    }

    /// Hands over what came in. Runs no Python. Whether it was taken.
    #[inline]
    pub fn feed(&self, content: &[u8]) -> bool {
        let Some(native) = self.native.get() else { return false };
        if content.is_empty() || content.len() > MOST {
            return content.is_empty();
        }
        // SAFETY: the owner is held; the content is copied into memory, all of it or none.
        let taken = unsafe {
            (native.library.bio_write)(native.incoming(), content.as_ptr().cast(), content.len() as c_int)
        };
        taken == content.len() as c_int
    }

    /// How much came in and was not looked at, and how much is to be sent.
    #[inline]
    pub fn pending(&self) -> Option<(usize, usize)> {
        let native = self.native.get()?;
        // SAFETY: the owner is held.
        Some(unsafe {
            let count = native.library.bio_ctrl_pending;
            (count(native.incoming()), count(native.outgoing()))
        })
    }

    /// Reads all that there is behind `plain`.
    #[inline]
    pub fn read_all(&self, plain: &mut Vec<u8>) -> Reading {
        let Some((native, _owner)) = self.enter() else { return Reading::Failed };
        native.begin();
        loop {
            plain.reserve(RECORD);
            let space = plain.spare_capacity_mut();
            let length = space.len().min(MOST) as c_int;
            // SAFETY: the connection is alive, and the memory is ours and so large.
            let count = unsafe { (native.library.ssl_read)(native.ssl, space.as_mut_ptr().cast(), length) };
            if count <= 0 {
                return native.why(count);
            }
            // SAFETY: so much was written there.
            unsafe { plain.set_len(plain.len() + count as usize) };
            if native.is_starved() {
                return Reading::Starved;
            }
        }
    }

    /// Reads at most so much into new `bytes`, which for much content is less work than to copy it.
    pub fn read_bytes(&self, most: usize) -> Fallible<(Ref, Reading)> {
        let entered = self.enter();
        let mut end = Reading::Failed;
        let data = bytes::filled_and_cut(most, |memory| {
            let Some((native, _owner)) = &entered else { return 0 };
            native.begin();
            let mut offset = 0;
            while offset < most {
                // SAFETY: the connection is alive; the rest of memory that nobody else has, and so large.
                let count = unsafe {
                    let rest = (most - offset).min(MOST) as c_int;
                    (native.library.ssl_read)(native.ssl, memory.add(offset).cast(), rest)
                };
                if count <= 0 {
                    end = native.why(count);
                    return offset;
                }
                offset += count as usize;
                if native.is_starved() {
                    end = Reading::Starved;
                    return offset;
                }
            }
            end = Reading::Full;
            offset
        })?;
        Ok((data, end))
    }

    /// Reads into lent memory until it is full; how much.
    pub fn read_into(&self, buffer: &mut crate::cpython::bytes::Buffer) -> (usize, Reading) {
        let Some((native, _owner)) = self.enter() else { return (0, Reading::Failed) };
        let (memory, length) = buffer.space();
        native.begin();
        let mut offset = 0;
        while offset < length {
            // SAFETY: the connection is alive; the rest of memory that is lent to us and so large.
            let count = unsafe {
                let rest = (length - offset).min(MOST) as c_int;
                (native.library.ssl_read)(native.ssl, memory.add(offset).cast(), rest)
            };
            if count <= 0 {
                return (offset, native.why(count));
            }
            offset += count as usize;
        }
        (offset, Reading::Full)
    }

    /// Writes the content; whether all of it was taken.
    #[inline]
    pub fn write(&self, content: &[u8]) -> bool {
        let Some((native, _owner)) = self.enter() else { return false };
        if content.is_empty() || content.len() > MOST {
            return false;
        }
        native.begin();
        let length = content.len() as c_int;
        // SAFETY: the connection is alive; without partial writes it takes all of the content or none.
        unsafe { (native.library.ssl_write)(native.ssl, content.as_ptr().cast(), length) == length }
    }

    /// Takes out what is to be sent.
    #[inline]
    pub fn take_outgoing(&self) -> Fallible<Option<Ref>> {
        let Some(native) = self.native.get() else { return Ok(None) };
        // SAFETY: the owner is held.
        let length = unsafe { (native.library.bio_ctrl_pending)(native.outgoing()) };
        if length == 0 {
            return Ok(None);
        }
        let length = length.min(MOST);
        bytes::filled(length, |memory| {
            // SAFETY: the owner is held, and the memory is so large; there is so much to be read.
            unsafe { (native.library.bio_read)(native.outgoing(), memory.cast(), length as c_int) }.max(0)
                as usize
        })
        .map(Some)
    }
}

impl Native {
    #[inline]
    fn incoming(&self) -> *mut Bio {
        // SAFETY: the session holds the connection's owner.
        unsafe { (self.library.ssl_get_rbio)(self.ssl) }
    }

    #[inline]
    fn outgoing(&self) -> *mut Bio {
        // SAFETY: as above.
        unsafe { (self.library.ssl_get_wbio)(self.ssl) }
    }

    /// Forgets errors that somebody else has left, as every call that can fail wants.
    #[inline]
    fn begin(&self) {
        // SAFETY: plain call.
        unsafe { (self.library.err_clear_error)() }
    }

    /// Whether nothing is left that could be read.
    #[inline]
    fn is_starved(&self) -> bool {
        // SAFETY: the session holds the connection's owner.
        unsafe {
            (self.library.ssl_pending)(self.ssl) == 0 && (self.library.bio_ctrl_pending)(self.incoming()) == 0
        }
    }

    /// Why a read gave nothing.
    fn why(&self, result: c_int) -> Reading {
        // SAFETY: the session holds the connection's owner, and this is the result of its last call.
        unsafe {
            match (self.library.ssl_get_error)(self.ssl, result) {
                SSL_ERROR_WANT_READ => Reading::Starved,
                // If we have said so as well, Python raises.
                SSL_ERROR_ZERO_RETURN
                    if (self.library.ssl_get_shutdown)(self.ssl) == SSL_RECEIVED_SHUTDOWN =>
                {
                    Reading::Closed
                }
                _ => Reading::Failed,
            }
        }
    }
}
