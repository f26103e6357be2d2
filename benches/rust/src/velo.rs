//! The programs, on Velodrome.

use std::rc::Rc;
use std::time::Duration;

use velodrome::net::{TcpListener, TcpStream};
use velodrome::{Future, Lock, Queue, Runner, create_task, gather, sleep, task_group, yield_now};

use crate::harness::{CONNECTIONS, Contestant, GROUP, MESSAGE, timed};

pub struct Velodrome;

thread_local! {
    static RUNNER: Runner = Runner::new().unwrap();
}

fn run(main: impl std::future::Future<Output = ()>) -> Duration {
    RUNNER.with(|runner| timed(|| runner.run(main)))
}

impl Contestant for Velodrome {
    fn yields(count: u32) -> Duration {
        run(async move {
            let task = create_task(async move {
                for _ in 0..count {
                    yield_now().await;
                }
            });
            task.await.unwrap();
        })
    }

    fn spawn_join(count: u32) -> Duration {
        run(async move {
            let task = create_task(async move {
                for number in 0..count {
                    assert_eq!(create_task(async move { number }).await.unwrap(), number);
                }
            });
            task.await.unwrap();
        })
    }

    fn group(count: u32) -> Duration {
        run(async move {
            for _ in 0..count / GROUP {
                task_group(async |group| {
                    for _ in 0..GROUP {
                        group.create_task(async { Ok::<(), ()>(()) }).detach();
                    }
                    Ok(())
                })
                .await
                .unwrap();
            }
        })
    }

    fn mutex(count: u32) -> Duration {
        run(async move {
            let lock = Rc::new(Lock::new(0));
            let tasks = (0..10).map(|_| {
                let lock = Rc::clone(&lock);
                async move {
                    for _ in 0..count / 10 {
                        let mut guard = lock.lock().await;
                        *guard += 1;
                        yield_now().await;
                    }
                }
            });
            gather(tasks).await.unwrap();
        })
    }

    fn queue(count: u32) -> Duration {
        through(count, 100)
    }

    fn queue_of_one(count: u32) -> Duration {
        through(count, 1)
    }

    fn one_shot(count: u32) -> Duration {
        run(async move {
            for _ in 0..count {
                let (promise, future) = Future::new();
                let task = create_task(async move { future.await.unwrap() });
                yield_now().await;
                promise.set(1).unwrap();
                task.await.unwrap();
            }
        })
    }

    fn sleepers(count: u32) -> Duration {
        run(async move {
            let mut random = 1_u64;
            let tasks: Vec<_> = (0..count)
                .map(|_| {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let nap = Duration::from_micros(random >> 54);
                    create_task(async move { sleep(nap).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        })
    }

    fn sleepers_cancelled(count: u32) -> Duration {
        run(async move {
            let tasks: Vec<_> =
                (0..count).map(|_| create_task(async { sleep(Duration::from_secs(60)).await })).collect();
            yield_now().await;
            for task in &tasks {
                task.cancel();
            }
            for task in tasks {
                task.await.unwrap_err();
            }
        })
    }

    fn echo(count: u32) -> Duration {
        run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.as_ref().local_addr().unwrap();
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                let (client, accepted) = gather!(TcpStream::connect(address), listener.accept());
                let (client, server) = (client.unwrap(), accepted.unwrap().0);
                create_task(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        let size = server.read(&mut buffer).await.unwrap();
                        if size == 0 {
                            break;
                        }
                        server.write_all(&buffer[..size]).await.unwrap();
                    }
                })
                .detach();
                tasks.push(create_task(async move {
                    let mut buffer = vec![0; MESSAGE];
                    for _ in 0..count / CONNECTIONS {
                        client.write_all(&buffer).await.unwrap();
                        client.read_exact(&mut buffer).await.unwrap();
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        })
    }
}

fn through(count: u32, room: usize) -> Duration {
    run(async move {
        let queue = Rc::new(Queue::bounded(room));
        let writer = Rc::clone(&queue);
        let writing = create_task(async move {
            for number in 0..count {
                writer.put(number).await.unwrap();
            }
        });
        let reading = create_task(async move {
            for number in 0..count {
                assert_eq!(queue.get().await, Ok(number));
            }
        });
        writing.await.unwrap();
        reading.await.unwrap();
    })
}
