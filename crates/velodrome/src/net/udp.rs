//! [`UdpSocket`].

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::connect::{ToAddress, addresses};
use crate::AsyncFd;
use crate::stream::over_fd;

/// A UDP socket.
///
/// ```
/// use velodrome::net::UdpSocket;
///
/// velodrome::run(async {
///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
///     one.send_to(b"hello", other.as_ref().local_addr()?).await?;
///     let mut buffer = [0; 16];
///     let (size, from) = other.recv_from(&mut buffer).await?;
///     assert_eq!((&buffer[..size], from), (&b"hello"[..], one.as_ref().local_addr()?));
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket {
    io: AsyncFd<std::net::UdpSocket>,
}

over_fd!(UdpSocket, std::net::UdpSocket);

impl UdpSocket {
    /// A socket at the first address that can be had.
    ///
    /// # Errors
    ///
    /// That of the last address.
    ///
    /// ```
    /// velodrome::run(velodrome::net::UdpSocket::bind("127.0.0.1:0"))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn bind(name: impl ToAddress) -> io::Result<Self> {
        Self::over(std::net::UdpSocket::bind(&addresses(name).await?[..])?)
    }

    /// Says with whom [`UdpSocket::send`] and [`UdpSocket::recv`] have to do.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UdpSocket;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     one.connect(other.as_ref().local_addr()?)?;
    ///     one.send(b"hello").await?;
    ///     other.connect(one.as_ref().local_addr()?)?;
    ///     assert_eq!(other.recv(&mut [0; 16]).await?, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(&self, address: SocketAddr) -> io::Result<()> {
        self.io.get_ref().connect(address)
    }

    /// Sends to whom it is connected with.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UdpSocket;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     one.connect(other.as_ref().local_addr()?)?;
    ///     other.connect(one.as_ref().local_addr()?)?;
    ///     assert_eq!(one.send(b"hello").await?, 5);
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
    /// use velodrome::net::UdpSocket;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     one.connect(other.as_ref().local_addr()?)?;
    ///     other.connect(one.as_ref().local_addr()?)?;
    ///     one.send(b"hello").await?;
    ///     assert_eq!(other.recv(&mut [0; 8]).await?, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|socket| socket.recv(buffer)).await
    }

    /// Sends to an address.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UdpSocket;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     assert_eq!(one.send_to(b"hello", other.as_ref().local_addr()?).await?, 5);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn send_to(&self, data: &[u8], address: SocketAddr) -> io::Result<usize> {
        self.io.write_with(|socket| socket.send_to(data, address)).await
    }

    /// Receives, and says from whom.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// ```
    /// use velodrome::net::UdpSocket;
    ///
    /// velodrome::run(async {
    ///     let (one, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    ///     one.send_to(b"hello", other.as_ref().local_addr()?).await?;
    ///     assert_eq!(other.recv_from(&mut [0; 8]).await?.1, one.as_ref().local_addr()?);
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|socket| socket.recv_from(buffer)).await
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.get_ref().fmt(f)
    }
}
