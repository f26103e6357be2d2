//! A task's memory: its header, what is known of it ([`TaskCell`]), and its future or what that gave; and the wakers of
//! the task, which may be anywhere.
//!
//! Measured, this is why it is not `async_task`, which smol uses too: there every change of state is an atomic operation,
//! because tasks may run on any thread, and a second allocation holds what we know of a task. Here the state belongs to the
//! loop's thread and only wakers count atomically. A spawn and join went from 112 ns to 50, a yield from 26 to 13.
//!
//! What must stay true:
//!
//! - `state`, `local`, `join` and `stage` are touched on the loop's thread only. `refs`, `waking`, `owner`, `host` and
//!   `vtable` may be read anywhere; the first two are atomic, the others never change.
//! - `local` counts what the loop's thread holds: the queue, the handle, [`CellRef`]s. All of them together are one of
//!   `refs`, every waker is one more, and whoever takes `refs` to zero frees the memory. The future was dropped before, because the
//!   queue's or the cell's share ends with it; so nothing is left to drop but the memory and the share of the host.
//! - The future is polled and dropped on the loop's thread, in place, and once.
//! - A wake from another thread sets `waking` before it queues the call that runs the task; that call clears it before
//!   it polls. So a wake either finds it clear, and queues a call, or what it announces is seen by the poll to come.

use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use super::host_ref::{HostShare, LocalHost, contain, free_block};
use super::join_handle::JoinHandle;
use super::own_thread::this_thread;
use crate::body::{self, Deliver, Keep};
use crate::task_cell::TaskCell;

/// In the ready queue.
const QUEUED: u8 = 1;
/// Being polled.
const RUNNING: u8 = 2;
/// Woken while it was being polled.
const WOKEN: u8 = 4;
/// Over: the future is dropped.
pub(super) const DONE: u8 = 8;
/// Nobody wants what it gives.
pub(super) const DETACHED: u8 = 16;
/// It has no future here.
const ALONE: u8 = 32;
/// What it gave was taken.
pub(super) const TAKEN: u8 = 64;

pub(crate) struct Header {
    pub(super) refs: AtomicUsize,
    /// A wake from another thread is on its way.
    pub(super) waking: AtomicBool,
    pub(super) state: Cell<u8>,
    pub(super) local: Cell<u32>,
    pub(super) owner: u64,
    pub(super) host: HostShare,
    pub(super) vtable: &'static Vtable,
    /// Who awaits the task.
    pub(super) join: Cell<Option<Waker>>,
    pub(super) cell: TaskCell,
}

pub(super) struct Vtable {
    /// Polls the future; stores what it gives, and says so.
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    /// Moves what the future gave to an `Option` of its type.
    pub(super) take: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops what the future gave.
    pub(super) discard: unsafe fn(NonNull<Header>),
    layout: Layout,
}

enum Stage<F, D: Deliver<F::Output>>
where
    F: Future,
{
    Future { future: F, deliver: D },
    Output(D::Output),
    Empty,
}

#[repr(C)]
struct RawTask<F: Future, D: Deliver<F::Output>> {
    header: Header,
    stage: UnsafeCell<Stage<F, D>>,
}

impl<F: Future, D: Deliver<F::Output>> RawTask<F, D> {
    const VTABLE: Vtable = Vtable {
        poll: Self::poll,
        take: Self::take,
        discard: Self::discard,
        layout: Layout::new::<RawTask<F, D>>(),
    };

    /// # Safety
    ///
    /// `header` is that of a `RawTask<F, D>`.
    #[inline]
    unsafe fn stage(header: NonNull<Header>) -> *mut Stage<F, D> {
        // SAFETY: as promised. The pointer is to the whole task.
        unsafe { header.cast::<RawTask<F, D>>().as_ref() }.stage.get()
    }

    /// # Safety
    ///
    /// As for [`stage`](Self::stage); from the step of the task.
    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> bool {
        // SAFETY: the step has a share, and lends it.
        let cell = unsafe { CellRef::lent(header) };
        // SAFETY: by the table.
        let stage = unsafe { Self::stage(header) };
        // SAFETY: only the step of the task, which does not nest, uses the stage before it is done.
        let present = unsafe { &mut *stage };
        let Stage::Future { future, deliver } = present else { return false };
        let (future, deliver) = (&raw mut *future, &raw mut *deliver);
        // SAFETY: the future lies in the task's memory until it is dropped there.
        let pinned = unsafe { Pin::new_unchecked(&mut *future) };
        // SAFETY: called after the last poll, once. (If it panics, what is left of the future is leaked.)
        let drop_future = || unsafe { future.drop_in_place() };
        let Poll::Ready(outcome) = body::step(&cell, || pinned.poll(cx), drop_future) else { return false };
        // SAFETY: the future was dropped and the other is moved out, so nothing is left there to drop.
        let deliver = unsafe {
            let deliver = deliver.read();
            stage.write(Stage::Empty);
            deliver
        };
        let output = deliver.deliver(outcome);
        // SAFETY: it is empty.
        unsafe { stage.write(Stage::Output(output)) };
        true
    }

