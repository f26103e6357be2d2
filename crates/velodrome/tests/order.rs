//! Who runs when: asyncio's order. The traces were taken from asyncio, which prints the same for the same program.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use velodrome::{Event, Future, Lock, Queue, Semaphore, create_task, gather, run, sleep_until, yield_now};

#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn say(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn told(&self) -> String {
        self.0.borrow().join(" ")
    }
}

/// Says the number of each turn while something else happens.
fn clock(trace: &Trace, turns: usize) -> velodrome::Task<()> {
    let trace = trace.clone();
    create_task(async move {
        for turn in 0..turns {
            trace.say(turn.to_string());
            yield_now().await;
        }
    })
}

#[test]
fn tasks_take_turns_in_the_order_in_which_they_were_made() {
    let trace = Trace::default();
    run(async {
        gather(["a", "b", "c"].map(|name| {
            let trace = trace.clone();
            async move {
                for turn in 0..2 {
                    trace.say(format!("{name}{turn}"));
                    yield_now().await;
                }
            }
        }))
        .await
        .unwrap();
    });
    assert_eq!(trace.told(), "a0 b0 c0 a1 b1 c1");
}

#[test]
fn awaiting_a_task_takes_one_turn_after_its_end_and_gather_two() {
    let trace = Trace::default();
    run(async {
        let clock = clock(&trace, 5);
        create_task(async {}).await.unwrap();
        trace.say("task");
        clock.await.unwrap();
    });
    assert_eq!(trace.told(), "0 1 task 2 3 4");
    let trace = Trace::default();
    run(async {
        let clock = clock(&trace, 5);
        gather([async {}]).await.unwrap();
        trace.say("gather");
        clock.await.unwrap();
    });
    assert_eq!(trace.told(), "0 1 2 gather 3 4");
}

#[test]
fn who_waits_longest_gets_the_lock_and_nobody_passes() {
    let trace = Trace::default();
    run(async {
        let lock = Rc::new(Lock::new(()));
        gather(["a", "b", "c"].map(|name| {
            let (trace, lock) = (trace.clone(), Rc::clone(&lock));
            async move {
                for _ in 0..2 {
                    let _guard = lock.lock().await;
                    trace.say(name);
                    yield_now().await;
                }
            }
        }))
        .await
        .unwrap();
    });
    assert_eq!(trace.told(), "a b c a b c");
}

#[test]
fn a_waiter_that_is_cancelled_after_it_was_woken_hands_that_on() {
    run(async {
        let (lock, semaphore, queue) =
            (Rc::new(Lock::new(())), Rc::new(Semaphore::new(1)), Rc::new(Queue::bounded(1)));
        let (held, taken) = (lock.lock().await, semaphore.acquire().await);
        let wait = || {
            let (lock, semaphore, queue) = (Rc::clone(&lock), Rc::clone(&semaphore), Rc::clone(&queue));
            [
                create_task(async move { drop(lock.lock().await) }),
                create_task(async move { drop(semaphore.acquire().await) }),
                create_task(async move { assert_eq!(queue.get().await, Ok(1)) }),
            ]
        };
        let (first, second) = (wait(), wait());
        yield_now().await;
        drop((held, taken));
        queue.try_put(1).unwrap();
        for task in &first {
            task.cancel();
        }
        for task in first {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        for task in second {
            task.await.unwrap();
        }
    });
}

#[test]
fn setting_a_future_or_an_event_lets_the_setter_go_on() {
    let trace = Trace::default();
    run(async {
        let (promise, future) = Future::new();
        let event = Rc::new(Event::new());
        let (one, other, waiting) = (trace.clone(), trace.clone(), Rc::clone(&event));
        let first = create_task(async move {
            future.await.unwrap();
            one.say("future");
        });
        let second = create_task(async move {
            waiting.wait().await;
            other.say("event");
        });
        yield_now().await;
        event.set();
        promise.set(()).unwrap();
        trace.say("set");
        first.await.unwrap();
        second.await.unwrap();
    });
    assert_eq!(trace.told(), "set event future");
}

#[test]
fn timers_ring_in_the_order_of_their_times_and_of_being_set() {
    let trace = Trace::default();
    run(async {
        // From one moment on, and late enough that all are set before the first one rings.
        let start = Instant::now() + Duration::from_millis(200);
        gather([(3, "d"), (1, "a"), (2, "b"), (2, "c")].map(|(delay, name)| {
            let trace = trace.clone();
            async move {
                sleep_until(start + Duration::from_millis(delay)).await;
                trace.say(name);
            }
        }))
        .await
        .unwrap();
    });
    assert_eq!(trace.told(), "a b c d");
}

#[test]
fn all_who_wait_for_one_moment_wake_in_the_order_in_which_they_came() {
    let trace = Rc::new(RefCell::new(Vec::new()));
    run(async {
        let moment = Instant::now() + Duration::from_millis(200);
        gather((0..300).map(|number| {
            let trace = Rc::clone(&trace);
            async move {
                sleep_until(moment).await;
                trace.borrow_mut().push(number);
            }
        }))
        .await
        .unwrap();
        assert!(Instant::now() >= moment);
    });
    assert!(trace.borrow().iter().copied().eq(0..300));
}

#[test]
fn what_is_ready_when_main_returns_gets_its_turn_and_is_then_cancelled() {
    let trace = Trace::default();
    run(async {
        let trace = trace.clone();
        create_task(async move {
            for turn in 0..9 {
                trace.say(turn.to_string());
                yield_now().await;
            }
        })
        .detach();
        yield_now().await;
        yield_now().await;
    });
    assert_eq!(trace.told(), "0 1 2");
}

/// However many around them give up.
#[test]
fn those_who_wait_on_are_served_in_the_order_in_which_they_came() {
    for (count, keep) in [(5, 2), (100, 3), (1000, 50)] {
        run(async {
            let queue = Queue::unbounded();
            let mut random = fastrand::Rng::with_seed(count as u64);
            let mut waiting: Vec<_> = (0..count).map(|_| Some(Box::pin(queue.get()))).collect();
            for it in waiting.iter_mut().flatten() {
                assert!(poll_fn(|cx| Poll::Ready(it.as_mut().poll(cx))).await.is_pending());
            }
            let mut left: Vec<usize> = (0..count).collect();
            random.shuffle(&mut left);
            for place in left.split_off(keep) {
                waiting[place] = None;
            }
            left.sort_unstable();
            // Half of them are polled for somebody else now.
            let mut noop = Context::from_waker(Waker::noop());
            for &place in &left[..keep / 2] {
                assert!(waiting[place].as_mut().unwrap().as_mut().poll(&mut noop).is_pending());
            }
            for place in left {
                queue.try_put(place).unwrap();
                assert_eq!(waiting[place].take().unwrap().await, Ok(place));
            }
        });
    }
}
