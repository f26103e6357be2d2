//! Sockets: the descriptor of a Python socket, and reading and writing without going through Python.
//!
//! **The Python socket is the one owner of its descriptor.** Whoever wants to use the descriptor asks for it each
//! time ([`Socket::descriptor`]), and is refused as soon as the socket has been closed or detached, by whomever. So a
//! number that the kernel has meanwhile given to somebody else is never read from nor written to.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::address::Address;
use super::bytes::{Buffer, shortened};
use super::class::Visitor;
use super::ffi;
use super::global::Global;
use super::heap;
use super::object::{self, Obj, Ref};
use super::raised::Fallible;
use super::slot::Slot;
use super::spare_bytes::SpareBytes;

/// A place for a Python socket, or for something that behaves like one.
#[derive(Debug, Default)]
pub struct Socket {
    object: Slot,
    /// Whether the descriptor can be read from the C structure.
    direct: Cell<bool>,
    /// The version of its class in which the methods that receive and send are those of `_socket.socket`, so that nobody
    /// misses their being called; 0 if they are not.
    plain: Cell<u32>,
}

/// `_socket.socket`.
static CLASS: Global<Ref> = Global::new();

/// Whether the descriptor is the first field of `_socket.socket`, which has no public layout: found out at import.
static FIRST_FIELD: AtomicBool = AtomicBool::new(false);
/// Whether the fields behind it are those of `Head` as well.
static WHOLE_HEAD: AtomicBool = AtomicBool::new(false);

/// The head of `_socket.socket` as far as it is used: the descriptor if that is what `FIRST_FIELD` says, the rest if
/// `WHOLE_HEAD` says so.
#[repr(C)]
struct Head {
    object: ffi::PyObject,
    descriptor: RawFd,
    family: c_int,
    _kind: c_int,
    _protocol: c_int,
    _fail: *mut c_void,
    /// Nanoseconds; 0 is a socket that does not block.
    timeout: i64,
}

/// Makes a socket, and looks where its descriptor is. Called at import.
pub fn probe() -> Fallible<()> {
    CLASS.set(object::import(c"_socket")?.get(&*object::interned(c"socket")?)?);
    let class = CLASS.get();
    // SAFETY: a type object, whose instances are as large as it says.
    let large_enough = unsafe {
        (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize >= std::mem::size_of::<Head>()
    };
    let sample = match class.call(&[]) {
        Ok(sample) => sample,
        Err(raised) => {
            // No descriptors to be had just now; then they are asked for by name.
            raised.discard();
            return Ok(());
        }
    };
    let descriptor = sample.call_method(&*object::interned(c"fileno")?, &[])?.to_i64()?;
    // SAFETY: an instance of that class, large enough for the read.
    let open = large_enough && i64::from(unsafe { descriptor_in(&sample) }) == descriptor;
    let rest = large_enough && rest_is_known(&sample)?;
    sample.call_method(&*object::interned(c"close")?, &[])?;
    // SAFETY: as above.
    let closed = large_enough && unsafe { descriptor_in(&sample) } == -1;
    let wanted = std::env::var_os("VELODROME_LAYOUT").is_none_or(|value| value != "0");
    FIRST_FIELD.store(open && closed && wanted, Ordering::Relaxed);
    WHOLE_HEAD.store(open && closed && wanted && rest, Ordering::Relaxed);
    Ok(())
}

/// Whether the family and the timeout are where `Head` has them; `sample` is large enough.
fn rest_is_known(sample: &Obj) -> Fallible<bool> {
    // SAFETY: by contract.
    let head = unsafe { &*sample.as_ptr().cast::<Head>() };
    let set_timeout = object::interned(c"settimeout")?;
    let mut known = i64::from(head.family) == sample.get(&*object::interned(c"family")?)?.to_i64()?;
    for seconds in [1.5, 0.0, 86400.25] {
        sample.call_method(&set_timeout, &[&*object::float(seconds)?])?;
        // SAFETY: as above; read anew, since the call has written there.
        let timeout = unsafe { (&raw const head.timeout).read_volatile() };
        known &= timeout == (seconds * 1e9) as i64;
    }
    Ok(known)
}

/// What the structure of a socket tells.
#[derive(Debug)]
pub struct Known<'a> {
    descriptor: RawFd,
    /// `AF_…`.
    pub family: c_int,
    /// Whether calls on it may wait, for a time or for ever.
    pub waits: bool,
    _socket: PhantomData<&'a Obj>,
}

