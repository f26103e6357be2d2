//! `SendFile`: a file on its way to a socket, by the kernel's own `sendfile`.
//!
//! What is done for a file is asyncio's own code: `sendfile`, `sock_sendfile`, their checks, and the ways out where the kernel
//! cannot do it. It makes a future and calls `_sock_sendfile_native_impl` once; what asyncio's does for each chunk, by a
//! system call, a callback that is added and one that is removed, is here a system call.
//!
//! What must stay true:
//!
//! * One chunk for each readiness, so that a fast reader does not starve the rest of the loop.
//! * The socket is asked for its descriptor every time. One that was closed gets no more readiness, and whoever has the
//!   number by then is not written to.
//! * The file's position is set when the future is ended, and not before: the kernel is told where to read.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use velodrome_engine::{Interest, Key};

use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::spec::Method;
use crate::cpython::{
    Args, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor, context, descriptor, gil,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::original::Code;
use crate::state::state;
use crate::transport::reading::is_transient;
use crate::{handle, readers, waiters};

use super::attempt;

/// The engine's job while the socket takes no more.
#[derive(Debug)]
pub struct SendFile {
    event_loop: Slot,
    socket: Slot,
    future: Slot,
    /// The file's number, which is all that is known of it.
    file: Cell<RawFd>,
    /// Where the next chunk begins.
    offset: Cell<i64>,
    sent: Cell<i64>,
    /// How much is to be sent, if not all there is.
    count: Cell<Option<i64>>,
    /// The most that the kernel is asked to send at once.
    block: Cell<i64>,
    key: Cell<Option<Key>>,
}

static HOME: Home = Home::new();

impl Class for SendFile {
    const NAME: &'static std::ffi::CStr = c"velodrome.SendFile";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> SendFile {
        SendFile {
            event_loop: Slot::empty(),
            socket: Slot::empty(),
            future: Slot::empty(),
            file: Cell::new(-1),
            offset: Cell::new(0),
            sent: Cell::new(0),
            count: Cell::new(None),
            block: Cell::new(0),
            key: Cell::new(None),
        }
    }

    fn traverse(this: &Inst<SendFile>, visitor: &mut Visitor<'_>) {
        this.slots().into_iter().for_each(|slot| visitor.slot(slot));
    }

    fn clear(this: &Inst<SendFile>) {
        this.slots().into_iter().for_each(Slot::clear);
    }
}

impl SendFile {
    fn slots(&self) -> [&Slot; 3] {
        [&self.event_loop, &self.socket, &self.future]
    }
}

/// What a call of the kernel came to.
enum Chunk {
    Some,
    /// The socket takes nothing just now.
    TooEarly,
    EndOfFile,
    Failed(io::Error),
}

impl Inst<SendFile> {
    /// Sends once; whether the file is still on its way.
    fn step(&self, first: bool) -> Fallible<bool> {
        let (Some(future), Some(socket)) = (self.future.get(), self.socket.get()) else { return Ok(false) };
        if waiters::is_cancelled(&future)? {
            self.set_position()?;
            return Ok(false);
        }
        let most = match self.count.get() {
            Some(count) => count - self.sent.get(),
            None => self.block.get(),
        };
        let outcome = if most > 0 { self.offer(&socket, most) } else { Chunk::EndOfFile };
        match outcome {
            Chunk::Some | Chunk::TooEarly => Ok(true),
            Chunk::EndOfFile => {
                self.set_position()?;
                waiters::set_result(&future, &*object::int(self.sent.get())?)?;
                Ok(false)
            }
            Chunk::Failed(error) => {
                let exception = self.exception_for(&error, first)?;
                self.set_position()?;
                future.call_method(&state().names.set_exception, &[&exception])?;
                Ok(false)
            }
        }
    }

    fn offer(&self, socket: &Obj, most: i64) -> Chunk {
        let to = match attempt::again(socket).map(|known| known.descriptor().map(|to| to.as_raw_fd())) {
            Some(Ok(to)) => to,
            _ => return Chunk::Failed(rustix::io::Errno::BADF.into()),
        };
        let (from, mut offset) = (self.file.get(), self.offset.get().cast_unsigned());
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // What is on a disk may have to be read first. A thread that closes one of them meanwhile is on its own, as with
        // `os.sendfile`.
        let outcome = gil::released(|| {
            let (to, from) = (descriptor::borrowed(to), descriptor::borrowed(from));
            rustix::fs::sendfile(to, from, Some(&mut offset), most)
        });
        match outcome {
            Ok(0) => Chunk::EndOfFile,
            Ok(sent) => {
                self.offset.set(self.offset.get() + sent as i64);
                self.sent.set(self.sent.get() + sent as i64);
                Chunk::Some
            }
            Err(error) => match io::Error::from(error) {
                error if is_transient(&error) => Chunk::TooEarly,
                error => Chunk::Failed(error),
            },
        }
    }

