//! [`Context`]: the loop that polls us just now, and the tasks that this crate made on it.
//!
//! What must stay true: it is set around everything that a loop runs, and nowhere else; so what asks for it outside of a
//! loop is told that no event loop is running. This crate's own loop sets it for a whole run. Another loop knows nothing of it:
//! there it is set around each step of a task and each call that came from another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::abi::{CellRef, HostRef, LocalHost};
use crate::clocks::Clocks;
use crate::roster::Roster;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };

    /// The loops of others, which this thread's futures were polled by. Closed ones are forgotten when another one comes.
    static GUESTS: RefCell<Vec<Rc<Context>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) host: LocalHost,
    pub(crate) tasks: RefCell<Roster>,
    /// How often somebody else's loop has said that it is about to close.
    pub(crate) closing: Cell<u32>,
    /// An instant, as the host's clock shows it.
    pub(crate) clocks: Clocks,
}

impl Context {
    pub(crate) fn new(host: LocalHost) -> Rc<Self> {
        Rc::new(Context { host, tasks: RefCell::default(), closing: Cell::new(0), clocks: Clocks::default() })
    }

    /// The present one.
    #[inline]
    pub(crate) fn try_current() -> Option<Rc<Context>> {
        CURRENT.with_borrow(Option::clone)
    }

    /// The present one, for what can only be called by what a loop runs.
    #[inline]
    #[track_caller]
    pub(crate) fn current() -> Rc<Context> {
        match Self::try_current() {
            Some(context) => context,
            None => panic!("no running event loop"),
        }
    }

    /// Makes this the present one until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered(CURRENT.replace(Some(Rc::clone(self))))
    }

    /// Asks the present host, if there is one: at the end of the thread there is none.
    #[inline]
    pub(crate) fn with_host(ask: impl FnOnce(&LocalHost) -> bool) -> bool {
        CURRENT
            .try_with(|current| current.borrow().as_ref().is_some_and(|context| ask(&context.host)))
            .unwrap_or(false)
    }

    /// There is time: gives back what only a burst of tasks needed. `false` if there is no such thing.
    #[inline]
    pub(crate) fn give_back() -> bool {
        Self::with_host(LocalHost::give_back)
    }

    /// Whether a loop is running in this thread. `None` if the thread is ending, so that none can.
    #[inline]
    pub(crate) fn is_running() -> Option<bool> {
        CURRENT.try_with(|current| current.borrow().is_some()).ok()
    }

    /// That of a loop that somebody else runs.
    pub(crate) fn guest(is_it: impl Fn(&Context) -> bool) -> Option<Rc<Context>> {
        GUESTS
            .try_with(|guests| guests.borrow().iter().find(|context| is_it(context)).cloned())
            .unwrap_or_default()
    }

    pub(crate) fn add_guest(context: Rc<Context>) {
        let closed: Vec<_> = GUESTS.with_borrow_mut(|guests| {
            let closed = guests.extract_if(.., |guest| guest.closing.get() > 0).collect();
            guests.push(context);
            closed
        });
        drop(closed);
    }

    /// Makes the context of a loop the present one for what it calls, if the loop is somebody else's.
    #[inline]
    pub(crate) fn enter_guest(host: &HostRef) -> Option<Entered> {
        if Self::is_running() != Some(false) {
            return None;
        }
        Self::guest(|context| context.host.host() == host).map(|context| context.enter())
    }

    /// All tasks that are not done.
    pub(crate) fn all_tasks(&self) -> Vec<CellRef> {
        self.tasks.borrow().iter().cloned().collect()
    }
}

/// Puts back what was before.
pub(crate) struct Entered(Option<Rc<Context>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}
