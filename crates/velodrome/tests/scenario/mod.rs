//! Reads scenarios and runs them, as `tests/differential/scenarios.py` does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use velodrome::{
    Event, GroupError, JoinError, Lock, MemberError, Queue, Runner, Semaphore, Task, TaskRef, all_tasks,
    catch_cancel, create_task, current_task, gather, sleep, task_group, timeout, try_gather, yield_now,
};

/// The parts of the unit of time, in nanoseconds.
const PARTS: u64 = 1 << 20;
const LONG: u64 = 1000;
const PATIENCE: usize = 20;

pub type Body = Rc<[Operation]>;

#[derive(Debug)]
pub struct Operation {
    name: String,
    arguments: Vec<Argument>,
}

#[derive(Debug)]
enum Argument {
    Number(u64),
    Body(Body),
}

impl Operation {
    fn number(&self, place: usize) -> u64 {
        match &self.arguments[place] {
            Argument::Number(number) => *number,
            Argument::Body(_) => panic!("{self:?}: not a number"),
        }
    }

    fn body(&self, place: usize) -> Body {
        match &self.arguments[place] {
            Argument::Body(body) => Rc::clone(body),
            Argument::Number(_) => panic!("{self:?}: not a body"),
        }
    }
}

/// Reads a body.
pub fn read(text: &str) -> Body {
    let spaced = text.replace('(', "( ").replace(')', " )").replace('[', "[ ").replace(']', " ]");
    let mut words = spaced.split_whitespace();
    assert_eq!(words.next(), Some("["));
    read_body(&mut words)
}

fn read_body<'a>(words: &mut impl Iterator<Item = &'a str>) -> Body {
    let mut operations = Vec::new();
    while words.next().expect("a bracket") == "(" {
        let name = words.next().expect("a name").to_owned();
        let mut arguments = Vec::new();
        loop {
            arguments.push(match words.next().expect("a parenthesis") {
                ")" => break,
                "[" => Argument::Body(read_body(words)),
                number => Argument::Number(number.parse().expect("a number")),
            });
        }
        operations.push(Operation { name, arguments });
    }
    operations.into()
}

#[derive(Clone, Debug)]
enum Fail {
    Number(u64),
    Several(Vec<Fail>),
    Joined(String),
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Number(number) => number.fmt(f),
            Fail::Several(fails) => write!(f, "({})", words(fails)),
            Fail::Joined(error) => error.fmt(f),
        }
    }
}

