//! What one operation of the engine costs. `cargo bench -p velodrome-engine`
//!
//! The job is as large as that of the Python face: two words.

use std::hint::black_box;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use velodrome_engine::{Backend, Engine, Interest, Time};

#[derive(Clone, Copy)]
#[allow(dead_code, reason = "only its size matters")]
enum Job {
    Step(u64),
    Other(u64),
}

const JOB: Job = Job::Step(1);

fn main() {
    divan::main();
}

fn engine() -> Engine<Job> {
    Engine::new().unwrap()
}

/// A hundred times one push and one pop: what `sleep(0)` costs here.
#[divan::bench]
fn push_pop(bencher: Bencher<'_, '_>) {
    let mut engine = engine();
    bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
        for _ in 0..100 {
            engine.push(JOB);
            black_box(engine.pop());
        }
    });
}

/// What such a measurement costs without an engine.
#[divan::bench]
fn nothing(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
        for _ in 0..100 {
            black_box(Some(JOB));
        }
    });
}

/// A thousand pushed, then a thousand popped: an iteration of a busy loop.
#[divan::bench]
fn push_1000_begin_pop_1000(bencher: Bencher<'_, '_>) {
    let mut engine = engine();
    bencher.counter(ItemsCount::new(1000_u32)).bench_local(|| {
        for _ in 0..1000 {
            engine.push(JOB);
        }
        for _ in 0..engine.begin() {
            black_box(engine.pop());
        }
    });
}

/// From another thread (here: as if), a batch of a thousand per wake-up.
#[divan::bench]
fn remote_push_1000(bencher: Bencher<'_, '_>) {
    let mut engine = engine();
    let remote = engine.remote();
    bencher.counter(ItemsCount::new(1000_u32)).bench_local(|| {
        for _ in 0..1000 {
            let _ = remote.push(black_box(JOB));
        }
        for _ in 0..engine.begin() {
            black_box(engine.pop());
        }
    });
}

/// A timeout that does not fire, among many that wait.
#[divan::bench(args = [0, 100, 10_000, 1_000_000])]
fn timer_cancel(bencher: Bencher<'_, '_>, waiting: u64) {
    let mut engine = engine();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..waiting {
        engine.timer(Time::from_nanos(random.u64(..1 << 40)), JOB);
    }
    let mut at = 1 << 41;
    bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
        for _ in 0..100 {
            at += 1;
            let key = engine.timer(Time::from_nanos(at), black_box(JOB));
            black_box(engine.cancel(key));
        }
    });
}

/// As a server's timeouts: the oldest of those that wait is cancelled, a new one is made.
#[divan::bench(args = [100, 10_000, 1_000_000])]
fn timer_cancel_oldest(bencher: Bencher<'_, '_>, waiting: u64) {
    let mut engine = engine();
    let mut keys: std::collections::VecDeque<_> =
        (0..waiting).map(|at| engine.timer(Time::from_nanos(at), JOB)).collect();
    let mut at = waiting;
    bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
        for _ in 0..100 {
            at += 1;
            keys.push_back(engine.timer(Time::from_nanos(at), black_box(JOB)));
            if let Some(oldest) = keys.pop_front() {
                black_box(engine.cancel(oldest));
            }
        }
    });
}

/// Timers that do fire, at random times.
#[divan::bench(args = [100, 10_000, 1_000_000])]
fn timer_expire(bencher: Bencher<'_, '_>, waiting: u64) {
    let mut engine = engine();
    let mut random = fastrand::Rng::with_seed(1);
    let mut now = 0;
    for _ in 0..waiting {
        engine.timer(Time::from_nanos(random.u64(..waiting * 2)), JOB);
    }
    bencher.bench_local(|| {
        while engine.pop().is_none() {
            now += 1;
            engine.expire(Time::from_nanos(now));
        }
        engine.timer(Time::from_nanos(now + random.u64(..waiting * 2)), black_box(JOB));
    });
}

#[divan::bench]
fn time_now() -> Time {
    Time::now()
}

/// Two changes of the epoll set.
#[divan::bench(args = [Backend::default(), Backend::Poll])]
fn watch_unwatch(bencher: Bencher<'_, '_>, backend: Backend) {
    let mut engine = Engine::with_backend(backend).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    bencher.bench_local(|| {
        let key = engine.watch(reader.as_fd(), Interest::Read, JOB).unwrap();
        black_box(engine.unwatch(key));
    });
}

fn ready_pipes(engine: &mut Engine<Job>, count: usize) -> Vec<(PipeReader, PipeWriter)> {
    (0..count)
        .map(|_| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"x").unwrap();
            engine.watch(reader.as_fd(), Interest::Read, JOB).unwrap();
            (reader, writer)
        })
        .collect()
}

/// An iteration that asks the kernel, with so many descriptors ready.
#[divan::bench(args = [0, 1, 64, 400])]
fn wait_harvest_pop(bencher: Bencher<'_, '_>, ready: usize) {
    let mut engine = engine();
    let _pipes = ready_pipes(&mut engine, ready);
    bencher.bench_local(|| {
        let events = engine.prepare(Some(Duration::ZERO)).block();
        black_box(engine.harvest(events));
        for _ in 0..engine.begin() {
            black_box(engine.pop());
        }
    });
}

/// The same without the wait: what is ours.
#[divan::bench(args = [1, 64, 400])]
fn harvest_pop(bencher: Bencher<'_, '_>, ready: usize) {
    let engine = std::cell::RefCell::new(engine());
    let _pipes = ready_pipes(&mut engine.borrow_mut(), ready);
    bencher
        .counter(ItemsCount::new(ready))
        .with_inputs(|| engine.borrow_mut().prepare(Some(Duration::ZERO)).block())
        .bench_local_values(|events| {
            let mut engine = engine.borrow_mut();
            black_box(engine.harvest(events));
            for _ in 0..engine.begin() {
                black_box(engine.pop());
            }
        });
}

/// A wake-up from afar: a byte written, a wait, a read.
#[divan::bench]
fn remote_push_wait_harvest_pop(bencher: Bencher<'_, '_>) {
    let mut engine = engine();
    let remote = engine.remote();
    bencher.bench_local(|| {
        let _ = remote.push(black_box(JOB));
        let events = engine.prepare(None).block();
        black_box(engine.harvest(events));
        engine.begin();
        black_box(engine.pop())
    });
}
