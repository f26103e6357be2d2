//! One attempt of a call on a socket: done, too early, or an error.
//!
//! A plain socket that does not block is read and written without its methods: an attempt that comes too early then costs
//! a system call and no exception. Any other socket, and any argument that is not as usual, goes through the method that
//! asyncio's coroutine calls, which says what is wrong with it.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::cpython::address;
use crate::cpython::bytes::{self, Buffer};
use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::socket::{self, Known};
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::state::state;
use crate::transport::foreign_socket::unless_transient;
use crate::transport::outgoing::{FLAGS, send};
use crate::transport::reading::is_transient;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    SendAll,
    SendTo,
    Accept,
    Connect,
}

impl Call {
    /// The method of the socket that does it.
    const fn method(self) -> &'static CStr {
        match self {
            Call::Recv => c"recv",
            Call::RecvInto => c"recv_into",
            Call::RecvFrom => c"recvfrom",
            Call::RecvFromInto => c"recvfrom_into",
            Call::SendAll => c"send",
            Call::SendTo => c"sendto",
            Call::Accept => c"accept",
            Call::Connect => c"connect",
        }
    }

    /// Whether it waits until the socket can be written.
    pub fn writes(self) -> bool {
        matches!(self, Call::SendAll | Call::SendTo | Call::Connect)
    }

    /// Whether addresses come or go with the data.
    fn has_address(self) -> bool {
        matches!(self, Call::RecvFrom | Call::RecvFromInto | Call::SendTo)
    }
}

/// What a socket is compared with.
#[derive(Debug)]
struct Plain {
    /// `socket.socket`.
    class: Ref,
    /// In the order of `Call`, as far as data is moved.
    methods: Vec<Method>,
}

/// A method of `_socket.socket`.
#[derive(Debug)]
struct Method {
    name: Ref,
    function: Ref,
    /// The version of the class that was last found to have it; every change of a class changes its version.
    version: Cell<u32>,
}

impl Method {
    /// Whether the socket's class has it, rather than one that a program has put there.
    #[inline]
    fn is_of(&self, socket: &Obj) -> Fallible<bool> {
        let version = socket.class_version();
        Ok(version != 0 && self.version.get() == version || self.is_found_in(socket)?)
    }

    #[cold]
    fn is_found_in(&self, socket: &Obj) -> Fallible<bool> {
        let found = socket.class().get(&self.name)?.is(&self.function);
        // Looking has given the class a version, if it is to have one.
        self.version.set(if found { socket.class_version() } else { 0 });
        Ok(found)
    }
}

static PLAIN: Global<Plain> = Global::new();

/// Looks up what plain sockets are made of.
pub fn define() -> Fallible<()> {
    let base = &state().socket_class;
    let moving_data =
        [Call::Recv, Call::RecvInto, Call::RecvFrom, Call::RecvFromInto, Call::SendAll, Call::SendTo];
    let mut methods = Vec::new();
    for call in moving_data {
        let name = object::interned(call.method())?;
        let function = base.get(&name)?;
        methods.push(Method { name, function, version: Cell::new(0) });
    }
    let class = object::import(c"socket")?.get(&*object::interned(c"socket")?)?;
    PLAIN.set(Plain { class, methods });
    Ok(())
}

/// Whether it is exactly a `socket.socket`, which is not the class of TLS sockets.
pub fn is_socket(object: &Obj) -> bool {
    object.is_exactly(&PLAIN.get().class)
}

/// The descriptor of a socket that is read and written directly: attempts run no Python.
pub fn direct_descriptor(socket: &Obj, call: Call) -> Fallible<Option<RawFd>> {
    Ok(plain(socket, call)?.and_then(|known| Some(known.descriptor().ok()?.as_raw_fd())))
}

/// What a plain socket's structure says, if nobody misses the method's being called.
#[inline]
pub fn plain(socket: &Obj, call: Call) -> Fallible<Option<Known<'_>>> {
    let plain = PLAIN.get();
    let Some(known) = Known::of(socket, [&plain.class, &state().socket_class]) else { return Ok(None) };
    let Some(method) = plain.methods.get(call as usize) else { return Ok(None) };
    let direct = !known.waits && (!call.has_address() || address::is_known(known.family));
    Ok((direct && method.is_of(socket)?).then_some(known))
}

/// The same of a socket that was plain just now.
#[inline]
pub fn again(socket: &Obj) -> Option<Known<'_>> {
    Known::of(socket, [&PLAIN.get().class, &state().socket_class])
}

