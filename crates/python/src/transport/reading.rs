//! From the kernel to the protocol.

use std::io;

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, none};
use crate::cpython::socket::{self, LARGEST_READ};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::state::state;
use crate::streams::{self, StreamReaderProtocol};
use crate::tls;

use super::stream::Streaming;
use super::{SocketTransport, closing, foreign_socket, stream};

/// How a protocol takes what comes in.
#[derive(Clone, Copy, Debug)]
pub enum Receiver {
    /// `data_received(bytes)`.
    Data,
    /// The same, of a protocol of streams, whose reader is fed without calling it if that comes to the same.
    Stream,
    /// `get_buffer(hint)` and `buffer_updated(count)`.
    Buffered,
    /// Our TLS layer, which takes it without a method being called.
    Tls,
}

/// `set_protocol`: also decides how it takes what comes in.
pub fn set_protocol(this: &Inst<SocketTransport>, protocol: &Obj) -> Fallible<()> {
    let receiver = if protocol.is_instance(&state().buffered_protocol_class)? {
        if tls::of(protocol).is_some() { Receiver::Tls } else { Receiver::Buffered }
    } else if Inst::<StreamReaderProtocol>::of(protocol).is_some() {
        Receiver::Stream
    } else {
        Receiver::Data
    };
    this.receiver.set(receiver);
    this.protocol.set(protocol.own());
    Ok(())
}

/// The socket can be read: reads once and hands over what came.
#[inline]
pub fn ready(this: &Inst<SocketTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    // An event that was queued before the transport was closed or paused.
    if this.lost.get() > 0 || !this.reading.is_on() {
        return Ok(());
    }
    match this.receiver.get() {
        Receiver::Data | Receiver::Stream => read_data(this, event_loop),
        Receiver::Tls if this.socket.is_plain() => read_ciphertext(this, event_loop),
        Receiver::Tls | Receiver::Buffered => read_into_buffer(this),
    }
}

#[inline]
fn read_data(this: &Inst<SocketTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    if !this.socket.is_plain() || this.has_dict() && reads_otherwise(this) {
        return read_through_method(this);
    }
    let received = match this.socket.descriptor() {
        Ok(descriptor) => {
            socket::receive(descriptor, this.expected.get(), &event_loop.overflow, &event_loop.spare)
        }
        Err(error) => Ok(Err(error)),
    };
    let data = match received {
        Ok(Ok(data)) => data,
        Ok(Err(error)) => return read_failed(this, &error),
        // There was no memory for what came in, and it is lost.
        Err(raised) => return closing::fatal(this, raised, READ_FAILED),
    };
    let length = bytes::of_exact(&data).map_or(0, <[u8]>::len);
    if length == 0 {
        return end(this);
    }
    this.expected.set(length);
    let handed_over = hand_over(this, &data);
    event_loop.spare.take_back(data);
    handed_over
}

/// Whether the program has given the transport a `max_size` of its own.
#[cold]
pub fn reads_otherwise<T: Streaming>(this: &Inst<T>) -> bool {
    let most = max_size(this).and_then(|most| most.to_i64());
    match most {
        Ok(most) => most != LARGEST_READ as i64,
        // The method that it is given to will say so.
        Err(raised) => {
            raised.discard();
            true
        }
    }
}

/// `max_size`.
pub fn max_size<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    this.obj().get(&*object::interned(c"max_size")?)
}

#[cold]
fn read_through_method(this: &Inst<SocketTransport>) -> Fallible<()> {
    let Some(socket) = this.socket.get() else { return read_failed(this, &closed()) };
    match max_size(this).and_then(|most| foreign_socket::receive(&socket, &most)) {
        Ok(Some(data)) if data.truthy()? => hand_over(this, &data),
        Ok(Some(_nothing)) => end(this),
        Ok(None) => Ok(()),
        Err(raised) => closing::fatal(this, raised, READ_FAILED),
    }
}

fn closed() -> io::Error {
    rustix::io::Errno::BADF.into()
}

#[inline]
fn hand_over(this: &Inst<SocketTransport>, data: &Obj) -> Fallible<()> {
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    let handed_over = match this.receiver.get() {
        Receiver::Stream => streams::receive(&protocol, data),
        _ => protocol.call_method(&state().names.data_received, &[data]).map(drop),
    };
    match handed_over {
        Ok(()) => Ok(()),
        Err(raised) => closing::fatal(this, raised, "Fatal error: protocol.data_received() call failed."),
    }
}

