//! Scenarios give the same trace as with asyncio: who runs when, who is cancelled, and what comes out. `tests/differential/scenarios.py`
//! makes them, says what they mean, and what asyncio makes of them; the Python face is held against the same in
//! `tests/test_faces.py`.
#![allow(missing_docs)]

mod scenario;

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use scenario::{Scenario, read};

const LIMIT: Duration = Duration::from_secs(30);

/// The trace of a scenario, which must not run for ever.
fn in_time(text: String) -> Vec<String> {
    let (done, finished) = mpsc::channel();
    let asked = text.clone();
    thread::spawn(move || done.send(Scenario::run(read(&asked))));
    finished.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Other scenarios with `VELODROME_SEARCH=1000`. (Of several thousand, one or two differ in the order within a turn, where a task
/// that was cancelled has not left its line yet.)
#[test]
fn scenarios_give_the_traces_that_asyncio_gives() {
    let search = std::env::var("VELODROME_SEARCH").ok();
    let seed = search.as_ref().map_or_else(|| "faces".to_owned(), |_| fastrand::u64(..).to_string());
    let count = search.unwrap_or_else(|| "500".to_owned());
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/differential/scenarios.py");
    let asked =
        Command::new(&python).args(["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).status();
    if !asked.is_ok_and(|status| status.success()) {
        eprintln!("left out: {python} is no Python that has task groups");
        return;
    }
    let output = Command::new(&python).args([script, &seed, &count]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let mut lines = output.lines();
    let mut compared = 0;
    let mut different = 0;
    while let (Some(text), Some(expected)) = (lines.next(), lines.next()) {
        let trace = in_time(text.to_owned());
        let expected: Vec<&str> = expected.split(';').collect();
        if trace != expected {
            different += 1;
            if different <= 3 {
                let same = trace.iter().zip(&expected).take_while(|(ours, theirs)| ours == theirs).count();
                eprintln!(
                    "{text}\nafter {:#?}\nasyncio: {:#?}\nhere: {:#?}\n",
                    &expected[..same],
                    &expected[same..],
                    &trace[same..]
                );
            }
        }
        compared += 1;
    }
    assert_eq!(compared.to_string(), count);
    assert_eq!(different, 0, "traces that differ (seed {seed})");
}
