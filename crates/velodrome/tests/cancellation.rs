//! Who hears of a cancellation, and when.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use velodrome::{
    Elapsed, Event, MemberError, all_tasks, catch_cancel, create_task, current_task, gather, run, sleep,
    task_group, timeout, try_gather, yield_now,
};

type Trace = Rc<RefCell<Vec<&'static str>>>;

fn trace() -> Trace {
    Rc::default()
}

#[test]
fn the_innermost_catch_hears_it_and_the_others_only_if_it_is_passed_on() {
    for pass_on in [false, true] {
        let said = trace();
        let saying = Rc::clone(&said);
        run(async {
            let task = create_task(async move {
                let outer = catch_cancel(async {
                    if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                        saying.borrow_mut().push("inner");
                        yield_now().await;
                        if pass_on {
                            cancelled.propagate::<()>().await;
                        }
                    }
                    saying.borrow_mut().push("inner goes on");
                })
                .await;
                saying.borrow_mut().push(if outer.is_err() { "outer" } else { "outer hears nothing" });
            });
            yield_now().await;
            task.cancel();
            task.await.unwrap();
        });
        let expected: &[&str] =
            if pass_on { &["inner", "outer"] } else { &["inner", "inner goes on", "outer hears nothing"] };
        assert_eq!(*said.borrow(), expected);
    }
}

