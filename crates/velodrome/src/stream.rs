//! What all byte streams have: reading and writing, and the traits of `futures-io` and tokio.

/// Less room than this is not worth a read.
const LITTLE: usize = 4096;

/// A buffer that is read into, with room behind what was read, which goes when this does.
pub(crate) struct Filling<'a> {
    buffer: &'a mut Vec<u8>,
    before: usize,
    filled: usize,
}

impl<'a> Filling<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        let filled = buffer.len();
        Filling { buffer, before: filled, filled }
    }

    /// Where to read to next: what is left of the room, as long as that is not little.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() - self.filled < LITTLE {
            self.buffer.resize(self.filled + self.filled.max(LITTLE), 0);
        }
        &mut self.buffer[self.filled..]
    }

    pub(crate) fn has(&mut self, size: usize) {
        self.filled += size;
    }

    pub(crate) fn so_far(&self) -> usize {
        self.filled - self.before
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.filled);
    }
}

/// Gives a type with a field `io: AsyncFd<...>` and a function `read_once` the methods of a stream that can be read.
macro_rules! readable {
    ($name:ident) => {
        impl $name {
            /// Reads what there is, at most as much as there is room; zero is the end. Several tasks may wait for it at a time.
            ///
            /// # Errors
            ///
            /// What the kernel says.
            ///
            /// ```
            /// use velodrome::net::UnixStream;
            ///
            /// velodrome::run(async {
            ///     let (one, other) = UnixStream::pair()?;
            ///     one.write_all(b"x").await?;
            ///     assert_eq!(other.read(&mut [0; 4]).await?, 1);
            ///     std::io::Result::Ok(())
            /// })?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[inline]
            pub async fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let room = buffer.len();
                let alone = |cx: &mut std::task::Context<'_>| {
                    self.io.poll_read_alone(cx, room, |io| Self::read_once(io, buffer))
                };
                match std::future::poll_fn(alone).await {
                    Some(result) => result,
                    None => self.io.read_in_turn(room, |io| Self::read_once(io, buffer)).await,
                }
            }

            /// Reads until the buffer is full.
            ///
            /// # Errors
            ///
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) if the end comes before; what the kernel says.
            ///
            /// ```
            /// use velodrome::net::UnixStream;
            ///
            /// velodrome::run(async {
            ///     let (one, other) = UnixStream::pair()?;
            ///     one.write_all(b"hello").await?;
            ///     let mut buffer = [0; 4];
            ///     other.read_exact(&mut buffer).await?;
            ///     assert_eq!(&buffer, b"hell");
            ///     std::io::Result::Ok(())
            /// })?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub async fn read_exact(&self, buffer: &mut [u8]) -> std::io::Result<()> {
                let mut filled = 0;
                while filled < buffer.len() {
                    match self.read(&mut buffer[filled..]).await? {
                        0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        size => filled += size,
                    }
                }
                Ok(())
            }

            /// Reads to the end. Says how much that was. What was read before an error, or before this is dropped, is in the buffer.
            ///
            /// # Errors
            ///
            /// What the kernel says.
            ///
            /// ```
            /// use velodrome::net::UnixStream;
            ///
            /// velodrome::run(async {
            ///     let (one, other) = UnixStream::pair()?;
            ///     one.write_all(b"hello").await?;
            ///     drop(one);
            ///     let mut all = Vec::new();
            ///     assert_eq!(other.read_to_end(&mut all).await?, 5);
            ///     std::io::Result::Ok(())
            /// })?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub async fn read_to_end(&self, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
                let mut filling = crate::stream::Filling::new(buffer);
                loop {
                    match self.read(filling.room()).await? {
                        0 => return Ok(filling.so_far()),
                        size => filling.has(size),
                    }
                }
            }

            #[cfg(any(feature = "futures-io", feature = "tokio"))]
            #[inline]
            fn poll_read_into(
                &self,
                cx: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_read_with(cx, buffer.len(), |io| Self::read_once(io, buffer))
            }
        }

        #[cfg(feature = "futures-io")]
        crate::stream::futures_read!($name, &$name);

        #[cfg(feature = "tokio")]
        impl tokio::io::AsyncRead for $name {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.poll_read_into(cx, buffer.initialize_unfilled()).map_ok(|size| buffer.advance(size))
            }
        }
    };
}