impl Known<'_> {
    /// Looks into a socket whose class is exactly one of these two: `socket.socket` and `_socket.socket`. Nothing if the
    /// structure is unknown.
    #[inline]
    pub fn of<'a>(socket: &'a Obj, classes: [&Obj; 2]) -> Option<Known<'a>> {
        let exact = classes.into_iter().any(|class| socket.is_exactly(class));
        if !exact || !WHOLE_HEAD.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: an instance of `_socket.socket`, whose head `probe` has recognised.
        let head = unsafe { &*socket.as_ptr().cast::<Head>() };
        Some(Known {
            descriptor: head.descriptor,
            family: head.family,
            waits: head.timeout != 0,
            _socket: PhantomData,
        })
    }

    /// The descriptor, to be used before Python can run again.
    #[inline]
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        if self.descriptor < 0 {
            return Err(rustix::io::Errno::BADF.into());
        }
        // SAFETY: the socket says that it owns this descriptor, and it cannot be closed before Python runs.
        Ok(unsafe { BorrowedFd::borrow_raw(self.descriptor) })
    }
}

/// # Safety
/// `socket` is at least as large as a `Head`.
#[inline]
unsafe fn descriptor_in(socket: &Obj) -> RawFd {
    // SAFETY: by contract.
    unsafe { (*socket.as_ptr().cast::<Head>()).descriptor }
}

impl Socket {
    /// Puts a Python socket there.
    pub fn set(&self, object: &Obj) -> Fallible<()> {
        self.plain.set(plain_version(object)?);
        self.direct.set(FIRST_FIELD.load(Ordering::Relaxed) && object.derives_from(CLASS.get()));
        self.object.set(object.own());
        Ok(())
    }

    /// Whether it can be read and written without its methods being called.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let version = self.plain.get();
        version != 0
            && self
                .object
                .peek()
                .is_some_and(|object| object.class_version() == version || self.is_still_plain())
    }

    /// Something was changed in the class, or in one that it derives from.
    #[cold]
    fn is_still_plain(&self) -> bool {
        let version = self.object.get().map_or(Ok(0), |object| plain_version(&object));
        self.plain.set(version.unwrap_or_else(|raised| {
            raised.discard();
            0
        }));
        self.plain.get() != 0
    }

    /// The Python object.
    pub fn get(&self) -> Option<Ref> {
        self.object.get()
    }

    /// Takes it out.
    pub fn take(&self) -> Option<Ref> {
        self.object.take()
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// Shows it to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.object);
    }

    /// The descriptor, as long as the socket is open; to be used before Python can run again.
    #[inline]
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        let descriptor = match self.object.peek() {
            // SAFETY: an instance of `_socket.socket`, where `probe` has found the descriptor.
            Some(object) if self.direct.get() => unsafe { descriptor_in(object) },
            Some(object) => ask(&object.own()),
            None => -1,
        };
        if descriptor < 0 {
            return Err(rustix::io::Errno::BADF.into());
        }
        // SAFETY: the socket says that it owns this descriptor, and it cannot be closed before Python runs.
        Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }
}

/// The version of the class of `socket`, if that overrides none of the methods of `_socket.socket` that asyncio's transports
/// call for data; otherwise 0. An object that can have attributes of its own can be given such a method at any time.
fn plain_version(socket: &Obj) -> Fallible<u32> {
    let class = CLASS.get();
    if !socket.derives_from(class) || socket.get_if_there(&*object::interned(c"__dict__")?)?.is_some() {
        return Ok(0);
    }
    for name in [c"recv", c"recv_into", c"send", c"sendmsg"] {
        let name = object::interned(name)?;
        if !socket.class().get(&name)?.is(&*class.get(&name)?) {
            return Ok(0);
        }
    }
    // Looking has given the class a version, if it is to have one.
    Ok(socket.class_version())
}

/// `socket.fileno()`, or -1.
#[cold]
fn ask(socket: &Obj) -> RawFd {
    let asked = || socket.call_method(&*object::interned(c"fileno")?, &[])?.to_i64();
    match asked() {
        Ok(descriptor) => RawFd::try_from(descriptor).unwrap_or(-1),
        Err(raised) => {
            raised.discard();
            -1
        }
    }
}

/// The most that is read at a time, as asyncio's `max_size`.
pub const LARGEST_READ: usize = 256 * 1024;

/// Nobody waits here, even if the program, or another process that has the same socket, has made it blocking: the GIL is
/// held.
const DO_NOT_WAIT: rustix::net::RecvFlags = rustix::net::RecvFlags::DONTWAIT;

/// Memory for what comes in beyond what was expected; one for each loop.
#[derive(Debug, Default)]
pub struct Overflow(RefCell<Vec<u8>>);

