//! Classes: Python types made at import, whose instances carry a Rust structure.
//!
//! A class may derive from a type that has fields of its own (asyncio's Task and Future, in C). Its structure
//! then lies behind theirs, at an offset known at run time, read through [`Home`]. Instances are reached as
//! [`Inst<T>`] (borrowed) and [`Own<T>`] (owned); both give `&T`, so a structure keeps what changes in cells.
//! What C calls when an instance comes and goes is in [`life`].
//!
//! What must stay true: `fresh` and the fields' drops are all that creates and ends a structure; an instance is
//! traversed and cleared completely, its base's part included; and the base's part of asyncio's types is zero or
//! what [`super::layout`] put there.

use std::ffi::{CStr, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::ffi;
use super::object::{Obj, Ref};
use super::raised::{Fallible, Raised};
use super::slot::Slot;

pub mod life;

const WORD: usize = std::mem::size_of::<usize>();

/// How many dead instances the classes that come and go keep for reuse: enough for a burst of a thousand callbacks,
/// and at most a quarter of a megabyte each.
pub const KEPT: usize = 1024;

/// What a class derives from, and so where in its instances the structure begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// `object`: the structure follows the header.
    Object,
    /// A class in C, with fields of its own.
    Native,
    /// One written in Python. Its `tp_traverse` starts from the instance's type, finds ours there and would call it again
    /// without end; so ours shows and clears the base's `__slots__` itself.
    Python,
}

/// A type of ours.
pub trait Class: Sized + 'static {
    /// The qualified name.
    const NAME: &'static CStr;
    /// Whether Python code may derive from it.
    const SUBCLASSED: bool = true;
    /// Whether there is something to do before an instance goes (`__del__`).
    const FINALIZED: bool = false;
    /// How many dead instances are kept for reuse.
    const KEPT: usize = 0;
    /// How many instances that have ended are spared: kept whole, to begin again without being made. See
    /// [`Class::link`].
    const SPARED: usize = 0;
    /// Whether there is one derived class that nearly all instances are of, which is then recognised at once (and kept
    /// for ever).
    const DERIVED_ONCE: bool = false;
    /// What the class derives from.
    const BASE: Base = Base::Object;

    /// Whether a derived class that lacks what an abstract one wants has no instances, as of a class written in Python.
    const REFUSES_ABSTRACT: bool = true;

    /// Whether instances take any attribute and weak references, as those of a class written in Python do. Their places
    /// lie behind the structure.
    const DICT: bool = false;

    /// Whether instances are functions: the structure begins with what CPython calls, and they bind as methods.
    const CALLED: bool = false;

    /// Where the class lives once it is made.
    fn home() -> &'static Home;
    /// The structure of an instance that has not been initialised yet.
    fn fresh() -> Self;
    /// Shows the garbage collector what an instance owns, apart from what a C base shows.
    fn traverse(this: &Inst<Self>, visitor: &mut Visitor<'_>);
    /// Gives up what an instance owns.
    fn clear(this: &Inst<Self>);
    /// What has to be undone before an instance is freed, other than dropping what it owns. If the base is written in
    /// Python, it clears the base's slots.
    fn dying(_this: &Inst<Self>) {}
    /// Of a dead instance of exactly this class with a C base: takes out of the base what has been put there. Whether the
    /// base is zero then, so that there is nothing for its own function to clear.
    fn empty_base(_this: &Inst<Self>) -> bool {
        false
    }
    /// `__del__`.
    fn finalize(_this: &Inst<Self>) {}
    /// It is being finalised, which CPython does only once.
    fn finalized(&self) {}
    /// Whether it was.
    #[inline]
    fn was_finalized(this: &Inst<Self>) -> bool {
        // SAFETY: plain call with a live object.
        Self::FINALIZED && unsafe { ffi::PyObject_GC_IsFinalized(this.obj().as_ptr()) != 0 }
    }
    /// Of an instance that has ended and holds nothing: the slot that holds the next one like it while both are spared.
    fn link(&self) -> Option<&Slot> {
        None
    }
    /// Whether `finalize` has anything to do; asked before an instance goes.
    fn needs_finalizing(&self) -> bool {
        Self::FINALIZED
    }
}

