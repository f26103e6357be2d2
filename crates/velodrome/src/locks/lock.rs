//! [`Lock`]: one task at a time.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::waiters::Waiters;

/// One task at a time reaches the value, also across an `await`.
///
/// Between two awaits nobody else runs, so a `Cell` or a `RefCell` will do for what needs no await in the middle.
///
/// ```
/// use std::rc::Rc;
/// use velodrome::{Lock, gather, run, yield_now};
///
/// run(async {
///     let account = Rc::new(Lock::new(0));
///     gather((0..3).map(|_| {
///         let account = Rc::clone(&account);
///         async move {
///             let mut balance = account.lock().await;
///             let seen = *balance;
///             yield_now().await;
///             *balance = seen + 10;
///         }
///     })).await.unwrap();
///     assert_eq!(*account.lock().await, 30);
/// });
/// ```
pub struct Lock<T> {
    locked: Cell<bool>,
    waiters: Waiters,
    /// Borrowed by the guard: there is one at most.
    value: RefCell<T>,
}

impl<T> Lock<T> {
    /// A lock around a value.
    ///
    /// ```
    /// let lock = velodrome::Lock::new(1);
    /// assert!(!lock.is_locked());
    /// ```
    pub const fn new(value: T) -> Self {
        Lock { locked: Cell::new(false), waiters: Waiters::new(), value: RefCell::new(value) }
    }

    /// Waits for its turn, and takes the lock.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let lock = velodrome::Lock::new(1);
    ///     *lock.lock().await += 1;
    ///     assert_eq!(lock.into_inner(), 2);
    /// });
    /// ```
    #[inline]
    pub async fn lock(&self) -> LockGuard<'_, T> {
        if self.locked.replace(true) {
            // Who gives the lock back hands it to the first who waits: it stays locked.
            self.waiters.wait(|| self.release()).await;
        }
        self.guard()
    }

    /// Takes the lock if it is free.
    ///
    /// ```
    /// let lock = velodrome::Lock::new(1);
    /// let guard = lock.try_lock().unwrap();
    /// assert!(lock.try_lock().is_none());
    /// ```
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        (!self.locked.replace(true)).then(|| self.guard())
    }

    /// Whether somebody has it.
    ///
    /// ```
    /// let lock = velodrome::Lock::new(1);
    /// let guard = lock.try_lock();
    /// assert!(lock.is_locked());
    /// ```
    pub fn is_locked(&self) -> bool {
        self.locked.get()
    }

    /// The value; nobody else can have it then.
    ///
    /// ```
    /// let mut lock = velodrome::Lock::new(1);
    /// *lock.get_mut() = 2;
    /// assert_eq!(lock.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// The value, without the lock.
    ///
    /// ```
    /// assert_eq!(velodrome::Lock::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    #[inline]
    fn guard(&self) -> LockGuard<'_, T> {
        LockGuard { lock: self, value: Some(self.value.borrow_mut()) }
    }

    #[inline]
    fn release(&self) {
        if !self.waiters.wake_one() {
            self.locked.set(false);
        }
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Lock::new(T::default())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

/// The lock, while it is held.
///
/// ```
/// let lock = velodrome::Lock::new(1);
/// let mut guard: velodrome::LockGuard<'_, i32> = lock.try_lock().unwrap();
/// *guard = 2;
/// ```
#[must_use = "the lock is given back when this is dropped"]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// `None` while it is being dropped.
    value: Option<RefMut<'a, T>>,
}

impl<'a, T> LockGuard<'a, T> {
    pub(super) fn owner(&self) -> &'a Lock<T> {
        self.lock
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("there until the guard is dropped")
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("there until the guard is dropped")
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.value = None;
        self.lock.release();
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
