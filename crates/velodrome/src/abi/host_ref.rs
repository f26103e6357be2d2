//! [`HostRef`] and [`LocalHost`]: a loop, as everything else in this crate sees it.
//!
//! What must stay true: a `HostRef` owns one share of its loop, so the table stays valid as long as there is one. What
//! must happen on the loop's thread is asked of a `LocalHost`, which is made on that thread and cannot leave it.

use std::alloc::Layout;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;

use super::blocks::{Blocks, new_block};
use super::own_thread::this_thread;
use crate::host::{CallFn, Host, Interest, TimerId, Watch};

/// A loop, from any thread.
#[derive(Debug)]
pub(crate) struct HostRef(NonNull<Host>);

// SAFETY: retain, release and schedule may be called from any thread, and the methods of this type call no others.
unsafe impl Send for HostRef {}
// SAFETY: as above.
unsafe impl Sync for HostRef {}

impl HostRef {
    /// Takes over one share of the loop.
    ///
    /// # Safety
    ///
    /// `host` points to a table that keeps the contract of [`Host`], and the caller owns a share of its context.
    pub(super) unsafe fn from_raw(host: NonNull<Host>) -> Self {
        HostRef(host)
    }

    #[inline]
    fn table(&self) -> &Host {
        // SAFETY: the table is valid as long as its context is retained, which this value does.
        unsafe { self.0.as_ref() }
    }

    /// Whether this is the loop with that table.
    pub(super) fn is_of(&self, host: NonNull<Host>) -> bool {
        self.0 == host
    }

    /// Has a function called on the loop's thread. Gives it back if the loop is closed. From any thread.
    pub(crate) fn send(&self, function: Box<dyn FnOnce() + Send>) -> Result<(), Box<dyn FnOnce() + Send>> {
        let host = self.table();
        let data = Box::into_raw(Box::new(function));
        // SAFETY: `call_once` takes the box over that was just made, unless the host refuses it.
        if unsafe { (host.schedule)(host.context, call_once, data.cast()) } {
            return Ok(());
        }
        // SAFETY: it was refused, so it is ours again.
        Err(*unsafe { Box::from_raw(data) })
    }
}

impl Clone for HostRef {
    #[inline]
    fn clone(&self) -> Self {
        let host = self.table();
        // SAFETY: the context is alive.
        unsafe { (host.retain)(host.context) };
        HostRef(self.0)
    }
}

impl Drop for HostRef {
    #[inline]
    fn drop(&mut self) {
        let (release, context) = (self.table().release, self.table().context);
        // SAFETY: the share that this value owns ends here.
        unsafe { release(context) };
    }
}

impl PartialEq for HostRef {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A share of a loop, as a task's header has one: who frees the header releases it, or hands it on with the memory.
pub(super) struct HostShare(NonNull<Host>);

impl HostShare {
    /// Queues a call, if the loop is not closed.
    ///
    /// # Safety
    ///
    /// `call` may be called with `data` once, on the loop's thread.
    #[inline]
    pub(super) unsafe fn try_schedule(&self, call: CallFn, data: *mut c_void) -> bool {
        // SAFETY: the share keeps the table.
        let host = unsafe { self.0.as_ref() };
        // SAFETY: as promised.
        unsafe { (host.schedule)(host.context, call, data) }
    }

