//! A task's memory: its header, what is known of it ([`TaskCell`]), and its future or what that gave. What wakes it and runs its
//! steps is in `waker.rs`.
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

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

use super::blocks::free_block;
use super::cell_ref::CellRef;
use super::host_ref::{HostShare, LocalHost};
use super::join_handle::JoinHandle;
use super::local_waker::LocalWaker;
use super::own_thread::{is_this_thread, this_thread};
use super::waker::step;
use crate::body::{self, Deliver, Keep};
use crate::join_error::JoinError;
use crate::sync::{AtomicBool, AtomicUsize, Cell, Ordering, fence};
use crate::task_cell::TaskCell;

/// In the ready queue.
pub(super) const QUEUED: u8 = 1;
/// Being polled.
pub(super) const RUNNING: u8 = 2;
/// Woken while it was being polled.
pub(super) const WOKEN: u8 = 4;
/// Over: the future is dropped.
pub(super) const DONE: u8 = 8;
/// Nobody wants what it gives.
pub(super) const DETACHED: u8 = 16;
/// It has no future here.
pub(super) const ALONE: u8 = 32;
/// What it gave was taken.
pub(super) const TAKEN: u8 = 64;

/// What a wake needs comes first: that is all that is looked at of a task that is far away.
#[repr(C)]
pub(crate) struct Header {
    pub(super) owner: u64,
    pub(super) host: HostShare,
    pub(super) local: Cell<u32>,
    pub(super) state: Cell<u8>,
    /// A wake from another thread is on its way.
    pub(super) waking: AtomicBool,
    pub(super) refs: AtomicUsize,
    pub(super) vtable: &'static Vtable,
    /// Who awaits the task.
    pub(super) join: Cell<Option<LocalWaker>>,
    pub(super) cell: TaskCell,
}

pub(super) struct Vtable {
    /// Polls the future; stores what it gives, and says so.
    pub(super) poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
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
    Output(Result<D::Value, JoinError>),
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
        let output = body::deliver(deliver, outcome);
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
            unsafe { *to.cast::<Option<Result<D::Value, JoinError>>>() = Some(output) };
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
pub(crate) fn spawn<F, D>(host: &LocalHost, future: F, deliver: D) -> JoinHandle<Result<D::Value, JoinError>>
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

/// A task that has no future here, for its cell: the main one.
pub(super) fn alone(host: &LocalHost) -> NonNull<Header> {
    allocate(host, ALONE | DONE | DETACHED, 1, || Stage::<std::future::Pending<()>, Keep>::Empty)
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
    pub(super) fn clear(&self, flags: u8) {
        self.state.set(self.state.get() & !flags);
    }

    /// One owner more on the loop's thread, which has one already: as it does until the task is done, and the caller of a
    /// `CellRef`'s or handle's methods always.
    #[inline]
    pub(super) fn retain(&self) {
        debug_assert!(self.local.get() > 0, "a share that was given up");
        let Some(local) = self.local.get().checked_add(1) else { too_many() };
        self.local.set(local);
    }

    /// One owner more, on any thread, for one who has a share.
    #[inline]
    pub(super) fn retain_anywhere(&self) {
        if self.refs.fetch_add(1, Ordering::Relaxed) > usize::MAX / 2 {
            too_many();
        }
    }
}

/// Shares can be leaked without end, and a count that begins anew would free what others have. So it is with `Rc` and `Arc`.
#[cold]
#[inline(never)]
fn too_many() -> ! {
    std::process::abort()
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
pub(super) unsafe fn release(header: NonNull<Header>) {
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
    debug_assert!(it.is(DONE) && it.local.get() == 0, "somebody on the loop's thread has it still");
    let (layout, owner) = (it.vtable.layout, it.owner);
    // SAFETY: the header is not used any more but for its share of the host. The loop's thread has no share of the task, so
    // future and output are gone, see the top of the file; what is left in the header can be dropped anywhere: an empty
    // cell (`TaskCell::finish` has emptied it), and no waker. The share goes with the memory, or after it.
    unsafe {
        let share = std::ptr::read(&raw const (*header.as_ptr()).host);
        header.drop_in_place();
        let taken = is_this_thread(owner)
            && crate::context::Context::with_host(|host| host.take(header.cast(), layout, &share));
        if !taken {
            free_block(header.cast(), layout);
            drop(share.release());
        }
    }
}

#[cfg(all(test, not(velodrome_model)))]
mod tests {
    use std::process::{Command, Stdio};

    use crate::abi::CellRef;

    /// As if four billion of its `TaskRef`s had been forgotten.
    #[test]
    fn a_task_with_too_many_owners_ends_the_process() {
        const CHILD: &str = "VELODROME_TOO_MANY_OWNERS";
        const NAME: &str = "abi::raw_task::tests::a_task_with_too_many_owners_ends_the_process";
        if std::env::var_os(CHILD).is_none() {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let status =
                child.args(["--exact", NAME]).env(CHILD, "1").stdout(Stdio::null()).status().unwrap();
            assert!(status.code().is_none(), "{status}");
            return;
        }
        crate::run(async {
            let task = CellRef::current().unwrap();
            task.set_owners(u32::MAX);
            std::mem::forget(task.clone());
            std::mem::forget(task);
        });
    }
}