impl Overflow {
    /// Takes the memory, for a call during which nothing may be borrowed.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.take()
    }

    /// Gives it back.
    pub(super) fn put_back(&self, memory: Vec<u8>) {
        self.0.replace(memory);
    }

    /// Lends `length` bytes of it; there may be anything in them.
    pub(super) fn lend<R>(&self, length: usize, work: impl FnOnce(&mut [MaybeUninit<u8>]) -> R) -> R {
        let mut memory = self.0.borrow_mut();
        heap::reserve(&mut memory, length);
        work(&mut memory.spare_capacity_mut()[..length])
    }
}

/// From what size on it pays to read into the `bytes` itself: two places to read to cost the kernel more than copying
/// less than this.
pub(super) const READ_DIRECTLY: usize = 16 * 1024;

/// Reads once into a `bytes` that nobody else has, which is empty at the end of the stream.
///
/// If much is `expected`, so much goes there directly, and what comes beyond that is copied; what is little is copied.
#[inline]
pub fn receive(
    descriptor: BorrowedFd<'_>,
    expected: usize,
    overflow: &Overflow,
    spare: &SpareBytes,
) -> Fallible<io::Result<Ref>> {
    if expected < READ_DIRECTLY {
        return overflow
            .lend(LARGEST_READ, |space| receive_by_copy(descriptor, space, |content| spare.make(content)));
    }
    let mut overflow = overflow.0.borrow_mut();
    heap::reserve(&mut overflow, LARGEST_READ);
    fill(expected.min(LARGEST_READ), &mut overflow, |parts| receive_parts(descriptor, parts))
}

#[inline]
fn receive_by_copy(
    descriptor: BorrowedFd<'_>,
    space: &mut [MaybeUninit<u8>],
    copy: impl FnOnce(&[u8]) -> Fallible<Ref>,
) -> Fallible<io::Result<Ref>> {
    match rustix::net::recv(descriptor, space, DO_NOT_WAIT) {
        Ok(((content, _rest), _length)) => copy(content).map(Ok),
        Err(error) => Ok(Err(error.into())),
    }
}

/// Reads once, and lends `work` what came in, which is nothing at the end of the stream. It must not run Python.
#[inline]
pub fn receive_lent<R>(
    descriptor: BorrowedFd<'_>,
    overflow: &Overflow,
    work: impl FnOnce(&[u8]) -> R,
) -> io::Result<R> {
    overflow.lend(LARGEST_READ, |space| {
        let ((content, _rest), _length) = rustix::net::recv(descriptor, space, DO_NOT_WAIT)?;
        Ok(work(content))
    })
}

/// Reads at most `most` bytes once into a new `bytes`. What is likely to be little, because little is `expected` or
/// allowed, is copied.
#[inline]
pub fn receive_at_most(
    descriptor: BorrowedFd<'_>,
    most: usize,
    expected: usize,
    overflow: &Overflow,
) -> Fallible<io::Result<Ref>> {
    if most < READ_DIRECTLY || (expected < READ_DIRECTLY && most <= LARGEST_READ) {
        return overflow.lend(most, |space| receive_by_copy(descriptor, space, super::bytes::bytes));
    }
    let mut bytes = new_bytes(most)?;
    let space = space_of(&mut bytes, most);
    match rustix::net::recv(descriptor, space, DO_NOT_WAIT) {
        Ok(((content, _rest), _length)) => {
            let length = content.len();
            shortened(bytes, length).map(Ok)
        }
        Err(error) => Ok(Err(error.into())),
    }
}

/// Two places for one call to fill, one after the other.
pub(super) struct Parts([libc::iovec; 2]);

// SAFETY: whoever has the parts is the only one to use the memory that they point to.
unsafe impl Send for Parts {}

/// Fills a new `bytes` by one call, which says how much it read: as much as is `expected` goes there directly, and what
/// comes beyond is copied.
pub(super) fn fill(
    expected: usize,
    overflow: &mut Vec<u8>,
    call: impl FnOnce(&mut Parts) -> io::Result<usize>,
) -> Fallible<io::Result<Ref>> {
    let first = new_bytes(expected)?;
    let second = overflow.spare_capacity_mut();
    let mut parts = Parts([
        libc::iovec { iov_base: content_of(&first).cast(), iov_len: expected },
        libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: LARGEST_READ - expected },
    ]);
    let count = match call(&mut parts) {
        Ok(count) => count,
        Err(error) => return Ok(Err(error)),
    };
    if count <= expected {
        return shortened(first, count).map(Ok);
    }
    let whole = new_bytes(count)?;
    // SAFETY: the new object is `count` bytes long; the kernel has filled the first part, and as much of the second.
    unsafe {
        content_of(&whole).copy_from_nonoverlapping(content_of(&first), expected);
        content_of(&whole).add(expected).copy_from_nonoverlapping(second.as_ptr().cast(), count - expected);
    }
    Ok(Ok(whole))
}

