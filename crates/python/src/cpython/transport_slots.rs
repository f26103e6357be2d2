//! The one `__slot__` of `asyncio.BaseTransport`, `_extra`, used as the field of our transports: what a program reads
//! or replaces there is what `get_extra_info` looks into.

use super::class::{Class, Inst};
use super::member::Offset;
use super::object::Obj;
use super::raised::Fallible;
use super::slot::Slot;

static EXTRA: Offset = Offset::unknown();

/// A class of ours that derives from `asyncio.BaseTransport`.
///
/// # Safety
/// It does.
#[allow(unsafe_code)]
pub unsafe trait TransportLayout: Class {}

impl<T: TransportLayout> Inst<T> {
    /// The slot of `_extra`.
    #[inline]
    pub fn extra_slot(&self) -> &Slot {
        // SAFETY: the class derives from the one whose slot it is, as the trait says.
        unsafe { EXTRA.of(self) }
    }
}

/// Finds the slot. Called at import.
pub fn find_in_transport(class: &Obj) -> Fallible<()> {
    EXTRA.find(class, c"_extra")
}

// SAFETY: `transport::define` gives it a base that derives from `asyncio.Transport`.
#[allow(unsafe_code)]
unsafe impl TransportLayout for crate::transport::SocketTransport {}

// SAFETY: `transport::datagram::define` gives it a base that derives from `asyncio.DatagramTransport`.
#[allow(unsafe_code)]
unsafe impl TransportLayout for crate::transport::datagram::DatagramTransport {}

// SAFETY: `transport::read_pipe::define` gives it `asyncio.ReadTransport`, which derives from `asyncio.BaseTransport`.
#[allow(unsafe_code)]
unsafe impl TransportLayout for crate::transport::read_pipe::ReadPipe {}

// SAFETY: `transport::write_pipe::define` gives it a base that derives from `asyncio.Transport`.
#[allow(unsafe_code)]
unsafe impl TransportLayout for crate::transport::write_pipe::WritePipe {}
