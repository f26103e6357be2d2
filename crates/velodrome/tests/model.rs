//! Wakers, handles and tasks between threads, in every order in which those can come: no wake-up is lost, a task is polled by
//! one step at a time, its memory is freed once and by whoever is last, and its future is dropped once, where it ran.
//!
//! `make test-model` runs these; loom tries the orders, says so when a thread would wait for ever or two touch the same without
//! order, and counts that nothing is left.
#![cfg(velodrome_model)]

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use velodrome::{Closed, Runner, create_task, yield_now};

/// So many times may a thread be interrupted where it need not be; who waits or ends gives way besides.
const PREEMPTIONS: usize = 2;

fn in_every_order(program: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(program);
}

/// Counts up to what is waited for. Who waits leaves a waker.
#[derive(Default)]
struct Counter {
    count: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Counter {
    fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for `count`, and says how often it was polled.
    async fn reaches(&self, count: usize) -> usize {
        let mut polls = 0;
        let inside = Cell::new(false);
        poll_fn(|cx| {
            assert!(!inside.replace(true), "polled by two steps at a time");
            polls += 1;
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            let reached = self.count.load(Ordering::Acquire) >= count;
            inside.set(false);
            if reached { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.waker.lock().unwrap().take();
        polls
    }
}

/// Says when it is dropped, and that it is where it was made.
struct Witness {
    dropped: Arc<AtomicUsize>,
    home: thread::ThreadId,
}

impl Witness {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let dropped = Arc::new(AtomicUsize::new(0));
        (Witness { dropped: Arc::clone(&dropped), home: thread::current().id() }, dropped)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.home, "dropped on another thread");
        self.dropped.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_wake_from_another_thread_is_never_lost() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let counter = Arc::new(Counter::default());
        let waking = thread::spawn({
            let counter = Arc::clone(&counter);
            move || counter.add()
        });
        let polls = runner.run(async {
            let counter = Arc::clone(&counter);
            create_task(async move { counter.reaches(1).await }).await.unwrap()
        });
        assert!(polls <= 2, "{polls} polls for one wake");
        waking.join().unwrap();
    });
}

#[test]
fn two_threads_wake_one_task_and_neither_is_lost() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let counter = Arc::new(Counter::default());
        let waking = [(); 2].map(|()| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add())
        });
        let polls = runner.run(async {
            let counter = Arc::clone(&counter);
            create_task(async move { counter.reaches(2).await }).await.unwrap()
        });
        assert!(polls <= 3, "{polls} polls for two wakes");
        for waking in waking {
            waking.join().unwrap();
        }
    });
}

/// Waits for two threads, which nothing but their wakes puts in an order with the one that waits.
async fn two_threads() {
    let done = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut waking = Vec::new();
    poll_fn(|cx| {
        if waking.is_empty() {
            waking = done
                .iter()
                .map(|done| (Arc::clone(done), cx.waker().clone()))
                .map(|(done, waker)| {
                    thread::spawn(move || {
                        done.store(1, Ordering::Relaxed);
                        waker.wake();
                    })
                })
                .collect();
        }
        let all = done.iter().all(|done| done.load(Ordering::Relaxed) == 1);
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waking.into_iter().for_each(|waking| waking.join().unwrap());
}

/// Also what the second did, whose wake finds the first one's on its way.
#[test]
fn what_was_done_before_a_wake_is_seen_by_the_poll_after_it() {
    in_every_order(|| {
        Runner::new().unwrap().run(async { create_task(two_threads()).await.unwrap() });
    });
}

#[test]
fn what_was_done_before_a_wake_of_the_main_future_is_seen_by_the_poll_after_it() {
    in_every_order(|| Runner::new().unwrap().run(two_threads()));
}

#[test]
fn a_wake_of_the_main_future_is_never_lost() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let counter = Arc::new(Counter::default());
        let waking = thread::spawn({
            let counter = Arc::clone(&counter);
            move || counter.add()
        });
        runner.run(counter.reaches(1));
        waking.join().unwrap();
    });
}

/// The task wakes itself while another thread does, too.
#[test]
fn wakes_from_within_and_without_may_meet() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let counter = Arc::new(Counter::default());
        let waking = thread::spawn({
            let counter = Arc::clone(&counter);
            move || counter.add()
        });
        runner.run(async {
            let counter = Arc::clone(&counter);
            let task = create_task(async move {
                yield_now().await;
                counter.reaches(1).await
            });
            task.await.unwrap()
        });
        waking.join().unwrap();
    });
}

/// What is left of a task when its loop is gone is its memory, which the last waker frees.
#[test]
fn a_waker_that_outlives_its_loop_does_no_harm() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let (witness, dropped) = Witness::new();
        let kept = Arc::new(Mutex::new(None));
        let place = Arc::clone(&kept);
        runner.run(async {
            create_task(async move {
                let _witness = witness;
                poll_fn(|cx| {
                    *place.lock().unwrap() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
                .await;
            })
            .detach();
            yield_now().await;
        });
        let waking = thread::spawn(move || {
            let waker = kept.lock().unwrap().take().unwrap();
            waker.wake_by_ref();
            waker.clone().wake();
        });
        runner.close();
        assert_eq!(dropped.load(Ordering::Acquire), 1);
        waking.join().unwrap();
    });
}

#[test]
fn a_task_that_is_cancelled_while_it_is_woken_drops_its_future_once() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let (witness, dropped) = Witness::new();
        let counter = Arc::new(Counter::default());
        let waking = thread::spawn({
            let counter = Arc::clone(&counter);
            move || counter.add()
        });
        runner.run(async {
            let counter = Arc::clone(&counter);
            let task = create_task(async move {
                let _witness = witness;
                counter.reaches(1).await;
            });
            yield_now().await;
            task.cancel();
            // It may have been done before.
            let _ = task.await;
        });
        assert_eq!(dropped.load(Ordering::Acquire), 1);
        waking.join().unwrap();
        drop(runner);
    });
}

#[test]
fn a_task_that_another_thread_asks_for_gives_its_result_there() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let handle = runner.handle();
        let counter = Arc::new(Counter::default());
        let asking = thread::spawn({
            let counter = Arc::clone(&counter);
            move || {
                let task = handle.create_task(|| async { *Rc::new(7) }).unwrap();
                let result = loom::future::block_on(task).unwrap();
                counter.add();
                result
            }
        });
        runner.run(counter.reaches(1));
        assert_eq!(asking.join().unwrap(), 7);
    });
}

/// It is refused, or called, or cancelled; and whoever waits for it hears of that.
#[test]
fn what_is_asked_of_a_loop_that_is_closing_has_an_outcome() {
    in_every_order(|| {
        let runner = Runner::new().unwrap();
        let handle = runner.handle();
        let called = Arc::new(AtomicUsize::new(0));
        let asking = thread::spawn({
            let called = Arc::clone(&called);
            move || {
                handle.call_soon(move || {
                    called.fetch_add(1, Ordering::AcqRel);
                })
            }
        });
        runner.close();
        let accepted = asking.join().unwrap();
        assert_eq!(called.load(Ordering::Acquire), usize::from(accepted != Err(Closed)));
    });
}
