//! The tables that a class is made of: methods, attributes and slots, each of them an entry.

use super::args::Args;
use super::ffi;
use super::object::Obj;

/// One slot of a class's type, with an entry of the signature that its number stands for.
macro_rules! type_slot {
    ($class:ty, $number:expr, $entry:expr) => {{
        let slot = pyo3::ffi::PyType_Slot { slot: $number, pfunc: $entry };
        // SAFETY: only `class_slots!` uses this, with entries that it makes for the number and the class.
        #[allow(unsafe_code)]
        unsafe {
            $crate::cpython::spec::TypeSlot::<$class>::new(slot)
        }
    }};
}

/// A getter and a setter for each of a class's fields that are a `Slot`, for an attribute that is `None` where nothing is held.
macro_rules! slot_accessors {
    ($class:ty; $($field:ident: $getter:ident $setter:ident;)*) => {$(
        fn $getter(this: &$crate::cpython::Inst<$class>) -> $crate::cpython::Fallible<$crate::cpython::Ref> {
            Ok(this.$field.get_or_none())
        }

        fn $setter(
            this: &$crate::cpython::Inst<$class>,
            value: Option<&$crate::cpython::Obj>,
        ) -> $crate::cpython::Fallible<()> {
            this.$field.assign(value);
            Ok(())
        }
    )*};
}

/// The same for fields that are a `Cell<bool>`.
macro_rules! flag_accessors {
    ($class:ty; $($field:ident: $getter:ident $setter:ident;)*) => {$(
        fn $getter(this: &$crate::cpython::Inst<$class>) -> $crate::cpython::Fallible<$crate::cpython::Ref> {
            Ok($crate::cpython::object::boolean(this.$field.get()).own())
        }

        fn $setter(
            this: &$crate::cpython::Inst<$class>,
            value: Option<&$crate::cpython::Obj>,
        ) -> $crate::cpython::Fallible<()> {
            this.$field.set(value.map_or(Ok(false), $crate::cpython::Obj::truthy)?);
            Ok(())
        }
    )*};
}

