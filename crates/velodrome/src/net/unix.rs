//! [`UnixStream`], [`UnixListener`] and [`UnixDatagram`].

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SocketAddrAny, SocketAddrUnix};

use super::connect::connected;
use super::socket::SEND;
use crate::AsyncFd;
use crate::stream::{over_fd, readable, writable};

/// A connection within this machine.
///
/// ```
/// use velodrome::net::UnixStream;
///
/// velodrome::run(async {
///     let (one, other) = UnixStream::pair()?;
///     one.write_all(b"hello").await?;
///     let mut buffer = [0; 5];
///     other.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixStream {
    io: AsyncFd<std::os::unix::net::UnixStream>,
}

impl UnixStream {
    /// Connects to a listener.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UnixStream;
    ///
    /// velodrome::run(async {
    ///     assert!(UnixStream::connect("/nobody/listens/here").await.is_err());
    /// });
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddrAny::from(SocketAddrUnix::new(path.as_ref())?);
        Self::over(connected(AddressFamily::UNIX, &address).await?.into())
    }

    /// Two that are connected with each other.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// let (one, other) = velodrome::net::UnixStream::pair()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::over(one)?, Self::over(other)?))
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use std::net::Shutdown;
    ///
    /// let (one, other) = velodrome::net::UnixStream::pair()?;
    /// one.shutdown(Shutdown::Write)?;
    /// velodrome::run(async { assert_eq!(other.read(&mut [0; 1]).await.unwrap(), 0) });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }

    #[cfg(any(feature = "futures-io", feature = "tokio"))]
    fn close_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn read_once(io: &std::os::unix::net::UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(io, buffer, RecvFlags::empty())?.0)
    }

    fn write_once(io: &std::os::unix::net::UnixStream, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(io, data, SEND)?)
    }
}

over_fd!(UnixStream, std::os::unix::net::UnixStream);
readable!(UnixStream);
writable!(UnixStream);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}

/// Accepts connections from within this machine.
///
/// ```
/// use velodrome::net::{UnixListener, UnixStream};
///
/// # let folder = std::env::temp_dir().join(format!("velodrome-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("socket");
/// velodrome::run(async {
///     let listener = UnixListener::bind(&path)?;
///     let stream = UnixStream::connect(&path).await?;
///     let (accepted, _) = listener.accept().await?;
///     stream.write_all(b"x").await?;
///     assert_eq!(accepted.read(&mut [0; 4]).await?, 1);
///     std::io::Result::Ok(())
/// })?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixListener {
    io: AsyncFd<std::os::unix::net::UnixListener>,
}

impl UnixListener {
    /// Listens at a path, which must not exist.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// assert!(velodrome::net::UnixListener::bind("/no/such/folder/socket").is_err());
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::over(std::os::unix::net::UnixListener::bind(path)?)
    }

    /// Waits for a connection. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("velodrome-doc-accept-{}", std::process::id()));
    /// velodrome::run(async {
    ///     let listener = UnixListener::bind(&path)?;
    ///     let _stream = UnixStream::connect(&path).await?;
    ///     let (_accepted, _peer) = listener.accept().await?;
    ///     std::io::Result::Ok(())
    /// })?;
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = self.io.read_with(std::os::unix::net::UnixListener::accept).await?;
        Ok((UnixStream::over(stream)?, peer))
    }
}

over_fd!(UnixListener, std::os::unix::net::UnixListener);

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}

/// Datagrams within this machine.
///
/// ```
/// use velodrome::net::UnixDatagram;
///
/// velodrome::run(async {
///     let (one, other) = UnixDatagram::pair()?;
///     one.send(b"hello").await?;
///     assert_eq!(other.recv(&mut [0; 16]).await?, 5);
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram {
    io: AsyncFd<std::os::unix::net::UnixDatagram>,
}

over_fd!(UnixDatagram, std::os::unix::net::UnixDatagram);

impl UnixDatagram {
    /// A socket at a path, which must not exist.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// assert!(velodrome::net::UnixDatagram::bind("/no/such/folder/socket").is_err());
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::over(std::os::unix::net::UnixDatagram::bind(path)?)
    }

    /// Two that are connected with each other.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// let (one, other) = velodrome::net::UnixDatagram::pair()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((Self::over(one)?, Self::over(other)?))
    }

    /// Sends to whom it is connected with.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UnixDatagram;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     assert_eq!(one.send(b"hello").await?, 5);
    ///     # drop(other);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.io.write_with(|socket| socket.send(data)).await
    }

    /// Receives from whom it is connected with.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UnixDatagram;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     one.send(b"hello").await?;
    ///     assert_eq!(other.recv(&mut [0; 8]).await?, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|socket| socket.recv(buffer)).await
    }

    /// Sends to a path.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UnixDatagram;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     assert!(one.send_to(b"hello", "/nobody/listens/here").await.is_err());
    ///     # drop(other);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn send_to(&self, data: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.write_with(|socket| socket.send_to(data, path.as_ref())).await
    }

    /// Receives, and says from whom.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UnixDatagram;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = UnixDatagram::pair()?;
    ///     one.send(b"hello").await?;
    ///     assert_eq!(other.recv_from(&mut [0; 8]).await?.0, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|socket| socket.recv_from(buffer)).await
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}
