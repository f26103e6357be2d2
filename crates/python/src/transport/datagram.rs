//! `DatagramTransport`: what `create_datagram_endpoint` makes.
//!
//! As asyncio's own, call by call. One datagram is received for each readiness, and each is sent by a call of its own, at once
//! if the kernel takes it; what it does not take waits in `datagrams`. The loop, the two watches, flow control and the end
//! are those of all transports (`stream`, `flow`, `closing`).
//!
//! A plain socket of the internet's families is used without its methods, any other through them (`sockets::attempt`).

use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use crate::cpython::address;
use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, none};
use crate::cpython::socket::{self, Known, LARGEST_READ};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::job::Job;
use crate::sockets::attempt::{Call, again, plain};
use crate::state::state;

use super::closing::{self, Closing};
use super::datagrams::{self, Datagram, Datagrams};
use super::foreign_socket::unless_transient;
use super::outgoing::{FLAGS, send};
use super::reading::is_transient;
use super::stream::{self, Stream, Streaming, Writing};
use super::{flow, py_get_extra_info};

/// The class `DatagramTransport`.
#[derive(Debug)]
pub struct DatagramTransport {
    stream: Stream,
    /// Where all of them go, if that was said when it was made.
    address: Slot,
    kept: Datagrams,
}

impl Deref for DatagramTransport {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Streaming for DatagramTransport {
    fn readable(this: Own<DatagramTransport>) -> Job {
        Job::DatagramReadable(this)
    }
}

impl Writing for DatagramTransport {
    fn writable(this: Own<DatagramTransport>) -> Job {
        Job::DatagramWritable(this)
    }

    fn kept(this: &Inst<DatagramTransport>) -> usize {
        this.kept.size()
    }
}

impl Closing for DatagramTransport {
    fn forget(this: &Inst<DatagramTransport>) {
        this.kept.clear();
    }

    fn finish(_this: &Inst<DatagramTransport>) -> Fallible<()> {
        Ok(())
    }
}

static HOME: Home = Home::new();

impl Class for DatagramTransport {
    const NAME: &'static std::ffi::CStr = c"velodrome.DatagramTransport";
    const FINALIZED: bool = true;
    const PYTHON_BASE: bool = true;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> DatagramTransport {
        DatagramTransport { stream: Stream::default(), address: Slot::empty(), kept: Datagrams::default() }
    }

    fn traverse(this: &Inst<DatagramTransport>, visitor: &mut Visitor<'_>) {
        stream::traverse(this, visitor);
        visitor.slot(&this.address);
        this.kept.traverse(visitor);
    }

    fn clear(this: &Inst<DatagramTransport>) {
        stream::clear(this);
        this.address.clear();
        this.kept.clear();
    }

    fn dying(this: &Inst<DatagramTransport>) {
        this.extra_slot().clear();
    }

    fn finalize(this: &Inst<DatagramTransport>) {
        closing::abandon(this);
    }

