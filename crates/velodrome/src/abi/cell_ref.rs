//! [`CellRef`]: what is known of a task, held; and which task is being polled.
//!
//! What must stay true: a `CellRef` is on the loop's thread, with a share of its own; whoever polls a task has a share of it
//! for as long as it is the current one.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::host_ref::LocalHost;
use super::raw_task::{ALONE, Header, alone, release_local};
use super::waker::waker_wake_by_ref;
use crate::task_cell::TaskCell;

/// What is known of a task, on the loop's thread.
pub(crate) struct CellRef {
    header: NonNull<Header>,
    own_thread: PhantomData<*mut ()>,
}

impl CellRef {
    /// What is known of a task, for as long as somebody else has a share.
    ///
    /// # Safety
    ///
    /// They have, until this is dropped.
    #[inline]
    pub(super) unsafe fn lent(header: NonNull<Header>) -> ManuallyDrop<CellRef> {
        ManuallyDrop::new(CellRef { header, own_thread: PhantomData })
    }

    /// The task that is being polled.
    pub(crate) fn current() -> Option<CellRef> {
        let header = NonNull::new(CURRENT.get().cast_mut())?;
        // SAFETY: whoever is polling it has a share.
        unsafe { header.as_ref() }.retain();
        Some(CellRef { header, own_thread: PhantomData })
    }

    /// Makes this the task that is being polled, until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered { before: CURRENT.replace(self.header.as_ptr().cast_const()), task: PhantomData }
    }

    /// What is known of a task that has no future here: the main one.
    pub(crate) fn alone(host: &LocalHost) -> Self {
        CellRef { header: alone(host), own_thread: PhantomData }
    }

    /// Wakes the task.
    pub(crate) fn wake(&self) {
        // SAFETY: this value has a share.
        if unsafe { self.header.as_ref() }.is(ALONE) {
            self.wake_main();
        } else {
            // SAFETY: as a waker, that is lent.
            unsafe { waker_wake_by_ref(self.header.as_ptr().cast_const().cast()) };
        }
    }

    /// Whether another task than this is being polled.
    #[inline]
    pub(crate) fn is_other(&self) -> bool {
        let current = CURRENT.get();
        !current.is_null() && !std::ptr::eq(current, self.header.as_ptr())
    }

    /// Whether it has no future here: whoever polls it has that.
    pub(crate) fn is_alone(&self) -> bool {
        // SAFETY: this value has a share.
        unsafe { self.header.as_ref() }.is(ALONE)
    }

    #[cfg(test)]
    pub(super) fn set_owners(&self, owners: u32) {
        // SAFETY: this value has a share.
        unsafe { self.header.as_ref() }.local.set(owners);
    }

    pub(crate) fn is(&self, other: &CellRef) -> bool {
        self.header == other.header
    }
}

thread_local! {
    /// The task that is being polled. Whoever polls it has a share.
    static CURRENT: Cell<*const Header> = const { Cell::new(std::ptr::null()) };
}

/// Puts back what was before.
pub(crate) struct Entered<'a> {
    before: *const Header,
    task: PhantomData<&'a CellRef>,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

impl Deref for CellRef {
    type Target = TaskCell;

    #[inline]
    fn deref(&self) -> &TaskCell {
        // SAFETY: this value has a share; it does not leave the loop's thread.
        unsafe { &self.header.as_ref().cell }
    }
}

impl Clone for CellRef {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: this value has a share.
        unsafe { self.header.as_ref() }.retain();
        CellRef { header: self.header, own_thread: PhantomData }
    }
}

impl Drop for CellRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value's share.
        unsafe { release_local(self.header) };
    }
}

impl std::fmt::Debug for CellRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}