    /// # Safety
    ///
    /// As for [`stage`](Self::stage); `to` is an `Option` of what the future gives.
    unsafe fn take(header: NonNull<Header>, to: *mut ()) {
        // SAFETY: only the task's handle comes here, after the last step.
        let stage = unsafe { &mut *Self::stage(header) };
        if let Stage::Output(output) = std::mem::replace(stage, Stage::Empty) {
            // SAFETY: the caller gives a place for this type.
            unsafe { *to.cast::<Option<D::Output>>() = Some(output) };
        }
    }

    /// # Safety
    ///
    /// As for [`stage`](Self::stage); after the last step, without a handle.
    unsafe fn discard(header: NonNull<Header>) {
        // SAFETY: only the last step comes here, when there is no handle any more, or the handle, when it goes.
        unsafe { *Self::stage(header) = Stage::Empty };
    }
}

/// Makes a task of a future, and queues its first step.
#[inline]
pub(crate) fn spawn<F, D>(host: &LocalHost, future: F, deliver: D) -> JoinHandle<D::Output>
where
    F: Future + 'static,
    D: Deliver<F::Output> + 'static,
{
    // One for the handle, and one for the queue.
    let header = allocate(host, QUEUED, 2, || Stage::Future { future, deliver });
    // SAFETY: `step` takes the queue's share over.
    unsafe { host.schedule(step, header.as_ptr().cast()) };
    JoinHandle::new(header)
}

/// (Inlined, with a function for the stage: all is written where it belongs, rather than to the stack first.)
#[inline(always)]
fn allocate<F, D>(
    host: &LocalHost,
    state: u8,
    local: u32,
    stage: impl FnOnce() -> Stage<F, D>,
) -> NonNull<Header>
where
    F: Future,
    D: Deliver<F::Output>,
{
    let (block, share) = host.block(Layout::new::<RawTask<F, D>>());
    let task = block.cast::<RawTask<F, D>>();
    // SAFETY: the block is large enough, and nobody else's.
    unsafe {
        task.write(RawTask::<F, D> {
            header: Header {
                refs: AtomicUsize::new(1),
                waking: AtomicBool::new(false),
                state: Cell::new(state),
                local: Cell::new(local),
                owner: this_thread(),
                host: share,
                vtable: &RawTask::<F, D>::VTABLE,
                join: Cell::new(None),
                cell: TaskCell::new(),
            },
            stage: UnsafeCell::new(stage()),
        });
    }
    task.cast()
}

impl Header {
    #[inline]
    pub(super) fn is(&self, flags: u8) -> bool {
        self.state.get() & flags != 0
    }

    #[inline]
    pub(super) fn set(&self, flags: u8) {
        self.state.set(self.state.get() | flags);
    }

    #[inline]
    fn clear(&self, flags: u8) {
        self.state.set(self.state.get() & !flags);
    }

    /// One owner more on the loop's thread, which has one already: as it does until the task is done, and the caller of a
    /// `CellRef`'s or handle's methods always.
    #[inline]
    pub(super) fn retain(&self) {
        debug_assert!(self.local.get() > 0, "a share that was given up");
        self.local.set(self.local.get() + 1);
    }
}

/// One owner less on the loop's thread.
///
/// # Safety
///
/// The caller owns that share, and does not use it any more.
#[inline]
pub(super) unsafe fn release_local(header: NonNull<Header>) {
    // SAFETY: the share keeps the memory until here.
    let it = unsafe { header.as_ref() };
    let local = it.local.get() - 1;
    it.local.set(local);
    if local == 0 {
        // Without wakers there is nobody who could change `refs` any more, and an atomic operation is a third of a spawn.
        if it.refs.load(Ordering::Acquire) == 1 {
            // SAFETY: nobody has a share any more.
            unsafe { free(header) };
        } else {
            // SAFETY: the share that all of them had together.
            unsafe { release(header) };
        }
    }
}

/// One owner less, on any thread.
///
/// # Safety
///
/// The caller owns that share, and does not use it any more.
#[inline]
unsafe fn release(header: NonNull<Header>) {
    // SAFETY: the share keeps the memory until here.
    if unsafe { header.as_ref() }.refs.fetch_sub(1, Ordering::Release) == 1 {
        fence(Ordering::Acquire);
        // SAFETY: nobody else has a share any more.
        unsafe { free(header) };
    }
}

/// # Safety
///
/// Nobody has a share of the task any more.
unsafe fn free(header: NonNull<Header>) {
    // SAFETY: there is nobody else.
    let it = unsafe { header.as_ref() };
    let (layout, owner) = (it.vtable.layout, it.owner);
    // SAFETY: the header is not used any more but for its share of the host. The loop's thread has no share of the task, so
    // future and output are gone, see the top of the file; what is left in the header can be dropped anywhere: an empty
    // cell (`TaskCell::finish` has emptied it), and no waker. The share goes with the memory, or after it.
    unsafe {
        let share = std::ptr::read(&raw const (*header.as_ptr()).host);
        header.drop_in_place();
        let kept = owner == this_thread()
            && crate::context::Context::with_host(|host| host.keep(header.cast(), layout, &share));
        if !kept {
            free_block(header.cast(), layout);
            drop(share.release());
        }
    }
}

