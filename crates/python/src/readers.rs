//! `add_reader`, `add_writer` and their removal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use velodrome_engine::{Interest, Key};

use crate::cpython::object::{self, boolean, none};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Visitor};
use crate::event_loop::EventLoop;
use crate::handle::{self, Handle};
use crate::job::Job;
use crate::sockets::{rests, send_file};

/// The registrations made by `add_reader` and `add_writer`, by descriptor.
///
/// The handle is the engine's; what is kept here is the engine's key, to find it again, and the file object that the
/// descriptor was asked of, because it can be closed before it is removed.
#[derive(Debug, Default)]
pub struct Readers(RefCell<HashMap<(i64, Direction), Registration>>);

#[derive(Debug)]
struct Registration {
    key: Key,
    /// None for a plain number.
    file: Option<Ref>,
}

/// [`Interest`], as part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Read,
    Write,
}

impl Direction {
    fn interest(self) -> Interest {
        match self {
            Direction::Read => Interest::Read,
            Direction::Write => Interest::Write,
        }
    }
}

impl Readers {
    /// Forgets all of them (the engine is gone, or new).
    pub fn clear(&self) {
        let forgotten = self.0.take();
        drop(forgotten);
    }

    /// Shows the file objects to the garbage collector.
    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        if let Ok(registrations) = self.0.try_borrow() {
            registrations
                .values()
                .filter_map(|found| found.file.as_ref())
                .for_each(|file| visitor.object(file));
        }
    }

    /// The descriptor of a file object or a number. One that is closed by now is known by its object, as `selectors`
    /// knows it.
    fn descriptor_of(&self, file: &Obj, direction: Direction) -> Fallible<i64> {
        crate::cpython::descriptor::of(file).or_else(|raised| {
            let registrations = self.0.borrow();
            let known = registrations.iter().find(|((_, of), found)| {
                *of == direction && found.file.as_ref().is_some_and(|known| known.is(file))
            });
            match known {
                Some(((descriptor, _), _)) if raised.matches(object::value_error()) => {
                    raised.discard();
                    Ok(*descriptor)
                }
                _ => Err(raised),
            }
        })
    }
}

/// Watches a descriptor; a callback that was there before is cancelled and replaced.
fn add(
    this: &Inst<EventLoop>,
    direction: Direction,
    args: Args<'_>,
    caller: Caller,
) -> Fallible<Own<Handle>> {
    let function = match direction {
        Direction::Read => "add_reader",
        Direction::Write => "add_writer",
    };
    let keyword = (caller == Caller::Asyncio).then_some("context");
    let (arguments, context) = args.variadic(function, &["fd", "callback"], keyword)?;
    let (file, callback, arguments) = (arguments[0], arguments[1], &arguments[2..]);
    if this.engine.borrow().is_none() {
        return Err(this.closed_error());
    }
    let descriptor = this.readers.descriptor_of(file, direction)?;
    if caller == Caller::Program {
        this.transports.refuse(descriptor, file)?;
    }
    let context = handle::context_or_current(context)?;
    let handle = handle::with_context(this.obj(), callback, arguments, context)?;
    let job = Job::Handle(handle.clone());
    let known = this.readers.0.borrow().get(&(descriptor, direction)).map(|found| found.key);
    let refused = match known {
        Some(key) => match this.with_engine(|engine| engine.replace(key, job))? {
            Ok(old) => {
                cancel(Some(old))?;
                return Ok(handle);
            }
            Err(job) => job,
        },
        None => job,
    };
    end_call(this, descriptor, direction);
    let fd = crate::cpython::descriptor::borrowed(crate::cpython::descriptor::for_the_kernel(descriptor)?);
    let watched = this.with_engine(|engine| engine.watch(fd, direction.interest(), refused))?;
    let key = watched.map_err(|error| Raised::os_error(&error))?;
    note(this, (descriptor, direction), key, file);
    Ok(handle)
}

fn note(this: &Inst<EventLoop>, place: (i64, Direction), key: Key, file: &Obj) {
    let registration = Registration { key, file: (!file.is_any_int()).then(|| file.own()) };
    let old = this.readers.0.borrow_mut().insert(place, registration);
    drop(old);
}

/// Who asks: a program may not touch what a transport uses, asyncio's own code may, and has contexts to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Program,
    Asyncio,
}

/// Stops watching; says whether there was anything to stop.
fn remove(this: &Inst<EventLoop>, direction: Direction, file: &Obj, caller: Caller) -> Fallible<Ref> {
    if this.engine.borrow().is_none() {
        return Ok(boolean(false).own());
    }
    let descriptor = this.readers.descriptor_of(file, direction)?;
    if caller == Caller::Program {
        this.transports.refuse(descriptor, file)?;
    }
    let registration = this.readers.0.borrow_mut().remove(&(descriptor, direction));
    let old = match &registration {
        Some(registration) => this.with_engine(|engine| engine.unwatch(registration.key))?,
        None => None,
    };
    if old.is_none() {
        // There was none, or a transport has taken the descriptor over since.
        return Ok(boolean(end_call(this, descriptor, direction)).own());
    }
    cancel(old)?;
    Ok(boolean(true).own())
}

