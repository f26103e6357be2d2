//! The fields of asyncio's `SSLProtocol` that decide what happens to a packet, kept where native code can see them.
//!
//! asyncio's methods find them under their names, through the attributes defined here, which come before what is in an
//! instance's dictionary. Whatever is assigned is what is read again.

use std::cell::Cell;

use crate::cpython::object::{self, boolean, none};
use crate::cpython::openssl::Session;
use crate::cpython::spec::Attribute;
use crate::cpython::{Fallible, Inst, Obj, Ref, Slot};

use super::{TlsCore, settings};

/// `SSLProtocolState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Unwrapped,
    Handshake,
    Wrapped,
    Flushing,
    Shutdown,
    /// Something that asyncio does not know, which only its methods can judge.
    Unknown,
}

const STAGES: [Stage; 5] =
    [Stage::Unwrapped, Stage::Handshake, Stage::Wrapped, Stage::Flushing, Stage::Shutdown];

/// A mark of flow control: what was given, and a number to compare with.
#[derive(Debug, Default)]
pub struct Mark {
    given: Slot,
    size: Cell<f64>,
}

impl Mark {
    fn set(&self, value: &Obj) -> Fallible<()> {
        let size = match value.to_f64() {
            Err(raised) if raised.matches(object::overflow_error()) => {
                raised.discard();
                f64::INFINITY
            }
            size => size?,
        };
        self.size.set(size);
        self.given.set(value.own());
        Ok(())
    }

    /// Whether so much is at or above it.
    pub fn is_reached(&self, size: usize) -> bool {
        size as f64 >= self.size.get()
    }

    /// Whether so much is at or below it.
    pub fn is_undercut(&self, size: usize) -> bool {
        size as f64 <= self.size.get()
    }
}

/// The fields.
#[derive(Debug, Default)]
pub struct Fields {
    pub event_loop: Slot,
    /// The transport of the ciphertext.
    pub transport: Slot,
    pub protocol: Slot,
    pub protocol_is_buffered: Cell<bool>,
    pub ssl_object: Slot,
    pub incoming: Slot,
    pub outgoing: Slot,
    pub write_backlog: Slot,
    pub write_buffer_size: Cell<i64>,
    state: Slot,
    pub stage: Cell<Stage>,
    pub reading_paused: Cell<bool>,
    pub writing_paused: Cell<bool>,
    pub transport_reading_paused: Cell<bool>,
    pub transport_writing_paused: Cell<bool>,
    pub incoming_high: Mark,
    pub incoming_low: Mark,
    pub outgoing_high: Mark,
    pub outgoing_low: Mark,
}

impl Fields {
    /// Everything owned.
    pub fn slots(&self) -> [&Slot; 12] {
        [
            &self.event_loop,
            &self.transport,
            &self.protocol,
            &self.ssl_object,
            &self.incoming,
            &self.outgoing,
            &self.write_backlog,
            &self.state,
            &self.incoming_high.given,
            &self.incoming_low.given,
            &self.outgoing_high.given,
            &self.outgoing_low.given,
        ]
    }
}

fn set_stage(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.unwrap_or(none());
    let known = settings().stages.iter().zip(STAGES).find(|(member, _)| member.is(value));
    this.fields.stage.set(known.map_or(Stage::Unknown, |(_, stage)| stage));
    this.fields.state.set(value.own());
    Ok(())
}

/// `_sslobj`: read and written natively from now on, if it has just been made and nothing of it is replaced.
fn set_ssl_object(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
    let value = value.unwrap_or(none());
    this.session.clear();
    this.fields.ssl_object.set(value.own());
    let settings = settings();
    this.plain.set(value.is_exactly(&settings.object_class));
    if value.is_none() || !has_methods_of_python(value)? || has_message_callback(value)? {
        return Ok(());
    }
    this.session.adopt(value, &settings.socket_class)
}

/// Whether nobody has overridden what is called for every packet.
fn has_methods_of_python(ssl_object: &Obj) -> Fallible<bool> {
    let settings = settings();
    if !ssl_object.derives_from(&settings.object_class) {
        return Ok(false);
    }
    let class = ssl_object.class();
    Ok(class.get(&*object::interned(c"read")?)?.is(&settings.read)
        && class.get(&*object::interned(c"write")?)?.is(&settings.write))
}

/// Whether a program wants to be told of every message, and may raise.
fn has_message_callback(ssl_object: &Obj) -> Fallible<bool> {
    let callback = ssl_object
        .get(&*object::interned(c"context")?)?
        .get_if_there(&*object::interned(c"_msg_callback")?)?;
    Ok(callback.is_some_and(|callback| !callback.is_none()))
}

/// A memory BIO other than the one that the connection was made over: only methods know it.
fn set_bio(session: &Session, place: &Slot, value: Option<&Obj>) {
    session.clear();
    place.set(value.unwrap_or(none()).own());
}

