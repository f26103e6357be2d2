//! A task's future is dropped once, on the loop's thread, whenever and however it ends.
#![allow(missing_docs)]

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use velodrome::{
    Event, Lock, Queue, Runner, catch_cancel, create_task, gather, run, sleep, task_group, timeout, yield_now,
};

/// Counts how often it is dropped.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn counted() -> (Counted, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    (Counted(Rc::clone(&count)), count)
}

/// Takes ten steps, holding something at every one of them.
async fn ten_steps(held: Counted) -> Counted {
    for _ in 0..10 {
        yield_now().await;
    }
    held
}

#[test]
fn a_task_that_is_cancelled_after_any_number_of_steps() {
    for steps in 0..14 {
        for keep_handle in [true, false] {
            let (held, count) = counted();
            run(async {
                let task = create_task(ten_steps(held));
                for _ in 0..steps {
                    yield_now().await;
                }
                task.cancel();
                if keep_handle {
                    let outcome = task.await;
                    assert_eq!(outcome.is_err(), steps < 11, "after {steps} steps");
                    drop(outcome);
                } else {
                    drop(task);
                    yield_now().await;
                }
                assert_eq!(count.get(), 1, "after {steps} steps");
            });
            assert_eq!(count.get(), 1);
        }
    }
}

#[test]
fn a_task_that_the_end_of_the_run_finds() {
    for steps in 0..14 {
        let (held, count) = counted();
        let kept = Cell::new(None);
        run(async {
            kept.set(Some(create_task(ten_steps(held))));
            for _ in 0..steps {
                yield_now().await;
            }
        });
        let kept = kept.take().unwrap();
        // The loop is gone, the handle is not.
        assert!(kept.is_done());
        drop(kept);
        assert_eq!(count.get(), 1, "after {steps} steps");
    }
}

#[test]
fn a_result_that_nobody_takes() {
    let (held, count) = counted();
    run(async {
        let task = create_task(async { held });
        yield_now().await;
        assert_eq!(count.get(), 0);
        drop(task);
        assert_eq!(count.get(), 1);
    });
    let (held, count) = counted();
    run(async { create_task(async { held }).detach() });
    assert_eq!(count.get(), 1);
}

#[test]
fn a_task_that_panics() {
    let (held, count) = counted();
    run(async {
        let task = create_task(async {
            let _held = held;
            yield_now().await;
            panic!("on purpose");
        });
        assert!(task.await.is_err());
    });
    assert_eq!(count.get(), 1);
}

#[test]
fn a_task_whose_waker_is_dropped_by_another_thread_after_the_loop() {
    let (held, count) = counted();
    let waker: Rc<Cell<Option<Waker>>> = Rc::default();
    let kept = Rc::clone(&waker);
    run(async {
        create_task(async move {
            let _held = held;
            poll_fn(|cx| {
                kept.set(Some(cx.waker().clone()));
                Poll::<()>::Pending
            })
            .await;
        })
        .detach();
        yield_now().await;
    });
    assert_eq!(count.get(), 1);
    let waker = waker.take().unwrap();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(count.get(), 1);
}

#[test]
fn a_task_that_holds_its_own_handle() {
    let (held, count) = counted();
    run(async {
        let slot = Rc::new(Cell::new(None));
        let own = Rc::clone(&slot);
        let task = create_task(async move {
            let _held = (held, own);
            pending::<()>().await;
        });
        let reference = task.task_ref();
        slot.set(Some(task));
        yield_now().await;
        reference.cancel();
        yield_now().await;
        assert_eq!(count.get(), 1);
    });
}

/// A destructor that makes tasks, cancels others and wakes.
#[test]
fn destructors_may_use_the_loop() {
    struct Busy(Option<velodrome::Promise<u32>>);
    impl Drop for Busy {
        fn drop(&mut self) {
            create_task(async {}).detach();
            velodrome::all_tasks().iter().for_each(|task| drop(task.name()));
            if let Some(promise) = self.0.take() {
                promise.set(7).unwrap();
            }
        }
    }
    run(async {
        let (promise, future) = velodrome::Future::new();
        let busy = Busy(Some(promise));
        let task = create_task(async move {
            let _busy = busy;
            pending::<()>().await;
        });
        yield_now().await;
        task.cancel();
        assert_eq!(future.await, Ok(7));
        create_task(async {
            let _busy = Busy(None);
            pending::<()>().await;
        })
        .detach();
    });
}

