//! Functions that say that they return coroutines, as those made by `async def` do.
//!
//! `inspect` and asyncio look for marks on what is not written in Python, and the interpreter's own built-in functions
//! take no attributes. So there is a class of functions around those, which carries the marks; a call goes straight
//! to the C function inside ([`Target`]), and as methods they bind as functions of Python's do.
//!
//! What must stay true: the structure begins with the function that CPython calls ([`Class::CALLED`]). What a target
//! names belongs to the function that is held, so the two come and go together.

use std::cell::Cell;
use std::ffi::c_int;

use super::class::{Class, Home, Inst, Own, Visitor};
use super::ffi;
use super::global::Global;
use super::object::{self, Obj, Ref};
use super::raised::{Fallible, Raised};
use super::slot::Slot;
use super::spec::Spec;

/// The class `CoroutineFunction`.
#[derive(Debug)]
#[repr(C)]
pub struct CoroutineFunction {
    /// None until there is something to call.
    vectorcall: Cell<Option<ffi::vectorcallfunc>>,
    /// What is called.
    function: Slot,
    /// The way to it that needs no second call.
    target: Cell<Target>,
}

/// The C function behind what is called, and which calls can go to it: those that have what its own caller would see to.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// Not known: calls go through the function as it is.
    Unknown,
    /// A method of the class without arguments.
    Nullary(*mut ffi::PyTypeObject, ffi::PyCFunction),
    /// A method of the class with any arguments.
    Method(*mut ffi::PyTypeObject, ffi::PyCFunctionFastWithKeywords),
    /// A function of a module, with any arguments.
    Function(*mut ffi::PyObject, ffi::PyCFunctionFastWithKeywords),
}

impl Target {
    /// Finds out what is inside.
    fn of(function: &Obj) -> Target {
        const KINDS: c_int = ffi::METH_VARARGS | ffi::METH_NOARGS | ffi::METH_O | ffi::METH_METHOD | ANY;
        const ANY: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        // SAFETY: the types are checked before the structures are read; a definition's flags say which member of the
        // union its function is.
        unsafe {
            if std::ptr::eq(function.type_ptr(), &raw const ffi::PyMethodDescr_Type) {
                let descriptor = function.as_ptr().cast::<ffi::PyMethodDescrObject>();
                let (class, method) = ((*descriptor).d_common.d_type, (*descriptor).d_method);
                return match (*method).ml_flags & KINDS {
                    ffi::METH_NOARGS => Target::Nullary(class, (*method).ml_meth.PyCFunction),
                    ANY => Target::Method(class, (*method).ml_meth.PyCFunctionFastWithKeywords),
                    _ => Target::Unknown,
                };
            }
            if ffi::PyCFunction_CheckExact(function.as_ptr()) != 0 {
                let builtin = function.as_ptr().cast::<ffi::PyCFunctionObject>();
                let method = (*builtin).m_ml;
                if (*method).ml_flags & KINDS == ANY {
                    return Target::Function(
                        (*builtin).m_self,
                        (*method).ml_meth.PyCFunctionFastWithKeywords,
                    );
                }
            }
            Target::Unknown
        }
    }
}

static HOME: Home = Home::new();

impl Class for CoroutineFunction {
    const NAME: &'static std::ffi::CStr = c"velodrome.CoroutineFunction";
    const SUBCLASSED: bool = false;
    const CALLED: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> CoroutineFunction {
        CoroutineFunction {
            vectorcall: Cell::new(None),
            function: Slot::empty(),
            target: Cell::new(Target::Unknown),
        }
    }

    fn traverse(this: &Inst<CoroutineFunction>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.function);
    }

    fn clear(this: &Inst<CoroutineFunction>) {
        this.target.set(Target::Unknown);
        this.function.clear();
    }
}

/// The marks: of `inspect` (from 3.12 on) and of asyncio; and what CPython calls.
#[derive(Debug)]
struct Marks {
    vectorcall: ffi::vectorcallfunc,
    inspect: Option<Ref>,
    asyncio: Option<Ref>,
}

static MARKS: Global<Marks> = Global::new();

/// A function that does what this one does, and is known to return a coroutine.
pub fn marked(function: &Obj) -> Fallible<Ref> {
    let this = Own::<CoroutineFunction>::new()?;
    this.function.set(function.own());
    this.target.set(Target::of(function));
    this.vectorcall.set(Some(MARKS.get().vectorcall));
    Ok(this.into_ref())
}

