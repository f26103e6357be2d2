//! Where the `__slots__` of a class written in Python lie: asked of their member descriptors, whose layout is public
//! (`descrobject.h`).

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::class::{Class, Inst};
use super::ffi;
use super::object::{self, Obj};
use super::raised::{Fallible, Raised};
use super::slot::Slot;

/// Where a slot lies in an instance.
#[derive(Debug)]
pub struct Offset(AtomicUsize);

/// `descrobject.h`: what the descriptor of a slot is.
#[repr(C)]
struct MemberDescriptor {
    head: ffi::PyObject,
    class: *mut ffi::PyTypeObject,
    name: *mut ffi::PyObject,
    qualified_name: *mut ffi::PyObject,
    member: *mut ffi::PyMemberDef,
}

impl Offset {
    /// Not found yet.
    pub const fn unknown() -> Offset {
        Offset(AtomicUsize::new(0))
    }

    /// Finds the slot `name` of `class`, a class written in Python.
    pub fn find(&self, class: &Obj, name: &CStr) -> Fallible<()> {
        let descriptor = class.get(&*object::interned(name)?)?;
        // SAFETY: the type is checked before the object is read as what the type says it is.
        let offset = unsafe {
            if !std::ptr::eq(descriptor.type_ptr(), &raw const ffi::PyMemberDescr_Type) {
                return Err(Raised::runtime_error(&format!(
                    "{}.{} is not a slot: this Python's asyncio is not one that velodrome knows",
                    class.shown(),
                    name.to_string_lossy()
                )));
            }
            (*(*descriptor.as_ptr().cast::<MemberDescriptor>()).member).offset
        };
        self.0.store(offset as usize, Ordering::Relaxed);
        Ok(())
    }

    /// The slot in an instance.
    ///
    /// # Safety
    /// `T` derives from the class that the slot was found in.
    #[inline]
    pub unsafe fn of<'a, T: Class>(&self, instance: &'a Inst<T>) -> &'a Slot {
        debug_assert!(self.0.load(Ordering::Relaxed) != 0);
        // SAFETY: by contract; a slot holds an owned reference or NULL, which is what a `Slot` is.
        unsafe { &*instance.obj().as_ptr().byte_add(self.0.load(Ordering::Relaxed)).cast::<Slot>() }
    }
}
