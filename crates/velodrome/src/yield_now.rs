//! [`yield_now`]: one turn for everybody else.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Gives way: every other task that is ready gets one turn. What `sleep(0)` is in asyncio.
///
/// ```
/// use velodrome::{create_task, run, yield_now};
///
/// run(async {
///     let task = create_task(async {});
///     assert!(!task.is_done());
///     yield_now().await;
///     assert!(task.is_done());
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// What [`yield_now`] returns.
///
/// ```
/// let future: velodrome::YieldNow = velodrome::yield_now();
/// velodrome::run(future);
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