/// Calls what is inside with these very arguments.
///
/// # Safety
/// The arguments of a vectorcall.
#[inline]
unsafe fn call(
    this: &Inst<CoroutineFunction>,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> Fallible<Ref> {
    // SAFETY: by contract; a method gets an instance of its class first, and no arguments where it takes none. Whoever
    // calls holds a reference to us, and so to the function that the target belongs to.
    unsafe {
        let given = ffi::PyVectorcall_NARGS(count as _);
        let is_for = |class| given > 0 && ffi::PyObject_TypeCheck(*arguments, class) != 0;
        match this.target.get() {
            Target::Nullary(class, function) if given == 1 && names.is_null() && is_for(class) => {
                Ref::from_owned(function(*arguments, std::ptr::null_mut()))
            }
            Target::Method(class, function) if is_for(class) => {
                Ref::from_owned(function(*arguments, arguments.add(1), given - 1, names))
            }
            Target::Function(module, function) => Ref::from_owned(function(module, arguments, given, names)),
            _ => call_as_it_is(this, arguments, count, names),
        }
    }
}

/// The call as Python would make it, which is refused as Python refuses it.
///
/// # Safety
/// The arguments of a vectorcall.
#[cold]
unsafe fn call_as_it_is(
    this: &Inst<CoroutineFunction>,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> Fallible<Ref> {
    match this.function.peek() {
        // SAFETY: by contract; whoever calls holds a reference to us, and so to the function.
        Some(function) => unsafe {
            Ref::from_owned(ffi::PyObject_Vectorcall(function.as_ptr(), arguments, count, names))
        },
        None => Err(Raised::type_error("the function is not initialized")),
    }
}

/// `function.__get__(instance)`: a bound method.
fn bind(this: &Inst<CoroutineFunction>, instance: Option<&Obj>) -> Fallible<Ref> {
    match instance {
        // SAFETY: plain call with live arguments.
        Some(instance) => unsafe {
            Ref::from_owned(ffi::PyMethod_New(this.obj().as_ptr(), instance.as_ptr()))
        },
        None => Ok(this.obj().own()),
    }
}

fn of_function(this: &Inst<CoroutineFunction>, name: &std::ffi::CStr) -> Fallible<Ref> {
    this.function.get_or_none().get(&*object::interned(name)?)
}

fn py_name(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    of_function(this, c"__name__")
}

/// Methods of a class `…Core` are reached through the class that the package makes of it.
fn py_qualname(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    let name = of_function(this, c"__qualname__")?.to_text();
    object::text(&name.replace("Core.", "."))
}

fn py_doc(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    of_function(this, c"__doc__")
}

fn py_text_signature(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    of_function(this, c"__text_signature__")
}

fn py_module(_this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    object::text("velodrome")
}

fn mark(mark: Option<&Ref>) -> Fallible<Ref> {
    match mark {
        Some(mark) => Ok(mark.clone()),
        None => Err(Raised::new(object::attribute_error(), "there is no such mark on this Python")),
    }
}

fn py_inspect_mark(_this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    mark(MARKS.get().inspect.as_ref())
}

fn py_asyncio_mark(_this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    mark(MARKS.get().asyncio.as_ref())
}

/// It is pickled by its name.
fn py_reduce(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    py_qualname(this)
}

fn py_repr(this: &Inst<CoroutineFunction>) -> Fallible<Ref> {
    let name = py_qualname(this)?.to_text();
    object::text(&format!("<function {name} at {:p}>", std::ptr::from_ref(this)))
}

/// Looks the marks up and makes the class.
pub fn define() -> Fallible<Ref> {
    let of = |module, name| object::import(module)?.get_if_there(&*object::interned(name)?);
    let inspect = match of(c"inspect", c"markcoroutinefunction")? {
        Some(mark) => {
            let namespace =
                object::import(c"types")?.get(&*object::interned(c"SimpleNamespace")?)?.call(&[])?;
            let marked = mark.call(&[&namespace])?;
            marked.get_if_there(&*object::interned(c"_is_coroutine_marker")?)?
        }
        None => None,
    };
    let vectorcall = vectorcall_entry!(CoroutineFunction, "CoroutineFunction", call);
    MARKS.set(Marks { vectorcall, inspect, asyncio: of(c"asyncio.coroutines", c"_is_coroutine")? });
    let mut slots = class_slots!(CoroutineFunction, "CoroutineFunction"; repr py_repr, bind bind);
    slots.push(type_slot!(CoroutineFunction, ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut _));
    super::spec::define::<CoroutineFunction>(Spec {
        doc: None,
        methods: class_methods!(CoroutineFunction, "CoroutineFunction";
            c"__reduce__" => none py_reduce, c"__reduce__($self, /)\n--\n\nReturn the name.";
        ),
        attributes: class_attributes!(CoroutineFunction, "CoroutineFunction";
            c"__name__" => py_name;
            c"__qualname__" => py_qualname;
            c"__doc__" => py_doc;
            c"__module__" => py_module;
            c"__text_signature__" => py_text_signature;
            c"_is_coroutine_marker" => py_inspect_mark;
            c"_is_coroutine" => py_asyncio_mark;
        ),
        slots,
        base: None,
    })
}
