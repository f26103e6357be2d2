//! [`Clocks`]: an instant of `std`, as the host's clock shows it.
//!
//! What must stay true: instants keep their order, and the same one is the same time whenever it is asked for. So the two clocks are
//! compared once, and not each time anew. Nothing comes early: the host's clock is read after the other.

use std::cell::Cell;
use std::time::Instant;

use crate::abi::LocalHost;

/// A clock that is further off than this, in nanoseconds, is no longer the one that was compared: somebody has replaced it.
const REPLACED: u64 = 1_000_000_000;
/// So many comparisons are made: where the two readings took least, nothing came between them.
const TRIES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Clocks {
    compared: Cell<Option<Pair>>,
}

/// An instant, and what the host's clock showed then or a little later.
#[derive(Clone, Copy, Debug)]
struct Pair {
    instant: Instant,
    host: u64,
}

impl Clocks {
    /// What the host's clock will show at this instant, which is about `left` nanoseconds away.
    pub(crate) fn time_of(&self, instant: Instant, left: u64, host: &LocalHost) -> u64 {
        let roughly = host.now().saturating_add(left);
        let known = self.compared.get().map(|pair| pair.time_of(instant));
        known.filter(|time| time.abs_diff(roughly) < REPLACED).unwrap_or_else(|| {
            let pair = Pair::read(host);
            self.compared.set(Some(pair));
            pair.time_of(instant)
        })
    }
}

impl Pair {
    #[cold]
    fn read(host: &LocalHost) -> Pair {
        let read = || {
            let instant = Instant::now();
            let pair = Pair { instant, host: host.now() };
            (instant.elapsed(), pair)
        };
        let (_, pair) =
            (1..TRIES).map(|_| read()).fold(read(), |best, next| if next.0 < best.0 { next } else { best });
        pair
    }

    fn time_of(self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.instant).as_nanos();
        self.host.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}
