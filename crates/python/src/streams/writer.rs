//! `StreamWriter`: writing to a transport, and waiting until it has room.
//!
//! `drain()` below the high-water mark does not suspend. On a transport of ours writing goes straight to it.

use std::cell::Cell;
use std::ffi::CStr;

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Spec, Visitor,
};
use crate::operation::{self, Kind, Operation, Step};
use crate::state::state;
use crate::transport::{SocketTransport, writing};

use super::methods::Methods;
use super::protocol;
use super::reader::{self, StreamReader};
use super::shown::{self, Shown, is_shown};
use super::{reading, slot_attributes};

/// The class under `velodrome.StreamWriter`.
#[derive(Debug)]
pub struct StreamWriter {
    transport: Slot,
    protocol: Slot,
    reader: Slot,
    event_loop: Slot,
    /// A future that is done, which asyncio's has for whoever asks; made when somebody does.
    complete: Slot,
    /// See [`Shown`].
    shown: Cell<bool>,
}

static HOME: Home = Home::new();

impl Class for StreamWriter {
    const NAME: &'static std::ffi::CStr = c"velodrome.StreamWriterCore";
    const DICT: bool = true;
    const DERIVED_ONCE: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> StreamWriter {
        StreamWriter {
            transport: Slot::empty(),
            protocol: Slot::empty(),
            reader: Slot::empty(),
            event_loop: Slot::empty(),
            complete: Slot::empty(),
            shown: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<StreamWriter>, visitor: &mut Visitor<'_>) {
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<StreamWriter>) {
        this.slots().into_iter().for_each(Slot::clear);
    }
}

impl StreamWriter {
    fn slots(&self) -> [&Slot; 5] {
        [&self.transport, &self.protocol, &self.reader, &self.event_loop, &self.complete]
    }
}

/// The attributes that asyncio's code uses.
const ATTRIBUTES: [&CStr; 5] = [c"_transport", c"_protocol", c"_reader", c"_loop", c"_complete_fut"];

impl Shown for StreamWriter {
    fn shown(&self) -> &Cell<bool> {
        &self.shown
    }

    fn attributes(this: &Inst<StreamWriter>) -> Fallible<Vec<(&'static CStr, Option<Ref>)>> {
        // Of one whose `__init__` did not get to its end there is none.
        let complete = if this.event_loop.is_empty() { None } else { Some(py_complete(this)?) };
        let [transport, protocol, reader, event_loop, _complete] = this.slots().map(Slot::get);
        Ok(ATTRIBUTES.into_iter().zip([transport, protocol, reader, event_loop, complete]).collect())
    }

    fn forget(this: &Inst<StreamWriter>) {
        StreamWriter::clear(this);
    }
}

impl Inst<StreamWriter> {
    /// The writer whose operation this is.
    fn of_operation<R>(
        operation: &Inst<Operation>,
        work: impl FnOnce(&Inst<StreamWriter>) -> Fallible<R>,
    ) -> Fallible<R> {
        let owner = operation.owner.get_or_none();
        match Inst::<StreamWriter>::of(&owner) {
            Some(this) => work(this),
            None => Err(Raised::runtime_error("the operation has no owner")),
        }
    }

    fn the_transport(&self) -> Fallible<Ref> {
        super::held(self.obj(), &self.transport, c"_transport")
    }

    fn the_protocol(&self) -> Fallible<Ref> {
        super::held(self.obj(), &self.protocol, c"_protocol")
    }

