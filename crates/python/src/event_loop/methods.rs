//! The loop's own methods and attributes, as Python sees them, and the class.

use std::sync::atomic::Ordering;

use velodrome_engine::Engine;

use crate::cpython::host::HostSlot;
use crate::cpython::object::{self, boolean, none};
use crate::cpython::{Args, Fallible, Inst, Obj, Own, Raised, Ref, Signature, Spec};
use crate::event_loop::{ANY_DEBUG, EventLoop, close_host, create_task};
use crate::job::Job;
use crate::state::state;
use crate::{future, readers, run, scheduling, transports};

fn py_init(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<()> {
    let [] = args.parse(&Signature { function: "LoopCore", names: [], positional: 0, required: 0 })?;
    let engine = Engine::new().map_err(|error| Raised::os_error(&error))?;
    let old = this.engine.replace(Some(engine));
    drop(old);
    this.readers.clear();
    this.poll_every.set(run::poll_every_from_environment());
    this.refresh_hooks()
}

fn py_set_attribute(this: &Inst<EventLoop>, name: &Obj, value: Option<&Obj>) -> Fallible<()> {
    crate::cpython::spec::set_generic(this.obj(), name, value)?;
    let names = &state().names;
    let watched = [
        &names.call_soon,
        &names.call_at,
        &names.call_later,
        &names.time,
        &names.create_future,
        &names.create_task,
    ];
    if watched.iter().any(|watched| watched.is(name)) { this.refresh_hooks() } else { Ok(()) }
}

fn py_time(_this: &Inst<EventLoop>) -> Fallible<Ref> {
    object::float(crate::clock::seconds())
}

fn py_get_debug(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.debug.get()).own())
}

fn py_set_debug(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    let debug = value.map_or(Ok(false), Obj::truthy)?;
    this.debug.set(debug);
    if debug {
        ANY_DEBUG.store(true, Ordering::Relaxed);
    }
    this.refresh_hooks()
}

fn py_is_closed(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.closed.get()).own())
}

fn py_is_running(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.is_running()).own())
}

fn py_check_closed(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if this.closed.get() { Err(this.closed_error()) } else { Ok(none().own()) }
}

fn py_check_thread(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.check_thread()?;
    Ok(none().own())
}

fn py_stop(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.stopping.set(true);
    Ok(none().own())
}

fn py_stopping(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(boolean(this.stopping.get()).own())
}

fn py_set_stopping(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    this.stopping.set(value.map_or(Ok(false), Obj::truthy)?);
    Ok(())
}

fn py_thread_id(this: &Inst<EventLoop>) -> Fallible<Ref> {
    match this.thread.get() {
        0 => Ok(none().own()),
        thread => object::int(thread as i64),
    }
}

fn py_set_thread_id(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    this.thread.set(match value.filter(|value| !value.is_none()) {
        Some(value) => value.to_i64()? as u64,
        None => 0,
    });
    Ok(())
}

fn py_task_factory(this: &Inst<EventLoop>) -> Fallible<Ref> {
    Ok(this.task_factory.get_or_none())
}

fn py_set_task_factory(this: &Inst<EventLoop>, value: Option<&Obj>) -> Fallible<()> {
    match value.filter(|value| !value.is_none()) {
        Some(factory) => this.task_factory.set(factory.own()),
        None => this.task_factory.clear(),
    }
    Ok(())
}

fn py_clock_resolution(_this: &Inst<EventLoop>) -> Fallible<Ref> {
    object::float(1e-9)
}

fn py_ready(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let jobs = this.with_engine(|engine| {
        engine.begin(); // what came from other threads belongs to it
        engine.ready().cloned().collect()
    });
    match jobs {
        Ok(jobs) => handles_of(jobs),
        Err(closed) => {
            closed.discard();
            handles_of(Vec::new())
        }
    }
}

fn py_scheduled(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let jobs = this
        .engine
        .borrow()
        .as_ref()
        .map(|engine| engine.timers().map(|(_, job)| job.clone()).collect())
        .unwrap_or_default();
    handles_of(jobs)
}

/// `__velodrome_host__`: the loop for Rust futures, in a capsule. (See the crate `velodrome-bridge`.)
fn py_host(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if let Some(capsule) = this.capsule.get().filter(|_| !this.closed.get()) {
        return Ok(capsule);
    }
    let host = this.with_engine(|engine| HostSlot::new(this, engine))?;
    let capsule = host.capsule();
    this.host.replace(Some(host));
    let capsule = capsule?;
    this.capsule.set(capsule.clone());
    Ok(capsule)
}

/// `_release()`: closes the engine's descriptors and drops everything that is queued.
fn py_release(this: &Inst<EventLoop>) -> Fallible<Ref> {
    let unrun = close_host(this);
    this.closed.set(true);
    if let (Some(host), Some(engine)) = (&*this.host.borrow(), &*this.engine.borrow()) {
        host.close(engine.timers().map(|(_, job)| job), engine.watches().map(|(_, _, job)| job));
    }
    drop(unrun);
    let engine = this.engine.take();
    let jobs = engine.map(|mut engine| (engine.clear(), engine));
    drop(jobs);
    this.readers.clear();
    Ok(none().own())
}

/// `_forget_kernel()`: in a forked child, the engine no longer touches what it shares with the parent's.
fn py_forget_kernel(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if let Some(engine) = this.engine.borrow_mut().as_mut() {
        engine.forget_kernel();
        if let Some(host) = &*this.host.borrow() {
            host.forget_kernel(engine);
        }
    }
    Ok(none().own())
}

/// `_own_kernel()`: in a forked child, the engine gets descriptors of its own.
fn py_own_kernel(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.with_engine(|engine| engine.own_kernel())?.map_err(|error| Raised::os_error(&error))?;
    Ok(none().own())
}

