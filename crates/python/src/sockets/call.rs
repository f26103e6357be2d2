//! `SocketCall`: one call of `loop.sock_*`, its arguments, and what it waits for.

use std::cell::Cell;
use std::os::fd::RawFd;

use velodrome_engine::{Interest, Key};

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::{
    Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor, bytes, context, descriptor,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::state::state;
use crate::{handle, readers, waiters};

use super::attempt::{self, Attempt, Call};

/// The object of an operation, and the engine's job while it waits.
#[derive(Debug)]
pub struct SocketCall {
    call: Cell<Call>,
    event_loop: Slot,
    socket: Slot,
    first: Slot,
    second: Slot,
    /// What the operation waits for.
    future: Slot,
    /// The context of the attempts that the loop makes, where they can run Python.
    context: Slot,
    sent: Cell<usize>,
    key: Cell<Option<Key>>,
}

static HOME: Home = Home::new();

impl Class for SocketCall {
    const NAME: &'static std::ffi::CStr = c"velodrome.SocketCall";
    const SUBCLASSED: bool = false;
    const KEPT: usize = crate::cpython::class::KEPT;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> SocketCall {
        SocketCall {
            call: Cell::new(Call::Recv),
            event_loop: Slot::empty(),
            socket: Slot::empty(),
            first: Slot::empty(),
            second: Slot::empty(),
            future: Slot::empty(),
            context: Slot::empty(),
            sent: Cell::new(0),
            key: Cell::new(None),
        }
    }

    fn traverse(this: &Inst<SocketCall>, visitor: &mut Visitor<'_>) {
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<SocketCall>) {
        this.slots().into_iter().for_each(Slot::clear);
    }
}

impl SocketCall {
    fn slots(&self) -> [&Slot; 6] {
        [&self.event_loop, &self.socket, &self.first, &self.second, &self.future, &self.context]
    }

    /// A call that nobody has begun.
    #[inline]
    pub fn create(
        call: Call,
        event_loop: &Inst<EventLoop>,
        socket: &Obj,
        [first, second]: [&Obj; 2],
    ) -> Fallible<Own<SocketCall>> {
        let this = Own::<SocketCall>::new()?;
        this.call.set(call);
        this.event_loop.set(event_loop.obj().own());
        this.socket.set(socket.own());
        this.first.set(first.own());
        if !second.is_none() {
            this.second.set(second.own());
        }
        Ok(this)
    }

    /// Whether it is over, and only its registration is left.
    pub fn is_done(&self) -> bool {
        self.socket.is_empty()
    }

    /// What is called.
    pub fn kind(&self) -> Call {
        self.call.get()
    }
}

impl Inst<SocketCall> {
    fn with_loop<R>(&self, work: impl FnOnce(&Inst<EventLoop>) -> Fallible<R>) -> Fallible<R> {
        let held = self.event_loop.get_or_none();
        match Inst::<EventLoop>::of(&held) {
            Some(event_loop) => work(event_loop),
            None => Err(Raised::runtime_error("the call has no loop")),
        }
    }

    /// What asyncio refuses before anything else.
    #[inline]
    pub fn check(&self) -> Fallible<()> {
        let socket = self.socket.get_or_none();
        if !attempt::is_socket(&socket) {
            CHECK_SSL_SOCKET.get().call(&[&*socket])?;
        }
        if !self.with_loop(|event_loop| Ok(event_loop.is_debug()))? {
            return Ok(());
        }
        let timeout = socket.call_method(&*object::interned(c"gettimeout")?, &[])?;
        match timeout.equals(&state().zero)? {
            true => Ok(()),
            false => Err(Raised::value_error("the socket must be non-blocking")),
        }
    }

    /// Looks up the address to connect to, of an internet socket: what is to be awaited.
    pub fn resolve(&self) -> Fallible<Option<Ref>> {
        let socket = self.socket.get_or_none();
        let asked = |name| socket.get(&*object::interned(name)?);
        let family = asked(c"family")?;
        let internet = [libc::AF_INET, libc::AF_INET6];
        let mut resolved = false;
        for known in internet {
            resolved |= family.equals(&*object::int(i64::from(known))?)?;
        }
        if !resolved {
            return Ok(None);
        }
        let names = object::tuple(&[
            &*object::interned(c"family")?,
            &*object::interned(c"type")?,
            &*object::interned(c"proto")?,
            &*object::interned(c"loop")?,
        ])?;
        let event_loop = self.event_loop.get_or_none();
        let arguments: [&Obj; 5] = [
            &*self.first.get_or_none(),
            &*asked(c"family")?,
            &*asked(c"type")?,
            &*asked(c"proto")?,
            &event_loop,
        ];
        let ensure_resolved = object::interned(c"_ensure_resolved")?;
        event_loop.call_method_with_keywords(&ensure_resolved, &arguments, &names).map(Some)
    }

    /// Takes the address from what `getaddrinfo` gave.
    pub fn set_address(&self, resolved: &Obj) -> Fallible<()> {
        let first = resolved.call_method(&*object::interned(c"__getitem__")?, &[&*state().zero])?;
        let [_family, _kind, _protocol, _name, address] = &first.items()?[..] else {
            return Err(Raised::value_error("getaddrinfo() gave no address"));
        };
        self.first.set(address.clone());
        Ok(())
    }

    /// Tries once; None if it is too early.
    #[inline]
    pub fn attempt(&self) -> Fallible<Option<Ref>> {
        let (socket, first) = (self.socket.get_or_none(), self.first.get_or_none());
        let second = self.second.get_or_none();
        self.with_loop(|event_loop| {
            let attempt = Attempt {
                call: self.call.get(),
                event_loop,
                socket: &socket,
                arguments: [&first, &second],
                sent: &self.sent,
                again: !self.future.is_empty(),
            };
            attempt.run()
        })
    }

    /// Has the loop try again when the kernel says so; what is to be awaited.
    pub fn wait(&self) -> Fallible<Ref> {
        let socket = self.socket.get_or_none();
        self.with_loop(|event_loop| {
            let future = waiters::create_future(event_loop.obj())?;
            let descriptor = match attempt::direct_descriptor(&socket, self.call.get())? {
                Some(descriptor) => {
                    event_loop
                        .transports
                        .refuse(i64::from(descriptor), &*object::int(i64::from(descriptor))?)?;
                    descriptor
                }
                None => self.prepare_foreign(event_loop, &socket)?,
            };
            if self.call.get() == Call::SendAll && bytes::of_exact(&self.first.get_or_none()).is_none() {
                self.first.set(bytes::view(&self.first.get_or_none())?);
            }
            self.future.set(future.clone());
            let interest = if self.call.get().writes() { Interest::Write } else { Interest::Read };
            let job = Job::Socket(self.own());
            let key = readers::watch_call(event_loop, descriptor::borrowed(descriptor), interest, job)?;
            self.key.set(Some(key));
            Ok(future)
        })
    }

    /// Asks a socket whose methods will be called for its descriptor, and keeps the context for them.
    #[cold]
    fn prepare_foreign(&self, event_loop: &Inst<EventLoop>, socket: &Obj) -> Fallible<RawFd> {
        let number = socket.call_method(&*object::interned(c"fileno")?, &[])?;
        event_loop.obj().call_method(&*object::interned(c"_ensure_fd_no_transport")?, &[&*number])?;
        self.context.set(context::copy_current()?);
        descriptor::for_the_kernel(descriptor::of(&number)?)
    }

    /// The wait brought what was wanted. The registration rests, and owns nothing.
    #[inline]
    fn rest(&self) -> Fallible<()> {
        if let Some(key) = self.key.take() {
            self.with_loop(|event_loop| {
                event_loop.resting.add(key);
                Ok(())
            })?;
        }
        self.slots().into_iter().for_each(Slot::clear);
        Ok(())
    }

    /// The wait is over, whatever ended it.
    #[inline]
    pub fn end_wait(&self) {
        let Some(key) = self.key.take() else { return };
        if let Some(event_loop) = Inst::<EventLoop>::of(&self.event_loop.get_or_none()) {
            event_loop.unwatch(key);
        }
    }
}

/// Another has taken its place in the engine.
pub fn forget(this: &Inst<SocketCall>) {
    this.key.set(None);
}

/// The socket is ready. Fails only with what stops the loop.
pub fn run_ready(this: &Inst<SocketCall>) -> Fallible<()> {
    let Some(future) = this.future.get() else { return Ok(()) };
    // Ended or replaced in this very iteration.
    if this.key.get().is_none() || waiters::is_done(&future)? {
        return Ok(());
    }
    let outcome = match this.context.get() {
        Some(context) => context::within(&context, || try_again(this, &future)),
        None => try_again(this, &future),
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(raised) => handle::failed(&this.event_loop.get_or_none(), raised, || as_handle(this)),
    }
}

fn try_again(this: &Inst<SocketCall>, future: &Obj) -> Fallible<()> {
    match this.attempt() {
        Ok(None) => Ok(()),
        Ok(Some(outcome)) => {
            this.rest()?;
            waiters::set_result(future, &outcome)
        }
        Err(raised) => {
            let exception = raised.take();
            if stops_the_loop(&exception) {
                return Err(Raised::from_exception(exception));
            }
            this.end_wait();
            future.call_method(&state().names.set_exception, &[&exception]).map(drop)
        }
    }
}

/// See [`Job::as_handle`].
pub fn as_handle(this: &Inst<SocketCall>) -> Fallible<Ref> {
    let callback = this.obj().get(&*object::interned(c"_ready")?)?;
    let context = this.context.get().map_or_else(context::copy_current, Ok)?;
    handle::with_context(&this.event_loop.get_or_none(), &callback, &[], context).map(Own::into_ref)
}

fn py_ready(this: &Inst<SocketCall>) -> Fallible<Ref> {
    if let Some(future) = this.future.get()
        && !waiters::is_done(&future)?
    {
        try_again(this, &future)?;
    }
    Ok(none().own())
}

/// `base_events._check_ssl_socket`.
static CHECK_SSL_SOCKET: Global<Ref> = Global::new();

/// Makes the class.
pub fn define() -> Fallible<()> {
    let base_events = object::import(c"asyncio.base_events")?;
    CHECK_SSL_SOCKET.set(base_events.get(&*object::interned(c"_check_ssl_socket")?)?);
    crate::cpython::spec::define::<SocketCall>(Spec {
        methods: class_methods!(SocketCall, "SocketCall";
            c"_ready" => none py_ready, c"_ready($self, /)\n--\n\nTry again.";
        ),
        slots: class_slots!(SocketCall, "SocketCall";),
        ..Spec::default()
    })
    .map(drop)
}
