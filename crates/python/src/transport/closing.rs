//! The end of a connection: asked for, forced, or suffered.

use std::ffi::CStr;

use crate::cpython::object::{self, none};
use crate::cpython::raised::{stops_the_loop, while_handling};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature};
use crate::state::state;

use super::SocketTransport;
use super::stream::{Streaming, Writing};

/// A transport that ends as sockets do: `connection_lost` is scheduled once what is kept has been sent.
pub trait Closing: Writing {
    /// Forgets what is kept.
    fn forget(this: &Inst<Self>);
    /// What else ends with the connection, after the socket was closed.
    fn finish(this: &Inst<Self>) -> Fallible<()>;
}

impl Closing for SocketTransport {
    fn forget(this: &Inst<SocketTransport>) {
        this.outgoing.borrow_mut().clear();
    }

    fn finish(this: &Inst<SocketTransport>) -> Fallible<()> {
        Raised::finally(detach(this), || fail_empty_waiter(this))
    }
}

/// `close()`: reads no more, sends what is kept, then tells the protocol.
pub fn close<T: Closing>(this: &Inst<T>) -> Fallible<()> {
    if this.closing.replace(true) {
        return Ok(());
    }
    this.stop_reading();
    if T::kept(this) == 0 {
        this.lost.set(this.lost.get() + 1);
        this.stop_writing();
        schedule_connection_lost(this, none())?;
    }
    Ok(())
}

/// `abort()`, and the end after an error: what is kept is not sent.
fn force_close<T: Closing>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    if this.lost.get() > 0 {
        return Ok(());
    }
    T::forget(this);
    this.stop_writing();
    if !this.closing.replace(true) {
        this.stop_reading();
    }
    this.lost.set(1);
    schedule_connection_lost(this, exception)
}

/// An error that ends the connection: reported, unless it is one of the network's everyday ones. Fails only with what stops
/// the loop.
#[cold]
pub fn fatal<T: Closing>(this: &Inst<T>, raised: Raised, message: &str) -> Fallible<()> {
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    while_handling(&exception, || fatal_error(this, &exception, message))
}

fn fatal_error<T: Closing>(this: &Inst<T>, exception: &Obj, message: &str) -> Fallible<()> {
    if exception.derives_from(object::os_error()) {
        note(this, message, exception)?;
    } else {
        report(this, message, exception)?;
    }
    force_close(this, exception)
}

/// One of the everyday errors: logged in debug mode.
pub fn note<T: Streaming>(this: &Inst<T>, message: &str, exception: &Obj) -> Fallible<()> {
    if !this.is_debug() {
        return Ok(());
    }
    let text = object::text("%r: %s")?;
    let message = object::text(message)?;
    let arguments: [&Obj; 4] = [&text, this.obj(), &message, exception];
    let keyword = object::tuple(&[&*object::interned(c"exc_info")?])?;
    state().logger.call_method_with_keywords(&*object::interned(c"debug")?, &arguments, &keyword).map(drop)
}

/// Tells the loop's exception handler.
pub fn report<T: Streaming>(this: &Inst<T>, message: &str, exception: &Obj) -> Fallible<()> {
    let Some(event_loop) = this.event_loop.get() else { return Ok(()) };
    let names = &state().names;
    let protocol = this.protocol.get_or_none();
    let context = object::dict(&[
        (&names.message, &*object::text(message)?),
        (&names.exception, exception),
        (&names.transport, this.obj()),
        (&names.protocol, &protocol),
    ])?;
    event_loop.call_method(&names.call_exception_handler, &[&context]).map(drop)
}

/// `logger.debug(message, *arguments)`.
pub fn log_debug(message: &CStr, arguments: &[&Obj]) -> Fallible<()> {
    log(c"debug", message, arguments)
}

/// `logger.level(message, *arguments)`.
#[cold]
pub fn log(level: &CStr, message: &CStr, arguments: &[&Obj]) -> Fallible<()> {
    let message = object::interned(message)?;
    let mut all: Vec<&Obj> = vec![&message];
    all.extend_from_slice(arguments);
    state().logger.call_method(&*object::interned(level)?, &all).map(drop)
}

pub fn schedule_connection_lost<T: Streaming>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    let callback = this.callback(&state().names.call_connection_lost)?;
    this.call_soon(&callback, &[exception])
}

/// The last call of the protocol; then the socket is closed, whatever happened.
pub fn connection_lost<T: Closing>(this: &Inst<T>, exception: &Obj) -> Fallible<()> {
    let told = match this.protocol.get() {
        Some(protocol) => protocol.call_method(&state().names.connection_lost, &[exception]).map(drop),
        None => Ok(()),
    };
    let event_loop = this.event_loop();
    Raised::finally(told, || {
        Raised::finally(release(this), || {
            if let Some(event_loop) = event_loop {
                event_loop.transports.remove(this.number.get(), this.obj());
            }
            T::finish(this)
        })
    })
}

