//! A `bytes` that is filled again.
//!
//! A protocol has often done with what it was given when `data_received` returns. The object is ours alone then, and nobody
//! can tell it from a new one when it is filled again; that spares giving its memory back and asking for as much, which from
//! a kilobyte on is work for the allocator.
//!
//! What must stay true: only an object that nobody else refers to is changed, from the moment that it is handed out again it
//! is a `bytes` like any other, and it never ends up longer than it was made.

use super::bytes;
use super::ffi;
use super::object::{Obj, Ref};
use super::raised::Fallible;
use super::slot::Slot;

/// The last `bytes` that came back; one for each loop.
#[derive(Debug, Default)]
pub struct SpareBytes(Slot);

/// The largest that is kept.
const LARGEST: usize = 16 * 1024;

impl SpareBytes {
    /// A `bytes` with this content.
    #[inline]
    pub fn make(&self, content: &[u8]) -> Fallible<Ref> {
        match self.0.take() {
            Some(kept) if fits(&kept, content.len()) => {
                refill(&kept, content);
                Ok(kept)
            }
            Some(kept) => {
                self.0.set(kept);
                bytes::bytes(content)
            }
            None => bytes::bytes(content),
        }
    }

    /// Takes back what [`SpareBytes::make`] has made, if nobody else has it.
    #[inline]
    pub fn take_back(&self, data: Ref) {
        // The empty `bytes` and those of one, which are there once for all, never are unshared.
        let unshared = data.references() == 1;
        if unshared && bytes::of_exact(&data).is_some_and(|content| content.len() <= LARGEST) {
            self.0.set(data);
        }
    }
}

/// Whether content of this length has room, without much of the room being left over: whoever keeps the object keeps that
/// as well.
#[inline]
fn fits(kept: &Obj, length: usize) -> bool {
    let room = bytes::of_exact(kept).map_or(0, <[u8]>::len);
    room.checked_sub(length).is_some_and(|left| left <= room / 8)
}

/// Makes a `bytes` that only the caller has one of this content, which is not longer.
#[inline]
fn refill(kept: &Obj, content: &[u8]) {
    let kept = kept.as_ptr().cast::<ffi::PyBytesObject>();
    // SAFETY: a `bytes` of at least that length and, behind it, a zero; nobody else refers to it. The hash is that of the
    // content, and -1 as long as nobody has asked for it.
    #[allow(deprecated)]
    unsafe {
        (*kept).ob_base.ob_size = content.len() as ffi::Py_ssize_t;
        (*kept).ob_shash = -1;
        let room = (&raw mut (*kept).ob_sval).cast::<u8>();
        room.copy_from_nonoverlapping(content.as_ptr(), content.len());
        room.add(content.len()).write(0);
    }
}
