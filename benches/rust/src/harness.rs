//! What is measured, and how: rounds in turns, minima, a table.

use std::time::{Duration, Instant};

/// One loop's programs. Each does `count` operations and says how long they took.
pub trait Contestant {
    fn yields(count: u32) -> Duration;
    fn spawn_join(count: u32) -> Duration;
    fn group(count: u32) -> Duration;
    fn mutex(count: u32) -> Duration;
    fn queue(count: u32) -> Duration;
    fn queue_of_one(count: u32) -> Duration;
    fn one_shot(count: u32) -> Duration;
    fn sleepers(count: u32) -> Duration;
    fn sleepers_cancelled(count: u32) -> Duration;
    fn echo(count: u32) -> Duration;
}

pub const GROUP: u32 = 100;
pub const MESSAGE: usize = 1024;
pub const CONNECTIONS: u32 = 64;

type Program = fn(u32) -> Duration;

struct Row {
    title: &'static str,
    count: u32,
    programs: [Program; 3],
}

macro_rules! row {
    ($title:literal, $count:literal, $name:ident) => {
        Row {
            title: $title,
            count: $count,
            programs: [
                <crate::tokio_local::Tokio as Contestant>::$name,
                <crate::smol::Smol as Contestant>::$name,
                <crate::velo::Velodrome as Contestant>::$name,
            ],
        }
    };
}

/// Times what a closure does.
pub fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let rounds: u32 = option("--rounds").map_or(15, |rounds| rounds.parse().expect("a number of rounds"));
    let (only, alone) = (option("--only"), option("--alone"));
    let rows = [
        row!("yield", 100_000, yields),
        row!("spawn and join", 50_000, spawn_join),
        row!("group of 100, per member", 50_000, group),
        row!("mutex, ten tasks in turn", 50_000, mutex),
        row!("queue (100), per item", 100_000, queue),
        row!("queue (1), per item", 50_000, queue_of_one),
        row!("one-shot, to a task that waits", 50_000, one_shot),
        row!("100,000 sleepers, each", 100_000, sleepers),
        row!("100,000 sleepers, cancelled, each", 100_000, sleepers_cancelled),
        row!("TCP echo of 1 KiB, 64 connections, both ends", 20_000, echo),
    ];
    let mut page = String::from(
        "| ns per operation | tokio | smol | velodrome | best of the others ÷ velodrome |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows.iter().filter(|row| only.as_ref().is_none_or(|only| row.title.contains(only.as_str()))) {
        let mut least = [f64::INFINITY; 3];
        if let Some(alone) = &alone {
            // For a profiler: one contestant's program, a few times.
            let place =
                ["tokio", "smol", "velodrome"].iter().position(|name| name == alone).expect("a contestant");
            for _ in 0..rounds {
                (row.programs[place])(row.count);
            }
            continue;
        }
        for _ in 0..rounds {
            for (least, program) in least.iter_mut().zip(row.programs) {
                let taken = program(row.count).as_nanos() as f64 / f64::from(row.count);
                *least = least.min(taken);
            }
        }
        let [tokio, smol, ours] = least;
        let ratio = tokio.min(smol) / ours;
        let line = format!("| {} | {tokio:.0} | {smol:.0} | **{ours:.0}** | {ratio:.1} |\n", row.title);
        eprint!("{line}");
        page.push_str(&line);
    }
    match option("--output") {
        Some(path) => {
            let page = include_str!("page.md").replace("{table}", &page).replace("{machine}", &machine());
            std::fs::write(path, page).expect("the page can be written");
        }
        None => println!("{page}"),
    }
}

/// The processor, and how many of it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {count} processors", model.map_or("a processor", |(_, name)| name))
}