/// Gives a type with a field `io: AsyncFd<...>` and functions `write_once` and `close_writing` the methods of a stream that can be written.
macro_rules! writable {
    ($name:ident) => {
        impl $name {
            /// Writes as much as there is room for. Several tasks may wait for it at a time.
            ///
            /// # Errors
            ///
            /// What the kernel says.
            ///
            /// ```
            /// use velodrome::net::UnixStream;
            ///
            /// velodrome::run(async {
            ///     let (one, other) = UnixStream::pair()?;
            ///     assert_eq!(one.write(b"hello").await?, 5);
            ///     # drop(other);
            ///     std::io::Result::Ok(())
            /// })?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            #[inline]
            pub async fn write(&self, data: &[u8]) -> std::io::Result<usize> {
                let alone = |cx: &mut std::task::Context<'_>| {
                    self.io.poll_write_alone(cx, data.len(), |io| Self::write_once(io, data))
                };
                match std::future::poll_fn(alone).await {
                    Some(result) => result,
                    None => self.io.write_in_turn(data.len(), |io| Self::write_once(io, data)).await,
                }
            }

            /// Writes all of it.
            ///
            /// # Errors
            ///
            /// What the kernel says.
            ///
            /// ```
            /// use velodrome::net::UnixStream;
            ///
            /// velodrome::run(async {
            ///     let (one, other) = UnixStream::pair()?;
            ///     one.write_all(b"hello").await?;
            ///     assert_eq!(other.read(&mut [0; 8]).await?, 5);
            ///     std::io::Result::Ok(())
            /// })?;
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub async fn write_all(&self, mut data: &[u8]) -> std::io::Result<()> {
                while !data.is_empty() {
                    match self.write(data).await? {
                        0 => return Err(std::io::ErrorKind::WriteZero.into()),
                        size => data = &data[size..],
                    }
                }
                Ok(())
            }

            #[cfg(any(feature = "futures-io", feature = "tokio"))]
            #[inline]
            fn poll_write_from(
                &self,
                cx: &mut std::task::Context<'_>,
                data: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_write_with(cx, data.len(), |io| Self::write_once(io, data))
            }
        }

        #[cfg(feature = "futures-io")]
        crate::stream::async_write!(futures_io::AsyncWrite, poll_close: $name, &$name);
        #[cfg(feature = "tokio")]
        crate::stream::async_write!(tokio::io::AsyncWrite, poll_shutdown: $name);
    };
}

/// Implements the `AsyncRead` of `futures-io` for what has a method `poll_read_into`.
#[cfg(feature = "futures-io")]
macro_rules! futures_read {
    ($($name:ty),*) => {$(
        impl futures_io::AsyncRead for $name {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.poll_read_into(cx, buffer)
            }
        }
    )*};
}

/// Implements an `AsyncWrite`, which are the same but for one name, for what has methods `poll_write_from` and `close_writing`.
#[cfg(any(feature = "futures-io", feature = "tokio"))]
macro_rules! async_write {
    ($trait:path, $close:ident: $($name:ty),*) => {$(
        impl $trait for $name {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                data: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.poll_write_from(cx, data)
            }

            /// Nothing is held back.
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn $close(
                self: std::pin::Pin<&mut Self>,
                _cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(self.close_writing())
            }
        }
    )*};
}

/// Gives a type with a field `io: AsyncFd<$inner>` the way in and out.
macro_rules! over_fd {
    ($name:ident, $inner:ty) => {
        impl $name {
            pub(crate) fn over(io: $inner) -> std::io::Result<Self> {
                Ok($name { io: crate::AsyncFd::new(io)? })
            }
        }

        impl TryFrom<$inner> for $name {
            type Error = std::io::Error;

            fn try_from(io: $inner) -> std::io::Result<Self> {
                Self::over(io)
            }
        }

        impl From<$name> for $inner {
            /// It stays non-blocking.
            fn from(it: $name) -> $inner {
                it.io.into_inner()
            }
        }

        impl AsRef<$inner> for $name {
            fn as_ref(&self) -> &$inner {
                self.io.get_ref()
            }
        }

        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }
    };
}

#[cfg(any(feature = "futures-io", feature = "tokio"))]
pub(crate) use async_write;
#[cfg(feature = "futures-io")]
pub(crate) use futures_read;
pub(crate) use {over_fd, readable, writable};
