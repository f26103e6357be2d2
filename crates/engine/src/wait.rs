//! One wait: [`Wait`] before it, [`Events`] and [`Harvest`] after it.
//!
//! What must stay true: a `Wait` borrows nothing of the engine, so other threads may use the engine while it blocks; it makes one
//! system call; what went wrong is told, not retried, because only the owner knows what a signal means to it.

use std::fmt;
use std::io;

use crate::sys::{Answer, Question};

/// A wait that was prepared, see [`Engine::prepare`](crate::Engine::prepare). Can be sent to another thread.
///
/// ```
/// use std::time::Duration;
/// use velodrome_engine::Engine;
///
/// let mut engine = Engine::<()>::new()?;
/// let wait = engine.prepare(Some(Duration::from_millis(1)));
/// let events = std::thread::spawn(|| wait.block()).join().unwrap();
/// assert_eq!(engine.harvest(events).jobs, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a wait does nothing until it blocks"]
pub struct Wait {
    /// An error if an engine that forgot its kernel got no other.
    pub(crate) question: io::Result<Question>,
    /// Where to wait first, for ever.
    #[cfg(velodrome_model)]
    pub(crate) modelled: Option<std::sync::Arc<crate::wake::Pipe>>,
}

/// What a wait brought, to be given to [`Engine::harvest`](crate::Engine::harvest) of the engine that prepared it.
///
/// ```
/// use std::time::Duration;
/// use velodrome_engine::Engine;
///
/// let mut engine = Engine::<()>::new()?;
/// let events = engine.prepare(Some(Duration::ZERO)).block();
/// engine.harvest(events);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "events are lost unless the engine harvests them"]
pub struct Events {
    pub(crate) answer: Option<Answer>,
    pub(crate) result: io::Result<()>,
}

/// What [`Engine::harvest`](crate::Engine::harvest) found.
///
/// ```
/// use std::time::Duration;
/// use velodrome_engine::Engine;
///
/// let mut engine = Engine::<()>::new()?;
/// let events = engine.prepare(Some(Duration::ZERO)).block();
/// let harvest = engine.harvest(events);
/// assert_eq!((harvest.jobs, harvest.interrupted), (0, false));
/// assert!(harvest.signals.is_empty() && harvest.error.is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Harvest {
    /// How many jobs became ready because their descriptor did. (What came through the inbox is not counted.)
    pub jobs: usize,
    /// The signal numbers that were written to [`Engine::wake_fd`](crate::Engine::wake_fd), in order. Empty, and then not even
    /// allocated, nearly always.
    pub signals: Vec<u8>,
    /// A signal handler ran and ended the wait (`EINTR`). Nothing else is known; the next wait will tell.
    pub interrupted: bool,
    /// The wait failed: its descriptor was closed by someone else, or there were none for an engine that has forgotten its kernel.
    pub error: Option<io::Error>,
}

impl Wait {
    /// Blocks until something is ready, the time is over, a signal handler ran, or the engine is woken. Exactly one system call.
    ///
    /// ```
    /// use std::time::Duration;
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::<()>::new()?;
    /// let start = Time::now();
    /// let events = engine.prepare(Some(Duration::from_micros(200))).block();
    /// assert!(Time::now().saturating_since(start) >= Duration::from_micros(200));
    /// engine.harvest(events);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn block(self) -> Events {
        #[cfg(velodrome_model)]
        if let Some(pipe) = &self.modelled {
            pipe.wait();
        }
        match self.question {
            Ok(question) => {
                let (answer, result) = question.block();
                Events { answer: Some(answer), result }
            }
            Err(error) => Events { answer: None, result: Err(error) },
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("result", &self.result).finish_non_exhaustive()
    }
}
