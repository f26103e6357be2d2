//! [`Time`]: a point on the monotonic clock, in nanoseconds.
//!
//! What must stay true: the same clock as Python's `time.monotonic()` on Linux (`CLOCK_MONOTONIC`), and
//! arithmetic that saturates, because deadlines come from programs ("sleep for infinity") and must never wrap into the past.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Nanoseconds on the monotonic clock (`CLOCK_MONOTONIC`).
///
/// ```
/// use std::time::Duration;
/// use velodrome_engine::Time;
///
/// let start = Time::now();
/// let deadline = start.saturating_add(Duration::from_millis(5));
/// assert_eq!(deadline.saturating_since(start), Duration::from_millis(5));
/// assert_eq!(start.saturating_since(deadline), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The beginning of the clock.
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert!(Time::ZERO <= Time::now());
    /// ```
    pub const ZERO: Time = Time(0);

    /// Later than anything that will happen: 584 years after the beginning.
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert!(Time::now() < Time::MAX);
    /// ```
    pub const MAX: Time = Time(u64::MAX);

    /// Reads the clock.
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// let first = Time::now();
    /// assert!(first <= Time::now());
    /// ```
    #[inline]
    pub fn now() -> Time {
        let now = clock_gettime(ClockId::Monotonic);
        // Neither field is negative on a monotonic clock, and 584 years fit.
        Time(now.tv_sec as u64 * NANOS_PER_SEC + now.tv_nsec as u64)
    }

    /// The point that lies `nanos` nanoseconds after [`Time::ZERO`].
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_nanos(7).as_nanos(), 7);
    /// ```
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since [`Time::ZERO`].
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_nanos(7).as_nanos(), 7);
    /// ```
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// From seconds, as Python counts time. Rounds down to a nanosecond; what lies before the beginning (and NaN) is
    /// [`Time::ZERO`], what does not fit is [`Time::MAX`].
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_secs_f64(1.5).as_nanos(), 1_500_000_000);
    /// assert_eq!(Time::from_secs_f64(-1.0), Time::ZERO);
    /// assert_eq!(Time::from_secs_f64(f64::NAN), Time::ZERO);
    /// assert_eq!(Time::from_secs_f64(f64::INFINITY), Time::MAX);
    /// ```
    #[inline]
    pub fn from_secs_f64(secs: f64) -> Time {
        // A float-to-integer `as` is exactly this: truncates, saturates, and NaN becomes zero.
        Time((secs * NANOS_PER_SEC as f64) as u64)
    }

    /// In seconds, as Python counts time.
    ///
    /// ```
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_nanos(1_500_000_000).as_secs_f64(), 1.5);
    /// ```
    #[inline]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SEC as f64
    }

    /// This point, `duration` later; [`Time::MAX`] if that does not fit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_nanos(1).saturating_add(Duration::from_nanos(2)), Time::from_nanos(3));
    /// assert_eq!(Time::now().saturating_add(Duration::MAX), Time::MAX);
    /// ```
    #[inline]
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }

    /// How much later this is than `earlier`; zero if it is not later.
    ///
    /// ```
    /// use std::time::Duration;
    /// use velodrome_engine::Time;
    /// assert_eq!(Time::from_nanos(5).saturating_since(Time::from_nanos(3)), Duration::from_nanos(2));
    /// assert_eq!(Time::from_nanos(3).saturating_since(Time::from_nanos(5)), Duration::ZERO);
    /// ```
    #[inline]
    pub fn saturating_since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
