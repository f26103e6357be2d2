//! Flow control: telling the protocol to stop writing above the high-water mark, and to go on below the low one.

use std::cell::Cell;

use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::{stops_the_loop, while_handling};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature, Slot};
use crate::state::state;

use super::closing;
use super::stream::Writing;

/// asyncio's: 64 KiB, and a quarter of it.
const HIGH: usize = 64 * 1024;
const LOW: usize = HIGH / 4;

/// The two marks, as they were given (any number will do), and as sizes to compare with.
#[derive(Debug)]
pub struct Limits {
    high: Mark,
    low: Mark,
    /// `pause_writing` was called, and `resume_writing` not yet.
    paused: Cell<bool>,
}

#[derive(Debug)]
struct Mark {
    given: Slot,
    /// The largest size that is not above it.
    size: Cell<usize>,
}

impl Mark {
    fn at(size: usize) -> Mark {
        Mark { given: Slot::empty(), size: Cell::new(size) }
    }

    fn set(&self, value: &Obj) -> Fallible<()> {
        let number = match value.to_f64() {
            Err(raised) if raised.matches(object::overflow_error()) => {
                raised.discard();
                f64::INFINITY
            }
            number => number?,
        };
        // Truncation is what is wanted, and saturates; NaN is above nothing.
        self.size.set(number as usize);
        self.given.set(value.own());
        Ok(())
    }

    fn reset(&self, size: usize) -> Fallible<()> {
        self.size.set(size);
        self.given.set(object::int(size as i64)?);
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { high: Mark::at(HIGH), low: Mark::at(LOW), paused: Cell::new(false) }
    }
}

impl Limits {
    /// The marks that a transport begins with.
    pub fn reset(&self) -> Fallible<()> {
        self.high.reset(HIGH)?;
        self.low.reset(LOW)
    }

    /// What it owns.
    pub fn slots(&self) -> [&Slot; 2] {
        [&self.high.given, &self.low.given]
    }
}

/// Tells the protocol to stop writing, if there is more than the high-water mark and it has not been told.
#[inline]
pub fn maybe_pause<T: Writing>(this: &Inst<T>) -> Fallible<()> {
    if this.limits.paused.get() || T::kept(this) <= this.limits.high.size.get() {
        return Ok(());
    }
    this.limits.paused.set(true);
    tell(this, &state().names.pause_writing, "protocol.pause_writing() failed")
}

/// Tells the protocol to go on writing, if it has been told to stop and there is no more than the low-water mark.
#[inline]
pub fn maybe_resume<T: Writing>(this: &Inst<T>) -> Fallible<()> {
    if !this.limits.paused.get() || T::kept(this) > this.limits.low.size.get() {
        return Ok(());
    }
    this.limits.paused.set(false);
    tell(this, &state().names.resume_writing, "protocol.resume_writing() failed")
}

fn tell<T: Writing>(this: &Inst<T>, method: &Obj, failed: &str) -> Fallible<()> {
    let protocol = this.protocol.get_or_none();
    let Err(raised) = protocol.call_method(method, &[]) else { return Ok(()) };
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    while_handling(&exception, || closing::report(this, failed, &exception))
}

pub fn py_set_limits<T: Writing>(this: &Inst<T>, args: Args<'_>) -> Fallible<Ref> {
    let [high, low] = args.parse(&Signature {
        function: "set_write_buffer_limits",
        names: ["high", "low"],
        positional: 2,
        required: 0,
    })?;
    // asyncio's own function, which sets `_high_water` and `_low_water`.
    let (high, low) = (high.unwrap_or(none()), low.unwrap_or(none()));
    state().set_write_buffer_limits.call(&[this.obj(), high, low])?;
    maybe_pause(this)?;
    Ok(none().own())
}

pub fn py_get_limits<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    object::tuple(&[&*py_low(this)?, &*py_high(this)?])
}

pub fn py_get_size<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    object::int(T::kept(this) as i64)
}

pub fn py_high<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.limits.high.given.get_or_none())
}

pub fn py_low<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(this.limits.low.given.get_or_none())
}

pub fn py_set_high<T: Writing>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    this.limits.high.set(value.unwrap_or(none()))
}

pub fn py_set_low<T: Writing>(this: &Inst<T>, value: Option<&Obj>) -> Fallible<()> {
    this.limits.low.set(value.unwrap_or(none()))
}

pub fn py_paused<T: Writing>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(this.limits.paused.get()).own())
}

/// The methods of this file, for a class of transports.
macro_rules! flow_methods {
    ($class:ty, $owner:literal) => {
        class_methods!($class, $owner;
            c"set_write_buffer_limits" => any $crate::transport::flow::py_set_limits,
                c"set_write_buffer_limits($self, high=None, low=None)\n--\n\nSet the high- and low-water marks for \
                  writing, in bytes; without them they are 64 KiB, and a quarter of the high one.";
            c"get_write_buffer_limits" => none $crate::transport::flow::py_get_limits,
                c"get_write_buffer_limits($self, /)\n--\n\nReturn the low- and the high-water mark.";
            c"get_write_buffer_size" => none $crate::transport::flow::py_get_size,
                c"get_write_buffer_size($self, /)\n--\n\nReturn how many bytes wait to be sent.";
        )
    };
}

/// The attributes of this file.
macro_rules! flow_attributes {
    ($class:ty, $owner:literal) => {
        class_attributes!($class, $owner;
            c"_high_water" => $crate::transport::flow::py_high, $crate::transport::flow::py_set_high;
            c"_low_water" => $crate::transport::flow::py_low, $crate::transport::flow::py_set_low;
            c"_protocol_paused" => $crate::transport::flow::py_paused;
        )
    };
}

pub(super) use {flow_attributes, flow_methods};
