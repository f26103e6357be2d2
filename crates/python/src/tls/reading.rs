//! From ciphertext to the protocol.

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, none};
use crate::cpython::openssl::Reading;
use crate::cpython::spec::Method;
use crate::cpython::{Fallible, Inst, Obj, Ref};
use crate::event_loop::EventLoop;
use crate::state::state;
use crate::streams::{self, StreamReaderProtocol};

use super::state::Stage;
use super::{TlsCore, answers, engine, failing, writing};

/// What became of ciphertext.
#[derive(Debug)]
pub enum Fed {
    /// It is where the connection reads from.
    Taken,
    /// Only a method can take it.
    Kept(Fallible<Ref>),
}

/// Ciphertext came in; runs no Python. [`dispatch`] comes next.
#[inline]
pub fn feed(this: &Inst<TlsCore>, content: &[u8]) -> Fed {
    if this.session.feed(content) { Fed::Taken } else { Fed::Kept(bytes::bytes(content)) }
}

/// The same by the method of the memory BIO.
pub fn feed_object(this: &Inst<TlsCore>, content: &Obj) -> Fallible<()> {
    this.fields.incoming.get_or_none().call_method(&state().names.write, &[content]).map(drop)
}

/// Does with what came in what the state of the connection asks for.
#[inline]
pub fn dispatch(this: &Inst<TlsCore>) -> Fallible<()> {
    let name = match this.fields.stage.get() {
        Stage::Wrapped => return read(this),
        Stage::Handshake => c"_do_handshake",
        Stage::Flushing => c"_do_flush",
        Stage::Shutdown => c"_do_shutdown",
        Stage::Unwrapped | Stage::Unknown => return Ok(()),
    };
    this.call(&*object::interned(name)?)
}

/// `_do_read()`.
fn read(this: &Inst<TlsCore>) -> Fallible<()> {
    if !matches!(this.fields.stage.get(), Stage::Wrapped | Stage::Flushing) {
        return Ok(());
    }
    if this.fields.transport_writing_paused.get() {
        return answers::counted(this, || failing(this, read_and_answer(this)));
    }
    failing(this, read_and_answer(this))
}

#[inline]
fn read_and_answer(this: &Inst<TlsCore>) -> Fallible<()> {
    if !this.fields.reading_paused.get() {
        if !this.fields.protocol_is_buffered.get() {
            read_data(this)?;
        } else if this.session.is_native() {
            read_into_buffer(this)?;
        } else {
            this.call(&*object::interned(c"_do_read__buffered")?)?;
        }
        if this.has_backlog()? {
            writing::write_backlog(this)?;
        } else {
            writing::send(this)?;
        }
    }
    control_transport(this)
}

#[inline]
fn read_data(this: &Inst<TlsCore>) -> Fallible<()> {
    let Some(plain) = engine::read(this)? else {
        return this.call(&*object::interned(c"_do_read__copied")?);
    };
    if let Some(data) = plain.data {
        let protocol = this.fields.protocol.get_or_none();
        match Inst::<StreamReaderProtocol>::of(&protocol) {
            Some(_ours) => streams::receive(&protocol, &data)?,
            None => drop(protocol.call_method(&state().names.data_received, &[&data])?),
        }
        if let Some(event_loop) = Inst::<EventLoop>::of(&this.fields.event_loop.get_or_none()) {
            event_loop.spare.take_back(data);
        }
    }
    if plain.closed { end(this) } else { Ok(()) }
}

fn read_into_buffer(this: &Inst<TlsCore>) -> Fallible<()> {
    let names = &state().names;
    let hint = object::int(engine::incoming(this)? as i64)?;
    let space = this.obj().get(&*object::interned(c"_app_protocol_get_buffer")?)?.call(&[&hint])?;
    let (count, end_of_it) = match Buffer::writable(&space) {
        // Reading nothing is what asyncio takes for the end.
        Ok(buffer) if buffer.len() == 0 => (0, Reading::Closed),
        Ok(mut buffer) => this.session.read_into(&mut buffer),
        Err(raised) => {
            raised.discard();
            (0, Reading::Failed)
        }
    };
    match end_of_it {
        Reading::Failed => return this.call(&*object::interned(c"_do_read__buffered")?),
        Reading::Full => {
            let again = this.obj().get(&*object::interned(c"_do_read")?)?;
            this.fields.event_loop.get_or_none().call_method(&names.call_soon, &[&again])?;
        }
        _ => {}
    }
    if count > 0 {
        let count = object::int(count as i64)?;
        this.obj().get(&*object::interned(c"_app_protocol_buffer_updated")?)?.call(&[&count])?;
    }
    if end_of_it == Reading::Closed { end(this) } else { Ok(()) }
}

/// The peer has said that it will send no more.
#[cold]
fn end(this: &Inst<TlsCore>) -> Fallible<()> {
    this.call(&*object::interned(c"_call_eof_received")?)?;
    this.call(&*object::interned(c"_start_shutdown")?)
}

/// `_control_ssl_reading()`, which pauses and resumes the transport underneath.
#[inline]
pub fn control_transport(this: &Inst<TlsCore>) -> Fallible<()> {
    let (fields, size) = (&this.fields, engine::incoming(this)?);
    let paused = fields.transport_reading_paused.get();
    let drained = fields.incoming_low.is_undercut(size) && !this.answers.are_too_many();
    if fields.incoming_high.is_reached(size) && !paused || drained && paused {
        this.call(&*object::interned(c"_control_ssl_reading")?)?;
    }
    Ok(())
}

fn py_read(this: &Inst<TlsCore>) -> Fallible<Ref> {
    read(this)?;
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<TlsCore>> {
    class_methods!(TlsCore, "TlsCore";
        c"_do_read" => none py_read,
            c"_do_read($self, /)\n--\n\nHand over to the protocol what came in.";
    )
}