/// Where a class lives: its type object, and where in an instance the structure begins.
#[derive(Debug)]
pub struct Home {
    class: AtomicPtr<ffi::PyTypeObject>,
    offset: AtomicUsize,
    /// `tp_traverse` and `tp_clear` of a C base, or null.
    base_traverse: AtomicPtr<c_void>,
    base_clear: AtomicPtr<c_void>,
    /// Whether the C base is a heap type, whose traversal shows the instance's type (on 3.11 asyncio's are static).
    base_shows_type: AtomicBool,
    /// Dead instances kept for reuse, linked through [`kept_link`].
    kept: AtomicPtr<ffi::PyObject>,
    kept_count: AtomicUsize,
    /// Spared instances: the first is owned here, each other one by the link of the one before.
    spared: AtomicPtr<ffi::PyObject>,
    spared_count: AtomicUsize,
    /// The first derived class that was met, which is the common one (`velodrome.Loop` over `LoopCore`); owned, so
    /// that its address means it for ever.
    derived: AtomicPtr<ffi::PyTypeObject>,
}

impl Home {
    /// Of a class that has not been made yet.
    pub const fn new() -> Home {
        Home {
            class: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicUsize::new(0),
            base_traverse: AtomicPtr::new(std::ptr::null_mut()),
            base_clear: AtomicPtr::new(std::ptr::null_mut()),
            base_shows_type: AtomicBool::new(false),
            kept: AtomicPtr::new(std::ptr::null_mut()),
            kept_count: AtomicUsize::new(0),
            spared: AtomicPtr::new(std::ptr::null_mut()),
            spared_count: AtomicUsize::new(0),
            derived: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The type object.
    #[inline]
    pub fn class(&self) -> &'static Obj {
        // SAFETY: set at import, before any instance exists, and never given up.
        unsafe { Obj::from_ptr(self.class.load(Ordering::Relaxed).cast()) }
    }
}

impl Home {
    /// Notes where a class lives, now that it is made.
    ///
    /// # Safety
    /// `class` is `T`'s type object, made over `base`, and large enough for a `T` at `offset`.
    pub(super) unsafe fn settle<T: Class>(&self, class: &Obj, base: Option<&Obj>, offset: usize) {
        if let Some(base) = base.filter(|_| T::BASE == Base::Native) {
            let base: *mut ffi::PyTypeObject = base.as_ptr().cast();
            // SAFETY: a type object; a base without either function has no fields of its own to show.
            let (traverse, clear, flags) =
                unsafe { ((*base).tp_traverse, (*base).tp_clear, (*base).tp_flags) };
            self.base_shows_type.store(flags & ffi::Py_TPFLAGS_HEAPTYPE != 0, Ordering::Relaxed);
            let traverse = traverse.map_or(std::ptr::null_mut(), |function| function as *mut c_void);
            let clear = clear.map_or(std::ptr::null_mut(), |function| function as *mut c_void);
            self.base_traverse.store(traverse, Ordering::Relaxed);
            self.base_clear.store(clear, Ordering::Relaxed);
        }
        self.offset.store(offset, Ordering::Relaxed);
        self.class.store(class.own().into_ptr().cast(), Ordering::Relaxed);
    }

    /// How large an instance is whose structure begins at `offset`.
    pub(super) const fn size_of<T: Class>(offset: usize) -> usize {
        offset + std::mem::size_of::<T>() + if T::DICT { 2 * WORD } else { 0 }
    }

    /// Where an instance has its `__dict__`; the list of weak references is the next word.
    pub(super) const fn dict_offset<T: Class>(offset: usize) -> usize {
        offset + std::mem::size_of::<T>()
    }

    /// Where in an instance the structure begins, behind a base's part of this size.
    pub(super) const fn offset_behind<T: Class>(base: usize) -> usize {
        let align = std::mem::align_of::<T>();
        base.div_ceil(align) * align
    }

    /// Where in an instance the structure begins, behind the base's.
    #[inline]
    pub(super) fn offset<T: Class>(&self) -> usize {
        match T::BASE {
            Base::Object => const { Home::offset_behind::<T>(std::mem::size_of::<ffi::PyObject>()) },
            Base::Native | Base::Python => self.offset.load(Ordering::Relaxed),
        }
    }

    /// Whether the object is an instance of the class, or of one that derives from it.
    #[inline]
    fn is_class_of<T: Class>(&self, object: &Obj) -> bool {
        let class = object.type_ptr();
        std::ptr::eq(class, self.class.load(Ordering::Relaxed))
            || (T::DERIVED_ONCE && std::ptr::eq(class, self.derived.load(Ordering::Relaxed)))
            || self.is_base_of::<T>(class)
    }