macro_rules! accessors {
    ($($getter:ident, $setter:ident: $kind:ident $($field:ident).+;)*) => {
        $(accessors!(@ $kind $getter, $setter, $($field).+);)*
    };
    (@ slot $getter:ident, $setter:ident, $($field:ident).+) => {
        fn $getter(this: &Inst<TlsCore>) -> Fallible<Ref> {
            Ok(this.fields.$($field).+.get_or_none())
        }
        fn $setter(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
            this.fields.$($field).+.set(value.unwrap_or(none()).own());
            Ok(())
        }
    };
    (@ flag $getter:ident, $setter:ident, $($field:ident).+) => {
        fn $getter(this: &Inst<TlsCore>) -> Fallible<Ref> {
            Ok(boolean(this.fields.$($field).+.get()).own())
        }
        fn $setter(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
            this.fields.$($field).+.set(value.map_or(Ok(false), Obj::truthy)?);
            Ok(())
        }
    };
    (@ mark $getter:ident, $setter:ident, $($field:ident).+) => {
        fn $getter(this: &Inst<TlsCore>) -> Fallible<Ref> {
            Ok(this.fields.$($field).+.given.get_or_none())
        }
        fn $setter(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
            this.fields.$($field).+.set(value.unwrap_or(none()))
        }
    };
}

accessors! {
    event_loop, set_event_loop: slot event_loop;
    transport, set_transport: slot transport;
    protocol, set_protocol: slot protocol;
    write_backlog, set_write_backlog: slot write_backlog;
    protocol_is_buffered, set_protocol_is_buffered: flag protocol_is_buffered;
    reading_paused, set_reading_paused: flag reading_paused;
    writing_paused, set_writing_paused: flag writing_paused;
    transport_reading_paused, set_transport_reading_paused: flag transport_reading_paused;
    transport_writing_paused, set_transport_writing_paused: flag transport_writing_paused;
    incoming_high, set_incoming_high: mark incoming_high;
    incoming_low, set_incoming_low: mark incoming_low;
    outgoing_high, set_outgoing_high: mark outgoing_high;
    outgoing_low, set_outgoing_low: mark outgoing_low;
}

fn state(this: &Inst<TlsCore>) -> Fallible<Ref> {
    Ok(this.fields.state.get_or_none())
}

fn ssl_object(this: &Inst<TlsCore>) -> Fallible<Ref> {
    Ok(this.fields.ssl_object.get_or_none())
}

fn incoming(this: &Inst<TlsCore>) -> Fallible<Ref> {
    Ok(this.fields.incoming.get_or_none())
}

fn set_incoming(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
    set_bio(&this.session, &this.fields.incoming, value);
    Ok(())
}

fn outgoing(this: &Inst<TlsCore>) -> Fallible<Ref> {
    Ok(this.fields.outgoing.get_or_none())
}

fn set_outgoing(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
    set_bio(&this.session, &this.fields.outgoing, value);
    Ok(())
}

fn write_buffer_size(this: &Inst<TlsCore>) -> Fallible<Ref> {
    object::int(this.fields.write_buffer_size.get())
}

fn set_write_buffer_size(this: &Inst<TlsCore>, value: Option<&Obj>) -> Fallible<()> {
    this.fields.write_buffer_size.set(value.unwrap_or(none()).to_i64()?);
    Ok(())
}

/// The attributes of this file.
pub fn attributes() -> Vec<Attribute<TlsCore>> {
    class_attributes!(TlsCore, "TlsCore";
        c"_loop" => event_loop, set_event_loop;
        c"_transport" => transport, set_transport;
        c"_app_protocol" => protocol, set_protocol;
        c"_app_protocol_is_buffer" => protocol_is_buffered, set_protocol_is_buffered;
        c"_sslobj" => ssl_object, set_ssl_object;
        c"_incoming" => incoming, set_incoming;
        c"_outgoing" => outgoing, set_outgoing;
        c"_write_backlog" => write_backlog, set_write_backlog;
        c"_write_buffer_size" => write_buffer_size, set_write_buffer_size;
        c"_state" => state, set_stage;
        c"_app_reading_paused" => reading_paused, set_reading_paused;
        c"_app_writing_paused" => writing_paused, set_writing_paused;
        c"_ssl_reading_paused" => transport_reading_paused, set_transport_reading_paused;
        c"_ssl_writing_paused" => transport_writing_paused, set_transport_writing_paused;
        c"_incoming_high_water" => incoming_high, set_incoming_high;
        c"_incoming_low_water" => incoming_low, set_incoming_low;
        c"_outgoing_high_water" => outgoing_high, set_outgoing_high;
        c"_outgoing_low_water" => outgoing_low, set_outgoing_low;
    )
}
