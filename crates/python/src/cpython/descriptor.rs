//! Descriptors that belong to Python's files and sockets.

use std::os::fd::{BorrowedFd, RawFd};

use super::object::{self, Obj};
use super::raised::{Fallible, Raised};

/// The descriptor of a file object or an `int`, as the `selectors` module takes it.
pub fn of(file: &Obj) -> Fallible<RawFd> {
    let number = if file.is_any_int() { file.to_i64()? } else { asked(file)? };
    RawFd::try_from(number)
        .ok()
        .filter(|descriptor| *descriptor >= 0)
        .ok_or_else(|| Raised::value_error(&format!("Invalid file descriptor: {number}")))
}

/// `int(file.fileno())`.
fn asked(file: &Obj) -> Fallible<i64> {
    let ask = || file.call_method(&*object::interned(c"fileno")?, &[])?.as_int()?.to_i64();
    ask().map_err(|raised| {
        let invalid = [object::attribute_error(), object::type_error(), object::value_error()];
        if !invalid.iter().any(|class| raised.matches(class)) {
            return raised;
        }
        raised.discard();
        Raised::value_error(&format!("Invalid file object: {}", file.shown()))
    })
}

/// The descriptor, borrowed for one registration.
pub fn borrowed(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is only passed to the kernel, which refuses one that is not open; whose it is, and how long
    // it stays open, is up to the program that handed it to us, as with `selectors`.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}
