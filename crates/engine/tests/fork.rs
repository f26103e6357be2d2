//! After a fork: what the child does to its engine must not reach the parent.
//!
//! Alone in this file, because a child of `fork` may only do so much while other threads of the parent hold locks.

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::look;
use velodrome_engine::{Engine, Interest, Key, Remote};

/// What a child does with the engine it inherits, whose watch has this key.
type Child = fn(Engine<&'static str>, Key, Remote<&'static str>);

/// Runs `child` in a fork of this process, and waits for it.
fn in_a_child(child: impl FnOnce()) {
    // SAFETY: the tests of this file that fork run one at a time, and the child leaves through `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let code = if catch_unwind(AssertUnwindSafe(child)).is_ok() { 0 } else { 1 };
            // SAFETY: nothing of the parent is flushed or run.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: the child was not waited for yet.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child failed");
        }
    }
}

#[test]
fn nothing_a_child_does_reaches_the_epoll_set_of_its_parent() {
    let children: [Child; 4] = [
        // It knows, and cleans up.
        |mut engine, key, remote| {
            engine.forget_kernel();
            assert_eq!(remote.push("refused"), Err("refused"));
            assert_eq!(engine.remote_push("own"), Ok(()));
            assert_eq!(engine.unwatch(key), Some("read"));
            assert_eq!(engine.clear(), ["queued", "own"]);
        },
        // It goes on, with the registration that it has inherited and with others, and is reached by its own threads.
        |mut engine, key, _| {
            engine.forget_kernel();
            let (theirs, mut writer) = std::io::pipe().unwrap();
            let added = engine.watch(theirs.as_fd(), Interest::Read, "added").unwrap();
            writer.write_all(b"x").unwrap();
            assert_eq!(look(&mut engine), ["queued", "added"]);
            assert_eq!(engine.unwatch(added), Some("added"));
            let remote = engine.remote();
            let sender = std::thread::spawn(move || remote.push("sent"));
            common::wait(&mut engine, None);
            sender.join().unwrap().unwrap();
            assert_eq!(look(&mut engine), ["sent"]);
            assert_eq!(engine.unwatch(key), Some("read"));
        },
        // It knows, and clears.
        |mut engine, _, _| {
            engine.forget_kernel();
            assert_eq!(engine.clear().len(), 2);
        },
        // It does not know.
        |engine, _, _| drop(engine),
    ];
    for child in children {
        for &backend in common::BACKENDS {
            let mut engine = Engine::with_backend(backend).unwrap();
            let (reader, mut writer) = std::io::pipe().unwrap();
            let key = engine.watch(reader.as_fd(), Interest::Read, "read").unwrap();
            engine.push("queued");
            let remote = engine.remote();
            let mut inherited = Some((engine, remote));
            in_a_child(|| {
                let (engine, remote) = inherited.take().unwrap();
                child(engine, key, remote);
            });
            let (mut engine, remote) = inherited.take().unwrap();

            // No wake-up came from the child, and nothing was unregistered.
            #[cfg(target_os = "linux")]
            assert_eq!(rustix::io::ioctl_fionread(engine.wake_fd()).unwrap(), 0);
            writer.write_all(b"x").unwrap();
            assert_eq!(look(&mut engine), ["queued", "read"]);
            assert_eq!(remote.push("sent"), Ok(()));
            assert_eq!(common::wait(&mut engine, Some(Duration::from_secs(1))).jobs, 1);
        }
    }
}