    fn is_base_of<T: Class>(&self, class: *mut ffi::PyTypeObject) -> bool {
        // SAFETY: both are live types.
        let answer = unsafe { ffi::PyType_IsSubtype(class, self.class.load(Ordering::Relaxed)) != 0 };
        if T::DERIVED_ONCE && answer && self.derived.load(Ordering::Relaxed).is_null() {
            // SAFETY: one reference to a live type, kept for ever.
            unsafe { ffi::Py_INCREF(class.cast()) };
            self.derived.store(class, Ordering::Relaxed);
        }
        answer
    }
}

impl Default for Home {
    fn default() -> Home {
        Home::new()
    }
}

/// An instance of `T`, or of a class that derives from it; only ever seen behind `&`.
#[repr(transparent)]
pub struct Inst<T: Class>(Obj, PhantomData<T>);

/// One owned reference to an instance of `T`.
#[repr(transparent)]
pub struct Own<T: Class>(Ref, PhantomData<T>);

impl<T: Class> Inst<T> {
    /// # Safety
    /// `pointer` is a live instance of `T`.
    #[inline]
    pub unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Inst<T> {
        // SAFETY: by contract; transparent over `Obj`.
        unsafe { &*std::ptr::from_ref(Obj::from_ptr(pointer)).cast::<Inst<T>>() }
    }

    /// The instance behind an object, if it is one.
    #[inline]
    pub fn of(object: &Obj) -> Option<&Inst<T>> {
        // SAFETY: checked.
        T::home().is_class_of::<T>(object).then(|| unsafe { Inst::from_ptr(object.as_ptr()) })
    }

    /// The instance behind an object, if its type is exactly this class.
    #[inline]
    pub fn exactly(object: &Obj) -> Option<&Inst<T>> {
        // SAFETY: checked.
        object.is_exactly(T::home().class()).then(|| unsafe { Inst::from_ptr(object.as_ptr()) })
    }

    /// The instance as an object.
    #[inline]
    pub fn obj(&self) -> &Obj {
        &self.0
    }

    /// Another owned reference.
    #[inline]
    pub fn own(&self) -> Own<T> {
        Own(self.0.own(), PhantomData)
    }

    /// Whether this is exactly an instance of the class, to which no attributes were given: so that what programs see of
    /// it is ours alone.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.0.is_exactly(T::home().class()) && !self.has_dict()
    }

    /// Whether the instance has a `__dict__` by now, of a class that has one.
    #[inline]
    pub fn has_dict(&self) -> bool {
        // SAFETY: a class with `DICT` has the word there; a reference or NULL.
        T::DICT && unsafe { !(*dict_place::<T>(self.0.as_ptr())).is_null() }
    }

    #[inline]
    fn structure(&self) -> *mut T {
        // SAFETY: an instance is at least as large as its class says, and its structure begins at the offset.
        unsafe { self.0.as_ptr().byte_add(T::home().offset::<T>()).cast() }
    }
}

impl<T: Class> Deref for Inst<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: written when the instance was allocated, and valid until it is freed.
        unsafe { &*self.structure() }
    }
}

impl<T: Class> Own<T> {
    /// A new instance of exactly this class, not initialised.
    #[inline]
    pub fn new() -> Fallible<Own<T>> {
        Own::with(T::fresh)
    }

