//! From `write` to the kernel, at once if it takes it.

use std::io;

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::spec::Method;
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::state::state;

use super::outgoing::chunk;
use super::reading::is_transient;
use super::{SocketTransport, closing, flow, turn};

/// From how many writes after the loss of the connection on each is logged, as in asyncio.
const LOGGED_FROM: u32 = 5;
const WRITE_FAILED: &str = "Fatal write error on socket transport";
const SHUT_WR: i64 = 1;

fn py_write(this: &Inst<SocketTransport>, data: &Obj) -> Fallible<Ref> {
    write(this, data)?;
    Ok(none().own())
}

#[inline]
fn write(this: &Inst<SocketTransport>, data: &Obj) -> Fallible<()> {
    if let Some(content) = bytes::of_exact(data) {
        check_open(this, "write")?;
        return match content.is_empty() {
            true => Ok(()),
            false => write_content(this, data, content),
        };
    }
    if !bytes::is_bytes_like(data) {
        let expected = match state().minor {
            ..14 => "bytes-like object",
            _ => "bytes, bytearray, or memoryview object",
        };
        return Err(Raised::type_error(&format!(
            "data argument must be a {expected}, not '{}'",
            data.class_name()
        )));
    }
    check_open(this, "write")?;
    if !data.truthy()? {
        return Ok(());
    }
    if this.lost.get() > 0 {
        return in_vain(this);
    }
    match Buffer::readable(data) {
        Ok(buffer) => write_content(this, data, buffer.content()),
        Err(raised) => closing::fatal(this, raised, WRITE_FAILED),
    }
}

/// What both `write` and `writelines` refuse.
fn check_open(this: &Inst<SocketTransport>, method: &str) -> Fallible<()> {
    if this.eof.get() {
        return Err(Raised::runtime_error(&format!("Cannot call {method}() after write_eof()")));
    }
    if !this.empty_waiter.is_empty() {
        return Err(Raised::runtime_error(&format!("unable to {method}; sendfile is in progress")));
    }
    Ok(())
}

/// `content` is that of `data`.
fn write_content(this: &Inst<SocketTransport>, data: &Obj, content: &[u8]) -> Fallible<()> {
    if this.lost.get() > 0 {
        return in_vain(this);
    }
    let mut sent = 0;
    if this.outgoing.borrow().is_empty() {
        let Some(held) = this.event_loop.get() else { return Ok(()) };
        let Some(event_loop) = Inst::<EventLoop>::of(&held) else { return Ok(()) };
        let written = this
            .socket
            .descriptor()
            .and_then(|descriptor| turn::write(this, event_loop, descriptor, content));
        match written {
            Ok(all) if all == content.len() => return Ok(()),
            Ok(part) => sent = part,
            Err(error) if is_transient(&error) => {}
            Err(error) => return closing::fatal(this, Raised::os_error(&error), WRITE_FAILED),
        }
        let rest = chunk(data, content)?;
        this.start_writing()?;
        this.outgoing.borrow_mut().push(rest, sent);
    } else {
        let rest = chunk(data, content)?;
        this.outgoing.borrow_mut().push(rest, sent);
    }
    flow::maybe_pause(this)
}

/// The connection is lost, which the protocol may not have heard yet.
#[cold]
fn in_vain(this: &Inst<SocketTransport>) -> Fallible<()> {
    if this.lost.get() >= LOGGED_FROM {
        let message = object::text("socket.send() raised exception.")?;
        state().logger.call_method(&*object::interned(c"warning")?, &[&message])?;
    }
    this.lost.set(this.lost.get().saturating_add(1));
    Ok(())
}

/// The socket can be written: one call takes as much as it can.
pub fn ready(this: &Inst<SocketTransport>) -> Fallible<()> {
    if this.lost.get() > 0 || this.writing.get().is_none() {
        return Ok(());
    }
    if !flush(this)? {
        return Ok(());
    }
    flow::maybe_resume(this)?; // which may write
    if this.outgoing.borrow().is_empty() {
        this.stop_writing();
        emptied(this)?;
    }
    Ok(())
}

/// Offers the kernel what waits; whether it was asked in earnest, rather than too early or in vain.
fn flush(this: &Inst<SocketTransport>) -> Fallible<bool> {
    let flushed = match this.socket.descriptor() {
        Ok(descriptor) => this.outgoing.borrow_mut().flush(descriptor),
        Err(error) => Err(error),
    };
    match flushed {
        Ok(()) => Ok(true),
        Err(error) if is_transient(&error) => Ok(false),
        Err(error) => flush_failed(this, &error).map(|()| false),
    }
}