    /// Before anything has gone, the kernel's refusal is most often about the kind of file.
    fn exception_for(&self, error: &io::Error, first: bool) -> Fallible<Ref> {
        if self.sent.get() == 0 {
            return NOT_AVAILABLE.get().call(&[&*object::text("os.sendfile call failed")?]);
        }
        let exception = Raised::os_error(error).take();
        if first || error.raw_os_error() != Some(libc::ENOTCONN) {
            return Ok(exception);
        }
        let text = object::text("socket is not connected")?;
        let number = object::int(i64::from(libc::ENOTCONN))?;
        let lost = object::connection_error().call(&[&*text, &*number])?;
        lost.set(&*object::interned(c"__cause__")?, &exception)?;
        Ok(lost)
    }

    /// Leaves the file where the next chunk would begin, by asyncio's own method.
    fn set_position(&self) -> Fallible<()> {
        let event_loop = self.event_loop.get_or_none();
        let (file, offset) = (object::int(i64::from(self.file.get()))?, object::int(self.offset.get())?);
        let sent = object::int(self.sent.get())?;
        let arguments: [&Obj; 3] = [&file, &offset, &sent];
        let name = object::interned(c"_sock_sendfile_update_filepos")?;
        event_loop.call_method(&name, &arguments[..*POSITION_ARGUMENTS.get()]).map(drop)
    }

    /// Has the loop go on when the socket takes more.
    fn wait(&self) -> Fallible<()> {
        let (held, socket) = (self.event_loop.get_or_none(), self.socket.get_or_none());
        let (Some(event_loop), Some(known)) = (Inst::<EventLoop>::of(&held), attempt::again(&socket)) else {
            return Ok(());
        };
        // When it is cancelled before it is ready again.
        let callback = self.obj().get(&*object::interned(c"_ended")?)?;
        let future = self.future.get_or_none();
        future.call_method(&*object::interned(c"add_done_callback")?, &[&callback])?;
        let to = known.descriptor().map_err(|error| Raised::os_error(&error))?.as_raw_fd();
        event_loop.transports.refuse(i64::from(to), &*object::int(i64::from(to))?)?;
        let job = Job::SendFile(self.own());
        self.key.set(Some(readers::watch_call(event_loop, descriptor::borrowed(to), Interest::Write, job)?));
        Ok(())
    }

    /// It is over, whatever ended it.
    fn end(&self) {
        if let (Some(key), Some(event_loop)) =
            (self.key.take(), Inst::<EventLoop>::of(&self.event_loop.get_or_none()))
        {
            event_loop.unwatch(key);
        }
        self.slots().into_iter().for_each(Slot::clear);
    }

    fn go_on(&self) -> Fallible<()> {
        match self.step(false) {
            Ok(true) => Ok(()),
            outcome => {
                self.end();
                outcome.map(drop)
            }
        }
    }
}

/// Another has taken its place in the engine.
pub fn forget(this: &Inst<SendFile>) {
    this.key.set(None);
}

/// The socket takes more. Fails only with what stops the loop.
pub fn run_ready(this: &Inst<SendFile>) -> Fallible<()> {
    // Ended or replaced in this very iteration.
    if this.key.get().is_none() {
        return Ok(());
    }
    let event_loop = this.event_loop.get_or_none();
    match this.go_on() {
        Ok(()) => Ok(()),
        Err(raised) => handle::failed(&event_loop, raised, || handle_on(this, &event_loop)),
    }
}

/// See [`Job::as_handle`].
pub fn as_handle(this: &Inst<SendFile>) -> Fallible<Ref> {
    handle_on(this, &this.event_loop.get_or_none())
}

fn handle_on(this: &Inst<SendFile>, event_loop: &Obj) -> Fallible<Ref> {
    let callback = this.obj().get(&*object::interned(c"_ready")?)?;
    handle::with_context(event_loop, &callback, &[], context::copy_current()?).map(Own::into_ref)
}

fn py_ready(this: &Inst<SendFile>) -> Fallible<Ref> {
    this.go_on()?;
    Ok(none().own())
}

