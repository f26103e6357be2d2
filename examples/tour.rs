//! A tour of Velodrome's Rust face in eleven chapters: step for step the tour of asyncio in `tour.py`, printing what happens
//! as it happens.
//!
//!     cargo run --example tour            the whole tour
//!     cargo run --example tour 4 6        only chapters 4 and 6
//!
//! Every chapter is one function. Its documentation is the lesson, its body the proof. Where Rust's answer is asyncio's, the
//! lines are the same, and in the same order; where it differs, the lesson says how.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use velodrome::{
    Event, Future, Lock, MemberError, Runner, all_tasks, catch_cancel, create_task, gather, run, sleep,
    task_group, try_gather, yield_now,
};

type Chapter = (&'static str, &'static str, fn());

const CHAPTERS: [Chapter; 11] = [
    (
        "A future, awaited",
        "Calling an `async fn` runs none of it: it makes a future, a body that waits for somebody to drive it. \
         `await` drives it, right here and now, and hands back what it returns. Awaiting is a call, not a way to get \
         something to run beside you: that takes a task (chapter 5). Being awaited uses a future up, and the \
         compiler knows: a second await of it is no error when the program runs, it is no program.",
        a_future_driven,
    ),
    (
        "A future, never awaited",
        "Forget the `await` and nothing runs, silently. The compiler says so (`unused_must_use`) where it can see it; \
         a future that was stored somewhere is simply dropped one day, with what it had borrowed or owned.",
        a_future_never_awaited,
    ),
    (
        "run, and Runner",
        "`run(main())` is the door into the async world: it makes a loop, runs one future on it to the end, cleans \
         up and closes the loop. A `Runner` is the same door held open: it keeps one loop for several runs.",
        run_and_runner,
    ),
    (
        "sleep gives way",
        "A loop runs one task at a time, and only an `await` that has to wait lets another task in. `sleep` is the \
         plainest such await. While one task sleeps, the others work; `yield_now` (asyncio's `sleep(0)`) waits for \
         nothing, it only lets the others take a turn.",
        sleep_gives_way,
    ),
    (
        "A task, scheduled while its creator goes on",
        "`create_task` takes a future and puts it in the loop's queue. It does not start it: the creator goes on \
         until it first gives way. Only then does the task get its first turn. Its result has one owner, who awaits \
         the task; asyncio hands out the same object again and again.",
        a_task_scheduled,
    ),
    (
        "Back and forth, between a task and its creator",
        "Each `yield_now` hands the turn over, so two sides that use it alternate strictly. That is a dialogue by \
         good manners: either side could keep the turn. A pair of futures makes it a dialogue by contract: each side \
         waits for the other's word.",
        back_and_forth,
    ),
    (
        "gather, of ten",
        "`gather` runs many at once and returns their results in the order they were given in, whatever order they \
         finish in. When one fails there is a choice: `try_gather` lets the first error out at once, `gather` takes \
         errors as results among the others.",
        gather_ten,
    ),
    (
        "A task group: one fails, its siblings are cancelled",
        "A task group does not let go of anybody. Its block waits for every member, and when one fails it cancels the \
         rest, waits until they have cleaned up, and returns what went wrong, as a group, since several members may \
         fail at once.",
        a_task_group,
    ),
    (
        "A future's result, awaited while another task prints numbers",
        "A `Future` is an empty box with a lid that opens once, by its `Promise`. Who awaits it sleeps until the \
         promise is kept; nobody runs inside it.",
        a_future_awaited,
    ),
    (
        "A task nobody awaits, when main returns",
        "The program ends when main returns, not when every task is done. `run` then cancels what is left, gives it \
         the chance to clean up, and only then closes the loop. Work that must be finished has to be awaited by \
         somebody: a task group is made for that. (The loop itself keeps tasks alive; nothing is collected.)",
        a_task_nobody_awaits,
    ),
    (
        "A lock, around shared results",
        "Between two awaits nobody else runs, so a `Cell` needs no lock. Read, await, then write does: by the time of \
         the write another task may have written. A lock lets one task at a time through that stretch, in the order \
         of asking.",
        a_lock,
    ),
];

/// Prints a line the moment it happens, with who says it in a column of its own.
fn say(who: &str, what: impl Display) {
    println!("    {who:<8} {what}");
}

fn a_future_driven() {
    async fn double(number: i32) -> i32 {
        say("double", format!("running, with {number}"));
        number * 2
    }

    run(async {
        let future = double(21);
        say("main", "calling double(21) made a future and printed nothing");
        let result = future.await;
        say("main", format!("awaiting it gave {result}"));
    });
}

fn a_future_never_awaited() {
    /// Says when it is dropped.
    struct Report;
    impl Drop for Report {
        fn drop(&mut self) {
            say("report", "dropped, unread");
        }
    }

    async fn save(_what: Report) {
        say("save", "saving");
    }

    run(async {
        let future = save(Report);
        say("main", "save() was called, and nobody saved anything");
        drop(future);
    });
}

