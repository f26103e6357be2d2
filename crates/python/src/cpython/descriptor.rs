//! Descriptors that belong to Python's files and sockets.

use std::os::fd::{BorrowedFd, RawFd};

use super::object::{self, Obj, Ref};
use super::raised::{Fallible, Raised};

/// The descriptor of a file object or an `int`, as the `selectors` module takes it: any number that is not negative.
pub fn of(file: &Obj) -> Fallible<i64> {
    let number = if file.is_any_int() { file.own() } else { asked(file)? };
    match number.to_i64_or_nearest()? {
        negative if negative < 0 => {
            Err(Raised::value_error(&format!("Invalid file descriptor: {}", number.shown())))
        }
        descriptor => Ok(descriptor),
    }
}

/// `int(file.fileno())`.
pub fn asked(file: &Obj) -> Fallible<Ref> {
    let ask = || file.call_method(&*object::interned(c"fileno")?, &[])?.as_int();
    ask().map_err(|raised| {
        let invalid = [object::attribute_error(), object::type_error(), object::value_error()];
        if !invalid.iter().any(|class| raised.matches(class)) {
            return raised;
        }
        raised.discard();
        Raised::value_error(&format!("Invalid file object: {}", file.shown()))
    })
}

/// What the kernel is asked about has to fit into a C `int`.
pub fn for_the_kernel(descriptor: i64) -> Fallible<RawFd> {
    RawFd::try_from(descriptor)
        .map_err(|_| Raised::new(object::overflow_error(), "Python int too large to convert to C int"))
}

/// The descriptor, borrowed for one registration.
pub fn borrowed(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is only passed to the kernel, which refuses one that is not open; whose it is, and how long
    // it stays open, is up to the program that handed it to us, as with `selectors`.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}
