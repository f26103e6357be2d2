//! [`EventLoop`]: this crate's own loop over [`velodrome_engine::Engine`], behind the [`Host`](crate::host::Host) table.
//!
//! What must stay true:
//!
//! - The engine is never borrowed while a job runs, or while the kernel is asked.
//! - An iteration runs exactly the jobs that were ready when it began, in order: asyncio's rule, and its order.
//! - A readiness job names a registration and a stamp, so one that was queued before the registration ended does nothing.
//! - After [`EventLoop::close`] nothing is queued any more, and whoever tries hears of it.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slab::Slab;
use velodrome_engine::{Engine, Key, Remote, Time, TimerKey};

use crate::abi::{HostTable, Job, OwnThread, table};
use crate::context::Context;
use crate::host::{Interest, TimerId, Watch};

/// How many jobs may run before the kernel and the clock are asked, although more is ready. Asking costs as much as ten task
/// switches; a socket waits no longer than these jobs take.
const LOOK_EVERY: usize = 128;

/// So many jobs before its turn, a job's memory is fetched.
const AHEAD: usize = 8;

/// With so many jobs it is worth fetching what comes after that, too,
const CROWD: usize = 1024;
/// so many jobs before.
const NEAR: usize = 2;

/// What a run does after an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// One more, and wait if nothing is ready.
    Wait,
    /// One more, of what is ready.
    Turn,
    /// Nothing more.
    Stop,
}

/// The loop's own jobs, as a [`Job`] carries them: a bit for which of the two, then the numbers, cut to what there is room for.
#[derive(Clone, Copy)]
enum Own {
    /// A descriptor is ready.
    Ready { slot: usize, stamp: usize },
    /// The main future of a run was woken.
    Main(usize),
}

const MAIN: usize = 1 << (usize::BITS - 1);
const HALF: u32 = usize::BITS / 2;
const LOW: usize = (1 << HALF) - 1;

impl From<Own> for Job {
    fn from(own: Own) -> Job {
        Job::own(match own {
            Own::Ready { slot, stamp } => slot << HALF | stamp,
            Own::Main(run) => MAIN | run,
        })
    }
}

impl From<usize> for Own {
    fn from(number: usize) -> Own {
        match number & MAIN {
            0 => Own::Ready { slot: number >> HALF, stamp: number & LOW },
            _ => Own::Main(number & !MAIN),
        }
    }
}

#[derive(Debug)]
pub(crate) struct EventLoop {
    table: HostTable,
    remote: Remote<Job>,
    core: OwnThread<RefCell<Core>>,
    /// The time, if it is counted and not measured: it stands still while anything is ready, and jumps to the next timer when
    /// nothing is.
    counted: Option<AtomicU64>,
}

#[derive(Debug)]
struct Core {
    engine: Engine<Job>,
    watched: Slab<Watched>,
    /// The stamp given out last.
    stamp: usize,
    /// The number of the present run.
    run: usize,
    /// How often the kernel was asked.
    turn: u64,
    /// What is called before the loop closes.
    at_close: Vec<Job>,
    closed: bool,
}

#[derive(Debug)]
struct Watched {
    stamp: usize,
    key: Key,
    call: Job,
}

impl EventLoop {
    pub(crate) fn new(engine: velodrome_engine::Backend, counted: bool) -> io::Result<Arc<Self>> {
        let engine = Engine::with_backend(engine)?;
        Ok(Arc::new_cyclic(|this| EventLoop {
            table: table(this),
            remote: engine.remote(),
            core: OwnThread::new(RefCell::new(Core {
                engine,
                watched: Slab::new(),
                stamp: 0,
                run: 0,
                turn: 0,
                at_close: Vec::new(),
                closed: false,
            })),
            counted: counted.then(AtomicU64::default),
        }))
    }

    pub(crate) fn table(&self) -> &HostTable {
        &self.table
    }

    #[inline]
    pub(crate) fn is_own_thread(&self) -> bool {
        self.core.get().is_some()
    }

    #[inline]
    fn core(&self) -> &RefCell<Core> {
        self.core.get().expect("this belongs to the loop of another thread")
    }

    #[inline]
    pub(crate) fn schedule(&self, call: Job) -> bool {
        self.push(call)
    }

    #[inline]
    fn push(&self, job: Job) -> bool {
        match self.core.get() {
            Some(core) => {
                let mut core = core.borrow_mut();
                if core.closed {
                    return false;
                }
                core.engine.push(job);
                true
            }
            None => self.push_remote(job),
        }
    }

    /// (Apart, or every push would save the registers that this needs.)
    #[cold]
    #[inline(never)]
    fn push_remote(&self, job: Job) -> bool {
        self.remote.push(job).is_ok()
    }

    /// Begins a run, and says its number.
    pub(crate) fn begin_run(&self) -> usize {
        let mut core = self.core().borrow_mut();
        core.run = core.run.wrapping_add(1) & LOW;
        core.run
    }

    /// Has the main future of a run polled. From any thread.
    pub(crate) fn wake_main(&self, run: usize) {
        // After the run, and after the loop, nobody needs it.
        let _ = self.push(Own::Main(run).into());
    }

    #[inline]
    pub(crate) fn timer_set(&self, at: u64, call: Job) -> TimerId {
        let (stamp, slot) = self.core().borrow_mut().engine.timer(Time::from_nanos(at), call).into_raw();
        TimerId(stamp, slot.into())
    }

