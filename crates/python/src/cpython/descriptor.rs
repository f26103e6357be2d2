//! Descriptors that belong to Python's files and sockets.

use std::os::fd::{BorrowedFd, RawFd};

use super::object::{self, Obj};
use super::raised::{Fallible, Raised};

/// The descriptor of a file object or an `int`, as the `selectors` module takes it.
pub fn of(file: &Obj) -> Fallible<RawFd> {
    let number = if file.is_int() {
        file.to_i64()?
    } else {
        let found = file.get_if_there(&*object::interned(c"fileno")?)?;
        let invalid = || Raised::value_error(&format!("Invalid file object: {}", file.shown()));
        let Some(fileno) = found else { return Err(invalid()) };
        let number = match fileno.call(&[]) {
            Ok(number) => number,
            Err(raised)
                if raised.matches(object::attribute_error()) || raised.matches(object::type_error()) =>
            {
                raised.discard();
                return Err(invalid());
            }
            Err(raised) => return Err(raised),
        };
        if !number.is_int() {
            return Err(invalid());
        }
        number.to_i64()?
    };
    RawFd::try_from(number)
        .ok()
        .filter(|descriptor| *descriptor >= 0)
        .ok_or_else(|| Raised::value_error(&format!("Invalid file descriptor: {number}")))
}

/// The descriptor, borrowed for one registration.
pub fn borrowed(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is only passed to the kernel, which refuses one that is not open; whose it is, and how long
    // it stays open, is up to the program that handed it to us, as with `selectors`.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}
