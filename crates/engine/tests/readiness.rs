//! Readiness: what fires, what does not, and in which order. On every backend.

mod common;

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{drain, look, on_every_backend, wait};
use velodrome_engine::{Engine, Interest, Key};

fn pipe() -> (PipeReader, PipeWriter) {
    io::pipe().unwrap()
}

/// Two connected sockets: nothing to read on either, room to write on both.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// Puts `new` in the place of `old`: the old file is closed, and its number names the new one.
fn take_the_number(old: &impl AsRawFd, new: &impl AsRawFd) {
    // SAFETY: both descriptors are open, and the number stays owned by `old`.
    let number = unsafe { libc::dup2(new.as_raw_fd(), old.as_raw_fd()) };
    assert_eq!(number, old.as_raw_fd());
}

#[test]
fn a_reader_fires_while_there_is_something_to_read() {
    on_every_backend(|mut engine| {
        let (mut reader, mut writer) = pipe();
        engine.watch(reader.as_fd(), Interest::Read, "read").unwrap();
        assert!(look(&mut engine).is_empty());
        writer.write_all(b"x").unwrap();
        // Level triggered: again and again.
        assert_eq!(look(&mut engine), ["read"]);
        assert_eq!(look(&mut engine), ["read"]);
        reader.read_exact(&mut [0]).unwrap();
        assert!(look(&mut engine).is_empty());
    });
}

#[test]
fn a_writer_fires_while_there_is_room_to_write() {
    on_every_backend(|mut engine| {
        let (mut one, _two) = pair();
        one.set_nonblocking(true).unwrap();
        engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        assert_eq!(look(&mut engine), ["write"]);
        while one.write(&[0; 4096]).is_ok() {}
        assert!(look(&mut engine).is_empty());
    });
}

#[test]
fn the_reader_of_a_descriptor_comes_before_its_writer() {
    on_every_backend(|mut engine| {
        let (one, mut two) = pair();
        two.write_all(b"x").unwrap();
        engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        engine.watch(one.as_fd(), Interest::Read, "read").unwrap();
        assert_eq!(look(&mut engine), ["read", "write"]);
    });
}

#[test]
fn each_direction_fires_alone() {
    on_every_backend(|mut engine| {
        let (one, mut two) = pair();
        let read = engine.watch(one.as_fd(), Interest::Read, "read").unwrap();
        let write = engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        assert_eq!(look(&mut engine), ["write"]);
        two.write_all(b"x").unwrap();
        engine.unwatch(write).unwrap();
        assert_eq!(look(&mut engine), ["read"]);
        engine.unwatch(read).unwrap();
        assert!(look(&mut engine).is_empty());
        assert_eq!(engine.watched(), 0);
    });
}

#[test]
fn one_wait_reports_everything_that_is_ready() {
    on_every_backend(|mut engine| {
        let pipes: Vec<_> = (0..200).map(|_| pipe()).collect();
        for (job, (_, writer)) in pipes.iter().enumerate() {
            engine.watch(writer.as_fd(), Interest::Write, job).unwrap();
        }
        let mut jobs = look(&mut engine);
        jobs.sort_unstable();
        assert!(jobs.into_iter().eq(0..200));
    });
}

#[test]
fn a_hang_up_makes_both_directions_ready() {
    on_every_backend(|mut engine| {
        let (one, two) = pair();
        engine.watch(one.as_fd(), Interest::Read, "read").unwrap();
        engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        drop(two);
        assert_eq!(look(&mut engine), ["read", "write"]);
    });
}

#[test]
fn a_hang_up_wakes_a_reader_and_an_error_wakes_a_writer() {
    on_every_backend(|mut engine| {
        let (reader, writer) = pipe();
        engine.watch(reader.as_fd(), Interest::Read, "end of file").unwrap();
        drop(writer);
        assert_eq!(look(&mut engine), ["end of file"]);

        let (other, mut writer) = pipe();
        // Full, so that only the error can make it ready.
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        engine.watch(writer.as_fd(), Interest::Write, "broken pipe").unwrap();
        assert_eq!(look(&mut engine), ["end of file"]);
        drop(other);
        let mut jobs = look(&mut engine);
        jobs.sort_unstable();
        assert_eq!(jobs, ["broken pipe", "end of file"]);
    });
}

#[test]
fn a_direction_is_watched_once() {
    on_every_backend(|mut engine| {
        let (one, _two) = pair();
        engine.watch(one.as_fd(), Interest::Write, "first").unwrap();
        let (error, job) = engine.try_watch(one.as_fd(), Interest::Write, "second").unwrap_err();
        assert_eq!((error.kind(), job), (io::ErrorKind::AlreadyExists, "second"));
        assert_eq!(engine.watched(), 1);
        assert_eq!(look(&mut engine), ["first"]);
    });
}

