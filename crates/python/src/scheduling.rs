//! `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`.

use crate::cpython::object::{self, none};
use crate::cpython::spec::Method;
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::handle::{self, Handle};
use crate::job::Job;
use crate::state::state;
use crate::thread_safe_handle;
use crate::timer_handle::{self, TimerHandle};

impl Inst<EventLoop> {
    /// Queues a callback.
    #[inline]
    pub fn call_soon(
        &self,
        callback: &Obj,
        arguments: &[&Obj],
        context: Option<&Obj>,
    ) -> Fallible<Own<Handle>> {
        if self.engine.borrow().is_none() {
            return Err(self.closed_error());
        }
        if self.is_debug() {
            self.check_thread()?;
            self.check_callback(callback, "call_soon")?;
        }
        let context = handle::context_or_current(context)?;
        let handle = handle::with_context(self.obj(), callback, arguments, context)?;
        self.with_engine(|engine| engine.push(Job::Handle(handle.clone())))?;
        Ok(handle)
    }

    /// In debug mode: what is given must be callable, and neither a coroutine nor a function that makes one.
    fn check_callback(&self, callback: &Obj, method: &str) -> Fallible<()> {
        self.obj()
            .call_method(&*object::interned(c"_check_callback")?, &[callback, &*object::text(method)?])
            .map(drop)
    }

    /// Schedules a callback for a time of the loop's clock.
    fn call_at(
        &self,
        when: Ref,
        callback: &Obj,
        arguments: &[&Obj],
        context: Option<&Obj>,
    ) -> Fallible<Own<TimerHandle>> {
        if self.engine.borrow().is_none() {
            return Err(self.closed_error());
        }
        if self.is_debug() {
            self.check_thread()?;
            self.check_callback(callback, "call_at")?;
        }
        let at = crate::clock::at(when.to_f64()?);
        let context = handle::context_or_current(context)?;
        let timer = timer_handle::create(self.obj(), when, callback, arguments, context)?;
        let key = self.with_engine(|engine| engine.timer(at, Job::Timer(timer.clone())))?;
        timer_handle::scheduled(&timer, key);
        Ok(timer)
    }
}

fn py_call_soon(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let (positional, context) = args.variadic("call_soon", &["callback"], Some("context"))?;
    this.call_soon(positional[0], &positional[1..], context).map(Own::into_ref)
}

fn py_call_soon_threadsafe(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let (positional, context) = args.variadic("call_soon_threadsafe", &["callback"], Some("context"))?;
    let (callback, arguments) = (positional[0], &positional[1..]);
    if this.engine.borrow().is_none() {
        return Err(this.closed_error());
    }
    if this.is_debug() {
        this.check_callback(callback, "call_soon_threadsafe")?;
    }
    let context = handle::context_or_current(context)?;
    // From 3.14 on, cancelling from another thread waits for a callback that has begun.
    let (job, handle) = if state().minor >= 14 {
        let handle = thread_safe_handle::create(this.obj(), callback, arguments, context)?;
        (Job::ThreadSafe(handle.clone()), handle.into_ref())
    } else {
        let handle = handle::with_context(this.obj(), callback, arguments, context)?;
        (Job::Handle(handle.clone()), handle.into_ref())
    };
    // Whoever is here has the GIL, which is what protects the engine: other threads need no queue of their own.
    this.with_engine(|engine| engine.push_and_wake(job))?;
    Ok(handle)
}

fn py_call_later(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let (positional, context) = args.variadic("call_later", &["delay", "callback"], Some("context"))?;
    let (delay, callback, arguments) = (positional[0], positional[1], &positional[2..]);
    if delay.is_none() {
        return Err(Raised::type_error("delay must not be None"));
    }
    if this.hooks().call_at || this.hooks().time {
        let now = this.obj().call_method(&state().names.time, &[])?;
        let when = now.add(delay)?;
        let mut all: Vec<&Obj> = vec![&when, callback];
        all.extend_from_slice(arguments);
        let context = context.unwrap_or(none());
        all.push(context);
        return this.obj().call_method_with_keywords(&state().names.call_at, &all, &state().context_keyword);
    }
    let now = crate::clock::seconds();
    let when = if delay.is_float() || delay.is_int() {
        object::float(now + delay.to_f64()?)?
    } else {
        object::float(now)?.add(delay)?
    };
    this.call_at(when, callback, arguments, context).map(Own::into_ref)
}

fn py_call_at(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    let (positional, context) = args.variadic("call_at", &["when", "callback"], Some("context"))?;
    if positional[0].is_none() {
        return Err(Raised::type_error("when cannot be None"));
    }
    this.call_at(positional[0].own(), positional[1], &positional[2..], context).map(Own::into_ref)
}

fn py_add_callback(this: &Inst<EventLoop>, handle: &Obj) -> Fallible<Ref> {
    this.with_engine(|engine| engine.push(job_of(handle)))?;
    Ok(none().own())
}

fn py_write_to_self(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if let Some(engine) = this.engine.borrow().as_ref() {
        engine.remote().wake();
    }
    Ok(none().own())
}

fn py_timer_handle_cancelled(_this: &Inst<EventLoop>, _handle: &Obj) -> Fallible<Ref> {
    Ok(none().own())
}

/// The job that runs a handle, whoever made it.
fn job_of(handle: &Obj) -> Job {
    // One of a derived class may have a `_run` of its own.
    match Inst::<Handle>::exactly(handle) {
        Some(ours) => Job::Handle(ours.own()),
        None => Job::Foreign(handle.own()),
    }
}

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"call_soon" => any py_call_soon,
            c"call_soon($self, callback, *args, context=None)\n--\n\nCall callback(*args) in the next \
              iteration; return its Handle.\n\nCallbacks are called in the order in which they are registered, each \
              exactly once.";
        c"call_soon_threadsafe" => any py_call_soon_threadsafe,
            c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nLike call_soon(), from any \
              thread.";
        c"call_later" => any py_call_later,
            c"call_later($self, delay, callback, *args, context=None)\n--\n\nCall callback(*args) after delay \
              seconds; return its TimerHandle.";
        c"call_at" => any py_call_at,
            c"call_at($self, when, callback, *args, context=None)\n--\n\nCall callback(*args) at the time when \
              of the loop's clock; return its TimerHandle.";
        c"_add_callback" => one py_add_callback, c"_add_callback($self, handle, /)\n--\n\nQueue a handle.";
        c"_add_callback_signalsafe" => one py_add_callback,
            c"_add_callback_signalsafe($self, handle, /)\n--\n\nQueue a handle.";
        c"_write_to_self" => none py_write_to_self, c"_write_to_self($self, /)\n--\n\nWake the loop.";
        c"_timer_handle_cancelled" => one py_timer_handle_cancelled,
            c"_timer_handle_cancelled($self, handle, /)\n--\n\nFor timer handles of asyncio's own.";
    )
}
