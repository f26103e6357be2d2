//! The loop as a [`Host`]: the C table through which Rust futures, of any extension module, reach it.
//!
//! The table lies in a [`LoopHost`], which is counted and holds nothing of Python's, so that whoever has a share can give it up
//! anywhere. The loop hands it out in a capsule. What is asked for becomes a [`Call`] in the loop's own engine: there is
//! one ready queue, one timer heap and one poller.
//!
//! What must stay true:
//!
//! - `retain`, `release` and `schedule` may be called from any thread, without the GIL. The others come from the thread that
//!   runs the loop, and take the GIL if it is not held there.
//! - A call is made once if it was scheduled or set for a time, and never after its `data` was given back.
//! - A timer's call, or a descriptor's, is made on the thread that asked for it or not at all, and so is what that thread has
//!   scheduled while it ran the loop.
//! - The loop is reached through a pointer that is null as soon as it is closed, or dies.

use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::ffi;
use velodrome::host::{Asked, CAPSULE, CallFn, HOST_VERSION, Host, Interest, Ran, TimerId, Watch};
use velodrome_engine::{Engine, Key, Remote, Time, TimerKey};

use super::class::Inst;
use super::gil;
use super::object::Ref;
use super::raised::Fallible;
use crate::event_loop::EventLoop;
use crate::job::Job;

// ---------------------------------------------------------------------------------------------------------------
// What is called.

/// What was handed in through the table.
#[derive(Clone, Debug)]
pub struct Call(Arc<Numbered>);

#[derive(Debug)]
struct Numbered {
    asked: Asked,
    /// The number of the timer or the registration.
    number: (AtomicU64, AtomicU64),
}

impl Call {
    fn new(asked: Asked) -> Call {
        Call(Arc::new(Numbered { asked, number: Default::default() }))
    }

    fn note(&self, number: (u64, u64)) {
        self.0.number.0.store(number.0, Ordering::Relaxed);
        self.0.number.1.store(number.1, Ordering::Relaxed);
    }

    fn number(&self) -> (u64, u64) {
        (self.0.number.0.load(Ordering::Relaxed), self.0.number.1.load(Ordering::Relaxed))
    }

    /// Gives the data back; `false` if it was handed over or given back before.
    fn give_up(&self) -> bool {
        self.0.asked.give_up()
    }

