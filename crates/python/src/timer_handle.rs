//! `TimerHandle`: a callback that waits for its time.

use std::cell::Cell;

use velodrome_engine::TimerKey;

use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Base, Class, Fallible, Home, Inst, Obj, Own, Ref, Spec, Visitor};
use crate::event_loop::EventLoop;
use crate::handle;
use crate::state::state;

/// The class `TimerHandle`. What asyncio's has is in asyncio's slots.
#[derive(Debug)]
pub struct TimerHandle {
    /// The timer in the engine.
    key: Cell<Option<TimerKey>>,
}

static HOME: Home = Home::new();

impl Class for TimerHandle {
    const NAME: &'static std::ffi::CStr = c"velodrome.TimerHandle";
    const KEPT: usize = crate::cpython::class::KEPT;
    const BASE: Base = Base::Python;

    fn home() -> &'static Home {
        &HOME
    }

    #[inline]
    fn fresh() -> TimerHandle {
        TimerHandle { key: Cell::new(None) }
    }

    fn traverse(this: &Inst<TimerHandle>, visitor: &mut Visitor<'_>) {
        handle::traverse_slots(this, visitor);
        visitor.slot(this.scheduled_slot());
        visitor.slot(this.when_slot());
    }

    fn clear(this: &Inst<TimerHandle>) {
        handle::clear_slots(this);
        this.scheduled_slot().clear();
        this.when_slot().clear();
    }

    fn dying(this: &Inst<TimerHandle>) {
        TimerHandle::clear(this);
    }
}

/// A new handle, not scheduled yet.
pub fn create(
    event_loop: &Obj,
    when: Ref,
    callback: &Obj,
    arguments: &[&Obj],
    context: Ref,
) -> Fallible<Own<TimerHandle>> {
    let timer = Own::<TimerHandle>::new()?;
    handle::fill(&*timer, event_loop, callback, handle::arguments_tuple(arguments)?, context)?;
    timer.when_slot().set(when);
    timer.scheduled_slot().set(boolean(false).own());
    Ok(timer)
}

/// Notes the timer in the engine.
pub fn scheduled(this: &Inst<TimerHandle>, key: TimerKey) {
    this.key.set(Some(key));
    this.scheduled_slot().set(boolean(true).own());
}

fn py_cancel(this: &Inst<TimerHandle>) -> Fallible<Ref> {
    if let Some(event_loop) = this.loop_slot().get() {
        match Inst::<EventLoop>::of(&event_loop) {
            // Dropped when the engine is no longer borrowed.
            Some(ours) => drop(this.key.take().and_then(|key| ours.cancel_timer(key))),
            // Where this is asyncio's class, its loops have such handles as well, and count those that are cancelled.
            None if !handle::is_cancelled(this) => {
                let name = object::interned(c"_timer_handle_cancelled")?;
                event_loop.call_method(&name, &[this.obj()])?;
            }
            None => {}
        }
    }
    handle::cancel(this)?;
    Ok(none().own())
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let base = state().events.get(&*object::interned(c"TimerHandle")?)?;
    crate::cpython::handle_slots::find_in_timer_handle(&base)?;
    crate::cpython::spec::define::<TimerHandle>(Spec {
        base: Some(base),
        doc: Some(c"A callback that waits for its time, as call_later() and call_at() return it."),
        methods: class_methods!(TimerHandle, "TimerHandle";
            c"cancel" => none py_cancel, c"cancel($self, /)\n--\n\nCancel the callback.";
            c"cancelled" => none handle::py_cancelled,
                c"cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.";
        ),
        slots: class_slots!(TimerHandle, "TimerHandle";),
        ..Spec::default()
    })
}
