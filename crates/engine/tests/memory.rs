//! What the engine allocates, counted by the allocator, for each thread by itself.

#[path = "common/allocator.rs"]
mod allocator;
mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use allocator::{bytes, calls};
use common::BACKENDS;
use velodrome_engine::{Engine, Interest, Time};

/// The size of a job of the Python face.
type Job = [u64; 2];
const JOB: Job = [0; 2];

#[test]
fn memory_follows_what_is_alive_and_a_running_loop_allocates_nothing() {
    for &backend in BACKENDS {
        let mut engine = Engine::with_backend(backend).unwrap();
        let (_reader, writer) = std::io::pipe().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        engine.watch(writer.as_fd(), Interest::Write, JOB).unwrap();
        let turn = |engine: &mut Engine<Job>| {
            engine.push(JOB);
            engine.remote_push(JOB).unwrap();
            let timer = engine.timer(Time::MAX, JOB);
            engine.timer(Time::ZERO, JOB);
            let key = engine.watch(reader.as_fd(), Interest::Read, JOB).unwrap();
            let timeout = engine.timeout(Time::now);
            let events = engine.prepare(timeout).block();
            engine.harvest(events);
            engine.expire(Time::now());
            engine.cancel(timer);
            engine.unwatch(key);
            for _ in 0..engine.begin() {
                engine.pop();
            }
            let events = engine.prepare(Some(Duration::from_nanos(1))).block();
            engine.harvest(events);
            common::drain(engine).len()
        };
        // Everything has grown to its size after some turns.
        let mut jobs = 0;
        (0..200).for_each(|_| jobs += turn(&mut engine));
        let (level, before) = (bytes(), calls());
        (0..1000).for_each(|_| jobs += turn(&mut engine));
        assert!(jobs >= 1000);
        // `drain` of the test makes a vector in each turn.
        assert_eq!(calls() - before, 1000);
        assert_eq!(bytes(), level);

        // A million timers: 56 bytes each, and doubled at most while they live.
        let keys: Vec<_> = (0..1_000_000).map(|time| engine.timer(Time::from_nanos(time), JOB)).collect();
        let vector = (keys.capacity() * size_of_val(&keys[0])) as isize;
        assert!(bytes() - level - vector <= 2 * 56 * 1_000_000, "{} bytes", bytes() - level - vector);
        for key in keys {
            engine.cancel(key).unwrap();
        }
        assert!(bytes() - level < 10_000, "{} bytes are kept", bytes() - level);

        // A million jobs from elsewhere.
        (0..1_000_000).for_each(|_| engine.remote_push(JOB).unwrap());
        for _ in 0..engine.begin() {
            engine.pop();
        }
        let events = engine.prepare(Some(Duration::from_nanos(1))).block();
        engine.harvest(events);
        assert!(bytes() - level < 100_000, "{} bytes are kept", bytes() - level);
    }
}
