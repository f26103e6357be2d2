//! [`Foreign`]: a loop that is not velodrome's, by its public methods, as a host for Rust futures.
//!
//! What must stay true:
//!
//! - It does not keep the loop alive, which could never be collected otherwise.
//! - A callback that was cancelled, or whose registration ended, is not called, whatever the loop still does with it.
//! - A timer does not come early, although some loops round to milliseconds.
//! - Nothing is locked while Python can run, and other threads need no GIL to schedule something: it waits in a queue, and a byte
//!   in a pipe has the loop look there.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::Instant;

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use velodrome::host::{Asked, Interest, Ran, TimerId, Watch};

use crate::abi::{Table, table};

/// What is answered if the loop cannot watch a descriptor, and does not say why.
pub(crate) const EINVAL: c_int = 22;
/// Somebody watches that direction of the descriptor already.
const EEXIST: c_int = 17;

#[derive(Debug)]
pub(crate) struct Foreign {
    this: Weak<Foreign>,
    table: Table,
    /// A weak reference to the loop.
    event_loop: Py<PyWeakrefReference>,
    thread: ThreadId,
    /// The last number that was given out, to whatever.
    last: AtomicU64,
    inbox: Inbox,
    gone: AtomicBool,
    kept: Mutex<Kept>,
}

/// What other threads have scheduled.
#[derive(Debug)]
struct Inbox {
    queue: Mutex<VecDeque<Arc<Asked>>>,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Inbox {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Inbox { queue: Mutex::default(), reader, writer })
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Asked>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A byte is in the pipe as long as the queue holds something.
    fn push(&self, asked: Arc<Asked>) -> bool {
        let mut queue = self.queue();
        if queue.is_empty() && (&self.writer).write_all(&[1]).is_err() {
            return false;
        }
        queue.push_back(asked);
        true
    }

