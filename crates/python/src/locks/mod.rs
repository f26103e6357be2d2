//! asyncio's locks, one file each.
//!
//! Their methods go the short way on an instance of exactly the class that nobody has given attributes; on others,
//! which a program may have changed, they go through the names that asyncio's go through.

pub mod barrier;
pub mod condition;
pub mod context_manager;
pub mod count;
pub mod event;
pub mod lock;
pub mod semaphore;

use crate::cpython::Fallible;
use crate::cpython::module::Module;

/// Makes the classes.
pub fn define(module: &Module<'_>) -> Fallible<()> {
    module.add(c"Lock", &*lock::define()?)?;
    module.add(c"Event", &*event::define()?)?;
    module.add(c"Condition", &*condition::define()?)?;
    let (semaphore, bounded) = semaphore::define()?;
    module.add(c"Semaphore", &semaphore)?;
    module.add(c"BoundedSemaphore", &bounded)?;
    module.add(c"Barrier", &*barrier::define()?)
}

/// A slot-only class: its home, and its place in the collector's rounds.
macro_rules! lock_class {
    ($class:ty, $name:literal, $fresh:expr; $($field:ident),*) => {
        static HOME: $crate::cpython::Home = $crate::cpython::Home::new();

        impl $crate::cpython::Class for $class {
            const NAME: &'static std::ffi::CStr = $name;
            const DICT: bool = true;

            fn home() -> &'static $crate::cpython::Home {
                &HOME
            }

            fn fresh() -> $class {
                $fresh
            }

            fn traverse(this: &$crate::cpython::Inst<$class>, visitor: &mut $crate::cpython::Visitor<'_>) {
                $(this.$field.traverse(visitor);)*
            }

            fn clear(this: &$crate::cpython::Inst<$class>) {
                $(this.$field.clear();)*
            }
        }

        impl $class {
            /// The instance whose operation this is.
            #[inline]
            fn of<R>(
                operation: &$crate::cpython::Inst<$crate::operation::Operation>,
                work: impl FnOnce(&$crate::cpython::Inst<$class>) -> $crate::cpython::Fallible<R>,
            ) -> $crate::cpython::Fallible<R> {
                let owner = operation.owner.get_or_none();
                match $crate::cpython::Inst::<$class>::of(&owner) {
                    Some(this) => work(this),
                    None => Err($crate::cpython::Raised::runtime_error("the operation has no owner")),
                }
            }
        }
    };
}

/// The attributes `_waiters` and `_loop`, as asyncio's classes have them.
macro_rules! waiting_attributes {
    ($class:ty, $owner:literal, $show:ident) => {
        class_attributes!($class, $owner;
            c"_waiters" => |this: &$crate::cpython::Inst<$class>| this.waiters.$show(),
                |this: &$crate::cpython::Inst<$class>, value: Option<&$crate::cpython::Obj>|
                    this.waiters.replace(value);
            c"_loop" => |this: &$crate::cpython::Inst<$class>| Ok(this.bound.0.get_or_none()),
                |this: &$crate::cpython::Inst<$class>, value: Option<&$crate::cpython::Obj>| {
                    this.bound.set(value);
                    Ok(())
                };
        )
    };
}

/// The method `_get_loop`, which subclasses use.
macro_rules! get_loop_method {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"_get_loop" => none |this: &$crate::cpython::Inst<$class>| this.bound.get(this.obj()),
                c"_get_loop($self, /)\n--\n\nReturn the running loop, which has to be the one that this is bound to.";
        )
    };
}

use {get_loop_method, lock_class, waiting_attributes};