    /// Makes the call, unless it was cancelled, or belongs to a thread that does not run the loop any more.
    pub fn run(&self, event_loop: &Inst<EventLoop>) {
        let asked = &self.0.asked;
        if asked.run() == Ran::Elsewhere && asked.is_again() {
            // Reported again and again, and never looked at, a descriptor would keep the loop busy.
            event_loop.with_host(|host| host.end_watch(event_loop, self));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The loop's side.

/// The table of one loop.
#[derive(Debug)]
pub struct LoopHost {
    table: Host,
    event_loop: AtomicPtr<Inst<EventLoop>>,
    remote: Remote<Job>,
    /// The thread that is closing the loop; 0 is none.
    closing: AtomicU64,
    /// How many forks this process is away from the loop's making.
    forks: AtomicU32,
    /// The child of a fork leaves the parent's inbox alone, in which another thread may have been. It has one of its own; its own
    /// child has none.
    childs_remote: OnceLock<Remote<Job>>,
    closed: Mutex<Closed>,
}

/// What is called when the loop closes, and what is remembered afterwards.
#[derive(Debug, Default)]
struct Closed {
    at_close: Vec<Call>,
    timers: HashSet<(u64, u64)>,
    watches: HashSet<(u64, u64)>,
}

// SAFETY: the table's pointer is to this structure itself. The queue of other threads takes jobs of ours only, which may be sent;
// what else lies in it is moved at most, under its lock. The loop is touched with the GIL held only.
unsafe impl Send for LoopHost {}
// SAFETY: as above.
unsafe impl Sync for LoopHost {}

/// What a loop has of its host. Whoever else has a share of it learns that the loop is gone when this is dropped.
#[derive(Debug)]
pub struct HostSlot(Arc<LoopHost>);

/// What all tables have in common.
#[derive(Debug)]
struct Functions {
    /// Without a context.
    table: Host,
    /// Of the capsule.
    destructor: unsafe extern "C" fn(*mut ffi::PyObject),
}

// SAFETY: there is no context in it.
unsafe impl Send for Functions {}
// SAFETY: as above.
unsafe impl Sync for Functions {}

impl Functions {
    fn get() -> &'static Functions {
        static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
        FUNCTIONS.get_or_init(|| Functions {
            table: Host {
                version: HOST_VERSION,
                size: size_of::<Host>() as u32,
                context: null_mut(),
                retain: entry!(silent "host", c"retain", (context: *mut c_void) -> (), (), retain(context)),
                release: entry!(silent "host", c"release", (context: *mut c_void) -> (), (), release(context)),
                schedule: entry!(silent "host", c"schedule",
                    (context: *mut c_void, call: CallFn, data: *mut c_void) -> bool, false,
                    host(&context).schedule(call, data)),
                timer_set: entry!(silent "host", c"timer_set",
                    (context: *mut c_void, at: u64, call: CallFn, data: *mut c_void) -> TimerId, TimerId(0, 0),
                    host(&context).timer_set(at, call, data)),
                timer_cancel: entry!(silent "host", c"timer_cancel",
                    (context: *mut c_void, timer: TimerId) -> bool, false, host(&context).timer_cancel(timer)),
                descriptor_add: entry!(silent "host", c"descriptor_add",
                    (context: *mut c_void, descriptor: c_int, interest: Interest, call: CallFn,
                     data: *mut c_void, watch: *mut Watch) -> c_int, libc::EIO,
                    match host(&context).descriptor_add(descriptor, interest, call, data) {
                        Ok(added) => {
                            // SAFETY: the caller gave a place for it.
                            unsafe { watch.write(added) };
                            0
                        }
                        Err(errno) => errno,
                    }),
                descriptor_remove: entry!(silent "host", c"descriptor_remove",
                    (context: *mut c_void, watch: Watch) -> bool, false,
                    host(&context).descriptor_remove(watch)),
                now: entry!(silent "host", c"now", (_context: *mut c_void) -> u64, 0,
                    crate::clock::now().as_nanos()),
                turn: entry!(silent "host", c"turn", (context: *mut c_void) -> u64, 0, host(&context).turn()),
                at_close: entry!(silent "host", c"at_close",
                    (context: *mut c_void, call: CallFn, data: *mut c_void) -> (), (),
                    host(&context).at_close(call, data)),
            },
            destructor: entry!(reporting "host", c"capsule", (capsule: *mut ffi::PyObject) -> (), (), {
                // SAFETY: a capsule of ours, which is going; its share of the host goes with it.
                unsafe {
                    let table = ffi::PyCapsule_GetPointer(capsule, CAPSULE.as_ptr()).cast::<Host>();
                    if let Some(table) = table.as_ref() {
                        release(table.context);
                    }
                }
            }),
        })
    }
}

impl HostSlot {
    /// The host of a loop.
    pub fn new(event_loop: &Inst<EventLoop>, engine: &Engine<Job>) -> HostSlot {
        let pointer = std::ptr::from_ref(event_loop).cast_mut();
        HostSlot(Arc::new_cyclic(|this: &Weak<LoopHost>| LoopHost {
            table: Host { context: this.as_ptr().cast_mut().cast(), ..Functions::get().table },
            event_loop: AtomicPtr::new(pointer),
            remote: engine.remote(),
            closing: AtomicU64::new(0),
            forks: AtomicU32::new(0),
            childs_remote: OnceLock::new(),
            closed: Mutex::default(),
        }))
    }

    /// A capsule with the table, which has a share of it.
    pub fn capsule(&self) -> Fallible<Ref> {
        let table = std::ptr::from_ref(&self.0.table).cast_mut();
        // SAFETY: the name lives for ever; the pointer is valid as long as the share that the capsule gets.
        unsafe {
            let capsule = Ref::from_owned(ffi::PyCapsule_New(
                table.cast(),
                CAPSULE.as_ptr(),
                Some(Functions::get().destructor),
            ))?;
            let _share = Arc::into_raw(Arc::clone(&self.0));
            Ok(capsule)
        }
    }

    /// Ends a registration whose call cannot be made any more. Its data is still to be given back.
    fn end_watch(&self, event_loop: &Inst<EventLoop>, call: &Call) {
        let number = call.number();
        if event_loop.with_open_engine(|engine| engine.unwatch(Key::from_raw(number))).flatten().is_some() {
            self.0.closed().watches.insert(number);
        }
    }

    /// The child of a fork has the loop now.
    pub fn forget_kernel(&self, engine: &Engine<Job>) {
        if self.0.forks.fetch_add(1, Ordering::AcqRel) == 0 {
            let _first = self.0.childs_remote.set(engine.remote());
        }
    }

    /// What is to be called before the loop closes, which this thread is about to do: what it schedules is still taken.
    pub fn at_close(&self) -> Vec<Call> {
        self.0.closing.store(gil::thread_id(), Ordering::Relaxed);
        self.0.closed().at_close.clone()
    }

    /// The loop is closed: remembers the timers and registrations that ended with it, whose data is still to be given back.
    pub fn close<'a>(&self, timers: impl Iterator<Item = &'a Job>, watches: impl Iterator<Item = &'a Job>) {
        self.0.event_loop.store(null_mut(), Ordering::Release);
        let mut closed = self.0.closed();
        closed.timers.extend(timers.filter_map(Job::as_call).map(Call::number));
        closed.watches.extend(watches.filter_map(Job::as_call).map(Call::number));
        let at_close = std::mem::take(&mut closed.at_close);
        drop(closed);
        drop(at_close);
    }
}

impl Drop for HostSlot {
    fn drop(&mut self) {
        self.0.event_loop.store(null_mut(), Ordering::Release);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The other side.

/// The host that a function of the table is called for.
fn host(context: &*mut c_void) -> &LoopHost {
    // SAFETY: the table's functions are called with its context, by somebody who has a share of it.
    unsafe { &*context.cast_const().cast::<LoopHost>() }
}

fn retain(context: *mut c_void) {
    // SAFETY: it is an `Arc`'s, of which the caller has a share.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<LoopHost>()) }
}

fn release(context: *mut c_void) {
    // SAFETY: as above; the caller gives their share up.
    unsafe { Arc::decrement_strong_count(context.cast_const().cast::<LoopHost>()) }
}

impl LoopHost {
    fn closed(&self) -> MutexGuard<'_, Closed> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the loop for something, unless it is closed. The GIL is held.
    fn ask<R>(&self, ask: impl FnOnce(&Inst<EventLoop>) -> R) -> Option<R> {
        let event_loop = NonNull::new(self.event_loop.load(Ordering::Acquire))?;
        // SAFETY: the loop empties the pointer before it goes, with the GIL held, as it is here; nothing that is asked runs Python.
        Some(ask(unsafe { event_loop.as_ref() }))
    }

    fn schedule(&self, function: CallFn, data: *mut c_void) -> bool {
        if gil::is_held() {
            let thread = gil::thread_id();
            let scheduled = self.ask(|event_loop| {
                let own = event_loop.is_run_by(thread) || self.closing.load(Ordering::Relaxed) == thread;
                own.then(|| {
                    // SAFETY: what the loop's thread asks for may be called on it.
                    let call = Call::new(unsafe { Asked::here(function, data) });
                    event_loop.with_open_engine(|engine| engine.push(Job::Call(call))).is_some()
                })
            });
            match scheduled {
                Some(None) => {}
                Some(Some(scheduled)) => return scheduled,
                None => return false,
            }
        }
        let remote = match self.forks.load(Ordering::Acquire) {
            0 => Some(&self.remote),
            1 => self.childs_remote.get(),
            _ => None,
        };
        let Some(remote) = remote else { return false };
        // SAFETY: what another thread asks for may be called on whichever runs the loop.
        let asked = unsafe { Asked::anywhere(function, data) };
        remote.push(Job::Call(Call::new(asked))).is_ok()
    }

    fn timer_set(&self, at: u64, function: CallFn, data: *mut c_void) -> TimerId {
        let _held = gil::hold();
        // SAFETY: timers are set on the loop's thread, to be called once on it.
        let call = Call::new(unsafe { Asked::here(function, data) });
        let job = Job::Call(call.clone());
        let key = self
            .ask(|event_loop| event_loop.with_open_engine(|engine| engine.timer(Time::from_nanos(at), job)));
        match key.flatten() {
            Some(key) => {
                let (stamp, slot) = key.into_raw();
                call.note((stamp, slot.into()));
                TimerId(stamp, slot.into())
            }
            None => {
                // A closed loop's timer never comes, and can be cancelled.
                static NEVER: AtomicU64 = AtomicU64::new(0);
                let id = (NEVER.fetch_add(1, Ordering::Relaxed), u64::MAX);
                self.closed().timers.insert(id);
                TimerId(id.0, id.1)
            }
        }
    }

    fn timer_cancel(&self, timer: TimerId) -> bool {
        let _held = gil::hold();
        let TimerId(stamp, slot) = timer;
        let cancelled = self.ask(|event_loop| match u32::try_from(slot) {
            Ok(slot) => event_loop.cancel_timer(TimerKey::from_raw((stamp, slot))),
            Err(_) => None,
        });
        match cancelled {
            Some(Some(Job::Call(call))) => call.give_up(),
            Some(_) => false,
            None => self.closed().timers.remove(&(stamp, slot)),
        }
    }

    fn descriptor_add(
        &self,
        descriptor: c_int,
        interest: Interest,
        function: CallFn,
        data: *mut c_void,
    ) -> Result<Watch, c_int> {
        let _held = gil::hold();
        let interest = match interest {
            Interest::READ => velodrome_engine::Interest::Read,
            Interest::WRITE => velodrome_engine::Interest::Write,
            _ => return Err(libc::EINVAL),
        };
        if descriptor < 0 {
            return Err(libc::EBADF);
        }
        // SAFETY: the caller lends an open descriptor.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // SAFETY: a descriptor is watched on the loop's thread, to be called on it until that ends.
        let call = Call::new(unsafe { Asked::again(function, data) });
        let job = Job::Call(call.clone());
        let watched = self
            .ask(|event_loop| event_loop.with_open_engine(|engine| engine.watch(descriptor, interest, job)));
        let key = watched
            .flatten()
            .ok_or(libc::EBADF)?
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EEXIST))?;
        let (stamp, rest) = key.into_raw();
        call.note((stamp, rest));
        Ok(Watch(stamp, rest))
    }

    fn descriptor_remove(&self, watch: Watch) -> bool {
        let _held = gil::hold();
        let Watch(stamp, rest) = watch;
        let removed = self.ask(|event_loop| {
            event_loop.with_open_engine(|engine| engine.unwatch(Key::from_raw((stamp, rest)))).flatten()
        });
        match removed {
            Some(Some(Job::Call(call))) => call.give_up(),
            _ => self.closed().watches.remove(&(stamp, rest)),
        }
    }

    fn turn(&self) -> u64 {
        let _held = gil::hold();
        self.ask(|event_loop| u64::from(event_loop.iteration.get())).unwrap_or(0)
    }

    fn at_close(&self, function: CallFn, data: *mut c_void) {
        // SAFETY: asked for on the loop's thread, to be called on it in each round of its closing.
        let call = Call::new(unsafe { Asked::again(function, data) });
        self.closed().at_close.push(call);
    }
}