/// Only epoll refuses: poll(2) takes every descriptor.
#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_that_was_refused_leaves_no_trace() {
    common::in_time(|| {
        let mut engine = Engine::with_backend(velodrome_engine::Backend::Epoll).unwrap();
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let (error, job) = engine.try_watch(file.as_fd(), Interest::Read, "job").unwrap_err();
        assert_eq!((error.kind(), job), (io::ErrorKind::PermissionDenied, "job"));
        assert_eq!((engine.watched(), engine.watches().count()), (0, 0));
        assert_eq!(engine.find(file.as_raw_fd(), Interest::Read), None);
    });
}

#[test]
fn a_replaced_job_fires_in_the_place_of_the_old_one() {
    on_every_backend(|mut engine| {
        let (one, _two) = pair();
        let key = engine.watch(one.as_fd(), Interest::Write, "old").unwrap();
        assert_eq!(engine.replace(key, "new"), Ok("old"));
        assert_eq!(look(&mut engine), ["new"]);
        assert_eq!(engine.find(one.as_raw_fd(), Interest::Write), Some((key, &"new")));
    });
}

#[test]
fn a_renewed_registration_fires_for_the_file_that_has_the_number_now() {
    on_every_backend(|mut engine| {
        let (old, mut to_old) = pair();
        let (new, mut to_new) = pair();
        let read = engine.watch(old.as_fd(), Interest::Read, "read").unwrap();
        let write = engine.watch(old.as_fd(), Interest::Write, "write").unwrap();
        let (read, first) = engine.renew(old.as_fd(), read, "read again").unwrap();
        assert_eq!(first, "read");
        to_old.write_all(b"x").unwrap();
        assert_eq!(look(&mut engine), ["read again", "write"]);

        take_the_number(&old, &new);
        engine.unwatch(write).unwrap();
        let (read, _) = engine.renew(old.as_fd(), read, "read the new one").unwrap();
        assert!(look(&mut engine).is_empty());
        to_new.write_all(b"x").unwrap();
        assert_eq!(look(&mut engine), ["read the new one"]);
        engine.unwatch(read).unwrap();
        assert_eq!(engine.watched(), 0);
    });
}

#[test]
fn a_stale_key_cannot_be_renewed() {
    on_every_backend(|mut engine| {
        let (reader, _writer) = pipe();
        let key = engine.watch(reader.as_fd(), Interest::Read, 1).unwrap();
        engine.unwatch(key);
        let (error, job) = engine.renew(reader.as_fd(), key, 2).unwrap_err();
        assert_eq!((error.kind(), job), (io::ErrorKind::NotFound, 2));
        let key = engine.watch(reader.as_fd(), Interest::Read, 3).unwrap();
        let (other, _) = pipe();
        let (error, job) = engine.renew(other.as_fd(), key, 4).unwrap_err();
        assert_eq!((error.kind(), job), (io::ErrorKind::NotFound, 4));
    });
}

#[test]
fn a_stale_key_does_nothing() {
    on_every_backend(|mut engine| {
        let (one, _two) = pair();
        let old = engine.watch(one.as_fd(), Interest::Write, "old").unwrap();
        assert_eq!(engine.unwatch(old), Some("old"));
        let new = engine.watch(one.as_fd(), Interest::Write, "new").unwrap();
        assert_eq!(engine.unwatch(old), None);
        assert_eq!(engine.replace(old, "lost"), Err("lost"));
        assert_eq!(look(&mut engine), ["new"]);
        assert_eq!(engine.unwatch(new), Some("new"));
        for raw in [(0, 0), (u64::MAX, u64::MAX), (1, 1)] {
            assert_eq!(engine.unwatch(Key::from_raw(raw)), None);
        }
    });
}

#[test]
fn a_key_survives_its_way_through_c() {
    on_every_backend(|mut engine| {
        let (one, _two) = pair();
        for interest in [Interest::Read, Interest::Write] {
            let key = engine.watch(one.as_fd(), interest, interest).unwrap();
            assert_eq!((Key::from_raw(key.into_raw()), key.interest()), (key, interest));
        }
    });
}

#[test]
fn the_wake_up_is_not_counted_among_the_watches() {
    on_every_backend(|mut engine: Engine<&str>| {
        assert_eq!((engine.watched(), engine.watches().count()), (0, 0));
        engine.remote().wake();
        let harvest = wait(&mut engine, None);
        assert_eq!((harvest.jobs, harvest.signals.len()), (0, 0));
        assert!(drain(&mut engine).is_empty());
    });
}

#[test]
fn an_event_of_an_unwatched_descriptor_is_dropped() {
    on_every_backend(|mut engine| {
        let (one, _two) = pair();
        let key = engine.watch(one.as_fd(), Interest::Write, "old").unwrap();
        let events = engine.prepare(None).block();
        engine.unwatch(key).unwrap();
        assert_eq!(engine.harvest(events).jobs, 0);
        assert!(look(&mut engine).is_empty());
    });
}

