//! From `sendto` to the kernel, at once if it takes it.

use std::io;

use crate::cpython::address;
use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, none};
use crate::cpython::socket::{self, Known};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature};
use crate::event_loop::EventLoop;
use crate::sockets::attempt::{Call, again, plain};
use crate::state::state;

use super::super::foreign_socket::unless_transient;
use super::super::outgoing::{FLAGS, send};
use super::super::reading::is_transient;
use super::super::{closing, flow};
use super::kept::{self, Datagram};
use super::{DatagramTransport, closed, failed};

/// From how many datagrams after the end on each is logged, as in asyncio.
const LOGGED_FROM: u32 = 5;
const SEND_FAILED: &str = "Fatal write error on datagram transport";

fn py_sendto(this: &Inst<DatagramTransport>, args: Args<'_>) -> Fallible<Ref> {
    let (data, address) = match (args.positional(), args.has_keywords()) {
        ([data, address], false) => (*data, *address),
        _ => {
            let [data, address] = args.parse(&Signature {
                function: "sendto",
                names: ["data", "addr"],
                positional: 2,
                required: 1,
            })?;
            (data.unwrap_or(none()), address.unwrap_or(none()))
        }
    };
    sendto(this, data, address)?;
    Ok(none().own())
}

fn sendto(this: &Inst<DatagramTransport>, data: &Obj, address: &Obj) -> Fallible<()> {
    if !bytes::is_bytes_like(data) {
        return Err(Raised::type_error(&format!(
            "data argument must be a bytes-like object, not '{}'",
            data.class_name()
        )));
    }
    if kept::header() == 0 && !data.truthy()? {
        return Ok(()); // an empty one is nothing, up to 3.12
    }
    let fixed = this.address.get();
    if let Some(fixed) = &fixed {
        if !address.is_none() && !address.is(fixed) && !address.equals(fixed)? {
            let message = format!("Invalid address: must be None or {}", fixed.str()?.to_text());
            return Err(Raised::value_error(&message));
        }
        if this.lost.get() > 0 {
            return in_vain(this);
        }
    }
    let address = fixed.as_deref().unwrap_or(address);
    if this.kept.is_empty() {
        match offer(this, data, address) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(raised) if this.is_released() => {
                // Nobody is left to be told; asyncio stumbles over that as well.
                raised.discard();
                return this.event_loop.get_or_none().get(&state().names.call_exception_handler).map(drop);
            }
            Err(raised) => return failed(this, raised, SEND_FAILED),
        }
        this.start_writing()?;
    }
    // Nobody can change what is kept.
    let copy = match bytes::of_exact(data) {
        Some(_) => data.own(),
        None => bytes::contiguous(data)?,
    };
    this.kept.push(copy, address);
    flow::maybe_pause(this)
}

#[cold]
fn in_vain(this: &Inst<DatagramTransport>) -> Fallible<()> {
    if this.lost.get() >= LOGGED_FROM {
        closing::log(c"warning", c"socket.send() raised exception.", &[])?;
    }
    this.lost.set(this.lost.get().saturating_add(1));
    Ok(())
}

/// Offers the kernel one datagram; whether it took it.
fn offer(this: &Inst<DatagramTransport>, data: &Obj, address: &Obj) -> Fallible<bool> {
    let Some(held) = this.socket.get() else { return Err(closed()) };
    let connected = is_connected(this)?;
    let sent = match connected {
        true => send_directly(&held, data)?,
        false => send_to_directly(this, &held, data, address)?,
    };
    match sent {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) if is_transient(&error) => Ok(false),
        Some(Err(error)) => Err(Raised::os_error(&error)),
        None => {
            let sent = if connected {
                held.call_method(&*object::interned(c"send")?, &[data])
            } else {
                held.call_method(&*object::interned(c"sendto")?, &[data, address])
            };
            Ok(unless_transient(sent)?.is_some())
        }
    }
}

/// Whether the socket was connected when the transport was made.
fn is_connected(this: &Inst<DatagramTransport>) -> Fallible<bool> {
    let extra = this.extra_slot().get_or_none();
    let name = &state().names.peername;
    if !object::is_dict(&extra) {
        return extra.call_method(&*object::interned(c"__getitem__")?, &[name])?.truthy();
    }
    match object::dict_get(&extra, name)? {
        Some(peer) => peer.truthy(),
        None => Ok(false),
    }
}

/// None if the socket's own method has to be called.
fn send_directly(socket: &Obj, data: &Obj) -> Fallible<Option<io::Result<usize>>> {
    let Some(known) = plain(socket, Call::SendAll)? else { return Ok(None) };
    with_content(data, &known, |known, content| send(known.descriptor()?, content, FLAGS))
}

fn send_to_directly(
    this: &Inst<DatagramTransport>,
    socket: &Obj,
    data: &Obj,
    to: &Obj,
) -> Fallible<Option<io::Result<usize>>> {
    let Some(known) = plain(socket, Call::SendTo)? else { return Ok(None) };
    let Some(event_loop) = this.event_loop() else { return Ok(None) };
    let Some(address) = event_loop.addresses.to_kernel(known.family, to) else { return Ok(None) };
    address::audit_send_to(socket, to)?; // which can run Python
    let Some(known) = again(socket) else { return Ok(None) };
    with_content(data, &known, |known, content| socket::send_to(known.descriptor()?, content, &address))
}

fn with_content(
    data: &Obj,
    known: &Known<'_>,
    work: impl FnOnce(&Known<'_>, &[u8]) -> io::Result<usize>,
) -> Fallible<Option<io::Result<usize>>> {
    if let Some(content) = bytes::of_exact(data) {
        return Ok(Some(work(known, content)));
    }
    match Buffer::readable(data) {
        Ok(buffer) => Ok(Some(work(known, buffer.content()))),
        Err(raised) => {
            raised.discard();
            Ok(None)
        }
    }
}

/// The socket can be written.
pub fn run_writable(this: &Inst<DatagramTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.writing, &state().names.sendto_ready, || sendto_ready(this))
}

/// See [`as_handle`](crate::job::Job::as_handle).
pub fn writable_handle(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    this.ready_handle(&state().names.sendto_ready)
}

fn sendto_ready(this: &Inst<DatagramTransport>) -> Fallible<()> {
    while let Some(Datagram { data, address }) = this.kept.pop() {
        match offer(this, &data, &address) {
            Ok(true) => {}
            Ok(false) => {
                this.kept.put_back(Datagram { data, address });
                break;
            }
            Err(raised) => return failed(this, raised, SEND_FAILED),
        }
    }
    flow::maybe_resume(this)?; // which may send
    if this.kept.is_empty() {
        this.stop_writing();
        if this.closing.get() {
            closing::connection_lost(this, none())?;
        }
    }
    Ok(())
}

fn py_sendto_ready(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    sendto_ready(this)?;
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<DatagramTransport>> {
    class_methods!(DatagramTransport, "DatagramTransport";
        c"sendto" => any py_sendto,
            c"sendto($self, data, addr=None)\n--\n\nSend a datagram. What the kernel does not take at once is kept \
              and sent when it can be; this does not wait.";
        c"_sendto_ready" => none py_sendto_ready, c"_sendto_ready($self, /)\n--\n\nSend what is kept.";
    )
}
