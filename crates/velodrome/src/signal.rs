//! [`Signal`]: a signal that comes, as a future.
//!
//! The handler writes a byte to a socket pair of the `Signal`'s own (the crate signal-hook does that part), so nothing of ours
//! runs in a handler. As many signals as come before they are looked at count as one.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

use crate::AsyncFd;

/// Waits for a signal of one kind, which no longer does what it does by default.
///
/// ```
/// use velodrome::{Signal, run};
///
/// run(async {
///     let mut signal = Signal::new(signal_hook::consts::SIGUSR1)?;
///     signal_hook::low_level::raise(signal_hook::consts::SIGUSR1)?;
///     signal.recv().await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signal {
    number: i32,
    id: SigId,
    io: AsyncFd<UnixStream>,
}

impl Signal {
    /// Listens for a signal, from now on.
    ///
    /// # Errors
    ///
    /// For signals that cannot be handled; what the kernel says.
    ///
    /// ```
    /// velodrome::Signal::new(signal_hook::consts::SIGUSR2)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(number: i32) -> io::Result<Self> {
        if signal_hook::consts::FORBIDDEN.contains(&number) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a signal that cannot be handled"));
        }
        let (reader, writer) = UnixStream::pair()?;
        let io = AsyncFd::new(reader)?;
        let id = pipe::register(number, writer)?;
        Ok(Signal { number, id, io })
    }

    /// Waits until the signal comes, or takes one that came before.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::Signal;
    ///
    /// velodrome::run(async {
    ///     let mut signal = Signal::new(signal_hook::consts::SIGWINCH)?;
    ///     signal_hook::low_level::raise(signal_hook::consts::SIGWINCH)?;
    ///     signal.recv().await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn recv(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64];
        self.io.read_with(|mut socket| socket.read(&mut bytes)).await.map(drop)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        unregister(self.id);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.number).finish()
    }
}

/// Waits for Ctrl-C (SIGINT), which no longer ends the program while this waits.
///
/// # Errors
///
/// What the kernel says.
///
/// ```
/// use velodrome::{create_task, ctrl_c, run, yield_now};
///
/// run(async {
///     let asked = create_task(ctrl_c());
///     yield_now().await;
///     signal_hook::low_level::raise(signal_hook::consts::SIGINT)?;
///     asked.await?
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn ctrl_c() -> io::Result<()> {
    Signal::new(signal_hook::consts::SIGINT)?.recv().await
}
