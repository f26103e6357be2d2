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
mod flow;
mod foreign_socket;
mod outgoing;
mod reading;
pub mod turn;
mod writing;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};

use velodrome_engine::{Interest, Key};

use crate::cpython::object::{self, boolean, none};
use crate::cpython::socket::Socket;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::handle;
use crate::job::Job;
use crate::state::state;
use outgoing::Outgoing;
use reading::Receiver;

/// The class `SocketTransport`.
#[derive(Debug)]
pub struct SocketTransport {
    event_loop: Slot,
    protocol: Slot,
    server: Slot,
    socket: Socket,
    /// The descriptor's number when the transport was made, which is what it is called by.
    number: Cell<RawFd>,
    /// The context of all callbacks, if one was given; otherwise each has the context of whoever asked for it.
    context: Slot,
    reading: Watch,
    writing: Watch,
    receiver: Cell<Receiver>,
    /// How much the next read is likely to bring: what the last one brought.
    expected: Cell<usize>,
    outgoing: RefCell<Outgoing>,
    limits: flow::Limits,
    writing_habit: turn::Habit,
    /// For whoever waits until everything is written: `sendfile`.
    empty_waiter: Slot,
    /// `set_protocol` was called.
    connected: Cell<bool>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    eof: Cell<bool>,
    /// Nonzero once `connection_lost` is scheduled; then it counts what is written in vain.
    lost: Cell<u32>,
}

/// A registration with the engine, for one direction.
#[derive(Debug, Default)]
struct Watch {
    key: Cell<Option<Key>>,
    /// The iteration in which it was made. An event that runs in the same one was queued for an earlier registration, and
    /// is void, as the handle is that asyncio cancels.
    since: Cell<u32>,
    /// The context of what readiness brings.
    context: Slot,
}

impl Watch {
    fn is_on(&self) -> bool {
        self.key.get().is_some()
    }
}

static HOME: Home = Home::new();

impl Class for SocketTransport {
    const NAME: &'static std::ffi::CStr = c"velodrome.SocketTransport";
    const FINALIZED: bool = true;
    const PYTHON_BASE: bool = true;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> SocketTransport {
        SocketTransport {
            event_loop: Slot::empty(),
            protocol: Slot::empty(),
            server: Slot::empty(),
            socket: Socket::default(),
            number: Cell::new(-1),
            context: Slot::empty(),
            reading: Watch::default(),
            writing: Watch::default(),
            receiver: Cell::new(Receiver::Data),
            expected: Cell::new(0),
            outgoing: RefCell::default(),
            limits: flow::Limits::default(),
            writing_habit: turn::Habit::default(),
            empty_waiter: Slot::empty(),
            connected: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            eof: Cell::new(false),
            lost: Cell::new(0),
        }
    }

    fn traverse(this: &Inst<SocketTransport>, visitor: &mut Visitor<'_>) {
        visitor.slot(this.extra_slot());
        this.socket.traverse(visitor);
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<SocketTransport>) {
        this.extra_slot().clear();
        drop(this.socket.take());
        this.slots().into_iter().for_each(Slot::clear);
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

impl SocketTransport {
    fn slots(&self) -> [&Slot; 9] {
        let [high, low] = self.limits.slots();
        [
            &self.event_loop,
            &self.protocol,
            &self.server,
            &self.context,
            &self.reading.context,
            &self.writing.context,
            &self.empty_waiter,
            high,
            low,
        ]
    }

    /// Whether `close()` or `abort()` was called, or the connection is lost.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether the socket is closed.
    pub fn is_released(&self) -> bool {
        self.socket.is_empty()
    }

    fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }
}

/// What is done with the loop.
impl Inst<SocketTransport> {
    /// The loop; none after `connection_lost`.
    fn event_loop(&self) -> Option<Own<EventLoop>> {
        self.event_loop.get().and_then(|held| Inst::<EventLoop>::of(&held).map(Inst::own))
    }

    fn is_debug(&self) -> bool {
        self.event_loop().is_some_and(|event_loop| event_loop.is_debug())
    }

