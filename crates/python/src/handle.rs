//! `Handle`: a callback that waits in the ready queue.
//!
//! The class derives from `asyncio.Handle` and keeps everything in that class's own slots (see
//! `cpython::handle_slots`), so what programs read and replace there is what runs.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpython::handle_slots::HandleLayout;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::raised::{stops_the_loop, while_handling};
use crate::cpython::{Base, Class, Fallible, Home, Inst, Obj, Own, Raised, Ref, Spec, Visitor};
use crate::event_loop::EventLoop;
use crate::state::state;

/// The class `Handle`; it has no fields of its own.
#[derive(Debug)]
pub struct Handle;

static HOME: Home = Home::new();

impl Class for Handle {
    const NAME: &'static std::ffi::CStr = c"velodrome.Handle";
    const KEPT: usize = crate::cpython::class::KEPT;
    const BASE: Base = Base::Python;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> Handle {
        Handle
    }

    fn traverse(this: &Inst<Handle>, visitor: &mut Visitor<'_>) {
        traverse_slots(this, visitor);
    }

    fn clear(this: &Inst<Handle>) {
        clear_slots(this);
    }

    fn dying(this: &Inst<Handle>) {
        clear_slots(this);
    }
}

/// Shows asyncio's slots to the collector.
pub fn traverse_slots<T: HandleLayout>(this: &Inst<T>, visitor: &mut Visitor<'_>) {
    visitor.slot(this.callback_slot());
    visitor.slot(this.args_slot());
    visitor.slot(this.cancelled_slot());
    visitor.slot(this.loop_slot());
    visitor.slot(this.source_traceback_slot());
    visitor.slot(this.repr_slot());
    visitor.slot(this.context_slot());
}

/// Empties asyncio's slots.
#[inline]
pub fn clear_slots<T: HandleLayout>(this: &Inst<T>) {
    this.callback_slot().clear();
    this.args_slot().clear();
    this.cancelled_slot().clear();
    this.loop_slot().clear();
    this.source_traceback_slot().clear();
    this.repr_slot().clear();
    this.context_slot().clear();
}

/// Fills the slots of a new handle, as asyncio's `__init__` does.
#[inline]
pub fn fill<T: HandleLayout>(
    this: &Inst<T>,
    event_loop: &Obj,
    callback: &Obj,
    arguments: Ref,
    context: Ref,
) -> Fallible<()> {
    this.callback_slot().fill(callback.own());
    this.args_slot().fill(arguments);
    this.cancelled_slot().fill(boolean(false).own());
    this.loop_slot().fill(event_loop.own());
    this.repr_slot().fill(none().own());
    this.context_slot().fill(context);
    let traceback = match Inst::<EventLoop>::of(event_loop).is_some_and(|ours| ours.is_debug()) {
        true => state().extract_stack()?,
        false => none().own(),
    };
    this.source_traceback_slot().fill(traceback);
    Ok(())
}

/// The arguments as a handle keeps them.
#[inline]
pub fn arguments_tuple(arguments: &[&Obj]) -> Fallible<Ref> {
    if arguments.is_empty() { Ok(state().empty_tuple.clone()) } else { object::tuple(arguments) }
}

/// A new handle with this context.
#[inline]
pub fn with_context(
    event_loop: &Obj,
    callback: &Obj,
    arguments: &[&Obj],
    context: Ref,
) -> Fallible<Own<Handle>> {
    let handle = Own::<Handle>::new()?;
    fill(&*handle, event_loop, callback, arguments_tuple(arguments)?, context)?;
    Ok(handle)
}

/// The context that was given, or a copy of the current one.
#[inline]
pub fn context_or_current(context: Option<&Obj>) -> Fallible<Ref> {
    match context.filter(|context| !context.is_none()) {
        Some(context) => Ok(context.own()),
        None => crate::cpython::context::copy_current(),
    }
}

/// Whether it was cancelled.
#[inline]
pub fn is_cancelled<T: HandleLayout>(this: &Inst<T>) -> bool {
    !this.cancelled_slot().holds(boolean(false))
}