    /// `self._transport.method(arguments)`.
    fn ask(&self, method: &Obj, arguments: &[&Obj]) -> Fallible<Ref> {
        self.the_transport()?.call_method(method, arguments)
    }
}

/// What is looked up once.
#[derive(Debug)]
struct Known {
    /// asyncio's class.
    class: Ref,
    /// What its methods keep in a writer.
    attributes: Methods,
    close: Ref,
    drain_helper: Ref,
    get_close_waiter: Ref,
    get_extra_info: Ref,
    is_closing: Ref,
    write: Ref,
    writelines: Ref,
}

static KNOWN: Global<Known> = Global::new();

// ---------------------------------------------------------------------------------------------------------------
// Waiting for room, and for the end.

static DRAIN: Kind =
    Kind { name: "drain", qualname: "StreamWriter.drain", begin: begin_drain, resume: resume_drain };

/// Stages of `drain()`: it has given way, so that the end of the connection is heard of; it waits for room.
const GAVE_WAY: u8 = 1;
const HELPED: u8 = 2;

fn begin_drain(operation: &Inst<Operation>) -> Fallible<Step> {
    Inst::<StreamWriter>::of_operation(operation, |this| {
        let reader = super::held(this.obj(), &this.reader, c"_reader")?;
        if let Some(exception) = exception_of(&reader)? {
            return Err(reading::raise(&exception));
        }
        let transport = this.the_transport()?;
        let closing = match plain_transport(&transport) {
            Some(transport) => transport.is_closing(),
            None => transport.call_method(&KNOWN.get().is_closing, &[])?.truthy()?,
        };
        if closing {
            operation.stage.set(GAVE_WAY);
            return Ok(Step::GiveWay);
        }
        help(operation, this)
    })
}

fn resume_drain(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    outcome?;
    if operation.stage.get() == HELPED {
        return Ok(Step::Done(none().own()));
    }
    Inst::<StreamWriter>::of_operation(operation, |this| help(operation, this))
}

/// `await self._protocol._drain_helper()`.
fn help(operation: &Inst<Operation>, this: &Inst<StreamWriter>) -> Fallible<Step> {
    let protocol = this.the_protocol()?;
    if protocol::has_room(&protocol)? {
        return Ok(Step::Done(none().own()));
    }
    operation.stage.set(HELPED);
    protocol.call_method(&KNOWN.get().drain_helper, &[]).map(Step::Await)
}

/// `reader.exception()`, if there is a reader and an exception.
fn exception_of(reader: &Obj) -> Fallible<Option<Ref>> {
    if reader.is_none() {
        return Ok(None);
    }
    if let Some(ours) = Inst::<StreamReader>::of(reader)
        && ours.short_way()?.is_some()
    {
        return Ok(ours.exception.get());
    }
    let exception = reader.call_method(&state().names.exception, &[])?;
    Ok((!exception.is_none()).then_some(exception))
}

/// A transport of ours on which nobody has replaced anything.
#[inline]
fn plain_transport(transport: &Obj) -> Option<&Inst<SocketTransport>> {
    Inst::<SocketTransport>::exactly(transport).filter(|transport| transport.is_plain())
}

static WAIT_CLOSED: Kind = Kind {
    name: "wait_closed",
    qualname: "StreamWriter.wait_closed",
    begin: |operation| {
        Inst::<StreamWriter>::of_operation(operation, |this| {
            let protocol = this.the_protocol()?;
            protocol.call_method(&KNOWN.get().get_close_waiter, &[this.obj()]).map(Step::Await)
        })
    },
    resume: |_operation, outcome| outcome.map(|_result| Step::Done(none().own())),
};

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<StreamWriter>, args: Args<'_>) -> Fallible<()> {
    let [transport, protocol, reader, event_loop] = args.parse(&Signature {
        function: "StreamWriter.__init__",
        names: ["transport", "protocol", "reader", "loop"],
        positional: 4,
        required: 4,
    })?;
    let reader = reader.unwrap_or(none());
    if !is_shown(this) && !KNOWN.get().attributes.are_of_class(this.obj())? {
        shown::begin(this);
    }
    if is_shown(this) {
        let [transport, protocol, event_loop] =
            [transport, protocol, event_loop].map(|it| it.unwrap_or(none()));
        let init = KNOWN.get().class.get(&*object::interned(c"__init__")?)?;
        return init.call(&[this.obj(), transport, protocol, reader, event_loop]).map(drop);
    }
    super::assign(&this.transport, transport);
    super::assign(&this.protocol, protocol);
    let class = &reader::known().class;
    // Also what only says that it is one, as a mock made to its specification does.
    if !reader.is_none() && !reader.derives_from(class) && !reader.is_instance(class)? {
        super::not_asserted("")?;
    }
    this.reader.set(reader.own());
    super::assign(&this.event_loop, event_loop);
    this.complete.clear();
    Ok(())
}

fn py_write(this: &Inst<StreamWriter>, args: Args<'_>) -> Fallible<Ref> {
    let data = args.only("StreamWriter.write", "data")?;
    let transport = this.the_transport()?;
    match plain_transport(&transport) {
        Some(transport) => writing::write(transport, data)?,
        None => drop(transport.call_method(&KNOWN.get().write, &[data])?),
    }
    Ok(none().own())
}

