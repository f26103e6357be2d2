//! asyncio's registers: which tasks there are, which one is current on this thread, and who awaits whom.
//!
//! They are asyncio's own, so that `asyncio.all_tasks()`, `asyncio.current_task()` and debuggers see our tasks
//! beside everybody else's. They are kept the short way where that is known to be sound (`cpython::layout` on 3.14
//! and later, the dictionary and the set behind asyncio's functions before), and through asyncio's functions
//! elsewhere.

use crate::cpython::layout::ThreadSlots;
use crate::cpython::object;
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::future::{Future, FutureLike};
use crate::state::state;
use crate::task::Task;

/// How a task was made current, for [`leave`].
#[derive(Debug)]
pub enum Entered {
    /// In the thread's state.
    Here(ThreadSlots),
    /// In asyncio's dictionary, or by its function.
    Elsewhere,
}

/// Makes `task` the current task of `event_loop`; there must be none.
#[inline(always)]
pub fn enter(event_loop: &Obj, task: &Obj) -> Fallible<Entered> {
    if let Some(slots) = ThreadSlots::here().filter(|slots| slots.runs(event_loop)) {
        let Some(other) = slots.swap_current(Some(task.own())) else { return Ok(Entered::Here(slots)) };
        let message = entering_while_another(task, &other);
        drop(slots.swap_current(Some(other)));
        return Err(Raised::runtime_error(&message));
    }
    enter_elsewhere(event_loop, task).map(|()| Entered::Elsewhere)
}

fn enter_elsewhere(event_loop: &Obj, task: &Obj) -> Fallible<()> {
    let registers = &state().registers;
    if let Some(current) = &registers.current {
        if let Some(other) = object::dict_get(current, event_loop)? {
            return Err(Raised::runtime_error(&entering_while_another(task, &other)));
        }
        return object::dict_set(current, event_loop, task);
    }
    registers.enter.call(&[event_loop, task]).map(drop)
}

#[cold]
fn entering_while_another(task: &Obj, other: &Obj) -> String {
    format!("Cannot enter into task {} while another task {} is being executed.", task.shown(), other.shown())
}

/// Ends what `enter` began. An exception that is set stays set.
#[inline(always)]
pub fn leave(entered: Entered, event_loop: &Obj, task: &Obj) -> Fallible<()> {
    if let Entered::Here(slots) = entered {
        let current = slots.swap_current(None);
        if current.as_deref().is_some_and(|current| current.is(task)) {
            return Ok(());
        }
        // Somebody has put another there; asyncio says what is wrong.
        drop(slots.swap_current(current));
    }
    undisturbed(|| leave_elsewhere(event_loop, task))
}

fn leave_elsewhere(event_loop: &Obj, task: &Obj) -> Fallible<()> {
    let registers = &state().registers;
    match &registers.current {
        Some(current) if object::dict_get(current, event_loop)?.is_some_and(|found| found.is(task)) => {
            object::dict_del(current, event_loop)
        }
        _ => registers.leave.call(&[event_loop, task]).map(drop),
    }
}

/// Runs something while an exception may be set; it is still set afterwards, unless `work` fails as well.
fn undisturbed(work: impl FnOnce() -> Fallible<()>) -> Fallible<()> {
    let pending = Raised::pending();
    let outcome = work();
    match (pending, outcome) {
        (Some(pending), Ok(())) => {
            let _raised = Raised::from_exception(pending);
            Ok(())
        }
        (_, outcome) => outcome,
    }
}

/// Puts a task, or none, in place of the current one, which is returned (from 3.12 on, for eager tasks).
pub fn swap(event_loop: &Obj, task: Option<&Obj>) -> Fallible<Option<Ref>> {
    let registers = &state().registers;
    if let Some(slots) = ThreadSlots::here().filter(|slots| slots.runs(event_loop)) {
        return Ok(slots.swap_current(task.map(Obj::own)));
    }
    let swap =
        registers.swap.as_ref().ok_or_else(|| Raised::runtime_error("eager tasks need Python 3.12"))?;
    let previous = swap.call(&[event_loop, task.unwrap_or_else(|| object::none())])?;
    Ok((!previous.is_none()).then_some(previous))
}

/// Registers a task.
#[inline]
pub fn register(task: &Inst<Task>) -> Fallible<()> {
    if task.link() { Ok(()) } else { register_elsewhere(task) }
}

/// Where the thread's list cannot be written directly. The task keeps what takes it out again: a weak reference, or
/// `True` if asyncio's function has to.
fn register_elsewhere(task: &Inst<Task>) -> Fallible<()> {
    let registers = &state().registers;
    if let Some((set, remove)) = &registers.scheduled {
        // What WeakSet.add() does, without the call.
        let reference = object::weak_reference(task.obj(), Some(remove))?;
        object::set_add(set, &reference)?;
        task.registered.set(reference);
        return Ok(());
    }
    // A debugger that meets a task without a name there gives up on all of them.
    registers.set_base_name.call(&[task.obj(), &*crate::task::name(task)?])?;
    registers.register.call(&[task.obj()])?;
    task.registered.set(object::boolean(true).own());
    Ok(())
}

/// Takes a task that is done, or about to go, out of the register. Leaves an exception that is set alone.
#[inline]
pub fn unregister(task: &Inst<Task>) {
    task.unlink();
    if !task.registered.is_empty() {
        unregister_elsewhere(task);
    }
}