/// The future is done.
fn py_ended(this: &Inst<SendFile>, future: &Obj) -> Fallible<Ref> {
    if waiters::is_cancelled(future)? {
        this.end();
    }
    Ok(none().own())
}

// ---------------------------------------------------------------------------------------------------------------
// The method of the loop.

/// `SendfileNotAvailableError`.
static NOT_AVAILABLE: Global<Ref> = Global::new();
/// `_UnixSelectorEventLoop._sock_sendfile_native_impl`.
static ASYNCIOS: Global<Ref> = Global::new();
/// `os.sendfile`, as long as nobody has put anything else there.
static SENDFILE: Global<Ref> = Global::new();
/// How many arguments `_sock_sendfile_update_filepos` takes.
static POSITION_ARGUMENTS: Global<usize> = Global::new();

/// `_sock_sendfile_native_impl`: the first chunk; then the loop sees to the others.
fn py_send_file(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    match begin(this, &args)? {
        Some(sending) => {
            match sending.step(true) {
                Ok(true) => sending.wait()?,
                outcome => {
                    sending.end();
                    outcome?;
                }
            }
            Ok(none().own())
        }
        None => args.forward(ASYNCIOS.get(), &[this.obj()]),
    }
}

/// None if it is anything but the first call for a plain socket.
fn begin(this: &Inst<EventLoop>, args: &Args<'_>) -> Fallible<Option<Own<SendFile>>> {
    let (&[future, registered, socket, file, offset, count, block, sent], false) =
        (args.positional(), args.has_keywords())
    else {
        return Ok(None);
    };
    let replaced = !object::import(c"os")?.get(&*object::interned(c"sendfile")?)?.is(SENDFILE.get());
    if replaced || !registered.is_none() || attempt::again(socket).is_none() {
        return Ok(None);
    }
    let count = if count.is_none() { Some(None) } else { number(count)?.map(Some) };
    let file = number(file)?.and_then(|file| RawFd::try_from(file).ok());
    let (Some(file), Some(offset), Some(count), Some(block), Some(sent)) =
        (file, number(offset)?, count, number(block)?, number(sent)?)
    else {
        return Ok(None);
    };
    let sending = Own::<SendFile>::new()?;
    sending.event_loop.set(this.obj().own());
    sending.socket.set(socket.own());
    sending.future.set(future.own());
    sending.file.set(file);
    sending.offset.set(offset);
    sending.sent.set(sent);
    sending.count.set(count.filter(|count| *count != 0));
    sending.block.set(block);
    Ok(Some(sending))
}

/// An `int` that the kernel can be told.
fn number(object: &Obj) -> Fallible<Option<i64>> {
    if !object.is_int() {
        return Ok(None);
    }
    let number = object.to_i64_or_nearest()?;
    Ok((0..i64::MAX).contains(&number).then_some(number))
}

/// Makes the class.
pub fn define() -> Fallible<()> {
    let exceptions = object::import(c"asyncio.exceptions")?;
    NOT_AVAILABLE.set(exceptions.get(&*object::interned(c"SendfileNotAvailableError")?)?);
    SENDFILE.set(object::import(c"os")?.get(&*object::interned(c"sendfile")?)?);
    let asyncios =
        object::import(c"asyncio.unix_events")?.get(&*object::interned(c"_UnixSelectorEventLoop")?)?;
    ASYNCIOS.set(asyncios.get(&*object::interned(c"_sock_sendfile_native_impl")?)?);
    let arguments = Code::of(&asyncios, c"_sock_sendfile_update_filepos")?.argument_count()?;
    POSITION_ARGUMENTS.set(arguments.saturating_sub(1).min(3));
    crate::cpython::spec::define::<SendFile>(Spec {
        methods: class_methods!(SendFile, "SendFile";
            c"_ready" => none py_ready, c"_ready($self, /)\n--\n\nSend the next chunk.";
            c"_ended" => one py_ended, c"_ended($self, future, /)\n--\n\nStop if the future was cancelled.";
        ),
        slots: class_slots!(SendFile, "SendFile";),
        ..Spec::default()
    })
    .map(drop)
}

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"_sock_sendfile_native_impl" => any py_send_file,
            c"_sock_sendfile_native_impl($self, fut, registered_fd, sock, fileno, offset, count, blocksize, \
              total_sent, /)\n--\n\nSend a file to a socket, and tell the future how it went.";
    )
}
