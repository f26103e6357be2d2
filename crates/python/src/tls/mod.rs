//! TLS: what asyncio's `SSLProtocol` does for every packet, without Python.
//!
//! `velodrome._tls.TlsProtocol` derives from [`TlsCore`] and from asyncio's `SSLProtocol`, whose instances keep in the
//! structure here what this code needs (`state`): asyncio's own methods read and write it under the names that it has
//! there. So everything that happens once in a connection (making it, handshake, shutdown, time-outs, errors, log
//! records) is asyncio's own code, of the version underneath; and only what happens per packet is here: `reading` goes from
//! ciphertext to the protocol, `writing` from the transport's `write` to the socket's transport. Both answer as asyncio's
//! functions of the same names.
//!
//! OpenSSL is called natively where `cpython::openssl` can prove that it may be, and through the methods of Python's
//! `SSLObject` otherwise (`engine`). Both work on the same objects, and either can go on where the other one stopped.
//!
//! What must stay true:
//!
//! * Whatever this code cannot answer it leaves to asyncio's method, from the beginning, before anything has changed.
//! * Exceptions reach `SSLProtocol._fatal_error` where asyncio's do, by way of [`fail`].

mod answers;
mod engine;
mod reading;
mod state;
mod writing;

pub use reading::{Fed, dispatch, feed, feed_object};

use crate::cpython::bytes::length_of;
use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::openssl::{self, Session};
use crate::cpython::{Args, Class, Fallible, Home, Inst, Obj, Raised, Ref, Signature, Slot, Spec, Visitor};
use state::{Fields, Stage};

/// The native part of a `TlsProtocol`.
#[derive(Debug)]
pub struct TlsCore {
    fields: Fields,
    session: Session,
    /// Whether the `SSLObject` is exactly Python's, so that its reads can be counted on to raise only when nothing is left.
    plain: std::cell::Cell<bool>,
    /// What a peer has asked for that does not read.
    answers: answers::Answers,
}

static HOME: Home = Home::new();

impl Class for TlsCore {
    const NAME: &'static std::ffi::CStr = c"velodrome.TlsCore";

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> TlsCore {
        TlsCore {
            fields: Fields::default(),
            session: Session::empty(),
            plain: std::cell::Cell::new(false),
            answers: answers::Answers::default(),
        }
    }

    fn traverse(this: &Inst<TlsCore>, visitor: &mut Visitor<'_>) {
        this.fields.slots().into_iter().for_each(|slot| visitor.slot(slot));
        this.session.traverse(visitor);
    }

    fn clear(this: &Inst<TlsCore>) {
        this.session.clear();
        this.fields.slots().into_iter().for_each(Slot::clear);
    }
}

/// What is told by the package's `_tls.py`, once.
#[derive(Debug)]
pub struct Settings {
    protocol_class: Ref,
    /// `sslproto.SSLAgainErrors`; empty without ssl.
    again_errors: Ref,
    /// `ssl.SSLObject` and `_ssl._SSLSocket`, or None.
    object_class: Ref,
    socket_class: Ref,
    /// The members of `SSLProtocolState` in the order of [`Stage`].
    stages: Vec<Ref>,
    /// `SSLObject.read` and `SSLObject.write`.
    read: Ref,
    write: Ref,
}

static SETTINGS: Global<Settings> = Global::new();

fn settings() -> &'static Settings {
    SETTINGS.get()
}

/// The TLS layer that this protocol is, if it is one that can be fed without its methods being called.
pub fn of(protocol: &Obj) -> Option<&Inst<TlsCore>> {
    Inst::<TlsCore>::of(protocol).filter(|_| protocol.is_exactly(&settings().protocol_class))
}

impl Inst<TlsCore> {
    fn call(&self, name: &Obj) -> Fallible<()> {
        self.obj().call_method(name, &[]).map(drop)
    }

    fn has_backlog(&self) -> Fallible<bool> {
        match self.fields.write_backlog.get() {
            Some(backlog) => Ok(length_of(&backlog)? > 0),
            None => Ok(false),
        }
    }

    /// Whether what is written now can be encrypted at once.
    fn is_ready_to_write(&self) -> Fallible<bool> {
        Ok(self.fields.stage.get() == Stage::Wrapped && !self.has_backlog()?)
    }
}

/// What asyncio's methods do with an `Exception` out of reading and writing; others are raised on.
#[cold]
fn fail(this: &Inst<TlsCore>, raised: Raised) -> Fallible<()> {
    let exception = raised.take();
    this.obj().call_method(&*object::interned(c"_fail")?, &[&exception]).map(drop)
}

fn failing(this: &Inst<TlsCore>, outcome: Fallible<()>) -> Fallible<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(raised) => fail(this, raised),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The class.

fn py_begin_capture(_this: &Inst<TlsCore>) -> Fallible<Ref> {
    if openssl::verdict().reason.is_none() {
        openssl::begin();
    }
    Ok(none().own())
}

fn py_end_capture(_this: &Inst<TlsCore>) -> Fallible<Ref> {
    openssl::end();
    Ok(none().own())
}

fn py_is_native(this: &Inst<TlsCore>) -> Fallible<Ref> {
    Ok(object::boolean(this.session.is_native()).own())
}

/// `_tls_settle(protocol_class, transport_class, again_errors, object_class, socket_class, stages)`: called by `_tls.py` when
/// it has made its classes.
pub fn py_settle(args: Args<'_>) -> Fallible<Ref> {
    let [protocol_class, transport_class, again_errors, object_class, socket_class, stages] =
        args.parse(&Signature {
            function: "_tls_settle",
            names: [
                "protocol_class",
                "transport_class",
                "again_errors",
                "object_class",
                "socket_class",
                "stages",
            ],
            positional: 6,
            required: 6,
        })?;
    let given = |value: Option<&'_ Obj>| value.unwrap_or(none()).own();
    let (object_class, transport_class) = (given(object_class), given(transport_class));
    let method = |name| object_class.get_if_there(&*object::interned(name)?);
    SETTINGS.set(Settings {
        protocol_class: given(protocol_class),
        again_errors: given(again_errors),
        socket_class: given(socket_class),
        stages: given(stages).items()?,
        read: method(c"read")?.unwrap_or_else(|| none().own()),
        write: method(c"write")?.unwrap_or_else(|| none().own()),
        object_class,
    });
    crate::cpython::spec::share_methods(&transport_class, &transport_class, writing::transport_methods())?;
    Ok(none().own())
}

/// `_tls()`: what is in force, and why.
pub fn py_verdict(_args: Args<'_>) -> Fallible<Ref> {
    let verdict = openssl::verdict();
    let text = match &verdict.reason {
        None => String::from("native"),
        Some(reason) => format!("fallback: {reason}"),
    };
    object::text(&text)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods = class_methods!(TlsCore, "TlsCore";
        c"_begin_capture" => none py_begin_capture,
            c"_begin_capture($self, /)\n--\n\nThe connection is made now.";
        c"_end_capture" => none py_end_capture,
            c"_end_capture($self, /)\n--\n\nThe connection is made, or could not be.";
    );
    methods.extend(reading::methods());
    methods.extend(writing::methods());
    let mut attributes = class_attributes!(TlsCore, "TlsCore"; c"_native" => py_is_native;);
    attributes.extend(state::attributes());
    crate::cpython::spec::define::<TlsCore>(Spec {
        base: None,
        doc: Some(c"What a TLS protocol does for every packet, implemented in Rust."),
        methods,
        attributes,
        slots: class_slots!(TlsCore, "TlsCore";),
    })
}
