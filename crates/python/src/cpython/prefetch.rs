//! Asking the processor to fetch memory before it is needed.
//!
//! With ten thousand tasks, waking one touches a dozen cache lines that are in no cache any more, one after the other.
//! While one job runs, the objects of the next ones can be on their way. A prefetch of any address is harmless.

use super::class::{Class, Inst};
use super::object::Obj;
use super::slot::Slot;

const LINE: usize = 64;
/// In front of an object: the collector's header, and the pointers to its dictionary and weak references.
const FRONT: usize = 32;

/// What asyncio's part of an instance takes, about: the largest, that of a task.
const BASE: usize = 176;

/// Fetches an instance, with its structure.
#[inline]
pub fn instance<T: Class>(instance: &Inst<T>) {
    lines(instance.obj(), const { BASE + std::mem::size_of::<T>() });
}

/// Fetches what a slot holds: `size` bytes of it.
#[inline]
pub fn held(slot: &Slot, size: usize) {
    if let Some(object) = slot.peek() {
        lines(object, size);
    }
}

/// With a size that is known to the compiler this is nothing but the prefetches.
#[inline(always)]
fn lines(object: &Obj, size: usize) {
    let begin = (object.as_ptr() as usize).wrapping_sub(FRONT);
    for line in 0..(FRONT + size).div_ceil(LINE) {
        let address = begin.wrapping_add(line * LINE);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(address as *const i8);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }
}
