//! Jobs from other threads: a queue under a mutex, a flag that says "look", and the wake-up pipe.
//!
//! What must stay true:
//!
//! - No lost wake-up. A sender queues its job and raises `pending` under the lock, and only then asks the pipe to wake. The
//!   engine reads the pipe, clears `woken`, and only then looks at `pending`. So either the sender found `woken` clear, and its
//!   byte ends the wait; or it found `woken` set, and whoever clears that sees its job.
//! - `pending` is true whenever the queue holds something: it changes under the lock only. Looking costs one atomic load, so the
//!   engine can afford to look before every push of its own.
//! - No job is dropped while the lock is held.
//! - Once the engine is gone (`open` is false) a sender gets its job back, and holds no descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError, TryLockError};

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use crate::wake::Pipe;

/// An inbox that once held more than this does not keep the memory.
const KEEP: usize = 1024;

pub(crate) struct Inbox<J> {
    pending: AtomicBool,
    state: Mutex<State<J>>,
}

struct State<J> {
    queue: VecDeque<J>,
    open: bool,
    /// `None` once nobody waits any more: the engine is gone, or this is the child of a fork and the pipe is the parent's.
    pipe: Option<Arc<Pipe>>,
}

impl<J> Inbox<J> {
    pub(crate) fn new(pipe: Option<Arc<Pipe>>) -> Self {
        Inbox {
            pending: AtomicBool::new(false),
            state: Mutex::new(State { queue: VecDeque::new(), open: true, pipe }),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.pending.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, job: J) -> Result<(), J> {
        let pipe = {
            let mut state = self.lock();
            if !state.open {
                return Err(job);
            }
            state.queue.push_back(job);
            self.pending.store(true, Ordering::Release);
            // Cloned, so that the byte is written without the lock and into a pipe that is still there.
            state.pipe.clone()
        };
        if let Some(pipe) = pipe {
            pipe.wake();
        }
        Ok(())
    }

    pub(crate) fn wake(&self) {
        let pipe = self.lock().pipe.clone();
        if let Some(pipe) = pipe {
            pipe.wake();
        }
    }

    /// Moves everything to the end of `ready`.
    #[cold]
    #[inline(never)]
    pub(crate) fn drain(&self, ready: &mut VecDeque<J>) {
        let mut state = self.lock();
        if ready.is_empty() && ready.capacity() <= KEEP && state.queue.capacity() <= KEEP {
            std::mem::swap(&mut state.queue, ready);
        } else {
            ready.append(&mut state.queue);
            state.queue.shrink_to(KEEP);
        }
        self.pending.store(false, Ordering::Release);
    }

    /// From now on senders wake by this pipe.
    pub(crate) fn wake_by(&self, pipe: Arc<Pipe>) {
        self.lock().pipe = Some(pipe);
    }

    /// From now on senders get their jobs back. Returns what was queued, for the caller to drop without the lock.
    pub(crate) fn close(&self) -> VecDeque<J> {
        Self::shut(self.lock())
    }

    /// [`Inbox::close`], in the child of a fork. A thread that held the lock meanwhile does not exist here: waiting for it would
    /// be for ever, and what it was about to change may be half done. Then nothing is known (`None`).
    pub(crate) fn close_after_fork(&self) -> Option<VecDeque<J>> {
        match self.state.try_lock() {
            Ok(state) => Some(Self::shut(state)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Self::shut(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn shut(mut state: MutexGuard<'_, State<J>>) -> VecDeque<J> {
        state.open = false;
        let pipe = state.pipe.take();
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(pipe);
        queue
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing in here panics between two writes that belong together, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine, as other threads see it: a place to leave jobs. Cheap to clone; outlives the engine without harm.
///
/// ```
/// use velodrome_engine::Engine;
///
/// let mut engine = Engine::new()?;
/// let remote = engine.remote();
/// let sender = std::thread::spawn(move || remote.push("from afar"));
///
/// let wait = engine.prepare(None); // for ever, but the push ends it
/// let events = wait.block();
/// engine.harvest(events);
/// engine.begin();
/// assert_eq!(engine.pop(), Some("from afar"));
/// # sender.join().unwrap().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Remote<J> {
    inbox: Arc<Inbox<J>>,
}

impl<J> Remote<J> {
    pub(crate) fn new(inbox: Arc<Inbox<J>>) -> Self {
        Remote { inbox }
    }

    /// Queues `job` and ends the wait, if there is one.
    ///
    /// # Errors
    ///
    /// Gives the job back if the engine is gone.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let engine = Engine::new()?;
    /// let remote = engine.remote();
    /// assert_eq!(remote.push(1), Ok(()));
    /// drop(engine);
    /// assert_eq!(remote.push(2), Err(2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn push(&self, job: J) -> Result<(), J> {
        self.inbox.push(job)
    }

    /// Ends the wait, without a job.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::<()>::new()?;
    /// engine.remote().wake();
    /// let events = engine.prepare(None).block(); // returns at once
    /// assert_eq!(engine.harvest(events).jobs, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wake(&self) {
        self.inbox.wake();
    }
}

impl<J> Clone for Remote<J> {
    fn clone(&self) -> Self {
        Remote { inbox: Arc::clone(&self.inbox) }
    }
}

impl<J> fmt::Debug for Remote<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("pending", &!self.inbox.is_empty()).finish_non_exhaustive()
    }
}