fn unregister_elsewhere(task: &Inst<Task>) {
    let Some(registered) = task.registered.take() else { return };
    let registers = &state().registers;
    let outcome = undisturbed(|| match &registers.scheduled {
        Some((set, _)) => object::set_discard(set, &registered),
        None => registers.unregister.call(&[task.obj()]).map(drop),
    });
    if let Err(raised) = outcome {
        raised.report(Some(task.obj()));
    }
}

/// Registers a task that takes its eager step, where the version has a register of its own for those.
pub fn register_eager(task: &Inst<Task>) -> Fallible<()> {
    match &state().registers.register_eager {
        Some(register) if state().minor < 14 => register.call(&[task.obj()]).map(drop),
        _ => register(task),
    }
}

/// Ends what `register_eager` began.
pub fn unregister_eager(task: &Inst<Task>) -> Fallible<()> {
    match &state().registers.unregister_eager {
        Some(unregister) if state().minor < 14 => unregister.call(&[task.obj()]).map(drop),
        _ => Ok(()),
    }
}

/// Notes that a task awaits one of our futures or tasks.
#[inline]
pub fn add_awaited_by<T: FutureLike>(future: &Inst<T>, task: &Inst<Task>) -> Fallible<()> {
    // Only where there is such a register is there a place for it.
    if future.show_awaited_by(task.obj()) { Ok(()) } else { add_foreign_awaited_by(future.obj(), task) }
}

/// Ends what `add_awaited_by` began.
#[inline]
pub fn discard_awaited_by<T: FutureLike>(future: &Inst<T>, task: &Inst<Task>) -> Fallible<()> {
    if future.hide_awaited_by(task.obj()) { Ok(()) } else { discard_foreign_awaited_by(future.obj(), task) }
}

/// Notes that a task awaits somebody else's future.
#[inline(never)]
pub fn add_foreign_awaited_by(future: &Obj, task: &Inst<Task>) -> Fallible<()> {
    match &state().registers.add_awaited_by {
        Some(add) => add.call(&[future, task.obj()]).map(drop),
        None => Ok(()),
    }
}

/// Ends what `add_foreign_awaited_by` began; for our own futures too.
#[inline(never)]
pub fn discard_foreign_awaited_by(future: &Obj, task: &Inst<Task>) -> Fallible<()> {
    match &state().registers.discard_awaited_by {
        Some(discard) => discard.call(&[future, task.obj()]).map(drop),
        None => Ok(()),
    }
}

/// `discard_awaited_by` for a future whose class is not known.
pub fn discard_any_awaited_by(future: &Obj, task: &Inst<Task>) -> Fallible<()> {
    if let Some(future) = Inst::<Future>::of(future) {
        return discard_awaited_by(future, task);
    }
    if let Some(future) = Inst::<Task>::of(future) {
        return discard_awaited_by(future, task);
    }
    discard_foreign_awaited_by(future, task)
}

/// The loop that runs on this thread, if one does.
#[inline]
pub fn running_loop() -> Fallible<Option<Ref>> {
    if let Some(slots) = ThreadSlots::here() {
        return Ok(slots.running_loop());
    }
    let running = state().events.call_method(&state().names.get_running_loop_private, &[])?;
    Ok((!running.is_none()).then_some(running))
}

/// Whether this is the running loop, as far as that can be seen at once.
#[inline]
pub fn is_running_loop(event_loop: &Obj) -> bool {
    ThreadSlots::here().is_some_and(|slots| slots.runs(event_loop))
}

/// The current task of the running loop, or `None`; an error if no loop runs. `name` is "current_task".
pub fn current_task(name: &Obj) -> Fallible<Ref> {
    if let Some(current) = ThreadSlots::here().and_then(|slots| slots.current_task()) {
        return Ok(current);
    }
    // Also where tasks are registered elsewhere, as asyncio's own in Python are.
    state().tasks_module.call_method(name, &[])
}

/// The current task of this loop, or `None`. `name` is "current_task".
pub fn current_task_of(event_loop: &Obj, name: &Obj) -> Fallible<Ref> {
    if let Some(slots) = ThreadSlots::here().filter(|slots| slots.runs(event_loop))
        && let Some(current) = slots.current_task()
    {
        return Ok(current);
    }
    state().tasks_module.call_method(name, &[event_loop])
}

/// Notes that a task awaits a future, whosever they are, where the version keeps track of that.
#[inline(always)]
pub fn note_awaited(future: &Obj, by: &Obj) -> Fallible<()> {
    match (Inst::<Task>::exactly(future), Inst::<Task>::exactly(by)) {
        (Some(future), Some(task)) => add_awaited_by(future, task),
        _ => note_any_awaited(future, by),
    }
}

#[inline(never)]
fn note_any_awaited(future: &Obj, by: &Obj) -> Fallible<()> {
    if state().registers.add_awaited_by.is_none() {
        return Ok(());
    }
    state().futures_module.call_method(&state().names.future_add_to_awaited_by, &[future, by]).map(drop)
}

/// Ends what `note_awaited` began.
#[inline(always)]
pub fn forget_awaited(future: &Obj, by: &Obj) -> Fallible<()> {
    match (Inst::<Task>::exactly(future), Inst::<Task>::exactly(by)) {
        (Some(future), Some(task)) => discard_awaited_by(future, task),
        _ => forget_any_awaited(future, by),
    }
}

#[inline(never)]
fn forget_any_awaited(future: &Obj, by: &Obj) -> Fallible<()> {
    if state().registers.discard_awaited_by.is_none() {
        return Ok(());
    }
    state().futures_module.call_method(&state().names.future_discard_from_awaited_by, &[future, by]).map(drop)
}
