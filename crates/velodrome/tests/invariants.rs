//! Random programs of tasks, threads and cancellations: every task ends, and nothing that was counted is lost.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use velodrome::{
    Barrier, Condition, Event, Handle, Lock, Promise, Queue, Runner, Semaphore, TaskRef, catch_cancel,
    create_task, gather, sleep, spawn_blocking, task_group, timeout, try_gather, yield_now,
};

const PROGRAMS: u64 = 300;
const PERMITS: usize = 2;

/// What the tasks of a program have in common.
struct World {
    random: RefCell<Rng>,
    lock: Lock<u64>,
    changed: Condition,
    permits: Semaphore,
    bounded: Queue<u64>,
    free: Queue<u64>,
    event: Event,
    barrier: Barrier,
    promises: RefCell<Vec<Promise<u64>>>,
    tasks: RefCell<Vec<TaskRef>>,
    /// How many wait for what,
    getting: Cell<u32>,
    putting: Cell<u32>,
    locking: Cell<u32>,
    acquiring: Cell<u32>,
    free_getting: Cell<u32>,
    /// are within the lock, hold a permit, and live.
    inside: Cell<u32>,
    holding: Cell<u32>,
    alive: Cell<u32>,
    /// How many items were put into the queues and got out.
    put: Cell<u64>,
    got: Cell<u64>,
    /// The items of the queue without bound are numbered.
    last_put: Cell<u64>,
    last_got: Cell<u64>,
}

