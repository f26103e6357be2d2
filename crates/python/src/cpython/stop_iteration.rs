//! Values returned through `StopIteration`, the way in which iterators return.

use pyo3::ffi;

use super::object::{self, Obj, Ref};
use super::raised::{Fallible, Raised};

/// Raises `StopIteration(value)`, without an argument for `None`, as coroutines do.
pub fn raise(value: &Obj) -> Raised {
    if value.is_none() { raise_with(&[]) } else { raise_with(&[value]) }
}

/// Raises `StopIteration(value)`, for `None` too.
pub fn raise_even_none(value: &Obj) -> Raised {
    raise_with(&[value])
}

fn raise_with(arguments: &[&Obj]) -> Raised {
    // An instance is made outright: raised by class, a tuple would be taken apart into arguments, and an
    // exception for the instance itself.
    match object::stop_iteration().call(arguments) {
        Ok(exception) => Raised::from_exception(exception),
        Err(raised) => raised,
    }
}

/// The value of the `StopIteration` that is raised; any other exception stays raised.
pub fn returned(raised: Raised) -> Fallible<Ref> {
    if !raised.matches(object::stop_iteration()) {
        return Err(raised);
    }
    let exception = raised.take();
    // SAFETY: an instance of StopIteration has this layout; its value is NULL or a live object.
    unsafe {
        let value = (*exception.as_ptr().cast::<ffi::PyStopIterationObject>()).value;
        Ok(Obj::from_ptr_or_null(value).unwrap_or_else(|| object::none()).own())
    }
}
