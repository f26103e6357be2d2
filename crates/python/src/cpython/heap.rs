//! The C library's heap, which is asked to keep some of what is given back to it.
//!
//! Objects of more than 128 KiB are mapped for themselves by glibc, and what becomes free at the end of the heap beyond 128 KiB
//! goes back to the kernel. So a loop that receives messages of 100 KiB on several connections in one iteration would get fresh
//! pages from the kernel for all of them, which cost several times what the messages cost. glibc's remedy is built in: when a large
//! object is freed for the first time, both bounds rise according to its size, for good (mallopt(3), `M_MMAP_THRESHOLD`).
//!
//! What must stay true: nothing is set. A program that has set either bound keeps it, and other C libraries are not concerned.

use std::sync::Once;

/// What is freed for that; twice as much is then kept at most. More has brought nothing.
const LARGE: usize = 2 * 1024 * 1024;

/// Sees to it that `memory`, in which there is nothing, has room for so much.
#[inline]
pub fn reserve(memory: &mut Vec<u8>, length: usize) {
    if memory.capacity() < length {
        grow(memory, length);
    }
}

#[cold]
fn grow(memory: &mut Vec<u8>, length: usize) {
    static ONCE: Once = Once::new();
    memory.reserve(length);
    // No page of it is touched.
    ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE))));
}
