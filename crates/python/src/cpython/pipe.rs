//! Reading and writing pipes, as `os.read` and `os.write` do.
//!
//! The GIL is let go meanwhile: nothing keeps a process that has the same file (the other end of a shell's pipeline, say) from
//! making it blocking, and pipes and terminals have no calls that would not wait all the same. So nothing is borrowed
//! here, and what is written is memory that cannot change.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use super::gil::released;
use super::heap;
use super::object::Ref;
use super::raised::Fallible;
use super::socket::{LARGEST_READ, Overflow, READ_DIRECTLY, fill};
use super::spare_bytes::SpareBytes;

/// Reads once into a `bytes` that nobody else has, which is empty at the end of the file. Of much that is `expected`, so
/// much goes there directly.
pub fn read(
    descriptor: BorrowedFd<'_>,
    expected: usize,
    overflow: &Overflow,
    spare: &SpareBytes,
) -> Fallible<io::Result<Ref>> {
    let mut memory = overflow.take();
    heap::reserve(&mut memory, LARGEST_READ);
    let outcome = if expected >= READ_DIRECTLY {
        fill(expected.min(LARGEST_READ), &mut memory, |parts| {
            released(|| super::socket::read_parts(descriptor, parts))
        })
    } else {
        let space = &mut memory.spare_capacity_mut()[..LARGEST_READ];
        match released(|| rustix::io::read(descriptor, space)) {
            Ok((content, _rest)) => spare.make(content).map(Ok),
            Err(error) => Ok(Err(error.into())),
        }
    };
    overflow.put_back(memory);
    outcome
}

/// Writes once; how much was taken.
pub fn write(descriptor: BorrowedFd<'_>, content: &[u8]) -> io::Result<usize> {
    Ok(released(|| rustix::io::write(descriptor, content))?)
}

/// The same for several pieces at once.
pub fn write_parts(descriptor: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(released(|| rustix::io::writev(descriptor, parts))?)
}
