//! From `write` to the kernel, at once if it takes it.

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::original::Code;
use crate::state::state;

use super::outgoing::chunk;
use super::reading::is_transient;
use super::stream::Writing;
use super::{SocketTransport, closing, flow, foreign_socket, turn};

/// What `write` wants, in the words of this version.
static EXPECTED: Global<&str> = Global::new();

/// Asks asyncio's own method.
pub fn define() -> Fallible<()> {
    let original =
        object::import(c"asyncio.selector_events")?.get(&*object::interned(c"_SelectorSocketTransport")?)?;
    let names_all = Code::of(&original, c"write")?.says("memoryview")?;
    EXPECTED.set(if names_all { "bytes, bytearray, or memoryview object" } else { "bytes-like object" });
    Ok(())
}

/// From how many writes after the loss of the connection on each is logged, as in asyncio.
const LOGGED_FROM: u32 = 5;
const WRITE_FAILED: &str = "Fatal write error on socket transport";
const SENT_IN_VAIN: &str = "socket.send() raised exception.";
/// Up to how many bytes several chunks are joined: to give the kernel several places costs it more than copying these.
const JOINED: usize = 4096;
const SHUT_WR: i64 = 1;

fn py_write(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<Ref> {
    write(this, args.only("write", "data")?)?;
    Ok(none().own())
}

/// `write(data)`.
#[inline]
pub fn write(this: &Inst<SocketTransport>, data: &Obj) -> Fallible<()> {
    if let Some(content) = bytes::of_exact(data) {
        check_open(this, "write")?;
        return match content.is_empty() {
            true => Ok(()),
            false => write_content(this, data, content),
        };
    }
    if !bytes::is_bytes_like(data) {
        return Err(Raised::type_error(&format!(
            "data argument must be a {}, not '{}'",
            EXPECTED.get(),
            data.class_name()
        )));
    }
    check_open(this, "write")?;
    if !data.truthy()? {
        return Ok(());
    }
    if this.lost.get() > 0 {
        return in_vain(this, SENT_IN_VAIN);
    }
    match Buffer::readable(data) {
        Ok(buffer) if this.socket.is_plain() => write_content(this, data, buffer.content()),
        Ok(buffer) => {
            // Nobody must change it while a method runs.
            let copy = bytes::bytes(buffer.content())?;
            write_content(this, &copy, bytes::of_exact(&copy).unwrap_or_default())
        }
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
        return in_vain(this, SENT_IN_VAIN);
    }
    if this.outgoing.borrow().is_empty() {
        let sent = match send(this, data, content) {
            Ok(all) if all >= content.len() => return Ok(()),
            Ok(part) => part,
            Err(raised) => return closing::fatal(this, raised, WRITE_FAILED),
        };
        // Kept before anything else can run Python, which may write as well.
        keep(this, data, content, sent)?;
        if let Err(raised) = this.start_writing() {
            this.outgoing.borrow_mut().clear();
            return Err(raised);
        }
    } else {
        keep(this, data, content, 0)?;
    }
    flow::maybe_pause(this)
}

/// Keeps what is left of `data`, of which `sent` bytes have gone.
pub fn keep<T: Writing>(this: &Inst<T>, data: &Obj, content: &[u8], sent: usize) -> Fallible<()> {
    if sent > 0 && !this.outgoing.borrow().is_empty() {
        // A socket's own `send` has written to the transport.
        let rest = bytes::bytes(content.get(sent..).unwrap_or_default())?;
        this.outgoing.borrow_mut().push(rest, 0);
        return Ok(());
    }
    let whole = chunk(data, content)?;
    this.outgoing.borrow_mut().push(whole, sent);
    Ok(())
}

/// Offers the kernel the content of `data`; how much it took.
#[inline]
fn send(this: &Inst<SocketTransport>, data: &Obj, content: &[u8]) -> Fallible<usize> {
    let Some(held) = this.event_loop.get() else { return Err(closed()) };
    let Some(event_loop) = Inst::<EventLoop>::of(&held) else { return Err(closed()) };
    if !this.socket.is_plain() {
        let Some(socket) = this.socket.get() else { return Err(closed()) };
        return Ok(foreign_socket::send(&socket, data)?.unwrap_or(0));
    }
    let descriptor = this.socket.descriptor();
    match descriptor.and_then(|descriptor| turn::write(this, event_loop, descriptor, content)) {
        Ok(sent) => Ok(sent),
        Err(error) if is_transient(&error) => Ok(0),
        Err(error) => Err(Raised::os_error(&error)),
    }
}

fn closed() -> Raised {
    Raised::os_error(&rustix::io::Errno::BADF.into())
}

/// The connection is lost, which the protocol may not have heard yet.
#[cold]
pub fn in_vain<T: Writing>(this: &Inst<T>, message: &str) -> Fallible<()> {
    if this.lost.get() >= LOGGED_FROM {
        let message = object::text(message)?;
        state().logger.call_method(&*object::interned(c"warning")?, &[&message])?;
    }
    this.lost.set(this.lost.get().saturating_add(1));
    Ok(())
}

/// The socket can be written: one call takes as much as it can.
pub fn ready(this: &Inst<SocketTransport>) -> Fallible<()> {
    if this.lost.get() > 0 || !this.writing.is_on() {
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
    if !this.socket.is_plain() {
        return flush_through_method(this);
    }
    let flushed = match this.socket.descriptor() {
        Ok(descriptor) => this.outgoing.borrow_mut().flush(descriptor),
        Err(error) => Err(error),
    };
    match flushed {
        Ok(()) => Ok(true),
        Err(error) if is_transient(&error) => Ok(false),
        Err(error) => flush_failed(this, Raised::os_error(&error)).map(|()| false),
    }
}

#[cold]
fn flush_through_method(this: &Inst<SocketTransport>) -> Fallible<bool> {
    let flushed = match this.socket.get() {
        Some(socket) => {
            let (chunks, sent) = this.outgoing.borrow().parts();
            foreign_socket::flush(&socket, &chunks, sent)
        }
        None => Err(closed()),
    };
    match flushed {
        Ok(Some(sent)) => {
            this.outgoing.borrow_mut().remove(sent);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(raised) => flush_failed(this, raised).map(|()| false),
    }
}

#[cold]
fn flush_failed(this: &Inst<SocketTransport>, raised: Raised) -> Fallible<()> {
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    this.stop_writing();
    this.outgoing.borrow_mut().clear();
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

fn py_writelines(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<Ref> {
    writelines(this, args.only("writelines", "list_of_data")?)?;
    Ok(none().own())
}

fn writelines(this: &Inst<SocketTransport>, lines: &Obj) -> Fallible<()> {
    if state().minor < 12 {
        let joined = bytes::bytes(&[])?.call_method(&*object::interned(c"join")?, &[lines])?;
        return write(this, &joined);
    }
    check_open(this, "writelines")?;
    if !lines.truthy()? {
        return Ok(());
    }
    if this.lost.get() > 0 {
        return in_vain(this, SENT_IN_VAIN);
    }
    // All of it is looked at before any of it is accepted.
    let mut chunks = Vec::new();
    let mut refused = None;
    lines.for_each(|line| {
        match bytes::of_exact(line) {
            Some([]) => {}
            Some(_) => chunks.push(line.own()),
            None if line.truthy()? => match Buffer::readable(&*bytes::view(line)?) {
                Ok(buffer) => chunks.push(bytes::bytes(buffer.content())?),
                Err(raised) => refused = Some(raised.take()),
            },
            None => {}
        }
        Ok(())
    })?;
    if this.lost.get() > 0 || chunks.is_empty() && refused.is_none() {
        return Ok(()); // whoever was asked for the lines may have closed the transport
    }
    if let Some(exception) = refused {
        // It is no contiguous memory, which the kernel cannot be given.
        return closing::fatal(this, Raised::from_exception(exception), WRITE_FAILED);
    }
    if this.outgoing.borrow().is_empty() && this.socket.is_plain() {
        let parts: Vec<&[u8]> = chunks.iter().filter_map(|chunk| bytes::of_exact(chunk)).collect();
        if parts.iter().map(|part| part.len()).sum::<usize>() <= JOINED {
            let joined = bytes::bytes(&parts.concat())?;
            return write(this, &joined);
        }
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
    Ok(())
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
        c"write" => any py_write,
            c"write($self, data)\n--\n\nWrite some bytes. What the kernel does not take at once is kept and \
              sent when it can be; this does not wait.";
        c"writelines" => any py_writelines,
            c"writelines($self, list_of_data)\n--\n\nWrite the bytes of an iterable, one after the other.";
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
