//! Registrations of calls that are done: they rest for an iteration.
//!
//! Most calls are followed by another of the same kind on the same socket, in the iteration after, when the task that was
//! waiting runs. To end the registration and to make it again costs the kernel four times as much as to renew it; and a
//! program cannot tell, since asyncio ends its own in that iteration as well.
//!
//! What must stay true: a call that rests owns nothing any more; whoever asks what is watched is not shown it; and it
//! is renewed by asking the kernel, which knows whether the number still names the same file.

use std::cell::RefCell;

use velodrome_engine::Key;

use crate::cpython::Inst;
use crate::event_loop::EventLoop;
use crate::job::Job;

/// The calls of this iteration and of the last one.
#[derive(Debug, Default)]
pub struct Resting {
    now: RefCell<Vec<Key>>,
    before: RefCell<Vec<Key>>,
}

impl Resting {
    /// A call is done; its registration stays until the next iteration is over.
    #[inline]
    pub fn add(&self, key: Key) {
        self.now.borrow_mut().push(key);
    }

    /// An iteration begins: ends what was renewed by nobody in the last one.
    #[inline]
    pub fn turn(&self, event_loop: &Inst<EventLoop>) {
        if self.before.borrow().is_empty() {
            if !self.now.borrow().is_empty() {
                self.before.swap(&self.now);
            }
            return;
        }
        end(event_loop, self.before.take());
        self.before.swap(&self.now);
    }

    /// The loop stops: ends all.
    pub fn end(&self, event_loop: &Inst<EventLoop>) {
        end(event_loop, self.before.take());
        end(event_loop, self.now.take());
    }
}

/// A key that was renewed is stale, and nothing happens.
fn end(event_loop: &Inst<EventLoop>, keys: Vec<Key>) {
    keys.into_iter().for_each(|key| event_loop.unwatch(key));
}

/// Whether this is the job of a registration that rests.
pub fn rests(job: &Job) -> bool {
    matches!(job, Job::Socket(call) if call.is_done())
}
