//! [`Child`]: another process, and its end as a future. (Linux: a pidfd is waited for, so no signal is handled.)
//!
//! What must stay true: the pidfd is opened before the child can be reaped, so it is that child's; only [`Child::wait`] reaps.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Output};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::AsyncFd;
use crate::gather;
use crate::stream::{over_fd, readable, writable};

/// A process that was started here.
///
/// Dropping it leaves the process alone (and, as with the standard library's, a zombie if nobody waits for it).
///
/// ```
/// use std::process::Command;
/// use velodrome::{Child, run};
///
/// run(async {
///     let mut child = Child::spawn(Command::new("true"))?;
///     assert!(child.wait().await?.success());
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Child {
    end: AsyncFd<OwnedFd>,
    child: std::process::Child,
    /// Its standard input, if that is a pipe: see [`Command::stdin`].
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, if that is a pipe.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// Starts a process.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use std::process::Command;
    /// assert!(velodrome::Child::spawn(Command::new("/no/such/program")).is_err());
    /// ```
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        match Self::over(&mut child) {
            Ok((end, stdin, stdout, stderr)) => Ok(Child { end, child, stdin, stdout, stderr }),
            Err(error) => {
                // Nobody would ever hear of it again.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    fn over(
        child: &mut std::process::Child,
    ) -> io::Result<(AsyncFd<OwnedFd>, Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>)> {
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let end = AsyncFd::new(pidfd_open(pid, PidfdFlags::empty())?)?;
        Ok((
            end,
            child.stdin.take().map(ChildStdin::over).transpose()?,
            child.stdout.take().map(ChildStdout::over).transpose()?,
            child.stderr.take().map(ChildStderr::over).transpose()?,
        ))
    }

    /// Its number.
    ///
    /// ```
    /// use std::process::Command;
    /// velodrome::run(async {
    ///     let mut child = velodrome::Child::spawn(Command::new("true"))?;
    ///     assert!(child.id() > 0);
    ///     child.wait().await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end. Its standard input is closed first, so that it does not wait for more.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// velodrome::run(async {
    ///     let mut command = Command::new("cat");
    ///     command.stdin(Stdio::piped());
    ///     assert!(velodrome::Child::spawn(command)?.wait().await?.success());
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.end.readable().await?;
        }
    }

    /// Reads what it says, and waits for its end.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// velodrome::run(async {
    ///     let mut command = Command::new("echo");
    ///     command.arg("hello").stdout(Stdio::piped());
    ///     let output = velodrome::Child::spawn(command)?.wait_with_output().await?;
    ///     assert_eq!(output.stdout, b"hello\n");
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        self.stdin = None;
        let (stdout, stderr, status) = gather!(
            async {
                let mut all = Vec::new();
                match &stdout {
                    Some(stdout) => stdout.read_to_end(&mut all).await.map(|_| all),
                    None => Ok(all),
                }
            },
            async {
                let mut all = Vec::new();
                match &stderr {
                    Some(stderr) => stderr.read_to_end(&mut all).await.map(|_| all),
                    None => Ok(all),
                }
            },
            self.wait(),
        );
        Ok(Output { status: status?, stdout: stdout?, stderr: stderr? })
    }

    /// Kills it (SIGKILL). It has to be waited for all the same.
    ///
    /// # Errors
    ///
    /// If it has ended and was waited for.
    ///
    /// ```
    /// use std::process::Command;
    /// velodrome::run(async {
    ///     let mut command = Command::new("sleep");
    ///     command.arg("1000");
    ///     let mut child = velodrome::Child::spawn(command)?;
    ///     child.kill()?;
    ///     assert!(!child.wait().await?.success());
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Child").field(&self.child.id()).finish()
    }
}

/// A pipe to or from a child.
macro_rules! pipe {
    ($name:ident, $what:literal) => {
        #[doc = concat!("A child's standard ", $what, ".")]
        ///
        /// ```
        #[doc = concat!("let pipe: Option<velodrome::", stringify!($name), "> = None; // as without `Stdio::piped()`")]
        /// assert!(pipe.is_none());
        /// ```
        #[derive(Debug)]
        pub struct $name {
            io: AsyncFd<std::process::$name>,
        }

        over_fd!($name, std::process::$name);
    };
}

pipe!(ChildStdin, "input");
pipe!(ChildStdout, "output");
pipe!(ChildStderr, "error");
writable!(ChildStdin);
readable!(ChildStdout);
readable!(ChildStderr);

impl ChildStdout {
    fn read_once(io: &std::process::ChildStdout, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io, buffer)?)
    }
}

impl ChildStderr {
    fn read_once(io: &std::process::ChildStderr, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io, buffer)?)
    }
}

impl ChildStdin {
    fn write_once(io: &std::process::ChildStdin, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io, data)?)
    }

    /// It is closed by being dropped.
    #[cfg(any(feature = "futures-io", feature = "tokio"))]
    fn close_writing(&self) -> io::Result<()> {
        Ok(())
    }
}
