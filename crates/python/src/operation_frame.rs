//! `OperationFrame`: what an operation shows in place of a coroutine's frame.
//!
//! Operations have no frames, but call graphs, stacks of tasks and the repr of a task walk `cr_frame`, `cr_code` and
//! `cr_await`. They are shown the code objects of the asyncio functions that the operation stands for, with the line
//! of their `def`; and where asyncio awaits further coroutines of its own inside (`wait` awaits `_wait`), a level for
//! each of them. A level is its frame and its coroutine at once.
//!
//! What must stay true: asyncio's functions are looked up at import, before anything can replace them; a function
//! that this asyncio does not have has no level, and an operation always has its own.

use std::cell::Cell;

use crate::cpython::global::Global;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Slot, Spec, Visitor, coroutine};
use crate::locks::{barrier, lock, semaphore};
use crate::operation::{self, Operation};
use crate::wait_for;

/// The class `OperationFrame`.
#[derive(Debug)]
pub struct OperationFrame {
    operation: Slot,
    /// 0 for the operation itself, 1 for the first coroutine inside it.
    level: Cell<usize>,
}

static HOME: Home = Home::new();

impl Class for OperationFrame {
    const NAME: &'static std::ffi::CStr = c"velodrome.OperationFrame";
    const SUBCLASSED: bool = false;

    fn home() -> &'static Home {
        &HOME
    }

    fn fresh() -> OperationFrame {
        OperationFrame { operation: Slot::empty(), level: Cell::new(0) }
    }

    fn traverse(this: &Inst<OperationFrame>, visitor: &mut Visitor<'_>) {
        visitor.slot(&this.operation);
    }

    fn clear(this: &Inst<OperationFrame>) {
        this.operation.clear();
    }
}

/// The modules whose functions operations stand for, with the classes and functions in which those are found.
const MODULES: [(&std::ffi::CStr, &[&str]); 8] = [
    (
        c"asyncio.tasks",
        &["sleep", "wait", "_wait", "wait_for", "_cancel_and_wait", "as_completed", "_AsCompletedIterator"],
    ),
    (
        c"asyncio.locks",
        &["_ContextManagerMixin", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"],
    ),
    (c"asyncio.queues", &["Queue"]),
    (c"asyncio.timeouts", &["Timeout"]),
    (c"asyncio.taskgroups", &["TaskGroup"]),
    (c"asyncio.threads", &["to_thread"]),
    (c"asyncio.streams", &["StreamReader", "StreamWriter", "FlowControlMixin"]),
    (c"asyncio.selector_events", &[ASYNCIOS_LOOP]),
];

/// The class of asyncio's in whose place ours is called `Loop`.
const ASYNCIOS_LOOP: &str = "BaseSelectorEventLoop";

/// The coroutines inside an operation that asyncio would have below it, by the stage that the operation is in.
fn inside(qualname: &str, stage: u8) -> &'static [&'static str] {
    match qualname {
        "wait" => &["_wait"],
        "wait_for" if stage == wait_for::CANCELLED => &["_cancel_and_wait"],
        "TaskGroup.__aexit__" => &["TaskGroup._aexit"],
        "_AsCompletedIterator.__anext__" => &["_AsCompletedIterator._wait_for_one"],
        "_ContextManagerMixin.__aenter__" if stage == lock::WAITING => &["Lock.acquire"],
        "_ContextManagerMixin.__aenter__" if stage == semaphore::WAITING => &["Semaphore.acquire"],
        "Barrier.wait" if stage == barrier::BLOCKED => &["Barrier._block", "Condition.wait_for"],
        "Barrier.wait" if stage == barrier::INSIDE => &["Barrier._wait", "Condition.wait_for"],
        _ => &[],
    }
}

/// Qualified name → (code object, globals).
static CODES: Global<Ref> = Global::new();

fn look() -> Fallible<Ref> {
    let codes = object::dict(&[])?;
    let (code_name, globals_name) = (object::interned(c"__code__")?, object::interned(c"__globals__")?);
    let note = |function: &Obj| -> Fallible<()> {
        if let Some(code) = function.get_if_there(&code_name)?
            && let Some(globals) = function.get_if_there(&globals_name)?
        {
            let name = function.get(&*object::interned(c"__qualname__")?)?.to_text();
            let name = object::text(&name.replace(ASYNCIOS_LOOP, "Loop"))?;
            object::dict_set(&codes, &name, &*object::tuple(&[&code, &globals])?)?;
        }
        Ok(())
    };
    for (module, names) in MODULES {
        let module = object::import(module)?;
        for name in names {
            let Some(found) = module.get_if_there(&*object::text(name)?)? else { continue };
            note(&found)?;
            if let Some(members) = found.get_if_there(&*object::interned(c"__dict__")?)? {
                for member in members.call_method(&*object::interned(c"values")?, &[])?.items()? {
                    note(&member)?;
                }
            }
        }
    }
    Ok(codes)
}