/// `_wake_fd()`: any byte written there wakes the loop; a nonzero one is a signal number.
fn py_wake_fd(this: &Inst<EventLoop>) -> Fallible<Ref> {
    use std::os::fd::AsRawFd;
    object::int(i64::from(this.with_engine(|engine| engine.wake_fd().as_raw_fd())?))
}

/// `_ask_always(always)`: whether every iteration asks the kernel, as a loop does that is to notice signals.
fn py_ask_always(this: &Inst<EventLoop>, always: &Obj) -> Fallible<Ref> {
    this.poll_every.set(if always.truthy()? { 1 } else { run::poll_every_from_environment() });
    Ok(none().own())
}

fn py_create_future(this: &Inst<EventLoop>) -> Fallible<Ref> {
    if !this.is_running() {
        this.refresh_hooks()?;
    }
    if this.hooks.get().future_class {
        return this.obj().call_method(&*object::interned(c"_create_foreign_future")?, &[]);
    }
    future::create(this).map(Own::into_ref)
}

fn handles_of(jobs: Vec<Job>) -> Fallible<Ref> {
    let mut handles = Vec::with_capacity(jobs.len());
    for job in jobs {
        handles.extend(job.as_handle()?);
    }
    object::list(&handles)
}

fn py_create_task(this: &Inst<EventLoop>, args: Args<'_>) -> Fallible<Ref> {
    if this.closed.get() {
        return Err(this.closed_error());
    }
    if !this.is_running() {
        this.refresh_hooks()?;
    }
    if !this.task_factory.is_empty() || this.hooks.get().task_class {
        let with_factory = this.obj().get(&state().names.create_task_with_factory)?;
        return args.forward(&with_factory, &[]);
    }
    create_task(this, args).map(Own::into_ref)
}

/// Makes the class.
pub fn define() -> Fallible<Ref> {
    let mut methods: Vec<_> = class_methods!(EventLoop, "LoopCore";
        c"time" => none py_time,
            c"time($self, /)\n--\n\nReturn the time according to the loop's clock, in seconds (time.monotonic()).";
        c"get_debug" => none py_get_debug, c"get_debug($self, /)\n--\n\nReturn whether debug mode is on.";
        c"is_closed" => none py_is_closed, c"is_closed($self, /)\n--\n\nReturn True if the loop was closed.";
        c"is_running" => none py_is_running, c"is_running($self, /)\n--\n\nReturn True if the loop is running.";
        c"stop" => none py_stop,
            c"stop($self, /)\n--\n\nStop running the loop, after the iteration that is under way.";
        c"create_future" => none py_create_future,
            c"create_future($self, /)\n--\n\nCreate a Future attached to the loop.";
        c"create_task" => any py_create_task,
            c"create_task($self, coro, /, **kwargs)\n--\n\nSchedule a coroutine, or begin to run it; return its \
              Task.";
        c"_check_closed" => none py_check_closed, c"_check_closed($self, /)\n--\n\nRaise if the loop is closed.";
        c"_check_thread" => none py_check_thread,
            c"_check_thread($self, /)\n--\n\nIn debug mode, raise if another thread runs the loop.";
        c"_release" => none py_release,
            c"_release($self, /)\n--\n\nClose the loop's descriptors and drop what is queued.";
        c"_forget_kernel" => none py_forget_kernel,
            c"_forget_kernel($self, /)\n--\n\nIn a forked child: leave alone what the parent's loop uses.";
        c"_own_kernel" => none py_own_kernel,
            c"_own_kernel($self, /)\n--\n\nIn a forked child: have descriptors that are not the parent's too.";
        c"_ensure_fd_no_transport" => one transports::py_ensure_no_transport,
            c"_ensure_fd_no_transport($self, fd, /)\n--\n\nRaise if an open transport uses the descriptor.";
        c"_watched" => one readers::py_watched,
            c"_watched($self, fd, /)\n--\n\nReturn what is watched of a descriptor: selectors.EVENT_READ, \
              EVENT_WRITE, both or 0.";
        c"_lend_descriptor" => one transports::py_lend,
            c"_lend_descriptor($self, transport, /)\n--\n\nAllow to watch the descriptor of a transport.";
        c"_take_descriptor_back" => one transports::py_take_back,
            c"_take_descriptor_back($self, transport, /)\n--\n\nEnd what _lend_descriptor() began.";
        c"_ask_always" => one py_ask_always,
            c"_ask_always($self, always, /)\n--\n\nWhether to ask the kernel in every iteration.";
        c"_wake_fd" => none py_wake_fd,
            c"_wake_fd($self, /)\n--\n\nReturn the descriptor that wakes the loop when a byte is written to it.";
    );
    methods.extend(scheduling::methods());
    methods.extend(readers::methods());
    methods.extend(run::methods());
    methods.extend(crate::sockets::methods());
    methods.extend(crate::sockets::send_file::methods());
    crate::cpython::spec::define::<EventLoop>(Spec {
        doc: Some(c"The part of velodrome.Loop that is Rust."),
        methods,
        attributes: class_attributes!(EventLoop, "LoopCore";
            c"_debug" => py_get_debug, py_set_debug;
            c"_closed" => py_is_closed;
            c"_stopping" => py_stopping, py_set_stopping;
            c"_thread_id" => py_thread_id, py_set_thread_id;
            c"_task_factory" => py_task_factory, py_set_task_factory;
            c"_clock_resolution" => py_clock_resolution;
            c"__velodrome_host__" => py_host;
            c"_ready" => py_ready;
            c"_scheduled" => py_scheduled;
        ),
        slots: class_slots!(EventLoop, "LoopCore"; init py_init, setattr py_set_attribute),
        base: None,
    })
}
