//! [`Condition`]: something about a locked value has changed.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use super::lock::LockGuard;
use crate::waiters::Waiters;

/// Those who wait for a [`Lock`](crate::Lock)'s value to change.
///
/// ```
/// use std::rc::Rc;
/// use velodrome::{Condition, Lock, create_task, run};
///
/// run(async {
///     let shared = Rc::new((Lock::new(Vec::new()), Condition::new()));
///     let eater = Rc::clone(&shared);
///     let meal = create_task(async move {
///         let (plate, cooked) = &*eater;
///         let mut plate = cooked.wait_for(plate.lock().await, |plate| !plate.is_empty()).await;
///         plate.pop()
///     });
///     let (plate, cooked) = &*shared;
///     plate.lock().await.push("soup");
///     cooked.notify_one();
///     assert_eq!(meal.await.unwrap(), Some("soup"));
/// });
/// ```
#[derive(Debug)]
pub struct Condition {
    waiters: Waiters,
}

impl Condition {
    /// A condition that nobody waits for.
    ///
    /// ```
    /// let condition = velodrome::Condition::new();
    /// condition.notify_all(); // nobody hears it
    /// ```
    pub const fn new() -> Self {
        Condition { waiters: Waiters::new() }
    }

    /// Gives the lock back, waits for a notification, and takes the lock again.
    ///
    /// If it is dropped after it was notified, the notification goes to the next.
    ///
    /// ```
    /// use std::rc::Rc;
    /// use velodrome::{Condition, Lock, create_task, run, yield_now};
    ///
    /// run(async {
    ///     let shared = Rc::new((Lock::new(0), Condition::new()));
    ///     let waiting = Rc::clone(&shared);
    ///     let task = create_task(async move { *waiting.1.wait(waiting.0.lock().await).await });
    ///     yield_now().await;
    ///     *shared.0.lock().await = 1;
    ///     shared.1.notify_one();
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    pub async fn wait<'a, T>(&self, guard: LockGuard<'a, T>) -> LockGuard<'a, T> {
        let lock = guard.owner();
        let hand_on = || {
            self.waiters.wake_one();
        };
        let mut notified = self.waiters.wait(hand_on);
        let mut guard = Some(guard);
        poll_fn(|cx| {
            // In the queue first, and then without the lock.
            let polled = Pin::new(&mut notified).poll(cx);
            guard = None;
            polled
        })
        .await;
        let unless_locked = OnDrop(Some(hand_on));
        let guard = lock.lock().await;
        unless_locked.defuse();
        guard
    }

    /// Waits until the value is as it should be.
    ///
    /// ```
    /// use velodrome::{Condition, Lock, run};
    ///
    /// run(async {
    ///     let (lock, condition) = (Lock::new(1), Condition::new());
    ///     let guard = condition.wait_for(lock.lock().await, |value| *value == 1).await;
    ///     assert_eq!(*guard, 1);
    /// });
    /// ```
    pub async fn wait_for<'a, T>(
        &self,
        mut guard: LockGuard<'a, T>,
        mut predicate: impl FnMut(&mut T) -> bool,
    ) -> LockGuard<'a, T> {
        while !predicate(&mut guard) {
            guard = self.wait(guard).await;
        }
        guard
    }

    /// Wakes who waits longest.
    ///
    /// ```
    /// velodrome::Condition::new().notify_one();
    /// ```
    pub fn notify_one(&self) {
        self.waiters.wake_one();
    }

    /// Wakes so many of those who wait, the longest first.
    ///
    /// ```
    /// velodrome::Condition::new().notify(3);
    /// ```
    pub fn notify(&self, count: usize) {
        for _ in 0..count {
            if !self.waiters.wake_one() {
                break;
            }
        }
    }

    /// Wakes all who wait.
    ///
    /// ```
    /// velodrome::Condition::new().notify_all();
    /// ```
    pub fn notify_all(&self) {
        self.waiters.wake_all();
    }
}

impl Default for Condition {
    fn default() -> Self {
        Condition::new()
    }
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            function();
        }
    }
}