/// One step of a task that was queued. The queue's share is handed over.
unsafe extern "C" fn step(data: *mut c_void) {
    // SAFETY: it was queued with this.
    let header = unsafe { NonNull::new_unchecked(data.cast::<Header>()) };
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    it.clear(QUEUED);
    // SAFETY: on the loop's thread, with a share.
    unsafe { run(header) };
}

/// One step of a task that another thread has woken. That waker's share is handed over.
unsafe extern "C" fn step_remote(data: *mut c_void) {
    // SAFETY: it was queued with this.
    let header = unsafe { NonNull::new_unchecked(data.cast::<Header>()) };
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    // Acquire: what the other thread did before it woke is visible to the poll.
    it.waking.swap(false, Ordering::AcqRel);
    // Somebody else's loop may have moved to another thread, where a task cannot follow it.
    if it.owner == this_thread() && !it.is(QUEUED | RUNNING | DONE) {
        it.retain();
        // SAFETY: on the loop's thread, with the share just taken.
        unsafe { run(header) };
    }
    // SAFETY: the share that was handed over.
    unsafe { release(header) };
}

/// Polls the task.
///
/// # Safety
///
/// On the loop's thread, with a share of it that is handed over.
#[inline]
unsafe fn run(header: NonNull<Header>) {
    // SAFETY: the share keeps it.
    let it = unsafe { header.as_ref() };
    if it.is(DONE) {
        // SAFETY: the share that was handed over.
        unsafe { release_local(header) };
        return;
    }
    let _entered = it.cell.enter_guest();
    it.set(RUNNING);
    // Lent: the waker owns no share, and is not dropped.
    // SAFETY: the table is for headers.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(header.as_ptr().cast(), &WAKER)) });
    // SAFETY: this is the step. It does not unwind (`body::step`); if it did, this function would abort.
    let done = unsafe { (it.vtable.poll)(header, &mut Context::from_waker(&waker)) };
    it.clear(RUNNING);
    if done {
        it.set(DONE);
        if it.is(DETACHED) {
            // SAFETY: the task is over, and its handle is gone.
            contain(|| unsafe { (it.vtable.discard)(header) });
        } else if let Some(waker) = it.join.take() {
            contain(|| waker.wake());
        }
    } else if it.is(WOKEN) {
        it.clear(WOKEN);
        it.set(QUEUED);
        // SAFETY: the share goes to the queue.
        unsafe { it.host.schedule(step, header.as_ptr().cast()) };
        return;
    }
    // SAFETY: the share that was handed over.
    unsafe { release_local(header) };
}

pub(super) static WAKER: RawWakerVTable =
    RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

/// # Safety
///
/// `data` is the header of a task of which the waker has a share, or is lent by one who has.
unsafe fn waker_clone(data: *const ()) -> RawWaker {
    let header = data.cast::<Header>();
    // SAFETY: the waker has a share, or is lent by one who has.
    unsafe { &*header }.refs.fetch_add(1, Ordering::Relaxed);
    RawWaker::new(data, &WAKER)
}

/// # Safety
///
/// As for [`waker_clone`]; the share is handed over.
unsafe fn waker_wake(data: *const ()) {
    // SAFETY: the waker's share is handed over, and given up here.
    unsafe {
        waker_wake_by_ref(data);
        waker_drop(data);
    }
}

/// # Safety
///
/// As for [`waker_clone`].
pub(super) unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: the waker has a share.
    let it = unsafe { &*data.cast::<Header>() };
    if it.owner == this_thread() {
        if it.is(QUEUED | WOKEN | DONE) {
            return;
        }
        if it.is(RUNNING) {
            it.set(WOKEN);
            return;
        }
        it.set(QUEUED);
        it.retain();
        // SAFETY: `step` takes the share over that was just taken.
        unsafe { it.host.schedule(step, data.cast_mut().cast()) };
    } else if !it.waking.swap(true, Ordering::AcqRel) {
        it.refs.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `step_remote` takes the share over that was just taken, unless the loop is closed.
        if !unsafe { it.host.try_schedule(step_remote, data.cast_mut().cast()) } {
            // SAFETY: then it is ours still.
            unsafe { release(NonNull::new_unchecked(data.cast_mut().cast())) };
        }
    }
}

/// # Safety
///
/// As for [`waker_wake`].
unsafe fn waker_drop(data: *const ()) {
    // SAFETY: the waker's share.
    unsafe { release(NonNull::new_unchecked(data.cast_mut().cast())) };
}

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
        let stage = || Stage::<std::future::Pending<()>, Keep>::Empty;
        let header = allocate(host, ALONE | DONE | DETACHED, 1, stage);
        CellRef { header, own_thread: PhantomData }
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

    /// Whether it has no future here: whoever polls it has that.
    pub(crate) fn is_alone(&self) -> bool {
        // SAFETY: this value has a share.
        unsafe { self.header.as_ref() }.is(ALONE)
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