/// The methods of a class: `name => kind function`, where the kinds are
///
/// * `none`: `fn(&Inst<T>) -> Fallible<Ref>`;
/// * `one`: `fn(&Inst<T>, &Obj) -> Fallible<Ref>`;
/// * `any`: `fn(&Inst<T>, Args<'_>) -> Fallible<Ref>`;
/// * `class`: `fn(&Obj, &Obj) -> Fallible<Ref>`, the class and one argument;
/// * `shared`: `fn(&Obj, &Obj) -> Fallible<Ref>`, any object and one argument, for `spec::share_methods`;
/// * `shared_none`: `fn(&Obj) -> Fallible<Ref>`, the same without an argument;
/// * `shared_any`: `fn(&Obj, Args<'_>) -> Fallible<Ref>`, the same with any arguments.
macro_rules! class_methods {
    ($class:ty, $owner:literal; $($name:literal => $kind:ident $function:expr, $doc:literal;)*) => {
        vec![$(class_methods!(@ $kind $class, $owner, $name, $function, $doc)),*]
    };
    (@ none $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, _unused: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython checks `self` before it calls a method.
            $crate::cpython::spec::give($function(unsafe { $crate::cpython::Inst::<$class>::from_ptr(this) })));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_NOARGS | pyo3::ffi::METH_COEXIST,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes instances of the class that is named in it.
        unsafe { $crate::cpython::spec::Method::<$class>::new(definition) }
    }};
    (@ one $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, argument: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython checks `self` before it calls a method, and passes one live argument.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::Inst::<$class>::from_ptr(this), $crate::cpython::tables::argument(argument))
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_O,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes instances of the class that is named in it.
        unsafe { $crate::cpython::spec::Method::<$class>::new(definition) }
    }};
    (@ shared $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, argument: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython passes `self` and one argument, both live.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::tables::argument(this), $crate::cpython::tables::argument(argument))
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_O,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes any object.
        unsafe { $crate::cpython::spec::Method::<$crate::cpython::spec::Anything>::new(definition) }
    }};
    (@ shared_none $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, _unused: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython passes a live `self`.
            $crate::cpython::spec::give($function(unsafe { $crate::cpython::tables::argument(this) })));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_NOARGS,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes any object.
        unsafe { $crate::cpython::spec::Method::<$crate::cpython::spec::Anything>::new(definition) }
    }};
    (@ shared_any $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, arguments: *const *mut pyo3::ffi::PyObject,
             count: pyo3::ffi::Py_ssize_t, names: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython passes a live `self` and a vectorcall's arguments.
            $crate::cpython::spec::give(unsafe {
                $function(
                    $crate::cpython::tables::argument(this),
                    $crate::cpython::tables::vector(arguments, count, names),
                )
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: pyo3::ffi::METH_FASTCALL | pyo3::ffi::METH_KEYWORDS,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes any object.
        unsafe { $crate::cpython::spec::Method::<$crate::cpython::spec::Anything>::new(definition) }
    }};
    (@ any $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject, arguments: *const *mut pyo3::ffi::PyObject,
             count: pyo3::ffi::Py_ssize_t, names: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: CPython checks `self` before it calls a method, and passes a vectorcall's arguments.
            $crate::cpython::spec::give(unsafe {
                $function(
                    $crate::cpython::Inst::<$class>::from_ptr(this),
                    $crate::cpython::tables::vector(arguments, count, names),
                )
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: pyo3::ffi::METH_FASTCALL | pyo3::ffi::METH_KEYWORDS,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes instances of the class that is named in it.
        unsafe { $crate::cpython::spec::Method::<$class>::new(definition) }
    }};
    (@ class $class:ty, $owner:literal, $name:literal, $function:expr, $doc:literal) => {{
        #[allow(unsafe_code)]
        let function = entry!(raising $owner, $name,
            (class: *mut pyo3::ffi::PyObject, argument: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject,
            std::ptr::null_mut(),
            // SAFETY: a class method gets its class and one live argument.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::tables::argument(class), $crate::cpython::tables::argument(argument))
            }));
        let definition = pyo3::ffi::PyMethodDef {
            ml_name: $name.as_ptr(),
            ml_meth: pyo3::ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: pyo3::ffi::METH_O | pyo3::ffi::METH_CLASS,
            ml_doc: $doc.as_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the entry above takes instances of the class that is named in it.
        unsafe { $crate::cpython::spec::Method::<$class>::new(definition) }
    }};
}

/// The attributes of a class: `name => getter`, or `name => getter, setter`, where a getter is
/// `fn(&Inst<T>) -> Fallible<Ref>` and a setter `fn(&Inst<T>, Option<&Obj>) -> Fallible<()>` (none: deleted).
macro_rules! class_attributes {
    ($class:ty, $owner:literal; $($name:literal => $getter:expr $(, $setter:expr)?;)*) => {
        vec![$({
            #[allow(unsafe_code)]
            let get = entry!(raising $owner, $name,
                (this: *mut pyo3::ffi::PyObject, _closure: *mut std::ffi::c_void) -> *mut pyo3::ffi::PyObject,
                std::ptr::null_mut(),
                // SAFETY: CPython checks `self` before it reads an attribute.
                $crate::cpython::spec::give($getter(unsafe { $crate::cpython::Inst::<$class>::from_ptr(this) })));
            #[allow(unused_mut, unused_assignments, reason = "there need not be a setter")]
            let mut set: Option<pyo3::ffi::setter> = None;
            $(
                #[allow(unsafe_code)]
                let setter = entry!(raising concat!($owner, ".set"), $name,
                    (this: *mut pyo3::ffi::PyObject, value: *mut pyo3::ffi::PyObject,
                     _closure: *mut std::ffi::c_void) -> std::ffi::c_int,
                    -1,
                    // SAFETY: CPython checks `self` before it sets an attribute; NULL means deletion.
                    $crate::cpython::spec::give_status(unsafe {
                        $setter(
                            $crate::cpython::Inst::<$class>::from_ptr(this),
                            $crate::cpython::tables::argument_or_none(value),
                        )
                    }));
                set = Some(setter);
            )?
            let definition = pyo3::ffi::PyGetSetDef {
                name: $name.as_ptr(),
                get: Some(get),
                set,
                doc: std::ptr::null(),
                closure: std::ptr::null_mut(),
            };
            #[allow(unsafe_code)]
            // SAFETY: the entries above take instances of the class that is named in them.
            unsafe { $crate::cpython::spec::Attribute::<$class>::new(definition) }
        }),*]
    };
}

/// The slots that every class has (birth, traversal, death), and on demand those after the semicolon:
///
/// * `init`: `fn(&Inst<T>, Args<'_>) -> Fallible<()>`; `call`: `fn(&Inst<T>, Args<'_>) -> Fallible<Ref>`; `repr`, `str`, `iter`, `awaits`, `aiter`, `anext`: `fn(&Inst<T>) -> Fallible<Ref>`;
/// * `next`: `fn(&Inst<T>) -> Fallible<Sent>`, for `tp_iternext` and `am_send` alike; `awaited_next` where `await` is
///   who iterates (then `dying` has to call `stop_iteration::forget`).
macro_rules! class_slots {
    ($class:ty, $owner:literal; $($kind:ident $function:expr),* $(,)?) => {{
        #[allow(unsafe_code)]
        let mut slots = vec![
            type_slot!($class, pyo3::ffi::Py_tp_new, entry!(raising $owner, c"tp_new",
                (class: *mut pyo3::ffi::PyTypeObject, _arguments: *mut pyo3::ffi::PyObject,
                 _keywords: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
                // SAFETY: called with the class or one that derives from it.
                unsafe { $crate::cpython::class::life::new_instance::<$class>(class) }) as *mut _),
            type_slot!($class, pyo3::ffi::Py_tp_traverse, entry!(silent $owner, c"tp_traverse",
                (this: *mut pyo3::ffi::PyObject, visit: pyo3::ffi::visitproc, argument: *mut std::ffi::c_void)
                -> std::ffi::c_int, 0,
                // SAFETY: called by the collector on an instance.
                unsafe { $crate::cpython::class::life::traverse::<$class>(this, visit, argument) }) as *mut _),
            type_slot!($class, pyo3::ffi::Py_tp_clear, entry!(reporting $owner, c"tp_clear",
                (this: *mut pyo3::ffi::PyObject) -> std::ffi::c_int, 0,
                // SAFETY: called by the collector on an instance.
                unsafe { $crate::cpython::class::life::clear::<$class>(this) }) as *mut _),
            type_slot!($class, pyo3::ffi::Py_tp_dealloc, entry!(reporting $owner, c"tp_dealloc",
                (this: *mut pyo3::ffi::PyObject) -> (), (),
                // SAFETY: called when the last reference to an instance is gone.
                unsafe { $crate::cpython::class::life::dealloc::<$class>(this) }) as *mut _),
        ];
        if <$class as $crate::cpython::Class>::FINALIZED {
            #[allow(unsafe_code)]
            slots.push(type_slot!($class, pyo3::ffi::Py_tp_finalize, entry!(reporting $owner, c"tp_finalize",
                (this: *mut pyo3::ffi::PyObject) -> (), (),
                // SAFETY: called on an instance that is about to go.
                unsafe { $crate::cpython::class::life::finalize::<$class>(this) }) as *mut _));
        }
        $(class_slots!(@ $kind slots, $class, $owner, $function);)*
        slots
    }};
    (@ init $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_tp_init, entry!(raising $owner, c"tp_init",
            (this: *mut pyo3::ffi::PyObject, arguments: *mut pyo3::ffi::PyObject,
             keywords: *mut pyo3::ffi::PyObject) -> std::ffi::c_int, -1,
            // SAFETY: called with an instance, a tuple, and a dictionary or NULL.
            $crate::cpython::spec::give_status(unsafe {
                $function(
                    $crate::cpython::Inst::<$class>::from_ptr(this),
                    $crate::cpython::tables::tuple_and_dict(arguments, keywords),
                )
            })) as *mut _));
    };
    (@ repr $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_tp_repr, c"tp_repr", $slots, $class, $owner, $function);
    };
    (@ str $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_tp_str, c"tp_str", $slots, $class, $owner, $function);
    };
    (@ iter $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_tp_iter, c"tp_iter", $slots, $class, $owner, $function);
    };
    (@ awaits $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_am_await, c"am_await", $slots, $class, $owner, $function);
    };
    (@ aiter $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_am_aiter, c"am_aiter", $slots, $class, $owner, $function);
    };
    (@ anext $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@ Py_am_anext, c"am_anext", $slots, $class, $owner, $function);
    };
    (@ bind $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_tp_descr_get, entry!(raising $owner, c"tp_descr_get",
            (this: *mut pyo3::ffi::PyObject, instance: *mut pyo3::ffi::PyObject, _class: *mut pyo3::ffi::PyObject)
            -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
            // SAFETY: called with an instance of the class, and the object that it is a method of, or NULL.
            $crate::cpython::spec::give(unsafe {
                $function(
                    $crate::cpython::Inst::<$class>::from_ptr(this),
                    $crate::cpython::tables::argument_or_none(instance),
                )
            })) as *mut _));
    };
    (@ setattr $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_tp_setattro, entry!(raising $owner, c"tp_setattro",
            (this: *mut pyo3::ffi::PyObject, name: *mut pyo3::ffi::PyObject, value: *mut pyo3::ffi::PyObject)
            -> std::ffi::c_int, -1,
            // SAFETY: called with an instance, a string, and a value or NULL for deletion.
            $crate::cpython::spec::give_status(unsafe {
                $function(
                    $crate::cpython::Inst::<$class>::from_ptr(this),
                    $crate::cpython::tables::argument(name),
                    $crate::cpython::tables::argument_or_none(value),
                )
            })) as *mut _));
    };
    (@ call $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_tp_call, entry!(raising $owner, c"tp_call",
            (this: *mut pyo3::ffi::PyObject, arguments: *mut pyo3::ffi::PyObject,
             keywords: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
            // SAFETY: called with an instance, a tuple, and a dictionary or NULL.
            $crate::cpython::spec::give(unsafe {
                $function(
                    $crate::cpython::Inst::<$class>::from_ptr(this),
                    $crate::cpython::tables::tuple_and_dict(arguments, keywords),
                )
            })) as *mut _));
    };
    (@ next $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@@ give_next, $slots, $class, $owner, $function);
    };
    (@ awaited_next $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        class_slots!(@@@ give_awaited, $slots, $class, $owner, $function);
    };
    (@@@ $give:ident, $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_tp_iternext, entry!(raising $owner, c"tp_iternext",
            (this: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
            // SAFETY: called with an instance.
            $crate::cpython::coroutine::$give(unsafe {
                $function($crate::cpython::Inst::<$class>::from_ptr(this))
            })) as *mut _));
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::Py_am_send, entry!(raising $owner, c"am_send",
            (this: *mut pyo3::ffi::PyObject, _value: *mut pyo3::ffi::PyObject,
             result: *mut *mut pyo3::ffi::PyObject) -> pyo3::ffi::PySendResult,
            pyo3::ffi::PySendResult::PYGEN_ERROR,
            // SAFETY: called with an instance and a place for the result.
            unsafe {
                $crate::cpython::coroutine::give_sent(
                    $function($crate::cpython::Inst::<$class>::from_ptr(this)), result)
            }) as *mut _));
    };
    (@@ $number:ident, $name:literal, $slots:ident, $class:ty, $owner:literal, $function:expr) => {
        #[allow(unsafe_code)]
        $slots.push(type_slot!($class, pyo3::ffi::$number, entry!(raising $owner, $name,
            (this: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
            // SAFETY: called with an instance.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::Inst::<$class>::from_ptr(this))
            })) as *mut _));
    };
}

