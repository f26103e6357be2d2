//! What every transport of a stream is made of, be it a socket or a pipe: the loop, the protocol, what owns the descriptor,
//! and the two directions in which the engine watches it.
//!
//! A class of transports has a `Stream` in its structure and is a `Streaming`; one that sends is a `Writing` as well. What
//! is written for these (here, in `flow` and in `closing`) is there once for all of them. A transport that only reads
//! leaves the half for writing at rest.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::os::fd::RawFd;

use velodrome_engine::{Interest, Key};

use crate::cpython::object::{self, boolean, none};
use crate::cpython::socket::Socket;
use crate::cpython::transport_slots::TransportLayout;
use crate::cpython::{Fallible, Inst, Obj, Own, Raised, Ref, Slot, Visitor};
use crate::event_loop::EventLoop;
use crate::handle;
use crate::job::Job;
use crate::state::state;

use super::outgoing::Outgoing;
use super::{closing, flow};

/// The part that all have.
#[derive(Debug)]
pub struct Stream {
    pub event_loop: Slot,
    pub protocol: Slot,
    /// The Python socket or file that owns the descriptor.
    pub socket: Socket,
    /// The descriptor's number when the transport was made, which is what it is called by.
    pub number: Cell<RawFd>,
    /// The context of all callbacks, if one was given; otherwise each has the context of whoever asked for it.
    pub context: Slot,
    pub reading: Watch,
    pub writing: Watch,
    pub outgoing: RefCell<Outgoing>,
    pub limits: flow::Limits,
    pub paused: Cell<bool>,
    pub closing: Cell<bool>,
    /// Counts what is written in vain. A socket's is nonzero as soon as `connection_lost` is scheduled.
    pub lost: Cell<u32>,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            event_loop: Slot::empty(),
            protocol: Slot::empty(),
            socket: Socket::default(),
            number: Cell::new(-1),
            context: Slot::empty(),
            reading: Watch::default(),
            writing: Watch::default(),
            outgoing: RefCell::default(),
            limits: flow::Limits::default(),
            paused: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(0),
        }
    }
}

/// A registration with the engine, for one direction.
#[derive(Debug, Default)]
pub struct Watch {
    key: Cell<Option<Key>>,
    /// The iteration in which it was made. An event that runs in the same one was queued for an earlier registration, and
    /// is void, as the handle is that asyncio cancels.
    since: Cell<u32>,
    /// The context of what readiness brings.
    pub context: Slot,
}

impl Watch {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.key.get().is_some()
    }

    /// Whether it was made in this iteration.
    pub fn is_new(&self, iteration: u32) -> bool {
        self.since.get() == iteration
    }
}

impl Stream {
    fn slots(&self) -> [&Slot; 7] {
        let [high, low] = self.limits.slots();
        [
            &self.event_loop,
            &self.protocol,
            &self.context,
            &self.reading.context,
            &self.writing.context,
            high,
            low,
        ]
    }

    /// Whether `close()` or `abort()` was called, or the connection is lost.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether the socket or file is closed.
    pub fn is_released(&self) -> bool {
        self.socket.is_empty()
    }

    /// Whether what comes in is wanted.
    pub fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }
}

/// A class of transports over a stream.
pub trait Streaming: TransportLayout + Deref<Target = Stream> {
    /// What is to be done when the descriptor can be read.
    fn readable(this: Own<Self>) -> Job;
}

/// One that sends.
pub trait Writing: Streaming {
    /// What is to be done when the descriptor can be written.
    fn writable(this: Own<Self>) -> Job;

    /// How much waits to be sent.
    fn kept(this: &Inst<Self>) -> usize {
        this.outgoing.borrow().size()
    }
}

/// See [`crate::cpython::Class::traverse`].
pub fn traverse<T: Streaming>(this: &Inst<T>, visitor: &mut Visitor<'_>) {
    visitor.slot(this.extra_slot());
    this.socket.traverse(visitor);
    this.slots().into_iter().for_each(|slot| visitor.slot(slot));
}

