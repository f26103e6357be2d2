//! asyncio's streams: `StreamReader`, `StreamWriter` and the protocol that feeds the one and slows down the other.
//!
//! What runs per message is here. What runs once per connection (`connection_made` with the task of
//! `client_connected_cb`, `start_tls`, `__del__`, `__repr__`) is inherited: `velodrome.StreamReader` and the others
//! are made in the package over two bases each, ours and asyncio's, so that they are asyncio's by `isinstance` and answer
//! in everything else as those of the Python underneath do.
//!
//! What must stay true:
//!
//! * Every attribute that asyncio's code uses is an attribute of ours, and shows what is there just now: asyncio's
//!   methods and ours can take turns on one object.
//! * A method whose asyncio counterpart calls other methods of the object goes the short way only while those are ours
//!   (`methods`); otherwise asyncio's own function runs.
//! * An object whose `__dict__` somebody has looked at has its attributes there from then on, and so has from the
//!   beginning one of a class that has given an attribute another meaning (`shown`). asyncio's own functions then do
//!   everything that depends on them.

mod buffer;
mod methods;
mod protocol;
mod reader;
mod reading;
mod separator;
mod shown;
mod writer;

use std::ffi::CStr;

use crate::cpython::module::Module;
use crate::cpython::object;
use crate::cpython::{Fallible, Obj, Raised, Ref, Slot};

pub use protocol::{StreamReaderProtocol, receive};

/// Makes the classes.
pub fn define(module: &Module<'_>) -> Fallible<()> {
    module.add(c"StreamReaderCore", &*reader::define()?)?;
    module.add(c"StreamWriterCore", &*writer::define()?)?;
    module.add(c"StreamReaderProtocolCore", &*protocol::define()?)
}

/// An attribute that exists once it was set.
#[inline]
fn set_attribute(this: &Obj, slot: &Slot, name: &str) -> Fallible<Ref> {
    slot.get().ok_or_else(|| no_attribute(this, name))
}

/// What an attribute holds, natively or wherever else it is.
#[inline]
fn held(this: &Obj, slot: &Slot, name: &CStr) -> Fallible<Ref> {
    match slot.get() {
        Some(value) => Ok(value),
        None => elsewhere(this, name),
    }
}

#[cold]
fn elsewhere(this: &Obj, name: &CStr) -> Fallible<Ref> {
    this.get(&*object::interned(name)?)
}

#[cold]
fn no_attribute(this: &Obj, name: &str) -> Raised {
    let class = this.class_name();
    Raised::new(object::attribute_error(), &format!("'{class}' object has no attribute '{name}'"))
}

/// What an `assert` of asyncio's does that does not hold: nothing where Python leaves them out.
#[cold]
fn not_asserted(message: &str) -> Fallible<()> {
    let flags = object::import(c"sys")?.get(&*object::interned(c"flags")?)?;
    if flags.get(&*object::interned(c"optimize")?)?.truthy()? {
        return Ok(());
    }
    let class = object::assertion_error();
    Err(if message.is_empty() { Raised::bare(class) } else { Raised::new(class, message) })
}

/// `slot = value`, where none is a deletion.
fn assign(slot: &Slot, value: Option<&Obj>) {
    match value {
        Some(value) => slot.set(value.own()),
        None => slot.clear(),
    }
}

/// The same for a slot that is empty where Python has `None`.
fn assign_or_none(slot: &Slot, value: Option<&Obj>) {
    assign(slot, value.filter(|value| !value.is_none()));
}

/// Attributes kept in slots: `required` ones are missing until they are set, `optional` ones are `None`.
macro_rules! slot_attributes {
    ($class:ty, $owner:literal; $($name:literal => $kind:ident $slot:ident;)*) => {
        class_attributes!($class, $owner; $(
            $name => |this: &$crate::cpython::Inst<$class>| {
                    if $crate::streams::shown::is_shown(this) {
                        return $crate::streams::slot_attributes!(@ shown $kind this, $name);
                    }
                    $crate::streams::slot_attributes!(@ get $kind this, $slot, $name)
                },
                |this: &$crate::cpython::Inst<$class>, value: Option<&$crate::cpython::Obj>| {
                    if $crate::streams::shown::is_shown(this) {
                        return $crate::streams::shown::set(this.obj(), $name, value);
                    }
                    $crate::streams::slot_attributes!(@ set $kind this, $slot, value);
                    Ok(())
                };
        )*)
    };
    (@ shown required $this:ident, $name:literal) => { $crate::streams::shown::get($this.obj(), $name) };
    (@ shown optional $this:ident, $name:literal) => { $crate::streams::shown::get_or_none($this.obj(), $name) };
    (@ get required $this:ident, $slot:ident, $name:literal) => {
        $crate::streams::set_attribute($this.obj(), &$this.$slot, $name.to_str().unwrap_or_default())
    };
    (@ get optional $this:ident, $slot:ident, $name:literal) => { Ok($this.$slot.get_or_none()) };
    (@ set required $this:ident, $slot:ident, $value:ident) => { $crate::streams::assign(&$this.$slot, $value) };
    (@ set optional $this:ident, $slot:ident, $value:ident) => {
        $crate::streams::assign_or_none(&$this.$slot, $value)
    };
}

/// Attributes kept as flags.
macro_rules! flag_attributes {
    ($class:ty, $owner:literal; $($name:literal => $flag:ident;)*) => {
        class_attributes!($class, $owner; $(
            $name => |this: &$crate::cpython::Inst<$class>| {
                    if $crate::streams::shown::is_shown(this) {
                        return $crate::streams::shown::get(this.obj(), $name);
                    }
                    Ok($crate::cpython::object::boolean(this.$flag.get()).own())
                },
                |this: &$crate::cpython::Inst<$class>, value: Option<&$crate::cpython::Obj>| {
                    if $crate::streams::shown::is_shown(this) {
                        return $crate::streams::shown::set(this.obj(), $name, value);
                    }
                    this.$flag.set(value.map_or(Ok(false), $crate::cpython::Obj::truthy)?);
                    Ok(())
                };
        )*)
    };
}

use {flag_attributes, slot_attributes};
