//! Memory that only a burst of tasks, or of waiters, needed does not stay. Counted by the allocator, for each thread by itself.
#![allow(missing_docs)]
#![cfg(not(velodrome_model))]

#[path = "../../engine/tests/common/allocator.rs"]
#[allow(dead_code, reason = "the engine's tests also count calls")]
mod allocator;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use allocator::bytes;
use velodrome::{Event, create_task, run, sleep, yield_now};

const BURST: usize = 40_000;

#[test]
fn memory_of_a_burst_of_tasks_is_given_back_when_the_loop_waits() {
    run(async {
        let before = bytes();
        let tasks: Vec<_> = (0..BURST).map(|_| create_task(yield_now())).collect();
        let needed = bytes() - before;
        for task in tasks {
            task.await.unwrap();
        }
        // A machine that is busy elsewhere may find the time over before the loop waits for it, once or twice.
        let mut left = bytes() - before;
        for _ in 0..1_000 {
            if left < needed / 2 {
                return;
            }
            sleep(Duration::from_millis(1)).await;
            left = bytes() - before;
        }
        panic!("{left} bytes are left of {needed}");
    });
}

#[test]
fn waiters_that_gave_up_leave_nothing_between_those_that_wait_on() {
    run(async {
        let event = Rc::new(Event::new());
        let first = Rc::clone(&event);
        let first = create_task(async move { first.wait().await });
        yield_now().await;
        let before = bytes();
        let mut last = None;
        for _ in 0..BURST {
            let mut waiting = Box::pin(event.wait());
            assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
            // The one before gives up, between the first and the last.
            last = Some(waiting);
        }
        let left = bytes() - before;
        assert!(left < BURST as isize, "{left} bytes are left of {BURST} waiters");
        event.set();
        first.await.unwrap();
        last.unwrap().await;
    });
}
