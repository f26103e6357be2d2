//! `ReadPipeTransport`: what `connect_read_pipe` makes, and the pipes that subprocesses write to.
//!
//! It takes the reading end of a pipe or a FIFO, a socket, or a terminal or other character device. An exception of the
//! protocol's is reported and does not end the transport, as in asyncio; the end of the file does.

use std::cell::Cell;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use crate::cpython::object::{self, none};
use crate::cpython::{
    Args, Base, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Spec, Visitor, bytes,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::state::state;

use super::closing;
use super::foreign_socket::unless_transient;
use super::pipe::{self, Pipe};
use super::reading::{is_transient, max_size, reads_otherwise};
use super::stream::{self, Stream, Streaming};

/// The class `ReadPipeTransport`.
#[derive(Debug, Default)]
pub struct ReadPipe {
    stream: Stream,
    /// How much the next read is likely to bring: what the last one brought.
    expected: Cell<usize>,
    ended: Cell<bool>,
}

impl Deref for ReadPipe {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Streaming for ReadPipe {
    fn readable(this: Own<ReadPipe>) -> Job {
        Job::PipeReadable(this)
    }
}

impl Pipe for ReadPipe {
    const REFUSAL: &'static str = "Pipe transport is for pipes/sockets only.";

    fn ended(&self) -> &Cell<bool> {
        &self.ended
    }

    /// A terminal whose other side is gone says so by `EIO`.
    fn tell(this: &Inst<ReadPipe>, message: &str, exception: &Obj) -> Fallible<()> {
        let everyday = exception.derives_from(object::os_error())
            && exception.get(&*object::interned(c"errno")?)?.equals(&*object::int(EIO)?)?;
        if everyday {
            closing::note(this, message, exception)
        } else {
            closing::report(this, message, exception)
        }
    }
}

const EIO: i64 = libc::EIO as i64;

static HOME: Home = Home::new();

impl Class for ReadPipe {
    const NAME: &'static std::ffi::CStr = c"velodrome.ReadPipeTransport";
    const FINALIZED: bool = true;
    const BASE: Base = Base::Python;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> ReadPipe {
        ReadPipe::default()
    }

    fn traverse(this: &Inst<ReadPipe>, visitor: &mut Visitor<'_>) {
        stream::traverse(this, visitor);
    }

    fn clear(this: &Inst<ReadPipe>) {
        stream::clear(this);
    }

    fn dying(this: &Inst<ReadPipe>) {
        this.extra_slot().clear();
    }

    fn finalize(this: &Inst<ReadPipe>) {
        closing::abandon(this);
    }

    fn needs_finalizing(&self) -> bool {
        !self.is_released()
    }
}

/// See [`Job::PipeReadable`].
pub fn run_readable(this: &Inst<ReadPipe>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.reading, &state().names.read_ready, || ready(this))
}

/// Reads once and hands over what came.
fn ready(this: &Inst<ReadPipe>) -> Fallible<()> {
    let Some(held) = this.event_loop.get() else { return Ok(()) };
    let Some(event_loop) = Inst::<EventLoop>::of(&held).filter(|_| this.reading.is_on()) else {
        return Ok(());
    };
    let data = match read_once(this, event_loop) {
        Ok(Some(data)) => data,
        Ok(None) => return Ok(()),
        Err(raised) if raised.matches(object::os_error()) => {
            return pipe::fatal(this, raised, "Fatal read error on pipe transport");
        }
        Err(raised) => return Err(raised),
    };
    let length = bytes::of_exact(&data).map_or(0, <[u8]>::len);
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    if length > 0 {
        this.expected.set(length);
        protocol.call_method(&state().names.data_received, &[&data])?;
        event_loop.spare.take_back(data);
        return Ok(());
    }
    pipe::log_closed_by_peer(this)?;
    this.closing.set(true);
    this.stop_reading();
    this.call_soon(&*protocol.get(&state().names.eof_received)?, &[])?;
    pipe::end(this, none())
}

/// What came; None if there was nothing to read after all.
fn read_once(this: &Inst<ReadPipe>, event_loop: &Inst<EventLoop>) -> Fallible<Option<Ref>> {
    let descriptor = this.socket.descriptor().map_err(|error| Raised::os_error(&error))?;
    if this.has_dict() && reads_otherwise(this) {
        let number = object::int(i64::from(descriptor.as_raw_fd()))?;
        let read = object::import(c"os")?.get(&*object::interned(c"read")?)?;
        return unless_transient(read.call(&[&*number, &*max_size(this)?]));
    }
    let (overflow, spare) = (&event_loop.overflow, &event_loop.spare);
    match crate::cpython::pipe::read(descriptor, this.expected.get(), overflow, spare)? {
        Ok(data) => Ok(Some(data)),
        Err(error) if is_transient(&error) => Ok(None),
        Err(error) => Err(Raised::os_error(&error)),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The class.

fn py_init(this: &Inst<ReadPipe>, args: Args<'_>) -> Fallible<()> {
    let [event_loop, pipe, protocol, waiter, extra] = args.parse(&Signature {
        function: "ReadPipeTransport",
        names: ["loop", "pipe", "protocol", "waiter", "extra"],
        positional: 5,
        required: 3,
    })?;
    let (Some(event_loop), Some(pipe), Some(protocol)) = (event_loop, pipe, protocol) else {
        return Err(Raised::type_error("ReadPipeTransport() needs a loop, a pipe and a protocol"));
    };
    pipe::open(this, event_loop, pipe, protocol, extra)?;
    stream::announce(this, protocol, true, waiter)
}

fn py_repr(this: &Inst<ReadPipe>) -> Fallible<Ref> {
    object::text(&format!("{}>", pipe::shown(this, &this.reading)))
}

fn py_close(this: &Inst<ReadPipe>) -> Fallible<Ref> {
    if !this.closing.get() {
        pipe::end(this, none())?;
    }
    Ok(none().own())
}

fn py_read_ready(this: &Inst<ReadPipe>) -> Fallible<Ref> {
    ready(this)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let base = object::import(c"asyncio.transports")?.get(&*object::interned(c"ReadTransport")?)?;
    let mut methods = class_methods!(ReadPipe, "ReadPipeTransport";
        c"close" => none py_close,
            c"close($self, /)\n--\n\nRead no more; then the protocol's connection_lost(None) is called.";
        c"_read_ready" => none py_read_ready, c"_read_ready($self, /)\n--\n\nRead once.";
    );
    methods.extend(stream::pausing_methods!(ReadPipe, "ReadPipeTransport"));
    methods.extend(pipe::pipe_methods!(ReadPipe, "ReadPipeTransport"));
    let mut attributes = class_attributes!(ReadPipe, "ReadPipeTransport";
        c"_paused" => stream::py_paused;
    );
    attributes.extend(pipe::pipe_attributes!(ReadPipe, "ReadPipeTransport"));
    let class = crate::cpython::spec::define::<ReadPipe>(Spec {
        base: Some(base),
        doc: Some(c"The transport of the reading end of a pipe, implemented in Rust."),
        methods,
        attributes,
        slots: class_slots!(ReadPipe, "ReadPipeTransport"; init py_init, repr py_repr),
    })?;
    class
        .set(&*object::interned(c"max_size")?, &*object::int(crate::cpython::socket::LARGEST_READ as i64)?)?;
    Ok(class)
}
