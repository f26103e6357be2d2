//! Values returned through `StopIteration`, the way in which iterators return.

#[cfg(Py_3_12)]
use std::sync::atomic::{AtomicPtr, Ordering};

use super::ffi;
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

/// One instance that is used again and again, because making one costs more than most awaits: owned, without a value
/// except between [`raise_fleeting`] and [`forget`].
#[cfg(Py_3_12)]
static KEPT: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

/// Raises `StopIteration(value)` for `await`, which takes the value out at once and shows the exception to nobody.
///
/// Should somebody get hold of it all the same, by calling `next()`, it is theirs: an instance is used again only if
/// nobody else has a reference to it and nothing has been written into it.
#[cfg(Py_3_12)]
#[inline(never)]
pub fn raise_fleeting(value: Ref) -> Raised {
    // SAFETY: the kept instance is owned; its value is replaced by an owned reference, and the old one dropped after;
    // the indicator gets a reference of its own.
    unsafe {
        let mut kept = KEPT.load(Ordering::Relaxed);
        if !is_untouched(kept) {
            match object::stop_iteration().call(&[]) {
                Ok(fresh) => {
                    kept = fresh.into_ptr();
                    drop(Ref::from_owned_or_null(KEPT.swap(kept, Ordering::Relaxed)));
                }
                Err(raised) => return raised,
            }
        }
        let place = &raw mut (*kept.cast::<ffi::PyStopIterationObject>()).value;
        let old = std::mem::replace(&mut *place, value.into_ptr());
        drop(Ref::from_owned_or_null(old));
        ffi::Py_INCREF(kept);
        ffi::PyErr_SetRaisedException(kept);
    }
    Raised::assert()
}

/// Where `await` goes through `am_send`, nothing has to be spared.
#[cfg(not(Py_3_12))]
pub fn raise_fleeting(value: Ref) -> Raised {
    raise(&value)
}

/// Whether the instance is as it was made but for its value, and nobody else's.
///
/// # Safety
/// A live `StopIteration`, or NULL.
#[cfg(Py_3_12)]
#[inline]
unsafe fn is_untouched(instance: *mut ffi::PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        if instance.is_null() || ffi::Py_REFCNT(instance) != 1 {
            return false;
        }
        let fields = &*instance.cast::<ffi::PyStopIterationObject>();
        fields.dict.is_null()
            && fields.notes.is_null()
            && fields.traceback.is_null()
            && fields.context.is_null()
            && fields.cause.is_null()
            && ffi::PyTuple_GET_SIZE(fields.args) == 0
    }
}

/// What returned a value by [`raise_fleeting`] is gone, and so is the reference to the value.
#[inline]
pub fn forget() {
    #[cfg(Py_3_12)]
    // SAFETY: as in `raise_fleeting`; the value is taken out before it is dropped.
    unsafe {
        let kept = KEPT.load(Ordering::Relaxed);
        if kept.is_null() || (*kept.cast::<ffi::PyStopIterationObject>()).value.is_null() {
            return;
        }
        if is_untouched(kept) {
            let place = &raw mut (*kept.cast::<ffi::PyStopIterationObject>()).value;
            let old = std::mem::replace(&mut *place, std::ptr::null_mut());
            drop(Ref::from_owned_or_null(old));
        } else {
            KEPT.store(std::ptr::null_mut(), Ordering::Relaxed);
            drop(Ref::from_owned_or_null(kept));
        }
    }
}
