//! Sockets that are not simply sockets: of a class that overrides how they receive or send, or no sockets at all but
//! something that behaves like one. They are read and written through their own methods, the ones that asyncio calls.
//!
//! What must stay true: no borrow is held here, since every call runs Python, which may do anything with the transport.

use crate::cpython::bytes;
use crate::cpython::object::{self, Obj, Ref};
use crate::cpython::{Fallible, Raised};
use crate::state::state;

/// `socket.recv(most)`; None if there is nothing to read just now.
#[cold]
pub fn receive(socket: &Obj, most: &Obj) -> Fallible<Option<Ref>> {
    unless_transient(socket.call_method(&*object::interned(c"recv")?, &[most]))
}

/// `socket.recv_into(space)`.
#[cold]
pub fn receive_into(socket: &Obj, space: &Obj) -> Fallible<Option<i64>> {
    let read = socket.call_method(&*object::interned(c"recv_into")?, &[space]);
    unless_transient(read.and_then(|count| count.to_i64()))
}

/// `socket.send(data)`; how many bytes it took.
#[cold]
pub fn send(socket: &Obj, data: &Obj) -> Fallible<Option<usize>> {
    count(socket.call_method(&*object::interned(c"send")?, &[data]))
}

/// Offers what is kept, of whose first chunk `sent` bytes have gone: from 3.12 on all of it by `sendmsg`.
#[cold]
pub fn flush(socket: &Obj, chunks: &[Ref], sent: usize) -> Fallible<Option<usize>> {
    let mut parts = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let content = bytes::of_exact(chunk).unwrap_or_default();
        let rest = if index == 0 { content.get(sent..).unwrap_or_default() } else { content };
        parts.push(if rest.len() == content.len() { chunk.clone() } else { bytes::bytes(rest)? });
    }
    if state().minor < 12 {
        let joined =
            bytes::bytes(&[])?.call_method(&*object::interned(c"join")?, &[&*object::list(&parts)?])?;
        return send(socket, &joined);
    }
    count(socket.call_method(&*object::interned(c"sendmsg")?, &[&*object::list(&parts)?]))
}

fn count(outcome: Fallible<Ref>) -> Fallible<Option<usize>> {
    let count = unless_transient(outcome.and_then(|count| count.to_i64()))?;
    Ok(count.map(|count| usize::try_from(count).unwrap_or(0)))
}

/// None for what only says that it is too early.
pub fn unless_transient<T>(outcome: Fallible<T>) -> Fallible<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(raised) if is_transient(&raised) => {
            raised.discard();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

fn is_transient(raised: &Raised) -> bool {
    raised.matches(object::blocking_io_error()) || raised.matches(object::interrupted_error())
}