/// Closes the socket or file, and lets go of protocol and loop.
pub fn release<T: Streaming>(this: &Inst<T>) -> Fallible<()> {
    this.stop_reading();
    this.stop_writing();
    let closed = close_socket(this);
    this.protocol.clear();
    this.event_loop.clear();
    this.context.clear();
    this.reading.context.clear();
    this.writing.context.clear();
    closed
}

fn close_socket<T: Streaming>(this: &Inst<T>) -> Fallible<()> {
    match this.socket.take() {
        Some(socket) => socket.call_method(&state().names.close, &[]).map(drop),
        None => Ok(()),
    }
}

fn detach(this: &Inst<SocketTransport>) -> Fallible<()> {
    let Some(server) = this.server.take() else { return Ok(()) };
    call_server(&server, c"_detach", this)
}

/// `server._attach(transport)` or `server._detach(transport)`; up to 3.12 servers only count.
pub fn call_server(server: &Obj, method: &CStr, this: &Inst<SocketTransport>) -> Fallible<()> {
    let arguments = [this.obj()];
    let arguments = if state().minor >= 13 { &arguments[..] } else { &[] };
    server.call_method(&*object::interned(method)?, arguments).map(drop)
}

fn fail_empty_waiter(this: &Inst<SocketTransport>) -> Fallible<()> {
    let Some(waiter) = this.empty_waiter.get() else { return Ok(()) };
    let class = object::connection_error();
    let exception = class.call(&[&*object::text("Connection is closed by peer")?])?;
    waiter.call_method(&state().names.set_exception, &[&exception]).map(drop)
}

/// `__del__`: nobody has closed the transport.
pub fn finalize(this: &Inst<SocketTransport>) {
    abandon(this);
    if state().minor >= 13
        && let Err(raised) = detach(this)
    {
        raised.report(Some(this.obj()));
    }
}

/// Warns of a transport that nobody has closed, and closes its socket or file.
pub fn abandon<T: Streaming>(this: &Inst<T>) {
    if let Err(raised) = warn_unclosed(this) {
        raised.report(Some(this.obj()));
    }
    if let Err(raised) = close_socket(this) {
        raised.report(Some(this.obj()));
    }
}

fn warn_unclosed<T: Streaming>(this: &Inst<T>) -> Fallible<()> {
    let message = object::text(&format!("unclosed transport {}", this.obj().shown()))?;
    let keyword = object::tuple(&[&*object::interned(c"source")?])?;
    let arguments: [&Obj; 3] = [&message, object::resource_warning(), this.obj()];
    state().warn.call_with_keywords(&arguments, &keyword).map(drop)
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

pub fn py_close<T: Closing>(this: &Inst<T>) -> Fallible<Ref> {
    close(this)?;
    Ok(none().own())
}

pub fn py_abort<T: Closing>(this: &Inst<T>) -> Fallible<Ref> {
    force_close(this, none())?;
    Ok(none().own())
}

pub fn py_force_close<T: Closing>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    force_close(this, args.only("_force_close", "exc")?)?;
    Ok(none().own())
}

/// `_fatal_error(exc, message)`: asyncio's TLS layer calls it.
pub fn py_fatal_error<T: Closing>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    let [exception, message] = args.parse(&Signature {
        function: "_fatal_error",
        names: ["exc", "message"],
        positional: 2,
        required: 1,
    })?;
    let message = message.map_or_else(|| "Fatal error on transport".to_owned(), Obj::to_text);
    fatal_error(this, exception.unwrap_or(none()), &message)?;
    Ok(none().own())
}

pub fn py_call_connection_lost<T: Closing>(this: &Inst<T>, exception: &Obj) -> Fallible<Ref> {
    connection_lost(this, exception)?;
    Ok(none().own())
}

/// The methods of this file, for a class of transports.
macro_rules! closing_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"close" => none $crate::transport::closing::py_close,
                c"close($self, /)\n--\n\nClose the transport: what is kept is sent, nothing more is received, and then \
                  the protocol's connection_lost(None) is called.";
            c"abort" => none $crate::transport::closing::py_abort,
                c"abort($self, /)\n--\n\nClose the transport at once; what is kept is lost.";
            c"_force_close" => any $crate::transport::closing::py_force_close,
                c"_force_close($self, exc)\n--\n\nClose the transport at once, because of an exception.";
            c"_fatal_error" => any $crate::transport::closing::py_fatal_error,
                c"_fatal_error($self, exc, message='Fatal error on transport')\n--\n\nReport an exception, and close \
                  at once.";
            c"_call_connection_lost" => one $crate::transport::closing::py_call_connection_lost,
                c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, and close the socket.";
        )
    };
}

pub(super) use closing_methods;
