//! The wait itself: how many calls, who ends it, what it tells.

mod common;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{drain, look, on_every_backend, wait};
use velodrome_engine::{Engine, Interest, Time};

#[test]
fn an_idle_loop_makes_exactly_one_system_call_per_wait() {
    on_every_backend(|mut engine: Engine<()>| {
        let (reader, _writer) = std::io::pipe().unwrap();
        engine.watch(reader.as_fd(), Interest::Read, ()).unwrap();
        let before = engine.syscalls();
        for timeout in [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(1)] {
            for _ in 0..10 {
                wait(&mut engine, Some(timeout));
            }
        }
        assert_eq!(engine.syscalls() - before, 30);
    });
}

#[test]
fn a_wake_up_costs_one_read_and_is_gone_after_it() {
    on_every_backend(|mut engine: Engine<()>| {
        engine.remote().wake();
        let before = engine.syscalls();
        wait(&mut engine, None);
        assert_eq!(engine.syscalls() - before, 2);
        wait(&mut engine, Some(Duration::ZERO));
        assert_eq!(engine.syscalls() - before, 3);
    });
}

/// Linux tells the length of a pipe at either end.
#[cfg(target_os = "linux")]
#[test]
fn at_most_one_byte_is_in_flight_however_many_jobs_are_sent() {
    on_every_backend(|mut engine| {
        for job in 0..1000 {
            engine.remote_push(job).unwrap();
        }
        assert_eq!(rustix::io::ioctl_fionread(engine.wake_fd()).unwrap(), 1);
        wait(&mut engine, None);
        assert_eq!(drain(&mut engine).len(), 1000);
        assert_eq!(rustix::io::ioctl_fionread(engine.wake_fd()).unwrap(), 0);
        engine.remote_push(1000).unwrap();
        assert_eq!(rustix::io::ioctl_fionread(engine.wake_fd()).unwrap(), 1);
    });
}

/// As Python's threads share a loop's engine: whoever has the lock may push, and nobody has it during a wait.
#[test]
fn a_push_under_the_owners_lock_ends_the_wait_and_tells_nobody_else() {
    on_every_backend(|engine| {
        let engine = Arc::new(Mutex::new(engine));
        let share = Arc::clone(&engine);
        let prepared = engine.lock().unwrap().prepare(None);
        let pusher = thread::spawn(move || share.lock().unwrap().push_and_wake("ends it"));
        let events = prepared.block();
        pusher.join().unwrap();
        let mut engine = engine.lock().unwrap();
        engine.harvest(events);
        assert_eq!(drain(&mut engine), ["ends it"]);
        // Nobody waits: no byte is written, which the next wait would have to read.
        let before = engine.syscalls();
        engine.push_and_wake("seen anyway");
        assert_eq!(engine.timeout(Time::now), Some(Duration::ZERO));
        assert_eq!(wait(&mut engine, Some(Duration::ZERO)).jobs, 0);
        assert_eq!(engine.syscalls() - before, 1);
        assert_eq!(drain(&mut engine), ["seen anyway"]);
    });
}

#[test]
fn a_wait_never_ends_before_its_timeout() {
    on_every_backend(|mut engine: Engine<()>| {
        for micros in [0, 1, 100, 999, 1000, 1001, 2500] {
            let timeout = Duration::from_micros(micros);
            let start = Instant::now();
            wait(&mut engine, Some(timeout));
            assert!(start.elapsed() >= timeout);
        }
    });
}

#[test]
fn the_longest_timeout_is_a_wait_like_any_other() {
    on_every_backend(|mut engine| {
        engine.timer(Time::MAX, "never");
        for timeout in [engine.timeout(Time::now), engine.timeout(|| Time::ZERO), Some(Duration::MAX)] {
            let remote = engine.remote();
            let wait = engine.prepare(timeout);
            let waiter = thread::spawn(|| wait.block());
            remote.wake();
            let harvest = engine.harvest(waiter.join().unwrap());
            assert!(harvest.error.is_none(), "{:?}", harvest.error);
        }
    });
}

#[test]
fn signal_numbers_come_back_in_order_and_zeroes_do_not() {
    on_every_backend(|mut engine: Engine<()>| {
        rustix::io::write(engine.wake_fd(), &[2, 0, 15]).unwrap();
        engine.remote().wake();
        rustix::io::write(engine.wake_fd(), &[1]).unwrap();
        let harvest = wait(&mut engine, None);
        assert_eq!(harvest.signals, [2, 15, 1]);
        assert_eq!(harvest.jobs, 0);
        assert!(wait(&mut engine, Some(Duration::ZERO)).signals.is_empty());
    });
}