    /// The share, to be given up.
    ///
    /// # Safety
    ///
    /// It is not used any more.
    pub(super) unsafe fn release(&self) -> HostRef {
        HostRef(self.0)
    }
}

/// What a loop can call: timers, readiness, and what was put off.
pub(crate) trait Callee {
    fn called(self: Rc<Self>);
}

/// A loop, on its own thread.
#[derive(Debug)]
pub(crate) struct LocalHost {
    host: HostRef,
    /// Memory of tasks that have ended, for those to come; a share of the loop belongs to each block.
    blocks: Blocks,
    /// Shares of the loop that belonged to memory that was given back. Like the memory, they spare a task two atomic operations.
    spare: Cell<usize>,
    /// What the clock said last.
    latest: Cell<u64>,
    own_thread: PhantomData<Rc<()>>,
}

impl LocalHost {
    /// `gives_back`: whether somebody calls [`LocalHost::give_back`].
    ///
    /// # Safety
    ///
    /// This is the thread of the loop.
    pub(super) unsafe fn new(host: HostRef, gives_back: bool) -> Self {
        LocalHost {
            host,
            blocks: Blocks::new(gives_back),
            spare: Cell::new(0),
            latest: Cell::new(0),
            own_thread: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn host(&self) -> &HostRef {
        &self.host
    }

    /// Memory for a task, with a share of the loop.
    #[inline]
    pub(super) fn block(&self, layout: Layout) -> (NonNull<u8>, HostShare) {
        let block = self.blocks.take(layout).unwrap_or_else(|| {
            match self.spare.get().checked_sub(1) {
                Some(spare) => self.spare.set(spare),
                None => std::mem::forget(self.host.clone()),
            }
            new_block(layout)
        });
        (block, HostShare(self.host.0))
    }

    /// Takes the memory of a task that has ended, and its share, and keeps both for another; or only the share, if there is enough
    /// memory. `false` if they do not belong here.
    ///
    /// # Safety
    ///
    /// If they are taken, the caller gives up both. The memory came from [`LocalHost::block`] of some loop.
    #[inline]
    pub(super) unsafe fn take(&self, block: NonNull<u8>, layout: Layout, share: &HostShare) -> bool {
        if share.0 != self.host.0 {
            return false;
        }
        // SAFETY: as promised.
        if !unsafe { self.blocks.keep(block, layout) } {
            self.spare.set(self.spare.get() + 1);
        }
        true
    }

    /// Gives memory back that only a burst of tasks needed: for when there is time. `false` if there was none.
    #[inline]
    pub(crate) fn give_back(&self) -> bool {
        let given = self.blocks.give_back();
        self.spare.set(self.spare.get() + given);
        given > 0
    }

    /// Queues a call.
    ///
    /// # Safety
    ///
    /// `call` may be called with `data` once.
    #[inline]
    pub(super) unsafe fn schedule(&self, call: CallFn, data: *mut c_void) {
        let host = self.host.table();
        // SAFETY: as promised.
        unsafe { (host.schedule)(host.context, call, data) };
    }

    /// Calls before the loop closes.
    ///
    /// # Safety
    ///
    /// `call` may be called with `data`, on this thread, until the loop is closed.
    pub(super) unsafe fn at_close(&self, call: CallFn, data: *mut c_void) {
        let host = self.host.table();
        // SAFETY: as promised.
        unsafe { (host.at_close)(host.context, call, data) };
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        let host = self.host.table();
        // SAFETY: the context is alive, and this is its thread.
        let now = unsafe { (host.now)(host.context) };
        self.latest.set(now);
        now
    }

    /// Another number each time that the kernel was asked.
    pub(crate) fn turn(&self) -> u64 {
        let host = self.host.table();
        // SAFETY: the context is alive, and this is its thread.
        unsafe { (host.turn)(host.context) }
    }

    /// Whether a time has come. Asks the clock only if that is not known yet.
    #[inline]
    pub(crate) fn has_come(&self, at: u64) -> bool {
        at <= self.latest.get() || at <= self.now()
    }

    /// Has `callee` called behind all that is ready.
    pub(crate) fn defer<C: Callee>(&self, callee: Rc<C>) {
        let host = self.host.table();
        // Somebody else's loop may make the call on another thread, where the callee must not be touched.
        let deferred = Deferred { owner: this_thread(), callee: ManuallyDrop::new(callee) };
        let data = Box::into_raw(Box::new(deferred));
        // SAFETY: `call_deferred` takes the box over, unless the host refuses it.
        if !unsafe { (host.schedule)(host.context, call_deferred::<C>, data.cast()) } {
            // SAFETY: it was refused, so it is ours again; so is the callee, which nobody has taken out.
            unsafe { ManuallyDrop::drop(&mut Box::from_raw(data).callee) };
        }
    }

    /// Calls at a time.
    ///
    /// # Safety
    ///
    /// `call` may be called with `data` once.
    #[inline]
    pub(super) unsafe fn timer_call(&self, at: u64, call: CallFn, data: *mut c_void) -> TimerId {
        let host = self.host.table();
        // SAFETY: as promised.
        unsafe { (host.timer_set)(host.context, at, call, data) }
    }

    /// `false` if it was too late: then the call has come or will come.
    #[inline]
    pub(super) fn timer_uncall(&self, timer: TimerId) -> bool {
        let host = self.host.table();
        // SAFETY: the context is alive, and this is its thread.
        unsafe { (host.timer_cancel)(host.context, timer) }
    }

    /// Has `callee` called at a time.
    #[inline]
    pub(crate) fn timer_set<C: Callee>(&self, at: u64, callee: Rc<C>) -> TimerId {
        // SAFETY: `call_rc` takes the share over that is handed in, on this thread.
        unsafe { self.timer_call(at, call_rc::<C>, Rc::into_raw(callee).cast_mut().cast()) }
    }

    /// Cancels a timer that was set for `callee`; `false` if it was too late.
    #[inline]
    pub(crate) fn timer_cancel<C: Callee>(&self, timer: TimerId, callee: &Rc<C>) -> bool {
        let cancelled = self.timer_uncall(timer);
        if cancelled {
            // SAFETY: the share that was handed in with the timer is given back.
            unsafe { Rc::decrement_strong_count(Rc::as_ptr(callee)) };
        }
        cancelled
    }

    /// Has `callee` called in each iteration in which the descriptor is ready, until [`LocalHost::unwatch`].
    pub(crate) fn watch<C: Callee>(
        &self,
        descriptor: BorrowedFd<'_>,
        interest: Interest,
        callee: &Rc<C>,
    ) -> io::Result<Watch> {
        let host = self.host.table();
        let data = Rc::into_raw(Rc::clone(callee));
        let mut watch = Watch(0, 0);
        // SAFETY: the registration owns the share that is handed in, and gives it back in `unwatch`; `call_rc_ref` only
        // uses it. `watch` is written to.
        let errno = unsafe {
            (host.descriptor_add)(
                host.context,
                descriptor.as_raw_fd() as c_int,
                interest,
                call_rc_ref::<C>,
                data.cast_mut().cast(),
                &mut watch,
            )
        };
        if errno == 0 {
            return Ok(watch);
        }
        // SAFETY: it was refused, so it is ours again.
        drop(unsafe { Rc::from_raw(data) });
        Err(io::Error::from_raw_os_error(errno))
    }

    /// Ends a registration that was made for `callee`.
    pub(crate) fn unwatch<C: Callee>(&self, watch: Watch, callee: &Rc<C>) {
        let host = self.host.table();
        // SAFETY: the context is alive, and this is its thread.
        if unsafe { (host.descriptor_remove)(host.context, watch) } {
            // SAFETY: the share that was handed in with the registration is given back.
            unsafe { Rc::decrement_strong_count(Rc::as_ptr(callee)) };
        }
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        for _ in 0..self.blocks.clear() + self.spare.get() {
            drop(HostRef(self.host.0));
        }
    }
}

/// A panic that reaches the table was printed by the panic hook; the loop goes on.
pub(crate) fn contain(function: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(function)) {
        // Dropping a payload can panic again.
        std::mem::forget(payload);
    }
}

unsafe extern "C" fn call_once(data: *mut c_void) {
    contain(|| {
        // SAFETY: it came from `HostRef::send`, and is called once.
        let function = unsafe { Box::from_raw(data.cast::<Box<dyn FnOnce() + Send>>()) };
        function();
    });
}

/// What was put off, for one thread.
struct Deferred<C> {
    owner: u64,
    callee: ManuallyDrop<Rc<C>>,
}

unsafe extern "C" fn call_deferred<C: Callee>(data: *mut c_void) {
    contain(|| {
        // SAFETY: it came from `LocalHost::defer`, and is called once.
        let deferred = unsafe { Box::from_raw(data.cast::<Deferred<C>>()) };
        // On another thread it is leaked.
        if deferred.owner == this_thread() {
            ManuallyDrop::into_inner(deferred.callee).called();
        }
    });
}

unsafe extern "C" fn call_rc<C: Callee>(data: *mut c_void) {
    // SAFETY: it came from `Rc::into_raw` on this thread, and the share is handed over.
    contain(|| unsafe { Rc::from_raw(data.cast_const().cast::<C>()) }.called());
}

unsafe extern "C" fn call_rc_ref<C: Callee>(data: *mut c_void) {
    contain(|| {
        let callee = data.cast_const().cast::<C>();
        // SAFETY: it came from `Rc::into_raw` on this thread, and the registration owns a share. One more, because the
        // registration may end meanwhile.
        let callee = unsafe {
            Rc::increment_strong_count(callee);
            Rc::from_raw(callee)
        };
        callee.called();
    });
}
