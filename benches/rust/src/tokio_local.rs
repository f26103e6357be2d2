//! The programs, on tokio: a current_thread runtime with a LocalSet.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet, spawn_local, yield_now};
use tokio::time::sleep;

use crate::harness::{CONNECTIONS, Contestant, GROUP, MESSAGE, timed};

pub struct Tokio;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
}

fn run(main: impl Future<Output = ()>) -> Duration {
    let set = LocalSet::new();
    RUNTIME.with(|runtime| timed(|| set.block_on(runtime, main)))
}

impl Contestant for Tokio {
    fn yields(count: u32) -> Duration {
        run(async move {
            let task = spawn_local(async move {
                for _ in 0..count {
                    yield_now().await;
                }
            });
            task.await.unwrap();
        })
    }

    fn spawn_join(count: u32) -> Duration {
        run(async move {
            let task = spawn_local(async move {
                for number in 0..count {
                    assert_eq!(spawn_local(async move { number }).await.unwrap(), number);
                }
            });
            task.await.unwrap();
        })
    }

    fn group(count: u32) -> Duration {
        run(async move {
            for _ in 0..count / GROUP {
                let mut set = JoinSet::new();
                for _ in 0..GROUP {
                    set.spawn_local(async {});
                }
                while set.join_next().await.is_some() {}
            }
        })
    }

    fn mutex(count: u32) -> Duration {
        run(async move {
            let lock = Rc::new(Mutex::new(0));
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let lock = Rc::clone(&lock);
                    spawn_local(async move {
                        for _ in 0..count / 10 {
                            let mut guard = lock.lock().await;
                            *guard += 1;
                            yield_now().await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
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
        run(async move {
            for _ in 0..count {
                let (sender, receiver) = oneshot::channel();
                let task = spawn_local(async move { receiver.await.unwrap() });
                yield_now().await;
                sender.send(1).unwrap();
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
                    spawn_local(async move { sleep(nap).await })
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
                (0..count).map(|_| spawn_local(async { sleep(Duration::from_secs(60)).await })).collect();
            yield_now().await;
            for task in &tasks {
                task.abort();
            }
            for task in tasks {
                task.await.unwrap_err();
            }
        })
    }

    fn echo(count: u32) -> Duration {
        run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
                let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                spawn_local(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        let size = server.read(&mut buffer).await.unwrap();
                        if size == 0 {
                            break;
                        }
                        server.write_all(&buffer[..size]).await.unwrap();
                    }
                });
                tasks.push(spawn_local(async move {
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
        let (sender, mut receiver) = mpsc::channel(room);
        let writing = spawn_local(async move {
            for number in 0..count {
                sender.send(number).await.unwrap();
            }
        });
        let reading = spawn_local(async move {
            for number in 0..count {
                assert_eq!(receiver.recv().await, Some(number));
            }
        });
        writing.await.unwrap();
        reading.await.unwrap();
    })
}
