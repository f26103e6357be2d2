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

/// Other scenarios with `VELODROME_SEARCH=1000`.
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

/// Compares with a trace that asyncio has given, in every version.
#[track_caller]
fn gives(text: &str, trace: &str) {
    assert_eq!(in_time(text.to_owned()).join("; "), trace);
}

/// (It was once woken when a member was done, and then ran before whoever the event had woken first.)
#[test]
fn a_group_does_not_wake_its_task_while_the_block_goes_on() {
    gives(
        "[(gather [(wait)] [(group [(wait)] [(yield)])] [(yield) (spawn 0 [(yield) (set)])])]",
        "1 begins; 2 begins; 3 begins; 4 begins; 5 begins; 6 begins; 5 goes on; 5 ends; 6 goes on; 6 ends; 7 begins; \
         7 goes on; 7 ends; 2 waited; 2 ends; 4 waited; 4 ends; 3 grouped; 3 ends; 1 gathered 2 3 5; 1 ends; 0 is done; \
         1 is done",
    );
}

#[test]
fn a_failing_block_comes_behind_the_members_that_fail_in_the_same_turn() {
    gives(
        "[(group [(gather [(fail 0)])] [(group [(fail 1)] [(yield)])])]",
        "1 begins; 2 begins; 3 begins; 4 begins; 5 begins; 6 begins; 4 fails: 1; 5 fails: 0; 6 is cancelled; 2 fails: 0; \
         3 fails: (1); 1 fails: ((1) 0); 0 has failed: ((1) 0)",
    );
}

#[test]
fn a_failing_member_cancels_what_the_block_gathers_at_once() {
    gives(
        "[(group [(gather [(yield) (yield)])] [(fail 0)])]",
        "1 begins; 2 begins; 3 begins; 4 begins; 3 fails: 0; 4 goes on; 4 is cancelled; 2 is cancelled; 1 fails: (0); \
         0 has failed: (0)",
    );
}

/// (It was once woken a second time, and then ran before whoever yielded after it had begun to wait.)
#[test]
fn a_block_that_stays_when_a_member_fails_waits_for_its_turn() {
    gives(
        "[(spawn 1 [(group [(catch [(wait)] [] 0) (get)] [(fail 0)])]) \
          (spawn 2 [(yield) (yield) (yield) (yield) (mark 1) (yield) (mark 2)]) \
          (spawn 0 [(yield) (yield) (yield) (yield) (put 1)])]",
        "1 begins; 1 ends; 2 begins; 3 begins; 4 begins; 5 begins; 6 begins; 7 begins; 5 goes on; 6 goes on; 7 fails: 0; \
         5 goes on; 6 goes on; 5 goes on; 6 goes on; 4 is cancelled; 3 hears; 8 begins; 8 ends; 3 stays; 5 goes on; \
         5 mark 1; 6 goes on; 6 put 1; 6 ends; 5 goes on; 5 mark 2; 5 ends; 3 got 1; 3 ends; 2 fails: (0); 0 is done; \
         1 has failed: (0); 2 is done; 3 is done",
    );
}

#[test]
fn a_timeout_within_one_that_is_over_passes_the_cancellation_on() {
    gives(
        "[(timeout 1 [(timeout 2 [(catch [(wait)] [] 0) (get)])])]",
        "1 begins; 2 begins; 3 begins; 4 begins; 4 is cancelled; 3 hears; 5 begins; 5 ends; 3 stays; 3 is cancelled; \
         2 is cancelled; 1 timed out; 1 ends; 0 is done",
    );
}

#[test]
fn a_permit_is_not_taken_while_somebody_who_was_woken_has_not_gone_on() {
    gives(
        "[(spawn 0 [(permit [(permit [(yield)])]) (permit [])]) (yield) (permit [])]",
        "1 begins; 2 begins; 2 permitted; 3 begins; 3 permitted; 4 begins; 1 goes on; 4 goes on; 4 ends; 3 gave back; \
         3 ends; 2 gave back; 1 permitted; 5 begins; 5 ends; 1 gave back; 1 ends; 2 permitted; 6 begins; 6 ends; \
         2 gave back; 2 ends; 0 is done; 1 is done",
    );
}