#[cold]
fn flush_failed(this: &Inst<SocketTransport>, error: &io::Error) -> Fallible<()> {
    this.stop_writing();
    this.outgoing.borrow_mut().clear();
    let exception = Raised::os_error(error).take();
    closing::fatal(this, Raised::from_exception(exception.clone()), WRITE_FAILED)?;
    match this.empty_waiter.get() {
        Some(waiter) => waiter.call_method(&state().names.set_exception, &[&exception]).map(drop),
        None => Ok(()),
    }
}

/// Everything is written.
fn emptied(this: &Inst<SocketTransport>) -> Fallible<()> {
    if let Some(waiter) = this.empty_waiter.get() {
        waiter.call_method(&state().names.set_result, &[none()])?;
    }
    if this.closing.get() {
        if this.lost.get() == 0 {
            this.lost.set(1);
            closing::connection_lost(this, none())?;
        }
        return Ok(());
    }
    if this.eof.get() { shut_down(this) } else { Ok(()) }
}

fn py_writelines(this: &Inst<SocketTransport>, lines: &Obj) -> Fallible<Ref> {
    if state().minor < 12 {
        let joined = bytes::bytes(&[])?.call_method(&*object::interned(c"join")?, &[lines])?;
        write(this, &joined)?;
        return Ok(none().own());
    }
    check_open(this, "writelines")?;
    if !lines.truthy()? {
        return Ok(none().own());
    }
    if this.lost.get() > 0 {
        in_vain(this)?;
        return Ok(none().own());
    }
    // All of it is looked at before any of it is accepted.
    let mut chunks = Vec::new();
    lines.for_each(|line| {
        match bytes::of_exact(line) {
            Some([]) => {}
            Some(_) => chunks.push(line.own()),
            None if line.truthy()? => {
                chunks.push(bytes::bytes(Buffer::readable(&*bytes::view(line)?)?.content())?)
            }
            None => {}
        }
        Ok(())
    })?;
    if chunks.is_empty() {
        return Ok(none().own());
    }
    {
        let mut outgoing = this.outgoing.borrow_mut();
        chunks.into_iter().for_each(|chunk| outgoing.push(chunk, 0));
    }
    if flush(this)? {
        flow::maybe_resume(this)?;
        if this.outgoing.borrow().is_empty() {
            this.stop_writing();
            emptied(this)?;
        }
    }
    if !this.outgoing.borrow().is_empty() {
        this.start_writing()?;
        flow::maybe_pause(this)?;
    }
    Ok(none().own())
}

fn py_write_eof(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    if !this.closing.get() && !this.eof.get() {
        this.eof.set(true);
        if this.outgoing.borrow().is_empty() {
            shut_down(this)?;
        }
    }
    Ok(none().own())
}

/// `sock.shutdown(SHUT_WR)`.
fn shut_down(this: &Inst<SocketTransport>) -> Fallible<()> {
    let Some(socket) = this.socket.get() else { return Ok(()) };
    socket.call_method(&*object::interned(c"shutdown")?, &[&*object::int(SHUT_WR)?]).map(drop)
}

fn py_can_write_eof(_this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(true).own())
}

fn py_write_ready(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    ready(this)?;
    Ok(none().own())
}

/// `_make_empty_waiter()`: a future that is done when everything is written; nothing can be written until it is reset.
fn py_make_empty_waiter(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    if !this.empty_waiter.is_empty() {
        return Err(Raised::runtime_error("Empty waiter is already set"));
    }
    let waiter = this.event_loop.get_or_none().call_method(&state().names.create_future, &[])?;
    this.empty_waiter.set(waiter.clone());
    if this.outgoing.borrow().is_empty() {
        waiter.call_method(&state().names.set_result, &[none()])?;
    }
    Ok(waiter)
}

fn py_reset_empty_waiter(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    this.empty_waiter.clear();
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<SocketTransport>> {
    class_methods!(SocketTransport, "SocketTransport";
        c"write" => one py_write,
            c"write($self, data, /)\n--\n\nWrite some bytes. What the kernel does not take at once is kept and \
              sent when it can be; this does not wait.";
        c"writelines" => one py_writelines,
            c"writelines($self, list_of_data, /)\n--\n\nWrite the bytes of an iterable, one after the other.";
        c"write_eof" => none py_write_eof,
            c"write_eof($self, /)\n--\n\nSend what is kept, and then the end of the stream; data may still be \
              received.";
        c"can_write_eof" => none py_can_write_eof, c"can_write_eof($self, /)\n--\n\nReturn True.";
        c"_write_ready" => none py_write_ready, c"_write_ready($self, /)\n--\n\nSend what is kept.";
        c"_make_empty_waiter" => none py_make_empty_waiter,
            c"_make_empty_waiter($self, /)\n--\n\nReturn a future that is done when everything is sent.";
        c"_reset_empty_waiter" => none py_reset_empty_waiter,
            c"_reset_empty_waiter($self, /)\n--\n\nAllow writing again.";
    )
}
