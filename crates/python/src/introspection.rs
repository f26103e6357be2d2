//! `current_task` and `all_tasks`.
//!
//! They ask the registers that asyncio's own functions ask, whichever those are on this version.

use std::ffi::CStr;

use crate::cpython::global::Global;
use crate::cpython::layout::ThreadSlots;
use crate::cpython::object::{self, none};
use crate::cpython::{Args, Fallible, Obj, Raised, Ref, Signature};
use crate::ensure_future::loop_of;
use crate::registry;
use crate::state::state;
use crate::waiters;

/// How often the set of all tasks is read again that changes while it is read.
const TRIES: usize = 1000;

/// Where tasks are noted.
#[derive(Debug)]
struct Known {
    /// `asyncio.tasks.current_task` as it was at import.
    current_task: Ref,
    all: All,
}

#[derive(Debug)]
enum All {
    /// Python's own function (from 3.14 on).
    Asked(Ref),
    /// The sets that hold them: weakly, and while they take their eager step.
    In { scheduled: Ref, eager: Option<Ref> },
}

static KNOWN: Global<Known> = Global::new();

/// The loop that is given, or the one that runs.
fn given_or_running(args: &Args<'_>, function: &'static str) -> Fallible<Ref> {
    let [event_loop] = args.parse(&Signature { function, names: ["loop"], positional: 1, required: 0 })?;
    match event_loop.filter(|event_loop| !event_loop.is_none()) {
        Some(event_loop) => Ok(event_loop.own()),
        None => registry::running_loop()?.ok_or_else(|| Raised::runtime_error("no running event loop")),
    }
}

/// `current_task(loop=None)`.
pub fn py_current_task(args: Args<'_>) -> Fallible<Ref> {
    let event_loop = given_or_running(&args, "current_task")?;
    if let Some(current) =
        ThreadSlots::here().filter(|slots| slots.runs(&event_loop)).and_then(|slots| slots.current_task())
    {
        return Ok(current);
    }
    match &state().registers.current {
        Some(current) => Ok(object::dict_get(current, &event_loop)?.unwrap_or_else(|| none().own())),
        None => KNOWN.get().current_task.call(&[&event_loop]),
    }
}

/// `all_tasks(loop=None)`.
pub fn py_all_tasks(args: Args<'_>) -> Fallible<Ref> {
    let event_loop = given_or_running(&args, "all_tasks")?;
    match &KNOWN.get().all {
        All::Asked(all_tasks) => all_tasks.call(&[&event_loop]),
        All::In { scheduled, eager } => tasks_in(scheduled, eager.as_deref(), &event_loop),
    }
}

fn tasks_in(scheduled: &Obj, eager: Option<&Obj>, event_loop: &Obj) -> Fallible<Ref> {
    let eager = eager.map_or(Ok(Vec::new()), Obj::items)?;
    let pending = object::new_set()?;
    for task in read(scheduled)?.iter().chain(&eager) {
        if loop_of(task)?.is(event_loop) && !waiters::is_done(task)? {
            object::set_add(&pending, task)?;
        }
    }
    Ok(pending)
}

/// What is in a set that other threads may change meanwhile.
fn read(set: &Obj) -> Fallible<Vec<Ref>> {
    let mut tries = 0;
    loop {
        match set.items() {
            Err(raised) if tries < TRIES && raised.matches(object::runtime_error()) => {
                raised.discard();
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Looks up what there is.
pub fn init() -> Fallible<()> {
    let tasks = &state().tasks_module;
    let of = |name: &CStr| -> Fallible<Option<Ref>> { tasks.get_if_there(&*object::interned(name)?) };
    let missing = || Raised::runtime_error("asyncio keeps its tasks elsewhere");
    let all = if state().minor >= 14 {
        All::Asked(of(c"all_tasks")?.ok_or_else(missing)?)
    } else {
        let scheduled = of(c"_scheduled_tasks")?;
        let scheduled = if scheduled.is_some() { scheduled } else { of(c"_all_tasks")? };
        All::In { scheduled: scheduled.ok_or_else(missing)?, eager: of(c"_eager_tasks")? }
    };
    KNOWN.set(Known { current_task: of(c"current_task")?.ok_or_else(missing)?, all });
    Ok(())
}
