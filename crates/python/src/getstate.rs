//! `__getstate__`: what `copy` and `pickle` keep of a lock, an event or a queue.
//!
//! asyncio's are plain objects, so that a program can copy what holds them (`dataclasses.asdict`, `copy.deepcopy`), as
//! long as nobody has had to wait. What is native in ours is set by its names, as slots are; what it is made of decides
//! whether it can be copied.

use std::ffi::CStr;

use crate::cpython::object::{self, none};
use crate::cpython::{Class, Fallible, Inst, Ref};

/// The instance's own attributes, if it has any, and what is native.
pub fn state_of<T: Class>(this: &Inst<T>, names: &[&CStr]) -> Fallible<Ref> {
    let native = object::dict(&[])?;
    for name in names {
        let name = object::interned(name)?;
        if let Some(value) = this.obj().get_if_there(&name)? {
            object::dict_set(&native, &name, &value)?;
        }
    }
    let own = match this.has_dict() {
        true => this.obj().get(&*object::interned(c"__dict__")?)?,
        false => none().own(),
    };
    object::tuple(&[&own, &native])
}

/// The method, for attributes of these names.
macro_rules! getstate_method {
    ($class:ty, $owner:literal; $($name:literal),*) => {
        class_methods!($class, $owner;
            c"__getstate__" => none |this: &$crate::cpython::Inst<$class>|
                $crate::getstate::state_of(this, &[$($name),*]),
                c"__getstate__($self, /)\n--\n\nReturn what is to be copied or pickled.";
        )
    };
}

pub(crate) use getstate_method;
