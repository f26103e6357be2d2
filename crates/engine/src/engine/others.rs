//! How others reach the engine: threads through the inbox (see `inbox.rs`), signals through the wake-up pipe (see `wake.rs`).

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Engine;
use crate::inbox::Remote;

/// Other threads and signals.
impl<J> Engine<J> {
    /// The engine, as other threads see it.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// let remote = engine.remote();
    /// std::thread::spawn(move || remote.push("from afar")).join().unwrap().unwrap();
    /// engine.begin();
    /// assert_eq!(engine.pop(), Some("from afar"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remote(&self) -> Remote<J> {
        Remote::new(Arc::clone(&self.inbox))
    }

    /// [`Remote::push`], for whoever has the engine at hand.
    ///
    /// # Errors
    ///
    /// Gives the job back after [`Engine::close_inbox`].
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let engine = Engine::new()?;
    /// assert_eq!(engine.remote_push("a job"), Ok(()));
    /// assert!(!engine.inbox_is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remote_push(&self, job: J) -> Result<(), J> {
        self.inbox.push(job)
    }

    /// [`Engine::push`] that ends the wait, if there is one: for threads that share the engine under a lock of their owner's, which
    /// is not held while a [`Wait`](crate::Wait) blocks. Nobody is woken for nothing, as an engine that is not waiting sees the job.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// let wait = engine.prepare(None); // for ever, but the push ends it
    /// engine.push_and_wake("a job");
    /// let events = wait.block();
    /// engine.harvest(events);
    /// assert_eq!(engine.pop(), Some("a job"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn push_and_wake(&mut self, job: J) {
        self.push(job);
        if self.waiting {
            self.pipe.wake();
        }
    }

    /// Takes nothing from other threads any more: [`Remote::push`] gives their jobs back. What came before is moved to the end of
    /// the ready queue.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::new()?;
    /// let remote = engine.remote();
    /// remote.push("in time").unwrap();
    /// engine.close_inbox();
    /// assert_eq!(remote.push("too late"), Err("too late"));
    /// assert_eq!(engine.pop(), Some("in time"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close_inbox(&mut self) {
        self.ready.extend(self.inbox.close());
    }

    /// Whether nothing came from other threads since the inbox was moved in.
    ///
    /// ```
    /// use velodrome_engine::Engine;
    /// assert!(Engine::<()>::new()?.inbox_is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn inbox_is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// The write end of the wake-up pipe: any byte written to it ends the wait, now or next. Non-blocking. Meant for
    /// `signal.set_wakeup_fd`: bytes other than zero come back as [`Harvest::signals`](crate::Harvest::signals).
    ///
    /// ```
    /// use velodrome_engine::Engine;
    ///
    /// let mut engine = Engine::<()>::new()?;
    /// rustix::io::write(engine.wake_fd(), &[2])?;
    /// let events = engine.prepare(None).block();
    /// assert_eq!(engine.harvest(events).signals, [2]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.pipe.writer()
    }
}
