//! `loop.sock_recv()` and its like: calls on a program's own sockets, which wait only when the kernel says so.
//!
//! Each is an [`Operation`] over a [`SocketCall`], which holds the arguments (`call`), knows how to try (`attempt`), and
//! is the engine's job while it waits. Checks, their order and their messages are those of asyncio's coroutines.
//!
//! What must stay true:
//!
//! * A registration is ended by whoever ends the wait, whatever ends it; another who registers for the same descriptor
//!   takes the place of the one that waits, as in asyncio, and the one that lost it no longer touches it.
//! * The descriptor is asked of the socket at every attempt. One that was closed meanwhile gets no more readiness,
//!   and its number is not used again.

pub mod attempt;
mod call;
mod resting;
pub mod send_file;

use crate::cpython::object::{self, none};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature};
use crate::event_loop::EventLoop;
use crate::operation::{self, Kind, Operation, Step};

use attempt::Call;
pub use call::{SocketCall, as_handle, forget, run_ready};
pub use resting::{Resting, rests};
pub use send_file::SendFile;

/// Once it waits; before, a `sock_connect` may wait for its address.
const WAITING: u8 = 1;
const RESOLVING: u8 = 2;

macro_rules! kind {
    ($name:ident, $text:literal) => {
        static $name: Kind = Kind { name: $text, qualname: concat!("Loop.", $text), begin, resume };
    };
}

kind!(RECV, "sock_recv");
kind!(RECV_INTO, "sock_recv_into");
kind!(RECVFROM, "sock_recvfrom");
kind!(RECVFROM_INTO, "sock_recvfrom_into");
kind!(SENDALL, "sock_sendall");
kind!(SENDTO, "sock_sendto");
kind!(ACCEPT, "sock_accept");
kind!(CONNECT, "sock_connect");

fn with_call<R>(
    operation: &Inst<Operation>,
    work: impl FnOnce(&Inst<SocketCall>) -> Fallible<R>,
) -> Fallible<R> {
    let owner = operation.owner.get_or_none();
    match Inst::<SocketCall>::of(&owner) {
        Some(call) => work(call),
        None => Err(Raised::runtime_error("the operation has no socket")),
    }
}

fn begin(operation: &Inst<Operation>) -> Fallible<Step> {
    with_call(operation, |call| {
        call.check()?;
        if call.kind() == Call::Connect
            && let Some(resolving) = call.resolve()?
        {
            operation.stage.set(RESOLVING);
            return Ok(Step::Await(resolving));
        }
        go(operation, call)
    })
}

/// Tries, and waits if it is too early.
fn go(operation: &Inst<Operation>, call: &Inst<SocketCall>) -> Fallible<Step> {
    match call.attempt()? {
        Some(outcome) => Ok(Step::Done(outcome)),
        None => {
            operation.stage.set(WAITING);
            call.wait().map(Step::Await)
        }
    }
}

fn resume(operation: &Inst<Operation>, outcome: Fallible<Ref>) -> Fallible<Step> {
    with_call(operation, |call| {
        if operation.stage.get() == RESOLVING {
            call.set_address(&*outcome?)?;
            return go(operation, call);
        }
        let outcome = outcome.map_err(Raised::take);
        call.end_wait();
        match outcome {
            Ok(value) => Ok(Step::Done(value)),
            Err(exception) => Err(Raised::from_exception(exception)),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------
// The methods of the loop.

fn create(
    kind: &'static Kind,
    call: Call,
    event_loop: &Inst<EventLoop>,
    socket: &Obj,
    arguments: [&Obj; 2],
) -> Fallible<Ref> {
    let call = SocketCall::create(call, event_loop, socket, arguments)?;
    operation::create(kind, call.obj()).map(Own::into_ref)
}

/// A method of a socket and one argument.
fn with_one(
    this: &Inst<EventLoop>,
    args: Args<'_>,
    (kind, call): (&'static Kind, Call),
    name: &'static str,
) -> Fallible<Ref> {
    if let ([socket, argument], false) = (args.positional(), args.has_keywords()) {
        return create(kind, call, this, socket, [argument, none()]);
    }
    let [socket, argument] =
        args.parse(&Signature { function: kind.name, names: ["sock", name], positional: 2, required: 2 })?;
    create(kind, call, this, socket.unwrap_or(none()), [argument.unwrap_or(none()), none()])
}

fn py_recv(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    with_one(this, args, (&RECV, Call::Recv), "n")
}

fn py_recv_into(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    with_one(this, args, (&RECV_INTO, Call::RecvInto), "buf")
}

fn py_recvfrom(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    with_one(this, args, (&RECVFROM, Call::RecvFrom), "bufsize")
}

fn py_sendall(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    with_one(this, args, (&SENDALL, Call::SendAll), "data")
}

fn py_connect(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    with_one(this, args, (&CONNECT, Call::Connect), "address")
}

fn py_accept(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    create(&ACCEPT, Call::Accept, this, args.only("sock_accept", "sock")?, [none(), none()])
}

fn py_recvfrom_into(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let [socket, buffer, most] = args.parse(&Signature {
        function: RECVFROM_INTO.name,
        names: ["sock", "buf", "nbytes"],
        positional: 3,
        required: 2,
    })?;
    let most = most.map_or_else(|| object::int(0), |most| Ok(most.own()))?;
    let (socket, buffer) = (socket.unwrap_or(none()), buffer.unwrap_or(none()));
    create(&RECVFROM_INTO, Call::RecvFromInto, this, socket, [buffer, &most])
}

fn py_sendto(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let [socket, data, address] = args.parse(&Signature {
        function: SENDTO.name,
        names: ["sock", "data", "address"],
        positional: 3,
        required: 3,
    })?;
    let (socket, data, address) =
        (socket.unwrap_or(none()), data.unwrap_or(none()), address.unwrap_or(none()));
    create(&SENDTO, Call::SendTo, this, socket, [data, address])
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    attempt::define()?;
    call::define()?;
    send_file::define()
}

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"sock_recv" => any py_recv,
            c"sock_recv($self, sock, n)\n--\n\nReceive at most n bytes from the socket.";
        c"sock_recv_into" => any py_recv_into,
            c"sock_recv_into($self, sock, buf)\n--\n\nReceive into a writable buffer; return the number of bytes.";
        c"sock_recvfrom" => any py_recvfrom,
            c"sock_recvfrom($self, sock, bufsize)\n--\n\nReceive a datagram of at most bufsize bytes; return it and \
              its sender's address.";
        c"sock_recvfrom_into" => any py_recvfrom_into,
            c"sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\nReceive a datagram into a writable buffer; \
              return the number of bytes and the sender's address.";
        c"sock_sendall" => any py_sendall,
            c"sock_sendall($self, sock, data)\n--\n\nSend all of the data.";
        c"sock_sendto" => any py_sendto,
            c"sock_sendto($self, sock, data, address)\n--\n\nSend a datagram; return the number of bytes sent.";
        c"sock_accept" => any py_accept,
            c"sock_accept($self, sock)\n--\n\nAccept a connection; return its socket and the peer's address.";
        c"sock_connect" => any py_connect,
            c"sock_connect($self, sock, address)\n--\n\nConnect the socket to an address.";
    )
}
