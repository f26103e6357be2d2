//! From the kernel to the protocol, datagram by datagram.

use crate::cpython::object::{self, none};
use crate::cpython::socket::{self, LARGEST_READ};
use crate::cpython::spec::Method;
use crate::cpython::{Fallible, Inst, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::sockets::attempt::{Call, plain};
use crate::state::state;

use super::super::foreign_socket::unless_transient;
use super::super::reading::{is_transient, max_size, reads_otherwise};
use super::{DatagramTransport, closed, failed};

/// The socket can be read.
#[inline]
pub fn run_readable(this: &Inst<DatagramTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.reading, &state().names.read_ready, || read_ready(this))
}

/// The most that are received for one readiness.
const MOST: usize = 16;

fn read_ready(this: &Inst<DatagramTransport>) -> Fallible<()> {
    for _ in 0..MOST {
        if this.lost.get() > 0 || !receive_one(this)? || !is_alone(this)? {
            break;
        }
    }
    Ok(())
}

/// Whether there was one.
fn receive_one(this: &Inst<DatagramTransport>) -> Fallible<bool> {
    match receive(this) {
        Ok(Some((data, address))) => {
            let Some(protocol) = this.protocol.get() else { return Ok(false) };
            protocol.call_method(&state().names.datagram_received, &[&data, &address])?;
            if let Some(event_loop) = this.event_loop() {
                event_loop.spare.take_back(data);
            }
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(raised) => failed(this, raised, "Fatal read error on datagram transport").map(|()| false),
    }
}

/// Whether the next iteration would have nothing to do but to receive the next one: nothing is queued or timed, nothing else
/// is watched, no signal is waited for (the kernel is asked in every iteration then). Nobody can tell whether there was an
/// iteration in between.
fn is_alone(this: &Inst<DatagramTransport>) -> Fallible<bool> {
    let Some(event_loop) = this.event_loop() else { return Ok(false) };
    if event_loop.is_debug()
        || event_loop.stopping.get()
        || event_loop.poll_every.get() == 1
        || !this.reading.is_on()
        || this.reading.is_new(event_loop.iteration.get())
    {
        return Ok(false);
    }
    let alone = event_loop.with_engine(|engine| {
        engine.ready_len() == 0
            && engine.inbox_is_empty()
            && engine.watched() == 1
            && engine.timer_count() == 0
    })?;
    event_loop.turns.end();
    Ok(alone)
}

/// Receives one; None if there is none.
fn receive(this: &Inst<DatagramTransport>) -> Fallible<Option<(Ref, Ref)>> {
    let Some(held) = this.socket.get() else { return Err(closed()) };
    let otherwise = this.has_dict() && reads_otherwise(this);
    if !otherwise
        && let Some(known) = plain(&held, Call::RecvFrom)?
        && let Some(event_loop) = this.event_loop()
    {
        let received = match known.descriptor() {
            Ok(descriptor) => {
                let (overflow, spare) = (&event_loop.overflow, &event_loop.spare);
                socket::receive_from(descriptor, LARGEST_READ, overflow, |content| spare.make(content))?
            }
            Err(error) => Err(error),
        };
        return match received {
            Ok((data, address)) => Ok(Some((data, event_loop.addresses.to_python(address)?))),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(Raised::os_error(&error)),
        };
    }
    let most = max_size(this)?;
    let received = unless_transient(held.call_method(&*object::interned(c"recvfrom")?, &[&most]))?;
    let Some(received) = received else { return Ok(None) };
    match &received.items()?[..] {
        [data, address] => Ok(Some((data.clone(), address.clone()))),
        _ => Err(Raised::value_error("recvfrom() gave no pair")),
    }
}

fn py_read_ready(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    read_ready(this)?;
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<DatagramTransport>> {
    class_methods!(DatagramTransport, "DatagramTransport";
        c"_read_ready" => none py_read_ready, c"_read_ready($self, /)\n--\n\nReceive once.";
    )
}