#[inline]
fn read_ciphertext(this: &Inst<SocketTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    let Some(layer) = tls::of(&protocol) else { return Ok(()) };
    let fed = this.socket.descriptor().and_then(|descriptor| {
        socket::receive_lent(descriptor, &event_loop.overflow, |content| {
            (!content.is_empty()).then(|| tls::feed(layer, content))
        })
    });
    let outcome = match fed {
        Ok(Some(tls::Fed::Taken)) => tls::dispatch(layer),
        Ok(Some(tls::Fed::Kept(content))) => {
            content.and_then(|content| tls::feed_object(layer, &content)).and_then(|()| tls::dispatch(layer))
        }
        Ok(None) => return end(this),
        Err(error) => return read_failed(this, &error),
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(raised) => closing::fatal(this, raised, UPDATE_FAILED),
    }
}

fn read_into_buffer(this: &Inst<SocketTransport>) -> Fallible<()> {
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    let space = match space_of(&protocol) {
        Ok(space) => space,
        Err(raised) => {
            return closing::fatal(this, raised, "Fatal error: protocol.get_buffer() call failed.");
        }
    };
    let lent = if this.socket.is_plain() { Buffer::writable(&space).map(Some) } else { Ok(None) };
    let count = match lent {
        Ok(Some(mut buffer)) => {
            let read =
                this.socket.descriptor().and_then(|descriptor| socket::receive_into(descriptor, &mut buffer));
            drop(buffer);
            match read {
                Ok(count) => count as i64,
                Err(error) => return read_failed(this, &error),
            }
        }
        // The socket's own method is asked, or says what is wrong with the memory.
        lent => {
            if let Err(refused) = lent {
                refused.discard();
            }
            let Some(socket) = this.socket.get() else { return read_failed(this, &closed()) };
            match foreign_socket::receive_into(&socket, &space) {
                Ok(Some(count)) => count,
                Ok(None) => return Ok(()),
                Err(raised) => return closing::fatal(this, raised, READ_FAILED),
            }
        }
    };
    if count == 0 {
        return end(this);
    }
    let count = object::int(count)?;
    // Perhaps not the one that has given the memory.
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    match protocol.call_method(&state().names.buffer_updated, &[&count]) {
        Ok(_none) => Ok(()),
        Err(raised) => closing::fatal(this, raised, UPDATE_FAILED),
    }
}

/// `protocol.get_buffer(-1)`, which must not be empty.
fn space_of(protocol: &Obj) -> Fallible<Ref> {
    let space = protocol.call_method(&state().names.get_buffer, &[&state().minus_one])?;
    if bytes::length_of(&space)? == 0 {
        return Err(Raised::runtime_error("get_buffer() returned an empty buffer"));
    }
    Ok(space)
}

const UPDATE_FAILED: &str = "Fatal error: protocol.buffer_updated() call failed.";
const READ_FAILED: &str = "Fatal read error on socket transport";

#[cold]
fn read_failed(this: &Inst<SocketTransport>, error: &io::Error) -> Fallible<()> {
    if is_transient(error) { Ok(()) } else { closing::fatal(this, Raised::os_error(error), READ_FAILED) }
}

/// Whether the next readiness may bring what this call did not.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The peer will send no more.
fn end(this: &Inst<SocketTransport>) -> Fallible<()> {
    if this.is_debug() {
        closing::log_debug(c"%r received EOF", &[this.obj()])?;
    }
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    let keep_open = match protocol.call_method(&state().names.eof_received, &[]) {
        Ok(answer) => answer.truthy()?,
        Err(raised) => {
            return closing::fatal(this, raised, "Fatal error: protocol.eof_received() call failed.");
        }
    };
    if keep_open {
        this.stop_reading(); // the protocol may go on writing
        return Ok(());
    }
    closing::close(this)
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_set_protocol(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<Ref> {
    set_protocol(this, args.only("set_protocol", "protocol")?)?;
    Ok(none().own())
}

fn py_read_ready(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    if let Some(event_loop) = this.event_loop() {
        ready(this, &event_loop)?;
    }
    Ok(none().own())
}

/// `_read_ready_cb`: asyncio's is None from `close()` on.
pub fn py_ready_callback(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    if this.closing.get() { Ok(none().own()) } else { this.callback(&state().names.read_ready) }
}

/// The methods of this file.
pub fn methods() -> Vec<Method<SocketTransport>> {
    class_methods!(SocketTransport, "SocketTransport";
        c"set_protocol" => any py_set_protocol,
            c"set_protocol($self, protocol)\n--\n\nSet a new protocol.";
        c"_begin_reading" => none stream::py_begin_reading,
            c"_begin_reading($self, /)\n--\n\nStart to read, unless reading is paused or the transport is closing.";
        c"_read_ready" => none py_read_ready, c"_read_ready($self, /)\n--\n\nRead once.";
    )
}
