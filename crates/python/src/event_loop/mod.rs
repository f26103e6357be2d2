//! `LoopCore`: the part of the event loop that is Rust. `velodrome.Loop` is a Python class over it.
//!
//! It owns the engine. **The engine is borrowed for single operations only**, never while Python can run: a job is
//! taken out, the borrow ends, the job runs; a job that is removed is dropped after the borrow; and the loop waits
//! with nothing borrowed, so that other threads can call in meanwhile.
//!
//! The methods are in `methods`, scheduling is in `scheduling`, running in `run`, descriptors in `readers`.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use velodrome_engine::{Engine, Interest, Key, Time, TimerKey};

use crate::cpython::address::Addresses;
use crate::cpython::host::HostSlot;
use crate::cpython::object::{self, none};
use crate::cpython::socket::Overflow;
use crate::cpython::spare_bytes::SpareBytes;
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Slot, Visitor};
use crate::handle;
use crate::job::Job;
use crate::listener::Listener;
use crate::readers::{self, Readers};
use crate::run;
use crate::sockets::Resting;
use crate::state::state;
use crate::task::{self, Options, SharedContext, Task};
use crate::transport::turn::Turns;
use crate::transports::Transports;

mod methods;

pub use methods::define;

/// The class `LoopCore`.
#[derive(Debug)]
pub struct EventLoop {
    /// None before `__init__` and after `close()`.
    pub(crate) engine: RefCell<Option<Engine<Job>>>,
    pub(crate) readers: Readers,
    pub(crate) transports: Transports,
    /// For reads that bring more than was expected.
    pub(crate) overflow: Overflow,
    /// For reads that bring as much as the last one did.
    pub(crate) spare: SpareBytes,
    /// What the last `sock_recv` brought, which the next one is likely to bring as well.
    pub(crate) expected: Cell<usize>,
    pub(crate) resting: Resting,
    pub(crate) addresses: Addresses,
    pub(crate) turns: Turns,
    /// Made when somebody asks for it.
    host: RefCell<Option<HostSlot>>,
    /// The capsule that it is handed out in.
    capsule: Slot,
    closed: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    /// Counts iterations, from the moment that the kernel has been asked.
    pub(crate) iteration: Cell<u32>,
    debug: Cell<bool>,
    /// The thread that runs the loop; 0 is none.
    thread: Cell<u64>,
    hooks: Cell<Hooks>,
    task_factory: Slot,
    pub(crate) shared_context: SharedContext,
    /// After how many iterations the kernel is asked even if nothing seems to need it.
    pub(crate) poll_every: Cell<u32>,
}

/// Methods that a program has replaced, on its subclass or on the instance. What we would do natively then goes
/// through them, as it does in asyncio.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks {
    /// Or debug mode, in which every step is to have a handle that knows where it was queued, or a replaced
    /// `asyncio.Handle._run`, which is to run them all.
    pub call_soon: bool,
    pub call_at: bool,
    pub call_later: bool,
    pub time: bool,
    pub create_future: bool,
    pub create_task: bool,
    /// `asyncio.tasks.Task` and `asyncio.futures.Future` are neither asyncio's own nor ours.
    pub task_class: bool,
    pub future_class: bool,
}

static HOME: Home = Home::new();

impl Class for EventLoop {
    const NAME: &'static std::ffi::CStr = c"velodrome.LoopCore";
    const DERIVED_ONCE: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> EventLoop {
        EventLoop {
            engine: RefCell::new(None),
            readers: Readers::default(),
            transports: Transports::default(),
            overflow: Overflow::default(),
            spare: SpareBytes::default(),
            expected: Cell::new(0),
            resting: Resting::default(),
            addresses: Addresses::default(),
            turns: Turns::default(),
            host: RefCell::new(None),
            capsule: Slot::empty(),
            closed: Cell::new(false),
            stopping: Cell::new(false),
            iteration: Cell::new(0),
            debug: Cell::new(false),
            thread: Cell::new(0),
            hooks: Cell::new(Hooks::default()),
            task_factory: Slot::empty(),
            shared_context: SharedContext::default(),
            poll_every: Cell::new(run::POLL_EVERY),
        }
    }