#[test]
fn a_second_cancellation_ends_the_cleaning_up() {
    run(async {
        let task = create_task(async {
            let _ = catch_cancel(pending::<()>()).await;
            pending::<()>().await;
        });
        yield_now().await;
        assert!(task.cancel());
        yield_now().await;
        assert!(!task.is_done());
        assert_eq!(task.task_ref().cancelling(), 1);
        assert!(task.cancel());
        assert!(task.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn every_branch_of_a_task_hears_it() {
    run(async {
        let task = create_task(async {
            let (one, two, three) = gather!(
                catch_cancel(pending::<()>()),
                catch_cancel(sleep(Duration::from_secs(3600))),
                async { 3 },
            );
            (one.is_err(), two.is_err(), three)
        });
        yield_now().await;
        task.cancel();
        assert_eq!(task.await.unwrap(), (true, true, 3));
    });
}

/// What was asked to end is given up in the very step in which it would have heard of it.
#[test]
fn a_cancellation_that_nobody_heard_is_for_what_comes_next() {
    type Waits = fn() -> Pin<Box<dyn Future<Output = ()>>>;
    let waits: [Waits; 3] = [
        || Box::pin(async { drop(catch_cancel(pending::<()>()).await) }),
        || Box::pin(async { drop(catch_cancel(catch_cancel(pending::<()>())).await) }),
        || Box::pin(async { drop(gather([pending::<()>()]).await) }),
    ];
    for wait in waits {
        run(async {
            let event = Rc::new(Event::new());
            let waited = Rc::clone(&event);
            let task = create_task(async move {
                futures_lite::future::or(waited.wait(), wait()).await;
                pending::<()>().await;
            });
            yield_now().await;
            event.set();
            task.cancel();
            let outcome = timeout(Duration::from_secs(60), task).await.expect("it is not heard of");
            assert!(outcome.unwrap_err().is_cancelled());
        });
    }
}

/// What a timeout asked to end is given up unheard: the timeout hears of that, and nobody around it.
#[test]
fn a_timeout_that_nobody_heard_is_over_or_in_time_and_cancels_nothing() {
    for (deep, goes_on, expected) in
        [(false, false, Ok(7)), (false, true, Err(Elapsed)), (true, false, Ok(7)), (true, true, Ok(7))]
    {
        run(async {
            let event = Rc::new(Event::new());
            let waited = Rc::clone(&event);
            let task = create_task(async move {
                let inner = async {
                    let caught = async { drop(catch_cancel(pending::<()>()).await) };
                    futures_lite::future::or(waited.wait(), caught).await;
                    if goes_on {
                        pending::<()>().await;
                    }
                };
                let outcome = timeout(Duration::from_millis(1), async {
                    if deep {
                        drop(catch_cancel(inner).await)
                    } else {
                        inner.await
                    }
                    7
                });
                let outcome = outcome.await;
                yield_now().await;
                outcome
            });
            let asked = task.task_ref();
            while asked.cancelling() == 0 {
                yield_now().await;
            }
            event.set();
            let ended = timeout(Duration::from_secs(60), task).await.expect("it is not heard of");
            assert_eq!(ended.expect("it was cancelled"), expected);
            assert_eq!(asked.cancelling(), 0);
        });
    }
}

/// What a group asked to end in its block, because a member has failed, is given up unheard.
#[test]
fn a_group_whose_block_ends_before_it_has_heard_cancels_nothing_else() {
    run(async {
        let event = Rc::new(Event::new());
        let waited = Rc::clone(&event);
        let task = create_task(async move {
            let outcome = task_group(async |group| {
                group.create_task(async { Err::<(), _>("failed") }).detach();
                let caught = async { drop(catch_cancel(pending::<()>()).await) };
                futures_lite::future::or(waited.wait(), caught).await;
                Ok(())
            });
            let errors = outcome.await.unwrap_err().errors;
            assert!(matches!(errors[..], [MemberError::Failed("failed")]));
            yield_now().await;
        });
        let asked = task.task_ref();
        while asked.cancelling() == 0 {
            yield_now().await;
        }
        event.set();
        timeout(Duration::from_secs(60), task).await.expect("it waits on").expect("it was cancelled");
        assert_eq!(asked.cancelling(), 0);
    });
}

/// As with what a select leaves, which somebody makes a task of.
#[test]
fn a_future_that_goes_on_in_another_task_hears_what_that_is_told() {
    async fn cleans_up(said: Trace) {
        if let Err(cancelled) = catch_cancel(pending::<()>()).await {
            yield_now().await;
            said.borrow_mut().push("cleaned up");
            cancelled.propagate::<()>().await;
        }
    }
    type Waits = fn(Trace) -> Pin<Box<dyn Future<Output = ()>>>;
    let waits: [Waits; 4] = [
        |said| Box::pin(cleans_up(said)),
        |said| Box::pin(async { timeout(Duration::from_secs(3600), cleans_up(said)).await.unwrap() }),
        |said| Box::pin(async { drop(gather([cleans_up(said)]).await) }),
        |said| {
            Box::pin(async {
                let members = task_group(async |group| {
                    let member = async {
                        cleans_up(said).await;
                        Ok(())
                    };
                    group.create_task(member).detach();
                    pending::<Result<(), ()>>().await
                });
                drop(members.await);
            })
        },
    ];
    for wait in waits {
        let said = trace();
        run(async {
            let kept = Rc::new(Cell::new(None));
            let (begun, saying) = (Rc::clone(&kept), Rc::clone(&said));
            let first = create_task(async move {
                let mut waiting = wait(saying);
                assert!(futures_lite::future::poll_once(&mut waiting).await.is_none());
                begun.set(Some(waiting));
                pending::<()>().await;
            });
            yield_now().await;
            let next = create_task(kept.take().unwrap());
            yield_now().await;
            first.cancel();
            let ended = timeout(Duration::from_secs(60), first).await.expect("it is not heard of");
            assert!(ended.unwrap_err().is_cancelled());
            assert!(!next.is_done() && said.borrow().is_empty());
            next.cancel();
            assert!(next.await.unwrap_err().is_cancelled());
            assert_eq!(*said.borrow(), ["cleaned up"]);
        });
    }
}

#[test]
fn a_task_that_cancels_itself_ends_at_its_next_await() {
    let said = trace();
    let saying = Rc::clone(&said);
    run(async {
        let task = create_task(async move {
            current_task().unwrap().cancel();
            saying.borrow_mut().push("still here");
            yield_now().await;
            saying.borrow_mut().push("never");
        });
        assert!(task.await.unwrap_err().is_cancelled());
    });
    assert_eq!(*said.borrow(), ["still here"]);
}

#[test]
fn timeout_asks_first_and_waits_for_what_cleans_up() {
    let said = trace();
    run(async {
        let outcome = timeout(Duration::from_millis(1), async {
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                yield_now().await;
                said.borrow_mut().push("cleaned up");
                cancelled.propagate::<()>().await;
            }
        })
        .await;
        assert!(outcome.is_err());
        let kept = timeout(Duration::from_millis(1), async {
            let _ = catch_cancel(pending::<()>()).await;
            "a value all the same"
        });
        assert_eq!(kept.await, Ok("a value all the same"));
        let nested = timeout(
            Duration::from_secs(3600),
            timeout(Duration::from_millis(1), async {
                let _ = catch_cancel(pending::<()>())
                    .await
                    .map_err(|cancelled| cancelled.propagate::<()>())
                    .unwrap_err()
                    .await;
            }),
        );
        assert!(matches!(nested.await, Ok(Err(_))));
    });
    assert_eq!(*said.borrow(), ["cleaned up"]);
}

#[test]
fn a_cancelled_group_ends_when_its_members_have() {
    let said = trace();
    let saying = Rc::clone(&said);
    run(async {
        let task = create_task(async move {
            let member = Rc::clone(&saying);
            let outcome = task_group(async |group| {
                group
                    .create_task(async move {
                        if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                            yield_now().await;
                            yield_now().await;
                            member.borrow_mut().push("member");
                            cancelled.propagate::<()>().await;
                        }
                        Ok::<(), ()>(())
                    })
                    .detach();
                pending::<Result<(), ()>>().await
            })
            .await;
            saying.borrow_mut().push("never");
            outcome
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        said.borrow_mut().push("task");
        assert_eq!(all_tasks().len(), 1);
    });
    assert_eq!(*said.borrow(), ["member", "task"]);
}

#[test]
fn a_cancelled_gather_ends_when_its_tasks_have() {
    run(async {
        let event = Rc::new(Event::new());
        let cleaned = Rc::clone(&event);
        let task = create_task(async move {
            let child = async move {
                let _ = catch_cancel(pending::<()>()).await;
                yield_now().await;
                cleaned.set();
            };
            gather([child]).await
        });
        yield_now().await;
        yield_now().await;
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(event.is_set());
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn a_dropped_group_or_gather_leaves_no_task_running() {
    run(async {
        let group = task_group(async |group| {
            for _ in 0..10 {
                group.create_task(pending::<Result<(), ()>>()).detach();
            }
            pending().await
        });
        assert!(
            timeout(
                Duration::from_secs(60),
                futures_lite::future::or(group, async {
                    yield_now().await;
                    yield_now().await;
                    Ok::<(), _>(())
                })
            )
            .await
            .is_ok()
        );
        let mut gathering = gather((0..10).map(|_| pending::<()>()));
        assert!(futures_lite::future::poll_once(&mut gathering).await.is_none());
        drop(gathering);
        yield_now().await;
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn a_failing_member_cancels_the_block_and_its_siblings_and_all_errors_come_out() {
    run(async {
        let error = task_group(async |group| {
            group
                .create_task(async {
                    let _ = catch_cancel(pending::<()>()).await;
                    Err::<(), _>("failed while cleaning up")
                })
                .detach();
            group.create_task(async { Err::<(), _>("first") }).detach();
            pending::<Result<(), &str>>().await
        })
        .await
        .unwrap_err();
        assert!(matches!(
            error.errors[..],
            [MemberError::Failed("first"), MemberError::Failed("failed while cleaning up")]
        ));
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn a_failing_block_cancels_the_members() {
    run(async {
        let error = task_group(async |group| {
            group.create_task(pending::<Result<(), &str>>()).detach();
            Err::<(), _>("the block")
        })
        .await
        .unwrap_err();
        assert!(matches!(error.errors[..], [MemberError::Failed("the block")]));
        assert_eq!(all_tasks().len(), 1);
    });
}

#[test]
fn who_joins_a_group_that_is_ending_never_begins() {
    run(async {
        let error = task_group(async |group| {
            let late = group.clone();
            group
                .create_task(async move {
                    let _ = catch_cancel(pending::<()>()).await;
                    let task = late.create_task(async { Ok::<i32, &str>(1) });
                    assert!(task.await.unwrap_err().is_cancelled());
                    Ok(())
                })
                .detach();
            group.create_task(async { Err::<(), _>("over") }).detach();
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(error.errors.len(), 1);
    });
}

#[test]
fn try_gather_lets_the_others_go_on() {
    run(async {
        let event = Rc::new(Event::new());
        let reached = Rc::clone(&event);
        let error = try_gather((0..2).map(move |number| {
            let reached = Rc::clone(&reached);
            async move {
                if number == 0 {
                    return Err(std::io::Error::other("the first"));
                }
                for _ in 0..5 {
                    yield_now().await;
                }
                reached.set();
                Ok(())
            }
        }))
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "the first");
        assert!(!event.is_set());
        timeout(Duration::from_secs(60), event.wait()).await.unwrap();
    });
}
