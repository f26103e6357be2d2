//! [`Semaphore`]: so many tasks at a time.

use std::cell::Cell;

use crate::waiters::Waiters;

/// A number of permits, which tasks take and give back.
///
/// ```
/// use velodrome::{Semaphore, run};
///
/// run(async {
///     let semaphore = Semaphore::new(2);
///     let _first = semaphore.acquire().await;
///     let second = semaphore.acquire().await;
///     assert!(semaphore.try_acquire().is_none());
///     drop(second);
///     assert!(semaphore.try_acquire().is_some());
/// });
/// ```
#[derive(Debug)]
pub struct Semaphore {
    permits: Cell<usize>,
    waiters: Waiters,
}

impl Semaphore {
    /// A semaphore with so many permits.
    ///
    /// ```
    /// assert_eq!(velodrome::Semaphore::new(3).available(), 3);
    /// ```
    pub const fn new(permits: usize) -> Self {
        Semaphore { permits: Cell::new(permits), waiters: Waiters::new() }
    }

    /// Waits for a permit, behind those who came before.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let semaphore = velodrome::Semaphore::new(1);
    ///     let permit = semaphore.acquire().await;
    ///     assert_eq!(semaphore.available(), 0);
    /// });
    /// ```
    #[inline]
    pub async fn acquire(&self) -> Permit<'_> {
        if !self.take() {
            // Whoever gives one back hands it to the first who waits.
            let on_lost = || {
                self.release(1);
                self.hand_on();
            };
            self.waiters.wait(on_lost).await;
            self.hand_on();
        }
        Permit { semaphore: self }
    }

    /// Takes a permit if one is free, and nobody came before.
    ///
    /// ```
    /// assert!(velodrome::Semaphore::new(0).try_acquire().is_none());
    /// ```
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.take().then(|| Permit { semaphore: self })
    }

    /// Who was woken and has not gone on yet came before, too: nobody passes.
    #[inline]
    fn take(&self) -> bool {
        let takes = self.permits.get() > 0 && self.waiters.is_idle();
        if takes {
            self.permits.set(self.permits.get() - 1);
        }
        takes
    }

    /// Wakes those who have waited only for somebody who came before, as many as there are permits.
    #[inline]
    fn hand_on(&self) {
        while self.permits.get() > 0 && self.waiters.wake_one() {
            self.permits.set(self.permits.get() - 1);
        }
    }

    /// Adds permits, or gives back those that were [kept](Permit::keep).
    ///
    /// ```
    /// let semaphore = velodrome::Semaphore::new(0);
    /// semaphore.release(2);
    /// assert_eq!(semaphore.available(), 2);
    /// ```
    pub fn release(&self, permits: usize) {
        for _ in 0..permits {
            if !self.waiters.wake_one() {
                self.permits.set(self.permits.get() + 1);
            }
        }
    }

    /// How many permits are free.
    ///
    /// ```
    /// assert_eq!(velodrome::Semaphore::new(1).available(), 1);
    /// ```
    pub fn available(&self) -> usize {
        self.permits.get()
    }
}

/// One permit of a [`Semaphore`], given back when this is dropped.
///
/// ```
/// let semaphore = velodrome::Semaphore::new(1);
/// let permit: Option<velodrome::Permit<'_>> = semaphore.try_acquire();
/// assert!(permit.is_some());
/// ```
#[derive(Debug)]
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit: it does not come back by itself.
    ///
    /// ```
    /// let semaphore = velodrome::Semaphore::new(1);
    /// semaphore.try_acquire().unwrap().keep();
    /// assert_eq!(semaphore.available(), 0);
    /// ```
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.semaphore.release(1);
    }
}
