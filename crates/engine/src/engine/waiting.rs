//! Before a wait and after it.
//!
//! What must stay true: nobody waits while a job is there; whatever the wait found is pushed after what other threads sent before.

use std::io;
use std::time::Duration;

use super::Engine;
use crate::sys::WAKE;
use crate::time::Time;
use crate::wait::{Events, Harvest, Wait};

/// An engine that is about to sleep keeps no ready queue larger than this.
const KEEP: usize = 1024;

/// Waiting.
impl<J> Engine<J> {
    /// How long the next wait may take: zero if something is ready already (the clock is not read then), until the next deadline
    /// if there is one, for ever (`None`) otherwise.
    ///
    /// ```
    /// use std::time::Duration;
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// assert_eq!(engine.timeout(Time::now), None);
    /// engine.timer(Time::from_nanos(30), ());
    /// assert_eq!(engine.timeout(|| Time::from_nanos(10)), Some(Duration::from_nanos(20)));
    /// engine.push(());
    /// assert_eq!(engine.timeout(|| unreachable!()), Some(Duration::ZERO));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn timeout(&mut self, now: impl FnOnce() -> Time) -> Option<Duration> {
        if !self.ready.is_empty() || !self.inbox.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.next_deadline()?;
        Some(deadline.saturating_since(now()))
    }

    /// Prepares a wait of at most `timeout` (`None`: for ever), which borrows nothing of the engine.
    ///
    /// Other threads that reach the engine meanwhile may change it: what they watch is noticed by the wait that is under way;
    /// after a push or a timer of theirs call [`Remote::wake`](crate::Remote::wake) (or use [`Engine::remote_push`]).
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.timer(Time::now(), "due");
    /// let timeout = engine.timeout(Time::now);
    /// let events = engine.prepare(timeout).block();
    /// engine.harvest(events);
    /// engine.expire(Time::now());
    /// assert_eq!(engine.pop(), Some("due"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn prepare(&mut self, timeout: Option<Duration>) -> Wait {
        if let Err(error) = self.own_kernel() {
            return Wait {
                question: Err(error),
                #[cfg(velodrome_model)]
                modelled: None,
            };
        }
        // Whoever is about to sleep has the time to give back what the last burst of jobs needed.
        if timeout != Some(Duration::ZERO) && self.ready.capacity() > KEEP && self.ready.len() <= KEEP / 2 {
            self.ready.shrink_to(KEEP);
        }
        // A job that came in after the owner looked has its wake-up in the pipe, or that was read already: look again.
        let timeout = if self.inbox.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.waiting = true;
        self.changed = false;
        Wait {
            question: Ok(self.selector.ask(timeout, self.readiness.sources())),
            #[cfg(velodrome_model)]
            modelled: timeout.is_none().then(|| std::sync::Arc::clone(&self.pipe)),
        }
    }

    /// Makes ready what a wait found: pushes a clone of the job of each direction that is ready, in the kernel's order, read
    /// before write. What was unwatched since the wait began does not fire, nor does what was watched in its place.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use velodrome_engine::{Engine, Interest};
    ///
    /// let (_reader, writer) = std::io::pipe()?;
    /// let mut engine = Engine::new()?;
    /// engine.watch(writer.as_fd(), Interest::Write, "writable")?;
    /// let events = engine.prepare(None).block();
    /// assert_eq!(engine.harvest(events).jobs, 1);
    /// assert_eq!(engine.pop(), Some("writable"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn harvest(&mut self, events: Events) -> Harvest
    where
        J: Clone,
    {
        let mut harvest = Harvest::default();
        self.waiting = false;
        // The other threads' jobs were there before anyone looked at the events.
        self.admit();
        let Events { answer, result } = events;
        if answer.is_some() {
            self.syscalls += 1;
        }
        match (result, &answer) {
            (Ok(()), Some(answer)) if !self.forgotten => {
                let before = self.ready.len();
                let (mut woken, mut ghost) = (false, false);
                for event in (0..).map_while(|index| answer.get(index)) {
                    match event {
                        None => {}
                        Some((WAKE, _)) => woken = true,
                        Some((token, ready)) => match self.readiness.fired(token, ready) {
                            Some([read, write]) => {
                                if let Some(job) = read {
                                    self.ready.push_back(job.clone());
                                }
                                if let Some(job) = write {
                                    self.ready.push_back(job.clone());
                                }
                            }
                            None => ghost = true,
                        },
                    }
                }
                harvest.jobs = self.ready.len() - before;
                if woken {
                    self.syscalls += self.pipe.drain(&mut harvest.signals);
                }
                // An event of no source is stale, if something changed while the wait was out. Otherwise it will be there in
                // every wait, and the loop would spin. (If there is no descriptor left to start again with: next time.)
                if ghost
                    && !self.changed
                    && let Ok(selector) = self.another_selector(&self.pipe)
                {
                    self.selector = selector;
                }
            }
            (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => harvest.interrupted = true,
            (Err(error), _) => harvest.error = Some(error),
            _ => {}
        }
        if let Some(answer) = answer {
            self.selector.reuse(answer);
        }
        harvest
    }

    /// How often the kernel was asked: waits and reads of the wake-up pipe.
    #[doc(hidden)]
    pub fn syscalls(&self) -> u64 {
        self.syscalls
    }

    /// Capacities of ready queue, timer heap and timer slab.
    #[doc(hidden)]
    pub fn capacities(&self) -> [usize; 3] {
        let (heap, slots) = self.timers.capacity();
        [self.ready.capacity(), heap, slots]
    }
}
