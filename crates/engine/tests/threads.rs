//! Other threads: no job is lost, no wake-up is lost, nobody waits for nothing.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{drain, in_time, on_every_backend, wait};
use velodrome_engine::{Engine, Events, Harvest, Key, Remote, Time, TimerKey, Wait};

#[test]
fn everything_can_go_to_another_thread() {
    fn goes<T: Send + Sync>() {}
    goes::<Engine<u8>>();
    goes::<Remote<u8>>();
    goes::<Wait>();
    goes::<Events>();
    goes::<Harvest>();
    goes::<(Key, TimerKey, Time)>();
}

/// Each round the engine goes to sleep for ever while another thread sends one job, at every possible moment: a single lost
/// wake-up would hang.
#[test]
fn a_push_that_races_with_the_wait_ends_it() {
    on_every_backend(|mut engine| {
        const ROUNDS: usize = 10_000;
        let remote = engine.remote();
        let seen = Arc::new(AtomicUsize::new(0));
        let sender = thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                for round in 0..ROUNDS {
                    while seen.load(Ordering::Acquire) < round {
                        thread::yield_now();
                    }
                    for _ in 0..round % 97 {
                        std::hint::spin_loop();
                    }
                    remote.push(round).unwrap();
                }
            }
        });
        for round in 0..ROUNDS {
            while drain_one(&mut engine) != Some(round) {
                let timeout = engine.timeout(Time::now);
                wait(&mut engine, timeout);
            }
            seen.store(round + 1, Ordering::Release);
        }
        sender.join().unwrap();
    });

    fn drain_one(engine: &mut Engine<usize>) -> Option<usize> {
        engine.begin();
        engine.pop()
    }
}

#[test]
fn many_senders_lose_nothing_and_each_keeps_its_order() {
    on_every_backend(|mut engine| {
        const SENDERS: usize = 4;
        const JOBS: usize = 5_000;
        let start = Arc::new(Barrier::new(SENDERS));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (remote, start) = (engine.remote(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    for job in 0..JOBS {
                        remote.push((sender, job)).unwrap();
                        if job % 64 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        while next != [JOBS; SENDERS] {
            let timeout = engine.timeout(Time::now);
            wait(&mut engine, timeout);
            for (sender, job) in drain(&mut engine) {
                assert_eq!(job, next[sender]);
                next[sender] += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(engine.inbox_is_empty());
    });
}

#[test]
fn wakes_without_jobs_end_waits_too() {
    on_every_backend(|mut engine: Engine<()>| {
        let remote = engine.remote();
        for _ in 0..1000 {
            let wait = engine.prepare(None);
            let waker = thread::spawn({
                let remote = remote.clone();
                move || remote.wake()
            });
            engine.harvest(wait.block());
            waker.join().unwrap();
        }
    });
}

/// The owner looked at the inbox, a job came, the wake-up was read: whoever prepares a wait for ever now must not get one.
#[test]
fn a_wait_is_not_prepared_over_jobs_that_are_there() {
    on_every_backend(|mut engine| {
        engine.remote_push("job").unwrap();
        wait(&mut engine, None); // reads the wake-up
        engine.remote_push("second").unwrap();
        let events = engine.prepare(None).block();
        engine.harvest(events);
        assert_eq!(drain(&mut engine), ["job", "second"]);
    });
}

#[test]
fn a_job_sent_to_an_engine_that_is_gone_comes_back() {
    on_every_backend(|engine| {
        let remote = engine.remote();
        let other = remote.clone();
        remote.push(1).unwrap();
        drop(engine);
        assert_eq!(remote.push(2), Err(2));
        assert_eq!(other.push(3), Err(3));
        other.wake();
    });
}

/// Every job is either taken, dropped with the engine, or given back: exactly once.
#[test]
fn senders_that_race_with_the_end_of_the_engine_lose_no_job() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    in_time(|| {
        for _ in 0..200 {
            let dropped = Arc::new(AtomicUsize::new(0));
            let engine = Engine::new().unwrap();
            let start = Arc::new(Barrier::new(3));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (remote, start, dropped) =
                        (engine.remote(), Arc::clone(&start), Arc::clone(&dropped));
                    thread::spawn(move || {
                        start.wait();
                        (0..20).filter(|_| remote.push(Counted(Arc::clone(&dropped))).is_err()).count()
                    })
                })
                .collect();
            start.wait();
            drop(engine);
            for sender in senders {
                sender.join().unwrap();
            }
            assert_eq!(dropped.load(Ordering::Relaxed), 40);
        }
    });
}
