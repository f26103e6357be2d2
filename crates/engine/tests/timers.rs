//! Timers: order, keys, deadlines, memory.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{BACKENDS, at, drain, in_time, wait};
use velodrome_engine::{Engine, Time, TimerKey};

#[test]
fn timers_fire_in_order_of_time() {
    let mut engine = Engine::new().unwrap();
    let mut times: Vec<u64> = (0..1000).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut times);
    for &time in &times {
        engine.timer(at(time), time);
    }
    assert_eq!(engine.expire(at(499)), 500);
    assert_eq!(engine.next_deadline(), Some(at(500)));
    assert_eq!(engine.expire(Time::MAX), 500);
    assert!(drain(&mut engine).into_iter().eq(0..1000));
}

#[test]
fn timers_of_the_same_time_fire_in_the_order_they_were_made() {
    let mut engine = Engine::new().unwrap();
    let keys: Vec<_> = (0..1000).map(|job| engine.timer(at(5), job)).collect();
    // Holes in the heap must not change the order of the rest.
    for key in keys.iter().step_by(3) {
        engine.cancel(*key).unwrap();
    }
    engine.expire(at(5));
    assert!(drain(&mut engine).into_iter().eq((0..1000).filter(|job| job % 3 != 0)));
}

#[test]
fn a_timer_fires_at_its_time_and_not_before() {
    let mut engine = Engine::new().unwrap();
    engine.timer(at(10), ());
    assert_eq!(engine.expire(at(9)), 0);
    assert_eq!(engine.expire(at(10)), 1);
    assert_eq!(engine.expire(at(11)), 0);
}

#[test]
fn a_key_is_stale_once_its_timer_fired_or_was_cancelled() {
    let mut engine = Engine::new().unwrap();
    let fired = engine.timer(at(1), "fired");
    engine.expire(at(1));
    assert_eq!(engine.cancel(fired), None);
    let cancelled = engine.timer(at(1), "cancelled");
    assert_eq!(engine.cancel(cancelled), Some("cancelled"));
    // The slot is taken again; the old keys do not name the new timer.
    let new = engine.timer(at(1), "new");
    assert_eq!((engine.cancel(fired), engine.cancel(cancelled)), (None, None));
    assert_eq!(engine.cancel(new), Some("new"));
}

#[test]
fn numbers_that_were_no_key_name_no_timer() {
    let mut engine = Engine::new().unwrap();
    let (stamp, slot) = engine.timer(at(1), ()).into_raw();
    for raw in [(0, 0), (stamp, slot + 1), (stamp + 1, slot), (u64::MAX, u32::MAX)] {
        assert_eq!(engine.cancel(TimerKey::from_raw(raw)), None);
    }
    assert_eq!(engine.cancel(TimerKey::from_raw((stamp, slot))), Some(()));
}

#[test]
fn the_next_deadline_is_that_of_a_live_timer() {
    let mut engine = Engine::new().unwrap();
    let early = engine.timer(at(1), ());
    engine.timer(at(2), ());
    engine.cancel(early);
    assert_eq!(engine.next_deadline(), Some(at(2)));
    assert_eq!(engine.timer_count(), 1);
}

#[test]
fn timers_lists_what_is_scheduled() {
    let mut engine = Engine::new().unwrap();
    let key = engine.timer(at(3), 'c');
    engine.timer(at(1), 'a');
    engine.timer(at(2), 'b');
    engine.cancel(key);
    let mut timers: Vec<_> = engine.timers().collect();
    assert_eq!(timers[0], (at(1), &'a'), "the next one is the first");
    timers.sort();
    assert_eq!(timers, [(at(1), &'a'), (at(2), &'b')]);
}

/// The same operations on the engine and on a sorted map, which is obviously right.
#[test]
fn timers_agree_with_a_sorted_map_whatever_is_done_to_them() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut engine = Engine::new().unwrap();
        let mut model: BTreeMap<(u64, u64), TimerKey> = BTreeMap::new();
        let mut stale: Vec<TimerKey> = Vec::new();
        let mut made = 0_u64;
        let mut now = 0_u64;
        // Some runs hold a handful of timers, some thousands; some have many of the same time.
        let (spread, cancels) = (random.u64(1..2000), random.u32(1..8));
        for _ in 0..random.usize(10..4000) {
            match random.u32(0..10) {
                choice if choice < cancels => {
                    let nth = random.usize(0..model.len().max(1));
                    if let Some((&id, &key)) = model.iter().nth(nth) {
                        model.remove(&id);
                        assert_eq!(engine.cancel(key), Some(id), "seed {seed}");
                        stale.push(key);
                    }
                }
                9 => {
                    now += random.u64(0..=spread / 4);
                    let left = model.split_off(&(now + 1, 0));
                    let due = std::mem::replace(&mut model, left);
                    assert_eq!(engine.expire(at(now)), due.len(), "seed {seed}");
                    assert!(drain(&mut engine).into_iter().eq(due.keys().copied()), "seed {seed}");
                    stale.extend(due.values());
                }
                _ => {
                    made += 1;
                    // Also times that have passed.
                    let id = ((now + random.u64(0..spread)).saturating_sub(spread / 8), made);
                    model.insert(id, engine.timer(at(id.0), id));
                }
            }
            if let Some(&key) = random.choice(&stale) {
                assert_eq!(engine.cancel(key), None, "seed {seed}");
            }
            assert_eq!(engine.timer_count(), model.len());
            assert_eq!(engine.next_deadline(), model.keys().next().map(|id| at(id.0)), "seed {seed}");
        }
        let mut listed: Vec<_> = engine.timers().map(|(_, &id)| id).collect();
        listed.sort_unstable();
        assert!(listed.into_iter().eq(model.keys().copied()), "seed {seed}");
    }
}