    fn traverse(this: &Inst<EventLoop>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.task_factory);
        this.shared_context.traverse(visitor);
        visitor.slot(&this.capsule);
        this.readers.traverse(visitor);
        this.transports.traverse(visitor);
        this.turns.traverse(visitor);
        // The collector can run wherever Python can, and there nothing is borrowed. What is in the inbox is not shown: only what
        // Rust futures ask for goes through it, without the GIL, and that is nothing of Python's.
        if let Ok(Some(engine)) = this.engine.try_borrow().as_deref() {
            engine.ready().for_each(|job| job.traverse(visitor));
            engine.timers().for_each(|(_, job)| job.traverse(visitor));
            engine.watches().for_each(|(_, _, job)| job.traverse(visitor));
        }
    }

    fn clear(this: &Inst<EventLoop>) {
        this.task_factory.clear();
        this.shared_context.clear();
        this.readers.clear();
        this.transports.clear();
        let jobs =
            this.engine.try_borrow_mut().ok().and_then(|mut engine| engine.as_mut().map(Engine::clear));
        drop(jobs);
    }
}

impl Inst<EventLoop> {
    /// Runs one operation on the engine; an error if the loop is closed.
    #[inline(always)]
    pub fn with_engine<R>(&self, operation: impl FnOnce(&mut Engine<Job>) -> R) -> Fallible<R> {
        match self.engine.borrow_mut().as_mut() {
            Some(engine) => Ok(operation(engine)),
            None => Err(self.closed_error()),
        }
    }

    /// Raises what a closed loop raises.
    #[cold]
    pub fn closed_error(&self) -> Raised {
        if self.closed.get() {
            Raised::runtime_error("Event loop is closed")
        } else {
            Raised::runtime_error("LoopCore.__init__() was not called")
        }
    }

    /// The debug mode.
    #[inline]
    pub fn is_debug(&self) -> bool {
        self.debug.get()
    }

    /// Runs one operation on the engine, if the loop is open.
    #[inline]
    pub fn with_open_engine<R>(&self, operation: impl FnOnce(&mut Engine<Job>) -> R) -> Option<R> {
        self.engine.borrow_mut().as_mut().map(operation)
    }

    /// Whether this thread runs the loop.
    #[inline]
    pub fn is_run_by(&self, thread: u64) -> bool {
        self.thread.get() == thread
    }

    /// Whether a thread runs the loop.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.thread.get() != 0
    }

    /// In debug mode, refuses calls from another thread than the one that runs the loop.
    #[inline]
    pub fn check_thread(&self) -> Fallible<()> {
        if self.debug.get() && self.thread.get() != 0 && self.thread.get() != crate::cpython::gil::thread_id()
        {
            return Err(Raised::runtime_error(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            ));
        }
        Ok(())
    }

    /// Queues a task's step.
    #[inline(always)]
    pub fn push_step(&self, task: Own<Task>) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Step(task)))
    }

    /// Queues the step of a task that waited.
    #[inline(always)]
    pub fn push_wakeup(&self, task: Own<Task>) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Wakeup(task)))
    }

    /// Watches a descriptor; whatever watched this direction of it before, and was forgotten, no longer does.
    pub fn watch(&self, descriptor: BorrowedFd<'_>, interest: Interest, job: Job) -> Fallible<Key> {
        use std::os::fd::AsRawFd;
        let (old, watched) = self.with_engine(|engine| {
            let known = engine.find(descriptor.as_raw_fd(), interest).map(|(key, _job)| key);
            let old = known.and_then(|key| engine.unwatch(key));
            (old, engine.try_watch(descriptor, interest, job))
        })?;
        readers::cancel(old)?;
        watched.map_err(|(error, job)| {
            drop(job);
            Raised::os_error(&error)
        })
    }

    /// What Rust futures reach the loop by, if any has asked.
    pub fn with_host(&self, work: impl FnOnce(&HostSlot)) {
        if let Some(host) = &*self.host.borrow() {
            work(host);
        }
    }

    /// Ends a registration, if the loop is open.
    pub fn unwatch(&self, key: Key) {
        let job = self.engine.borrow_mut().as_mut().and_then(|engine| engine.unwatch(key));
        drop(job);
    }

    /// Queues the news for one that is told natively.
    #[inline(always)]
    pub fn push_listener(&self, listener: Listener) -> Fallible<()> {
        self.check_thread()?;
        self.with_engine(|engine| engine.push(Job::Listener(listener)))
    }

    /// Cancels a timer; the caller drops the job.
    pub fn cancel_timer(&self, key: TimerKey) -> Option<Job> {
        self.engine.borrow_mut().as_mut().and_then(|engine| engine.cancel(key))
    }

    /// The loop's clock, which a program may have replaced.
    #[inline]
    pub fn now(&self) -> Fallible<Time> {
        if self.hooks.get().time {
            let seconds = self.obj().call_method(&state().names.time, &[])?.to_f64()?;
            return Ok(crate::clock::at(seconds));
        }
        Ok(crate::clock::now())
    }

    /// Which methods are replaced.
    #[inline]
    pub fn hooks(&self) -> Hooks {
        self.hooks.get()
    }

    /// Looks which methods are replaced.
    pub fn refresh_hooks(&self) -> Fallible<()> {
        let names = &state().names;
        let class = EventLoop::home().class();
        let replaced = |name: &Obj| -> Fallible<bool> {
            Ok(!self.obj().class().get(name)?.is(&*class.get(name)?)
                || of_instance(self.obj(), name)?.is_some())
        };
        self.hooks.set(Hooks {
            call_soon: handle::refresh_run()? || self.debug.get() || replaced(&names.call_soon)?,
            call_at: replaced(&names.call_at)?,
            call_later: replaced(&names.call_later)?,
            time: replaced(&names.time)? && !self.reads_monotonic_clock()?,
            create_future: replaced(&names.create_future)?,
            create_task: replaced(&names.create_task)?,
            task_class: state().task_class_replaced()?,
            future_class: state().future_class_replaced()?,
        });
        Ok(())
    }

    /// Whether `time` has been replaced by `time.monotonic` only, which is this very clock: Home Assistant puts it there to be
    /// spared a call.
    fn reads_monotonic_clock(&self) -> Fallible<bool> {
        let (name, monotonic) = (&*state().names.time, &*state().monotonic);
        let of_class = self.obj().class().get(name)?;
        Ok(match of_instance(self.obj(), name)? {
            Some(clock) => clock.is(monotonic) && of_class.is(&*EventLoop::home().class().get(name)?),
            None => of_class.is(monotonic),
        })
    }
}

