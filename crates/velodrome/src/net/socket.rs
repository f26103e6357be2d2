//! A stream socket, as each system makes it and sends by it.
//!
//! What must stay true: it does not block, a program that is executed does not inherit it, and sending to a peer that is gone is an
//! error and no signal.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType};

/// How to send.
#[cfg(not(target_vendor = "apple"))]
pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL;
/// The same; Apple's systems have an option of the socket for it, which `std` sets as well.
#[cfg(target_vendor = "apple")]
pub(super) const SEND: SendFlags = SendFlags::empty();

/// A socket that does not block.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    use rustix::net::{SocketFlags, socket_with};
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A socket that does not block.
#[cfg(target_vendor = "apple")]
pub(super) fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
    Ok(socket)
}
