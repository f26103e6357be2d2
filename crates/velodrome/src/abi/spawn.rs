//! A future becomes a task: `async_task` with our schedule function.

use std::future::Future;

use async_task::{Runnable, Task};

use super::host_ref::LocalHost;

/// Makes a task of a future, on the thread of the loop, and queues its first step.
#[inline]
pub(crate) fn spawn<F: Future + 'static>(host: &LocalHost, future: F) -> Task<F::Output> {
    let home = host.host().clone();
    let schedule = move |runnable: Runnable| home.schedule(runnable);
    // SAFETY:
    // - The future is not `Send`: its runnable is run, and so dropped, on the thread of the loop only. `LocalHost` says that
    //   this is that thread; wakers on other threads send it there through `schedule`, which leaks rather than drops it
    //   if there is no loop any more.
    // - The future is 'static.
    // - The schedule function holds a `HostRef`, which is `Send` and `Sync`, and is 'static.
    let (runnable, task) = unsafe { async_task::spawn_unchecked(future, schedule) };
    runnable.schedule();
    task
}
