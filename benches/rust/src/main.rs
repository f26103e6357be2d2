//! Velodrome's Rust face beside tokio (current_thread with LocalSet) and smol (LocalExecutor with async-io): the same
//! programs, in turns, each as often, and of each the least time.
//!
//! `cargo run --release` prints a table; `cargo run --release -- --output FILE` writes it as a page.

mod harness;
mod smol;
mod tokio_local;
mod velo;

fn main() {
    harness::main();
}