impl EventLoop {
    /// Our loop behind an object, if natively scheduled jobs are all that its program sees: its `call_soon` is ours.
    #[inline]
    pub fn direct(object: &Obj) -> Option<&Inst<EventLoop>> {
        Inst::<EventLoop>::of(object).filter(|this| !this.hooks.get().call_soon)
    }
}

/// The attribute of this name that the instance itself has.
fn of_instance(object: &Obj, name: &Obj) -> Fallible<Option<Ref>> {
    match object.get_if_there(&*object::interned(c"__dict__")?)? {
        Some(dict) if object::is_dict(&dict) => object::dict_get(&dict, name),
        _ => Ok(None),
    }
}

/// Whether some loop has ever been in debug mode; so long there is no need to ask whether coroutines' origins are
/// tracked.
static ANY_DEBUG: AtomicBool = AtomicBool::new(false);

/// See [`ANY_DEBUG`].
#[inline]
pub fn any_debug() -> bool {
    ANY_DEBUG.load(Ordering::Relaxed)
}

/// Takes nothing from other threads any more, and makes the calls that Rust futures have asked for, and that lead to more of them.
/// Other jobs are returned, for they are not run.
fn close_host(this: &Inst<EventLoop>) -> Vec<Job> {
    let mut others = Vec::new();
    let Some(at_close) = this.host.borrow().as_ref().map(HostSlot::at_close) else { return others };
    this.with_open_engine(Engine::close_inbox);
    loop {
        at_close.iter().for_each(|call| call.run(this));
        let mut any = false;
        // What comes meanwhile is for the next round.
        for _ in 0..this.with_open_engine(Engine::begin).unwrap_or(0) {
            match this.with_open_engine(Engine::pop).flatten() {
                Some(Job::Call(call)) => {
                    call.run(this);
                    any = true;
                }
                Some(job) => others.push(job),
                None => break,
            }
        }
        if !any {
            return others;
        }
    }
}

impl Inst<EventLoop> {
    /// Whether `create_task` makes a task of ours and nothing else, while the loop runs.
    #[inline]
    pub fn makes_plain_tasks(&self) -> bool {
        let hooks = self.hooks.get();
        self.is_running()
            && !self.closed.get()
            && self.task_factory.is_empty()
            && !hooks.create_task
            && !hooks.task_class
    }
}

/// `create_task` without a factory.
pub fn create_task(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Own<Task>> {
    if let ([coro], false) = (args.positional(), args.has_keywords()) {
        return task::create(this, coro, Options::default());
    }
    let [coro, name, context, eager_start] = if state().create_task_takes_all {
        args.parse(&Signature {
            function: "create_task",
            names: ["coro", "name", "context", "eager_start"],
            positional: 1,
            required: 1,
        })?
    } else {
        let signature = Signature {
            function: "create_task",
            names: ["coro", "name", "context"],
            positional: 1,
            required: 1,
        };
        let [coro, name, context] = args.parse(&signature)?;
        [coro, name, context, None]
    };
    let options = Options {
        name: name.filter(|name| !name.is_none()),
        context: context.filter(|context| !context.is_none()),
        eager_start: eager_start.map_or(Ok(false), Obj::truthy)?,
    };
    task::create(this, coro.unwrap_or(none()), options)
}