/// The function that CPython calls for an instance of a class that is [`Class::CALLED`](super::Class::CALLED), by
/// `fn(&Inst<T>, vectorcall's arguments) -> Fallible<Ref>`.
macro_rules! vectorcall_entry {
    ($class:ty, $owner:literal, $function:expr) => {
        entry!(raising $owner, c"vectorcall",
            (this: *mut pyo3::ffi::PyObject, arguments: *const *mut pyo3::ffi::PyObject, count: usize,
             names: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject, std::ptr::null_mut(),
            // SAFETY: called with an instance, and arguments that are passed on as they are.
            $crate::cpython::spec::give(unsafe {
                $function($crate::cpython::Inst::<$class>::from_ptr(this), arguments, count, names)
            }))
    };
}

/// # Safety
/// `pointer` is a live object for the call that it is an argument of.
#[inline]
pub unsafe fn argument<'a>(pointer: *mut ffi::PyObject) -> &'a Obj {
    // SAFETY: by contract.
    unsafe { Obj::from_ptr(pointer) }
}

/// # Safety
/// As for [`argument`], or NULL.
#[inline]
pub unsafe fn argument_or_none<'a>(pointer: *mut ffi::PyObject) -> Option<&'a Obj> {
    // SAFETY: by contract.
    unsafe { Obj::from_ptr_or_null(pointer) }
}

/// # Safety
/// The arguments of a vectorcall.
#[inline]
pub unsafe fn vector<'a>(
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> Args<'a> {
    // SAFETY: by contract.
    unsafe { Args::from_vectorcall(arguments, count, names) }
}

/// # Safety
/// A tuple, and a dictionary or NULL.
pub unsafe fn tuple_and_dict<'a>(arguments: *mut ffi::PyObject, keywords: *mut ffi::PyObject) -> Args<'a> {
    // SAFETY: by contract.
    unsafe { Args::from_tuple_and_dict(arguments, keywords) }
}
