//! [`AsyncFd`]: any descriptor that can be waited for.
//!
//! What must stay true: it owns its registration and its descriptor, and drops them in that order.

use std::fmt;
#[cfg(any(feature = "net", feature = "process"))]
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(any(feature = "net", feature = "process"))]
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::readiness::{Readiness, Side};

/// A descriptor that is made non-blocking, and waited for instead. The sockets of this crate are built of it.
///
/// ```
/// use std::io::{Read, Write};
/// use velodrome::{AsyncFd, create_task, run};
///
/// run(async {
///     let (reader, writer) = std::io::pipe()?;
///     let (reader, writer) = (AsyncFd::new(reader)?, AsyncFd::new(writer)?);
///     let reading = create_task(async move {
///         let mut buffer = [0; 8];
///         let size = reader.read_with(|mut pipe| pipe.read(&mut buffer)).await?;
///         std::io::Result::Ok(buffer[..size].to_vec())
///     });
///     writer.write_with(|mut pipe| pipe.write(b"hello")).await?;
///     assert_eq!(reading.await??, b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AsyncFd<T> {
    readiness: Readiness,
    io: T,
}

impl<T: AsFd> AsyncFd<T> {
    /// Makes a descriptor non-blocking.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader = velodrome::AsyncFd::new(reader)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(io: T) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&io, true)?;
        Ok(AsyncFd { readiness: Readiness::new(), io })
    }

    /// The descriptor, which stays non-blocking.
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader: std::io::PipeReader = velodrome::AsyncFd::new(reader)?.into_inner();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_inner(self) -> T {
        drop(self.readiness);
        self.io
    }

    /// Waits until there is something to read: data, a connection, the end, or an error.
    ///
    /// # Errors
    ///
    /// If the kernel cannot watch such a file.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// velodrome::run(async {
    ///     let (reader, mut writer) = std::io::pipe()?;
    ///     writer.write_all(b"x")?;
    ///     velodrome::AsyncFd::new(reader)?.readable().await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.read.reported(self.io.as_fd()).await
    }

    /// Waits until there is room to write, or an error.
    ///
    /// # Errors
    ///
    /// If the kernel cannot watch such a file.
    ///
    /// ```
    /// velodrome::run(async {
    ///     let (_reader, writer) = std::io::pipe()?;
    ///     velodrome::AsyncFd::new(writer)?.writable().await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        self.readiness.write.reported(self.io.as_fd()).await
    }

    /// Does something that reads, as soon as it would not block.
    ///
    /// # Errors
    ///
    /// What the operation says, but for "would block" and "interrupted".
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// velodrome::run(async {
    ///     let (reader, mut writer) = std::io::pipe()?;
    ///     writer.write_all(b"x")?;
    ///     let reader = velodrome::AsyncFd::new(reader)?;
    ///     assert_eq!(reader.read_with(|mut pipe| pipe.read(&mut [0; 4])).await?, 1);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.with(&self.readiness.read, operation).await
    }

    /// Does something that writes, as soon as it would not block.
    ///
    /// # Errors
    ///
    /// What the operation says, but for "would block" and "interrupted".
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// velodrome::run(async {
    ///     let (_reader, writer) = std::io::pipe()?;
    ///     let writer = velodrome::AsyncFd::new(writer)?;
    ///     assert_eq!(writer.write_with(|mut pipe| pipe.write(b"x")).await?, 1);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.with(&self.readiness.write, operation).await
    }

    async fn with<R>(
        &self,
        side: &Rc<Side>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            if let Some(result) = self.attempt(side, &mut operation) {
                return result;
            }
            side.reported(self.io.as_fd()).await?;
        }
    }

    /// [`AsyncFd::poll_read_with`] for a task that nobody else waits beside. `None` if somebody does: then it is
    /// [`AsyncFd::read_in_turn`].
    #[cfg(any(feature = "net", feature = "process"))]
    #[inline]
    pub(crate) fn poll_read_alone(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<Option<io::Result<usize>>> {
        self.poll_alone(&self.readiness.read, cx, room, operation)
    }

    /// [`AsyncFd::poll_write_with`] for a task that nobody else waits beside. `None` if somebody does: then it is
    /// [`AsyncFd::write_in_turn`].
    #[cfg(any(feature = "net", feature = "process"))]
    #[inline]
    pub(crate) fn poll_write_alone(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<Option<io::Result<usize>>> {
        self.poll_alone(&self.readiness.write, cx, size, operation)
    }

    #[cfg(any(feature = "net", feature = "process"))]
    #[inline]
    fn poll_alone(
        &self,
        side: &Rc<Side>,
        cx: &mut Context<'_>,
        size: usize,
        mut operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<Option<io::Result<usize>>> {
        match self.attempt_up_to(side, size, &mut operation) {
            Some(result) => Poll::Ready(Some(result)),
            None => match side.wake_when_ready_alone(self.io.as_fd(), cx) {
                Ok(true) => Poll::Pending,
                Ok(false) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    /// As [`AsyncFd::read_with`]; less than there is room for is all that there is just now. (In a box, so that those who are alone
    /// need no room for it.)
    #[cfg(any(feature = "net", feature = "process"))]
    #[cold]
    pub(crate) fn read_in_turn<'a>(
        &'a self,
        room: usize,
        operation: impl FnMut(&T) -> io::Result<usize> + 'a,
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + 'a>> {
        Box::pin(self.in_turn(&self.readiness.read, room, operation))
    }

    /// As [`AsyncFd::write_with`]; less than all of it is what there was room for. (In a box, as [`AsyncFd::read_in_turn`].)
    #[cfg(any(feature = "net", feature = "process"))]
    #[cold]
    pub(crate) fn write_in_turn<'a>(
        &'a self,
        size: usize,
        operation: impl FnMut(&T) -> io::Result<usize> + 'a,
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + 'a>> {
        Box::pin(self.in_turn(&self.readiness.write, size, operation))
    }

    #[cfg(any(feature = "net", feature = "process"))]
    async fn in_turn(
        &self,
        side: &Rc<Side>,
        size: usize,
        mut operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            side.reported(self.io.as_fd()).await?;
            if let Some(result) = self.attempt_up_to(side, size, &mut operation) {
                return result;
            }
        }
    }

    /// `None`: it would block.
    #[inline]
    fn attempt<R>(
        &self,
        side: &Side,
        operation: &mut impl FnMut(&T) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        while side.is_likely() {
            match operation(&self.io) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => side.exhausted(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return Some(result),
            }
        }
        None
    }

    /// As [`AsyncFd::attempt`]; less than it could be is all that there is just now.
    #[inline]
    fn attempt_up_to(
        &self,
        side: &Side,
        size: usize,
        operation: &mut impl FnMut(&T) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let result = self.attempt(side, operation);
        // Zero is the end, which stays.
        if let Some(Ok(done)) = result
            && done > 0
            && done < size
        {
            side.exhausted();
        }
        result
    }

    /// [`AsyncFd::read_with`] for who writes `poll` functions: reads into a buffer of `room` bytes. Less than that is taken to mean
    /// that there is no more just now. The last task that polled is woken.
    ///
    /// # Errors
    ///
    /// As [`AsyncFd::read_with`].
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// velodrome::run(async {
    ///     let (reader, mut writer) = std::io::pipe()?;
    ///     writer.write_all(b"x")?;
    ///     let reader = velodrome::AsyncFd::new(reader)?;
    ///     let mut buffer = [0; 4];
    ///     let read = std::future::poll_fn(|cx| reader.poll_read_with(cx, 4, |mut pipe| pipe.read(&mut buffer)));
    ///     assert_eq!(read.await?, 1);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_side(&self.readiness.read, cx, room, operation)
    }

    /// [`AsyncFd::write_with`] for who writes `poll` functions: writes from a buffer of `size` bytes. Less than that is taken to mean
    /// that there is no more room just now. The last task that polled is woken.
    ///
    /// # Errors
    ///
    /// As [`AsyncFd::write_with`].
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// velodrome::run(async {
    ///     let (_reader, writer) = std::io::pipe()?;
    ///     let writer = velodrome::AsyncFd::new(writer)?;
    ///     let written = std::future::poll_fn(|cx| writer.poll_write_with(cx, 1, |mut pipe| pipe.write(b"x")));
    ///     assert_eq!(written.await?, 1);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_side(&self.readiness.write, cx, size, operation)
    }

    #[inline]
    fn poll_side(
        &self,
        side: &Rc<Side>,
        cx: &mut Context<'_>,
        size: usize,
        mut operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.attempt_up_to(side, size, &mut operation) {
            Some(result) => Poll::Ready(result),
            None => match side.wake_when_ready(self.io.as_fd(), cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl<T> AsyncFd<T> {
    /// What was made non-blocking.
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader = velodrome::AsyncFd::new(reader)?;
    /// let pipe: &std::io::PipeReader = reader.get_ref();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T: AsFd> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncFd").field(&self.io).finish()
    }
}
