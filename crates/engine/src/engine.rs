//! [`Engine`]: the ready queue, and the order in which everything else feeds it.
//!
//! What must stay true:
//!
//! - The engine never runs a job, and never drops one in a method that returns (dropping a job may run code that calls the engine
//!   again): whatever removes a job hands it over. [`Engine::watch`] that fails is the exception, and says so.
//! - Whatever appends to the ready queue moves the inbox in first. So a job that another thread pushed runs before all that
//!   became ready after it.
//! - Nothing of the engine is borrowed while a [`Wait`](crate::Wait) blocks.
//! - Dropping an engine closes descriptors and tells the kernel nothing else (see [`Engine::forget_kernel`]).

mod others;
mod scheduling;
mod waiting;
mod watching;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::inbox::Inbox;
use crate::readiness::Readiness;
use crate::sys::Selector;
use crate::timers::Timers;
use crate::wake::Pipe;

/// How the engine asks the kernel what is ready.
///
/// ```
/// use velodrome_engine::{Backend, Engine};
///
/// let engine = Engine::<()>::with_backend(Backend::Poll)?;
/// assert_eq!(engine.backend(), Backend::Poll);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(not(target_os = "linux"), derive(Default))]
pub enum Backend {
    /// epoll(7): Linux, and the best there.
    #[cfg(target_os = "linux")]
    Epoll,
    /// poll(2): every Unix.
    #[cfg_attr(not(target_os = "linux"), default)]
    Poll,
}

#[cfg(target_os = "linux")]
impl Default for Backend {
    /// The best of the platform.
    fn default() -> Self {
        Backend::Epoll
    }
}

/// The event engine: what is ready, what is scheduled, what is watched. See the [crate] for how a loop drives it.
///
/// ```
/// use velodrome_engine::Engine;
///
/// let mut engine = Engine::new()?;
/// engine.push("a job");
/// assert_eq!(engine.begin(), 1);
/// assert_eq!(engine.pop(), Some("a job"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Engine<J> {
    ready: VecDeque<J>,
    inbox: Arc<Inbox<J>>,
    timers: Timers<J>,
    readiness: Readiness<J>,
    selector: Selector,
    pipe: Arc<Pipe>,
    /// A wait was prepared and not harvested yet.
    waiting: bool,
    /// Something was watched or unwatched since then.
    changed: bool,
    /// The selector and the pipe are those of the process that was forked.
    forgotten: bool,
    /// Waits harvested and wake-up reads: how often the kernel was asked. For tests.
    syscalls: u64,
}

impl<J> Engine<J> {
    /// An engine with the best backend of the platform.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    ///
    /// ```
    /// use velodrome_engine::{Backend, Engine};
    /// assert_eq!(Engine::<()>::new()?.backend(), Backend::default());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        Self::with_backend(Backend::default())
    }

    /// An engine with the given backend.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    ///
    /// ```
    /// use velodrome_engine::{Backend, Engine};
    /// let engine = Engine::<()>::with_backend(Backend::Poll)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_backend(backend: Backend) -> io::Result<Self> {
        let pipe = Arc::new(Pipe::new()?);
        let selector = Selector::new(backend, &pipe)?;
        Ok(Engine {
            ready: VecDeque::new(),
            inbox: Arc::new(Inbox::new(Some(Arc::clone(&pipe)))),
            timers: Timers::new(),
            readiness: Readiness::new(),
            selector,
            pipe,
            waiting: false,
            changed: false,
            forgotten: false,
            syscalls: 0,
        })
    }

    /// The backend in use.
    ///
    /// ```
    /// use velodrome_engine::{Backend, Engine};
    /// assert_eq!(Engine::<()>::with_backend(Backend::Poll)?.backend(), Backend::Poll);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn backend(&self) -> Backend {
        match self.selector {
            #[cfg(target_os = "linux")]
            Selector::Epoll(_) => Backend::Epoll,
            Selector::Poll(_) => Backend::Poll,
        }
    }
}

/// The ready queue.
impl<J> Engine<J> {
    /// Queues a job, after everything that other threads queued until now.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.remote_push("first").unwrap();
    /// engine.push("second");
    /// assert_eq!(engine.pop(), Some("first"));
    /// assert_eq!(engine.pop(), Some("second"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn push(&mut self, job: J) {
        self.admit();
        self.ready.push_back(job);
    }

    /// Begins an iteration: moves the inbox in, and says how many jobs the iteration consists of. What is pushed from now on
    /// belongs to the next one.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push("now");
    /// for _ in 0..engine.begin() {
    ///     let job = engine.pop();
    ///     engine.push("in the next iteration");
    /// }
    /// assert_eq!(engine.ready_len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn begin(&mut self) -> usize {
        self.admit();
        self.ready.len()
    }

    /// Takes the next ready job.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push("a job");
    /// assert_eq!(engine.pop(), Some("a job"));
    /// assert_eq!(engine.pop(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Option<J> {
        self.ready.pop_front()
    }

    /// Shows the job that will be taken after `ahead` others, for a caller that wants to have its memory at hand by
    /// then.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push("next");
    /// engine.push("after that");
    /// assert_eq!(engine.peek(1), Some(&"after that"));
    /// assert_eq!(engine.peek(2), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn peek(&self, ahead: usize) -> Option<&J> {
        self.ready.get(ahead)
    }

    /// How many jobs are queued. The inbox is not counted until something moves it in.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push(1);
    /// engine.remote_push(2).unwrap();
    /// assert_eq!(engine.ready_len(), 1);
    /// assert_eq!(engine.begin(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The queued jobs, in order.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push(1);
    /// engine.push(2);
    /// assert!(engine.ready().eq(&[1, 2]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ready(&self) -> impl Iterator<Item = &J> {
        self.ready.iter()
    }

    /// Moves the inbox in, if there is anything in it.
    #[inline]
    fn admit(&mut self) {
        if !self.inbox.is_empty() {
            self.inbox.drain(&mut self.ready);
        }
    }
}

