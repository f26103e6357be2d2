//! What a peer makes us say without the program: new keys, refusals of new handshakes.
//!
//! A peer that asks for it and never reads would have us keep the answers without bound, since reading goes on while
//! writing is paused, as it must. So when nothing more can be sent, what reading adds to what waits is counted; and once
//! it is more than anybody asks for in earnest, the transport underneath reads no more until it could send again.

use std::cell::Cell;

use crate::cpython::object;
use crate::cpython::{Fallible, Inst};

use super::{TlsCore, engine, reading};

/// So many bytes of answers may wait: of keys, about three thousand.
const MOST: usize = 64 * 1024;

/// Counts while nothing can be sent.
#[derive(Debug, Default)]
pub struct Answers {
    /// Bytes that wait.
    waiting: Cell<usize>,
    /// Bytes that writing has made.
    written: Cell<usize>,
}

impl Answers {
    /// Whether reading stops.
    pub fn are_too_many(&self) -> bool {
        self.waiting.get() > MOST
    }
}

/// Does the work, which reads; what it adds is answers but for what the program writes meanwhile.
#[cold]
pub fn counted(this: &Inst<TlsCore>, work: impl FnOnce() -> Fallible<()>) -> Fallible<()> {
    let answers = &this.answers;
    let (before, written) = (engine::outgoing(this)?, answers.written.get());
    work()?;
    if !this.fields.transport_writing_paused.get() {
        return Ok(());
    }
    let added = engine::outgoing(this)?.saturating_sub(before);
    let added = added.saturating_sub(answers.written.get().wrapping_sub(written));
    answers.waiting.set(answers.waiting.get() + added);
    if answers.are_too_many() && !this.fields.transport_reading_paused.get() {
        this.fields.transport_reading_paused.set(true);
        let underneath = this.fields.transport.get_or_none();
        underneath.call_method(&*object::interned(c"pause_reading")?, &[])?;
    }
    Ok(())
}

/// Does the work, which writes for the program.
#[cold]
pub fn not_counted<T>(this: &Inst<TlsCore>, work: impl FnOnce() -> Fallible<T>) -> Fallible<T> {
    let before = engine::outgoing(this)?;
    let outcome = work()?;
    let written = &this.answers.written;
    written.set(written.get().wrapping_add(engine::outgoing(this)?.saturating_sub(before)));
    Ok(outcome)
}

/// Everything that has waited was handed to the transport underneath.
#[inline]
pub fn sent(this: &Inst<TlsCore>) -> Fallible<()> {
    let stopped = this.answers.are_too_many();
    this.answers.waiting.set(0);
    if stopped { reading::control_transport(this) } else { Ok(()) }
}
