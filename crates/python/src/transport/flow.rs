//! Flow control: telling the protocol to stop writing above the high-water mark, and to go on below the low one.

use std::cell::Cell;

use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::stops_the_loop;
use crate::cpython::spec::{Attribute, Method};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature, Slot};
use crate::state::state;

use super::{SocketTransport, closing};

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
pub fn maybe_pause(this: &Inst<SocketTransport>) -> Fallible<()> {
    if this.limits.paused.get() || this.outgoing.borrow().size() <= this.limits.high.size.get() {
        return Ok(());
    }
    this.limits.paused.set(true);
    tell(this, &state().names.pause_writing, "protocol.pause_writing() failed")
}

/// Tells the protocol to go on writing, if it has been told to stop and there is no more than the low-water mark.
#[inline]
pub fn maybe_resume(this: &Inst<SocketTransport>) -> Fallible<()> {
    if !this.limits.paused.get() || this.outgoing.borrow().size() > this.limits.low.size.get() {
        return Ok(());
    }
    this.limits.paused.set(false);
    tell(this, &state().names.resume_writing, "protocol.resume_writing() failed")
}

fn tell(this: &Inst<SocketTransport>, method: &Obj, failed: &str) -> Fallible<()> {
    let protocol = this.protocol.get_or_none();
    let Err(raised) = protocol.call_method(method, &[]) else { return Ok(()) };
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    closing::report(this, failed, &exception)
}

fn py_set_limits(this: &Inst<SocketTransport>, args: Args<'_>) -> Fallible<Ref> {
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

fn py_get_limits(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    object::tuple(&[&*py_low(this)?, &*py_high(this)?])
}

fn py_get_size(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    object::int(this.outgoing.borrow().size() as i64)
}

fn py_high(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.limits.high.given.get_or_none())
}

fn py_low(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(this.limits.low.given.get_or_none())
}

fn py_set_high(this: &Inst<SocketTransport>, value: Option<&Obj>) -> Fallible<()> {
    this.limits.high.set(value.unwrap_or(none()))
}

fn py_set_low(this: &Inst<SocketTransport>, value: Option<&Obj>) -> Fallible<()> {
    this.limits.low.set(value.unwrap_or(none()))
}

fn py_paused(this: &Inst<SocketTransport>) -> Fallible<Ref> {
    Ok(boolean(this.limits.paused.get()).own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<SocketTransport>> {
    class_methods!(SocketTransport, "SocketTransport";
        c"set_write_buffer_limits" => any py_set_limits,
            c"set_write_buffer_limits($self, high=None, low=None)\n--\n\nSet the high- and low-water marks for \
              writing, in bytes; without them they are 64 KiB, and a quarter of the high one.";
        c"get_write_buffer_limits" => none py_get_limits,
            c"get_write_buffer_limits($self, /)\n--\n\nReturn the low- and the high-water mark.";
        c"get_write_buffer_size" => none py_get_size,
            c"get_write_buffer_size($self, /)\n--\n\nReturn how many bytes wait to be sent.";
    )
}

/// The attributes of this file.
pub fn attributes() -> Vec<Attribute<SocketTransport>> {
    class_attributes!(SocketTransport, "SocketTransport";
        c"_high_water" => py_high, py_set_high;
        c"_low_water" => py_low, py_set_low;
        c"_protocol_paused" => py_paused;
    )
}