/// One more, for as long as it lives.
struct Within<'a>(&'a Cell<u32>);
impl<'a> Within<'a> {
    fn new(cell: &'a Cell<u32>) -> Self {
        cell.set(cell.get() + 1);
        Within(cell)
    }
}
impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl World {
    /// Who waits for what is there.
    fn stalls(&self) -> Option<&'static str> {
        let waits = |count: &Cell<u32>| count.get() > 0;
        match () {
            () if waits(&self.getting) && !self.bounded.is_empty() => Some("get"),
            () if waits(&self.putting) && !self.bounded.is_full() => Some("put"),
            () if waits(&self.free_getting) && !self.free.is_empty() => Some("get without bound"),
            () if waits(&self.locking) && !self.lock.is_locked() => Some("lock"),
            () if waits(&self.acquiring) && self.permits.available() > 0 => Some("acquire"),
            () => None,
        }
    }

    /// Ends the waiting for what may never come.
    fn let_go(&self) {
        self.event.set();
        self.event.clear();
        self.changed.notify_all();
        self.barrier.reset();
        self.promises.borrow_mut().clear();
        self.bounded.shutdown();
        self.free.shutdown();
    }

    fn below(&self, bound: u32) -> u32 {
        self.random.borrow_mut().u32(..bound)
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A few random steps.
fn steps(world: Rc<World>, depth: u32) -> Boxed {
    Box::pin(async move {
        let _alive = Within::new(&world.alive);
        for _ in 0..=world.below(5) {
            step(&world, depth).await;
        }
    })
}

async fn step(world: &Rc<World>, depth: u32) {
    match world.below(if depth == 0 { 13 } else { 25 }) {
        0 => yield_now().await,
        1 => sleep(Duration::from_micros(world.below(50).into())).await,
        2 => {
            let waiting = Within::new(&world.locking);
            let mut guard = world.lock.lock().await;
            drop(waiting);
            assert_eq!(world.inside.get(), 0);
            let _inside = Within::new(&world.inside);
            *guard += 1;
            if world.below(2) == 0 {
                yield_now().await;
            }
        }
        3 => {
            let waiting = Within::new(&world.acquiring);
            let _permit = world.permits.acquire().await;
            drop(waiting);
            let _holding = Within::new(&world.holding);
            assert!(world.holding.get() as usize <= PERMITS);
            if world.below(2) == 0 {
                yield_now().await;
            }
        }
        4 => {
            let value = world.put.get() + 1;
            let waiting = Within::new(&world.putting);
            let put = world.bounded.put(value).await;
            drop(waiting);
            if put.is_ok() {
                world.put.set(world.put.get() + 1);
            }
        }
        5 => {
            let waiting = Within::new(&world.getting);
            let got = world.bounded.get().await;
            drop(waiting);
            if got.is_ok() {
                world.got.set(world.got.get() + 1);
                world.bounded.task_done();
            }
        }
        6 => {
            if world.free.try_put(world.last_put.get() + 1).is_ok() {
                world.last_put.set(world.last_put.get() + 1);
                world.put.set(world.put.get() + 1);
            }
        }
        7 => {
            let waiting = Within::new(&world.free_getting);
            let got = world.free.get().await;
            drop(waiting);
            if let Ok(value) = got {
                world.got.set(world.got.get() + 1);
                assert_eq!(value, world.last_got.replace(value) + 1, "out of order");
                world.free.task_done();
            }
        }
        8 => {
            if world.below(2) == 0 {
                world.event.wait().await;
            } else {
                world.event.set();
                world.event.clear();
            }
        }
        9 => {
            let mut guard = world.lock.lock().await;
            if world.below(2) == 0 {
                guard = world.changed.wait(guard).await;
            } else {
                world.changed.notify(world.below(3) as usize);
            }
            assert_eq!(world.inside.get(), 0);
            let _inside = Within::new(&world.inside);
            *guard += 1;
        }
        10 => drop(world.barrier.wait().await),
        11 => {
            if world.below(2) == 0 {
                let (promise, future) = velodrome::Future::new();
                world.promises.borrow_mut().push(promise);
                let _given = future.await;
            } else {
                let promise = world.promises.borrow_mut().pop();
                if let Some(promise) = promise
                    && world.below(3) > 0
                {
                    let _cancelled = promise.set(1);
                }
            }
        }
        12 => {
            let count = world.tasks.borrow().len() as u32;
            if count > 0 {
                let task = world.tasks.borrow()[world.below(count) as usize].clone();
                task.cancel();
            }
        }
        13 => drop(catch_cancel(steps(Rc::clone(world), depth - 1)).await),
        14 => {
            if let Err(cancelled) = catch_cancel(steps(Rc::clone(world), depth - 1)).await {
                if world.below(2) == 0 {
                    sleep(Duration::from_micros(20)).await;
                }
                cancelled.propagate::<()>().await;
            }
        }
        15 => {
            let limit = Duration::from_micros(world.below(60).into());
            let _in_time = timeout(limit, steps(Rc::clone(world), depth - 1)).await;
        }
        16 => {
            let task = create_task(steps(Rc::clone(world), depth - 1));
            world.tasks.borrow_mut().push(task.task_ref());
            drop(task.await);
        }
        17 => create_task(steps(Rc::clone(world), depth - 1)).detach(),
        18 => {
            let count = world.below(4);
            let members: Vec<_> = (0..count).map(|_| steps(Rc::clone(world), depth - 1)).collect();
            drop(gather(members).await);
        }
        19 => {
            let failing = world.below(2) == 0;
            let inner = Rc::clone(world);
            let outcome = task_group(async move |group| {
                for _ in 0..inner.below(3) {
                    let world = Rc::clone(&inner);
                    let task = group.create_task(async move {
                        steps(Rc::clone(&world), depth - 1).await;
                        if failing { Err("failed") } else { Ok(()) }
                    });
                    inner.tasks.borrow_mut().push(task.task_ref());
                }
                steps(Rc::clone(&inner), depth - 1).await;
                Ok::<(), &str>(())
            });
            drop(outcome.await);
        }
        20 => {
            let (one, other) = (steps(Rc::clone(world), depth - 1), steps(Rc::clone(world), depth - 1));
            futures_lite::future::or(one, other).await;
        }
        21 => {
            let micros = u64::from(world.below(30));
            drop(spawn_blocking(move || std::thread::sleep(Duration::from_micros(micros))).await);
        }
        22 => {
            let remote = Handle::current().create_task(|| async {
                yield_now().await;
                7
            });
            assert!(remote.unwrap().await.is_ok_and(|it| it == 7));
        }
        23 => {
            let members = [true, false].map(|fails| {
                let inner = steps(Rc::clone(world), depth - 1);
                async move {
                    inner.await;
                    if fails { Err(std::io::Error::other("failed")) } else { Ok(()) }
                }
            });
            drop(try_gather(members).await);
        }
        // Begun here, and gone on with elsewhere.
        _ => {
            let mut begun = steps(Rc::clone(world), depth - 1);
            if futures_lite::future::poll_once(&mut begun).await.is_none() {
                let task = create_task(begun);
                world.tasks.borrow_mut().push(task.task_ref());
                drop(task.await);
            }
        }
    }
}

/// Runs the program of a number to its end.
fn program(runner: &Runner, seed: u64) {
    let world = Rc::new(World {
        random: RefCell::new(Rng::with_seed(seed)),
        lock: Lock::new(0),
        changed: Condition::new(),
        permits: Semaphore::new(PERMITS),
        bounded: Queue::bounded(2),
        free: Queue::unbounded(),
        event: Event::new(),
        barrier: Barrier::new(2),
        promises: RefCell::default(),
        tasks: RefCell::default(),
        getting: Cell::new(0),
        putting: Cell::new(0),
        locking: Cell::new(0),
        acquiring: Cell::new(0),
        free_getting: Cell::new(0),
        inside: Cell::new(0),
        holding: Cell::new(0),
        alive: Cell::new(0),
        put: Cell::new(0),
        got: Cell::new(0),
        last_put: Cell::new(0),
        last_got: Cell::new(0),
    });
    let shared = Rc::clone(&world);
    runner.run(async move {
        for _ in 0..shared.below(25) {
            let task = create_task(steps(Rc::clone(&shared), 3));
            shared.tasks.borrow_mut().push(task.task_ref());
            task.detach();
        }
        let mut rounds = 0;
        while velodrome::all_tasks().len() > 1 {
            sleep(Duration::from_micros(100)).await;
            let mut turns = 0;
            while let Some(what) = shared.stalls() {
                yield_now().await;
                turns += 1;
                assert!(turns < 100, "{seed}: {what} waits for nothing");
            }
            rounds += 1;
            assert!(rounds < 10_000, "{seed}: {:?} do not end", velodrome::all_tasks());
            if rounds > 3 {
                shared.let_go();
            }
        }
    });
    assert!(!world.lock.is_locked(), "{seed}");
    assert_eq!(world.permits.available(), PERMITS, "{seed}");
    assert_eq!((world.inside.get(), world.holding.get(), world.alive.get()), (0, 0, 0), "{seed}");
    assert_eq!(world.barrier.waiting(), 0, "{seed}");
    let left = (world.bounded.len() + world.free.len()) as u64;
    assert_eq!(world.put.get(), world.got.get() + left, "{seed}");
    drop(world.lock.try_lock().expect("it works still"));
    drop((
        world.permits.try_acquire().expect("it works still"),
        world.permits.try_acquire().expect("so it does"),
    ));
    assert_eq!(runner.registered(), (0, 0), "{seed}");
    assert_eq!(Rc::strong_count(&world), 1, "{seed}: somebody has the world still");
}

#[test]
fn random_programs_end_and_lose_nothing() {
    let runner = Runner::new().unwrap();
    (0..PROGRAMS).for_each(|seed| program(&runner, seed));
}