/// See [`crate::cpython::Class::clear`].
pub fn clear<T: Streaming>(this: &Inst<T>) {
    this.extra_slot().clear();
    drop(this.socket.take());
    this.slots().into_iter().for_each(Slot::clear);
}

/// What is done with the loop.
impl<T: Streaming> Inst<T> {
    /// The loop; none after `connection_lost`.
    pub fn event_loop(&self) -> Option<Own<EventLoop>> {
        self.event_loop.get().and_then(|held| Inst::<EventLoop>::of(&held).map(Inst::own))
    }

    /// Whether the loop is in debug mode.
    pub fn is_debug(&self) -> bool {
        self.event_loop().is_some_and(|event_loop| event_loop.is_debug())
    }

    /// `loop.call_soon(callback, *arguments)`, in the transport's context if it has one.
    pub fn call_soon(&self, callback: &Obj, arguments: &[&Obj]) -> Fallible<()> {
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
    pub fn callback(&self, name: &Obj) -> Fallible<Ref> {
        self.obj().get(name)
    }

    fn callback_context(&self) -> Fallible<Ref> {
        self.context.get().map_or_else(crate::cpython::context::copy_current, Ok)
    }

    /// Watches for something to read.
    pub fn start_reading(&self) -> Fallible<()> {
        self.watch(&self.reading, Interest::Read, T::readable(self.own()))
    }

    /// Ends that.
    pub fn stop_reading(&self) {
        self.unwatch(&self.reading);
    }

    /// Ends watching for room to write.
    pub fn stop_writing(&self) {
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
    #[inline]
    pub fn run_ready(
        &self,
        event_loop: &Inst<EventLoop>,
        watch: &Watch,
        name: &Obj,
        work: impl FnOnce() -> Fallible<()>,
    ) -> Fallible<()> {
        let Some(context) = watch.context.get() else { return Ok(()) };
        if !watch.is_on() || watch.is_new(event_loop.iteration.get()) || self.event_loop.is_empty() {
            return Ok(());
        }
        match crate::cpython::context::within(&context, work) {
            Ok(()) => Ok(()),
            Err(raised) => handle::failed(event_loop.obj(), raised, || self.ready_handle(name)),
        }
    }

    /// The handle that asyncio would have queued.
    pub fn ready_handle(&self, name: &Obj) -> Fallible<Ref> {
        let event_loop = self.event_loop.get_or_none();
        let context = self.callback_context()?;
        handle::with_context(&event_loop, &*self.callback(name)?, &[], context).map(Own::into_ref)
    }
}

impl<T: Writing> Inst<T> {
    /// Watches for room to write.
    pub fn start_writing(&self) -> Fallible<()> {
        self.watch(&self.writing, Interest::Write, T::writable(self.own()))
    }
}

/// See [`Job::as_handle`].
pub fn readable_handle<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    this.ready_handle(&state().names.read_ready)
}

/// See [`Job::as_handle`].
pub fn writable_handle<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    this.ready_handle(&state().names.write_ready)
}

/// An argument, unless it is None.
pub fn given(value: Option<&Obj>) -> Option<Ref> {
    value.filter(|value| !value.is_none()).map(Obj::own)
}

/// How the constructors of all begin.
pub fn begin<T: Streaming>(this: &Inst<T>, event_loop: &Obj, extra: Option<&Obj>) -> Fallible<()> {
    if Inst::<EventLoop>::of(event_loop).is_none() {
        return Err(Raised::type_error(&format!(
            "a velodrome loop is expected, not {}",
            event_loop.class_name()
        )));
    }
    if !this.event_loop.is_empty() || this.number.get() >= 0 {
        return Err(Raised::runtime_error("the transport is initialised already"));
    }
    this.event_loop.set(event_loop.own());
    this.extra_slot().set(given(extra).map_or_else(|| object::dict(&[]), Ok)?);
    this.limits.reset()
}