#[test]
fn a_million_timers_scheduled_and_cancelled_leave_memory_where_it_was() {
    let orders: [fn(&mut Vec<TimerKey>); 3] =
        [|_| {}, |keys| keys.reverse(), |keys| fastrand::Rng::with_seed(1).shuffle(keys)];
    for order in orders {
        let mut engine = Engine::new().unwrap();
        let mut keys: Vec<_> = (0..1_000_000).map(|time| engine.timer(at(time), ())).collect();
        order(&mut keys);
        for key in keys {
            engine.cancel(key).unwrap();
        }
        let [_, heap, slots] = engine.capacities();
        assert!(heap <= 64 && slots <= 64, "{heap} entries and {slots} slots are kept");
    }
}

#[test]
fn a_million_timers_that_fired_leave_memory_where_it_was() {
    let mut engine = Engine::new().unwrap();
    for time in 0..1_000_000 {
        engine.timer(at(time), ());
    }
    assert_eq!(engine.expire(Time::MAX), 1_000_000);
    let [_, heap, slots] = engine.capacities();
    assert!(heap <= 64 && slots <= 64, "{heap} entries and {slots} slots are kept");
}

#[test]
fn a_timer_older_than_the_burst_does_not_keep_the_memory_of_the_burst() {
    let mut engine = Engine::new().unwrap();
    let old = engine.timer(Time::MAX, "old");
    let keys: Vec<_> = (0..100_000).map(|time| engine.timer(at(time), "burst")).collect();
    for key in keys {
        engine.cancel(key).unwrap();
    }
    let [_, heap, slots] = engine.capacities();
    assert!(heap <= 64 && slots <= 64, "{heap} entries and {slots} slots are kept");
    assert_eq!(engine.cancel(old), Some("old"));
}

#[test]
fn timeouts_that_never_fire_need_no_more_memory_than_those_that_live() {
    let mut engine = Engine::new().unwrap();
    for time in 0..1_000_000 {
        let key = engine.timer(at(1_000_000_000 + time), ());
        engine.cancel(key);
    }
    let [_, heap, slots] = engine.capacities();
    assert!(heap <= 64 && slots <= 64);
}

#[test]
fn a_deadline_below_a_millisecond_is_honoured() {
    for &backend in BACKENDS {
        in_time(move || {
            let mut engine = Engine::with_backend(backend).unwrap();
            for micros in [1, 20, 250, 700, 1300] {
                let start = Time::now();
                let deadline = start.saturating_add(Duration::from_micros(micros));
                engine.timer(deadline, ());
                let mut waits = 0;
                while engine.expire(Time::now()) == 0 {
                    let timeout = engine.timeout(Time::now);
                    wait(&mut engine, timeout);
                    waits += 1;
                }
                assert!(Time::now() >= deadline);
                // A wait never ends early, so one is enough. (A signal may end it, but nobody sends one here.)
                assert!(waits <= 1, "{waits} waits for {micros} µs");
                assert!(Time::now().saturating_since(start) < Duration::from_secs(1));
                engine.pop();
            }
        });
    }
}

/// Ten microseconds each: rounding each up to a millisecond would take a hundred milliseconds.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_short_waits_do_not_take_a_hundred_milliseconds() {
    // SAFETY: there is no such descriptor, so this only tells whether the kernel has the call at all.
    unsafe { libc::syscall(libc::SYS_epoll_pwait2, -1, 0, 0, 0, 0, 0) };
    if std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        return;
    }
    in_time(|| {
        let mut engine = Engine::<()>::new().unwrap();
        let best = (0..20)
            .map(|_| {
                let start = Time::now();
                for _ in 0..100 {
                    wait(&mut engine, Some(Duration::from_micros(10)));
                }
                Time::now().saturating_since(start)
            })
            .min();
        assert!(best.unwrap() < Duration::from_millis(100), "{best:?}");
    });
}