    fn take(&self) -> VecDeque<Arc<Asked>> {
        let mut queue = self.queue();
        // There is a byte, or nothing in the queue.
        if !queue.is_empty() {
            let _one = (&self.reader).read(&mut [0]);
        }
        std::mem::take(&mut *queue)
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// By number: a weak reference to the loop's handle (which keeps the loop), and what that calls.
    timers: HashMap<u64, (Option<Py<PyWeakrefReference>>, Arc<Asked>)>,
    watches: HashMap<u64, Watched>,
    at_close: Vec<Arc<Asked>>,
    /// What is scheduled while the loop goes.
    closing: Option<VecDeque<Arc<Asked>>>,
}

#[derive(Debug)]
struct Watched {
    descriptor: c_int,
    interest: Interest,
    asked: Arc<Asked>,
}

thread_local! {
    /// The loops that this thread has met.
    static KNOWN: RefCell<Vec<Arc<Foreign>>> = const { RefCell::new(Vec::new()) };
}

/// That of a loop which runs in this thread.
pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Foreign>> {
    let py = event_loop.py();
    let known = KNOWN.with_borrow(|known| {
        known.iter().find(|it| it.event_loop(py).is_some_and(|found| found.is(event_loop))).cloned()
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let inbox = Inbox::new()?;
    let gone = Py::new(py, Gone { foreign: OnceLock::new() })?;
    let reference = PyWeakrefReference::new_with(event_loop, gone.bind(py))?.unbind();
    let foreign = Arc::new_cyclic(|this| Foreign {
        this: Weak::clone(this),
        table: table(this),
        event_loop: reference,
        thread: thread::current().id(),
        last: AtomicU64::new(0),
        inbox,
        gone: AtomicBool::new(false),
        kept: Mutex::default(),
    });
    let look = Py::new(py, Look { foreign: Arc::downgrade(&foreign) })?;
    event_loop.call_method1(intern!(py, "add_reader"), (foreign.inbox.reader.as_raw_fd(), look))?;
    let _unset = gone.get().foreign.set(Arc::downgrade(&foreign));
    KNOWN.with_borrow_mut(|known| known.push(Arc::clone(&foreign)));
    Ok(foreign)
}

impl Foreign {
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.event_loop.bind(py).upgrade()
    }

    fn callback(&self, py: Python<'_>, asked: &Arc<Asked>, timer: Option<Timer>) -> PyResult<Py<Callback>> {
        Py::new(py, Callback { asked: Arc::clone(asked), timer, foreign: Weak::clone(&self.this) })
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Calls a method of the loop. `None` if the loop is gone, or refuses.
    fn ask<R>(&self, ask: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>) -> Option<PyResult<R>> {
        Python::try_attach(|py| {
            let event_loop = self.event_loop(py)?;
            Some(ask(&event_loop))
        })
        .flatten()
    }

    pub(crate) fn schedule(&self, asked: Arc<Asked>) -> bool {
        if self.gone.load(Ordering::Acquire) {
            let mut kept = self.kept();
            return match &mut kept.closing {
                Some(closing) if self.is_own_thread() => {
                    closing.push_back(asked);
                    true
                }
                _ => false,
            };
        }
        if !self.is_own_thread() {
            return self.inbox.push(asked);
        }
        let scheduled = self.ask(|event_loop| {
            let py = event_loop.py();
            let callback = self.callback(py, &asked, None)?;
            event_loop.call_method1(intern!(py, "call_soon"), (callback,)).map(drop)
        });
        // What the loop has refused it may not call after all.
        matches!(scheduled, Some(Ok(()))) || !asked.give_up()
    }

    pub(crate) fn timer_set(&self, at: u64, asked: Arc<Asked>) -> TimerId {
        let number = self.number();
        self.timer(number, at, asked);
        TimerId(number, 0)
    }

    fn timer(&self, number: u64, at: u64, asked: Arc<Asked>) {
        let delay = at.saturating_sub(self.now()) as f64 / 1e9;
        let handle = self.ask(|event_loop| {
            let py = event_loop.py();
            let callback = self.callback(py, &asked, Some(Timer { number, at }))?;
            let handle = event_loop.call_method1(intern!(py, "call_later"), (delay, callback))?;
            Ok(PyWeakrefReference::new(&handle)?.unbind())
        });
        // A timer that the loop does not take, because it is closed, never comes, and can be cancelled.
        self.kept().timers.insert(number, (handle.and_then(Result::ok), asked));
    }

    /// The time of a timer has come, or is about to. Says what to call.
    fn timer_due(&self, number: u64, at: u64) -> Option<Arc<Asked>> {
        let (handle, asked) = self.kept().timers.remove(&number)?;
        drop(handle);
        if self.now() >= at {
            return Some(asked);
        }
        self.timer(number, at, asked);
        None
    }

    /// Ends a registration whose call cannot be made any more, and would keep the loop busy. Its data is still to be given back.
    fn end_watch(&self, asked: &Arc<Asked>) {
        let place = self
            .kept()
            .watches
            .values()
            .find(|it| Arc::ptr_eq(&it.asked, asked))
            .map(|it| (it.descriptor, it.interest));
        if let Some((descriptor, interest)) = place {
            self.unwatch(descriptor, interest);
        }
    }

    fn unwatch(&self, descriptor: c_int, interest: Interest) {
        // A closed loop watches nothing any more.
        let _removed = self.ask(|event_loop| {
            let py = event_loop.py();
            let method = match interest {
                Interest::READ => intern!(py, "remove_reader"),
                _ => intern!(py, "remove_writer"),
            };
            event_loop.call_method1(method, (descriptor,)).map(drop)
        });
    }

    pub(crate) fn timer_cancel(&self, TimerId(number, _): TimerId) -> bool {
        let timer = self.kept().timers.remove(&number);
        let Some((handle, asked)) = timer else { return false };
        let given = asked.give_up();
        Python::try_attach(|py| {
            if let Some(handle) = handle.and_then(|handle| handle.bind(py).upgrade())
                && let Err(error) = handle.call_method0(intern!(py, "cancel"))
            {
                error.write_unraisable(py, Some(&handle));
            }
        });
        given
    }

    pub(crate) fn descriptor_add(
        &self,
        descriptor: c_int,
        interest: Interest,
        asked: Arc<Asked>,
    ) -> Result<Watch, c_int> {
        let taken = |it: &Watched| it.descriptor == descriptor && it.interest == interest;
        if self.kept().watches.values().any(taken) {
            return Err(EEXIST);
        }
        let added = self.ask(|event_loop| {
            let py = event_loop.py();
            let method = match interest {
                Interest::READ => intern!(py, "add_reader"),
                _ => intern!(py, "add_writer"),
            };
            let callback = self.callback(py, &asked, None)?;
            match event_loop.call_method1(method, (descriptor, callback)) {
                Ok(_) => Ok(0),
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    error.value(py).getattr(intern!(py, "errno"))?.extract()
                }
                Err(error) => Err(error),
            }
        });
        match added {
            Some(Ok(0)) => {}
            Some(Ok(errno)) => return Err(errno),
            _ => return Err(EINVAL),
        }
        let number = self.number();
        self.kept().watches.insert(number, Watched { descriptor, interest, asked });
        Ok(Watch(number, 0))
    }

    pub(crate) fn descriptor_remove(&self, Watch(number, _): Watch) -> bool {
        let watched = self.kept().watches.remove(&number);
        let Some(Watched { descriptor, interest, asked }) = watched else { return false };
        let given = asked.give_up();
        self.unwatch(descriptor, interest);
        given
    }

    pub(crate) fn now(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// When such a loop asks the kernel, nobody can know; so each answer is another turn.
    pub(crate) fn turn(&self) -> u64 {
        self.number()
    }

    pub(crate) fn at_close(&self, asked: Arc<Asked>) {
        self.kept().at_close.push(asked);
    }

    /// The loop is gone: what its tasks need to end is done here and now.
    fn close(&self) {
        self.gone.store(true, Ordering::Release);
        let at_close = {
            let mut kept = self.kept();
            kept.closing = Some(VecDeque::new());
            std::mem::take(&mut kept.at_close)
        };
        let others = self.inbox.take();
        if let Some(closing) = &mut self.kept().closing {
            closing.extend(others);
        }
        loop {
            for asked in &at_close {
                asked.run();
            }
            let round = self.kept().closing.as_mut().map(std::mem::take).unwrap_or_default();
            if round.is_empty() {
                break;
            }
            for asked in round {
                asked.run();
            }
        }
        self.kept().closing = None;
        let forgotten = KNOWN.try_with(|known| {
            let mut known = known.borrow_mut();
            let place = known.iter().position(|it| std::ptr::eq(&raw const **it, self))?;
            Some(known.swap_remove(place))
        });
        drop(forgotten);
    }
}

/// Called by Python when the loop is collected.
#[pyclass(frozen)]
struct Gone {
    foreign: OnceLock<Weak<Foreign>>,
}

#[pymethods]
impl Gone {
    fn __call__(&self, _reference: &Bound<'_, PyAny>) {
        if let Some(foreign) = self.foreign.get().and_then(Weak::upgrade) {
            foreign.close();
        }
    }
}

/// Called by the loop when other threads have scheduled something.
#[pyclass(frozen)]
struct Look {
    foreign: Weak<Foreign>,
}

#[pymethods]
impl Look {
    fn __call__(&self) {
        if let Some(foreign) = self.foreign.upgrade() {
            for asked in foreign.inbox.take() {
                asked.run();
            }
        }
    }
}

/// What the loop calls.
#[pyclass(frozen)]
struct Callback {
    asked: Arc<Asked>,
    timer: Option<Timer>,
    foreign: Weak<Foreign>,
}

/// Which timer a callback is of.
struct Timer {
    number: u64,
    at: u64,
}

#[pymethods]
impl Callback {
    fn __call__(&self) {
        let Some(foreign) = self.foreign.upgrade() else { return };
        let asked = match &self.timer {
            Some(Timer { number, at }) => foreign.timer_due(*number, *at),
            None => Some(Arc::clone(&self.asked)),
        };
        if let Some(asked) = asked
            && asked.run() == Ran::Elsewhere
        {
            foreign.end_watch(&asked);
        }
    }
}
