//! Finding an address, and connecting a socket to it without blocking.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::AsyncFd;
use crate::blocking::spawn_blocking;

/// The addresses that a name stands for. Names are looked up in another thread.
pub(super) async fn addresses(name: impl ToSocketAddrs + Send + 'static) -> io::Result<Vec<SocketAddr>> {
    let found =
        spawn_blocking(move || Ok::<Vec<SocketAddr>, io::Error>(name.to_socket_addrs()?.collect())).await;
    let found = found.map_err(|error| io::Error::from(error.resume()))??;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address"));
    }
    Ok(found)
}

/// A connected stream socket.
pub(super) async fn connected(family: AddressFamily, address: &SocketAddrAny) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = AsyncFd::new(socket_with(family, SocketType::STREAM, flags, None)?)?;
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
