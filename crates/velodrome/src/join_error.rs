//! [`JoinError`]: why a task has no result.

use std::any::Any;
use std::fmt;
use std::io;

use crate::abi::Payload;

/// Why a task ended without a result.
///
/// ```
/// use velodrome::{JoinError, create_task, run, sleep};
/// use std::time::Duration;
///
/// run(async {
///     let task = create_task(sleep(Duration::MAX));
///     task.cancel();
///     assert!(matches!(task.await, Err(JoinError::Cancelled)));
/// });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It was cancelled, or the loop was closed.
    #[error("the task was cancelled")]
    Cancelled,
    /// It panicked.
    #[error("the task panicked: {0}")]
    Panicked(Panic),
    /// It failed, and the task group that it belongs to has the error.
    #[error("the task failed, and its group has the error")]
    Failed,
}

impl JoinError {
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        JoinError::Panicked(Panic(Payload::new(payload)))
    }

    /// Goes on panicking with what the task panicked with, and gives everything else back.
    ///
    /// ```should_panic
    /// use velodrome::{create_task, run};
    ///
    /// run(async {
    ///     let error = create_task(async { panic!("oh") }).await.unwrap_err();
    ///     error.resume();
    /// });
    /// ```
    #[track_caller]
    pub fn resume(self) -> Self {
        match self {
            JoinError::Panicked(Panic(payload)) => std::panic::resume_unwind(payload.into_inner()),
            other => other,
        }
    }

    /// Whether it was cancelled.
    ///
    /// ```
    /// assert!(velodrome::JoinError::Cancelled.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self, JoinError::Cancelled)
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        let kind = if error.is_cancelled() { io::ErrorKind::Interrupted } else { io::ErrorKind::Other };
        io::Error::new(kind, error.to_string())
    }
}

/// What a task panicked with.
///
/// ```
/// use velodrome::{JoinError, create_task, run};
///
/// run(async {
///     match create_task(async { panic!("at the disco") }).await {
///         Err(JoinError::Panicked(panic)) => assert_eq!(panic.to_string(), "at the disco"),
///         _ => unreachable!(),
///     }
/// });
/// ```
pub struct Panic(Payload);

impl Panic {
    /// The payload, as `std::panic::catch_unwind` gives it.
    ///
    /// ```
    /// use velodrome::{JoinError, create_task, run};
    ///
    /// let error = run(async { create_task(async { panic!("oh") }).await.unwrap_err() });
    /// let JoinError::Panicked(panic) = error else { unreachable!() };
    /// assert_eq!(panic.into_payload().downcast_ref(), Some(&"oh"));
    /// ```
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.into_inner()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.words())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.0.words()).finish()
    }
}