fn run_and_runner() {
    // What tells one loop from another here: a task that was left to the loop.
    async fn leave_a_task() {
        create_task(std::future::pending::<()>()).detach();
    }
    async fn tasks() -> usize {
        all_tasks().len() - 1
    }

    run(leave_a_task());
    say("run", format!("two runs, two loops: the second has {} tasks of the first", run(tasks())));

    let runner = Runner::new().expect("a loop can be made");
    runner.run(leave_a_task());
    say("Runner", format!("two runs, one loop: the second has {} task of the first", runner.run(tasks())));
    let handle = runner.handle();
    runner.close();
    let refused = handle.call_soon(|| ()).expect_err("the loop is closed");
    say("Runner", format!("after close(): {refused}"));

    // There is one loop to a thread. Inside it, one awaits; a second run() has no place, and says so by panicking.
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let nested = run(async { create_task(async { run(tasks()) }).await });
    std::panic::set_hook(quiet);
    say("nested", nested.expect_err("a run within a run"));
}

fn sleep_gives_way() {
    async fn counter(name: &str, give_way: bool) {
        for number in 1..=3 {
            say(name, number);
            if give_way {
                yield_now().await;
            }
        }
    }

    run(async {
        say("main", "two tasks that never give way: one after the other");
        gather([counter("left", false), counter("right", false)]).await.expect("no panic");
        say("main", "two tasks that yield after each number: in turns");
        gather([counter("left", true), counter("right", true)]).await.expect("no panic");

        let asleep = create_task(async {
            say("sleeper", "good night");
            sleep(Duration::from_millis(20)).await;
            say("sleeper", "good morning");
        });
        yield_now().await;
        say("main", "the sleeper holds nobody up");
        asleep.await.expect("no panic");
    });
}

fn a_task_scheduled() {
    run(async {
        let mut task = create_task(async {
            say("worker", "first turn");
            "work"
        })
        .named("worker");
        say("main", format!("created the task {:?}, which is done: {}", task.name(), task.is_done()));
        say("main", "still my turn; the worker has printed nothing yet");
        let result = (&mut task).await.expect("no panic");
        say("main", format!("the task is done: {}, and its result is {result:?}", task.is_done()));
    });
}

fn back_and_forth() {
    run(async {
        let partner = create_task(async {
            for number in 0..3 {
                say("task", format!("turn {number}"));
                yield_now().await;
            }
            say("task", "no more turns needed");
        });
        for number in 0..3 {
            say("creator", format!("turn {number}"));
            yield_now().await;
        }
        partner.await.expect("no panic");
    });

    run(async {
        let (serve, served) = Future::new();
        let (back, returned) = Future::new();
        let partner = create_task(async move {
            let ball: &str = served.await.expect("served");
            say("task", format!("got {ball:?}"));
            back.set(ball.to_uppercase()).expect("somebody waits");
            say("task", "hit it back; the creator wakes when I give way");
        });
        say("creator", "serving, though the task has not even started");
        serve.set("ping").expect("somebody waits");
        say("creator", format!("got {:?}", returned.await.expect("hit back")));
        partner.await.expect("no panic");
    });
}

fn gather_ten() {
    type Finished = Rc<RefCell<Vec<usize>>>;

    async fn job(number: usize, finished: Finished) -> Result<usize, Box<dyn std::error::Error>> {
        // Later jobs finish earlier: job 9 gives way once, job 0 ten times.
        for _ in 0..10 - number {
            yield_now().await;
        }
        finished.borrow_mut().push(number);
        if number == 3 || number == 7 {
            return Err(format!("job {number} failed").into());
        }
        Ok(number * number)
    }

    run(async {
        let finished = Finished::default();
        let jobs = || (0..10).map(|number| job(number, Rc::clone(&finished)));
        if let Err(error) = try_gather(jobs()).await {
            say("main", format!("try_gather: {error}"));
        }
        say("main", format!("finished by then: {:?}", finished.borrow()));

        // The others were not cancelled: try_gather let go of them, and they go on as tasks of the loop.
        for _ in 0..10 {
            yield_now().await;
        }
        say("main", format!("a while later:    {:?}", finished.borrow()));

        finished.borrow_mut().clear();
        let results = gather(jobs()).await.expect("no panic");
        say("main", format!("gather: finished in the order {:?}", finished.borrow()));
        for (number, result) in results.iter().enumerate() {
            say("main", format!("results[{number}] = {result:?}"));
        }
    });
}