/// Whatever a task waits for, being cancelled there leaves nothing behind.
#[test]
fn waiting_for_anything_can_be_cancelled_at_any_time() {
    let lock = Rc::new(Lock::new(()));
    let event = Rc::new(Event::new());
    let queue = Rc::new(Queue::<u32>::bounded(1));
    let runner = Runner::new().unwrap();
    for steps in 0..6 {
        let (held, count) = counted();
        let held = Rc::new(held);
        runner.run(async {
            let guard = lock.lock().await;
            let wait = |index: u32| {
                let (lock, event, queue, held) =
                    (Rc::clone(&lock), Rc::clone(&event), Rc::clone(&queue), Rc::clone(&held));
                async move {
                    let _held = held;
                    match index {
                        0 => drop(lock.lock().await),
                        1 => event.wait().await,
                        2 => drop(queue.get().await),
                        3 => sleep(Duration::from_secs(3600)).await,
                        4 => drop(gather((0..3).map(|_| pending::<()>())).await),
                        5 => drop(
                            task_group(async |group| {
                                group.create_task(pending::<Result<(), ()>>()).await.map_err(drop)
                            })
                            .await,
                        ),
                        _ => drop(timeout(Duration::from_secs(3600), pending::<()>()).await),
                    }
                }
            };
            let tasks: Vec<_> = (0..7).map(|index| create_task(wait(index))).collect();
            drop(held);
            for _ in 0..steps {
                yield_now().await;
            }
            for task in &tasks {
                task.cancel();
            }
            for task in tasks {
                assert!(task.await.unwrap_err().is_cancelled());
            }
            drop(guard);
            assert!(!lock.is_locked());
            assert_eq!(count.get(), 1);
            assert_eq!(velodrome::all_tasks().len(), 1);
        });
        assert_eq!(runner.registered(), (0, 0));
    }
}

#[test]
fn many_tasks_with_random_ends() {
    let mut random = fastrand::Rng::with_seed(3);
    let total = Rc::new(Cell::new(0));
    run(async {
        let mut tasks = Vec::new();
        for _ in 0..10_000 {
            let held = Counted(Rc::clone(&total));
            match random.u8(..4) {
                0 => tasks.push(create_task(async move { drop(ten_steps(held).await) })),
                1 => create_task(async move { drop(ten_steps(held).await) }).detach(),
                2 => tasks.push(create_task(async move {
                    let _held = held;
                    pending().await
                })),
                _ => {
                    create_task(async move {
                        let _held = held;
                        sleep(Duration::from_micros(50)).await;
                    })
                    .detach();
                }
            }
            if random.u8(..8) == 0 {
                yield_now().await;
            }
            if random.u8(..4) == 0 && !tasks.is_empty() {
                tasks.swap_remove(random.usize(..tasks.len())).cancel();
            }
        }
    });
    assert_eq!(total.get(), 10_000);
}

/// A waker may outlive its task, and be used for whatever one likes.
#[test]
fn a_sleep_that_is_polled_for_a_task_that_is_over() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    run(async {
        let waker = create_task(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).await.unwrap();
        for _ in 0..3 {
            let mut slept = pin!(sleep(Duration::from_micros(100)));
            assert!(slept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            sleep(Duration::from_millis(1)).await;
            assert!(slept.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        }
        let mut forgotten = pin!(sleep(Duration::from_micros(100)));
        assert!(forgotten.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        sleep(Duration::from_millis(1)).await;
    });
}

/// A sleep keeps its timer, whoever holds it, also beyond the task and the loop.
#[test]
fn a_sleep_that_outlives_its_task_and_its_loop() {
    let kept = Rc::new(Cell::new(None));
    let slot = Rc::clone(&kept);
    let runner = Runner::new().unwrap();
    runner.run(async {
        create_task(async move {
            let mut slept = Box::pin(sleep(Duration::from_secs(3600)));
            assert!(futures_lite::future::poll_once(&mut slept).await.is_none());
            slot.set(Some(slept));
        })
        .await
        .unwrap();
    });
    assert_eq!(runner.registered(), (0, 1));
    runner.close();
    drop(kept.take());
}

/// Makes a task of what it holds, when it is dropped.
struct MakesTask(Option<Counted>);

impl Drop for MakesTask {
    fn drop(&mut self) {
        let held = self.0.take();
        create_task(async move {
            let _held = held;
            pending::<()>().await;
        })
        .detach();
    }
}

#[test]
fn tasks_of_a_runner_that_is_dropped_while_another_loop_runs() {
    let (plain, caught, late) = (counted(), counted(), counted());
    let (held, catching, making) = (plain.0, caught.0, late.0);
    let runner = Runner::new().unwrap();
    let kept = Cell::new(None);
    runner.run(async {
        create_task(async move {
            let _making = MakesTask(Some(making));
            pending::<()>().await;
        })
        .detach();
        create_task(async move {
            let _held = catching;
            let _ = catch_cancel(pending::<()>()).await;
            pending::<()>().await;
        })
        .detach();
        let task = create_task(async move {
            let _held = held;
            sleep(Duration::from_secs(3600)).await;
        });
        yield_now().await;
        kept.set(Some(task));
    });
    run(async {
        let task = create_task(async move {
            drop(runner);
            // This loop is the running one again.
            create_task(async { 1 }).await.unwrap()
        });
        assert_eq!(task.await.unwrap(), 1);
    });
    assert!(kept.take().unwrap().is_done());
    assert_eq!((plain.1.get(), caught.1.get(), late.1.get()), (1, 1, 1));
}
