//! Reading: `read`, `readexactly`, `readuntil`, `readline` and iteration over lines.
//!
//! What is there is returned without suspending. Whoever has to wait does so by a future in `reader._waiter`, and goes on
//! scanning where it has stopped. On a reader that is not plainly ours the operation awaits asyncio's own coroutine.

use crate::cpython::bytes;
use crate::cpython::global::Global;
use crate::cpython::object::{self, none};
use crate::cpython::raised::while_handling;
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature};
use crate::operation::{self, Kind, Operation, Step};
use crate::original::Code;
use crate::state::state;
use crate::waiters;

use super::reader::{self, StreamReader};
use super::separator::{Match, Separators};

const NEWLINE: Separators = Separators::Byte(b'\n');

/// Stages of an operation: in asyncio's own coroutine, or waiting for more.
const STOCK: u8 = 1;
const WAITING: u8 = 2;

/// One way of reading. `first` is its argument.
macro_rules! kind {
    ($(#[$doc:meta])* $kind:ident, $name:literal, $qualname:literal, $method:ident, $work:ident) => {
        $(#[$doc])*
        static $kind: Kind = Kind {
            name: $name,
            qualname: $qualname,
            begin: |operation| {
                let owner = operation.owner.get_or_none();
                match begin(&owner)? {
                    Some((reader, limit)) => $work(operation, reader, limit),
                    None => stock(operation, &owner, &KNOWN.get().$method),
                }
            },
            resume: |operation, outcome| {
                if operation.stage.get() == STOCK {
                    return finish_stock(operation, outcome?);
                }
                let owner = operation.owner.get_or_none();
                let Some(reader) = Inst::<StreamReader>::of(&owner) else { return Err(nobodys()) };
                waited(reader, outcome)?;
                match reader.plain_limit() {
                    Some(limit) => $work(operation, reader, limit),
                    // The buffer has become something else: asyncio's own code goes on with what is there.
                    None => stock(operation, &owner, &KNOWN.get().$method),
                }
            },
        };
    };
}

kind!(READ, "read", "StreamReader.read", read, read);
kind!(READ_EXACTLY, "readexactly", "StreamReader.readexactly", readexactly, read_exactly);
kind!(READ_UNTIL, "readuntil", "StreamReader.readuntil", readuntil, read_until);
kind!(READ_LINE, "readline", "StreamReader.readline", readline, read_line);
kind!(NEXT_LINE, "__anext__", "StreamReader.__anext__", anext, next_line);

/// What is looked up once.
#[derive(Debug)]
struct Known {
    read: Ref,
    readexactly: Ref,
    readuntil: Ref,
    readline: Ref,
    anext: Ref,
    /// Whether `readuntil` takes a tuple of separators.
    several: bool,
    incomplete_read_error: Ref,
    limit_overrun_error: Ref,
}

static KNOWN: Global<Known> = Global::new();

#[cold]
fn nobodys() -> Raised {
    Raised::runtime_error("the operation has no owner")
}

/// The reader and its limit, if it goes the short way.
#[inline]
fn begin(owner: &Obj) -> Fallible<Option<(&Inst<StreamReader>, usize)>> {
    let Some(reader) = Inst::<StreamReader>::of(owner) else { return Err(nobodys()) };
    Ok(reader.short_way()?.map(|limit| (reader, limit)))
}

/// Leaves it to asyncio's own coroutine.
#[cold]
fn stock(operation: &Inst<Operation>, reader: &Obj, method: &Obj) -> Fallible<Step> {
    let Some(reader) = Inst::<StreamReader>::of(reader) else { return Err(nobodys()) };
    operation.stage.set(STOCK);
    let function = reader.stock(method)?;
    let coroutine = match operation.first.get() {
        Some(argument) => function.call(&[reader.obj(), &argument])?,
        None => function.call(&[reader.obj()])?,
    };
    Ok(Step::Await(coroutine))
}

/// The end of asyncio's own coroutine, which may have gone on where `read_all` had come to.
#[cold]
fn finish_stock(operation: &Inst<Operation>, result: Ref) -> Fallible<Step> {
    let Some(blocks) = operation.second.get() else { return Ok(Step::Done(result)) };
    object::list_append(&blocks, &result)?;
    join(&blocks).map(Step::Done)
}

fn join(blocks: &Obj) -> Fallible<Ref> {
    bytes::bytes(&[])?.call_method(&*object::interned(c"join")?, &[blocks])
}

/// Waits until more comes, nothing more will come, or reading fails.
fn wait(operation: &Inst<Operation>, reader: &Inst<StreamReader>, name: &str) -> Fallible<Step> {
    if !reader.waiter.is_empty() {
        return Err(Raised::runtime_error(&format!(
            "{name}() called while another coroutine is already waiting for incoming data"
        )));
    }
    if reader.eof.get() {
        super::not_asserted("_wait_for_data after EOF")?;
    }
    // A transport that stays paused would bring nothing.
    reader::resume(reader)?;
    let waiter = waiters::create_future(&reader.event_loop.get_or_none())?;
    reader.set_waiter(Some(waiter.clone()))?;
    operation.stage.set(WAITING);
    Ok(Step::Await(waiter))
}

/// The wait is over.
#[inline]
fn waited(reader: &Inst<StreamReader>, outcome: Fallible<Ref>) -> Fallible<()> {
    match outcome {
        Ok(_none) => reader.set_waiter(None),
        Err(raised) => {
            let exception = raised.take();
            reader.set_waiter(None)?;
            Err(Raised::from_exception(exception))
        }
    }
}

/// Fails if reading is to fail.
#[inline]
fn check(reader: &Inst<StreamReader>) -> Fallible<()> {
    match reader.exception.get() {
        None => Ok(()),
        Some(exception) => Err(raise(&exception)),
    }
}

/// `raise exception`, whatever a program has set.
#[cold]
pub fn raise(exception: &Obj) -> Raised {
    if exception.is_exception() {
        Raised::raise(exception)
    } else if exception.is_exception_class() {
        Raised::bare(exception)
    } else {
        Raised::type_error("exceptions must derive from BaseException")
    }
}

/// The number that a plain `int` is; none if it is another object, or too large.
fn number(operation: &Inst<Operation>) -> Fallible<Option<i64>> {
    let given = operation.first.get_or_none();
    if !given.is_int() {
        return Ok(None);
    }
    let number = given.to_i64_or_nearest()?;
    Ok((number.unsigned_abs() < 1 << 62).then_some(number))
}

fn read(operation: &Inst<Operation>, reader: &Inst<StreamReader>, limit: usize) -> Fallible<Step> {
    let waited = operation.stage.get() == WAITING;
    let Some(number) = number(operation)? else {
        return stock(operation, reader.obj(), &KNOWN.get().read);
    };
    if number < 0 {
        return read_all(operation, reader, limit, waited);
    }
    if !waited {
        check(reader)?;
        if number == 0 {
            return bytes::bytes(&[]).map(Step::Done);
        }
        if reader.buffer.is_empty() && !reader.eof.get() {
            return wait(operation, reader, "read");
        }
    }
    take(reader, limit, number as usize).map(Step::Done)
}

/// `read(-1)`: by the limit, so that the transport is paused no longer than need be. `second` has what came, and `number`
/// how much of it the current piece may have: the limit when that was begun.
fn read_all(
    operation: &Inst<Operation>,
    reader: &Inst<StreamReader>,
    limit: usize,
    mut waited: bool,
) -> Fallible<Step> {
    let blocks = match operation.second.get() {
        Some(blocks) => blocks,
        None => object::list(&[])?,
    };
    loop {
        if !waited {
            check(reader)?;
            operation.number.set(limit);
            if limit > 0 && reader.buffer.is_empty() && !reader.eof.get() {
                operation.second.set(blocks);
                return wait(operation, reader, "read");
            }
        }
        waited = false;
        let block = take(reader, limit, operation.number.get())?;
        if !block.truthy()? {
            return join(&blocks).map(Step::Done);
        }
        object::list_append(&blocks, &block)?;
    }
}

fn read_exactly(operation: &Inst<Operation>, reader: &Inst<StreamReader>, limit: usize) -> Fallible<Step> {
    let Some(number) = number(operation)? else {
        return stock(operation, reader.obj(), &KNOWN.get().readexactly);
    };
    if operation.stage.get() != WAITING {
        if number < 0 {
            return Err(Raised::value_error("readexactly size can not be less than zero"));
        }
        check(reader)?;
        if number == 0 {
            return bytes::bytes(&[]).map(Step::Done);
        }
    }
    let number = number as usize;
    let there = reader.buffer.len();
    if there >= number {
        return take(reader, limit, number).map(Step::Done);
    }
    if reader.eof.get() {
        let partial = reader.buffer.take(there)?;
        let class = &KNOWN.get().incomplete_read_error;
        let exception = class.call(&[&partial, &operation.first.get_or_none()])?;
        return Err(Raised::raise(&exception));
    }
    wait(operation, reader, "readexactly")
}

/// Takes up to `count` bytes.
#[inline]
fn take(reader: &Inst<StreamReader>, limit: usize, count: usize) -> Fallible<Ref> {
    let data = reader.buffer.take(count)?;
    reader::maybe_resume(reader, limit)?;
    Ok(data)
}

/// What came of looking for a separator.
enum Found {
    /// The message, separator included.
    Message(Ref),
    /// It is not there yet.
    NotYet,
    /// It will not come: what is left.
    Ended(Ref),
    /// It is, or will be, too far away: how far, and what asyncio says of it.
    TooFar(usize, &'static str),
}

/// Looks for a separator behind what was looked at before, which is counted in the operation's `number`.
fn look(
    operation: &Inst<Operation>,
    reader: &Inst<StreamReader>,
    limit: usize,
    separators: &Separators,
) -> Fallible<Found> {
    let offset = operation.number.get();
    let (shortest, longest) = separators.lengths();
    let (there, found) = reader.buffer.with(|content| {
        let enough = content.len() >= offset.saturating_add(shortest);
        (content.len(), if enough { separators.find(content, offset) } else { None })
    });
    if let Some(Match { start, end }) = found {
        if start > limit {
            return Ok(Found::TooFar(start, "Separator is found, but chunk is longer than limit"));
        }
        return take(reader, limit, end).map(Found::Message);
    }
    if there >= offset.saturating_add(shortest) {
        // Where a longer one may have begun has to be looked at again.
        let offset = (there + 1).saturating_sub(longest);
        operation.number.set(offset);
        if offset > limit {
            return Ok(Found::TooFar(offset, "Separator is not found, and chunk exceed the limit"));
        }
    }
    if reader.eof.get() { reader.buffer.take(there).map(Found::Ended) } else { Ok(Found::NotYet) }
}

fn overrun(message: &str, consumed: usize) -> Fallible<Ref> {
    let consumed = object::int(consumed as i64)?;
    KNOWN.get().limit_overrun_error.call(&[&*object::text(message)?, &consumed])
}

fn read_until(operation: &Inst<Operation>, reader: &Inst<StreamReader>, limit: usize) -> Fallible<Step> {
    let separators = match operation.first.get() {
        Some(argument) => Separators::of(&argument, KNOWN.get().several)?,
        None => Some(NEWLINE),
    };
    let Some(separators) = separators else {
        return stock(operation, reader.obj(), &KNOWN.get().readuntil);
    };
    if operation.stage.get() != WAITING {
        check(reader)?;
    }
    let exception = match look(operation, reader, limit, &separators)? {
        Found::Message(message) => return Ok(Step::Done(message)),
        Found::NotYet => return wait(operation, reader, "readuntil"),
        Found::Ended(partial) => KNOWN.get().incomplete_read_error.call(&[&*partial, none()])?,
        Found::TooFar(consumed, message) => overrun(message, consumed)?,
    };
    Err(Raised::raise(&exception))
}

fn read_line(operation: &Inst<Operation>, reader: &Inst<StreamReader>, limit: usize) -> Fallible<Step> {
    if operation.stage.get() != WAITING {
        check(reader)?;
    }
    match look(operation, reader, limit, &NEWLINE)? {
        Found::Message(line) | Found::Ended(line) => Ok(Step::Done(line)),
        Found::NotYet => wait(operation, reader, "readuntil"),
        Found::TooFar(consumed, message) => {
            // A line that is too long is dropped, as far as it is there.
            let ends = reader.buffer.with(|content| content.get(consumed) == Some(&b'\n'));
            reader.buffer.skip(if ends { consumed + 1 } else { usize::MAX })?;
            reader::maybe_resume(reader, limit)?;
            let overrun = Raised::raise(&*overrun(message, consumed)?).take();
            while_handling(&overrun, || Err(Raised::value_error(message)))
        }
    }
}

fn next_line(operation: &Inst<Operation>, reader: &Inst<StreamReader>, limit: usize) -> Fallible<Step> {
    match read_line(operation, reader, limit)? {
        Step::Done(line) if !line.truthy()? => Err(Raised::bare(object::stop_async_iteration())),
        step => Ok(step),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The methods.

fn operation(kind: &'static Kind, this: &Inst<StreamReader>, argument: Option<&Obj>) -> Fallible<Ref> {
    let operation = operation::create(kind, this.obj())?;
    if let Some(argument) = argument {
        operation.first.set(argument.own());
    }
    Ok(operation.into_ref())
}

fn py_read(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    let [count] =
        args.parse(&Signature { function: "StreamReader.read", names: ["n"], positional: 1, required: 0 })?;
    operation(&READ, this, Some(count.unwrap_or(&state().minus_one)))
}

fn py_readexactly(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    operation(&READ_EXACTLY, this, Some(args.only("StreamReader.readexactly", "n")?))
}

fn py_readuntil(this: &Inst<StreamReader>, args: Args<'_>) -> Fallible<Ref> {
    let [separator] = args.parse(&Signature {
        function: "StreamReader.readuntil",
        names: ["separator"],
        positional: 1,
        required: 0,
    })?;
    operation(&READ_UNTIL, this, separator)
}

fn py_readline(this: &Inst<StreamReader>) -> Fallible<Ref> {
    operation(&READ_LINE, this, None)
}

fn py_anext(this: &Inst<StreamReader>) -> Fallible<Ref> {
    operation(&NEXT_LINE, this, None)
}

/// Looks up what is needed. Called once, at import.
pub fn define(behind: &Obj) -> Fallible<()> {
    let exceptions = object::import(c"asyncio.exceptions")?;
    // From 3.13 on it asks whether it is given a tuple.
    let several = Code::of(behind, c"readuntil")?.uses("tuple")?;
    KNOWN.set(Known {
        read: object::interned(c"read")?,
        readexactly: object::interned(c"readexactly")?,
        readuntil: object::interned(c"readuntil")?,
        readline: object::interned(c"readline")?,
        anext: object::interned(c"__anext__")?,
        several,
        incomplete_read_error: exceptions.get(&*object::interned(c"IncompleteReadError")?)?,
        limit_overrun_error: exceptions.get(&*object::interned(c"LimitOverrunError")?)?,
    });
    Ok(())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<StreamReader>> {
    class_methods!(StreamReader, "StreamReader";
        c"read" => any py_read,
            c"read($self, n=-1)\n--\n\nRead up to n bytes, as soon as there are any; without n, all until the end.";
        c"readexactly" => any py_readexactly,
            c"readexactly($self, n)\n--\n\nRead exactly n bytes; IncompleteReadError has those that came before the end.";
        c"readuntil" => any py_readuntil,
            c"readuntil($self, separator=b'\\n')\n--\n\nRead up to a separator, and with it. From Python 3.13 on it may be \
              a tuple of several.\n\nRaises LimitOverrunError, and leaves what is there, if it is farther away than the \
              limit;\nIncompleteReadError if the end comes first.";
        c"readline" => none py_readline,
            c"readline($self, /)\n--\n\nRead a line; the last one may have no newline at its end.\n\nRaises ValueError, \
              and drops what is there of it, if it is longer than the limit.";
        c"__anext__" => none py_anext, c"__anext__($self, /)\n--\n\nRead the next line.";
    )
}
