//! [`TcpStream`] and [`TcpListener`].

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SocketAddrAny};

use super::connect::{ToAddress, addresses, connected};
use super::socket::SEND;
use crate::AsyncFd;
use crate::stream::{over_fd, readable, writable};

/// A TCP connection.
///
/// ```
/// use velodrome::net::{TcpListener, TcpStream};
///
/// velodrome::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let stream = TcpStream::connect(listener.as_ref().local_addr()?).await?;
///     let (accepted, _) = listener.accept().await?;
///     stream.write_all(b"hello").await?;
///     stream.shutdown(std::net::Shutdown::Write)?;
///     let mut all = Vec::new();
///     accepted.read_to_end(&mut all).await?;
///     assert_eq!(all, b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream {
    io: AsyncFd<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects to the first address that answers. Nagle's algorithm is off, as in asyncio.
    ///
    /// # Errors
    ///
    /// That of the last address.
    ///
    /// ```
    /// use velodrome::net::TcpStream;
    ///
    /// velodrome::run(async {
    ///     assert!(TcpStream::connect("127.0.0.1:1").await.is_err()); // nobody listens there
    /// });
    /// ```
    pub async fn connect(name: impl ToAddress) -> io::Result<Self> {
        let mut failure = None;
        for address in addresses(name).await? {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            match connected(family, &SocketAddrAny::from(address)).await {
                Ok(socket) => {
                    let stream = std::net::TcpStream::from(socket);
                    stream.set_nodelay(true)?;
                    return Self::over(stream);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use std::net::Shutdown;
    /// use velodrome::net::{TcpListener, TcpStream};
    ///
    /// velodrome::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::connect(listener.as_ref().local_addr()?).await?;
    ///     stream.shutdown(Shutdown::Both)
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }

    #[cfg(any(feature = "futures-io", feature = "tokio"))]
    fn close_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn read_once(io: &std::net::TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(io, buffer, RecvFlags::empty())?.0)
    }

    fn write_once(io: &std::net::TcpStream, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(io, data, SEND)?)
    }
}

over_fd!(TcpStream, std::net::TcpStream);
readable!(TcpStream);
writable!(TcpStream);

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}

/// Accepts TCP connections.
///
/// ```
/// use velodrome::net::TcpListener;
///
/// let listener = velodrome::run(TcpListener::bind("127.0.0.1:0"))?;
/// assert!(listener.as_ref().local_addr()?.port() > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpListener {
    io: AsyncFd<std::net::TcpListener>,
}

impl TcpListener {
    /// Listens at the first address that can be had.
    ///
    /// # Errors
    ///
    /// That of the last address.
    ///
    /// ```
    /// velodrome::run(velodrome::net::TcpListener::bind("localhost:0"))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn bind(name: impl ToAddress) -> io::Result<Self> {
        Self::over(std::net::TcpListener::bind(&addresses(name).await?[..])?)
    }

    /// Waits for a connection. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// What the kernel says. When the process has no descriptors left, the connection stays in the queue: wait before
    /// trying again.
    ///
    /// ```
    /// use velodrome::net::{TcpListener, TcpStream};
    ///
    /// velodrome::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let stream = TcpStream::connect(listener.as_ref().local_addr()?).await?;
    ///     let (_accepted, peer) = listener.accept().await?;
    ///     assert_eq!(peer, stream.as_ref().local_addr()?);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.io.read_with(std::net::TcpListener::accept).await?;
        stream.set_nodelay(true)?;
        Ok((TcpStream::over(stream)?, peer))
    }
}

over_fd!(TcpListener, std::net::TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}
