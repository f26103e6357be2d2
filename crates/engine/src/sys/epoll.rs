//! The selector of Linux: epoll.
//!
//! What must stay true, beside the contract in `mod.rs`: finite waits go through `epoll_pwait2`, because `epoll_wait` counts
//! milliseconds and would turn a deadline of 50 µs into one of 1 ms. Kernels before 5.11 lack that call and some sandboxes refuse
//! it; then (and for waits that need no fraction of a millisecond) it is `epoll_wait`, rounded up.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::{LONGEST, Mask, Ready, Token, WAKE, borrow, timespec};
use crate::wake::Pipe;

/// Buffers start at this many events.
const FEW: usize = 64;

pub(crate) struct Epoll {
    kernel: Arc<Kernel>,
    /// The event buffer, when no wait has it.
    spare: Buffer,
}

/// Events, as the kernel writes them.
#[derive(Default)]
struct Buffer(Vec<Event>);

// SAFETY: all that keeps `Event` from these is that its data may be a pointer. Ours are numbers: every registration is made in
// this file, with `EventData::new_u64`.
unsafe impl Send for Buffer {}
// SAFETY: as above; and nothing is changed through a shared reference.
unsafe impl Sync for Buffer {}

/// What a wait keeps alive.
struct Kernel {
    epoll: OwnedFd,
    /// Kept so that the read end is not closed (and with it, silently, taken out of the set) under a wait.
    _pipe: Arc<Pipe>,
    /// Whether `epoll_pwait2` was refused.
    coarse: AtomicBool,
}

pub(crate) struct Question {
    kernel: Arc<Kernel>,
    timeout: Option<Duration>,
    events: Buffer,
}

pub(crate) struct Answer {
    events: Buffer,
}

fn flags(mask: Mask) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, mask.read);
    flags.set(EventFlags::OUT, mask.write);
    flags
}

impl Epoll {
    pub(crate) fn new(pipe: &Arc<Pipe>) -> io::Result<Self> {
        Ok(Epoll { kernel: Arc::new(Kernel::new(pipe)?), spare: Buffer::default() })
    }

    pub(crate) fn add(&mut self, fd: BorrowedFd<'_>, token: Token, mask: Mask) -> io::Result<()> {
        let data = EventData::new_u64(token);
        match epoll::add(&self.kernel.epoll, fd, data, flags(mask)) {
            // Left over: it was closed before it was unwatched while a duplicate kept it open, and now the number is back. It
            // names the same file, so it is simply ours again.
            Err(Errno::EXIST) => Ok(epoll::modify(&self.kernel.epoll, fd, data, flags(mask))?),
            result => Ok(result?),
        }
    }

    pub(crate) fn modify(&mut self, fd: RawFd, token: Token, mask: Mask) -> io::Result<()> {
        Ok(epoll::modify(&self.kernel.epoll, borrow(fd), EventData::new_u64(token), flags(mask))?)
    }

    pub(crate) fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        Ok(epoll::delete(&self.kernel.epoll, borrow(fd))?)
    }

    pub(crate) fn ask(&mut self, timeout: Option<Duration>, watched: usize) -> Question {
        let mut buffer = std::mem::take(&mut self.spare);
        let events = &mut buffer.0;
        // Room for every descriptor and the pipe: as in asyncio, one wait reports all that is ready.
        let wanted = (watched + 1).max(FEW);
        if events.capacity() < wanted {
            events.reserve(wanted);
        } else if events.capacity() / 4 > wanted {
            events.shrink_to(wanted);
        }
        Question { kernel: Arc::clone(&self.kernel), timeout, events: buffer }
    }

    pub(crate) fn reuse(&mut self, answer: Answer) {
        self.spare = answer.events;
        self.spare.0.clear();
    }
}

impl Question {
    pub(crate) fn block(mut self) -> (Answer, io::Result<()>) {
        let result = self.kernel.wait(&mut self.events.0, self.timeout);
        (Answer { events: self.events }, result.map_err(io::Error::from))
    }
}