fn words(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl From<JoinError> for Fail {
    fn from(error: JoinError) -> Self {
        Fail::Joined(error.to_string())
    }
}

impl From<GroupError<Fail>> for Fail {
    fn from(error: GroupError<Fail>) -> Self {
        let fail = |error| match error {
            MemberError::Failed(fail) => fail,
            other => Fail::Joined(other.to_string()),
        };
        Fail::Several(error.errors.into_iter().map(fail).collect())
    }
}

type Outcome<T = u64> = Result<T, Fail>;

pub struct Scenario {
    trace: RefCell<Vec<String>>,
    labels: Cell<u64>,
    timers: Cell<u64>,
    tasks: RefCell<HashMap<u64, TaskRef>>,
    kept: RefCell<Vec<Task<Outcome>>>,
    lock: Lock<()>,
    permits: Semaphore,
    queue: Queue<u64>,
    event: Event,
}

impl Scenario {
    /// Runs a scenario, and gives its trace.
    pub fn run(body: Body) -> Vec<String> {
        let scenario = Rc::new(Scenario {
            trace: RefCell::default(),
            labels: Cell::new(0),
            timers: Cell::new(0),
            tasks: RefCell::default(),
            kept: RefCell::default(),
            lock: Lock::new(()),
            permits: Semaphore::new(2),
            queue: Queue::bounded(1),
            event: Event::new(),
        });
        let runner = Runner::builder().counted_time(true).build().unwrap();
        runner.run(async {
            Rc::clone(&scenario).main(body).await;
            let trace = scenario.trace.take();
            // Some take a while to be convinced.
            for _ in 0..PATIENCE {
                let me = current_task();
                all_tasks().iter().filter(|task| Some(*task) != me.as_ref()).for_each(|task| {
                    task.cancel();
                });
                sleep(Duration::from_nanos(PARTS)).await;
            }
            trace
        })
    }

    fn log(&self, entry: impl ToString) {
        self.trace.borrow_mut().push(entry.to_string());
    }

    fn delay(&self, units: u64) -> Duration {
        self.timers.set(self.timers.get() + 1);
        Duration::from_nanos(units * PARTS + (self.timers.get().wrapping_mul(0x9E37_79B1) & 0xFFFF))
    }

    async fn main(self: Rc<Self>, body: Body) {
        self.begin(0, body);
        for _ in 0..PATIENCE {
            sleep(self.delay(LONG)).await;
            let left: Vec<TaskRef> =
                self.kept.borrow().iter().filter(|task| !task.is_done()).map(Task::task_ref).collect();
            if left.is_empty() {
                break;
            }
            self.log(format!("cancels {}", left.len()));
            for task in left {
                task.cancel();
            }
        }
        for (number, task) in self.kept.take().into_iter().enumerate() {
            let state = if task.is_done() {
                match task.await {
                    Ok(Ok(_)) => "is done".to_owned(),
                    Ok(Err(fail)) => format!("has failed: {fail}"),
                    Err(_cancelled) => "was cancelled".to_owned(),
                }
            } else {
                "runs".to_owned()
            };
            self.log(format!("{number} {state}"));
        }
    }

    fn begin(self: &Rc<Self>, slot: u64, body: Body) {
        let task = create_task(Rc::clone(self).body(body));
        self.tasks.borrow_mut().insert(slot, task.task_ref());
        self.kept.borrow_mut().push(task);
    }

    fn body(self: Rc<Self>, body: Body) -> Pin<Box<dyn Future<Output = Outcome>>> {
        Box::pin(async move {
            let label = self.labels.get() + 1;
            self.labels.set(label);
            self.log(format!("{label} begins"));
            let mut running = Running { scenario: &self, label, over: false };
            let mut outcome = Ok(label);
            for operation in body.iter() {
                if let Err(fail) = self.step(label, operation).await {
                    outcome = Err(fail);
                    break;
                }
            }
            running.over = true;
            match &outcome {
                Ok(_) => self.log(format!("{label} ends")),
                Err(fail) => self.log(format!("{label} fails: {fail}")),
            }
            outcome
        })
    }

    fn bodies(self: &Rc<Self>, bodies: &[Argument]) -> Vec<Pin<Box<dyn Future<Output = Outcome>>>> {
        let body = |argument: &Argument| match argument {
            Argument::Body(body) => Rc::clone(self).body(Rc::clone(body)),
            Argument::Number(_) => panic!("not a body"),
        };
        bodies.iter().map(body).collect()
    }

    async fn step(self: &Rc<Self>, label: u64, it: &Operation) -> Outcome<()> {
        let run = |place| Rc::clone(self).body(it.body(place));
        let said = match it.name.as_str() {
            "mark" => format!("mark {}", it.number(0)),
            "yield" => {
                yield_now().await;
                "goes on".to_owned()
            }
            "sleep" => {
                sleep(self.delay(it.number(0))).await;
                format!("slept {}", it.number(0))
            }
            "spawn" => {
                self.begin(it.number(0), it.body(1));
                return Ok(());
            }
            "cancel" => {
                let Some(task) = self.tasks.borrow().get(&it.number(0)).cloned() else { return Ok(()) };
                format!("cancels {} {}", it.number(0), if task.cancel() { "in time" } else { "too late" })
            }
            "put" => {
                self.queue.put(it.number(0)).await.expect("it is not shut down");
                format!("put {}", it.number(0))
            }
            "get" => format!("got {}", self.queue.get().await.expect("it is not shut down")),
            "wait" => {
                self.event.wait().await;
                "waited".to_owned()
            }
            "set" => {
                self.event.set();
                return Ok(());
            }
            "clear" => {
                self.event.clear();
                return Ok(());
            }
            "fail" => {
                yield_now().await;
                return Err(Fail::Number(it.number(0)));
            }
            "lock" => {
                let guard = self.lock.lock().await;
                self.log(format!("{label} locked"));
                run(0).await?;
                drop(guard);
                "unlocked".to_owned()
            }
            "permit" => {
                let permit = self.permits.acquire().await;
                self.log(format!("{label} permitted"));
                run(0).await?;
                drop(permit);
                "gave back".to_owned()
            }
            "gather" => {
                let labels: Vec<u64> = try_gather(self.bodies(&it.arguments)).await?;
                format!("gathered {}", words(&labels)).trim_end().to_owned()
            }
            "collect" => {
                let results = gather(self.bodies(&it.arguments)).await?;
                let show = |result| match result {
                    Ok(label) => format!("{label}"),
                    Err(fail) => format!("!{fail}"),
                };
                let results: Vec<String> = results.into_iter().map(show).collect();
                format!("collected {}", words(&results)).trim_end().to_owned()
            }
            "group" => {
                task_group(async |group| {
                    for body in self.bodies(&it.arguments[1..]) {
                        group.create_task(body).detach();
                    }
                    run(0).await
                })
                .await?;
                "grouped".to_owned()
            }
            "timeout" => match timeout(self.delay(it.number(0)), run(1)).await {
                Ok(outcome) => outcome.map(|_label| "in time".to_owned())?,
                Err(_elapsed) => "timed out".to_owned(),
            },
            "attempt" => match run(0).await {
                Ok(_label) => return Ok(()),
                Err(fail) => format!("attempted: {fail}"),
            },
            "catch" => match catch_cancel(run(0)).await {
                Ok(outcome) => return outcome.map(drop),
                Err(cancelled) => {
                    self.log(format!("{label} hears"));
                    run(1).await?;
                    if it.number(2) == 1 {
                        self.log(format!("{label} passes on"));
                        cancelled.propagate().await
                    }
                    "stays".to_owned()
                }
            },
            name => panic!("{name}: no operation"),
        };
        self.log(format!("{label} {said}"));
        Ok(())
    }
}

/// Tells of a body that is dropped before its end.
struct Running<'a> {
    scenario: &'a Scenario,
    label: u64,
    over: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.scenario.log(format!("{} is cancelled", self.label));
        }
    }
}
