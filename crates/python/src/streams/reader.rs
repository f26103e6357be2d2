//! `StreamReader`: what a protocol feeds and a program reads (`reading`).

use std::cell::Cell;
use std::ffi::CStr;

use crate::cpython::bytes;
use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Raised, Ref, Signature, Slot, Spec, Visitor};
use crate::event_loop::EventLoop;
use crate::state::state;
use crate::waiters;

use super::buffer::Buffer;
use super::methods::Methods;
use super::shown::{self, Shown, is_shown};
use super::{assign_or_none, flag_attributes, reading, slot_attributes};

/// asyncio's default limit: 64 KiB.
const LIMIT: i64 = 1 << 16;

/// The class under `velodrome.StreamReader`.
#[derive(Debug)]
pub struct StreamReader {
    pub(super) buffer: Buffer,
    /// Whatever the program gave; `size` is its number, if it is a number of bytes.
    limit: Slot,
    size: Cell<Option<usize>>,
    pub(super) event_loop: Slot,
    /// The future of whoever waits for more.
    pub(super) waiter: Slot,
    pub(super) exception: Slot,
    transport: Slot,
    pub(super) source_traceback: Slot,
    pub(super) eof: Cell<bool>,
    /// We have told the transport to pause.
    paused: Cell<bool>,
    /// See [`Shown`].
    shown: Cell<bool>,
}

static HOME: Home = Home::new();

impl Class for StreamReader {
    const NAME: &'static std::ffi::CStr = c"velodrome.StreamReaderCore";
    const DICT: bool = true;
    const DERIVED_ONCE: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> StreamReader {
        StreamReader {
            buffer: Buffer::default(),
            limit: Slot::empty(),
            size: Cell::new(None),
            event_loop: Slot::empty(),
            waiter: Slot::empty(),
            exception: Slot::empty(),
            transport: Slot::empty(),
            source_traceback: Slot::empty(),
            eof: Cell::new(false),
            paused: Cell::new(false),
            shown: Cell::new(false),
        }
    }

    fn traverse(this: &Inst<StreamReader>, visitor: &mut Visitor<'_>) {
        this.buffer.traverse(visitor);
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<StreamReader>) {
        this.buffer.clear();
        this.slots().into_iter().for_each(Slot::clear);
    }
}

/// The attributes that asyncio's code uses.
const ATTRIBUTES: [&CStr; 9] = [
    c"_limit",
    c"_loop",
    c"_buffer",
    c"_eof",
    c"_waiter",
    c"_exception",
    c"_transport",
    c"_paused",
    c"_source_traceback",
];

impl Shown for StreamReader {
    fn shown(&self) -> &Cell<bool> {
        &self.shown
    }

    fn attributes(this: &Inst<StreamReader>) -> Fallible<Vec<(&'static CStr, Option<Ref>)>> {
        let values = [
            this.limit.get(),
            this.event_loop.get(),
            Some(this.buffer.show()?),
            Some(boolean(this.eof.get()).own()),
            Some(this.waiter.get_or_none()),
            Some(this.exception.get_or_none()),
            Some(this.transport.get_or_none()),
            Some(boolean(this.paused.get()).own()),
            this.source_traceback.get(),
        ];
        Ok(ATTRIBUTES.into_iter().zip(values).collect())
    }

    fn forget(this: &Inst<StreamReader>) {
        this.size.set(None);
        StreamReader::clear(this);
    }
}

/// What is looked up once.
#[derive(Debug)]
pub struct Known {
    /// What asyncio's methods call on a reader.
    methods: Methods,
    /// What they keep there.
    attributes: Methods,
    /// asyncio's class.
    pub class: Ref,
    pause_reading: Ref,
    resume_reading: Ref,
}

static KNOWN: Global<Known> = Global::new();

/// See [`Known`].
pub fn known() -> &'static Known {
    KNOWN.get()
}

impl StreamReader {
    fn slots(&self) -> [&Slot; 6] {
        [
            &self.limit,
            &self.event_loop,
            &self.waiter,
            &self.exception,
            &self.transport,
            &self.source_traceback,
        ]
    }
}

impl Inst<StreamReader> {
    /// Whether the reader can go the short way: the limit, if nothing about it is the program's own.
    #[inline]
    pub fn short_way(&self) -> Fallible<Option<usize>> {
        if KNOWN.get().methods.are_ours(self)? { Ok(self.plain_limit()) } else { Ok(None) }
    }

    /// The limit, if our code can go on with what is there, whatever was made of the methods meanwhile.
    #[inline]
    pub fn plain_limit(&self) -> Option<usize> {
        self.size.get().filter(|_| !self.buffer.is_strange())
    }

    /// asyncio's own method, as a function.
    pub fn stock(&self, method: &Obj) -> Fallible<Ref> {
        KNOWN.get().class.get(method)
    }

    /// What asyncio's own method makes of it.
    #[cold]
    fn call_stock(&self, method: &CStr, arguments: &[&Obj]) -> Fallible<Ref> {
        let arguments: Vec<_> = std::iter::once(self.obj()).chain(arguments.iter().copied()).collect();
        self.stock(&*object::interned(method)?)?.call(&arguments)
    }

