//! The loop's clock, as the engine counts it.
//!
//! The engine's time is nanoseconds without a sign; asyncio's is any `float`, and timers in its past, below zero too,
//! have an order. So zero is put in the middle.

use velodrome_engine::Time;

/// The engine's number for asyncio's zero: 146 years.
const ZERO: i64 = 1 << 62;

/// The engine's time for seconds of asyncio's clock; what is too large or too small is the end of time, NaN is its
/// beginning.
#[inline]
pub fn at(seconds: f64) -> Time {
    if seconds.is_nan() {
        return Time::ZERO;
    }
    let nanoseconds = seconds * 1e9;
    let towards_zero = nanoseconds as i64;
    // `floor()` is a call where the processor is not known to have it.
    let down = towards_zero.saturating_sub(i64::from(towards_zero as f64 > nanoseconds));
    Time::from_nanos(u64::try_from(down.saturating_add(ZERO)).unwrap_or(0))
}

/// The engine's time now.
#[inline]
pub fn now() -> Time {
    Time::from_nanos(Time::now().as_nanos() + ZERO as u64)
}

/// Seconds of asyncio's clock now: `time.monotonic()`.
#[inline]
pub fn seconds() -> f64 {
    Time::now().as_secs_f64()
}
