//! `WritePipeTransport`: what `connect_write_pipe` makes, and the pipe that a subprocess reads from.
//!
//! It takes the writing end of a pipe or a FIFO, a socket, or a terminal or other character device. Of pipes and sockets it
//! notices that nobody reads any more: then the descriptor becomes readable. (A socket that gets data from the other
//! end counts as closed by it, as in asyncio.)

use std::cell::Cell;
use std::io;
use std::ops::Deref;

use rustix::fs::FileType;

use crate::cpython::bytes::{self, Buffer};
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{
    Args, Base, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Signature, Spec, Visitor,
};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::state::state;

use super::outgoing::slices;
use super::pipe::{self, Pipe};
use super::reading::is_transient;
use super::stream::{self, Stream, Streaming, Writing};
use super::writing::{in_vain, keep};
use super::{closing, flow};

/// The class `WritePipeTransport`.
#[derive(Debug, Default)]
pub struct WritePipe {
    stream: Stream,
    ended: Cell<bool>,
}

impl Deref for WritePipe {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Streaming for WritePipe {
    fn readable(this: Own<WritePipe>) -> Job {
        Job::PipeHungUp(this)
    }
}

impl Writing for WritePipe {
    fn writable(this: Own<WritePipe>) -> Job {
        Job::PipeWritable(this)
    }
}

impl Pipe for WritePipe {
    const REFUSAL: &'static str = "Pipe transport is only for pipes, sockets and character devices";

    fn ended(&self) -> &Cell<bool> {
        &self.ended
    }

    fn tell(this: &Inst<WritePipe>, message: &str, exception: &Obj) -> Fallible<()> {
        match exception.derives_from(object::os_error()) {
            true => closing::note(this, message, exception),
            false => closing::report(this, message, exception),
        }
    }
}

static HOME: Home = Home::new();

impl Class for WritePipe {
    const NAME: &'static std::ffi::CStr = c"velodrome.WritePipeTransport";
    const FINALIZED: bool = true;
    const BASE: Base = Base::Python;
    const DICT: bool = true;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> WritePipe {
        WritePipe::default()
    }

    fn traverse(this: &Inst<WritePipe>, visitor: &mut Visitor<'_>) {
        stream::traverse(this, visitor);
    }

    fn clear(this: &Inst<WritePipe>) {
        stream::clear(this);
    }

    fn dying(this: &Inst<WritePipe>) {
        this.extra_slot().clear();
    }

    fn finalize(this: &Inst<WritePipe>) {
        closing::abandon(this);
    }

    fn needs_finalizing(&self) -> bool {
        !self.is_released()
    }
}

/// See [`Job::PipeWritable`].
pub fn run_writable(this: &Inst<WritePipe>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.writing, &state().names.write_ready, || ready(this))
}

/// See [`Job::PipeHungUp`].
pub fn run_hung_up(this: &Inst<WritePipe>, event_loop: &Inst<EventLoop>) -> Fallible<()> {
    this.run_ready(event_loop, &this.reading, &state().names.read_ready, || hung_up(this))
}

fn hung_up(this: &Inst<WritePipe>) -> Fallible<()> {
    if !this.reading.is_on() {
        return Ok(());
    }
    pipe::log_closed_by_peer(this)?;
    if this.outgoing.borrow().is_empty() {
        return pipe::end(this, none());
    }
    let exception = object::broken_pipe_error().call(&[])?;
    pipe::end(this, &exception)
}

const WRITE_FAILED: &str = "Fatal write error on pipe transport";
const WRITTEN_IN_VAIN: &str = "pipe closed by peer or os.write(pipe, data) raised exception.";

fn write(this: &Inst<WritePipe>, data: &Obj) -> Fallible<()> {
    if let Some(content) = bytes::of_exact(data) {
        return if content.is_empty() { Ok(()) } else { write_content(this, data, content) };
    }
    if !bytes::is_bytes_like(data) {
        return Err(Raised::new(object::assertion_error(), &data.repr()?.to_text()));
    }
    if !data.truthy()? {
        return Ok(());
    }
    match Buffer::readable(data) {
        // The GIL is let go while the kernel has it, and then it could change.
        Ok(buffer) => {
            let copy = bytes::bytes(buffer.content())?;
            write_content(this, &copy, bytes::of_exact(&copy).unwrap_or_default())
        }
        Err(raised) if this.closing.get() => {
            raised.discard();
            in_vain(this, WRITTEN_IN_VAIN)
        }
        Err(raised) => failed(this, raised),
    }
}

/// `content` is that of `data`, which cannot change.
fn write_content(this: &Inst<WritePipe>, data: &Obj, content: &[u8]) -> Fallible<()> {
    if this.lost.get() > 0 || this.closing.get() {
        return in_vain(this, WRITTEN_IN_VAIN);
    }
    if this.outgoing.borrow().is_empty() {
        let written = this.socket.descriptor();
        let written = match written.and_then(|descriptor| crate::cpython::pipe::write(descriptor, content)) {
            Ok(all) if all >= content.len() => return Ok(()),
            Ok(part) => part,
            Err(error) if is_transient(&error) => 0,
            Err(error) => return failed(this, Raised::os_error(&error)),
        };
        // Kept before anything else can run Python, which may write as well.
        keep(this, data, content, written)?;
        if let Err(raised) = this.start_writing() {
            this.outgoing.borrow_mut().clear();
            return Err(raised);
        }
    } else {
        keep(this, data, content, 0)?;
    }
    flow::maybe_pause(this)
}

