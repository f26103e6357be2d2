//! `StreamReaderProtocol`: feeds a reader with what comes in, and stops a writer when the transport has had enough.
//!
//! A transport of ours hands over to `receive` rather than to `data_received`: the reader then gets the very `bytes` that
//! were read, and no method is called, as long as protocol and reader are ours in all that this goes through.

use std::cell::Cell;
use std::ffi::CStr;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::deque::Deque;
use crate::operation::{self, Kind, Operation, Step};
use crate::original::Code;
use crate::state::state;
use crate::waiters;

use super::methods::Methods;
use super::reader::{self, StreamReader};
use super::shown::{self, Shown, is_shown};
use super::{flag_attributes, slot_attributes};

/// The class under `velodrome.StreamReaderProtocol`.
#[derive(Debug)]
pub struct StreamReaderProtocol {
    event_loop: Slot,
    /// A weak reference to the reader, or `None`; and a strong one until the connection is made, on a server.
    reader: Slot,
    strong_reader: Slot,
    source_traceback: Slot,
    writer: Slot,
    task: Slot,
    transport: Slot,
    connected_callback: Slot,
    /// A future of the end of the connection.
    closed: Slot,
    /// The transport has had enough.
    paused: Cell<bool>,
    /// Who waits until it has room.
    drain_waiters: Deque,
    connection_lost: Cell<bool>,
    reject_connection: Cell<bool>,
    over_ssl: Cell<bool>,
    /// See [`Shown`].
    shown: Cell<bool>,
}

static HOME: Home = Home::new();

impl Class for StreamReaderProtocol {
    const NAME: &'static std::ffi::CStr = c"velodrome.StreamReaderProtocolCore";
    const DICT: bool = true;
    const DERIVED_ONCE: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> StreamReaderProtocol {
        StreamReaderProtocol {
            event_loop: Slot::empty(),
            reader: Slot::empty(),
            strong_reader: Slot::empty(),
            source_traceback: Slot::empty(),
            writer: Slot::empty(),
            task: Slot::empty(),
            transport: Slot::empty(),
            connected_callback: Slot::empty(),
            closed: Slot::empty(),
            paused: Cell::new(false),
            drain_waiters: Deque::default(),
            connection_lost: Cell::new(false),
            reject_connection: Cell::new(false),
            over_ssl: Cell::new(false),
            shown: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<StreamReaderProtocol>, visitor: &mut Visitor<'_>) {
        this.drain_waiters.traverse(visitor);
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<StreamReaderProtocol>) {
        this.drain_waiters.clear();
        this.slots().into_iter().for_each(Slot::clear);
    }
}

impl StreamReaderProtocol {
    fn slots(&self) -> [&Slot; 9] {
        [
            &self.event_loop,
            &self.reader,
            &self.strong_reader,
            &self.source_traceback,
            &self.writer,
            &self.task,
            &self.transport,
            &self.connected_callback,
            &self.closed,
        ]
    }
}

/// The attributes that asyncio's code uses.
const ATTRIBUTES: [&CStr; 14] = [
    c"_loop",
    c"_paused",
    c"_drain_waiters",
    c"_connection_lost",
    c"_stream_reader_wr",
    c"_source_traceback",
    c"_strong_reader",
    c"_reject_connection",
    c"_stream_writer",
    c"_task",
    c"_transport",
    c"_client_connected_cb",
    c"_over_ssl",
    c"_closed",
];

impl Shown for StreamReaderProtocol {
    fn shown(&self) -> &Cell<bool> {
        &self.shown
    }

    fn attributes(this: &Inst<StreamReaderProtocol>) -> Fallible<Vec<(&'static CStr, Option<Ref>)>> {
        let flag = |flag: &Cell<bool>| Some(boolean(flag.get()).own());
        let values = [
            this.event_loop.get(),
            flag(&this.paused),
            Some(this.drain_waiters.show()?),
            flag(&this.connection_lost),
            this.reader.get(),
            this.source_traceback.get(),
            this.strong_reader.get(),
            flag(&this.reject_connection),
            this.writer.get(),
            this.task.get(),
            this.transport.get(),
            this.connected_callback.get(),
            flag(&this.over_ssl),
            this.closed.get(),
        ];
        Ok(ATTRIBUTES.into_iter().zip(values).collect())
    }

