//! [`Payload`]: what a panic carries, in an error that threads may share.
//!
//! What must stay true: behind a shared reference nothing of it is seen but its words.

use std::any::Any;

/// What a panic carries.
pub(crate) struct Payload(Box<dyn Any + Send>);

// SAFETY: a shared reference gives a `&str` at most, or one of a `String`, which threads may share. Whatever else it is, only who
// owns it gets to see it, and it may be sent to them.
unsafe impl Sync for Payload {}

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Payload(payload)
    }

    pub(crate) fn into_inner(self) -> Box<dyn Any + Send> {
        self.0
    }

    /// What the panic said, if it said it in words.
    pub(crate) fn words(&self) -> &str {
        match self.0.downcast_ref::<&str>() {
            Some(text) => text,
            None => self.0.downcast_ref::<String>().map_or("(no words)", String::as_str),
        }
    }
}
