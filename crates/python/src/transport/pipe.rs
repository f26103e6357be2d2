//! What both ends of pipes have in common: what they are opened on, and how they end.
//!
//! What must stay true: `connection_lost` is called once, whatever `close()`, `abort()`, an error and the other end's going
//! do in whatever order; `ended` counts from the moment that it is scheduled.

use std::cell::Cell;

use rustix::fs::FileType;

use crate::cpython::object::none;
use crate::cpython::raised::{stops_the_loop, while_handling};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref};
use crate::state::state;

use super::stream::Streaming;
use super::{closing, stream};

/// A transport over one end of a pipe, or over what can be used like one.
pub trait Pipe: Streaming {
    /// What it says to a file that is none of these.
    const REFUSAL: &'static str;

    /// Whether `connection_lost` is scheduled, or called.
    fn ended(&self) -> &Cell<bool>;

    /// Tells of an error that ends the transport.
    fn tell(this: &Inst<Self>, message: &str, exception: &Obj) -> Fallible<()>;
}

/// Takes the file, unless it is of a kind whose readiness means nothing.
pub fn open<T: Pipe>(
    this: &Inst<T>,
    event_loop: &Obj,
    pipe: &Obj,
    protocol: &Obj,
    extra: Option<&Obj>,
) -> Fallible<FileType> {
    stream::begin(this, event_loop, extra)?;
    let names = &state().names;
    crate::cpython::object::dict_set(&this.extra_slot().get_or_none(), &names.pipe, pipe)?;
    let number = crate::cpython::descriptor::for_the_kernel(pipe.call_method(&names.fileno, &[])?.to_i64()?)?;
    this.socket.set(pipe)?;
    this.number.set(number);
    if number < 0 {
        // A socket that was closed.
        return Err(Raised::os_error(&rustix::io::Errno::BADF.into()));
    }
    let descriptor = crate::cpython::descriptor::borrowed(number);
    let status = rustix::fs::fstat(descriptor).map_err(|error| Raised::os_error(&error.into()))?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::Socket | FileType::CharacterDevice) {
        drop(this.socket.take());
        return Err(Raised::value_error(T::REFUSAL));
    }
    rustix::io::ioctl_fionbio(descriptor, true).map_err(|error| Raised::os_error(&error.into()))?;
    this.protocol.set(protocol.own());
    Ok(kind)
}

/// An error that ends the transport. Fails only with what stops the loop.
#[cold]
pub fn fatal<T: Pipe>(this: &Inst<T>, raised: Raised, message: &str) -> Fallible<()> {
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    while_handling(&exception, || T::tell(this, message, &exception))?;
    end(this, &exception)
}

/// Ends the transport at once: what is kept is lost.
pub fn end<T: Pipe>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    this.closing.set(true);
    this.stop_reading();
    this.stop_writing();
    this.outgoing.borrow_mut().clear();
    if this.ended().replace(true) {
        return Ok(());
    }
    closing::schedule_connection_lost(this, exception)
}

/// `logger.info`, in debug mode.
pub fn log_closed_by_peer<T: Pipe>(this: &Inst<T>) -> Fallible<()> {
    if this.is_debug() {
        closing::log(c"info", c"%r was closed by peer", &[this.obj()])?;
    }
    Ok(())
}

/// The last call of the protocol; then the file is closed, whatever happened.
pub fn connection_lost<T: Pipe>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    this.ended().set(true);
    let told = match this.protocol.get() {
        Some(protocol) => protocol.call_method(&state().names.connection_lost, &[exception]).map(drop),
        None => Ok(()),
    };
    Raised::finally(told, || closing::release(this))
}

/// How a transport shows itself; `watched` is the direction of its data.
pub fn shown<T: Pipe>(this: &Inst<T>, watched: &stream::Watch) -> String {
    let state = match (this.is_released(), stream::has_open_loop(this)) {
        (true, _) => "closed",
        (false, true) => stream::polls(watched),
        (false, false) => "open",
    };
    format!("{} {state}", stream::shown(this))
}

/// `set_protocol(protocol)`.
pub fn py_set_protocol<T: Pipe>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    this.protocol.set(args.only("set_protocol", "protocol")?.own());
    Ok(none().own())
}

/// `_call_connection_lost(exc)`.
pub fn py_call_connection_lost<T: Pipe>(this: &Inst<T>, exception: &Obj) -> Fallible<Ref> {
    connection_lost(this, exception)?;
    Ok(none().own())
}

/// What both have, for a class of transports.
macro_rules! pipe_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"set_protocol" => any $crate::transport::pipe::py_set_protocol,
                c"set_protocol($self, protocol)\n--\n\nSet a new protocol.";
            c"get_protocol" => none $crate::transport::stream::py_get_protocol,
                c"get_protocol($self, /)\n--\n\nReturn the current protocol.";
            c"is_closing" => none $crate::transport::stream::py_is_closing,
                c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
            c"_begin_reading" => none $crate::transport::stream::py_begin_reading,
                c"_begin_reading($self, /)\n--\n\nWatch the pipe, unless reading is paused or the transport is \
                  closing.";
            c"_call_connection_lost" => one $crate::transport::pipe::py_call_connection_lost,
                c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, and close the pipe.";
        )
    };
}

/// The attributes that both have.
macro_rules! pipe_attributes {
    ($class:ty, $owner:literal) => {
        class_attributes!($class, $owner;
            c"_loop" => $crate::transport::stream::py_loop;
            c"_protocol" => $crate::transport::stream::py_get_protocol;
            c"_pipe" => $crate::transport::stream::py_socket, $crate::transport::stream::py_set_socket;
            c"_fileno" => $crate::transport::stream::py_number;
            c"_closing" => $crate::transport::stream::py_is_closing;
        )
    };
}

pub(super) use {pipe_attributes, pipe_methods};
