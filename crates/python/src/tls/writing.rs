//! From the transport's `write` to the transport underneath.

use crate::cpython::bytes;
use crate::cpython::object::{self, none};
use crate::cpython::spec::{Anything, Method};
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref};
use crate::state::state;
use crate::transport::{self, SocketTransport};

use super::{TlsCore, answers, engine, failing};

/// `SSLTransport.write(data)`.
fn py_write(transport: &Obj, args: Args<'_>) -> Fallible<Ref> {
    let data = args.only("write", "data")?;
    if !bytes::is_bytes_like(data) {
        return Err(Raised::type_error(&format!(
            "data: expecting a bytes-like instance, got {}",
            data.class_name()
        )));
    }
    if !data.truthy()? {
        return Ok(none().own());
    }
    let protocol = transport.get(&state().names.ssl_protocol)?;
    match Inst::<TlsCore>::of(&protocol) {
        Some(core) if core.is_ready_to_write()? => {
            failing(core, encrypt(core, data))?;
            Ok(none().own())
        }
        _ => protocol.call_method(&state().names.write_appdata, &[&*object::tuple(&[data])?]),
    }
}

#[inline]
fn encrypt(this: &Inst<TlsCore>, data: &Obj) -> Fallible<()> {
    // Python can run while a connection is written to, and write as well; what it finds is then this.
    let count = match write(this, data) {
        Ok(count) => count.unwrap_or(0),
        // What is refused stays in the backlog, for every later write to be refused as well.
        Err(raised) => {
            let keep_all = || bytes::length_of(data).and_then(|length| keep(this, data, 0, length));
            return Raised::finally(Err(raised), keep_all);
        }
    };
    let length = bytes::length_of(data)?;
    if count < length {
        keep(this, data, count, length)?;
    }
    send(this)
}

/// How much of the data was encrypted.
#[inline]
fn write(this: &Inst<TlsCore>, data: &Obj) -> Fallible<Option<usize>> {
    if this.fields.transport_writing_paused.get() {
        return answers::not_counted(this, || engine::write(this, data));
    }
    engine::write(this, data)
}

/// Puts into the backlog what the connection did not take.
#[cold]
fn keep(this: &Inst<TlsCore>, data: &Obj, count: usize, length: usize) -> Fallible<()> {
    let rest = if count == 0 { data.own() } else { rest_of(data, count)? };
    this.fields.write_backlog.get_or_none().call_method(&state().names.append, &[&rest])?;
    let size = &this.fields.write_buffer_size;
    size.set(size.get() + (length - count) as i64);
    Ok(())
}

fn rest_of(data: &Obj, count: usize) -> Fallible<Ref> {
    let lent = bytes::Buffer::readable(data)?;
    bytes::bytes(lent.content().get(count..).unwrap_or_default())
}

/// `_do_write()`: encrypts what waits, and sends it.
pub fn write_backlog(this: &Inst<TlsCore>) -> Fallible<()> {
    let names = &state().names;
    while this.has_backlog()? {
        let backlog = this.fields.write_backlog.get_or_none();
        let first = backlog.call_method(&names.popleft, &[])?;
        let put_back =
            |what: &Obj| backlog.call_method(&*object::interned(c"appendleft")?, &[what]).map(drop);
        let length = bytes::length_of(&first)?;
        let count = match write(this, &first) {
            Ok(Some(count)) => count,
            Ok(None) => {
                put_back(&first)?;
                break;
            }
            Err(raised) => {
                return Raised::finally(Err(raised), || put_back(&first));
            }
        };
        let size = &this.fields.write_buffer_size;
        size.set(size.get() - count.min(length) as i64);
        if count < length {
            put_back(&*rest_of(&first, count)?)?;
        }
    }
    send(this)
}

/// `_process_outgoing()`: what is encrypted goes to the transport underneath.
#[inline]
pub fn send(this: &Inst<TlsCore>) -> Fallible<()> {
    if !this.fields.transport_writing_paused.get()
        && let Some(data) = engine::take_outgoing(this)?
    {
        let underneath = this.fields.transport.get_or_none();
        match Inst::<SocketTransport>::of(&underneath).filter(|socket| socket.is_plain()) {
            Some(socket) => transport::write(socket, &data)?,
            None => drop(underneath.call_method(&state().names.write, &[&data])?),
        }
        answers::sent(this)?;
    }
    control_protocol(this)
}

/// `_control_app_writing()`, which tells the protocol to stop writing and to go on.
#[inline]
fn control_protocol(this: &Inst<TlsCore>) -> Fallible<()> {
    let fields = &this.fields;
    let backlog = usize::try_from(fields.write_buffer_size.get()).unwrap_or(0);
    let size = engine::outgoing(this)? + backlog;
    let paused = fields.writing_paused.get();
    if fields.outgoing_high.is_reached(size) && !paused || fields.outgoing_low.is_undercut(size) && paused {
        this.call(&*object::interned(c"_control_app_writing")?)?;
    }
    Ok(())
}

fn py_send(this: &Inst<TlsCore>) -> Fallible<Ref> {
    send(this)?;
    Ok(none().own())
}

fn py_write_backlog(this: &Inst<TlsCore>) -> Fallible<Ref> {
    write_backlog(this)?;
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<TlsCore>> {
    class_methods!(TlsCore, "TlsCore";
        c"_do_write" => none py_write_backlog,
            c"_do_write($self, /)\n--\n\nEncrypt what waits, and send it.";
        c"_process_outgoing" => none py_send,
            c"_process_outgoing($self, /)\n--\n\nSend what is encrypted.";
    )
}

/// The methods of the transport that the protocol sees.
pub fn transport_methods() -> Vec<Method<Anything>> {
    class_methods!(TlsCore, "SSLTransport";
        c"write" => shared_any py_write,
            c"write($self, data)\n--\n\nWrite some bytes: encrypt them, and send what results or keep it until it can \
              be sent; this does not wait.";
    )
}
