//! The engine's timers: see `timers.rs` for how they are kept.
//!
//! What must stay true: what expires comes after what other threads sent before.

use super::Engine;
use crate::time::Time;
use crate::timers::TimerKey;

/// Timers.
impl<J> Engine<J> {
    /// Schedules a job: [`Engine::expire`] makes it ready once `at` has come. Jobs of the same time keep their order.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.timer(Time::from_nanos(20), "b");
    /// engine.timer(Time::from_nanos(10), "a");
    /// engine.timer(Time::from_nanos(20), "c");
    /// assert_eq!(engine.expire(Time::from_nanos(20)), 3);
    /// assert!(engine.ready().eq(&["a", "b", "c"]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn timer(&mut self, at: Time, job: J) -> TimerKey {
        self.timers.insert(at, job)
    }

    /// Cancels a timer and returns its job: `None` if it fired or was cancelled before.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// let key = engine.timer(Time::MAX, "never");
    /// assert_eq!(engine.cancel(key), Some("never"));
    /// assert_eq!(engine.timer_count(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn cancel(&mut self, key: TimerKey) -> Option<J> {
        self.timers.remove(key)
    }

    /// How many timers are scheduled.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.timer(Time::MAX, ());
    /// assert_eq!(engine.timer_count(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// The scheduled jobs: the next one, and then the others in no particular order.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.timer(Time::MAX, "late");
    /// assert_eq!(engine.timers().next(), Some((Time::MAX, &"late")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn timers(&self) -> impl Iterator<Item = (Time, &J)> {
        self.timers.iter()
    }

    /// The earliest deadline.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// assert_eq!(engine.next_deadline(), None);
    /// engine.timer(Time::from_nanos(10), ());
    /// assert_eq!(engine.next_deadline(), Some(Time::from_nanos(10)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.timers.next()
    }

    /// Makes every timer ready whose time has come (`at <= now`), in order of time; says how many.
    ///
    /// ```
    /// use velodrome_engine::{Engine, Time};
    ///
    /// let mut engine = Engine::new()?;
    /// engine.timer(Time::from_nanos(10), "due");
    /// engine.timer(Time::from_nanos(11), "not yet");
    /// assert_eq!(engine.expire(Time::from_nanos(10)), 1);
    /// assert_eq!(engine.pop(), Some("due"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn expire(&mut self, now: Time) -> usize {
        self.admit();
        let ready = &mut self.ready;
        self.timers.expire(now, |job| ready.push_back(job))
    }
}
