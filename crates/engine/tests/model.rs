//! Other threads, in every order in which they can come: no wake-up is lost, and no job.
//!
//! `make test-model` runs these; loom tries the orders, and says so when a thread would wait for ever.
#![cfg(velodrome_model)]

use loom::sync::Arc;
use loom::thread;
use velodrome_engine::{Engine, Time};

/// So many times may a thread be interrupted where it need not be; who waits or ends gives way besides.
const PREEMPTIONS: usize = 3;

fn in_every_order(program: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(program);
}

/// Takes jobs until there are so many, and waits for ever in between.
fn take<J: Clone>(engine: &mut Engine<J>, count: usize) -> Vec<J> {
    let mut taken = Vec::new();
    loop {
        engine.begin();
        while let Some(job) = engine.pop() {
            taken.push(job);
        }
        if taken.len() >= count {
            return taken;
        }
        let timeout = engine.timeout(Time::now);
        let events = engine.prepare(timeout).block();
        assert!(engine.harvest(events).error.is_none());
    }
}

#[test]
fn a_push_ends_the_wait_whenever_it_comes() {
    in_every_order(|| {
        let mut engine = Engine::new().unwrap();
        let senders = [1, 2].map(|job| {
            let remote = engine.remote();
            thread::spawn(move || remote.push(job).unwrap())
        });
        let mut taken = take(&mut engine, 2);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn the_jobs_of_a_thread_come_in_its_order() {
    in_every_order(|| {
        let mut engine = Engine::new().unwrap();
        let remote = engine.remote();
        let sender = thread::spawn(move || (1..=3).for_each(|job| remote.push(job).unwrap()));
        assert_eq!(take(&mut engine, 3), [1, 2, 3]);
        sender.join().unwrap();
    });
}

#[test]
fn what_was_sent_before_comes_before_what_is_pushed_after() {
    in_every_order(|| {
        let mut engine = Engine::new().unwrap();
        let remote = engine.remote();
        let sent = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let sender = thread::spawn({
            let sent = Arc::clone(&sent);
            move || {
                remote.push("sent").unwrap();
                sent.store(true, loom::sync::atomic::Ordering::Release);
            }
        });
        let before = sent.load(loom::sync::atomic::Ordering::Acquire);
        engine.push("pushed");
        let taken = take(&mut engine, 2);
        assert!(!before || taken == ["sent", "pushed"], "{taken:?}");
        sender.join().unwrap();
    });
}

#[test]
fn a_bare_wake_ends_the_wait() {
    in_every_order(|| {
        let mut engine = Engine::<()>::new().unwrap();
        let remote = engine.remote();
        let waker = thread::spawn(move || remote.wake());
        let events = engine.prepare(None).block();
        assert_eq!(engine.harvest(events).jobs, 0);
        waker.join().unwrap();
    });
}

/// A job is taken, or given back, or goes with the engine: loom counts that nothing of it is left.
#[test]
fn a_push_that_races_with_the_end_loses_no_job() {
    in_every_order(|| {
        let mut engine = Engine::new().unwrap();
        let remote = engine.remote();
        let job = Arc::new(());
        let sender = thread::spawn({
            let job = Arc::clone(&job);
            move || match remote.push(job) {
                Ok(()) => None,
                Err(job) => Some(job),
            }
        });
        engine.close_inbox();
        let taken = engine.clear();
        drop(engine);
        let refused = sender.join().unwrap();
        assert_eq!(taken.len() + usize::from(refused.is_some()), 1);
    });
}

#[test]
fn dropping_the_engine_drops_what_it_had_taken() {
    in_every_order(|| {
        let engine = Engine::new().unwrap();
        let remote = engine.remote();
        let job = Arc::new(());
        let sender = thread::spawn({
            let job = Arc::clone(&job);
            move || drop(remote.push(job))
        });
        drop(engine);
        sender.join().unwrap();
        assert_eq!(Arc::strong_count(&job), 1);
    });
}
