//! The life of an instance, as C sees it: birth, traversal, finalization, death. `tables` wraps these into entries.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::super::ffi;
use super::super::object::{Obj, Ref};
use super::super::raised::{Fallible, Raised};
use super::{Base, Class, Home, Inst, Own, Visitor, WORD, dict_place, kept_link, take_dict};

/// `tp_new`: any arguments; `tp_init` looks at them.
///
/// # Safety
/// `class` is `T`'s or derives from it.
pub unsafe fn new_instance<T: Class>(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: by contract.
    let instance = unsafe {
        match refuse_abstract::<T>(class) {
            Ok(()) => Own::<T>::allocate(class, T::fresh()),
            Err(raised) => Err(raised),
        }
    };
    match instance {
        Ok(instance) => instance.into_ref().into_ptr(),
        Err(_raised) => std::ptr::null_mut(),
    }
}

/// Fails for a class that lacks methods which an abstract one wants, in the words of `object`, as of a class written in
/// Python.
///
/// # Safety
/// `class` is a type.
unsafe fn refuse_abstract<T: Class>(class: *mut ffi::PyTypeObject) -> Fallible<()> {
    // SAFETY: by contract; `object` makes nothing of a class with this flag.
    unsafe {
        if !T::REFUSES_ABSTRACT || (*class).tp_flags & ffi::Py_TPFLAGS_IS_ABSTRACT == 0 {
            return Ok(());
        }
        let Some(new) = ffi::PyBaseObject_Type.tp_new else { return Ok(()) };
        let arguments = super::super::object::tuple(&[])?;
        Ref::from_owned(ffi::call_new(new, class, arguments.as_ptr(), std::ptr::null_mut()))
            .and_then(|_instance| Err(Raised::type_error("the class is abstract")))
    }
}

/// `tp_traverse`.
///
/// # Safety
/// `instance` is one of `T`; `visit` and `argument` are the collector's.
pub unsafe fn traverse<T: Class>(
    instance: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    let mut visitor = Visitor { visit, argument, answer: 0, _marker: PhantomData };
    // SAFETY: by contract; a C base that is a heap type shows the type, otherwise it is shown here.
    unsafe {
        if let Some(base) = T::home().base_traverse() {
            visitor.answer = base(instance, visit, argument);
        }
        if !T::home().base_shows_type.load(Ordering::Relaxed) {
            visitor.object(Obj::from_ptr(ffi::Py_TYPE(instance).cast()));
        }
        T::traverse(Inst::from_ptr(instance), &mut visitor);
        if T::DICT
            && let Some(dict) = Obj::from_ptr_or_null(*dict_place::<T>(instance))
        {
            visitor.object(dict);
        }
    }
    visitor.answer
}

/// `tp_clear`.
///
/// # Safety
/// `instance` is one of `T`.
pub unsafe fn clear<T: Class>(instance: *mut ffi::PyObject) -> c_int {
    // SAFETY: by contract.
    unsafe {
        T::clear(Inst::from_ptr(instance));
        drop(take_dict::<T>(instance));
        T::home().base_clear().map_or(0, |base| ffi::call_clear(base, instance))
    }
}

/// `tp_finalize`.
///
/// # Safety
/// `instance` is one of `T`.
pub unsafe fn finalize<T: Class>(instance: *mut ffi::PyObject) {
    // An exception may be on its way while the last reference goes; it must be there afterwards.
    let pending = Raised::if_any().map(Raised::take);
    // SAFETY: by contract.
    let this = unsafe { Inst::<T>::from_ptr(instance) };
    this.finalized();
    // The collector of cycles finalizes every instance, whether or not it has anything to do.
    if this.needs_finalizing() {
        T::finalize(this);
    }
    if let Some(exception) = pending {
        let _raised = Raised::from_exception(exception);
    }
}

