//! Bytes, and memory that other objects lend (the buffer protocol).

use std::ffi::c_int;
use std::fmt;
use std::mem::MaybeUninit;

use super::ffi;
use super::object::{Obj, Ref, status};
use super::raised::Fallible;

/// A new `bytes` with this content.
pub fn bytes(content: &[u8]) -> Fallible<Ref> {
    // SAFETY: the pointer and the length are those of a slice.
    unsafe {
        Ref::from_owned(ffi::PyBytes_FromStringAndSize(content.as_ptr().cast(), content.len() as isize))
    }
}

/// A new `bytes` of at most this length, whose content `fill` writes; it says how much it has written.
#[inline]
pub(super) fn filled(length: usize, fill: impl FnOnce(*mut u8) -> usize) -> Fallible<Ref> {
    // SAFETY: NULL leaves the content to be written; nobody else sees the object before that is done.
    unsafe {
        let bytes = Ref::from_owned(ffi::PyBytes_FromStringAndSize(std::ptr::null(), length as isize))?;
        let count = fill(ffi::PyBytes_AsString(bytes.as_ptr()).cast());
        if count == length {
            return Ok(bytes);
        }
        Ref::from_owned(ffi::PyBytes_FromStringAndSize(ffi::PyBytes_AsString(bytes.as_ptr()), count as isize))
    }
}

/// The same for much content: what is not filled is given back in place.
pub(super) fn filled_and_cut(length: usize, fill: impl FnOnce(*mut u8) -> usize) -> Fallible<Ref> {
    // SAFETY: as above.
    let bytes =
        unsafe { Ref::from_owned(ffi::PyBytes_FromStringAndSize(std::ptr::null(), length as isize))? };
    // SAFETY: plain call with a `bytes`.
    let count = fill(unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) }.cast());
    shortened(bytes, count)
}

/// The first `length` bytes of a new object that nobody else has seen.
pub(super) fn shortened(bytes: Ref, length: usize) -> Fallible<Ref> {
    let mut pointer = bytes.into_ptr();
    // SAFETY: the only reference to a `bytes` of at least that length; the call replaces it, or gives it up on failure. The
    // empty `bytes`, which is shared, has nothing to be taken from.
    unsafe {
        if ffi::PyBytes_Size(pointer) as usize != length {
            _PyBytes_Resize(&mut pointer, length as isize);
        }
        Ref::from_owned(pointer)
    }
}