    fn needs_finalizing(&self) -> bool {
        !self.socket.is_empty()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Receiving.

/// The socket can be read.
#[inline]
pub fn run_readable(this: &Inst<DatagramTransport>) -> Fallible<()> {
    this.run_ready(&this.reading, &state().names.read_ready, || read_ready(this))
}

/// The most that are received for one readiness.
const MOST: usize = 16;

fn read_ready(this: &Inst<DatagramTransport>) -> Fallible<()> {
    let mut signal_handlers = None;
    for _ in 0..MOST {
        if this.lost.get() > 0 || !receive_one(this)? || !is_alone(this, &mut signal_handlers)? {
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
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(raised) => failed(this, raised, "Fatal read error on datagram transport").map(|()| false),
    }
}

/// Whether the next iteration would have nothing to do but to receive the next one: nothing is queued or timed, nothing else
/// is watched, no signal is waited for. Then nobody can tell whether there was an iteration in between.
/// `signal_handlers` is the loop's table of those, once it has been asked for it.
fn is_alone(this: &Inst<DatagramTransport>, signal_handlers: &mut Option<Ref>) -> Fallible<bool> {
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
    if !alone {
        return Ok(false);
    }
    let signal_handlers = match signal_handlers {
        Some(known) => known,
        None => signal_handlers.insert(event_loop.obj().get(&state().names.signal_handlers)?),
    };
    Ok(!signal_handlers.truthy()?)
}

/// Receives one; None if there is none.
fn receive(this: &Inst<DatagramTransport>) -> Fallible<Option<(Ref, Ref)>> {
    let Some(held) = this.socket.get() else { return Err(closed()) };
    if let Some(known) = plain(&held, Call::RecvFrom)?
        && let Some(event_loop) = this.event_loop()
    {
        let received = match known.descriptor() {
            Ok(descriptor) => socket::receive_from(descriptor, LARGEST_READ, &event_loop.overflow)?,
            Err(error) => Err(error),
        };
        return match received {
            Ok((data, address)) => Ok(Some((data, event_loop.addresses.to_python(address)?))),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(Raised::os_error(&error)),
        };
    }
    let most = this.obj().get(&*object::interned(c"max_size")?)?;
    let received = unless_transient(held.call_method(&*object::interned(c"recvfrom")?, &[&most]))?;
    let Some(received) = received else { return Ok(None) };
    match &received.items()?[..] {
        [data, address] => Ok(Some((data.clone(), address.clone()))),
        _ => Err(Raised::value_error("recvfrom() gave no pair")),
    }
}

fn closed() -> Raised {
    Raised::os_error(&rustix::io::Errno::BADF.into())
}

/// What the network says of a datagram is told to the protocol, and the transport goes on; anything else ends it.
#[cold]
fn failed(this: &Inst<DatagramTransport>, raised: Raised, message: &str) -> Fallible<()> {
    if !raised.matches(object::os_error()) {
        return closing::fatal(this, raised, message);
    }
    let exception = raised.take();
    let Some(protocol) = this.protocol.get() else { return Ok(()) };
    protocol.call_method(&state().names.error_received, &[&exception]).map(drop)
}

// ---------------------------------------------------------------------------------------------------------------
// Sending.

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
    if datagrams::header() == 0 && !data.truthy()? {
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
pub fn run_writable(this: &Inst<DatagramTransport>) -> Fallible<()> {
    this.run_ready(&this.writing, &state().names.sendto_ready, || sendto_ready(this))
}

/// See [`Job::as_handle`].
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

// ---------------------------------------------------------------------------------------------------------------
// The class.

fn py_init(this: &Inst<DatagramTransport>, args: Args<'_>) -> Fallible<()> {
    let [event_loop, socket, protocol, address, waiter, extra] = args.parse(&Signature {
        function: "DatagramTransport",
        names: ["loop", "sock", "protocol", "address", "waiter", "extra"],
        positional: 6,
        required: 3,
    })?;
    let (Some(event_loop), Some(socket), Some(protocol)) = (event_loop, socket, protocol) else {
        return Err(Raised::type_error("DatagramTransport() needs a loop, a socket and a protocol"));
    };
    stream::begin(this, event_loop, extra)?;
    this.socket.set(socket, &state().socket_class)?;
    let number = match this.socket.descriptor() {
        Ok(descriptor) => descriptor.as_raw_fd(),
        Err(error) => {
            drop(this.socket.take());
            return Err(Raised::os_error(&error));
        }
    };
    this.number.set(number);
    this.protocol.set(protocol.own());
    if let Some(address) = stream::given(address)
        && address.truthy()?
    {
        this.address.set(address);
    }
    if let Some(ours) = this.event_loop() {
        ours.transports.add(number, this.obj())?;
    }
    stream::announce(this, protocol, true, waiter)
}

fn py_set_protocol(this: &Inst<DatagramTransport>, args: Args<'_>) -> Fallible<Ref> {
    this.protocol.set(args.only("set_protocol", "protocol")?.own());
    Ok(none().own())
}

fn py_read_ready(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    read_ready(this)?;
    Ok(none().own())
}

fn py_sendto_ready(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    sendto_ready(this)?;
    Ok(none().own())
}

fn py_address(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    Ok(this.address.get_or_none())
}

/// `_buffer`: what waits, as a list; nobody sees what is done to that.
fn py_buffer(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    let pairs: Fallible<Vec<Ref>> =
        this.kept.all().iter().map(|(data, address)| object::tuple(&[data, address])).collect();
    object::list(&pairs?)
}

fn py_repr(this: &Inst<DatagramTransport>) -> Fallible<Ref> {
    super::shown_with_buffer(this)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    // A subclass of `asyncio.DatagramTransport` with flow control.
    let transports = object::import(c"asyncio.transports")?;
    let mixin = transports.get(&*object::interned(c"_FlowControlMixin")?)?;
    let bases = object::tuple(&[&*mixin, &*transports.get(&*object::interned(c"DatagramTransport")?)?])?;
    let name = object::text("DatagramTransport")?;
    let body = object::dict(&[(&*object::interned(c"__slots__")?, &*state().empty_tuple)])?;
    let base = mixin.class().call(&[&*name, &*bases, &*body])?;
    let mut methods = class_methods!(DatagramTransport, "DatagramTransport";
        c"get_extra_info" => any py_get_extra_info,
            c"get_extra_info($self, name, default=None)\n--\n\nReturn what is known of the endpoint by that name: \
              'socket', 'sockname', 'peername'.";
        c"get_protocol" => none stream::py_get_protocol,
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.";
        c"set_protocol" => any py_set_protocol,
            c"set_protocol($self, protocol)\n--\n\nSet a new protocol.";
        c"is_closing" => none stream::py_is_closing,
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
        c"is_reading" => none stream::py_is_reading,
            c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.";
        c"pause_reading" => none stream::py_pause_reading,
            c"pause_reading($self, /)\n--\n\nHand nothing over to the protocol until resume_reading() is called.";
        c"resume_reading" => none stream::py_resume_reading,
            c"resume_reading($self, /)\n--\n\nGo on handing what comes in over to the protocol.";
        c"sendto" => any py_sendto,
            c"sendto($self, data, addr=None)\n--\n\nSend a datagram. What the kernel does not take at once is kept \
              and sent when it can be; this does not wait.";
        c"_begin_reading" => none stream::py_begin_reading,
            c"_begin_reading($self, /)\n--\n\nStart to read, unless reading is paused or the transport is closing.";
        c"_read_ready" => none py_read_ready, c"_read_ready($self, /)\n--\n\nReceive once.";
        c"_sendto_ready" => none py_sendto_ready, c"_sendto_ready($self, /)\n--\n\nSend what is kept.";
    );
    methods.extend(flow::flow_methods!(DatagramTransport, "DatagramTransport"));
    methods.extend(closing::closing_methods!(DatagramTransport, "DatagramTransport"));
    let mut attributes = class_attributes!(DatagramTransport, "DatagramTransport";
        c"_loop" => stream::py_loop;
        c"_protocol" => stream::py_get_protocol;
        c"_sock" => stream::py_socket, stream::py_set_socket;
        c"_sock_fd" => stream::py_number;
        c"_address" => py_address;
        c"_buffer" => py_buffer;
        c"_buffer_size" => flow::py_get_size;
        c"_closing" => stream::py_is_closing;
        c"_paused" => stream::py_paused;
        c"_conn_lost" => stream::py_lost;
    );
    attributes.extend(flow::flow_attributes!(DatagramTransport, "DatagramTransport"));
    let class = crate::cpython::spec::define::<DatagramTransport>(Spec {
        base: Some(base),
        doc: Some(c"The transport of a socket of datagrams, implemented in Rust."),
        methods,
        attributes,
        slots: class_slots!(DatagramTransport, "DatagramTransport"; init py_init, repr py_repr),
    })?;
    class.set(&*object::interned(c"max_size")?, &*object::int(LARGEST_READ as i64)?)?;
    Ok(class)
}