/// The end.
impl<J> Engine<J> {
    /// Removes everything that is queued, sent, scheduled and watched, and returns it, so that the jobs are dropped when nothing
    /// of the engine is borrowed. Every key is stale afterwards; the engine can be used again.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push("queued");
    /// engine.timer(Time::MAX, "scheduled");
    /// assert_eq!(engine.clear(), ["queued", "scheduled"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "the jobs are returned to be dropped outside the borrow"]
    pub fn clear(&mut self) -> Vec<J> {
        self.admit();
        let selector = (!self.forgotten).then_some(&mut self.selector);
        let mut jobs = Vec::from(std::mem::take(&mut self.ready));
        jobs.extend(self.timers.drain());
        jobs.extend(self.readiness.drain(selector));
        self.tell_the_wait();
        jobs
    }

    /// To be called in the child of a fork: from now on the engine says nothing to its epoll set and its pipe, which are the
    /// parent's too. Its jobs, timers and registrations stay; every [`Remote`](crate::Remote) from before is refused. As soon as
    /// something is watched or waited for, the engine gets a [kernel side of its own](Engine::own_kernel). Until then, or its end,
    /// the parent's descriptors stay open, so that [`Engine::wake_fd`] is not some other file before the child has reset
    /// `signal.set_wakeup_fd`.
    ///
    /// An engine that is merely dropped in the child does no harm to the parent either: that closes the child's descriptors. But
    /// another thread of the parent may have held the lock of the inbox; only an engine that knows of the fork never waits for it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// engine.push("inherited");
    /// engine.forget_kernel();
    /// let events = engine.prepare(Some(Duration::ZERO)).block();
    /// assert!(engine.harvest(events).error.is_none());
    /// assert_eq!(engine.clear(), ["inherited"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn forget_kernel(&mut self) {
        if std::mem::replace(&mut self.forgotten, true) {
            return;
        }
        // Whoever was waiting is not in this process.
        self.waiting = false;
        let inbox = std::mem::replace(&mut self.inbox, Arc::new(Inbox::new(None)));
        match inbox.close_after_fork() {
            Some(jobs) => self.ready.extend(jobs),
            // A thread of the parent was in the middle of it: not even dropping it is safe.
            None => std::mem::forget(inbox),
        }
    }

    /// After [`Engine::forget_kernel`], gives the engine descriptors of its own, and registers with them all that is watched;
    /// [`Engine::wake_fd`] is another one then. Does nothing otherwise.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left. It can be tried again.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::<()>::new()?;
    /// let parents = engine.wake_fd().as_raw_fd();
    /// engine.forget_kernel();
    /// assert_eq!(engine.wake_fd().as_raw_fd(), parents);
    /// engine.own_kernel()?;
    /// assert_ne!(engine.wake_fd().as_raw_fd(), parents);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn own_kernel(&mut self) -> io::Result<()> {
        if self.forgotten { self.get_own_kernel() } else { Ok(()) }
    }

    #[cold]
    fn get_own_kernel(&mut self) -> io::Result<()> {
        let pipe = Arc::new(Pipe::new()?);
        self.selector = self.another_selector(&pipe)?;
        self.inbox.wake_by(Arc::clone(&pipe));
        self.pipe = pipe;
        self.forgotten = false;
        Ok(())
    }

    /// A selector with all that is watched, and this pipe.
    #[cold]
    fn another_selector(&self, pipe: &Arc<Pipe>) -> io::Result<Selector> {
        let mut selector = Selector::new(self.backend(), pipe)?;
        for (fd, token, mask) in self.readiness.registrations() {
            selector.inherit(fd, token, mask);
        }
        Ok(selector)
    }
}

impl<J> Drop for Engine<J> {
    fn drop(&mut self) {
        if self.waiting && !self.forgotten {
            // Someone may still be blocked, and nobody would wake them any more.
            self.pipe.wake();
        }
        drop(self.inbox.close());
    }
}

impl<J> fmt::Debug for Engine<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.backend())
            .field("ready", &self.ready.len())
            .field("timers", &self.timers.len())
            .field("watched", &self.readiness.len())
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
