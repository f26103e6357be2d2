//! The wake-up pipe: how another thread, or a signal handler, ends a wait.
//!
//! What must stay true:
//!
//! - Both ends are non-blocking and close-on-exec.
//! - At most one byte of ours is in flight: `woken` is set before it is written and cleared after it was read. A job is queued
//!   before `woken` is set, so whoever clears it sees the job (see `inbox.rs` for why no wake-up is lost).
//! - `woken` is cleared after *anything* was read, not only after our own byte: if the pipe was full of signal numbers, our byte
//!   was refused, and theirs stand for it.
//! - A zero is a wake-up, any other byte is a signal number (`signal.set_wakeup_fd` writes those).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::sync::{AtomicBool, Level, Ordering};

#[derive(Debug)]
pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    woken: AtomicBool,
    level: Level,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        let (reader, writer) = open()?;
        Ok(Pipe { reader, writer, woken: AtomicBool::new(false), level: Level::new() })
    }

    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    pub(crate) fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Makes the read end readable, unless it is about to be.
    pub(crate) fn wake(&self) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // A full pipe is readable, which is all that is wanted; nothing else can go wrong with a pipe whose ends are both ours.
        self.level.raise(|| while let Err(Errno::INTR) = rustix::io::write(&self.writer, &[0]) {});
    }

    /// Reads what is there. Appends the signal numbers to `signals`; returns how many system calls it took.
    pub(crate) fn drain(&self, signals: &mut Vec<u8>) -> u64 {
        let calls = self.level.lower(|| self.read(signals));
        // Acquire: a thread that found `woken` set queued its job before it looked, and that job must be visible from here on.
        self.woken.swap(false, Ordering::AcqRel);
        calls
    }

    /// Blocks while the pipe is empty, where the kernel must not.
    #[cfg(velodrome_model)]
    pub(crate) fn wait(&self) {
        self.level.wait();
    }

    fn read(&self, signals: &mut Vec<u8>) -> u64 {
        let mut buffer = [0_u8; 256];
        let mut calls = 0;
        loop {
            calls += 1;
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(count) => {
                    signals.extend(buffer[..count].iter().filter(|&&byte| byte != 0));
                    // A short read emptied it: asking again would only cost a call.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        calls
    }
}

#[cfg(not(any(target_vendor = "apple", target_os = "aix", target_os = "haiku", target_os = "nto")))]
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

#[cfg(any(target_vendor = "apple", target_os = "aix", target_os = "haiku", target_os = "nto"))]
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::io::{FdFlags, fcntl_setfd};
    let (reader, writer) = rustix::pipe::pipe()?;
    for end in [&reader, &writer] {
        fcntl_setfd(end, FdFlags::CLOEXEC)?;
        fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    }
    Ok((reader, writer))
}