#[cold]
fn failed(this: &Inst<WritePipe>, raised: Raised) -> Fallible<()> {
    this.lost.set(this.lost.get().saturating_add(1));
    pipe::fatal(this, raised, WRITE_FAILED)
}

/// The pipe can be written: one call takes as much as it can.
fn ready(this: &Inst<WritePipe>) -> Fallible<()> {
    if !this.writing.is_on() {
        return Ok(());
    }
    match flush(this) {
        Ok(()) => {}
        Err(error) if is_transient(&error) => return Ok(()),
        Err(error) => return failed(this, Raised::os_error(&error)),
    }
    if !this.outgoing.borrow().is_empty() {
        return Ok(());
    }
    this.stop_writing();
    flow::maybe_resume(this)?; // which may write, or close
    if this.closing.get() && this.outgoing.borrow().is_empty() && !this.ended.get() {
        this.stop_reading();
        return pipe::connection_lost(this, none());
    }
    Ok(())
}

fn flush(this: &Inst<WritePipe>) -> io::Result<()> {
    let (chunks, sent) = this.outgoing.borrow().parts();
    let parts = slices(chunks.iter(), sent);
    let written = crate::cpython::pipe::write_parts(this.socket.descriptor()?, &parts)?;
    this.outgoing.borrow_mut().remove(written);
    Ok(())
}

/// What is kept is still written; then the pipe is closed, which is how its reader learns of the end.
fn write_eof(this: &Inst<WritePipe>) -> Fallible<()> {
    if this.closing.replace(true) || !this.outgoing.borrow().is_empty() {
        return Ok(());
    }
    pipe::end(this, none())
}

// ---------------------------------------------------------------------------------------------------------------
// The class.

fn py_init(this: &Inst<WritePipe>, args: Args<'_>) -> Fallible<()> {
    let [event_loop, pipe, protocol, waiter, extra] = args.parse(&Signature {
        function: "WritePipeTransport",
        names: ["loop", "pipe", "protocol", "waiter", "extra"],
        positional: 5,
        required: 3,
    })?;
    let (Some(event_loop), Some(pipe), Some(protocol)) = (event_loop, pipe, protocol) else {
        return Err(Raised::type_error("WritePipeTransport() needs a loop, a pipe and a protocol"));
    };
    let kind = pipe::open(this, event_loop, pipe, protocol, extra)?;
    // A character device may well have something to read, as a terminal has.
    stream::announce(this, protocol, kind != FileType::CharacterDevice, waiter)
}

fn py_repr(this: &Inst<WritePipe>) -> Fallible<Ref> {
    let mut text = pipe::shown(this, &this.writing);
    if stream::has_open_loop(this) && !this.is_released() {
        text.push_str(&format!(" bufsize={}", this.outgoing.borrow().size()));
    }
    object::text(&format!("{text}>"))
}

fn py_write(this: &Inst<WritePipe>, args: Args<'_>) -> Fallible<Ref> {
    write(this, args.only("write", "data")?)?;
    Ok(none().own())
}

fn py_write_eof(this: &Inst<WritePipe>) -> Fallible<Ref> {
    write_eof(this)?;
    Ok(none().own())
}

fn py_can_write_eof(_this: &Inst<WritePipe>) -> Fallible<Ref> {
    Ok(boolean(true).own())
}

fn py_abort(this: &Inst<WritePipe>) -> Fallible<Ref> {
    pipe::end(this, none())?;
    Ok(none().own())
}

fn py_read_ready(this: &Inst<WritePipe>) -> Fallible<Ref> {
    hung_up(this)?;
    Ok(none().own())
}

fn py_write_ready(this: &Inst<WritePipe>) -> Fallible<Ref> {
    ready(this)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    // As of `SocketTransport`: a subclass of `asyncio.WriteTransport` whose other slots stay empty.
    let base = object::import(c"asyncio.transports")?.get(&*object::interned(c"_FlowControlMixin")?)?;
    let mut methods = class_methods!(WritePipe, "WritePipeTransport";
        c"write" => any py_write,
            c"write($self, data)\n--\n\nWrite some bytes. What the pipe does not take at once is kept and \
              written when it can be; this does not wait.";
        c"write_eof" => none py_write_eof,
            c"write_eof($self, /)\n--\n\nWrite what is kept, and then close the pipe.";
        c"can_write_eof" => none py_can_write_eof, c"can_write_eof($self, /)\n--\n\nReturn True.";
        c"close" => none py_write_eof,
            c"close($self, /)\n--\n\nWrite what is kept, and then close the pipe.";
        c"abort" => none py_abort,
            c"abort($self, /)\n--\n\nClose the pipe at once; what is kept is lost.";
        c"_read_ready" => none py_read_ready, c"_read_ready($self, /)\n--\n\nNobody reads any more.";
        c"_write_ready" => none py_write_ready, c"_write_ready($self, /)\n--\n\nWrite what is kept.";
    );
    methods.extend(pipe::pipe_methods!(WritePipe, "WritePipeTransport"));
    methods.extend(flow::flow_methods!(WritePipe, "WritePipeTransport"));
    let mut attributes = class_attributes!(WritePipe, "WritePipeTransport";
        c"_conn_lost" => stream::py_lost;
    );
    attributes.extend(pipe::pipe_attributes!(WritePipe, "WritePipeTransport"));
    attributes.extend(flow::flow_attributes!(WritePipe, "WritePipeTransport"));
    crate::cpython::spec::define::<WritePipe>(Spec {
        base: Some(base),
        doc: Some(c"The transport of the writing end of a pipe, implemented in Rust."),
        methods,
        attributes,
        slots: class_slots!(WritePipe, "WritePipeTransport"; init py_init, repr py_repr),
    })
}