    /// `loop.call_soon(callback, *arguments)`, in the transport's context if it has one.
    fn call_soon(&self, callback: &Obj, arguments: &[&Obj]) -> Fallible<()> {
        let Some(event_loop) = self.event_loop.get() else { return Ok(()) };
        let mut all = vec![callback];
        all.extend_from_slice(arguments);
        match self.context.get() {
            Some(context) => {
                all.push(&context);
                let (name, keyword) = (&state().names.call_soon, &state().context_keyword);
                event_loop.call_method_with_keywords(name, &all, keyword).map(drop)
            }
            None => event_loop.call_method(&state().names.call_soon, &all).map(drop),
        }
    }

    /// A method of the transport as a callback.
    fn callback(&self, name: &Obj) -> Fallible<Ref> {
        self.obj().get(name)
    }

    fn callback_context(&self) -> Fallible<Ref> {
        self.context.get().map_or_else(crate::cpython::context::copy_current, Ok)
    }

    fn start_reading(&self) -> Fallible<()> {
        self.watch(&self.reading, Interest::Read, Job::Readable(self.own()))
    }

    fn stop_reading(&self) {
        self.unwatch(&self.reading);
    }

    fn start_writing(&self) -> Fallible<()> {
        self.watch(&self.writing, Interest::Write, Job::Writable(self.own()))
    }

    fn stop_writing(&self) {
        self.unwatch(&self.writing);
    }

    fn watch(&self, watch: &Watch, interest: Interest, job: Job) -> Fallible<()> {
        watch.context.set(self.callback_context()?);
        let Some(event_loop) = self.event_loop().filter(|_| !watch.is_on()) else { return Ok(()) };
        let descriptor = self.socket.descriptor().map_err(|error| Raised::os_error(&error))?;
        watch.key.set(Some(event_loop.watch(descriptor, interest, job)?));
        watch.since.set(event_loop.iteration.get());
        Ok(())
    }

    fn unwatch(&self, watch: &Watch) {
        if let (Some(key), Some(event_loop)) = (watch.key.take(), self.event_loop()) {
            event_loop.unwatch(key);
        }
    }

    /// Runs what readiness brings, in the context that it was asked for in, unless the event was queued before the direction
    /// was last unwatched. Fails only with what stops the loop.
    fn run_ready(&self, watch: &Watch, name: &Obj, work: impl FnOnce() -> Fallible<()>) -> Fallible<()> {
        let (Some(context), Some(event_loop)) = (watch.context.get(), self.event_loop()) else {
            return Ok(());
        };
        if !watch.is_on() || watch.since.get() == event_loop.iteration.get() {
            return Ok(());
        }
        match crate::cpython::context::within(&context, work) {
            Ok(()) => Ok(()),
            Err(raised) => handle::failed(event_loop.obj(), raised, || self.ready_handle(name)),
        }
    }

