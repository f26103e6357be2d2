//! Reading and writing the connection: natively, or through the methods of its `SSLObject`.

use std::cell::Cell;

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object;
use crate::cpython::openssl::{RECORD, Reading};
use crate::cpython::raised::Raised;
use crate::cpython::{Fallible, Inst, Obj, Ref};
use crate::event_loop::EventLoop;
use crate::state::state;

use super::{TlsCore, settings};

thread_local! {
    /// Memory for plaintext, which stays warm. It is taken out while it is used, because OpenSSL can call Python.
    static SPACE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is kept of that memory.
const KEPT: usize = 512 * 1024;

/// Everything that can be read now, and whether the peer has ended its side.
#[derive(Debug)]
pub struct Plain {
    pub data: Option<Ref>,
    pub closed: bool,
}

/// Reads all that there is. None: natively it failed, and only asyncio's method can say how.
#[inline]
pub fn read(this: &Inst<TlsCore>) -> Fallible<Option<Plain>> {
    if !this.session.is_native() {
        return read_by_method(this).map(Some);
    }
    let incoming = incoming(this)?;
    if incoming > RECORD { read_much(this, incoming) } else { read_little(this) }
}

/// Reads into memory that is copied, which is at hand.
#[inline]
fn read_little(this: &Inst<TlsCore>) -> Fallible<Option<Plain>> {
    let mut space = SPACE.take();
    space.clear();
    let end = this.session.read_all(&mut space);
    let data = match end {
        _ if space.is_empty() => Ok(None),
        Reading::Failed => Ok(None),
        _ => match Inst::<EventLoop>::of(&this.fields.event_loop.get_or_none()) {
            Some(event_loop) => event_loop.spare.make(&space),
            None => bytes::bytes(&space),
        }
        .map(Some),
    };
    space.clear();
    space.shrink_to(KEPT);
    SPACE.set(space);
    match end {
        Reading::Failed => Ok(None),
        end => Ok(Some(Plain { data: data?, closed: end == Reading::Closed })),
    }
}

/// Reads into the object that is handed over.
fn read_much(this: &Inst<TlsCore>, incoming: usize) -> Fallible<Option<Plain>> {
    // What is encrypted is longer than what it says; of what was taken in before, a record at most is left.
    let (data, end) = this.session.read_bytes(incoming + RECORD)?;
    if end == Reading::Failed {
        return Ok(None);
    }
    let data = if data.truthy()? { Some(data) } else { None };
    Ok(Some(Plain { data, closed: end == Reading::Closed }))
}

fn read_by_method(this: &Inst<TlsCore>) -> Fallible<Plain> {
    let names = &state().names;
    let ssl_object = this.fields.ssl_object.get_or_none();
    let most = object::int(256 * 1024)?;
    let mut chunks = Vec::new();
    let closed = loop {
        if this.plain.get() && is_starved(this, &ssl_object)? {
            break false;
        }
        match ssl_object.call_method(&names.read, &[&most]) {
            Ok(chunk) if chunk.truthy()? => chunks.push(chunk),
            Ok(_end) => break true,
            Err(raised) => match unless_again(raised) {
                Ok(()) => break false,
                Err(raised) => return Err(raised),
            },
        }
    };
    let data = match &chunks[..] {
        [] => None,
        [only] => Some(only.clone()),
        many => Some(bytes::bytes(&[])?.call_method(&*object::interned(c"join")?, &[&*object::list(many)?])?),
    };
    Ok(Plain { data, closed })
}

/// Whether the next read could only raise that it wants more: that spares making the exception.
fn is_starved(this: &Inst<TlsCore>, ssl_object: &Obj) -> Fallible<bool> {
    Ok(pending_by_method(&this.fields.incoming.get_or_none())? == 0
        && !ssl_object.call_method(&state().names.pending_method, &[])?.truthy()?)
}

fn pending_by_method(bio: &Obj) -> Fallible<usize> {
    Ok(usize::try_from(bio.get(&state().names.pending_method)?.to_i64()?).unwrap_or(0))
}

/// Forgets the exception if it only says that more has to come in, or go out, first.
fn unless_again(raised: Raised) -> Fallible<()> {
    if raised.matches(&settings().again_errors) {
        raised.discard();
        return Ok(());
    }
    Err(raised)
}

/// How much came in and was not read yet.
#[inline]
pub fn incoming(this: &Inst<TlsCore>) -> Fallible<usize> {
    match this.session.pending() {
        Some((incoming, _)) => Ok(incoming),
        None => pending_by_method(&this.fields.incoming.get_or_none()),
    }
}

/// How much is encrypted and not sent.
#[inline]
pub fn outgoing(this: &Inst<TlsCore>) -> Fallible<usize> {
    match this.session.pending() {
        Some((_, outgoing)) => Ok(outgoing),
        None => pending_by_method(&this.fields.outgoing.get_or_none()),
    }
}

/// Takes out what is encrypted and not sent.
#[inline]
pub fn take_outgoing(this: &Inst<TlsCore>) -> Fallible<Option<Ref>> {
    if this.session.is_native() {
        return this.session.take_outgoing();
    }
    let data = this.fields.outgoing.get_or_none().call_method(&state().names.read, &[])?;
    Ok(data.truthy()?.then_some(data))
}

/// How much of the data was encrypted; none of it if something has to come in first.
#[inline]
pub fn write(this: &Inst<TlsCore>, data: &Obj) -> Fallible<Option<usize>> {
    if let Some(content) = bytes::of_exact(data) {
        if this.session.write(content) {
            return Ok(Some(content.len()));
        }
    } else if this.session.is_native() && bytes::is_bytes_like(data) {
        match Buffer::readable(data) {
            Ok(buffer) => {
                if this.session.write(buffer.content()) {
                    return Ok(Some(buffer.len()));
                }
            }
            // The method says what is wrong with it.
            Err(raised) => raised.discard(),
        }
    }
    let written = this.fields.ssl_object.get_or_none().call_method(&state().names.write, &[data]);
    match written {
        Ok(count) => Ok(Some(usize::try_from(count.to_i64()?).unwrap_or(0))),
        Err(raised) => unless_again(raised).map(|()| None),
    }
}
