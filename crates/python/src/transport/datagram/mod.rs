//! `DatagramTransport`: what `create_datagram_endpoint` makes.
//!
//! As asyncio's own, call by call. Datagrams are received one by one (`receiving`), and each is sent by a call of its own, at
//! once if the kernel takes it (`sending`); what it does not take waits in `kept`. The loop, the two watches, flow control and
//! the end are those of all transports (`stream`, `flow`, `closing`).
//!
//! A plain socket of the internet's families is used without its methods, any other through them (`sockets::attempt`).

mod kept;
mod receiving;
mod sending;

use std::ops::Deref;
use std::os::fd::AsRawFd;

use crate::cpython::object::{self, none};
use crate::cpython::raised::while_handling;
use crate::cpython::socket::LARGEST_READ;
use crate::cpython::{
    Args, Base, Class, Fallible, Home, Inst, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::job::Job;
use crate::state::state;

use super::closing::{self, Closing};
use super::flow;
use super::stream::{self, Stream, Streaming, Writing};
use kept::Datagrams;
pub use receiving::run_readable;
pub use sending::{run_writable, writable_handle};

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
    const BASE: Base = Base::Python;
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

/// There is no socket any more.
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
    while_handling(&exception, || protocol.call_method(&state().names.error_received, &[&exception]))
        .map(drop)
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
    this.socket.set(socket)?;
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
        c"get_protocol" => none stream::py_get_protocol,
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.";
        c"set_protocol" => any py_set_protocol,
            c"set_protocol($self, protocol)\n--\n\nSet a new protocol.";
        c"is_closing" => none stream::py_is_closing,
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
        c"_begin_reading" => none stream::py_begin_reading,
            c"_begin_reading($self, /)\n--\n\nStart to read, unless reading is paused or the transport is closing.";
    );
    methods.extend(stream::pausing_methods!(DatagramTransport, "DatagramTransport"));
    methods.extend(receiving::methods());
    methods.extend(sending::methods());
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
