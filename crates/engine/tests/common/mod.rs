//! What the tests share.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use velodrome_engine::{Backend, Engine, Harvest, Time};

/// Every backend of this platform.
pub const BACKENDS: &[Backend] = &[
    #[cfg(target_os = "linux")]
    Backend::Epoll,
    Backend::Poll,
];

/// Long enough for the slowest machine, short enough for a build that hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Runs `test`, but not for ever.
pub fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let runner = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match finished.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {LIMIT:?}"),
        _ => runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// Runs `test` once for every backend.
pub fn on_every_backend<J: Send + 'static>(test: fn(Engine<J>)) {
    for &backend in BACKENDS {
        in_time(move || test(Engine::with_backend(backend).unwrap()));
    }
}

/// One wait.
pub fn wait<J: Clone>(engine: &mut Engine<J>, timeout: Option<Duration>) -> Harvest {
    let events = engine.prepare(timeout).block();
    engine.harvest(events)
}

/// What is ready at this moment, without waiting.
pub fn look<J: Clone>(engine: &mut Engine<J>) -> Vec<J> {
    let harvest = wait(engine, Some(Duration::ZERO));
    assert!(harvest.error.is_none() && !harvest.interrupted);
    drain(engine)
}

/// Pops everything.
pub fn drain<J>(engine: &mut Engine<J>) -> Vec<J> {
    engine.begin();
    std::iter::from_fn(|| engine.pop()).collect()
}

/// Nanoseconds, as a time.
pub fn at(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}
