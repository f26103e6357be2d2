//! No wake-up is lost, wherever it comes from.
#![allow(missing_docs)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use velodrome::{Handle, Runner, create_task, gather, run, spawn_blocking, timeout, yield_now};

const PATIENCE: Duration = Duration::from_secs(60);

/// Threads count up and wake; the task whose count it is has to see the last number.
#[test]
fn a_task_sees_what_was_there_before_it_was_woken_from_any_thread() {
    const TASKS: usize = 16;
    const THREADS: usize = 4;
    const WAKES: u64 = 500_000;
    let counts: Arc<Vec<AtomicU64>> = Arc::new((0..TASKS).map(|_| AtomicU64::new(0)).collect());
    let running = Arc::new(AtomicUsize::new(THREADS));
    run(async {
        let (sender, wakers) = mpsc::channel::<(usize, Waker)>();
        let tasks: Vec<_> = (0..TASKS)
            .map(|index| {
                let (counts, running, sender) = (Arc::clone(&counts), Arc::clone(&running), sender.clone());
                let mut told = false;
                create_task(poll_fn(move |cx| {
                    if !std::mem::replace(&mut told, true) {
                        sender.send((index, cx.waker().clone())).unwrap();
                    }
                    // Read in this order: a count that is complete, once nobody counts any more.
                    let over = running.load(Ordering::SeqCst) == 0;
                    let count = counts[index].load(Ordering::SeqCst);
                    if over { Poll::Ready(count) } else { Poll::Pending }
                }))
            })
            .collect();
        yield_now().await;
        let mut wakers: Vec<(usize, Waker)> = wakers.try_iter().collect();
        wakers.sort_by_key(|(index, _)| *index);
        let wakers: Arc<Vec<Waker>> = Arc::new(wakers.into_iter().map(|(_, waker)| waker).collect());
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (counts, running, wakers) =
                    (Arc::clone(&counts), Arc::clone(&running), Arc::clone(&wakers));
                thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed as u64);
                    for _ in 0..WAKES {
                        let index = random.usize(..TASKS);
                        counts[index].fetch_add(1, Ordering::SeqCst);
                        match random.u8(..3) {
                            0 => {
                                // Both ways of waking, and one of not waking.
                                let copy = wakers[index].clone();
                                copy.wake();
                            }
                            1 => wakers[index].wake_by_ref(),
                            _ => drop(wakers[index].clone()),
                        }
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    // The last word: without it a task that read `running` just before would wait for ever.
                    wakers.iter().for_each(Waker::wake_by_ref);
                })
            })
            .collect();
        drop(wakers);
        let mut sum = 0;
        for task in tasks {
            sum += timeout(PATIENCE, task).await.expect("a wake-up was lost").unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(sum, WAKES * THREADS as u64);
    });
}

/// Every wake counts: one side waits for the other each time.
#[test]
fn ping_pong_with_a_thread_never_stalls() {
    run(async {
        let (ask, asked) = mpsc::channel::<Waker>();
        let answers = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&answers);
        let thread = thread::spawn(move || {
            for waker in asked {
                counted.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        });
        for round in 0..50_000 {
            let mut sent = false;
            let answered = poll_fn(|cx| {
                if !std::mem::replace(&mut sent, true) {
                    ask.send(cx.waker().clone()).unwrap();
                }
                if answers.load(Ordering::Acquire) > round { Poll::Ready(()) } else { Poll::Pending }
            });
            timeout(PATIENCE, answered).await.expect("a wake-up was lost");
        }
        drop(ask);
        thread.join().unwrap();
    });
}

#[test]
fn what_threads_send_is_run_in_their_order_and_wakes_a_loop_that_waits() {
    run(async {
        let handle = Handle::current();
        let seen = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            for number in 0..10_000 {
                let counted = Arc::clone(&counted);
                handle
                    .call_soon(move || {
                        counted
                            .compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst)
                            .unwrap();
                    })
                    .unwrap();
            }
        });
        let all = poll_fn(|cx| {
            if seen.load(Ordering::SeqCst) == 10_000 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        timeout(PATIENCE, all).await.unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn blocking_functions_run_beside_each_other_and_come_back_in_any_number() {
    let results =
        run(async { gather((0..200).map(|number| spawn_blocking(move || number * 2))).await.unwrap() });
    assert!(results.into_iter().map(Result::unwrap).eq((0..200).map(|number| number * 2)));
}

#[test]
fn a_closed_loop_refuses_what_threads_ask() {
    let runner = Runner::new().unwrap();
    let handle = runner.handle();
    runner.run(async {});
    runner.close();
    assert!(handle.call_soon(|| ()).is_err());
    assert!(handle.create_task(|| async {}).is_err());
}

/// Wakers are of any thread, and of any time.
#[test]
fn a_waker_outlives_its_task_and_its_loop() {
    let (sender, wakers) = mpsc::channel::<Waker>();
    let thread = thread::spawn(move || {
        let wakers: Vec<Waker> = wakers.iter().collect();
        for waker in wakers {
            waker.wake_by_ref();
            let copy = waker.clone();
            drop(waker);
            copy.wake();
        }
    });
    run(async {
        for _ in 0..100 {
            let sender = sender.clone();
            create_task(poll_fn(move |cx| {
                sender.send(cx.waker().clone()).unwrap();
                Poll::<()>::Pending
            }))
            .detach();
        }
        yield_now().await;
    });
    drop(sender);
    thread.join().unwrap();
}
