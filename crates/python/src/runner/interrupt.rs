//! SIGINT while a runner runs: the first one cancels the main task, any other interrupts at once.

use crate::cpython::object::{self, none};
use crate::cpython::raised::set_context;
use crate::cpython::{Args, Fallible, Inst, Obj, Raised, Ref, Signature};
use crate::runner::{KNOWN, Runner};
use crate::state::state;

/// Where SIGINT means `KeyboardInterrupt`, it is ours while the task runs. Gives the handler.
pub(super) fn take_sigint(this: &Inst<Runner>, task: &Obj) -> Fallible<Option<Ref>> {
    let known = KNOWN.get();
    let threading = object::import(c"threading")?;
    let here = threading.call_method(&*object::interned(c"current_thread")?, &[])?;
    if !here.is(&*threading.call_method(&*object::interned(c"main_thread")?, &[])?) {
        return Ok(None);
    }
    let signals = object::import(c"signal")?;
    let sigint = signals.get(&known.sigint)?;
    let now = signals.call_method(&known.getsignal, &[&sigint])?;
    if !now.is(&*signals.get(&known.default_int_handler)?) {
        return Ok(None);
    }
    let on_sigint = this.obj().get(&known.on_sigint)?;
    let handler = known.partial.call_with_keywords(&[&on_sigint, task], &known.main_task)?;
    match signals.call_method(&known.signal, &[&sigint, &handler]) {
        Ok(_) => Ok(Some(handler)),
        // Where the main thread cannot have signal handlers, being embedded.
        Err(raised) if raised.matches(object::value_error()) => {
            raised.discard();
            Ok(None)
        }
        Err(raised) => Err(raised),
    }
}

pub(super) fn give_sigint_back(handler: &Obj) -> Fallible<()> {
    let known = KNOWN.get();
    let signals = object::import(c"signal")?;
    let sigint = signals.get(&known.sigint)?;
    if signals.call_method(&known.getsignal, &[&sigint])?.is(handler) {
        let default = signals.get(&known.default_int_handler)?;
        signals.call_method(&known.signal, &[&sigint, &default])?;
    }
    Ok(())
}

/// The run has failed. If it was cancelled because of SIGINT and nothing else, that is a `KeyboardInterrupt`.
pub(super) fn interrupted(this: &Inst<Runner>, task: &Obj, raised: Raised) -> Raised {
    if this.interrupts.get() == 0 || !raised.matches(&state().cancelled_error) {
        return raised;
    }
    let cancelled = raised.take();
    let ours = || -> Fallible<bool> {
        match task.get_if_there(&KNOWN.get().uncancel)? {
            Some(uncancel) => uncancel.call(&[])?.equals(&state().zero),
            None => Ok(false),
        }
    };
    let raised = match ours() {
        Ok(false) => return Raised::from_exception(cancelled),
        Ok(true) => Raised::bare(object::keyboard_interrupt()),
        Err(raised) => raised,
    };
    let exception = raised.take();
    set_context(&exception, &cancelled);
    Raised::from_exception(exception)
}

/// SIGINT: the first one cancels the task that runs.
pub(super) fn py_on_sigint(this: &Inst<Runner>, args: Args<'_>) -> Fallible<Ref> {
    let [_signum, _frame, main_task] = args.parse(&Signature {
        function: "Runner._on_sigint",
        names: ["signum", "frame", "main_task"],
        positional: 3,
        required: 3,
    })?;
    let main_task = main_task.unwrap_or(none());
    this.interrupts.set(this.interrupts.get().saturating_add(1));
    if this.interrupts.get() == 1 && !main_task.call_method(&state().names.done, &[])?.truthy()? {
        main_task.call_method(&state().names.cancel, &[])?;
        // The loop may be waiting.
        let known = KNOWN.get();
        let event_loop = this.event_loop.get_or_none();
        event_loop.call_method(&known.call_soon_threadsafe, &[&known.nothing])?;
        return Ok(none().own());
    }
    Err(Raised::bare(object::keyboard_interrupt()))
}