/// `recvmsg`, for [`fill`].
fn receive_parts(descriptor: BorrowedFd<'_>, parts: &mut Parts) -> io::Result<usize> {
    // SAFETY: both parts are memory of that length which nobody else sees; of the rest of the message, zero is nothing.
    let count = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = parts.0.as_mut_ptr();
        message.msg_iovlen = parts.0.len() as _;
        libc::recvmsg(descriptor.as_raw_fd(), &mut message, libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// `readv`, for [`fill`].
pub(super) fn read_parts(descriptor: BorrowedFd<'_>, parts: &mut Parts) -> io::Result<usize> {
    // SAFETY: both parts are memory of that length which nobody else sees.
    let count =
        unsafe { libc::readv(descriptor.as_raw_fd(), parts.0.as_ptr(), parts.0.len() as libc::c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A `bytes` of this length whose content is yet to be written.
fn new_bytes(length: usize) -> Fallible<Ref> {
    // SAFETY: plain call; NULL leaves the content as it is.
    unsafe { Ref::from_owned(ffi::PyBytes_FromStringAndSize(std::ptr::null(), length as isize)) }
}

/// The memory of a new `bytes` of this length, which nobody else has seen.
fn space_of(bytes: &mut Ref, length: usize) -> &mut [MaybeUninit<u8>] {
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts_mut(content_of(bytes).cast::<MaybeUninit<u8>>(), length) }
}

fn content_of(bytes: &Obj) -> *mut u8 {
    // SAFETY: callers pass a `bytes`.
    unsafe { ffi::PyBytes_AsString(bytes.as_ptr()).cast() }
}

/// Reads one datagram, or what is there of a stream, into a `bytes` (which `copy` makes, unless very much is allowed); and
/// who sent it.
pub fn receive_from(
    descriptor: BorrowedFd<'_>,
    most: usize,
    overflow: &Overflow,
    copy: impl FnOnce(&[u8]) -> Fallible<Ref>,
) -> Fallible<io::Result<(Ref, Address)>> {
    if most <= LARGEST_READ {
        return overflow.lend(most, |space| match receive_with_address(descriptor, space) {
            Ok((content, address)) => Ok(Ok((copy(content)?, address))),
            Err(error) => Ok(Err(error)),
        });
    }
    let mut bytes = new_bytes(most)?;
    match receive_with_address(descriptor, space_of(&mut bytes, most)) {
        Ok((content, address)) => {
            let length = content.len();
            Ok(Ok((shortened(bytes, length)?, address)))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// Reads one datagram into lent memory, at most `most` bytes of it; how much it was, and who sent it.
pub fn receive_from_into(
    descriptor: BorrowedFd<'_>,
    buffer: &mut Buffer,
    most: usize,
) -> io::Result<(usize, Address)> {
    let (memory, length) = buffer.space();
    let space: &mut [MaybeUninit<u8>] = if length == 0 {
        &mut []
    } else {
        // SAFETY: writable memory of that length; nobody looks there while the call lasts, since the GIL is held.
        unsafe { std::slice::from_raw_parts_mut(memory.cast(), length.min(most)) }
    };
    let (content, address) = receive_with_address(descriptor, space)?;
    Ok((content.len(), address))
}

fn receive_with_address<'a>(
    descriptor: BorrowedFd<'_>,
    space: &'a mut [MaybeUninit<u8>],
) -> io::Result<(&'a [u8], Address)> {
    let mut address = Address::room();
    // SAFETY: memory of that length, and room for an address with its length.
    let count = unsafe {
        let (room, length) = address.room_and_length();
        let memory = space.as_mut_ptr().cast();
        libc::recvfrom(descriptor.as_raw_fd(), memory, space.len(), libc::MSG_DONTWAIT, room, length)
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled so much of it.
    let content = unsafe { std::slice::from_raw_parts(space.as_ptr().cast(), count) };
    Ok((content, address))
}

/// Sends one datagram to an address.
pub fn send_to(descriptor: BorrowedFd<'_>, content: &[u8], address: &Address) -> io::Result<usize> {
    let (room, length) = address.content();
    // SAFETY: memory of those lengths.
    let count = unsafe {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::sendto(descriptor.as_raw_fd(), content.as_ptr().cast(), content.len(), flags, room, length)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Reads once into lent memory.
pub fn receive_into(descriptor: BorrowedFd<'_>, buffer: &mut Buffer) -> io::Result<usize> {
    let (memory, length) = buffer.space();
    if length == 0 {
        return Ok(0); // there may be no memory at all
    }
    // SAFETY: writable memory of that length; nobody looks there while the call lasts, since the GIL is held.
    let space = unsafe { std::slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), length) };
    let (filled, _rest) = rustix::net::recv(descriptor, space, DO_NOT_WAIT).map(|(read, _)| read)?;
    Ok(filled.len())
}