/// How they end: the protocol is told of the connection, then the descriptor is watched if it `reads`, then whoever waits
/// goes on.
pub fn announce<T: Streaming>(
    this: &Inst<T>,
    protocol: &Obj,
    reads: bool,
    waiter: Option<&Obj>,
) -> Fallible<()> {
    let names = &state().names;
    this.call_soon(&*protocol.get(&names.connection_made)?, &[this.obj()])?;
    if reads {
        this.call_soon(&*this.callback(&names.begin_reading)?, &[])?;
    }
    if let Some(waiter) = given(waiter) {
        this.call_soon(&state().set_result_unless_cancelled, &[&waiter, none()])?;
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// What they have in common as Python sees it.

/// `is_closing()`.
pub fn py_is_closing<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.is_closing()).own())
}

/// `get_protocol()`.
pub fn py_get_protocol<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.protocol.get_or_none())
}

/// `is_reading()`.
pub fn py_is_reading<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.is_reading()).own())
}

/// `pause_reading()`.
pub fn py_pause_reading<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    if this.is_reading() {
        this.paused.set(true);
        this.stop_reading();
        if this.is_debug() {
            closing::log_debug(c"%r pauses reading", &[this.obj()])?;
        }
    }
    Ok(none().own())
}

/// `resume_reading()`.
pub fn py_resume_reading<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    if !this.closing.get() && this.paused.get() {
        this.paused.set(false);
        this.start_reading()?;
        if this.is_debug() {
            closing::log_debug(c"%r resumes reading", &[this.obj()])?;
        }
    }
    Ok(none().own())
}

/// `_begin_reading()`: called when `connection_made` has been called, which may have paused or closed.
pub fn py_begin_reading<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    if this.is_reading() {
        this.start_reading()?;
    }
    Ok(none().own())
}

/// `_loop`.
pub fn py_loop<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.event_loop.get_or_none())
}

/// `_sock` or `_pipe`.
pub fn py_socket<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.socket.get().unwrap_or_else(|| none().own()))
}

/// The same, set.
pub fn py_set_socket<T: Streaming>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    match value.filter(|value| !value.is_none()) {
        Some(socket) => this.socket.set(socket),
        None => {
            drop(this.socket.take());
            Ok(())
        }
    }
}

/// `_sock_fd` or `_fileno`.
pub fn py_number<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    object::int(i64::from(this.number.get()))
}

/// `_paused`.
pub fn py_paused<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.paused.get()).own())
}

/// `_conn_lost`.
pub fn py_lost<T: Streaming>(this: &Inst<T>) -> Fallible<Ref> {
    object::int(i64::from(this.lost.get()))
}

/// How a transport shows itself: its class, what has become of it, and its descriptor; not closed by an angle bracket yet.
pub fn shown<T: Streaming>(this: &Inst<T>) -> String {
    let state = match (this.is_released(), this.is_closing()) {
        (true, _) => " closed",
        (false, true) => " closing",
        (false, false) => "",
    };
    format!("<{}{state} fd={}", this.obj().class_name(), this.number.get())
}

/// Whether a direction is watched, in the words of that.
pub fn polls(watch: &Watch) -> &'static str {
    if watch.is_on() { "polling" } else { "idle" }
}

/// Whether there is a loop that is still open.
pub fn has_open_loop<T: Streaming>(this: &Inst<T>) -> bool {
    this.event_loop().is_some_and(|event_loop| event_loop.engine.borrow().is_some())
}

/// The methods by which a program says whether it wants what comes in, for a class of transports.
macro_rules! pausing_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"is_reading" => none $crate::transport::stream::py_is_reading,
                c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.";
            c"pause_reading" => none $crate::transport::stream::py_pause_reading,
                c"pause_reading($self, /)\n--\n\nHand nothing over to the protocol until resume_reading() is called.";
            c"resume_reading" => none $crate::transport::stream::py_resume_reading,
                c"resume_reading($self, /)\n--\n\nGo on handing what comes in over to the protocol.";
        )
    };
}

pub(super) use pausing_methods;
