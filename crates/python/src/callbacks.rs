//! Who is told when a future is done: tasks that await it, and callbacks with their contexts, in the order in
//! which they came.
//!
//! Nearly every future has one, so the first is kept inline.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;

use crate::cpython::{Fallible, Obj, Own, Ref, Visitor};
use crate::listener::Listener;
use crate::task::Task;

/// One that is told.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A task of ours, which is stepped.
    Waiter(Own<Task>),
    /// A callback, and the context to call it in.
    Callback(Ref, Ref),
    /// One of ours that is told natively.
    Listener(Listener),
}

/// All of them.
#[derive(Default)]
pub struct Callbacks {
    first: Cell<Option<Entry>>,
    rest: OnceCell<Box<RefCell<Vec<Entry>>>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Adds one.
    #[inline]
    pub fn push(&self, entry: Entry) {
        match self.first.take() {
            // Nothing is there to be dropped.
            None if self.rest.get().is_none() => std::mem::forget(self.first.replace(Some(entry))),
            first => self.push_behind(first, entry),
        }
    }

    #[inline(never)]
    fn push_behind(&self, first: Option<Entry>, entry: Entry) {
        let rest = self.rest.get_or_init(Box::default);
        if first.is_none() && rest.borrow().is_empty() {
            self.first.set(Some(entry));
        } else {
            self.first.set(first);
            rest.borrow_mut().push(entry);
        }
    }

    /// Whether there have ever been several.
    #[inline]
    pub fn are_listed(&self) -> bool {
        self.rest.get().is_some()
    }

    /// Takes the first one out; the only one, if they are not listed.
    #[inline]
    pub fn take_first(&self) -> Option<Entry> {
        self.first.take()
    }

    /// Takes all of them out.
    pub fn take(&self) -> Vec<Entry> {
        let rest = self.rest.get().map(|rest| std::mem::take(&mut *rest.borrow_mut())).unwrap_or_default();
        self.first.take().into_iter().chain(rest).collect()
    }

    /// Copies of all of them.
    pub fn list(&self) -> Vec<Entry> {
        let first = self.first.take();
        let entries = first
            .clone()
            .into_iter()
            .chain(self.rest.get().into_iter().flat_map(|rest| rest.borrow().clone()));
        let entries = entries.collect();
        self.first.set(first);
        entries
    }

    /// Removes every callback that equals `callback`; says how many there were.
    ///
    /// Comparing runs Python, which may add or remove others: they are kept or gone as it wishes.
    pub fn remove(&self, callback: &Obj) -> Fallible<usize> {
        let mut removed = 0;
        for entry in self.list() {
            let shown = match &entry {
                Entry::Callback(candidate, _) => candidate.clone(),
                // A task stands in the list as the callable that would wake it.
                Entry::Waiter(task) => crate::task::wakeup_callable(task)?,
                Entry::Listener(listener) => listener.callable()?,
            };
            if shown.is(callback) || shown.equals(callback)? {
                removed += usize::from(self.remove_entry(&entry));
            }
        }
        Ok(removed)
    }

    /// Removes one entry by identity.
    fn remove_entry(&self, sought: &Entry) -> bool {
        let same = |entry: &Entry| match (entry, sought) {
            (Entry::Callback(f, c), Entry::Callback(callback, context)) => f.is(callback) && c.is(context),
            (Entry::Waiter(task), Entry::Waiter(waiter)) => task.obj().is(waiter.obj()),
            (Entry::Listener(ours), Entry::Listener(listener)) => ours.obj().is(listener.obj()),
            _ => false,
        };
        let first = self.first.take();
        if first.as_ref().is_some_and(same) {
            // The place of the first stays in use as long as there are others, so that the order holds.
            let next = self.rest.get().and_then(|rest| {
                let mut rest = rest.borrow_mut();
                (!rest.is_empty()).then(|| rest.remove(0))
            });
            self.first.set(next);
            return true;
        }
        self.first.set(first);
        let found = self.rest.get().and_then(|rest| {
            let mut rest = rest.borrow_mut();
            rest.iter().position(same).map(|index| rest.remove(index))
        });
        found.is_some()
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        drop(self.take());
    }

    /// Shows them to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        let mut show = |entry: &Entry| match entry {
            Entry::Waiter(task) => visitor.object(task.obj()),
            Entry::Listener(listener) => visitor.object(listener.obj()),
            Entry::Callback(callback, context) => {
                visitor.object(callback);
                visitor.object(context);
            }
        };
        let first = self.first.take();
        first.iter().for_each(&mut show);
        self.first.set(first);
        if let Some(Ok(rest)) = self.rest.get().map(|rest| rest.try_borrow()) {
            rest.iter().for_each(&mut show);
        }
    }
}
