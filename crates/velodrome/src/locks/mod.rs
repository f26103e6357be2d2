//! What coordinates tasks of one thread: lock, event, condition, semaphore, barrier.
//!
//! They follow asyncio's rules: whoever asked first gets first, nobody passes those who wait, and who gives up hands on what
//! he was given. They serve tasks of any executor of their thread, and need no running loop.

mod barrier;
mod condition;
mod event;
mod lock;
mod semaphore;

pub use barrier::{Barrier, BrokenBarrier};
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use semaphore::{Permit, Semaphore};