fn py_writelines(this: &Inst<StreamWriter>, args: Args<'_>) -> Fallible<Ref> {
    this.ask(&KNOWN.get().writelines, &[args.only("StreamWriter.writelines", "data")?])?;
    Ok(none().own())
}

fn py_close(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    this.ask(&KNOWN.get().close, &[])
}

fn py_is_closing(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    this.ask(&KNOWN.get().is_closing, &[])
}

fn py_get_extra_info(this: &Inst<StreamWriter>, args: Args<'_>) -> Fallible<Ref> {
    let [name, default] = args.parse(&Signature {
        function: "StreamWriter.get_extra_info",
        names: ["name", "default"],
        positional: 2,
        required: 1,
    })?;
    this.ask(&KNOWN.get().get_extra_info, &[name.unwrap_or(none()), default.unwrap_or(none())])
}

fn py_drain(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    operation::create(&DRAIN, this.obj()).map(Own::into_ref)
}

fn py_wait_closed(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    operation::create(&WAIT_CLOSED, this.obj()).map(Own::into_ref)
}

fn py_transport(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    this.the_transport()
}

fn py_complete(this: &Inst<StreamWriter>) -> Fallible<Ref> {
    if is_shown(this) {
        return shown::get(this.obj(), c"_complete_fut");
    }
    if this.complete.is_empty() {
        let event_loop = super::set_attribute(this.obj(), &this.event_loop, "_loop")?;
        let complete = crate::waiters::create_future(&event_loop)?;
        crate::waiters::set_result(&complete, none())?;
        this.complete.set(complete);
    }
    Ok(this.complete.get_or_none())
}

fn py_set_complete(this: &Inst<StreamWriter>, value: Option<&Obj>) -> Fallible<()> {
    if is_shown(this) {
        return shown::set(this.obj(), c"_complete_fut", value);
    }
    super::assign(&this.complete, value);
    Ok(())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut attributes = class_attributes!(StreamWriter, "StreamWriter";
        c"transport" => py_transport;
        c"_complete_fut" => py_complete, py_set_complete;
        c"__dict__" => shown::dict, shown::set_dict;
    );
    attributes.extend(slot_attributes!(StreamWriter, "StreamWriter";
        c"_transport" => required transport;
        c"_protocol" => required protocol;
        c"_reader" => required reader;
        c"_loop" => required event_loop;
    ));
    let class = crate::cpython::spec::define::<StreamWriter>(Spec {
        base: None,
        doc: Some(
            c"StreamWriterCore(transport, protocol, reader, loop)\n--\n\nWhat StreamWriter does natively.",
        ),
        methods: class_methods!(StreamWriter, "StreamWriter";
            c"write" => any py_write,
                c"write($self, data)\n--\n\nWrite some bytes; what the kernel does not take at once is kept. This does \
                  not wait: drain() does.";
            c"writelines" => any py_writelines,
                c"writelines($self, data)\n--\n\nWrite the bytes of an iterable, one after the other.";
            c"close" => none py_close,
                c"close($self, /)\n--\n\nClose the transport, once what is kept is sent.";
            c"is_closing" => none py_is_closing,
                c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.";
            c"get_extra_info" => any py_get_extra_info,
                c"get_extra_info($self, name, default=None)\n--\n\nReturn what the transport knows by that name.";
            c"drain" => none py_drain,
                c"drain($self, /)\n--\n\nWait until the transport has room for more; it usually has.";
            c"wait_closed" => none py_wait_closed,
                c"wait_closed($self, /)\n--\n\nWait until the transport is closed.";
        ),
        attributes,
        slots: class_slots!(StreamWriter, "StreamWriter"; init py_init),
    })?;
    let behind = object::import(c"asyncio.streams")?.get(&*object::interned(c"StreamWriter")?)?;
    crate::module::mark_methods(&class, &behind)?;
    KNOWN.set(Known {
        attributes: Methods::note(&class, &behind, &[c"__setattr__"], &ATTRIBUTES)?,
        class: behind,
        close: object::interned(c"close")?,
        drain_helper: object::interned(c"_drain_helper")?,
        get_close_waiter: object::interned(c"_get_close_waiter")?,
        get_extra_info: object::interned(c"get_extra_info")?,
        is_closing: object::interned(c"is_closing")?,
        write: object::interned(c"write")?,
        writelines: object::interned(c"writelines")?,
    });
    Ok(class)
}