#[test]
fn a_pipe_full_of_signals_loses_no_wake_up() {
    on_every_backend(|mut engine| {
        let mut written = 0;
        while let Ok(count) = rustix::io::write(engine.wake_fd(), &[7; 1000]) {
            written += count;
        }
        engine.remote_push("first").unwrap(); // its byte does not fit
        assert_eq!(wait(&mut engine, None).signals.len(), written);
        assert_eq!(drain(&mut engine), ["first"]);
        // The refused byte is not taken for one that is still in flight.
        let remote = engine.remote();
        let wait = engine.prepare(None);
        let waiter = thread::spawn(|| wait.block());
        remote.push("second").unwrap();
        engine.harvest(waiter.join().unwrap());
        assert_eq!(drain(&mut engine), ["second"]);
    });
}

extern "C" fn ignore(_: libc::c_int) {}

#[test]
fn a_signal_handler_interrupts_the_wait_which_is_not_retried() {
    // SAFETY: the handler does nothing, and nothing else uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        // Not even SA_RESTART starts these calls again.
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    on_every_backend(|mut engine: Engine<()>| {
        let wait = engine.prepare(None);
        let (identity, waiter) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                // SAFETY: always safe.
                let myself = unsafe { libc::pthread_self() };
                // A pointer on some platforms, which would not be sent.
                identity.send(myself as usize).unwrap();
                let events = wait.block();
                done.store(true, Ordering::Release);
                // Stays until it is told, so that the signals below always have a thread to go to.
                thread::park();
                events
            }
        });
        let waiter = waiter.recv().unwrap() as libc::pthread_t;
        // The first may arrive before the thread blocks.
        while !done.load(Ordering::Acquire) {
            // SAFETY: the thread was not joined yet.
            assert_eq!(unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) }, 0);
            thread::sleep(Duration::from_millis(1));
        }
        thread.thread().unpark();
        let harvest = engine.harvest(thread.join().unwrap());
        assert!(harvest.interrupted && harvest.error.is_none());
        assert_eq!(harvest.jobs, 0);
    });
}

#[test]
fn a_wait_that_is_never_harvested_costs_only_its_buffer() {
    on_every_backend(|mut engine| {
        let (_reader, writer) = std::io::pipe().unwrap();
        engine.watch(writer.as_fd(), Interest::Write, "write").unwrap();
        drop(engine.prepare(None));
        drop(engine.prepare(None).block());
        let (one, two) = (engine.prepare(None), engine.prepare(None));
        let (one, two) = (one.block(), two.block());
        assert_eq!(engine.harvest(two).jobs, 1);
        assert_eq!(engine.harvest(one).jobs, 1);
        assert_eq!(drain(&mut engine), ["write", "write"]);
    });
}

#[test]
fn dropping_the_engine_ends_the_wait() {
    on_every_backend(|mut engine: Engine<()>| {
        let wait = engine.prepare(None);
        let waiter = thread::spawn(|| wait.block());
        thread::sleep(Duration::from_millis(5));
        drop(engine);
        drop(waiter.join().unwrap());
    });
}

#[test]
fn events_of_another_engine_do_no_harm() {
    on_every_backend(|mut engine: Engine<&str>| {
        for &backend in common::BACKENDS {
            let mut other = Engine::with_backend(backend).unwrap();
            other.remote_push("not here").unwrap();
            let events = other.prepare(None).block();
            engine.harvest(events);
            assert!(look(&mut engine).is_empty());
        }
    });
}

#[test]
fn an_engine_that_forgot_its_kernel_gets_one_of_its_own() {
    on_every_backend(|mut engine| {
        let (_reader, writer) = std::io::pipe().unwrap();
        let key = engine.watch(writer.as_fd(), Interest::Write, "watched").unwrap();
        let remote = engine.remote();
        engine.remote_push("sent").unwrap();
        let events = engine.prepare(None).block();
        engine.forget_kernel();
        engine.forget_kernel();

        // What the old one found is not looked at.
        assert_eq!(engine.harvest(events).jobs, 0);
        assert_eq!(remote.push("refused"), Err("refused"));
        engine.remote_push("own").unwrap();
        assert_eq!(look(&mut engine), ["sent", "own", "watched"]);
        assert_eq!(engine.unwatch(key), Some("watched"));
        assert_eq!(engine.clear(), Vec::<&str>::new());
    });
}