impl Kernel {
    fn new(pipe: &Arc<Pipe>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, pipe.reader(), EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Kernel { epoll, _pipe: Arc::clone(pipe), coarse: AtomicBool::new(false) })
    }

    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno> {
        let timeout = timeout.map(|timeout| timeout.min(LONGEST));
        match timeout {
            // Only a fraction of a millisecond needs the newer call: polls and endless waits stay with the one that every
            // kernel and every sandbox knows.
            Some(timeout)
                if timeout.subsec_nanos() % 1_000_000 != 0 && !self.coarse.load(Ordering::Relaxed) =>
            {
                match wait_exactly(&self.epoll, events, timespec(timeout)) {
                    // ENOSYS from an old kernel, EPERM from a sandbox: epoll_wait itself knows neither. Once per engine, then,
                    // it takes two calls.
                    Err(Errno::NOSYS | Errno::PERM) => {
                        self.coarse.store(true, Ordering::Relaxed);
                        self.wait_milliseconds(events, Some(timeout))
                    }
                    result => result,
                }
            }
            timeout => self.wait_milliseconds(events, timeout),
        }
    }

    /// `epoll_wait`. The timeout is rounded up to milliseconds in there, so a deadline is never met early.
    fn wait_milliseconds(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno> {
        let timeout = timeout.map(timespec);
        epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref())?;
        Ok(())
    }
}

/// `epoll_pwait2`. Made by hand because rustix calls it only with its feature `linux_5_11`, which gives up older kernels for
/// every crate in the program.
fn wait_exactly(epoll: &OwnedFd, events: &mut Vec<Event>, timeout: Timespec) -> Result<(), Errno> {
    /// `struct __kernel_timespec`: 64 bits each, also where `timespec` has 32.
    #[repr(C)]
    struct KernelTimespec {
        secs: i64,
        nanos: i64,
    }
    #[allow(clippy::unnecessary_cast, reason = "these are 32 bits wide on some targets")]
    let timeout = KernelTimespec { secs: timeout.tv_sec as i64, nanos: timeout.tv_nsec as i64 };
    let room = events.spare_capacity_mut();
    let count = libc::c_int::try_from(room.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `count` events to `room`, which has that many (rustix's `Event` is the kernel's
    // `struct epoll_event`); it reads `timeout`, which lives until the call returns; no signal mask is given.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            room.as_mut_ptr(),
            count,
            &raw const timeout,
            std::ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    let Ok(ready) = usize::try_from(ready) else {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    };
    // SAFETY: the kernel wrote that many events after those that were there.
    unsafe { events.set_len(events.len() + ready) };
    Ok(())
}

impl Answer {
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Option<(Token, Ready)>> {
        let event = *self.events.0.get(index)?;
        let flags = event.flags;
        let ready = Ready {
            read: flags.intersects(EventFlags::OUT.complement()),
            write: flags.intersects(EventFlags::IN.complement()),
        };
        Some(Some((event.data.u64(), ready)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// On a kernel without `epoll_pwait2` a deadline is met late by up to a millisecond, never early.
    #[test]
    fn without_pwait2_a_timeout_is_rounded_up_to_milliseconds() {
        let pipe = Arc::new(Pipe::new().unwrap());
        let mut epoll = Epoll::new(&pipe).unwrap();
        epoll.kernel.coarse.store(true, Ordering::Relaxed);
        for micros in [1, 300, 1_700] {
            let timeout = Duration::from_micros(micros);
            let start = Instant::now();
            let (answer, result) = epoll.ask(Some(timeout), 0).block();
            assert!(start.elapsed() >= Duration::from_millis(micros.div_ceil(1000)));
            result.unwrap();
            assert!(answer.get(0).is_none());
            epoll.reuse(answer);
        }
    }

    #[test]
    fn rustix_and_libc_agree_on_the_event() {
        assert_eq!(size_of::<Event>(), size_of::<libc::epoll_event>());
        assert_eq!(align_of::<Event>(), align_of::<libc::epoll_event>());
    }
}
