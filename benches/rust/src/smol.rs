//! The programs, on smol: LocalExecutor, async-io, async-lock, async-channel.

use std::rc::Rc;
use std::time::Duration;

use async_executor::LocalExecutor;
use async_io::Timer;
use futures_lite::future::yield_now;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{CONNECTIONS, Contestant, GROUP, MESSAGE, timed};

pub struct Smol;

fn run<F: Future<Output = ()>>(main: impl FnOnce(Rc<LocalExecutor<'static>>) -> F) -> Duration {
    let executor = Rc::new(LocalExecutor::new());
    let main = main(Rc::clone(&executor));
    timed(|| async_io::block_on(executor.run(main)))
}

impl Contestant for Smol {
    fn yields(count: u32) -> Duration {
        run(|executor| async move {
            executor
                .spawn(async move {
                    for _ in 0..count {
                        yield_now().await;
                    }
                })
                .await
        })
    }

    fn spawn_join(count: u32) -> Duration {
        run(|executor| async move {
            let inner = Rc::clone(&executor);
            executor
                .spawn(async move {
                    for number in 0..count {
                        assert_eq!(inner.spawn(async move { number }).await, number);
                    }
                })
                .await
        })
    }

    fn group(count: u32) -> Duration {
        run(|executor| async move {
            for _ in 0..count / GROUP {
                let tasks: Vec<_> = (0..GROUP).map(|_| executor.spawn(async {})).collect();
                for task in tasks {
                    task.await;
                }
            }
        })
    }

    fn mutex(count: u32) -> Duration {
        run(|executor| async move {
            let lock = Rc::new(async_lock::Mutex::new(0));
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let lock = Rc::clone(&lock);
                    executor.spawn(async move {
                        for _ in 0..count / 10 {
                            let mut guard = lock.lock().await;
                            *guard += 1;
                            yield_now().await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        })
    }

    fn queue(count: u32) -> Duration {
        through(count, 100)
    }

    fn queue_of_one(count: u32) -> Duration {
        through(count, 1)
    }

    fn one_shot(count: u32) -> Duration {
        run(|executor| async move {
            for _ in 0..count {
                let (sender, receiver) = async_channel::bounded(1);
                let task = executor.spawn(async move { receiver.recv().await.unwrap() });
                yield_now().await;
                sender.send(1).await.unwrap();
                task.await;
            }
        })
    }

    fn sleepers(count: u32) -> Duration {
        run(|executor| async move {
            let mut random = 1_u64;
            let tasks: Vec<_> = (0..count)
                .map(|_| {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let nap = Duration::from_micros(random >> 54);
                    executor.spawn(async move { _ = Timer::after(nap).await })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        })
    }

    fn sleepers_cancelled(count: u32) -> Duration {
        run(|executor| async move {
            let tasks: Vec<_> = (0..count)
                .map(|_| executor.spawn(async { _ = Timer::after(Duration::from_secs(60)).await }))
                .collect();
            yield_now().await;
            for task in tasks {
                task.cancel().await;
            }
        })
    }

    fn echo(count: u32) -> Duration {
        run(|executor| async move {
            let listener = async_io::Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
            let address = listener.get_ref().local_addr().unwrap();
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                let connecting = async_io::Async::<std::net::TcpStream>::connect(address);
                let (mut client, accepted) =
                    futures_lite::future::try_zip(connecting, listener.accept()).await.unwrap();
                let mut server = accepted.0;
                client.get_ref().set_nodelay(true).unwrap();
                server.get_ref().set_nodelay(true).unwrap();
                executor
                    .spawn(async move {
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
                tasks.push(executor.spawn(async move {
                    let mut buffer = vec![0; MESSAGE];
                    for _ in 0..count / CONNECTIONS {
                        client.write_all(&buffer).await.unwrap();
                        client.read_exact(&mut buffer).await.unwrap();
                    }
                }));
            }
            for task in tasks {
                task.await;
            }
        })
    }
}

fn through(count: u32, room: usize) -> Duration {
    run(|executor| async move {
        let (sender, receiver) = async_channel::bounded(room);
        let writing = executor.spawn(async move {
            for number in 0..count {
                sender.send(number).await.unwrap();
            }
        });
        let reading = executor.spawn(async move {
            for number in 0..count {
                assert_eq!(receiver.recv().await, Ok(number));
            }
        });
        writing.await;
        reading.await;
    })
}
