//! Calling Python objects: with a slice of arguments, by keyword, with the items of a tuple, and methods by name.
//!
//! Arguments are borrowed and passed as a vector, with the one place in front that CPython may write to for the length of
//! a call.

use super::container::{is_tuple, tuple_len};
use super::ffi;
use super::object::{Obj, Ref};
use super::raised::Fallible;

/// How many arguments a call passes without touching the heap.
const INLINE_ARGUMENTS: usize = 6;

impl Obj {
    /// `self(*arguments)`.
    #[inline]
    pub fn call(&self, arguments: &[&Obj]) -> Fallible<Ref> {
        self.vectorcall(arguments, 0, None)
    }

    /// `self(*arguments)`, the last `len(names)` of them by keyword; `names` is a tuple of strings.
    #[inline]
    pub fn call_with_keywords(&self, arguments: &[&Obj], names: &Obj) -> Fallible<Ref> {
        self.vectorcall(arguments, tuple_len(names), Some(names))
    }

    #[inline]
    fn vectorcall(&self, arguments: &[&Obj], keywords: usize, names: Option<&Obj>) -> Fallible<Ref> {
        let names = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        // One place in front, which bound methods use for `self` instead of copying the arguments.
        let mut inline = [std::ptr::null_mut(); INLINE_ARGUMENTS + 1];
        let mut heap;
        let buffer = if arguments.len() <= INLINE_ARGUMENTS {
            &mut inline[..=arguments.len()]
        } else {
            heap = vec![std::ptr::null_mut(); arguments.len() + 1];
            &mut heap[..]
        };
        for (place, argument) in buffer[1..].iter_mut().zip(arguments) {
            *place = argument.as_ptr();
        }
        let count = (arguments.len() - keywords) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: the buffer holds the arguments behind one spare place, as the flag promises.
        unsafe {
            Ref::from_owned(ffi::PyObject_Vectorcall(self.as_ptr(), buffer.as_ptr().add(1), count, names))
        }
    }

    /// `self(*items)`, with the items of a tuple.
    #[inline]
    pub fn call_tuple(&self, items: &Obj) -> Fallible<Ref> {
        debug_assert!(is_tuple(items));
        // SAFETY: callers pass a tuple; its items outlive the call because a reference to it is held.
        unsafe {
            let count = ffi::PyTuple_GET_SIZE(items.as_ptr()) as usize;
            let first = (&raw mut (*items.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
            Ref::from_owned(ffi::PyObject_Vectorcall(self.as_ptr(), first, count, std::ptr::null_mut()))
        }
    }

    /// `self.name(*arguments)`.
    #[inline]
    pub fn call_method(&self, name: &Obj, arguments: &[&Obj]) -> Fallible<Ref> {
        self.method_vectorcall(name, arguments, 0, None)
    }

    /// `self.name(*arguments)`, the last `len(names)` of them by keyword.
    pub fn call_method_with_keywords(&self, name: &Obj, arguments: &[&Obj], names: &Obj) -> Fallible<Ref> {
        self.method_vectorcall(name, arguments, tuple_len(names), Some(names))
    }

    fn method_vectorcall(
        &self,
        name: &Obj,
        arguments: &[&Obj],
        keywords: usize,
        names: Option<&Obj>,
    ) -> Fallible<Ref> {
        let names = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        let mut inline = [self.as_ptr(); INLINE_ARGUMENTS + 1];
        let mut heap;
        let buffer = if arguments.len() <= INLINE_ARGUMENTS {
            &mut inline[..=arguments.len()]
        } else {
            heap = vec![self.as_ptr(); arguments.len() + 1];
            &mut heap[..]
        };
        for (place, argument) in buffer[1..].iter_mut().zip(arguments) {
            *place = argument.as_ptr();
        }
        let count = (buffer.len() - keywords) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: `self` stands first and may be overwritten for the call, as the flag says.
        unsafe {
            Ref::from_owned(ffi::PyObject_VectorcallMethod(name.as_ptr(), buffer.as_ptr(), count, names))
        }
    }
}