    /// `_waiter = …`.
    pub fn set_waiter(&self, waiter: Option<Ref>) -> Fallible<()> {
        if is_shown(self) {
            let waiter = waiter.unwrap_or_else(|| none().own());
            return self.obj().set(&*object::interned(c"_waiter")?, &waiter);
        }
        match waiter {
            Some(waiter) => self.waiter.set(waiter),
            None => self.waiter.clear(),
        }
        Ok(())
    }

    fn set_limit(&self, limit: Option<&Obj>) -> Fallible<()> {
        let size = match limit.filter(|limit| limit.is_int()) {
            Some(limit) => usize::try_from(limit.to_i64_or_nearest()?).ok(),
            None => None,
        };
        self.size.set(size);
        super::assign(&self.limit, limit);
        Ok(())
    }
}

/// `feed_data(data)`, on the short way.
#[inline]
pub fn feed(this: &Inst<StreamReader>, limit: usize, data: &Obj) -> Fallible<()> {
    if this.eof.get() {
        super::not_asserted("feed_data after feed_eof")?;
    }
    match bytes::of_exact(data) {
        Some([]) => return Ok(()),
        Some(_) => this.buffer.push(data)?,
        None if !data.truthy()? => return Ok(()),
        None => this.buffer.extend(data)?,
    }
    wake(this)?;
    if this.paused.get() || this.transport.is_empty() || this.buffer.len() <= limit.saturating_mul(2) {
        return Ok(());
    }
    pause(this)
}

fn pause(this: &Inst<StreamReader>) -> Fallible<()> {
    match this.transport.get_or_none().call_method(&KNOWN.get().pause_reading, &[]) {
        Ok(_none) => this.paused.set(true),
        Err(raised) if raised.matches(object::not_implemented_error()) => {
            raised.discard();
            this.transport.clear(); // it is not asked again
        }
        Err(raised) => return Err(raised),
    }
    Ok(())
}

/// Lets whoever waits go on.
#[inline]
fn wake(this: &Inst<StreamReader>) -> Fallible<()> {
    match this.waiter.take() {
        Some(waiter) if !waiters::is_cancelled(&waiter)? => waiters::set_result(&waiter, none()),
        _ => Ok(()),
    }
}

/// Lets the transport go on if it was paused, whatever is there.
pub fn resume(this: &Inst<StreamReader>) -> Fallible<()> {
    if this.paused.replace(false) {
        this.transport.get_or_none().call_method(&KNOWN.get().resume_reading, &[])?;
    }
    Ok(())
}

