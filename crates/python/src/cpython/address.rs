//! Addresses of internet sockets, between the kernel's form and Python's tuples.
//!
//! What is not plainly an address of that kind (a name that has to be resolved, a zone, another family) is none here, and
//! whoever asked goes through the socket's own methods.

use std::cell::RefCell;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::ffi;
use super::object::{self, Obj, Ref, status};
use super::raised::{Fallible, Raised};

/// An address as the kernel has it. Of one that is larger than those of the known families there is the beginning.
#[derive(Clone)]
pub struct Address {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

/// Families whose addresses are known here.
#[inline]
pub fn is_known(family: libc::c_int) -> bool {
    matches!(family, libc::AF_INET | libc::AF_INET6)
}

impl Address {
    /// Room for one that the kernel is to fill in.
    #[inline]
    pub(super) fn room() -> Address {
        // SAFETY: plain numbers, for which zero is a value.
        let storage = unsafe { std::mem::zeroed() };
        Address { storage, length: std::mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t }
    }

    /// Where the kernel writes it.
    pub(super) fn room_and_length(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// Where the kernel reads it.
    pub(super) fn content(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.sin6_family)
    }

    /// The bytes of the address itself.
    fn content_bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(std::mem::size_of::<libc::sockaddr_in6>());
        // SAFETY: so much of the storage, all of which has a value.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }

    /// A number that differs for most addresses.
    #[inline]
    fn few_bits(&self) -> usize {
        let mix = |bytes: &[u8]| {
            bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)))
        };
        match self.v4() {
            Some(address) => mix(&(address.sin_addr.s_addr ^ u32::from(address.sin_port)).to_ne_bytes()),
            None => mix(self.content_bytes()),
        }
    }

    fn v4(&self) -> Option<&libc::sockaddr_in> {
        let fits = self.length as usize >= std::mem::size_of::<libc::sockaddr_in>();
        // SAFETY: the storage is large enough and aligned for every kind, and the family says which it is.
        (fits && libc::c_int::from(self.storage.sin6_family) == libc::AF_INET)
            .then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    fn v6(&self) -> Option<&libc::sockaddr_in6> {
        let fits = self.length as usize >= std::mem::size_of::<libc::sockaddr_in6>();
        // SAFETY: as above.
        (fits && libc::c_int::from(self.storage.sin6_family) == libc::AF_INET6)
            .then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    /// The tuple that `recvfrom` gives; None where the kernel named nobody, as for a stream.
    pub fn to_python(&self) -> Fallible<Ref> {
        if let Some(address) = self.v4() {
            let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            let port = object::int(i64::from(u16::from_be(address.sin_port)))?;
            return object::tuple(&[&*object::text(&host.to_string())?, &port]);
        }
        if let Some(address) = self.v6() {
            let host = text_of_v6(&address.sin6_addr)?;
            let port = object::int(i64::from(u16::from_be(address.sin6_port)))?;
            let flow = object::int(i64::from(u32::from_be(address.sin6_flowinfo)))?;
            let scope = object::int(i64::from(address.sin6_scope_id))?;
            return object::tuple(&[&*host, &port, &flow, &scope]);
        }
        Ok(object::none().own())
    }

    /// The address that a tuple names, if it is written out in figures.
    pub fn from_python(family: libc::c_int, address: &Obj) -> Option<Address> {
        let items = items_of(address)?;
        let (host, numbers) = items.split_first()?;
        let host = text_of(host)?;
        let mut values = [0_u32; 3];
        if numbers.is_empty() || numbers.len() > values.len() {
            return None;
        }
        for (place, number) in values.iter_mut().zip(numbers) {
            *place = u32_of(number)?;
        }
        let [port, flow, scope] = values;
        let port = u16::try_from(port).ok()?;
        match (family, numbers.len()) {
            (libc::AF_INET, 1) => Some(Address::of_v4(host.parse().ok()?, port)),
            (libc::AF_INET6, _) if flow <= 0xf_ffff => {
                Some(Address::of_v6(host.parse().ok()?, port, flow, scope))
            }
            _ => None,
        }
    }

    fn of_v4(host: Ipv4Addr, port: u16) -> Address {
        let mut this = Address::room();
        this.length = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
        // SAFETY: the storage is large enough and aligned for every kind.
        let address = unsafe { &mut *(&raw mut this.storage).cast::<libc::sockaddr_in>() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from(host).to_be();
        this
    }

    fn of_v6(host: Ipv6Addr, port: u16, flow: u32, scope: u32) -> Address {
        let mut this = Address::room();
        this.length = std::mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        // SAFETY: as above.
        let address = unsafe { &mut *(&raw mut this.storage).cast::<libc::sockaddr_in6>() };
        address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        address.sin6_port = port.to_be();
        address.sin6_flowinfo = flow.to_be();
        address.sin6_addr.s6_addr = host.octets();
        address.sin6_scope_id = scope;
        this
    }
}

/// The tuples of addresses that were met lately; one for each loop. Those who talk to each other do it again, and a tuple never
/// changes.
#[derive(Debug, Default)]
pub struct Addresses(RefCell<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// In sets of those whose few bits are the same, the last one that was met first; none until there is a first one.
    met: Vec<Option<(Address, Ref)>>,
    /// By a few bits of the tuple's pointer: which set of `met` it is in.
    places: Vec<u8>,
}

/// How many are remembered, and how many of those are in a set.
const MET: usize = 256;
const SHARING: usize = 4;
const PLACES: usize = 1024;

impl Memory {
    fn place_of(tuple: &Obj) -> usize {
        (tuple.as_ptr() as usize / 16) % PLACES
    }

    /// Those that a set has; none as long as there is none at all.
    #[inline]
    fn set(&self, number: usize) -> impl Iterator<Item = &(Address, Ref)> {
        self.met.get(number * SHARING..(number + 1) * SHARING).unwrap_or_default().iter().flatten()
    }
}

impl Addresses {
    /// [`Address::to_python`].
    #[inline]
    pub fn to_python(&self, address: Address) -> Fallible<Ref> {
        if !is_known(address.family()) {
            return address.to_python();
        }
        let number = address.few_bits() % (MET / SHARING);
        let content = address.content_bytes();
        if let Some((_, tuple)) =
            self.0.borrow().set(number).find(|(known, _)| known.content_bytes() == content)
        {
            return Ok(tuple.clone());
        }
        self.meet(number, address)
    }

    #[cold]
    fn meet(&self, number: usize, address: Address) -> Fallible<Ref> {
        let tuple = address.to_python()?;
        let mut memory = self.0.borrow_mut();
        memory.met.resize_with(MET, || None);
        memory.places.resize(PLACES, 0);
        memory.places[Memory::place_of(&tuple)] = number as u8;
        let set = &mut memory.met[number * SHARING..(number + 1) * SHARING];
        set.rotate_right(1);
        // What it replaces is a tuple of text and numbers, whose end runs no Python.
        set[0] = Some((address, tuple.clone()));
        Ok(tuple)
    }

    /// [`Address::from_python`].
    #[inline]
    pub fn to_kernel(&self, family: libc::c_int, tuple: &Obj) -> Option<Address> {
        let memory = self.0.borrow();
        let number = memory.places.get(Memory::place_of(tuple)).copied().unwrap_or(0);
        match memory.set(usize::from(number)).find(|(_, known)| known.is(tuple)) {
            Some((address, _)) if address.family() == family => Some(address.clone()),
            _ => Address::from_python(family, tuple),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Address").field("length", &self.length).finish_non_exhaustive()
    }
}

/// The items of an exact `tuple`.
fn items_of(tuple: &Obj) -> Option<&[&Obj]> {
    // SAFETY: the type is checked; a tuple keeps its items, and does not change.
    object::is_tuple(tuple).then(|| unsafe {
        let first = &raw const (*tuple.as_ptr().cast::<ffi::PyTupleObject>()).ob_item;
        std::slice::from_raw_parts(first.cast(), object::tuple_len(tuple))
    })
}

/// The text of an exact `str`.
fn text_of(text: &Obj) -> Option<&str> {
    let mut length = 0;
    // SAFETY: the type is checked; the buffer lives as long as the object, and does not change.
    unsafe {
        if ffi::PyUnicode_CheckExact(text.as_ptr()) == 0 {
            return None;
        }
        let data = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &mut length);
        if data.is_null() {
            ffi::PyErr_Clear(); // surrogates
            return None;
        }
        std::str::from_utf8(std::slice::from_raw_parts(data.cast(), length as usize)).ok()
    }
}

/// The value of an exact `int` that fits.
fn u32_of(number: &Obj) -> Option<u32> {
    let value = if number.is_int() { number.to_i64_or_nearest() } else { return None };
    match value {
        Ok(value) => u32::try_from(value).ok(),
        Err(raised) => {
            raised.discard();
            None
        }
    }
}

unsafe extern "C-unwind" {
    /// `sysmodule.h`.
    fn PySys_Audit(event: *const libc::c_char, format: *const libc::c_char, ...) -> libc::c_int;
}

unsafe extern "C" {
    /// inet_ntop(3), which writes some addresses otherwise than Rust.
    fn inet_ntop(
        family: libc::c_int,
        address: *const libc::c_void,
        text: *mut libc::c_char,
        size: libc::socklen_t,
    ) -> *const libc::c_char;
}

fn text_of_v6(address: &libc::in6_addr) -> Fallible<Ref> {
    let mut text = [0; 64];
    // SAFETY: an address of that family, and more room than any has in letters.
    unsafe {
        let from = std::ptr::from_ref(address).cast();
        let written = inet_ntop(libc::AF_INET6, from, text.as_mut_ptr(), text.len() as libc::socklen_t);
        if written.is_null() {
            return Err(Raised::os_error(&std::io::Error::last_os_error()));
        }
        Ref::from_owned(ffi::PyUnicode_FromString(text.as_ptr()))
    }
}

/// Tells audit hooks of a `sendto`, as the socket's method does before it asks the kernel.
pub fn audit_send_to(socket: &Obj, address: &Obj) -> Fallible<()> {
    // SAFETY: plain call: an event's name, a format for two objects, and two objects.
    status(unsafe {
        ffi::outlived(|| {
            PySys_Audit(c"socket.sendto".as_ptr(), c"OO".as_ptr(), socket.as_ptr(), address.as_ptr())
        })
    })
}
