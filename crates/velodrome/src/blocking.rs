//! [`spawn_blocking`]: functions that block, in threads of their own.
//!
//! The pool is one per process: threads are made when all are busy, up to as many as asyncio's default executor has, and
//! end when they were idle for a while.
//!
//! What must stay true: there are as many waiting threads as queued jobs, or all threads there may be; nothing is dropped under
//! the lock.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use crate::abi::contain;
use crate::handle::{Sender, Shared};
use crate::join_error::JoinError;

/// How long an idle thread waits for work.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    queue: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { queue: VecDeque::new(), idle: 0, threads: 0 });
static WORK: Condvar = Condvar::new();

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many as `concurrent.futures` makes.
fn most_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).saturating_add(4).min(32)
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
    let mut pool = pool();
    pool.queue.push_back(job);
    if pool.queue.len() <= pool.idle || pool.threads == most_threads() {
        WORK.notify_one();
        return;
    }
    pool.threads += 1;
    drop(pool);
    if let Err(error) = thread::Builder::new().name("velodrome-blocking".into()).spawn(work) {
        no_thread(&error);
    }
}

/// The jobs wait for the threads there are; without any, nobody would ever come.
fn no_thread(error: &io::Error) {
    let mut pool = pool();
    pool.threads -= 1;
    if pool.threads == 0 {
        let jobs = std::mem::take(&mut pool.queue);
        drop(pool);
        drop(jobs);
        panic!("no thread could be started: {error}");
    }
}

fn work() {
    let mut pool = pool();
    loop {
        if let Some(job) = pool.queue.pop_front() {
            drop(pool);
            // What is woken or dropped there may panic, and the thread is counted.
            contain(job);
            pool = self::pool();
            continue;
        }
        pool.idle += 1;
        let waited = WORK.wait_timeout_while(pool, PATIENCE, |pool| pool.queue.is_empty());
        pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        pool.idle -= 1;
        if pool.queue.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
}