#[test]
fn a_stale_event_does_not_fire_what_was_watched_after_it() {
    on_every_backend(|mut engine| {
        let (one, mut two) = pair();
        two.write_all(b"x").unwrap();
        let read = engine.watch(one.as_fd(), Interest::Read, "old").unwrap();
        let events = engine.prepare(None).block();
        engine.unwatch(read).unwrap();
        let read = engine.watch(one.as_fd(), Interest::Read, "new").unwrap();
        assert_eq!(engine.harvest(events).jobs, 0);
        // What is true is told by the next wait.
        assert_eq!(look(&mut engine), ["new"]);

        // The same while the other direction stays watched, and its registration with it.
        engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        let events = engine.prepare(None).block();
        engine.unwatch(read).unwrap();
        engine.watch(one.as_fd(), Interest::Read, "newer").unwrap();
        engine.harvest(events);
        assert!(!drain(&mut engine).contains(&"newer"));
        assert_eq!(look(&mut engine), ["newer", "write"]);
    });
}

#[test]
fn unwatching_after_the_descriptor_was_closed_still_removes_the_entry() {
    on_every_backend(|mut engine| {
        let (one, two) = pair();
        let number = one.as_raw_fd();
        let read = engine.watch(one.as_fd(), Interest::Read, "read").unwrap();
        let write = engine.watch(one.as_fd(), Interest::Write, "write").unwrap();
        drop(one);
        assert_eq!(engine.unwatch(read), Some("read"));
        assert_eq!(engine.unwatch(write), Some("write"));
        assert_eq!((engine.watched(), engine.find(number, Interest::Read)), (0, None));
        drop(two);
    });
}

#[test]
fn a_number_that_came_back_cannot_be_watched_before_the_old_registration_goes() {
    on_every_backend(|mut engine| {
        let (old, _old_peer) = pair();
        let (new, _new_peer) = pair();
        let stale = engine.watch(old.as_fd(), Interest::Write, "stale").unwrap();
        take_the_number(&old, &new);
        let error = engine.watch(old.as_fd(), Interest::Write, "new").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(engine.unwatch(stale), Some("stale"));
        engine.watch(old.as_fd(), Interest::Write, "new").unwrap();
        assert_eq!(look(&mut engine), ["new"]);
    });
}

/// Only epoll can tell: to poll(2) a number is a number.
#[cfg(target_os = "linux")]
#[test]
fn a_stale_registration_does_not_hear_of_the_stranger_that_has_its_number() {
    common::in_time(|| {
        let mut engine = Engine::with_backend(velodrome_engine::Backend::Epoll).unwrap();
        let (old, _old_peer) = pair();
        let (new, mut new_peer) = pair();
        let stale = engine.watch(old.as_fd(), Interest::Read, "stale").unwrap();
        take_the_number(&old, &new);
        new_peer.write_all(b"not for you").unwrap();
        assert!(look(&mut engine).is_empty());
        let write = engine.watch(old.as_fd(), Interest::Write, "write").unwrap();
        assert_eq!(look(&mut engine), ["write"]);
        // Neither does removing it touch the stranger's registration.
        assert_eq!(engine.unwatch(stale), Some("stale"));
        assert_eq!(look(&mut engine), ["write"]);
        engine.watch(old.as_fd(), Interest::Read, "read").unwrap();
        assert_eq!(look(&mut engine), ["read", "write"]);
        engine.unwatch(write).unwrap();
        assert_eq!(look(&mut engine), ["read"]);
    });
}

/// A duplicate keeps the file open, so epoll goes on reporting a descriptor that nobody can remove any more.
#[test]
fn a_descriptor_closed_before_it_was_unwatched_does_not_make_the_loop_spin() {
    on_every_backend(|mut engine| {
        let (old, mut peer) = pair();
        let (other, _other_peer) = pair();
        let duplicate = old.try_clone().unwrap();
        let key = engine.watch(old.as_fd(), Interest::Read, "old").unwrap();
        peer.write_all(b"x").unwrap();
        drop(old);
        assert_eq!(engine.unwatch(key), Some("old"));
        let write = engine.watch(other.as_fd(), Interest::Write, "other").unwrap();

        // At most one wait is disturbed, nothing fires, and the rest goes on.
        assert_eq!(look(&mut engine), ["other"]);
        assert_eq!(look(&mut engine), ["other"]);
        engine.unwatch(write).unwrap();
        let start = std::time::Instant::now();
        wait(&mut engine, Some(Duration::from_millis(30)));
        assert!(start.elapsed() >= Duration::from_millis(30));
        engine.watch(duplicate.as_fd(), Interest::Read, "duplicate").unwrap();
        assert_eq!(look(&mut engine), ["duplicate"]);
    });
}

#[test]
fn what_is_watched_while_a_wait_is_out_ends_that_wait() {
    on_every_backend(|mut engine| {
        let (_one, two) = pair();
        let wait = engine.prepare(None);
        let waiter = std::thread::spawn(|| wait.block());
        // Before or while it blocks: both must work.
        std::thread::sleep(Duration::from_millis(5));
        engine.watch(two.as_fd(), Interest::Write, "write").unwrap();
        engine.harvest(waiter.join().unwrap());
        if engine.ready_len() == 0 {
            common::wait(&mut engine, None);
        }
        assert_eq!(drain(&mut engine), ["write"]);
    });
}