/// Whether a program has put a function in place of `asyncio.Handle._run`, as tools do that time callbacks.
static RUN_REPLACED: AtomicBool = AtomicBool::new(false);

/// Looks whether that is so.
pub fn refresh_run() -> Fallible<bool> {
    let replaced = !Handle::home().class().get(&state().names.run_private)?.is(&state().handle_run);
    RUN_REPLACED.store(replaced, Ordering::Relaxed);
    Ok(replaced)
}

#[cold]
fn run_replaced(handle: &Obj) -> Fallible<()> {
    Handle::home().class().get(&state().names.run_private)?.call(&[handle]).map(drop)
}

/// Calls the callback in its context. Fails only with what stops the loop.
#[inline]
pub fn run<T: HandleLayout>(this: &Inst<T>) -> Fallible<()> {
    if is_cancelled(this) {
        return Ok(());
    }
    if RUN_REPLACED.load(Ordering::Relaxed) {
        return run_replaced(this.obj());
    }
    let (Some(callback), Some(arguments), Some(context)) =
        (this.callback_slot().get(), this.args_slot().get(), this.context_slot().get())
    else {
        return Ok(());
    };
    if !object::is_tuple(&arguments) || !crate::cpython::context::is_context(&context) {
        // Somebody has put something else there; asyncio's own `_run` knows what to make of it.
        return state().handle_run.call(&[this.obj()]).map(drop);
    }
    match crate::cpython::context::within(&context, || callback.call_tuple(&arguments)) {
        Ok(_result) => Ok(()),
        Err(raised) => failed(&this.loop_slot().get_or_none(), raised, || Ok(this.obj().own())),
    }
}

/// A callback raised: what stops the loop is passed on, the rest goes to the loop's exception handler.
#[cold]
pub fn failed(event_loop: &Obj, raised: Raised, handle: impl FnOnce() -> Fallible<Ref>) -> Fallible<()> {
    let exception = raised.take();
    if stops_the_loop(&exception) {
        return Err(Raised::from_exception(exception));
    }
    let handle = handle()?;
    let tell = || event_loop.call_method(&state().names.callback_failed, &[&handle, &exception]);
    while_handling(&exception, tell).map(drop)
}

/// Cancels the handle; in debug mode a representation is kept for messages.
pub fn cancel<T: HandleLayout>(this: &Inst<T>) -> Fallible<()> {
    if is_cancelled(this) {
        return Ok(());
    }
    this.cancelled_slot().set(boolean(true).own());
    if let Some(event_loop) = this.loop_slot().get() {
        let debug = match Inst::<EventLoop>::of(&event_loop) {
            Some(ours) => ours.is_debug(),
            None => event_loop.call_method(&state().names.get_debug, &[])?.truthy()?,
        };
        if debug {
            this.repr_slot().set(object::text(&this.obj().shown())?);
        }
    }
    this.callback_slot().set(none().own());
    this.args_slot().set(none().own());
    Ok(())
}

fn py_cancel(this: &Inst<Handle>) -> Fallible<Ref> {
    cancel(this)?;
    Ok(none().own())
}

pub fn py_cancelled<T: HandleLayout>(this: &Inst<T>) -> Fallible<Ref> {
    Ok(boolean(is_cancelled(this)).own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let base = state().events.get(&*object::interned(c"Handle")?)?;
    crate::cpython::handle_slots::find_in_handle(&base)?;
    crate::cpython::spec::define::<Handle>(Spec {
        base: Some(base),
        doc: Some(c"A callback that waits for its turn, as call_soon() returns it; it can be cancelled."),
        methods: class_methods!(Handle, "Handle";
            c"cancel" => none py_cancel, c"cancel($self, /)\n--\n\nCancel the callback.";
            c"cancelled" => none py_cancelled,
                c"cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.";
        ),
        slots: class_slots!(Handle, "Handle";),
        ..Spec::default()
    })
}
