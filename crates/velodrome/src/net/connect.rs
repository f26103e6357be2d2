//! Finding an address, and connecting a socket to it without blocking.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, connect, sockopt};

use super::socket::stream_socket;
use crate::AsyncFd;
use crate::blocking::spawn_blocking;

/// What a socket can be bound or connected to: an address, or a name that has to be looked up.
///
/// ```
/// use velodrome::net::{Address, ToAddress};
///
/// assert!(matches!("127.0.0.1:80".to_address(), Address::Known(_)));
/// assert!(matches!(("localhost", 80).to_address(), Address::Named(..)));
/// ```
pub trait ToAddress {
    /// The address, or what has to be looked up.
    ///
    /// ```
    /// use velodrome::net::{Address, ToAddress};
    /// assert!(matches!(([127, 0, 0, 1], 80).to_address(), Address::Known(_)));
    /// ```
    fn to_address(self) -> Address;
}

/// See [`ToAddress`].
///
/// ```
/// use velodrome::net::Address;
/// assert_eq!(Address::Known(([127, 0, 0, 1], 80).into()), Address::Known("127.0.0.1:80".parse().unwrap()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// It is known.
    Known(SocketAddr),
    /// A host's name and a port.
    Named(String, u16),
    /// Both in one text.
    Text(String),
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from((host, port): (I, u16)) -> Self {
        Address::Known(SocketAddr::new(host.into(), port))
    }
}

macro_rules! to_address {
    ($($type:ty: |$it:pat_param| $address:expr;)+) => { $(
        impl ToAddress for $type {
            fn to_address(self) -> Address {
                let $it = self;
                $address
            }
        }
    )+ };
}

to_address! {
    Address: |it| it;
    SocketAddr: |it| Address::Known(it);
    SocketAddrV4: |it| Address::Known(it.into());
    SocketAddrV6: |it| Address::Known(it.into());
    (IpAddr, u16): |it| it.into();
    (Ipv4Addr, u16): |it| it.into();
    (Ipv6Addr, u16): |it| it.into();
    ([u8; 4], u16): |it| it.into();
    &str: |it| it.parse().map_or_else(|_| Address::Text(it.to_owned()), Address::Known);
    &String: |it| it.as_str().to_address();
    String: |it| it.as_str().to_address();
    (&str, u16): |(host, port)| match host.parse::<IpAddr>() {
        Ok(host) => (host, port).into(),
        Err(_) => Address::Named(host.to_owned(), port),
    };
    (String, u16): |(host, port)| (host.as_str(), port).to_address();
}

/// The addresses that a name stands for. Names are looked up in another thread.
pub(super) async fn addresses(name: impl ToAddress) -> io::Result<Vec<SocketAddr>> {
    let look_up = match name.to_address() {
        Address::Known(address) => return Ok(vec![address]),
        Address::Named(host, port) => {
            spawn_blocking(move || (host, port).to_socket_addrs().map(Vec::from_iter))
        }
        Address::Text(text) => spawn_blocking(move || text.to_socket_addrs().map(Vec::from_iter)),
    };
    let found = look_up.await.map_err(|error| io::Error::from(error.resume()))??;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address"));
    }
    Ok(found)
}

/// A connected stream socket.
pub(super) async fn connected(family: AddressFamily, address: &SocketAddrAny) -> io::Result<OwnedFd> {
    let socket = AsyncFd::new(stream_socket(family)?)?;
    match connect(socket.get_ref(), address) {
        Ok(()) => {}
        // AGAIN: a Unix listener's queue is full.
        Err(Errno::INPROGRESS | Errno::INTR) => {
            socket.writable().await?;
            sockopt::socket_error(socket.get_ref())??;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(socket.into_inner())
}