    /// The handle that asyncio would have queued.
    fn ready_handle(&self, name: &Obj) -> Fallible<Ref> {
        let event_loop = self.event_loop.get_or_none();
        let context = self.callback_context()?;
        handle::with_context(&event_loop, &*self.callback(name)?, &[], context).map(Own::into_ref)
    }
}

/// The socket can be read.
#[inline]
pub fn run_readable(this: &Inst<SocketTransport>) -> Fallible<()> {
    this.run_ready(&this.reading, &state().names.read_ready, || reading::ready(this))
}

/// The socket can be written.
pub fn run_writable(this: &Inst<SocketTransport>) -> Fallible<()> {
    this.run_ready(&this.writing, &state().names.write_ready, || writing::ready(this))
}

/// See [`Job::as_handle`].
pub fn readable_handle(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    this.ready_handle(&state().names.read_ready)
}

/// See [`Job::as_handle`].
pub fn writable_handle(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    this.ready_handle(&state().names.write_ready)
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
    let given = |value: Option<&'_ Obj>| value.filter(|value| !value.is_none()).map(Obj::own);
    let (Some(event_loop), Some(socket), Some(protocol)) = (event_loop, socket, protocol) else {
        return Err(Raised::type_error("SocketTransport() needs a loop, a socket and a protocol"));
    };
    let Some(ours) = Inst::<EventLoop>::of(event_loop) else {
        return Err(Raised::type_error(&format!(
            "a velodrome loop is expected, not {}",
            event_loop.class_name()
        )));
    };
    if !this.event_loop.is_empty() || this.lost.get() > 0 {
        return Err(Raised::runtime_error("the transport is initialised already"));
    }
    this.event_loop.set(event_loop.own());
    let extra = given(extra).map_or_else(|| object::dict(&[]), Ok)?;
    this.extra_slot().set(extra);
    this.socket.set(socket, &state().socket_class)?;
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
    if let Some(context) = given(context) {
        this.context.set(context);
    }
    this.limits.reset()?;
    reading::set_protocol(this, protocol)?;
    if let Some(server) = given(server) {
        this.server.set(server.clone());
        closing::call_server(&server, c"_attach", this)?;
    }
    ours.transports.add(number, this.obj())?;

    let names = &state().names;
    this.call_soon(&*protocol.get(&names.connection_made)?, &[this.obj()])?;
    // Only when `connection_made` has been called.
    this.call_soon(&*this.callback(&names.begin_reading)?, &[])?;
    if let Some(waiter) = given(waiter) {
        this.call_soon(&state().set_result_unless_cancelled, &[&waiter, none()])?;
    }
    Ok(())
}

fn py_get_extra_info(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<Ref> {
    let [name, default] = args.parse(&Signature {
        function: "get_extra_info",
        names: ["name", "default"],
        positional: 2,
        required: 1,
    })?;
    let name = name.unwrap_or(none());
    let extra = this.extra_slot().get_or_none();
    if !object::is_dict(&extra) {
        return extra.call_method(&*object::interned(c"get")?, &[name, default.unwrap_or(none())]);
    }
    Ok(object::dict_get(&extra, name)?.unwrap_or_else(|| default.unwrap_or(none()).own()))
}

fn py_get_protocol(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.protocol.get_or_none())
}

fn py_is_closing(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(this.is_closing()).own())
}

fn py_loop(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.event_loop.get_or_none())
}

fn py_socket(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.socket.get().unwrap_or_else(|| none().own()))
}

fn py_set_socket(this: &Inst<SocketTransport>, value: Option<&Obj>) -> Fallible<()> {
    match value.filter(|value| !value.is_none()) {
        Some(socket) => this.socket.set(socket, &state().socket_class),
        None => {
            drop(this.socket.take());
            Ok(())
        }
    }
}

fn py_number(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    object::int(i64::from(this.number.get()))
}

fn py_server(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.server.get_or_none())
}

fn py_paused(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(this.paused.get()).own())
}

fn py_eof(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(this.eof.get()).own())
}

fn py_lost(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    object::int(i64::from(this.lost.get()))
}

fn py_repr(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    let mut text = format!("<{}", this.obj().class_name());
    if this.socket.is_empty() {
        text.push_str(" closed");
    } else if this.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", this.number.get()));
    if this.event_loop().is_some_and(|event_loop| event_loop.engine.borrow().is_some()) {
        let polls = |watch: &Watch| if watch.is_on() { "polling" } else { "idle" };
        let size = this.outgoing.borrow().size();
        let (read, write) = (polls(&this.reading), polls(&this.writing));
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
    let mut methods = class_methods!(SocketTransport, "SocketTransport";
        c"get_extra_info" => any py_get_extra_info,
            c"get_extra_info($self, name, default=None)\n--\n\nReturn what is known of the connection by that name: \
              'socket', 'sockname', 'peername'.";
        c"get_protocol" => none py_get_protocol,
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.";
        c"is_closing" => none py_is_closing,
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
    );
    methods.extend(reading::methods());
    methods.extend(writing::methods());
    methods.extend(flow::methods());
    methods.extend(closing::methods());
    let mut attributes = class_attributes!(SocketTransport, "SocketTransport";
        c"_loop" => py_loop;
        c"_protocol" => py_get_protocol;
        c"_sock" => py_socket, py_set_socket;
        c"_sock_fd" => py_number;
        c"_server" => py_server;
        c"_read_ready_cb" => reading::py_ready_callback;
        c"_closing" => py_is_closing;
        c"_paused" => py_paused;
        c"_eof" => py_eof;
        c"_conn_lost" => py_lost;
    );
    attributes.extend(flow::attributes());
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