/// `tp_dealloc`.
///
/// # Safety
/// `instance` is one of `T`, without references.
pub unsafe fn dealloc<T: Class>(instance: *mut ffi::PyObject) {
    // SAFETY: the order that CPython's own types keep: finalise, untrack, weak references, fields, memory, type.
    unsafe {
        let home = T::home();
        let exact = std::ptr::eq(ffi::Py_TYPE(instance), home.class.load(Ordering::Relaxed));
        if T::FINALIZED
            && exact
            && (*home.structure_of::<T>(instance)).needs_finalizing()
            && ffi::PyObject_CallFinalizerFromDealloc(instance) < 0
        {
            return; // somebody took a reference
        }
        if T::SPARED > 0 && exact && spare::<T>(instance) {
            return;
        }
        ffi::PyObject_GC_UnTrack(instance.cast());
        let class = ffi::Py_TYPE(instance);
        let weak_references = (*class).tp_weaklistoffset;
        if weak_references != 0
            && !(*instance.byte_offset(weak_references).cast::<*const ffi::PyObject>()).is_null()
        {
            ffi::PyObject_ClearWeakRefs(instance);
        }
        T::dying(Inst::from_ptr(instance));
        drop(take_dict::<T>(instance));
        let reusable = T::KEPT > 0 && exact && !T::was_finalized(Inst::from_ptr(instance));
        std::ptr::drop_in_place(home.structure_of::<T>(instance));
        let base_is_zero = exact && T::empty_base(Inst::from_ptr(instance));
        if !base_is_zero && let Some(base_clear) = home.base_clear() {
            ffi::call_clear(base_clear, instance);
        }
        free::<T>(instance, class, reusable, base_is_zero);
    }
}

/// Brings an instance that has ended back to life, to begin again: the list's reference is the one that it has then.
///
/// The collector does not know it until it does: it would be of an old generation, or one that `gc.freeze()` has put out of
/// sight.
///
/// # Safety
/// `instance` is exactly of class `T`, and without references.
#[inline]
unsafe fn spare<T: Class>(instance: *mut ffi::PyObject) -> bool {
    let home = T::home();
    let count = home.spared_count.load(Ordering::Relaxed);
    // SAFETY: by contract; the slot is empty, and what it gets was owned by the list.
    unsafe {
        let this = Inst::<T>::from_ptr(instance);
        let Some(link) = this.link().filter(|_| count < T::SPARED) else { return false };
        ffi::PyObject_GC_UnTrack(instance.cast());
        ffi::Py_INCREF(instance);
        if let Some(next) = Ref::from_owned_or_null(home.spared.load(Ordering::Relaxed)) {
            link.set(next);
        }
        home.spared.store(instance, Ordering::Relaxed);
        home.spared_count.store(count + 1, Ordering::Relaxed);
        // This can run Python, which may have it begin again.
        T::dying(this);
        true
    }
}

/// Gives back the memory of a dead instance, or keeps it for the next one.
///
/// # Safety
/// `instance` is untracked, has no structure any more, and `class` is its type.
unsafe fn free<T: Class>(
    instance: *mut ffi::PyObject,
    class: *mut ffi::PyTypeObject,
    reusable: bool,
    base_is_zero: bool,
) {
    let home = T::home();
    // Where there is a base, it has fields.
    const { assert!(T::KEPT == 0 || !matches!(T::BASE, Base::Object) || std::mem::size_of::<T>() >= WORD) };
    // SAFETY: by contract. What is kept is as fresh memory would be but for its type, of which it goes on to hold a reference, and
    // the link: asyncio's part in C is zeroed here, slots of a Python base were emptied by `dying`, the structure is written anew. An
    // instance that was finalised keeps a mark of it in front of the object, so it is not reused.
    unsafe {
        let count = home.kept_count.load(Ordering::Relaxed);
        if T::KEPT > count && reusable {
            if T::BASE == Base::Native && !base_is_zero {
                let header = std::mem::size_of::<ffi::PyObject>();
                std::ptr::write_bytes(instance.byte_add(header).cast::<u8>(), 0, home.offset::<T>() - header);
            }
            kept_link(instance).write(home.kept.load(Ordering::Relaxed));
            home.kept.store(instance, Ordering::Relaxed);
            home.kept_count.store(count + 1, Ordering::Relaxed);
        } else {
            (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del)(instance.cast());
            ffi::Py_DECREF(class.cast());
        }
    }
}

impl Home {
    fn base_traverse(&self) -> Option<ffi::traverseproc> {
        let pointer = self.base_traverse.load(Ordering::Relaxed);
        // SAFETY: stored from a `traverseproc` by `define`.
        (!pointer.is_null())
            .then(|| unsafe { std::mem::transmute::<*mut c_void, ffi::traverseproc>(pointer) })
    }

    fn base_clear(&self) -> Option<ffi::inquiry> {
        let pointer = self.base_clear.load(Ordering::Relaxed);
        // SAFETY: stored from an `inquiry` by `define`.
        (!pointer.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, ffi::inquiry>(pointer) })
    }
}
