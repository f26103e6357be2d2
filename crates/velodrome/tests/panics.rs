//! A panic ends its task, and the loop goes on.
#![allow(missing_docs)]

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use velodrome::{
    JoinError, MemberError, Runner, create_task, gather, run, spawn_blocking, task_group, timeout,
    try_gather, yield_now,
};

#[test]
fn other_tasks_go_on() {
    let count = run(async {
        let panicking: Vec<_> =
            (0..100).map(|number| create_task(async move { panic!("number {number}") })).collect();
        let fine: Vec<_> = (0..100)
            .map(|number| {
                create_task(async move {
                    yield_now().await;
                    number
                })
            })
            .collect();
        for (number, task) in panicking.into_iter().enumerate() {
            match task.await {
                Err(JoinError::Panicked(panic)) => assert_eq!(panic.to_string(), format!("number {number}")),
                other => panic!("{other:?}"),
            }
        }
        let mut count = 0;
        for task in fine {
            count += task.await.map(|_| 1).unwrap();
        }
        count
    });
    assert_eq!(count, 100);
}

/// Programs let errors of any kind out by `?`, and may log them in another thread.
#[test]
fn an_error_of_a_task_or_a_group_becomes_any_error() {
    type Any = Box<dyn std::error::Error + Send + Sync>;
    let outcome: Result<(), Any> = run(async {
        let _failed = create_task(async { panic!("as a task") }).await?;
        Ok(())
    });
    assert_eq!(outcome.unwrap_err().to_string(), "the task panicked: as a task");
    let outcome: Result<(), Any> = run(async {
        task_group(async |group| {
            group.create_task(async { if true { panic!("as a member") } else { Ok(()) } }).detach();
            Ok::<(), String>(())
        })
        .await?;
        Ok(())
    });
    assert_eq!(outcome.unwrap_err().to_string(), "a task group failed: panicked: as a member");
}

#[test]
fn the_main_futures_panic_goes_on_in_run_and_the_runner_can_be_used_again() {
    let runner = Runner::new().unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| runner.run(async { panic!("main") })));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"main"));
    assert_eq!(runner.run(async { 1 }), 1);
}

/// Panics when it is dropped.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a destructor");
        }
    }
}

#[test]
fn a_destructor_that_panics_ends_its_task_only() {
    run(async {
        let task = create_task(async {
            let _bad = Bad;
            pending::<()>().await;
        });
        yield_now().await;
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Panicked(_))));
        let returned = create_task(async { Bad });
        yield_now().await;
        std::mem::forget(returned.await);
        create_task(async { Bad }).detach();
        yield_now().await;
        assert_eq!(create_task(async { 1 }).await.unwrap(), 1);
    });
}

/// Its destructor panics after it has given something whose own does, or after a panic with such a payload.
#[test]
fn destructors_that_panic_one_after_the_other_end_their_task_only() {
    struct Twice {
        _bad: Bad,
        panics: bool,
    }
    impl Future for Twice {
        type Output = Bad;

        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Bad> {
            if self.panics { std::panic::panic_any(Bad) } else { Poll::Ready(Bad) }
        }
    }
    for panics in [false, true] {
        run(async {
            let task = create_task(Twice { _bad: Bad, panics });
            match task.await {
                Err(JoinError::Panicked(panic)) => assert_eq!(panic.to_string(), "in a destructor"),
                _ => panic!("it did not panic"),
            }
        });
    }
}

/// What a member of a gathering leaves to nobody is dropped in its last step.
#[test]
fn an_error_that_comes_second_and_panics_when_it_is_dropped() {
    struct Error(Option<Bad>);
    impl From<JoinError> for Error {
        fn from(_error: JoinError) -> Self {
            Error(None)
        }
    }
    run(async {
        let error = try_gather((0..3).map(|_| async { Err::<(), _>(Error(Some(Bad))) })).await.unwrap_err();
        std::mem::forget(error.0);
        yield_now().await;
        let begun = gather((0..3).map(|_| async { Bad }));
        std::mem::forget(begun.await.unwrap());
        assert_eq!(create_task(async { 1 }).await.unwrap(), 1);
    });
}

#[derive(Debug)]
struct Resumed;

impl From<JoinError> for Resumed {
    fn from(error: JoinError) -> Self {
        error.resume();
        Resumed
    }
}

#[test]
fn try_gather_may_go_on_with_a_panic() {
    run(async {
        let gathering = create_task(async {
            try_gather([async { if true { panic!("a member") } else { Ok::<(), Resumed>(()) } }]).await
        });
        match gathering.await {
            Err(JoinError::Panicked(panic)) => assert_eq!(panic.to_string(), "a member"),
            other => panic!("{other:?}"),
        }
    });
}

/// More of them than there may be threads.
#[test]
fn blocking_functions_whose_results_panic_leave_threads_for_others() {
    run(async {
        for _ in 0..100 {
            let (go, wait) = std::sync::mpsc::channel();
            drop(spawn_blocking(move || {
                wait.recv().unwrap();
                Bad
            }));
            go.send(()).unwrap();
        }
        let other = timeout(Duration::from_secs(60), spawn_blocking(|| 1));
        assert_eq!(other.await.expect("there is no thread left").unwrap(), 1);
    });
}

#[test]
fn a_blocking_function_that_panics_says_so() {
    run(async {
        let outcome = spawn_blocking(|| -> () { panic!("elsewhere") }).await;
        assert!(matches!(outcome, Err(JoinError::Panicked(_))));
        assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1);
    });
}

#[test]
fn gather_and_group_hear_of_it() {
    run(async {
        let outcome = gather((0..3).map(|number| async move { assert_ne!(number, 1) })).await;
        assert!(matches!(outcome, Err(JoinError::Panicked(_))));
        let error = task_group(async |group| {
            group.create_task(async { panic!("a member") }).await.map_err(|_| "told")?;
            Ok::<(), &str>(())
        })
        .await
        .unwrap_err();
        assert!(matches!(error.errors[0], MemberError::Panicked(_)));
    });
}

#[test]
fn a_function_from_another_thread_that_panics() {
    let runner = Runner::new().unwrap();
    runner.handle().call_soon(|| panic!("from afar")).unwrap();
    runner.run(async {
        yield_now().await;
        yield_now().await;
    });
}

#[test]
#[should_panic(expected = "run() cannot be called from a running event loop")]
fn there_is_one_loop_to_a_thread() {
    run(async { run(async {}) });
}

#[test]
#[should_panic(expected = "no running event loop")]
fn there_are_no_tasks_without_a_loop() {
    create_task(async {}).detach();
}
