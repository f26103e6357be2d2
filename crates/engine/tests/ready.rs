//! The ready queue: who comes when.

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use common::{at, drain, wait};
use velodrome_engine::{Engine, Interest, Time};

#[test]
fn jobs_come_out_in_the_order_they_went_in() {
    let mut engine = Engine::new().unwrap();
    for job in 0..10_000 {
        engine.push(job);
    }
    assert_eq!(engine.begin(), 10_000);
    assert!(drain(&mut engine).into_iter().eq(0..10_000));
    assert_eq!(engine.pop(), None);
}

#[test]
fn an_iteration_is_what_was_queued_when_it_began() {
    let mut engine = Engine::new().unwrap();
    engine.push(1);
    let jobs = engine.begin();
    engine.push(2);
    engine.remote_push(3).unwrap();
    assert_eq!(jobs, 1);
    assert_eq!(engine.pop(), Some(1));
    assert_eq!(engine.begin(), 2);
}

#[test]
fn a_job_of_another_thread_runs_before_what_is_pushed_after_it() {
    let mut engine = Engine::new().unwrap();
    engine.push("before");
    engine.remote_push("remote").unwrap();
    engine.push("after");
    assert_eq!(drain(&mut engine), ["before", "remote", "after"]);
}

#[test]
fn a_job_of_another_thread_runs_before_the_timers_that_expire_after_it() {
    let mut engine = Engine::new().unwrap();
    engine.timer(at(1), "timer");
    engine.remote_push("remote").unwrap();
    assert_eq!(engine.expire(at(1)), 1);
    assert_eq!(drain(&mut engine), ["remote", "timer"]);
}

#[test]
fn the_inbox_counts_only_once_it_was_moved_in() {
    let mut engine = Engine::new().unwrap();
    assert!(engine.inbox_is_empty());
    engine.remote_push(1).unwrap();
    assert!(!engine.inbox_is_empty());
    assert_eq!(engine.ready_len(), 0);
    assert_eq!(engine.begin(), 1);
    assert!(engine.inbox_is_empty());
    assert_eq!(engine.ready_len(), 1);
}

#[test]
fn the_timeout_is_zero_while_anything_is_ready_and_the_clock_is_not_read() {
    let mut engine = Engine::new().unwrap();
    engine.timer(Time::MAX, 0);
    engine.push(1);
    assert_eq!(engine.timeout(|| unreachable!()), Some(Duration::ZERO));
    engine.pop();
    engine.remote_push(2).unwrap();
    assert_eq!(engine.timeout(|| unreachable!()), Some(Duration::ZERO));
}

#[test]
fn the_timeout_reaches_to_the_next_deadline_and_never_below_zero() {
    let mut engine = Engine::new().unwrap();
    assert_eq!(engine.timeout(|| unreachable!()), None);
    engine.timer(at(100), ());
    assert_eq!(engine.timeout(|| at(30)), Some(Duration::from_nanos(70)));
    assert_eq!(engine.timeout(|| at(130)), Some(Duration::ZERO));
}

#[test]
fn a_burst_of_jobs_leaves_no_memory_behind_once_the_loop_sleeps() {
    let mut engine = Engine::new().unwrap();
    for job in 0..1_000_000 {
        if job % 2 == 0 { engine.push(job) } else { engine.remote_push(job).unwrap() }
    }
    assert_eq!(drain(&mut engine).len(), 1_000_000);
    wait(&mut engine, Some(Duration::from_nanos(1)));
    assert!(engine.capacities()[0] <= 1024);
}

#[test]
fn clear_returns_everything_and_the_engine_starts_again() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut engine = Engine::new().unwrap();
    engine.push("queued");
    engine.remote_push("sent").unwrap();
    let timer = engine.timer(at(1), "scheduled");
    let read = engine.watch(reader.as_fd(), Interest::Read, "read").unwrap();
    let write = engine.watch(writer.as_fd(), Interest::Write, "write").unwrap();

    let mut jobs = engine.clear();
    jobs.sort_unstable();
    assert_eq!(jobs, ["queued", "read", "scheduled", "sent", "write"]);

    assert_eq!((engine.begin(), engine.timer_count(), engine.watched()), (0, 0, 0));
    let new = engine.timer(at(1), "new");
    assert_eq!(engine.cancel(timer), None);
    assert_eq!(engine.cancel(new), Some("new"));
    engine.watch(writer.as_fd(), Interest::Write, "again").unwrap();
    assert_eq!((engine.unwatch(read), engine.unwatch(write)), (None, None));
    assert_eq!(common::look(&mut engine), ["again"]);
}