/// Watches for a `sock_*`, in place of whatever watched the same direction of the descriptor.
pub fn watch_call(
    this: &Inst<EventLoop>,
    descriptor: BorrowedFd<'_>,
    interest: Interest,
    job: Job,
) -> Fallible<Key> {
    let number = descriptor.as_raw_fd();
    let renewed = this.with_engine(|engine| match engine.find(number, interest) {
        Some((key, known)) if rests(known) => engine.renew(descriptor, key, job).map_err(|(_, job)| job),
        _ => Err(job),
    })?;
    let job = match renewed {
        Ok((key, old)) => {
            drop(old);
            return Ok(key);
        }
        Err(job) => job,
    };
    let key = this.watch(descriptor, interest, job)?;
    let direction = if interest == Interest::Read { Direction::Read } else { Direction::Write };
    let number = i64::from(descriptor.as_raw_fd());
    let replaced = this.readers.0.borrow_mut().remove(&(number, direction));
    drop(replaced);
    Ok(key)
}

/// Ends the registration of a `sock_*` for this direction of a descriptor, whose number may be another's by now, or that of a
/// pipe's transport, which asyncio does not protect either; whether there was one that waited.
fn end_call(this: &Inst<EventLoop>, descriptor: i64, direction: Direction) -> bool {
    let ended = {
        let mut engine = this.engine.borrow_mut();
        let (Some(engine), Ok(number)) = (engine.as_mut(), RawFd::try_from(descriptor)) else { return false };
        match engine.find(number, direction.interest()) {
            Some((
                key,
                Job::Socket(_)
                | Job::SendFile(_)
                | Job::PipeReadable(_)
                | Job::PipeWritable(_)
                | Job::PipeHungUp(_),
            )) => engine.unwatch(key),
            _ => None,
        }
    };
    match ended {
        Some(Job::Socket(call)) => {
            crate::sockets::forget(&call);
            !call.is_done()
        }
        Some(Job::SendFile(sending)) => {
            send_file::forget(&sending);
            true
        }
        Some(_transport) => true,
        None => false,
    }
}

/// An event that is queued already must not call a callback that was removed.
pub fn cancel(job: Option<Job>) -> Fallible<()> {
    match job {
        Some(Job::Handle(handle)) => handle::cancel(&*handle),
        Some(Job::Socket(call)) => {
            crate::sockets::forget(&call);
            Ok(())
        }
        Some(Job::SendFile(sending)) => {
            send_file::forget(&sending);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn py_add_reader(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Read, args, Caller::Program)?;
    Ok(none().own())
}

fn py_add_writer(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Write, args, Caller::Program)?;
    Ok(none().own())
}

fn py_add_reader_handle(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Read, args, Caller::Asyncio).map(Own::into_ref)
}

fn py_add_writer_handle(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Write, args, Caller::Asyncio).map(Own::into_ref)
}

fn py_remove_reader(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let [file] = args.parse(&Signature { function: "remove_reader", ..REMOVE })?;
    remove(this, Direction::Read, file.unwrap_or(none()), Caller::Program)
}

fn py_remove_writer(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let [file] = args.parse(&Signature { function: "remove_writer", ..REMOVE })?;
    remove(this, Direction::Write, file.unwrap_or(none()), Caller::Program)
}

fn py_remove_reader_private(this: &Inst<EventLoop>, file: &Obj) -> Fallible<Ref> {
    remove(this, Direction::Read, file, Caller::Asyncio)
}

fn py_remove_writer_private(this: &Inst<EventLoop>, file: &Obj) -> Fallible<Ref> {
    remove(this, Direction::Write, file, Caller::Asyncio)
}

/// `_watched(fd)`, as the bits of the `selectors` module.
pub fn py_watched(this: &Inst<EventLoop>, number: &Obj) -> Fallible<Ref> {
    let descriptor = crate::cpython::descriptor::for_the_kernel(number.to_i64()?)?;
    let watched = |interest, bit| match this.engine.borrow().as_ref() {
        Some(engine) if engine.find(descriptor, interest).is_some_and(|(_, job)| !rests(job)) => bit,
        _ => 0,
    };
    object::int(watched(Interest::Read, 1) | watched(Interest::Write, 2))
}

/// The parameters of both.
const REMOVE: Signature<1> = Signature { function: "", names: ["fd"], positional: 1, required: 1 };

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"add_reader" => any py_add_reader,
            c"add_reader($self, fd, callback, *args)\n--\n\nCall callback(*args) whenever fd can be read.";
        c"add_writer" => any py_add_writer,
            c"add_writer($self, fd, callback, *args)\n--\n\nCall callback(*args) whenever fd can be written.";
        c"remove_reader" => any py_remove_reader,
            c"remove_reader($self, fd)\n--\n\nStop watching fd for reading; return whether it was watched.";
        c"remove_writer" => any py_remove_writer,
            c"remove_writer($self, fd)\n--\n\nStop watching fd for writing; return whether it was watched.";
        c"_add_reader" => any py_add_reader_handle,
            c"_add_reader($self, fd, callback, *args, context=None)\n--\n\nadd_reader() that returns the handle.";
        c"_add_writer" => any py_add_writer_handle,
            c"_add_writer($self, fd, callback, *args, context=None)\n--\n\nadd_writer() that returns the handle.";
        c"_remove_reader" => one py_remove_reader_private,
            c"_remove_reader($self, fd, /)\n--\n\nremove_reader().";
        c"_remove_writer" => one py_remove_writer_private,
            c"_remove_writer($self, fd, /)\n--\n\nremove_writer().";
    )
}