    /// A new instance of exactly this class, with the structure that is made for it, in place.
    #[inline]
    pub fn with(make: impl FnOnce() -> T) -> Fallible<Own<T>> {
        let home = T::home();
        let kept = if T::KEPT > 0 { home.kept.load(Ordering::Relaxed) } else { std::ptr::null_mut() };
        if kept.is_null() {
            return Own::afresh(make);
        }
        // SAFETY: the memory of an exact instance, which still has its type but no structure; see `free`.
        unsafe {
            let next = std::mem::replace(&mut *kept_link(kept), std::ptr::null_mut());
            home.kept.store(next, Ordering::Relaxed);
            home.kept_count.store(home.kept_count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
            home.structure_of::<T>(kept).write(make());
            ffi::_Py_NewReference(kept);
            ffi::PyObject_GC_Track(kept.cast());
            Ok(Own(Ref::from_owned(kept)?, PhantomData))
        }
    }

    #[inline(never)]
    fn afresh(make: impl FnOnce() -> T) -> Fallible<Own<T>> {
        // SAFETY: this class.
        unsafe { Own::allocate(T::home().class.load(Ordering::Relaxed), make()) }
    }

    /// An instance that has ended, for whoever makes it begin again; what it was not emptied of is as it was left.
    #[inline]
    pub fn spared() -> Option<Own<T>> {
        let home = T::home();
        let first = home.spared.load(Ordering::Relaxed);
        // SAFETY: the list owns its first instance, which is whole and not tracked, and gives that reference away.
        let first = unsafe { Ref::from_owned_or_null(first) }?;
        let first = Own(first, PhantomData::<T>);
        let next = first.link().and_then(Slot::take);
        home.spared.store(next.map_or(std::ptr::null_mut(), Ref::into_ptr), Ordering::Relaxed);
        home.spared_count.store(home.spared_count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { ffi::PyObject_GC_Track(first.0.as_ptr().cast()) };
        Some(first)
    }

    /// A new instance of a class derived from this one, not initialised.
    pub fn of_class(class: &Obj) -> Fallible<Own<T>> {
        if !class.is_subtype_of(T::home().class()) {
            return Err(Raised::type_error("the class is not derived"));
        }
        // SAFETY: checked.
        unsafe { Own::allocate(class.as_ptr().cast(), T::fresh()) }
    }

    /// # Safety
    /// `class` is this class or derives from it.
    #[inline(never)]
    unsafe fn allocate(class: *mut ffi::PyTypeObject, structure: T) -> Fallible<Own<T>> {
        // SAFETY: by contract; the memory is zeroed, and nothing runs between it and the structure's birth.
        unsafe {
            let allocate = (*class).tp_alloc.unwrap_or(ffi::PyType_GenericAlloc);
            let instance = Ref::from_owned(ffi::call_alloc(allocate, class, 0))?;
            T::home().structure_of::<T>(instance.as_ptr()).write(structure);
            Ok(Own(instance, PhantomData))
        }
    }

    /// The reference without its type.
    #[inline]
    pub fn into_ref(self) -> Ref {
        self.0
    }
}

impl<T: Class> Deref for Own<T> {
    type Target = Inst<T>;

    #[inline]
    fn deref(&self) -> &Inst<T> {
        // SAFETY: an owned reference to an instance of `T`.
        unsafe { Inst::from_ptr(self.0.as_ptr()) }
    }
}

impl<T: Class> Clone for Own<T> {
    #[inline]
    fn clone(&self) -> Own<T> {
        Own(self.0.clone(), PhantomData)
    }
}

impl<T: Class> fmt::Debug for Own<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl<T: Class> fmt::Debug for Inst<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// Shows owned objects to the garbage collector; stops when it says so.
#[derive(Debug)]
pub struct Visitor<'a> {
    visit: ffi::visitproc,
    argument: *mut c_void,
    answer: c_int,
    _marker: PhantomData<&'a ()>,
}

impl Visitor<'_> {
    /// Shows an object.
    #[inline]
    pub fn object(&mut self, object: &Obj) {
        if self.answer == 0 {
            // SAFETY: the collector's own function and argument, with a live object.
            self.answer = unsafe { (self.visit)(object.as_ptr(), self.argument) };
        }
    }

    /// Shows what a slot holds.
    #[inline]
    pub fn slot(&mut self, slot: &Slot) {
        if let Some(object) = slot.peek() {
            self.object(object);
        }
    }
}

impl Home {
    #[inline]
    fn structure_of<T: Class>(&self, instance: *mut ffi::PyObject) -> *mut T {
        // SAFETY: as in `Inst::structure`.
        unsafe { instance.byte_add(self.offset::<T>()).cast() }
    }
}

/// The first word behind the header of a dead instance, which holds the next one while it is kept.
///
/// # Safety
/// `instance` is the memory of one that was larger than its header.
#[inline]
unsafe fn kept_link(instance: *mut ffi::PyObject) -> *mut *mut ffi::PyObject {
    // SAFETY: by contract.
    unsafe { instance.add(1).cast() }
}

/// # Safety
/// `instance` is one of `T`, which has `DICT`.
#[inline]
unsafe fn dict_place<T: Class>(instance: *mut ffi::PyObject) -> *mut *mut ffi::PyObject {
    let offset = Home::dict_offset::<T>(T::home().offset::<T>());
    // SAFETY: by contract; the word lies behind the structure.
    unsafe { instance.byte_add(offset).cast() }
}

/// Takes the `__dict__` out of an instance.
///
/// # Safety
/// `instance` is one of `T`.
unsafe fn take_dict<T: Class>(instance: *mut ffi::PyObject) -> Option<Ref> {
    if !T::DICT {
        return None;
    }
    // SAFETY: by contract; an owned reference or NULL.
    unsafe {
        Ref::from_owned_or_null(std::mem::replace(&mut *dict_place::<T>(instance), std::ptr::null_mut()))
    }
}
