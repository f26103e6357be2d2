//! [`spawn_blocking`]: functions that block, in threads of their own.
//!
//! The pool is one per process, also in the child of a fork: threads are made when all are busy, up to as many as asyncio's
//! default executor has, and end when they were idle for a while.
//!
//! What must stay true: there are as many waiting threads as queued jobs, or all threads there may be; nothing is dropped under
//! the lock.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use crate::abi::contain;
use crate::handle::{Sender, Shared};
use crate::join_error::JoinError;

/// How long an idle thread waits for work.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    /// Whose threads these are.
    process: OnceLock<u32>,
    state: Mutex<State>,
    work: Condvar,
    /// That of a child, which a fork has left without the threads of this one, and perhaps with its lock held.
    childs: OnceLock<Box<Pool>>,
}

struct State {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Pool {
    const fn new() -> Self {
        Pool {
            process: OnceLock::new(),
            state: Mutex::new(State { queue: VecDeque::new(), idle: 0, threads: 0 }),
            work: Condvar::new(),
            childs: OnceLock::new(),
        }
    }

    /// That of this process.
    fn get() -> &'static Pool {
        static FIRST: Pool = Pool::new();
        let process = std::process::id();
        let mut pool = &FIRST;
        while *pool.process.get_or_init(|| process) != process {
            pool = pool.childs.get_or_init(|| Box::new(Pool::new()));
        }
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as `concurrent.futures` makes.
fn most_threads() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).saturating_add(4).min(32))
}

/// Runs a function that blocks in another thread: asyncio's `to_thread`.
///
/// A function that has begun cannot be stopped; dropping the future forgets its result. One that has not begun still runs.
///
/// # Panics
///
/// If no thread can be started, and there is none yet.
///
/// ```
/// use velodrome::{run, spawn_blocking};
///
/// run(async {
///     let text = spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
///     assert!(text.is_ok());
/// });
/// ```
pub fn spawn_blocking<T, F>(function: F) -> Blocking<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::new(Shared::default());
    let sender = Sender(Some(Arc::clone(&shared)));
    queue(Box::new(move || {
        sender.send(catch_unwind(AssertUnwindSafe(function)).map_err(JoinError::panicked))
    }));
    Blocking { shared }
}

/// What [`spawn_blocking`] returns: await it for the function's result. It needs no running loop.
///
/// ```
/// let future: velodrome::Blocking<i32> = velodrome::spawn_blocking(|| 1);
/// assert_eq!(velodrome::run(future).unwrap(), 1);
/// ```
#[derive(Debug)]
#[must_use = "the function runs, but nobody sees its result"]
pub struct Blocking<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.poll(cx)
    }
}

fn queue(job: Job) {
    let pool = Pool::get();
    let mut state = pool.state();
    state.queue.push_back(job);
    if state.queue.len() <= state.idle || state.threads == most_threads() {
        pool.work.notify_one();
        return;
    }
    state.threads += 1;
    drop(state);
    if let Err(error) = thread::Builder::new().name("velodrome-blocking".into()).spawn(|| work(pool)) {
        no_thread(pool, &error);
    }
}

/// The jobs wait for the threads there are; without any, nobody would ever come.
fn no_thread(pool: &Pool, error: &io::Error) {
    let mut state = pool.state();
    state.threads -= 1;
    if state.threads == 0 {
        let jobs = std::mem::take(&mut state.queue);
        drop(state);
        drop(jobs);
        panic!("no thread could be started: {error}");
    }
}

fn work(pool: &Pool) {
    let mut state = pool.state();
    loop {
        if let Some(job) = state.queue.pop_front() {
            drop(state);
            // What is woken or dropped there may panic, and the thread is counted.
            contain(job);
            state = pool.state();
            continue;
        }
        state.idle += 1;
        let waited = pool.work.wait_timeout_while(state, PATIENCE, |state| state.queue.is_empty());
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        if state.queue.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}
