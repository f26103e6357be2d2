//! `Alarm`: the time after which a waiter is released.

use std::cell::Cell;

use velodrome_engine::TimerKey;

use crate::cpython::object;
use crate::cpython::{Fallible, Inst, Obj, Slot, Visitor};
use crate::event_loop::EventLoop;
use crate::future::Future;
use crate::job::Job;
use crate::state::state;

/// Set at most once; what it holds is given up when it is cancelled.
#[derive(Debug, Default)]
pub struct Alarm {
    /// The timer, if it is the engine's.
    timer: Cell<Option<TimerKey>>,
    /// Its loop then, or else the handle that any other loop gives.
    handle: Slot,
}

impl Alarm {
    /// Has the waiter released after so many seconds.
    pub fn set(&self, event_loop: &Obj, waiter: &Obj, delay: &Obj) -> Fallible<()> {
        let ours = Inst::<EventLoop>::of(event_loop).filter(|ours| {
            let hooks = ours.hooks();
            !(hooks.call_later || hooks.call_at || hooks.time)
        });
        if let (Some(ours), Some(future)) = (ours, Inst::<Future>::exactly(waiter))
            && (delay.is_float() || delay.is_int())
        {
            let at = crate::clock::at(crate::clock::seconds() + delay.to_f64()?);
            let key = ours.with_engine(|engine| engine.timer(at, Job::Resolve(future.own())))?;
            self.timer.set(Some(key));
            self.handle.set(event_loop.own());
            return Ok(());
        }
        let release = state().tasks_module.get(&*object::interned(c"_release_waiter")?)?;
        self.handle.set(event_loop.call_method(&state().names.call_later, &[delay, &release, waiter])?);
        Ok(())
    }

    /// Nothing will be released.
    pub fn cancel(&self) -> Fallible<()> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        match self.timer.take() {
            Some(key) => {
                let job = Inst::<EventLoop>::of(&handle).and_then(|ours| ours.cancel_timer(key));
                drop(job);
                Ok(())
            }
            None => handle.call_method(&state().names.cancel, &[]).map(drop),
        }
    }

    pub fn clear(&self) {
        self.handle.clear();
    }

    pub fn traverse(&self, visitor: &mut Visitor<'_>) {
        visitor.slot(&self.handle);
    }
}