    fn forget(this: &Inst<StreamReaderProtocol>) {
        // Who waits to write finds the deque here when it goes on.
        this.slots().into_iter().for_each(Slot::clear);
    }
}

impl Inst<StreamReaderProtocol> {
    /// asyncio's own method, as a function.
    fn stock(&self, method: &CStr) -> Fallible<Ref> {
        KNOWN.get().class.get(&*object::interned(method)?)
    }

    /// Whether what comes in goes to the reader without a method being called.
    #[inline]
    fn receives(&self) -> Fallible<bool> {
        Ok(!is_shown(self) && KNOWN.get().receiving.are_ours(self)?)
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    /// asyncio's class.
    class: Ref,
    /// What asyncio's methods keep in a protocol.
    attributes: Methods,
    /// What receiving goes through, and what draining does.
    receiving: Methods,
    draining: Methods,
    data_received: Ref,
    feed_data: Ref,
    /// Whether this version's protocols refer to the writer.
    has_writer: bool,
}

static KNOWN: Global<Known> = Global::new();

/// `protocol.data_received(data)`, where `protocol` is one of streams.
#[inline]
pub fn receive(protocol: &Obj, data: &Obj) -> Fallible<()> {
    if let Some(this) = Inst::<StreamReaderProtocol>::of(protocol)
        && this.receives()?
    {
        return feed(this, data);
    }
    protocol.call_method(&KNOWN.get().data_received, &[data]).map(drop)
}

/// Feeds the reader, if it is still there.
#[inline]
fn feed(this: &Inst<StreamReaderProtocol>, data: &Obj) -> Fallible<()> {
    let Some(reference) = this.reader.get().filter(|reference| !reference.is_none()) else { return Ok(()) };
    let Some(reader) = object::referent(&reference) else { return Ok(()) };
    if let Some(ours) = Inst::<StreamReader>::of(&reader)
        && let Some(limit) = ours.short_way()?
    {
        return reader::feed(ours, limit, data);
    }
    reader.call_method(&KNOWN.get().feed_data, &[data]).map(drop)
}

/// Whether `_drain_helper()` of this protocol would return at once.
#[inline]
pub fn has_room(protocol: &Obj) -> Fallible<bool> {
    match Inst::<StreamReaderProtocol>::of(protocol) {
        Some(this) if !this.paused.get() && !this.connection_lost.get() && !is_shown(this) => {
            KNOWN.get().draining.are_ours(this)
        }
        _ => Ok(false),
    }
}

static DRAIN_HELPER: Kind = Kind {
    name: "_drain_helper",
    qualname: "FlowControlMixin._drain_helper",
    begin: begin_drain,
    resume: resume_drain,
};

fn of_operation<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<StreamReaderProtocol>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<StreamReaderProtocol>::of(&owner) {
        Some(this) => work(this),
        None => Err(Raised::runtime_error("the operation has no owner")),
    }
}

/// The stage of an operation in asyncio's own coroutine.
const STOCK: u8 = 1;

/// `first` is the future that it waits for.
fn begin_drain(operation: &Inst<Operation>) -> Fallible<Step> {
    of_operation(operation, |this| {
        if is_shown(this) {
            operation.stage.set(STOCK);
            return this.stock(c"_drain_helper")?.call(&[this.obj()]).map(Step::Await);
        }
        if this.connection_lost.get() {
            return Err(Raised::new(object::connection_reset_error(), "Connection lost"));
        }
        if !this.paused.get() {
            return Ok(Step::Done(none().own()));
        }
        let waiter = waiters::create_future(&this.event_loop.get_or_none())?;
        this.drain_waiters.push(waiter.clone())?;
        operation.first.set(waiter.clone());
        Ok(Step::Await(waiter))
    })
}

fn resume_drain(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    if operation.stage.get() == STOCK {
        return outcome.map(Step::Done);
    }
    let exception = outcome.err().map(Raised::take);
    of_operation(operation, |this| this.drain_waiters.remove(&operation.first.get_or_none()).map(drop))?;
    match exception {
        Some(exception) => Err(Raised::from_exception(exception)),
        None => Ok(Step::Done(none().own())),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<StreamReaderProtocol>, args: Args<'_>) -> Fallible<()> {
    let [reader, connected_callback, event_loop] = args.parse(&Signature {
        function: "StreamReaderProtocol.__init__",
        names: ["stream_reader", "client_connected_cb", "loop"],
        positional: 3,
        required: 1,
    })?;
    let reader = reader.unwrap_or(none());
    let connected_callback = connected_callback.unwrap_or(none());
    if !is_shown(this) && !KNOWN.get().attributes.are_of_class(this.obj())? {
        shown::begin(this);
    }
    let event_loop = event_loop.unwrap_or(none());
    if event_loop.is_none() || is_shown(this) {
        // Which loop is meant by none, and who is warned, depends on the version.
        return this
            .stock(c"__init__")?
            .call(&[this.obj(), reader, connected_callback, event_loop])
            .map(drop);
    }
    this.event_loop.set(event_loop.own());
    this.paused.set(false);
    this.connection_lost.set(false);
    this.drain_waiters.clear();
    if reader.is_none() {
        this.reader.set(none().own());
    } else {
        this.reader.set(object::weak_reference(reader, None)?);
        let traceback = match Inst::<StreamReader>::of(reader) {
            Some(ours) if !is_shown(ours) => ours.source_traceback.get_or_none(),
            _ => reader.get(&*object::interned(c"_source_traceback")?)?,
        };
        super::assign(&this.source_traceback, Some(&*traceback));
    }
    if !connected_callback.is_none() {
        this.strong_reader.set(reader.own());
    }
    this.reject_connection.set(false);
    this.over_ssl.set(false);
    for slot in [&this.task, &this.transport] {
        slot.set(none().own());
    }
    if KNOWN.get().has_writer {
        this.writer.set(none().own());
    }
    this.connected_callback.set(connected_callback.own());
    this.closed.set(waiters::create_future(event_loop)?);
    Ok(())
}

fn py_data_received(this: &Inst<StreamReaderProtocol>, args: Args<'_>) -> Fallible<Ref> {
    let data = args.only("StreamReaderProtocol.data_received", "data")?;
    if this.receives()? {
        feed(this, data)?;
        return Ok(none().own());
    }
    this.stock(c"data_received")?.call(&[this.obj(), data])
}

fn py_pause_writing(this: &Inst<StreamReaderProtocol>) -> Fallible<Ref> {
    if is_shown(this) {
        return this.stock(c"pause_writing")?.call(&[this.obj()]);
    }
    if this.paused.replace(true) {
        super::not_asserted("")?;
    }
    tell(this, c"%r pauses writing")?;
    Ok(none().own())
}

fn py_resume_writing(this: &Inst<StreamReaderProtocol>) -> Fallible<Ref> {
    if is_shown(this) {
        return this.stock(c"resume_writing")?.call(&[this.obj()]);
    }
    if !this.paused.replace(false) {
        super::not_asserted("")?;
    }
    tell(this, c"%r resumes writing")?;
    for waiter in this.drain_waiters.walk()? {
        if !waiters::is_done(&waiter)? {
            waiters::set_result(&waiter, none())?;
        }
    }
    Ok(none().own())
}

/// In debug mode, tells the log.
fn tell(this: &Inst<StreamReaderProtocol>, message: &std::ffi::CStr) -> Fallible<()> {
    if this.event_loop.get_or_none().call_method(&state().names.get_debug, &[])?.truthy()? {
        crate::transport::log_debug(message, &[this.obj()])?;
    }
    Ok(())
}

fn py_drain_helper(this: &Inst<StreamReaderProtocol>) -> Fallible<Ref> {
    operation::create(&DRAIN_HELPER, this.obj()).map(Own::into_ref)
}

fn py_get_close_waiter(this: &Inst<StreamReaderProtocol>, args: Args<'_>) -> Fallible<Ref> {
    args.only("StreamReaderProtocol._get_close_waiter", "stream")?;
    super::held(this.obj(), &this.closed, c"_closed")
}

fn py_drain_waiters(this: &Inst<StreamReaderProtocol>) -> Fallible<Ref> {
    if is_shown(this) {
        return shown::get(this.obj(), c"_drain_waiters");
    }
    this.drain_waiters.show()
}

fn py_set_drain_waiters(this: &Inst<StreamReaderProtocol>, value: Option<&Obj>) -> Fallible<()> {
    if is_shown(this) {
        return shown::set(this.obj(), c"_drain_waiters", value);
    }
    match value {
        Some(value) => this.drain_waiters.replace(value.own()),
        None => this.drain_waiters.clear(),
    }
    Ok(())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut attributes = class_attributes!(StreamReaderProtocol, "StreamReaderProtocol";
        c"_drain_waiters" => py_drain_waiters, py_set_drain_waiters;
        c"__dict__" => shown::dict, shown::set_dict;
    );
    attributes.extend(slot_attributes!(StreamReaderProtocol, "StreamReaderProtocol";
        c"_loop" => required event_loop;
        c"_stream_reader_wr" => required reader;
        c"_strong_reader" => required strong_reader;
        c"_source_traceback" => optional source_traceback;
        c"_stream_writer" => required writer;
        c"_task" => required task;
        c"_transport" => required transport;
        c"_client_connected_cb" => required connected_callback;
        c"_closed" => required closed;
    ));
    attributes.extend(flag_attributes!(StreamReaderProtocol, "StreamReaderProtocol";
        c"_paused" => paused;
        c"_connection_lost" => connection_lost;
        c"_reject_connection" => reject_connection;
        c"_over_ssl" => over_ssl;
    ));
    let class = crate::cpython::spec::define::<StreamReaderProtocol>(Spec {
        base: None,
        doc: Some(
            c"StreamReaderProtocolCore(stream_reader, client_connected_cb=None, loop=None)\n--\n\nWhat \
              StreamReaderProtocol does natively.",
        ),
        methods: class_methods!(StreamReaderProtocol, "StreamReaderProtocol";
            c"data_received" => any py_data_received,
                c"data_received($self, data)\n--\n\nFeed the reader.";
            c"pause_writing" => none py_pause_writing,
                c"pause_writing($self, /)\n--\n\nFrom now on drain() waits.";
            c"resume_writing" => none py_resume_writing,
                c"resume_writing($self, /)\n--\n\nLet those go on who wait in drain().";
            c"_drain_helper" => none py_drain_helper,
                c"_drain_helper($self, /)\n--\n\nWait until the transport has room.";
            c"_get_close_waiter" => any py_get_close_waiter,
                c"_get_close_waiter($self, stream)\n--\n\nReturn the future of the end of the connection.";
        ),
        attributes,
        slots: class_slots!(StreamReaderProtocol, "StreamReaderProtocol"; init py_init),
    })?;
    let behind = object::import(c"asyncio.streams")?.get(&*object::interned(c"StreamReaderProtocol")?)?;
    crate::module::mark_methods(&class, &behind)?;
    let has_writer = Code::of(&behind, c"__init__")?.uses("_stream_writer")?;
    KNOWN.set(Known {
        attributes: Methods::note(&class, &behind, &[c"__setattr__"], &ATTRIBUTES)?,
        receiving: Methods::note(&class, &behind, &[c"data_received", c"_stream_reader"], &ATTRIBUTES)?,
        draining: Methods::note(&class, &behind, &[c"_drain_helper"], &ATTRIBUTES)?,
        class: behind,
        data_received: object::interned(c"data_received")?,
        feed_data: object::interned(c"feed_data")?,
        has_writer,
    });
    Ok(class)
}
