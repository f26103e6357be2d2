//! [`Event`]: something has happened.

use std::cell::Cell;

use crate::waiters::Waiters;

/// A flag that tasks can wait for.
///
/// ```
/// use std::rc::Rc;
/// use velodrome::{Event, create_task, run};
///
/// run(async {
///     let event = Rc::new(Event::new());
///     let waiting = Rc::clone(&event);
///     let task = create_task(async move { waiting.wait().await });
///     event.set();
///     task.await.unwrap();
/// });
/// ```
#[derive(Debug)]
pub struct Event {
    set: Cell<bool>,
    waiters: Waiters,
}

impl Event {
    /// An event that has not happened.
    ///
    /// ```
    /// assert!(!velodrome::Event::new().is_set());
    /// ```
    pub const fn new() -> Self {
        Event { set: Cell::new(false), waiters: Waiters::new() }
    }

    /// It has happened: wakes all who wait.
    ///
    /// ```
    /// let event = velodrome::Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        if !self.set.replace(true) {
            self.waiters.wake_all();
        }
    }

    /// It has not happened any more.
    ///
    /// ```
    /// let event = velodrome::Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Whether it has happened.
    ///
    /// ```
    /// assert!(!velodrome::Event::default().is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it has happened; not at all if it has.
    ///
    /// ```
    /// let event = velodrome::Event::new();
    /// event.set();
    /// velodrome::run(event.wait());
    /// ```
    #[inline]
    pub async fn wait(&self) {
        if !self.set.get() {
            self.waiters.wait(|| ()).await;
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Event::new()
    }
}
