//! [`Barrier`]: nobody goes on before all are there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::waiters::Waiters;

/// Lets tasks pass in groups of so many.
///
/// ```
/// use std::rc::Rc;
/// use velodrome::{Barrier, gather, run};
///
/// run(async {
///     let barrier = Rc::new(Barrier::new(3));
///     let mut places = gather((0..3).map(|_| {
///         let barrier = Rc::clone(&barrier);
///         async move { barrier.wait().await.unwrap() }
///     })).await.unwrap();
///     places.sort();
///     assert_eq!(places, [0, 1, 2]);
/// });
/// ```
#[derive(Debug)]
pub struct Barrier {
    parties: usize,
    waiting: Cell<usize>,
    /// The group that is gathering.
    round: RefCell<Rc<Cell<Round>>>,
    broken: Cell<bool>,
    waiters: Waiters,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Gathering,
    Passed,
    SentAway,
}

/// The barrier was aborted, or reset while somebody waited.
///
/// ```
/// let barrier = velodrome::Barrier::new(2);
/// barrier.abort();
/// assert!(velodrome::run(barrier.wait()).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken")]
pub struct BrokenBarrier;

impl Barrier {
    /// A barrier for groups of so many.
    ///
    /// # Panics
    ///
    /// If that is none.
    ///
    /// ```
    /// assert_eq!(velodrome::Barrier::new(2).parties(), 2);
    /// ```
    pub fn new(parties: usize) -> Self {
        assert!(parties >= 1, "parties must be at least 1");
        Barrier {
            parties,
            waiting: Cell::new(0),
            round: RefCell::new(Rc::new(Cell::new(Round::Gathering))),
            broken: Cell::new(false),
            waiters: Waiters::new(),
        }
    }

    /// Waits until so many are there; says as which of the group one came, from 0 on.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] if the barrier is aborted or reset meanwhile.
    ///
    /// ```
    /// assert_eq!(velodrome::run(velodrome::Barrier::new(1).wait()), Ok(0));
    /// ```
    pub async fn wait(&self) -> Result<usize, BrokenBarrier> {
        if self.broken.get() {
            return Err(BrokenBarrier);
        }
        let place = self.waiting.get();
        if place + 1 == self.parties {
            self.end_round(Round::Passed);
            return Ok(place);
        }
        self.waiting.set(place + 1);
        let leave = Leave { barrier: self, round: Rc::clone(&self.round.borrow()) };
        self.waiters.wait(|| ()).await;
        if leave.round.get() == Round::SentAway { Err(BrokenBarrier) } else { Ok(place) }
    }

    /// Sends those who wait away with [`BrokenBarrier`], and begins anew.
    ///
    /// ```
    /// let barrier = velodrome::Barrier::new(1);
    /// barrier.abort();
    /// barrier.reset();
    /// assert!(velodrome::run(barrier.wait()).is_ok());
    /// ```
    pub fn reset(&self) {
        self.broken.set(false);
        self.end_round(Round::SentAway);
    }

    /// Sends those who wait away, and whoever comes after them.
    ///
    /// ```
    /// let barrier = velodrome::Barrier::new(1);
    /// barrier.abort();
    /// assert!(barrier.is_broken());
    /// ```
    pub fn abort(&self) {
        self.broken.set(true);
        self.end_round(Round::SentAway);
    }

    /// How many pass together.
    ///
    /// ```
    /// assert_eq!(velodrome::Barrier::new(3).parties(), 3);
    /// ```
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait.
    ///
    /// ```
    /// assert_eq!(velodrome::Barrier::new(3).waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Whether it was aborted.
    ///
    /// ```
    /// assert!(!velodrome::Barrier::new(3).is_broken());
    /// ```
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    fn end_round(&self, how: Round) {
        self.waiting.set(0);
        self.round.replace(Rc::new(Cell::new(Round::Gathering))).set(how);
        self.waiters.wake_all();
    }
}

/// Who gives up waiting is not counted any more.
struct Leave<'a> {
    barrier: &'a Barrier,
    round: Rc<Cell<Round>>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.round.get() == Round::Gathering {
            self.barrier.waiting.set(self.barrier.waiting.get() - 1);
        }
    }
}
