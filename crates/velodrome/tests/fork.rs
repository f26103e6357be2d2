//! After a fork: the child has the memory of its parent, and none of its threads.
//!
//! Alone in this file, because a child of `fork` may only do so much while other threads of the parent hold locks.
#![allow(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use velodrome::{run, spawn_blocking, timeout};

fn blocks_and_comes_back() {
    let outcome = run(timeout(Duration::from_secs(60), spawn_blocking(|| 6 * 7)));
    assert_eq!(outcome.expect("no thread came").unwrap(), 42);
}

/// Runs `child` in a fork of this process, and waits for it.
fn in_a_child(child: impl FnOnce()) {
    // SAFETY: the test that forks is alone, and the child leaves through `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let code = if catch_unwind(AssertUnwindSafe(child)).is_ok() { 0 } else { 1 };
            // SAFETY: nothing of the parent is flushed or run.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: the child was not waited for yet.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child failed");
        }
    }
}

#[test]
fn blocking_functions_run_in_the_child_of_a_process_that_has_idle_threads_and_in_its_own_child() {
    blocks_and_comes_back();
    in_a_child(|| {
        blocks_and_comes_back();
        in_a_child(blocks_and_comes_back);
    });
    blocks_and_comes_back();
}
