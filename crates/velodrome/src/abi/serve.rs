//! The [`Host`] table of this crate's own loop, and the calls that it queues.
//!
//! What must stay true: the table's context is an `Arc<EventLoop>`, which the table lies in.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use super::host_ref::{HostRef, LocalHost};
use super::raw_task::Header;
use super::task_timer::ring;
use super::waker::step;
use crate::event_loop::EventLoop;
use crate::host::{CallFn, HOST_VERSION, Host, Interest, TimerId, Watch};

/// What the engine of our loop holds: a call that was asked for through the table, or, without a function, a number that says
/// something to the loop itself. Two words, so that it travels in registers: written to the stack half by half and read
/// back whole, it would cost more than the queue does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    call: Option<CallFn>,
    data: *mut c_void,
}

// SAFETY: calls travel between threads, but are run on the thread of the loop only: whoever asks for one promises that it may be
// asked for from where they are, and that it may be called there. A number is a number.
unsafe impl Send for Job {}

impl Job {
    #[inline]
    fn call(call: CallFn, data: *mut c_void) -> Self {
        Job { call: Some(call), data }
    }

    /// The loop's own.
    pub(crate) const fn own(number: usize) -> Self {
        Job { call: None, data: std::ptr::without_provenance_mut(number) }
    }

    /// Runs a call that the engine has handed out; nobody else has one. Gives the number of one that is the loop's own.
    #[inline]
    pub(crate) fn run(self, event_loop: &EventLoop) -> Option<usize> {
        debug_assert!(event_loop.is_own_thread());
        let Some(call) = self.call else { return Some(self.data.addr()) };
        // SAFETY: calls get into an engine through the table only, and out of it on the loop's thread only: once for what was
        // scheduled and for a timer, and as long as it is registered for a descriptor. That is what they were made for.
        unsafe { call(self.data) };
        None
    }

    /// Has the memory fetched that the call will touch first: of a hundred thousand tasks, few are in a cache.
    #[inline]
    pub(crate) fn prefetch(self) {
        prefetch(self.data);
        // A timer only looks at a task's first words. A step takes all of one that is small, wherever in a line it begins.
        if !self.is(ring) {
            prefetch(self.data.wrapping_byte_add(64));
            prefetch(self.data.wrapping_byte_add(128));
            prefetch(self.data.wrapping_byte_add(191));
        }
    }

    #[inline]
    fn is(self, other: CallFn) -> bool {
        self.call.is_some_and(|call| std::ptr::fn_addr_eq(call, other))
    }

    /// Has fetched what the call will touch when it ends, if it is a step of a task. For when the task itself was fetched.
    #[inline]
    pub(crate) fn prefetch_end(self) {
        if self.is(step) {
            // SAFETY: what is queued with this function is a task, of which the queue has a share. A loop of ours stays on the
            // thread of its tasks.
            if let Some(place) = unsafe { self.data.cast::<Header>().as_ref() }.and_then(|it| it.cell.place())
            {
                prefetch(place);
            }
        }
    }
}

/// Has the line of memory at an address fetched into the cache, if the platform can.
#[inline(always)]
fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The table of a loop that is being made.
pub(crate) fn table(event_loop: &Weak<EventLoop>) -> HostTable {
    HostTable(Host {
        version: HOST_VERSION,
        size: size_of::<Host>() as u32,
        context: event_loop.as_ptr().cast_mut().cast(),
        retain,
        release,
        schedule,
        timer_set,
        timer_cancel,
        descriptor_add,
        descriptor_remove,
        now,
        turn,
        at_close,
    })
}

/// A table that lies in the loop that it is of.
#[derive(Debug)]
pub(crate) struct HostTable(Host);

// SAFETY: its pointer is to the loop, which is `Send` and `Sync` itself, and is used in no other way than the functions of this
// file do.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

impl HostTable {
    pub(crate) fn address(&self) -> NonNull<Host> {
        NonNull::from(&self.0)
    }
}

/// A loop of ours, on its own thread, as a host.
pub(crate) fn host_of(event_loop: &Arc<EventLoop>) -> LocalHost {
    assert!(event_loop.is_own_thread(), "a loop is run by the thread that made it");
    let host = event_loop.table().address();
    // One share for the reference.
    let _ = Arc::into_raw(Arc::clone(event_loop));
    // SAFETY: the table lies in the loop, and its functions are those below. This is the loop's thread, as was just looked up.
    unsafe { LocalHost::new(HostRef::from_raw(host), true) }
}

/// # Safety
///
/// `context` is that of a table made here, and somebody owns a share of it.
#[inline]
unsafe fn event_loop<'a>(context: *mut c_void) -> &'a EventLoop {
    // SAFETY: as promised.
    unsafe { &*context.cast_const().cast::<EventLoop>() }
}

unsafe extern "C" fn retain(context: *mut c_void) {
    // SAFETY: it is an `Arc`'s, of which the caller owns a share.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<EventLoop>()) }
}

unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: as above; the caller gives their share up.
    unsafe { Arc::decrement_strong_count(context.cast_const().cast::<EventLoop>()) }
}

unsafe extern "C" fn schedule(context: *mut c_void, call: CallFn, data: *mut c_void) -> bool {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.schedule(Job::call(call, data))
}

unsafe extern "C" fn timer_set(context: *mut c_void, at: u64, call: CallFn, data: *mut c_void) -> TimerId {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.timer_set(at, Job::call(call, data))
}

unsafe extern "C" fn timer_cancel(context: *mut c_void, timer: TimerId) -> bool {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.timer_cancel(timer)
}

unsafe extern "C" fn descriptor_add(
    context: *mut c_void,
    descriptor: c_int,
    interest: Interest,
    call: CallFn,
    data: *mut c_void,
    watch: *mut Watch,
) -> c_int {
    // SAFETY: the caller owns a share of the loop, and lends an open descriptor.
    let (event_loop, descriptor) = unsafe { (event_loop(context), BorrowedFd::borrow_raw(descriptor)) };
    match event_loop.descriptor_add(descriptor, interest, Job::call(call, data)) {
        Ok(added) => {
            // SAFETY: the caller gave a place for it.
            unsafe { watch.write(added) };
            0
        }
        Err(error) => error.raw_os_error().unwrap_or(rustix::io::Errno::EXIST.raw_os_error()),
    }
}

unsafe extern "C" fn descriptor_remove(context: *mut c_void, watch: Watch) -> bool {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.descriptor_remove(watch)
}

unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.now()
}

unsafe extern "C" fn turn(context: *mut c_void) -> u64 {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.turn()
}

unsafe extern "C" fn at_close(context: *mut c_void, call: CallFn, data: *mut c_void) {
    // SAFETY: the caller owns a share of the loop.
    unsafe { event_loop(context) }.at_close(Job::call(call, data));
}
