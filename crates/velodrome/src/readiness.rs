//! [`Readiness`]: the two directions of a descriptor, as futures wait for them.
//!
//! The host reports level triggered, and registering costs a system call. So a direction is registered when somebody first
//! waits for it, and stays so: a socket that is read again and again is registered once. Reports that nobody claims end the
//! registration, or a socket that nobody reads would wake the loop for ever.
//!
//! What must stay true:
//!
//! - A registration ends before its descriptor is closed: a `Readiness` is dropped first.
//! - `likely` is only a guess: where it is wrong, a system call says "would block", or the next wait of the loop reports.
//! - Nothing is borrowed while somebody is woken.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::Context as TaskContext;

use crate::abi::{Callee, LocalWaker};
use crate::context::Context;
use crate::host::{Interest, Watch};
use crate::waiters::Waiters;

/// So many reports may go unclaimed before a registration ends. Between a report and the step of the task that it wakes, the
/// loop may ask the kernel again.
const PATIENCE: u32 = 16;

/// One direction.
pub(crate) struct Side {
    interest: Interest,
    registration: RefCell<Option<(Rc<Context>, Watch)>>,
    /// Whether trying is worth a system call.
    likely: Cell<bool>,
    /// The turn in which it was found not ready: reports of that turn are older.
    exhausted: Cell<u64>,
    unclaimed: Cell<u32>,
    /// Who polls, see `futures_io`: the last one who did.
    poller: Cell<Option<LocalWaker>>,
    /// Who waits while nobody else does: spared a place in the line.
    alone: Cell<Option<LocalWaker>>,
    waiters: Waiters,
}

/// Both directions.
pub(crate) struct Readiness {
    pub(crate) read: Rc<Side>,
    pub(crate) write: Rc<Side>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Readiness { read: Side::new(Interest::READ), write: Side::new(Interest::WRITE) }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.read.deregister();
        self.write.deregister();
    }
}

impl Side {
    fn new(interest: Interest) -> Rc<Self> {
        Rc::new(Side {
            interest,
            registration: RefCell::new(None),
            likely: Cell::new(true),
            exhausted: Cell::new(u64::MAX),
            unclaimed: Cell::new(0),
            poller: Cell::new(None),
            alone: Cell::new(None),
            waiters: Waiters::new(),
        })
    }

    /// Whether trying is worth a system call.
    #[inline]
    pub(crate) fn is_likely(&self) -> bool {
        self.likely.get()
    }

    /// There is nothing (more): wait before trying again.
    #[inline]
    pub(crate) fn exhausted(&self) {
        self.likely.set(false);
        if let Some((context, _)) = &*self.registration.borrow() {
            self.exhausted.set(context.host.turn());
        }
    }

    /// Sees to it that the loop that is running reports the descriptor.
    fn register(self: &Rc<Self>, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.unclaimed.set(0);
        let context = Context::current();
        if let Some((registered, _)) = &*self.registration.borrow()
            && Rc::ptr_eq(registered, &context)
        {
            return Ok(());
        }
        self.deregister();
        let watch = context.host.watch(fd, self.interest, self)?;
        self.registration.replace(Some((context, watch)));
        Ok(())
    }

    pub(crate) fn deregister(self: &Rc<Self>) {
        let registration = self.registration.take();
        if let Some((context, watch)) = registration {
            context.host.unwatch(watch, self);
        }
    }

    /// Has the task woken when the direction is ready.
    #[inline]
    pub(crate) fn wake_when_ready(
        self: &Rc<Self>,
        fd: BorrowedFd<'_>,
        cx: &mut TaskContext<'_>,
    ) -> io::Result<()> {
        self.register(fd)?;
        self.poller.set(Some(LocalWaker::keep(self.poller.take(), cx.waker())));
        Ok(())
    }

    /// Has the task woken at the next report. `false` if another one waits already: then there is a line, see [`Side::reported`].
    #[cfg(any(feature = "net", feature = "process"))]
    #[inline]
    pub(crate) fn wake_when_ready_alone(
        self: &Rc<Self>,
        fd: BorrowedFd<'_>,
        cx: &mut TaskContext<'_>,
    ) -> io::Result<bool> {
        self.register(fd)?;
        let kept = self.alone.take();
        let alone = self.waiters.is_empty() && kept.as_ref().is_none_or(|kept| kept.will_wake(cx.waker()));
        self.alone.set(if alone { Some(LocalWaker::keep(kept, cx.waker())) } else { kept });
        Ok(alone)
    }

    /// Waits until the direction is reported.
    pub(crate) async fn reported(self: &Rc<Self>, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.register(fd)?;
        self.waiters.wait(|| ()).await;
        Ok(())
    }
}

impl Callee for Side {
    fn called(self: Rc<Self>) {
        if let Some((context, _)) = &*self.registration.borrow()
            && context.host.turn() == self.exhausted.get()
        {
            // Reported again before the task that the first report woke had its turn, and read by that task since. If there is
            // more, that will be reported, too.
            return;
        }
        self.likely.set(true);
        let (poller, alone) = (self.poller.take(), self.alone.take());
        if poller.is_none() && alone.is_none() && self.waiters.is_empty() {
            let unclaimed = self.unclaimed.get() + 1;
            self.unclaimed.set(unclaimed);
            if unclaimed > PATIENCE {
                self.deregister();
            }
            return;
        }
        poller.into_iter().chain(alone).for_each(LocalWaker::wake);
        self.waiters.wake_all();
    }
}
