//! `SocketTransport`: the transport of a connected stream socket, as `create_connection` and servers make it.
//!
//! A subclass of `asyncio.Transport` that answers as asyncio's own does, call by call. What comes in goes from the
//! kernel to the protocol (`reading`), what goes out from `write` to the kernel (`writing`), without a handle or a callback in
//! between; `flow` tells the protocol when it writes too fast, `closing` ends it all.
//!
//! What must stay true:
//!
//! * The descriptor belongs to the Python socket, which is asked for it every time (`cpython::socket`).
//! * A registration with the engine is ended before the socket is closed, and the engine's job keeps the
//!   transport alive as long as it is registered.
//! * `connection_lost` is called once, in an iteration of its own, after everything else; `lost` counts from the
//!   moment that it is scheduled.
//! * No borrow of `outgoing` lasts while Python can run.

mod closing;
pub mod datagram;
mod flow;
pub mod foreign_socket;
pub mod outgoing;
mod pipe;
pub mod read_pipe;
pub mod reading;
pub mod stream;
pub mod turn;
pub mod write_pipe;
pub mod writing;

use std::cell::Cell;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use crate::cpython::object::{self, boolean};
use crate::cpython::{
    Args, Base, Class, Fallible, Home, Inst, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::state::state;
pub use closing::log_debug;
use reading::Receiver;
use stream::{Stream, Streaming, Writing};
pub use writing::write;

/// The class `SocketTransport`.
#[derive(Debug)]
pub struct SocketTransport {
    stream: Stream,
    server: Slot,
    receiver: Cell<Receiver>,
    /// How much the next read is likely to bring: what the last one brought.
    expected: Cell<usize>,
    writing_habit: turn::Habit,
    /// For whoever waits until everything is written: `sendfile`.
    empty_waiter: Slot,
    eof: Cell<bool>,
}

impl Deref for SocketTransport {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Streaming for SocketTransport {
    fn readable(this: Own<SocketTransport>) -> Job {
        Job::Readable(this)
    }
}

impl Writing for SocketTransport {
    fn writable(this: Own<SocketTransport>) -> Job {
        Job::Writable(this)
    }
}

static HOME: Home = Home::new();

impl Class for SocketTransport {
    const NAME: &'static std::ffi::CStr = c"velodrome.SocketTransport";
    const FINALIZED: bool = true;
    const BASE: Base = Base::Python;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> SocketTransport {
        SocketTransport {
            stream: Stream::default(),
            server: Slot::empty(),
            receiver: Cell::new(Receiver::Data),
            expected: Cell::new(0),
            writing_habit: turn::Habit::default(),
            empty_waiter: Slot::empty(),
            eof: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<SocketTransport>, visitor: &mut Visitor<'_>) {
        stream::traverse(this, visitor);
        [&this.server, &this.empty_waiter].into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<SocketTransport>) {
        stream::clear(this);
        [&this.server, &this.empty_waiter].into_iter().for_each(Slot::clear);
    }

    fn dying(this: &Inst<SocketTransport>) {
        this.extra_slot().clear();
    }

    fn finalize(this: &Inst<SocketTransport>) {
        closing::finalize(this);
    }

    fn needs_finalizing(&self) -> bool {
        !self.socket.is_empty()
    }
}

/// The socket can be read.
#[inline]
pub fn run_readable(this: &Inst<SocketTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    let work = || reading::ready(this, event_loop);
    this.run_ready(event_loop, &this.reading, &state().names.read_ready, work)
}

/// The socket can be written.
pub fn run_writable(this: &Inst<SocketTransport>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.writing, &state().names.write_ready, || writing::ready(this))
}

// ---------------------------------------------------------------------------------------------------------------
// The class.

fn py_init(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<()> {
    let [event_loop, socket, protocol, waiter, extra, server, context] = args.parse(&Signature {
        function: "SocketTransport",
        names: ["loop", "sock", "protocol", "waiter", "extra", "server", "context"],
        positional: 7,
        required: 3,
    })?;
    let (Some(event_loop), Some(socket), Some(protocol)) = (event_loop, socket, protocol) else {
        return Err(Raised::type_error("SocketTransport() needs a loop, a socket and a protocol"));
    };
    stream::begin(this, event_loop, extra)?;
    this.socket.set(socket)?;
    let number = match this.socket.descriptor() {
        Ok(descriptor) => {
            this.writing_habit.begin(descriptor);
            descriptor.as_raw_fd()
        }
        Err(error) => {
            drop(this.socket.take());
            return Err(Raised::os_error(&error));
        }
    };
    this.number.set(number);
    if let Some(context) = stream::given(context) {
        this.context.set(context);
    }
    reading::set_protocol(this, protocol)?;
    if let Some(server) = stream::given(server) {
        this.server.set(server.clone());
        closing::call_server(&server, c"_attach", this)?;
    }
    if let Some(ours) = this.event_loop() {
        ours.transports.add(number, this.obj())?;
    }
    stream::announce(this, protocol, true, waiter)
}

fn py_server(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.server.get_or_none())
}

fn py_eof(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(this.eof.get()).own())
}

fn py_repr(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    shown_with_buffer(this)
}

/// A transport over a socket, as asyncio's shows itself.
fn shown_with_buffer<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    let mut text = stream::shown(this);
    if stream::has_open_loop(this) {
        let size = T::kept(this);
        let (read, write) = (stream::polls(&this.reading), stream::polls(&this.writing));
        text.push_str(&format!(" read={read} write=<{write}, bufsize={size}>"));
    }
    text.push('>');
    object::text(&text)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    // A subclass of `asyncio.Transport`, and what asyncio's `sendfile` asks for. Its other slots stay empty: ours have
    // attributes of the same names.
    let base = object::import(c"asyncio.transports")?.get(&*object::interned(c"_FlowControlMixin")?)?;
    crate::cpython::transport_slots::find_in_transport(&base)?;
    writing::define()?;
    let mut methods = class_methods!(SocketTransport, "SocketTransport";
        c"get_protocol" => none stream::py_get_protocol,
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.";
        c"is_closing" => none stream::py_is_closing,
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
    );
    methods.extend(stream::pausing_methods!(SocketTransport, "SocketTransport"));
    methods.extend(reading::methods());
    methods.extend(writing::methods());
    methods.extend(flow::flow_methods!(SocketTransport, "SocketTransport"));
    methods.extend(closing::closing_methods!(SocketTransport, "SocketTransport"));
    let mut attributes = class_attributes!(SocketTransport, "SocketTransport";
        c"_loop" => stream::py_loop;
        c"_protocol" => stream::py_get_protocol;
        c"_sock" => stream::py_socket, stream::py_set_socket;
        c"_sock_fd" => stream::py_number;
        c"_server" => py_server;
        c"_read_ready_cb" => reading::py_ready_callback;
        c"_closing" => stream::py_is_closing;
        c"_paused" => stream::py_paused;
        c"_eof" => py_eof;
        c"_conn_lost" => stream::py_lost;
    );
    attributes.extend(flow::flow_attributes!(SocketTransport, "SocketTransport"));
    let class = crate::cpython::spec::define::<SocketTransport>(Spec {
        base: Some(base),
        doc: Some(c"The transport of a connected stream socket, implemented in Rust."),
        methods,
        attributes,
        slots: class_slots!(SocketTransport, "SocketTransport"; init py_init, repr py_repr),
    })?;
    class
        .set(&*object::interned(c"max_size")?, &*object::int(crate::cpython::socket::LARGEST_READ as i64)?)?;
    class.set(&*object::interned(c"_start_tls_compatible")?, boolean(true))?;
    let modes = object::import(c"asyncio.constants")?.get(&*object::interned(c"_SendfileMode")?)?;
    class.set(
        &*object::interned(c"_sendfile_compatible")?,
        &*modes.get(&*object::interned(c"TRY_NATIVE")?)?,
    )?;
    Ok(class)
}