fn a_task_group() {
    async fn patient(name: &'static str, after: Rc<Event>, gone: Rc<Event>) -> Result<(), String> {
        say(name, "waiting for a long time");
        let outcome = catch_cancel(sleep(Duration::from_secs(3600))).await;
        if let Err(cancelled) = outcome {
            // boris waits for anna. A cancelled task may still await, to clean up.
            after.wait().await;
            say(name, "cancelled; tidying up");
            yield_now().await;
            say(name, "gone");
            gone.set();
            cancelled.propagate::<()>().await; // passed on, or the group would take it for a normal end
        }
        Ok(())
    }

    async fn hasty() -> Result<(), String> {
        yield_now().await;
        say("hasty", "failing");
        Err("hasty failed".to_owned())
    }

    run(async {
        let always = Rc::new(Event::new());
        always.set();
        let gone = [Rc::new(Event::new()), Rc::new(Event::new())];
        let members = RefCell::new(Vec::new());
        let outcome = task_group(async |group| {
            members.borrow_mut().extend([
                group.create_task(patient("anna", always, Rc::clone(&gone[0]))),
                group.create_task(patient("boris", Rc::clone(&gone[0]), Rc::clone(&gone[1]))),
                group.create_task(hasty()),
            ]);
            say("main", "the group is full; leaving the block, which waits for its members");
            Ok(())
        })
        .await;
        let errors: Vec<String> =
            outcome.expect_err("hasty failed").errors.iter().map(MemberError::to_string).collect();
        say("main", format!("out of the block: {errors:?}"));
        for (name, member) in ["anna", "boris", "hasty"].into_iter().zip(members.into_inner()) {
            say("main", format!("{name}: {}", member.await.expect_err("none came to its end")));
        }
    });
}

fn a_future_awaited() {
    run(async {
        let (promise, future) = Future::new();
        let printing = create_task(async move {
            for number in 1..=5 {
                say("numbers", number);
                if number == 4 {
                    promise.set("four, said the future").expect("somebody waits");
                    say("numbers", "result set; my turn goes on");
                }
                yield_now().await;
            }
            promise
        });

        say("main", format!("awaiting a future that is done: {}", future.is_done()));
        // What asyncio does with `add_done_callback`, one does here by looking on.
        let mut future = pin!(future);
        let result = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(result) => {
                say("onlooker", "polled by the loop, done: true");
                Poll::Ready(result)
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
        say("main", format!("woken with {:?}", result.expect("the promise was kept")));
        let promise = printing.await.expect("no panic");

        if let Err(error) = promise.set("again") {
            say("main", format!("a second result: InvalidState: {error}"));
        }
    });
}

fn a_task_nobody_awaits() {
    async fn background() {
        let steps = catch_cancel(async {
            for number in 0..1000 {
                say("task", format!("step {number}"));
                yield_now().await;
            }
            say("task", "all done"); // never printed
        });
        if let Err(cancelled) = steps.await {
            say("task", "cancelled before I was done");
            say("task", "cleaning up");
            cancelled.propagate::<()>().await;
        }
    }

    let task = Cell::new(None);
    run(async {
        task.set(Some(create_task(background())));
        yield_now().await;
        yield_now().await;
        // The task stands in the queue for its next turn. It still gets that one, for the loop serves what was ready when main
        // returned, and meets the cancellation at the await after it.
        say("main", "returning, and leaving a task behind");
    });
    let task = task.take().expect("made by main");
    say("run", format!("over; the task is done: {}", task.is_done()));
}

fn a_lock() {
    async fn deposit(account: &Cell<i32>, amount: i32) {
        let balance = account.get();
        yield_now().await; // say, the bank's database is asked; meanwhile, others read the old balance
        account.set(balance + amount);
    }

    async fn careful(name: &str, account: &Lock<i32>, amount: i32) {
        let mut balance = account.lock().await;
        say(name, format!("has the lock, sees {balance:?}"));
        let seen = *balance;
        yield_now().await;
        *balance = seen + amount;
        say(name, format!("leaves {balance:?}"));
    }

    run(async {
        // In place, because these borrow the account: `gather!` rather than `gather`.
        let account = Cell::new(0);
        gather!(deposit(&account, 10), deposit(&account, 10), deposit(&account, 10));
        say("main", format!("three deposits of 10 without a lock: {}, two of them lost", account.get()));

        let account = Lock::new(0);
        gather!(
            careful("first", &account, 10),
            careful("second", &account, 10),
            careful("third", &account, 10)
        );
        say("main", format!("three deposits of 10 with a lock: {}", account.into_inner()));
    });
}

/// Prints a text in lines of a width that is good to read.
fn print_lesson(lesson: &str) {
    let mut line = String::new();
    for word in lesson.split_whitespace() {
        if line.len() + 1 + word.len() > 96 {
            println!(" {line}");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    println!(" {line}\n");
}

fn main() {
    let mut chosen = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(number @ 1..=11) => chosen.push(number),
            _ => {
                eprintln!("there is no chapter {argument}: they are 1 to {}", CHAPTERS.len());
                std::process::exit(2);
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(1..=CHAPTERS.len());
    }
    for number in chosen {
        let (title, lesson, happen) = CHAPTERS[number - 1];
        println!("{number}. {title}");
        print_lesson(lesson);
        happen();
        println!();
    }
}
