//! A job that is dropped may run code that comes back to the engine. So no method may drop one while it has the engine borrowed.

mod common;

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use velodrome_engine::{Engine, Interest, Time};

struct World {
    engine: RefCell<Option<Engine<Job>>>,
    dropped: Cell<usize>,
}

/// Like a Python object whose `__del__` calls `call_soon`.
#[derive(Clone)]
struct Job(Rc<World>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
        let mut engine =
            self.0.engine.try_borrow_mut().expect("a job was dropped while the engine was borrowed");
        if let Some(engine) = engine.as_mut() {
            engine.timeout(Time::now);
        }
    }
}

impl World {
    fn with<T>(self: &Rc<Self>, work: impl FnOnce(&mut Engine<Job>, Job) -> T) -> T {
        let job = Job(Rc::clone(self));
        // The result, and the jobs in it, leave the borrow before they are dropped.
        let mut engine = self.engine.borrow_mut();
        work(engine.as_mut().unwrap(), job)
    }
}

#[test]
fn no_method_drops_a_job_while_the_engine_is_borrowed() {
    let world = Rc::new(World { engine: RefCell::new(Some(Engine::new().unwrap())), dropped: Cell::new(0) });
    let (_reader, writer) = std::io::pipe().unwrap();
    let forget = std::mem::forget::<Job>;

    for _ in 0..100 {
        world.with(|engine, job| engine.push(job));
        assert!(world.with(|engine, job| engine.remote_push(job)).is_ok());
        let timer = world.with(|engine, job| engine.timer(Time::MAX, job));
        let due = world.with(|engine, job| engine.timer(Time::ZERO, job));
        let key = world.with(|engine, job| engine.watch(writer.as_fd(), Interest::Write, job)).unwrap();

        let refused = world.with(|engine, job| engine.try_watch(writer.as_fd(), Interest::Write, job));
        assert!(refused.is_err());
        drop(refused);
        drop(world.with(|engine, job| engine.replace(key, job)));
        let wait = world.with(|engine, job| {
            forget(job);
            engine.prepare(Some(Duration::ZERO))
        });
        let events = wait.block();
        world.with(|engine, job| {
            forget(job);
            assert_eq!(engine.harvest(events).jobs, 1);
            assert_eq!(engine.expire(Time::now()), 1);
        });
        drop(world.with(|engine, job| (engine.unwatch(key), job)));
        drop(world.with(|engine, job| (engine.unwatch(key), engine.replace(key, job))));
        drop(world.with(|engine, job| (engine.cancel(timer), job)));
        drop(world.with(|engine, job| (engine.cancel(due), job)));
        assert_eq!(
            world.with(|engine, job| {
                forget(job);
                engine.begin()
            }),
            4
        );
        for _ in 0..2 {
            drop(world.with(|engine, job| (engine.pop(), job)));
        }
        world.with(|engine, job| engine.timer(Time::MAX, job));
        world.with(|engine, job| engine.watch(writer.as_fd(), Interest::Write, job)).unwrap();
        assert!(world.with(|engine, job| engine.remote_push(job)).is_ok());
        drop(world.with(|engine, job| (engine.clear(), job)));
    }
    assert!(world.dropped.get() > 0);
    let engine = world.engine.borrow_mut().take();
    drop(engine);
}