/// What is tried, and what came of it so far.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub call: Call,
    pub event_loop: &'a Inst<EventLoop>,
    pub socket: &'a Obj,
    pub arguments: [&'a Obj; 2],
    /// How much of the data has gone; for `sendall`.
    pub sent: &'a Cell<usize>,
    /// It has been tried before.
    pub again: bool,
}

impl Attempt<'_> {
    /// Tries once; None if it is too early.
    pub fn run(&self) -> Fallible<Option<Ref>> {
        if let Some(known) = plain(self.socket, self.call)?
            && let Some(outcome) = self.directly(&known)?
        {
            return match outcome {
                Ok(value) => Ok(value),
                Err(error) if is_transient(&error) => Ok(None),
                Err(error) => Err(Raised::os_error(&error)),
            };
        }
        self.by_method()
    }

    /// Without the method. None outside if the arguments are none for that; None inside if there is more to send.
    #[inline]
    fn directly(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        match self.call {
            Call::Recv => self.recv(known),
            Call::RecvInto => self.recv_into(known),
            Call::RecvFrom => self.recvfrom(known),
            Call::RecvFromInto => self.recvfrom_into(known),
            Call::SendAll => self.sendall(known),
            Call::SendTo => self.sendto(known),
            Call::Accept | Call::Connect => Ok(None),
        }
    }

    fn recv(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let Some(most) = size_of(self.arguments[0])? else { return Ok(None) };
        let descriptor = match known.descriptor() {
            Ok(descriptor) => descriptor,
            Err(error) => return Ok(Some(Err(error))),
        };
        let expected = &self.event_loop.expected;
        let received = socket::receive_at_most(descriptor, most, expected.get(), &self.event_loop.overflow)?;
        if let Ok(data) = &received {
            expected.set(bytes::of_exact(data).map_or(0, <[u8]>::len));
        }
        Ok(Some(received.map(Some)))
    }

    fn recv_into(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let Some(mut buffer) = writable(self.arguments[0]).filter(|buffer| buffer.len() > 0) else {
            return Ok(None); // the method says what is wrong, and asks the kernel for no less than a byte
        };
        let received =
            known.descriptor().and_then(|descriptor| socket::receive_into(descriptor, &mut buffer));
        drop(buffer);
        received.map_or_else(|error| Ok(Some(Err(error))), |count| done(object::int(count as i64)?))
    }

    fn recvfrom(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let Some(most) = size_of(self.arguments[0])? else { return Ok(None) };
        let received = match known.descriptor() {
            Ok(descriptor) => {
                socket::receive_from(descriptor, most, &self.event_loop.overflow, bytes::bytes)?
            }
            Err(error) => Err(error),
        };
        match received {
            Ok((data, address)) => {
                done(object::tuple(&[&*data, &*self.event_loop.addresses.to_python(address)?])?)
            }
            Err(error) => Ok(Some(Err(error))),
        }
    }

    fn recvfrom_into(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let [space, most] = self.arguments;
        if bytes::of_exact(space).is_some() || !most.is_int() {
            return Ok(None);
        }
        let Some(mut buffer) = writable(space) else { return Ok(None) };
        let most = match most.to_i64_or_nearest()? {
            0 => buffer.len(),
            most => usize::try_from(most).unwrap_or(usize::MAX),
        };
        if most == 0 || most > buffer.len() {
            return Ok(None);
        }
        let received = known
            .descriptor()
            .and_then(|descriptor| socket::receive_from_into(descriptor, &mut buffer, most));
        drop(buffer);
        match received {
            Ok((count, address)) => done(object::tuple(&[
                &*object::int(count as i64)?,
                &*self.event_loop.addresses.to_python(address)?,
            ])?),
            Err(error) => Ok(Some(Err(error))),
        }
    }

    fn sendall(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let data = self.arguments[0];
        let start = self.sent.get();
        let (sent, length) = if let Some(content) = bytes::of_exact(data) {
            (offer(known, content, start), content.len())
        } else {
            let Some(buffer) = readable(data) else { return Ok(None) };
            (offer(known, buffer.content(), start), buffer.len())
        };
        match sent {
            Ok(sent) => {
                self.sent.set(start + sent);
                Ok(Some(Ok((start + sent >= length).then(|| none().own()))))
            }
            Err(error) => Ok(Some(Err(error))),
        }
    }

    fn sendto(&self, known: &Known<'_>) -> Fallible<Option<io::Result<Option<Ref>>>> {
        let [data, to] = self.arguments;
        let Some(address) = self.event_loop.addresses.to_kernel(known.family, to) else {
            return Ok(None);
        };
        address::audit_send_to(self.socket, to)?; // which can run Python
        let Some(known) = again(self.socket) else { return Ok(None) };
        let descriptor = known.descriptor();
        let sent = if let Some(content) = bytes::of_exact(data) {
            descriptor.and_then(|descriptor| socket::send_to(descriptor, content, &address))
        } else {
            let Some(buffer) = readable(data) else { return Ok(None) };
            descriptor.and_then(|descriptor| socket::send_to(descriptor, buffer.content(), &address))
        };
        sent.map_or_else(|error| Ok(Some(Err(error))), |count| done(object::int(count as i64)?))
    }

    /// Through the method, as asyncio calls it.
    #[cold]
    fn by_method(&self) -> Fallible<Option<Ref>> {
        if matches!(self.call, Call::Accept | Call::Connect) && !is_socket(self.socket) {
            self.socket.call_method(&*object::interned(c"fileno")?, &[])?;
        }
        let [first, second] = self.arguments;
        let call = |arguments: &[&Obj]| {
            unless_transient(self.socket.call_method(&*object::interned(self.call.method())?, arguments))
        };
        match self.call {
            Call::Recv | Call::RecvInto | Call::RecvFrom => call(&[first]),
            Call::RecvFromInto if second.truthy()? => call(&[first, second]),
            Call::RecvFromInto => call(&[first, &*object::int(bytes::length_of(first)? as i64)?]),
            Call::SendTo if self.again => call(&[first, &state().zero, second]),
            Call::SendTo => call(&[first, second]),
            Call::SendAll => self.send_by_method(),
            Call::Accept => self.accept(),
            Call::Connect if self.again => self.is_connected(),
            Call::Connect => Ok(call(&[first])?.map(|_none| none().own())),
        }
    }

    fn send_by_method(&self) -> Fallible<Option<Ref>> {
        let data = self.arguments[0];
        let start = self.sent.get();
        let rest = if self.again { bytes::from(data, start)? } else { data.own() };
        let sent = self.socket.call_method(&*object::interned(c"send")?, &[&rest]);
        let sent = unless_transient(sent.and_then(|sent| sent.to_i64()))?;
        self.sent.set(start + usize::try_from(sent.unwrap_or(0)).unwrap_or(0));
        let all = sent.is_some() || !self.again;
        Ok((all && self.sent.get() == bytes::length_of(data)?).then(|| none().own()))
    }

    fn accept(&self) -> Fallible<Option<Ref>> {
        let accept = || {
            let accepted = self.socket.call_method(&*object::interned(c"accept")?, &[])?.items()?;
            let [connection, address] = &accepted[..] else {
                return Err(Raised::value_error("accept() gave no pair"));
            };
            connection.call_method(&*object::interned(c"setblocking")?, &[object::boolean(false)])?;
            object::tuple(&[connection, address])
        };
        unless_transient(accept())
    }

    /// The socket can be written: the connection is there, or failed.
    fn is_connected(&self) -> Fallible<Option<Ref>> {
        let level = object::int(i64::from(libc::SOL_SOCKET))?;
        let option = object::int(i64::from(libc::SO_ERROR))?;
        let asked = self.socket.call_method(&*object::interned(c"getsockopt")?, &[&level, &option]);
        let Some(error) = unless_transient(asked)? else { return Ok(None) };
        if !error.truthy()? {
            return Ok(Some(none().own()));
        }
        let text = format!("Connect call failed {}", self.arguments[0].str()?.to_text());
        let exception = object::os_error().call(&[&*error, &*object::text(&text)?])?;
        unless_transient(Err(Raised::from_exception(exception)))
    }
}

fn done(value: Ref) -> Fallible<Option<io::Result<Option<Ref>>>> {
    Ok(Some(Ok(Some(value))))
}

/// A number of bytes to ask the kernel for: one that is zero, negative, too large or no number is the method's to answer.
fn size_of(number: &Obj) -> Fallible<Option<usize>> {
    if !number.is_int() {
        return Ok(None);
    }
    Ok(usize::try_from(number.to_i64_or_nearest()?).ok().filter(|size| (1..=LARGEST).contains(size)))
}

/// The most that is asked for here.
const LARGEST: usize = 1 << 30;

fn writable(object: &Obj) -> Option<Buffer> {
    Buffer::writable(object).map_err(Raised::discard).ok()
}

fn readable(object: &Obj) -> Option<Buffer> {
    Buffer::readable(object).map_err(Raised::discard).ok()
}

fn offer(known: &Known<'_>, content: &[u8], start: usize) -> io::Result<usize> {
    send(known.descriptor()?, content.get(start..).unwrap_or_default(), FLAGS)
}
