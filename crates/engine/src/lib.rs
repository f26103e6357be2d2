//! The event engine of Velodrome: what an event loop is made of, without the loop.
//!
//! An [`Engine`] holds *jobs*, of whatever type, and knows when they are due: at once ([`push`](Engine::push)), at a time
//! ([`timer`](Engine::timer)), when a descriptor is ready ([`watch`](Engine::watch)), when another thread says so
//! ([`Remote::push`]). It is **passive**: it never runs a job, and it blocks with nothing borrowed, so a job may use the
//! engine that it came from, and other threads may do so while it sleeps. It never drops a job either: whatever removes one
//! returns it, since dropping may run code that comes back.
//!
//! The rules are asyncio's: first come, first served; an iteration runs what was ready when it began; timers of one deadline fire
//! in the order they were made; readiness is level triggered; of one descriptor, the reader comes before the writer; a job
//! that another thread sent comes before all that is pushed after it.
//!
//! # A loop
//!
//! ```
//! use std::io::{Read, Write};
//! use std::os::fd::AsFd;
//! use std::time::Duration;
//! use velodrome_engine::{Engine, Interest, Time};
//!
//! #[derive(Clone, Debug, PartialEq)]
//! enum Job {
//!     Greet,
//!     Readable,
//!     Stop,
//! }
//!
//! let (mut reader, mut writer) = std::io::pipe()?;
//! let mut engine = Engine::new()?;
//!
//! // At once, when there is something to read, and (from another thread, a little later) the end.
//! engine.push(Job::Greet);
//! let readable = engine.watch(reader.as_fd(), Interest::Read, Job::Readable)?;
//! let remote = engine.remote();
//!
//! let mut ran = Vec::new();
//! 'run: loop {
//!     // Wait: not at all if jobs are ready, until the next deadline, or for ever.
//!     let timeout = engine.timeout(Time::now);
//!     let wait = engine.prepare(timeout);
//!     let events = wait.block(); // nothing is borrowed here
//!     let harvest = engine.harvest(events);
//!     if let Some(error) = harvest.error {
//!         return Err(error);
//!     }
//!     engine.expire(Time::now());
//!
//!     // Run exactly what is ready now.
//!     for _ in 0..engine.begin() {
//!         let Some(job) = engine.pop() else { break };
//!         ran.push(job.clone());
//!         match job {
//!             Job::Greet => writer.write_all(b"hello")?,
//!             Job::Readable => {
//!                 let mut buffer = [0; 16];
//!                 assert_eq!(reader.read(&mut buffer)?, 5);
//!                 engine.unwatch(readable);
//!                 let remote = remote.clone();
//!                 std::thread::spawn(move || remote.push(Job::Stop));
//!                 engine.timer(Time::now().saturating_add(Duration::from_secs(60)), Job::Stop);
//!             }
//!             Job::Stop => break 'run,
//!         }
//!     }
//! }
//! assert_eq!(ran, [Job::Greet, Job::Readable, Job::Stop]);
//! assert_eq!(engine.clear(), [Job::Stop]); // the timer, which is not needed any more
//! # Ok::<(), std::io::Error>(())
//! ```

#![deny(unsafe_code)]

mod engine;
mod inbox;
mod readiness;
mod sync;
#[allow(unsafe_code)]
mod sys;
mod time;
mod timer_run;
mod timers;
mod wait;
mod wake;

pub use engine::{Backend, Engine};
pub use inbox::Remote;
pub use readiness::{Interest, Key};
pub use time::Time;
pub use timers::TimerKey;
pub use wait::{Events, Harvest, Wait};