unsafe extern "C" {
    /// `bytesobject.h`.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Whether this is a `bytes`, a `bytearray` or a `memoryview`, or of a class that derives from them.
#[inline]
pub fn is_bytes_like(object: &Obj) -> bool {
    // SAFETY: reads flags of a live object.
    unsafe {
        ffi::PyBytes_Check(object.as_ptr()) != 0
            || ffi::PyByteArray_Check(object.as_ptr()) != 0
            || ffi::PyMemoryView_Check(object.as_ptr()) != 0
    }
}

/// The content of an object that is exactly a `bytes`, which never changes.
#[inline]
pub fn of_exact(object: &Obj) -> Option<&[u8]> {
    // SAFETY: the type is checked; the content of a `bytes` lies behind its header, lives as long as the object and does
    // not change.
    unsafe {
        (ffi::PyBytes_CheckExact(object.as_ptr()) != 0).then(|| {
            let bytes = object.as_ptr().cast::<ffi::PyBytesObject>();
            let content = (&raw const (*bytes).ob_sval).cast::<u8>();
            std::slice::from_raw_parts(content, (*bytes).ob_base.ob_size as usize)
        })
    }
}

/// A new `bytearray` with this content.
pub fn array(content: &[u8]) -> Fallible<Ref> {
    // SAFETY: the pointer and the length are those of a slice.
    unsafe {
        let length = content.len() as isize;
        Ref::from_owned(ffi::PyByteArray_FromStringAndSize(content.as_ptr().cast(), length))
    }
}

/// What `work` makes of the content of an object that is exactly a `bytearray`. It must not run Python.
#[inline]
pub fn with_array<R>(object: &Obj, work: impl FnOnce(&[u8]) -> R) -> Option<R> {
    with_array_or_none(object, |content| content.map(work))
}

/// The same, of `None` for any other object.
#[inline]
pub fn with_array_or_none<R>(object: &Obj, work: impl FnOnce(Option<&[u8]>) -> R) -> R {
    // SAFETY: the type is checked; the content stays in place as long as nobody changes it, which takes Python.
    unsafe {
        if ffi::PyByteArray_CheckExact(object.as_ptr()) == 0 {
            return work(None);
        }
        let length = ffi::PyByteArray_Size(object.as_ptr()) as usize;
        let content = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>().cast_const();
        work(Some(std::slice::from_raw_parts(content, length)))
    }
}

/// `del array[:count]`.
pub fn remove_front(array: &Obj, count: usize) -> Fallible<()> {
    // SAFETY: plain call with a live argument.
    status(unsafe { ffi::PySequence_DelSlice(array.as_ptr(), 0, count as isize) })
}

/// `memoryview(object)`.
pub fn view(object: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call with a live argument.
    unsafe { Ref::from_owned(ffi::PyMemoryView_FromObject(object.as_ptr())) }
}

/// `bytes(object)`, also of memory with gaps.
pub fn contiguous(object: &Obj) -> Fallible<Ref> {
    // SAFETY: plain call with a live argument.
    unsafe { Ref::from_owned(ffi::PyBytes_FromObject(object.as_ptr())) }
}

/// `memoryview(object)[start:]`.
pub fn from(object: &Obj, start: usize) -> Fallible<Ref> {
    let view = view(object)?;
    // SAFETY: plain calls with live arguments; NULL is no bound, and what is asked for is owned.
    unsafe {
        let start = super::object::int(start as i64)?;
        let null = std::ptr::null_mut();
        let slice = Ref::from_owned(ffi::PySlice_New(start.as_ptr(), null, null))?;
        Ref::from_owned(ffi::PyObject_GetItem(view.as_ptr(), slice.as_ptr()))
    }
}

/// Memory that an object lends; given back when dropped, which can run Python.
pub struct Buffer(ffi::Py_buffer);

impl Buffer {
    /// To read from. Refused, as by `socket.send`, if it is not contiguous.
    pub fn readable(object: &Obj) -> Fallible<Buffer> {
        Buffer::ask(object, ffi::PyBUF_SIMPLE)
    }

    /// To write into.
    pub fn writable(object: &Obj) -> Fallible<Buffer> {
        Buffer::ask(object, ffi::PyBUF_WRITABLE)
    }

    fn ask(object: &Obj, flags: c_int) -> Fallible<Buffer> {
        let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
        // SAFETY: a live object and a place for the view, which is filled in when the call succeeds.
        unsafe {
            status(ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags))?;
            Ok(Buffer(view.assume_init()))
        }
    }

    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    /// The content. Python must not run while the slice is used, since it could write there.
    #[inline]
    pub fn content(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: a view that was granted is `len` contiguous bytes until it is released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) }
    }

    /// The memory of a writable view, to be filled.
    pub(in crate::cpython) fn space(&mut self) -> (*mut u8, usize) {
        (self.0.buf.cast(), self.len())
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a view that was granted, released once.
        unsafe { ffi::PyBuffer_Release(&mut self.0) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Buffer").field("len", &self.0.len).finish_non_exhaustive()
    }
}

/// `len(object)`.
pub fn length_of(object: &Obj) -> Fallible<usize> {
    // SAFETY: plain call with a live argument; -1 says that an exception is set.
    let length = unsafe { ffi::PyObject_Size(object.as_ptr()) };
    status(if length < 0 { -1 } else { 0 })?;
    Ok(length as usize)
}
