//! Futures of this crate on a loop that somebody else has written.
#![allow(missing_docs)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::future::{pending, poll_fn};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Wake, Waker};
use std::thread;

use velodrome::create_task;
use velodrome::host::{Asked, CallFn, Guest, GuestTask, HOST_VERSION, Host, Interest, TimerId, Watch};

/// A loop that can be run at any time, also from within what it runs. It has no timers and watches nothing.
struct Loop {
    table: Host,
    queue: Mutex<VecDeque<Asked>>,
}

// SAFETY: the table's pointer is to the structure itself, and what is queued is for any thread.
unsafe impl Send for Loop {}
// SAFETY: as above.
unsafe impl Sync for Loop {}

impl Loop {
    fn new() -> Arc<Loop> {
        Arc::new_cyclic(|this: &Weak<Loop>| Loop {
            table: Host {
                version: HOST_VERSION,
                size: size_of::<Host>() as u32,
                context: this.as_ptr().cast_mut().cast(),
                retain,
                release,
                schedule,
                timer_set,
                timer_cancel,
                descriptor_add,
                descriptor_remove,
                now,
                turn: now,
                at_close,
            },
            queue: Mutex::default(),
        })
    }

    fn guest(&self) -> Guest {
        // SAFETY: the table lies in the loop, which is run by this thread.
        unsafe { Guest::from_raw(NonNull::from(&self.table)) }.unwrap()
    }

    /// Makes the calls that are queued, and those that come of them.
    fn run_ready(&self) {
        loop {
            let Some(asked) = self.queue.lock().unwrap().pop_front() else { return };
            asked.run();
        }
    }
}

unsafe extern "C" fn retain(context: *mut c_void) {
    // SAFETY: it is an `Arc`'s, of which the caller has a share.
    unsafe { Arc::increment_strong_count(context.cast_const().cast::<Loop>()) }
}

unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: as above; the caller gives their share up.
    unsafe { Arc::decrement_strong_count(context.cast_const().cast::<Loop>()) }
}

unsafe extern "C" fn schedule(context: *mut c_void, call: CallFn, data: *mut c_void) -> bool {
    // SAFETY: the caller has a share of the loop, and asks for a call on whatever thread runs it.
    let (this, asked) = unsafe { (&*context.cast_const().cast::<Loop>(), Asked::anywhere(call, data)) };
    this.queue.lock().unwrap().push_back(asked);
    true
}

unsafe extern "C" fn timer_set(_: *mut c_void, _: u64, _: CallFn, _: *mut c_void) -> TimerId {
    TimerId(0, 0)
}

unsafe extern "C" fn timer_cancel(_: *mut c_void, _: TimerId) -> bool {
    true
}

unsafe extern "C" fn descriptor_add(
    _: *mut c_void,
    _: c_int,
    _: Interest,
    _: CallFn,
    _: *mut c_void,
    _: *mut Watch,
) -> c_int {
    1
}

unsafe extern "C" fn descriptor_remove(_: *mut c_void, _: Watch) -> bool {
    false
}

unsafe extern "C" fn now(_: *mut c_void) -> u64 {
    0
}

unsafe extern "C" fn at_close(_: *mut c_void, _: CallFn, _: *mut c_void) {}

/// As with nest_asyncio.
#[test]
fn a_wake_from_a_thread_that_the_loop_hears_of_within_the_step() {
    let event_loop = Loop::new();
    let within = Arc::clone(&event_loop);
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    let mut main = GuestTask::new(
        &event_loop.guest(),
        Box::pin(async move {
            let task = create_task(poll_fn(move |cx| {
                counted.set(counted.get() + 1);
                if counted.get() == 2 {
                    return Poll::Ready(());
                }
                let waker = cx.waker().clone();
                thread::spawn(move || waker.wake()).join().unwrap();
                within.run_ready();
                Poll::Pending
            }));
            task.await.unwrap();
        }),
    );
    assert!(main.poll(Waker::noop()).is_pending());
    event_loop.run_ready();
    assert_eq!(polls.get(), 2);
    assert!(main.poll(Waker::noop()).is_ready());
}

#[test]
fn who_polled_last_is_woken_by_a_cancellation() {
    struct Counter(AtomicU32);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let event_loop = Loop::new();
    let mut task = GuestTask::new(&event_loop.guest(), Box::pin(pending::<()>()));
    let counters = [0, 1].map(|_| Arc::new(Counter(AtomicU32::new(0))));
    for counter in &counters {
        assert!(task.poll(&Waker::from(Arc::clone(counter))).is_pending());
    }
    task.cancel();
    assert_eq!(counters.each_ref().map(|it| it.0.load(Ordering::Relaxed)), [0, 1]);
    assert_eq!(counters.each_ref().map(Arc::strong_count), [1, 2]);
}
