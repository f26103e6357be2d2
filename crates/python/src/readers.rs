//! `add_reader`, `add_writer` and their removal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;

use velodrome_engine::{Interest, Key};

use crate::cpython::object::{boolean, none};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::handle::{self, Handle};
use crate::job::Job;

/// The registrations made by `add_reader` and `add_writer`, by descriptor.
///
/// The handle is the engine's; what is kept here is the engine's key, to find it again.
#[derive(Debug, Default)]
pub struct Readers(RefCell<HashMap<(RawFd, Direction), Key>>);

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
    /// Forgets all of them (the engine is gone).
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// Watches a descriptor; a callback that was there before is cancelled and replaced.
fn add(this: &Inst<EventLoop>, direction: Direction, args: Args<'_>) -> Fallible<Own<Handle>> {
    let function = match direction {
        Direction::Read => "add_reader",
        Direction::Write => "add_writer",
    };
    let (positional, _) = args.variadic(function, &["fd", "callback"], c"")?;
    let (file, callback, arguments) = (positional[0], positional[1], &positional[2..]);
    if this.engine.borrow().is_none() {
        return Err(this.closed_error());
    }
    let descriptor = crate::cpython::descriptor::of(file)?;
    let context = crate::cpython::context::copy_current()?;
    let handle = handle::with_context(this.obj(), callback, arguments, context)?;
    let job = Job::Handle(handle.clone());
    let known = this.readers.0.borrow().get(&(descriptor, direction)).copied();
    let old = match known {
        Some(key) => this.with_engine(|engine| engine.replace(key, job))?.ok(),
        None => {
            let fd = crate::cpython::descriptor::borrowed(descriptor);
            let watched = this.with_engine(|engine| engine.watch(fd, direction.interest(), job))?;
            let key = watched.map_err(|error| Raised::os_error(&error))?;
            this.readers.0.borrow_mut().insert((descriptor, direction), key);
            None
        }
    };
    cancel(old)?;
    Ok(handle)
}

/// Stops watching; says whether there was anything to stop.
fn remove(this: &Inst<EventLoop>, direction: Direction, file: &Obj) -> Fallible<Ref> {
    if this.engine.borrow().is_none() {
        return Ok(boolean(false).own());
    }
    let descriptor = crate::cpython::descriptor::of(file)?;
    let Some(key) = this.readers.0.borrow_mut().remove(&(descriptor, direction)) else {
        return Ok(boolean(false).own());
    };
    let old = this.with_engine(|engine| engine.unwatch(key))?;
    cancel(old)?;
    Ok(boolean(true).own())
}

/// An event that is queued already must not call a callback that was removed.
fn cancel(job: Option<Job>) -> Fallible<()> {
    match job {
        Some(Job::Handle(handle)) => handle::cancel(&*handle),
        _ => Ok(()),
    }
}

fn py_add_reader(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Read, args)?;
    Ok(none().own())
}

fn py_add_writer(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Write, args)?;
    Ok(none().own())
}

fn py_add_reader_handle(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Read, args).map(Own::into_ref)
}

fn py_add_writer_handle(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    add(this, Direction::Write, args).map(Own::into_ref)
}

fn py_remove_reader(this: &Inst<EventLoop>, file: &Obj) -> Fallible<Ref> {
    remove(this, Direction::Read, file)
}

fn py_remove_writer(this: &Inst<EventLoop>, file: &Obj) -> Fallible<Ref> {
    remove(this, Direction::Write, file)
}

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"add_reader" => any py_add_reader,
            c"add_reader($self, fd, callback, /, *args)\n--\n\nCall callback(*args) whenever fd can be read.";
        c"add_writer" => any py_add_writer,
            c"add_writer($self, fd, callback, /, *args)\n--\n\nCall callback(*args) whenever fd can be written.";
        c"remove_reader" => one py_remove_reader,
            c"remove_reader($self, fd, /)\n--\n\nStop watching fd for reading; return whether it was watched.";
        c"remove_writer" => one py_remove_writer,
            c"remove_writer($self, fd, /)\n--\n\nStop watching fd for writing; return whether it was watched.";
        c"_add_reader" => any py_add_reader_handle,
            c"_add_reader($self, fd, callback, /, *args)\n--\n\nadd_reader() that returns the handle.";
        c"_add_writer" => any py_add_writer_handle,
            c"_add_writer($self, fd, callback, /, *args)\n--\n\nadd_writer() that returns the handle.";
        c"_remove_reader" => one py_remove_reader, c"_remove_reader($self, fd, /)\n--\n\nremove_reader().";
        c"_remove_writer" => one py_remove_writer, c"_remove_writer($self, fd, /)\n--\n\nremove_writer().";
    )
}