/// Lets the transport go on if it was paused and little is left.
#[inline]
pub fn maybe_resume(this: &Inst<StreamReader>, limit: usize) -> Fallible<()> {
    if this.paused.get() && this.buffer.len() <= limit { resume(this) } else { Ok(()) }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn py_init(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<()> {
    let [limit, event_loop] = args.parse(&Signature {
        function: "StreamReader.__init__",
        names: ["limit", "loop"],
        positional: 2,
        required: 0,
    })?;
    let default = object::int(LIMIT)?;
    let limit = limit.unwrap_or(&default);
    if !is_shown(this) && !KNOWN.get().attributes.are_of_class(this.obj())? {
        shown::begin(this);
    }
    let event_loop = event_loop.unwrap_or(none());
    if event_loop.is_none() || is_shown(this) {
        // Which loop is meant by none, and who is warned, depends on the version.
        return this.call_stock(c"__init__", &[limit, event_loop]).map(drop);
    }
    if limit.is_at_most(&state().zero)? {
        return Err(Raised::value_error("Limit cannot be <= 0"));
    }
    this.set_limit(Some(limit))?;
    this.event_loop.set(event_loop.own());
    this.buffer.clear();
    this.eof.set(false);
    this.paused.set(false);
    for slot in [&this.waiter, &this.exception, &this.transport, &this.source_traceback] {
        slot.clear();
    }
    let debug = match Inst::<EventLoop>::of(event_loop) {
        Some(ours) => ours.is_debug(),
        None => event_loop.call_method(&state().names.get_debug, &[])?.truthy()?,
    };
    if debug {
        this.source_traceback.set(state().extract_stack()?);
    }
    Ok(())
}

fn py_exception(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if is_shown(this) {
        return this.call_stock(c"exception", &[]);
    }
    Ok(this.exception.get_or_none())
}

fn py_set_exception(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    let exception = args.only("StreamReader.set_exception", "exc")?;
    if is_shown(this) {
        return this.call_stock(c"set_exception", &[exception]);
    }
    assign_or_none(&this.exception, Some(exception));
    if let Some(waiter) = this.waiter.take()
        && !waiters::is_cancelled(&waiter)?
    {
        waiter.call_method(&state().names.set_exception, &[exception])?;
    }
    Ok(none().own())
}

fn py_wakeup_waiter(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if is_shown(this) {
        return this.call_stock(c"_wakeup_waiter", &[]);
    }
    wake(this)?;
    Ok(none().own())
}

fn py_set_transport(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    let transport = args.only("StreamReader.set_transport", "transport")?;
    if is_shown(this) {
        return this.call_stock(c"set_transport", &[transport]);
    }
    if !this.transport.is_empty() {
        super::not_asserted("Transport already set")?;
    }
    assign_or_none(&this.transport, Some(transport));
    Ok(none().own())
}

fn py_feed_data(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    let data = args.only("StreamReader.feed_data", "data")?;
    match this.short_way()? {
        Some(limit) => feed(this, limit, data)?,
        None => drop(this.call_stock(c"feed_data", &[data])?),
    }
    Ok(none().own())
}

fn py_feed_eof(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if this.short_way()?.is_none() {
        return this.call_stock(c"feed_eof", &[]);
    }
    this.eof.set(true);
    wake(this)?;
    Ok(none().own())
}

fn py_at_eof(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if is_shown(this) || this.buffer.is_strange() {
        return this.call_stock(c"at_eof", &[]);
    }
    Ok(boolean(this.eof.get() && this.buffer.is_empty()).own())
}

fn py_iter(this: &Inst<StreamReader>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn py_buffer(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if is_shown(this) {
        return shown::get(this.obj(), c"_buffer");
    }
    this.buffer.show()
}

fn py_set_buffer(this: &Inst<StreamReader>, value: Option<&Obj>) -> Fallible<()> {
    if is_shown(this) {
        return shown::set(this.obj(), c"_buffer", value);
    }
    match value {
        Some(value) => this.buffer.replace(value.own()),
        None => this.buffer.clear(),
    }
    Ok(())
}

fn py_limit(this: &Inst<StreamReader>) -> Fallible<Ref> {
    if is_shown(this) {
        return shown::get(this.obj(), c"_limit");
    }
    super::set_attribute(this.obj(), &this.limit, "_limit")
}

fn py_set_limit(this: &Inst<StreamReader>, value: Option<&Obj>) -> Fallible<()> {
    if is_shown(this) {
        return shown::set(this.obj(), c"_limit", value);
    }
    this.set_limit(value)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods = class_methods!(StreamReader, "StreamReader";
        c"exception" => none py_exception,
            c"exception($self, /)\n--\n\nReturn the exception that reading fails with, or None.";
        c"set_exception" => any py_set_exception,
            c"set_exception($self, exc)\n--\n\nMake reading fail, for whoever waits and from now on.";
        c"set_transport" => any py_set_transport,
            c"set_transport($self, transport)\n--\n\nSet the transport that is paused when too much comes.";
        c"_wakeup_waiter" => none py_wakeup_waiter,
            c"_wakeup_waiter($self, /)\n--\n\nLet whoever waits for data go on.";
        c"feed_data" => any py_feed_data,
            c"feed_data($self, data)\n--\n\nAdd bytes to what can be read. When that is more than twice the limit, the \
              transport is paused.";
        c"feed_eof" => none py_feed_eof, c"feed_eof($self, /)\n--\n\nNothing more will come.";
        c"at_eof" => none py_at_eof,
            c"at_eof($self, /)\n--\n\nReturn True if everything is read and nothing more will come.";
        c"__aiter__" => none py_iter, c"__aiter__($self, /)\n--\n\nReturn the reader, an iterator over lines.";
    );
    methods.extend(reading::methods());
    let mut attributes = class_attributes!(StreamReader, "StreamReader";
        c"_buffer" => py_buffer, py_set_buffer;
        c"_limit" => py_limit, py_set_limit;
        c"__dict__" => shown::dict, shown::set_dict;
    );
    attributes.extend(slot_attributes!(StreamReader, "StreamReader";
        c"_loop" => required event_loop;
        c"_waiter" => optional waiter;
        c"_exception" => optional exception;
        c"_transport" => optional transport;
        c"_source_traceback" => optional source_traceback;
    ));
    attributes.extend(flag_attributes!(StreamReader, "StreamReader";
        c"_eof" => eof;
        c"_paused" => paused;
    ));
    let class = crate::cpython::spec::define::<StreamReader>(Spec {
        base: None,
        doc: Some(c"StreamReaderCore(limit=65536, loop=None)\n--\n\nWhat StreamReader does natively."),
        methods,
        attributes,
        slots: class_slots!(StreamReader, "StreamReader"; init py_init),
    })?;
    let behind = object::import(c"asyncio.streams")?.get(&*object::interned(c"StreamReader")?)?;
    reading::define(&behind)?;
    crate::module::mark_methods(&class, &behind)?;
    let methods = Methods::note(
        &class,
        &behind,
        &[
            c"_maybe_resume_transport",
            c"_wait_for_data",
            c"_wakeup_waiter",
            c"exception",
            c"feed_data",
            c"read",
            c"readline",
            c"readuntil",
        ],
        &ATTRIBUTES,
    )?;
    KNOWN.set(Known {
        methods,
        attributes: Methods::note(&class, &behind, &[c"__setattr__"], &ATTRIBUTES)?,
        class: behind,
        pause_reading: object::interned(c"pause_reading")?,
        resume_reading: object::interned(c"resume_reading")?,
    });
    Ok(class)
}
