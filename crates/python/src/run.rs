//! Running the loop: iterations.
//!
//! One iteration asks the kernel, moves what is due to the ready queue, and runs exactly the jobs that are queued
//! then, even after `stop()`. Asking the kernel costs more than a task switch, and as long as no descriptor but our
//! own wake-up is registered, only other threads, signals and the clock can bring anything that a program could
//! miss; so then the kernel is asked when there is nothing to run, and every [`POLL_EVERY`] iterations. (Signals do
//! not wait for that: the interpreter looks for them whenever Python code runs.)

use velodrome_engine::{Engine, Wait};

use crate::cpython::gil;
use crate::cpython::object::none;
use crate::cpython::spec::Method;
use crate::cpython::{Fallible, Inst, Obj, Raised, Ref};
use crate::event_loop::EventLoop;
use crate::job::Job;
use crate::state::state;

/// From how many jobs in the queue on their memory is fetched ahead; what fewer of them touch is at hand as it is.
const MANY: usize = 2048;
/// How many iterations may pass without asking the kernel.
pub const POLL_EVERY: u32 = 256;
/// As asyncio's `MAXIMUM_SELECT_TIMEOUT`: no wait is longer than a day.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// `VELODROME_POLL_EVERY`: 1 makes every iteration ask the kernel.
pub fn poll_every_from_environment() -> u32 {
    std::env::var("VELODROME_POLL_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(POLL_EVERY).max(1)
}

/// Runs iterations until `stop()`.
fn run_until_stopped(this: &Inst<EventLoop>) -> Fallible<()> {
    this.refresh_hooks()?;
    // The first iteration always asks: `stop(); run_forever()` serves what is ready.
    let mut unasked = u32::MAX;
    loop {
        let outcome = iteration(this, &mut unasked);
        if outcome.is_err() || this.stopping.get() {
            this.resting.end(this);
            return outcome;
        }
    }
}

#[inline]
fn iteration(this: &Inst<EventLoop>, unasked: &mut u32) -> Fallible<()> {
    this.resting.turn(this);
    let ask = *unasked >= this.poll_every.get();
    let begun = this.with_engine(|engine| {
        let ask = ask || engine.watched() > 0 || (engine.ready_len() == 0 && engine.inbox_is_empty());
        if ask {
            Err(true)
        } else if engine.timer_count() > 0 {
            Err(false)
        } else {
            // Nothing but what is ready: begins at once.
            Ok((engine.begin(), engine.pop()))
        }
    })?;
    *unasked = if begun.as_ref().is_err_and(|ask| *ask) { 1 } else { *unasked + 1 };
    let (jobs, first) = match begun {
        Ok(begun) => begun,
        Err(ask) => {
            collect(this, ask)?;
            this.with_engine(|engine| (engine.begin(), engine.pop()))?
        }
    };
    this.iteration.set(this.iteration.get().wrapping_add(1));
    if this.is_debug() {
        return run_in_debug_mode(this, jobs, first);
    }
    let mut next = first;
    for left in (0..jobs).rev() {
        let Some(job) = next else { break };
        run_job(this, job)?;
        next = if left > 0 { this.with_engine(pop_and_prefetch)? } else { None };
    }
    Ok(())
}

/// Queues what the kernel has to tell, if it is to be asked, and what is due.
#[inline(never)]
fn collect(this: &Inst<EventLoop>, ask: bool) -> Fallible<()> {
    if ask {
        poll(this)?;
    }
    if this.with_engine(|engine| engine.timer_count() > 0)? {
        let now = this.now()?;
        this.with_engine(|engine| engine.expire(now))?;
    }
    Ok(())
}

/// One job, which is a turn for those who write in it.
#[inline(always)]
fn run_job(this: &Inst<EventLoop>, job: Job) -> Fallible<()> {
    let outcome = job.run(this);
    this.turns.end();
    outcome
}

/// Takes the next job, and has the memory of those behind it fetched while it runs.
#[inline]
fn pop_and_prefetch(engine: &mut Engine<Job>) -> Option<Job> {
    let job = engine.pop();
    if engine.ready_len() >= MANY {
        prefetch(engine);
    }
    job
}

#[inline(never)]
fn prefetch(engine: &Engine<Job>) {
    if let Some(near) = engine.peek(1) {
        near.prefetch_further();
    }
    if let Some(far) = engine.peek(4) {
        far.prefetch();
    }
}

/// Asks the kernel, waiting if there is nothing else to do.
fn poll(this: &Inst<EventLoop>) -> Fallible<()> {
    let wait = prepare(this)?;
    let events = gil::released(move || wait.block());
    let harvest = this.with_engine(|engine| {
        let harvest = engine.harvest(events);
        for number in harvest.signals.iter() {
            engine.push(Job::Signal(*number));
        }
        harvest.error
    });
    // The handlers of signals run after what has arrived is safe, since they can raise.
    gil::check_signals()?;
    match harvest? {
        Some(error) => Err(Raised::os_error(&error)),
        None => Ok(()),
    }
}

fn prepare(this: &Inst<EventLoop>) -> Fallible<Wait> {
    if this.stopping.get() {
        return this.with_engine(|engine| engine.prepare(Some(std::time::Duration::ZERO)));
    }
    // A replaced clock is Python, which the engine must not call while it is borrowed.
    let replaced = if this.hooks().time { Some(this.now()?) } else { None };
    this.with_engine(|engine| {
        let timeout = engine.timeout(|| replaced.unwrap_or_else(crate::clock::now));
        engine.prepare(timeout.map(|timeout| timeout.min(LONGEST_WAIT)))
    })
}

/// The same jobs, each timed: what takes longer than `slow_callback_duration` is logged.
fn run_in_debug_mode(this: &Inst<EventLoop>, jobs: usize, mut first: Option<Job>) -> Fallible<()> {
    for _ in 0..jobs {
        let popped = match first.take() {
            Some(job) => Some(job),
            None => this.with_engine(Engine::pop)?,
        };
        let Some(job) = popped else { break };
        if job.is_cancelled() {
            continue;
        }
        // Asked for now: afterwards the callback may be gone from it.
        let handle = job.as_handle()?;
        let current = &state().names.current_handle;
        this.obj().set(current, handle.as_deref().unwrap_or(none()))?;
        let outcome = run_timed(this, job, handle.as_deref());
        Raised::finally(outcome, || this.obj().set(current, none()))?;
    }
    Ok(())
}

fn run_timed(this: &Inst<EventLoop>, job: Job, handle: Option<&Obj>) -> Fallible<()> {
    let begun = this.now()?;
    run_job(this, job)?;
    let taken = this.now()?.saturating_since(begun).as_secs_f64();
    if let Some(handle) = handle {
        let taken = crate::cpython::object::float(taken)?;
        this.obj().call_method(&state().names.callback_slow, &[handle, &taken])?;
    }
    Ok(())
}

fn py_run_until_stopped(this: &Inst<EventLoop>) -> Fallible<Ref> {
    run_until_stopped(this)?;
    Ok(none().own())
}

/// `_run_once()`: one iteration, for those who drive the loop themselves.
fn py_run_once(this: &Inst<EventLoop>) -> Fallible<Ref> {
    this.refresh_hooks()?;
    let mut unasked = u32::MAX; // it asks the kernel
    iteration(this, &mut unasked)?;
    Ok(none().own())
}

/// The methods of this file.
pub fn methods() -> Vec<Method<EventLoop>> {
    class_methods!(EventLoop, "LoopCore";
        c"_run_until_stopped" => none py_run_until_stopped,
            c"_run_until_stopped($self, /)\n--\n\nRun iterations until stop() is called.";
        c"_run_once" => none py_run_once, c"_run_once($self, /)\n--\n\nRun one iteration.";
    )
}