/// The code object and the globals of a level's function.
fn function_of(name: &str) -> Fallible<Option<(Ref, Ref)>> {
    let Some(found) = object::dict_get(CODES.get(), &*object::text(name)?)? else { return Ok(None) };
    let mut pair = found.items()?.into_iter();
    Ok(pair.next().zip(pair.next()))
}

/// What is shown of a function that this asyncio does not have, or that is ours alone.
fn function_or_empty(name: &str) -> Fallible<(Ref, Ref)> {
    match function_of(name)? {
        Some(found) => Ok(found),
        None => Ok((coroutine::empty_code(name)?, object::dict(&[])?)),
    }
}

/// The names of an operation's levels: its own, and of the coroutines inside.
fn levels(operation: &Inst<Operation>) -> Fallible<Vec<&'static str>> {
    let qualname = operation::qualname(operation);
    let mut names = vec![qualname];
    if operation::is_suspended(operation) {
        for name in inside(qualname, operation.stage.get()) {
            if function_of(name)?.is_some() {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn level_of(operation: &Inst<Operation>, level: usize) -> Fallible<Ref> {
    let frame = Own::<OperationFrame>::new()?;
    frame.operation.set(operation.obj().own());
    frame.level.set(level);
    Ok(frame.into_ref())
}

/// `cr_frame` of an operation: none once it is over.
pub fn of_operation(operation: &Inst<Operation>) -> Fallible<Ref> {
    if operation::is_closed(operation) { Ok(none().own()) } else { level_of(operation, 0) }
}

/// `cr_code` of an operation.
pub fn code_of_operation(operation: &Inst<Operation>) -> Fallible<Ref> {
    Ok(function_or_empty(operation::qualname(operation))?.0)
}

/// `cr_await` of an operation: the first coroutine inside, or what is awaited.
pub fn awaited_by_operation(operation: &Inst<Operation>) -> Fallible<Ref> {
    below(operation, 0)
}

fn below(operation: &Inst<Operation>, level: usize) -> Fallible<Ref> {
    if level + 1 < levels(operation)?.len() {
        return level_of(operation, level + 1);
    }
    Ok(operation::awaited(operation))
}

impl Inst<OperationFrame> {
    fn with<R>(&self, work: impl FnOnce(&Inst<Operation>) -> Fallible<R>) -> Fallible<R> {
        let operation = self.operation.get_or_none();
        match Inst::<Operation>::exactly(&operation) {
            Some(operation) => work(operation),
            None => Err(Raised::runtime_error("the frame has no operation")),
        }
    }

    fn name(&self) -> Fallible<&'static str> {
        // The operation may have gone on since.
        self.with(|operation| Ok(levels(operation)?.get(self.level.get()).copied().unwrap_or_default()))
    }
}

fn py_code(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(function_or_empty(this.name()?)?.0)
}

fn py_globals(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(function_or_empty(this.name()?)?.1)
}

fn py_line(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    py_code(this)?.get(&*object::interned(c"co_firstlineno")?)
}

fn py_last_instruction(_this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::int(0)
}

fn py_locals(_this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::dict(&[])
}

fn py_builtins(_this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::import(c"builtins")?.get(&*object::interned(c"__dict__")?)
}

fn py_nothing(_this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(none().own())
}

fn py_false(_this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(boolean(false).own())
}

/// The coroutine whose frame this is.
fn py_generator(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(if this.level.get() == 0 { this.operation.get_or_none() } else { this.obj().own() })
}

fn py_frame(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    Ok(this.obj().own())
}

fn py_await(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    this.with(|operation| below(operation, this.level.get()))
}

fn py_running(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    this.with(|operation| Ok(boolean(operation::is_running(operation)).own()))
}

fn py_qualname(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::text(this.name()?)
}

fn py_name(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::text(this.name()?.rsplit('.').next().unwrap_or_default())
}

fn py_repr(this: &Inst<OperationFrame>) -> Fallible<Ref> {
    object::text(&format!("<frame of {} at {:p}>", this.name()?, std::ptr::from_ref(this)))
}

/// Makes the class, and looks asyncio's functions up.
pub fn define() -> Fallible<Ref> {
    CODES.set(look()?);
    crate::cpython::spec::define::<OperationFrame>(Spec {
        doc: Some(c"What an operation shows in place of a coroutine's frame."),
        attributes: class_attributes!(OperationFrame, "OperationFrame";
            c"f_back" => py_nothing;
            c"f_builtins" => py_builtins;
            c"f_code" => py_code;
            c"f_generator" => py_generator;
            c"f_globals" => py_globals;
            c"f_lasti" => py_last_instruction;
            c"f_lineno" => py_line;
            c"f_locals" => py_locals;
            c"f_trace" => py_nothing;
            c"f_trace_lines" => py_false;
            c"f_trace_opcodes" => py_false;
            c"__name__" => py_name;
            c"__qualname__" => py_qualname;
            c"cr_await" => py_await;
            c"cr_code" => py_code;
            c"cr_frame" => py_frame;
            c"cr_origin" => py_nothing;
            c"cr_running" => py_running;
        ),
        slots: class_slots!(OperationFrame, "OperationFrame"; repr py_repr),
        ..Spec::default()
    })
}