    #[inline]
    pub(crate) fn timer_cancel(&self, TimerId(stamp, slot): TimerId) -> bool {
        self.core().borrow_mut().engine.cancel(TimerKey::from_raw((stamp, slot as u32))).is_some()
    }

    pub(crate) fn descriptor_add(
        &self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        call: Job,
    ) -> io::Result<Watch> {
        let mut core = self.core().borrow_mut();
        let core = &mut *core;
        let direction = match interest {
            Interest::READ => velodrome_engine::Interest::Read,
            Interest::WRITE => velodrome_engine::Interest::Write,
            _ => return Err(io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error())),
        };
        core.stamp = core.stamp.wrapping_add(1) & LOW;
        let stamp = core.stamp;
        let entry = core.watched.vacant_entry();
        let slot = entry.key();
        let key = core.engine.watch(fd, direction, Own::Ready { slot, stamp }.into())?;
        entry.insert(Watched { stamp, key, call });
        Ok(Watch(slot as u64, stamp as u64))
    }

    pub(crate) fn descriptor_remove(&self, Watch(slot, stamp): Watch) -> bool {
        let mut core = self.core().borrow_mut();
        let slot = slot as usize;
        if core.watched.get(slot).is_none_or(|watched| watched.stamp as u64 != stamp) {
            return false;
        }
        let watched = core.watched.remove(slot);
        core.engine.unwatch(watched.key);
        true
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.counted {
            None => Time::now().as_nanos(),
            Some(counted) => counted.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn turn(&self) -> u64 {
        self.core().borrow().turn
    }

    /// How many directions of descriptors are watched, and timers set. For tests.
    pub(crate) fn registered(&self) -> (usize, usize) {
        let core = self.core().borrow();
        (core.engine.watched(), core.engine.timer_count())
    }

    /// Runs iterations for as long as `next` says. `main` is called where the main future is woken.
    pub(crate) fn run(&self, run: usize, mut main: impl FnMut(), mut next: impl FnMut() -> Next) {
        let core = self.core();
        let mut unlooked = LOOK_EVERY;
        loop {
            let next = next();
            if next == Next::Stop {
                return;
            }
            let idle = next == Next::Wait && core.borrow().engine.ready_len() == 0;
            if idle || unlooked >= LOOK_EVERY {
                self.look(core, idle);
                unlooked = 0;
            }
            unlooked += self.iteration(core, run, &mut main);
        }
    }

    /// Runs what is ready now, and so on until nothing is. Says whether anything was.
    pub(crate) fn run_ready(&self) -> bool {
        let mut any = false;
        while self.iteration(self.core(), 0, &mut || ()) > 0 {
            any = true;
        }
        any
    }

    #[inline]
    fn iteration(&self, core: &RefCell<Core>, run: usize, main: &mut impl FnMut()) -> usize {
        let jobs = core.borrow_mut().engine.begin();
        for _ in 0..jobs {
            let job = {
                let engine = &mut core.borrow_mut().engine;
                let Some(job) = engine.pop() else { break };
                if let Some(job) = engine.peek(AHEAD) {
                    job.prefetch();
                }
                if jobs > CROWD
                    && let Some(job) = engine.peek(NEAR)
                {
                    job.prefetch_end();
                }
                job
            };
            if let Some(own) = job.run(self) {
                self.run_own(core, own.into(), run, main);
            }
        }
        jobs
    }

    fn run_own(&self, core: &RefCell<Core>, own: Own, run: usize, main: &mut impl FnMut()) {
        match own {
            Own::Ready { slot, stamp } => {
                let watched =
                    core.borrow().watched.get(slot).filter(|it| it.stamp == stamp).map(|it| it.call);
                if let Some(call) = watched {
                    call.run(self);
                }
            }
            Own::Main(number) if number == run => main(),
            Own::Main(_) => {}
        }
    }

    /// Asks the kernel and the clock; waits if there is nothing else to do.
    fn look(&self, core: &RefCell<Core>, idle: bool) {
        let wait = {
            let engine = &mut core.borrow_mut().engine;
            if idle
                && let Some(counted) = &self.counted
                && let Some(next) = engine.next_deadline()
            {
                counted.fetch_max(next.as_nanos(), Ordering::Relaxed);
                None
            } else if idle {
                let mut timeout = engine.timeout(Time::now);
                if timeout != Some(Duration::ZERO) && Context::give_back() {
                    timeout = engine.timeout(Time::now);
                }
                Some(engine.prepare(timeout))
            } else if engine.watched() > 0 || !engine.inbox_is_empty() {
                Some(engine.prepare(Some(Duration::ZERO)))
            } else {
                None
            }
        };
        let events = wait.map(velodrome_engine::Wait::block);
        let core = &mut *core.borrow_mut();
        core.turn += 1;
        let engine = &mut core.engine;
        if let Some(events) = events
            && let Some(error) = engine.harvest(events).error
        {
            panic!("the event loop cannot wait any more: {error}");
        }
        if engine.timer_count() > 0 {
            engine.expire(Time::from_nanos(self.now()));
        }
    }

    /// Has something called before the loop closes.
    pub(crate) fn at_close(&self, call: Job) {
        self.core().borrow_mut().at_close.push(call);
    }

    /// Takes nothing any more, and runs what was queued.
    pub(crate) fn close(&self) {
        self.core().borrow_mut().engine.close_inbox();
        let at_close = std::mem::take(&mut self.core().borrow_mut().at_close);
        loop {
            for call in &at_close {
                call.run(self);
            }
            if !self.run_ready() {
                break;
            }
        }
        self.core().borrow_mut().closed = true;
    }
}
