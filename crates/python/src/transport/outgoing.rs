//! What a transport has accepted and the kernel has not taken yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::cpython::bytes;
use crate::cpython::{Fallible, Obj, Ref};

/// The most that one call writes, `IOV_MAX`.
const MOST_PARTS: usize = 1024;

/// A peer that is gone is an error and no signal; and nobody waits, even if somebody has made the socket blocking: the GIL
/// is held.
pub const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// A queue of exact `bytes`, so that nobody can change what was accepted, and dropping one runs no Python.
#[derive(Debug, Default)]
pub struct Outgoing {
    chunks: VecDeque<Ref>,
    /// How much of the first chunk has gone.
    sent: usize,
    size: usize,
}

impl Outgoing {
    /// How many bytes wait.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds what is left of a chunk of which `sent` bytes have gone; only the first chunk can have such a part.
    pub fn push(&mut self, chunk: Ref, sent: usize) {
        debug_assert!(sent == 0 || self.chunks.is_empty());
        let length = content(&chunk).len();
        if length > sent {
            self.size += length - sent;
            self.sent = if self.chunks.is_empty() { sent } else { self.sent };
            self.chunks.push_back(chunk);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Outgoing::default();
    }

    /// Offers the kernel as much as one call takes, and removes what it took.
    pub fn flush(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let sent = match self.chunks.len() {
            0 => return Ok(()),
            1 => send(descriptor, &content(&self.chunks[0])[self.sent..], FLAGS)?,
            _ => {
                let parts = slices(self.chunks.iter(), self.sent);
                let mut nothing = SendAncillaryBuffer::default();
                rustix::net::sendmsg(descriptor, &parts, &mut nothing, FLAGS)?
            }
        };
        self.remove(sent);
        Ok(())
    }

    /// Removes what has gone, or everything if more has gone than there is.
    pub fn remove(&mut self, mut sent: usize) {
        self.size = self.size.saturating_sub(sent);
        while let Some(first) = self.chunks.front() {
            let left = content(first).len() - self.sent;
            if sent < left {
                self.sent += sent;
                break;
            }
            sent -= left;
            self.sent = 0;
            self.chunks.pop_front();
        }
    }

    /// The chunks that one call can take, and how much of the first has gone.
    pub fn parts(&self) -> (Vec<Ref>, usize) {
        (self.chunks.iter().take(MOST_PARTS).cloned().collect(), self.sent)
    }
}

/// Chunks as the kernel takes them; `sent` bytes of the first have gone.
pub fn slices<'a>(chunks: impl Iterator<Item = &'a Ref>, sent: usize) -> Vec<IoSlice<'a>> {
    let skipped = std::iter::once(sent).chain(std::iter::repeat(0));
    let rest = |(chunk, skipped): (&'a Ref, usize)| content(chunk).get(skipped..).unwrap_or_default();
    chunks.take(MOST_PARTS).zip(skipped).map(rest).map(IoSlice::new).collect()
}

/// Offers the kernel these bytes; how many it took.
#[inline]
pub fn send(descriptor: BorrowedFd<'_>, content: &[u8], flags: SendFlags) -> io::Result<usize> {
    Ok(rustix::net::send(descriptor, content, flags)?)
}

/// The object as a chunk: itself if it cannot change, otherwise a copy of the content that was given.
pub fn chunk(object: &Obj, content: &[u8]) -> Fallible<Ref> {
    if bytes::of_exact(object).is_some() { Ok(object.own()) } else { bytes::bytes(content) }
}

fn content(chunk: &Obj) -> &[u8] {
    bytes::of_exact(chunk).unwrap_or_default()
}
