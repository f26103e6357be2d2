//! Sockets, and what they leave behind: nothing.
#![allow(missing_docs)]

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::rc::Rc;

use std::time::Duration;

use velodrome::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use velodrome::{AsyncFd, Child, Runner, create_task, gather, run, timeout, yield_now};

const PATIENCE: Duration = Duration::from_secs(60);

/// On each backend.
fn runners() -> [Runner; 2] {
    [false, true].map(|poll| Runner::builder().poll(poll).build().unwrap())
}

#[test]
fn an_echo_of_more_than_the_kernel_holds() {
    for runner in runners() {
        runner.run(async {
            let (one, other) = UnixStream::pair().unwrap();
            let echo = create_task(async move {
                let mut buffer = vec![0; 10_000];
                loop {
                    match other.read(&mut buffer).await.unwrap() {
                        0 => break,
                        size => other.write_all(&buffer[..size]).await.unwrap(),
                    }
                }
            });
            let data: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
            let (sent, received) = gather!(
                async {
                    one.write_all(&data).await.unwrap();
                    one.shutdown(std::net::Shutdown::Write)
                },
                async {
                    let mut all = Vec::new();
                    one.read_to_end(&mut all).await.unwrap();
                    all
                },
            );
            sent.unwrap();
            assert!(received == data);
            echo.await.unwrap();
        });
        assert_eq!(runner.registered(), (0, 0));
    }
}

#[test]
fn many_connections_at_once() {
    for runner in runners() {
        runner.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.as_ref().local_addr().unwrap();
            let server = create_task(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    create_task(async move {
                        let mut buffer = [0; 64];
                        while let Ok(size @ 1..) = stream.read(&mut buffer).await {
                            stream.write_all(&buffer[..size]).await.unwrap();
                        }
                    })
                    .detach();
                }
            });
            let clients = gather((0..50_u8).map(|number| async move {
                let stream = TcpStream::connect(address).await.unwrap();
                for round in 0..20 {
                    stream.write_all(&[number, round]).await.unwrap();
                    let mut answer = [0; 2];
                    stream.read_exact(&mut answer).await.unwrap();
                    assert_eq!(answer, [number, round]);
                }
            }));
            timeout(PATIENCE, clients).await.unwrap().unwrap();
            server.cancel();
            let _: Result<(), _> = server.await;
        });
    }
}

#[test]
fn a_future_dropped_while_its_socket_is_ready_leaves_no_registration() {
    for runner in runners() {
        for steps in 0..5 {
            runner.run(async {
                let (one, other) = UnixStream::pair().unwrap();
                let reading = create_task(async move {
                    let mut buffer = [0; 1];
                    loop {
                        one.read_exact(&mut buffer).await.unwrap();
                    }
                });
                yield_now().await;
                other.write_all(b"ready").await.unwrap();
                for _ in 0..steps {
                    yield_now().await;
                }
                reading.cancel();
                assert!(reading.await.unwrap_err().is_cancelled());
                // What the kernel still has to say of it reaches nobody.
                yield_now().await;
                yield_now().await;
            });
            assert_eq!(runner.registered(), (0, 0), "after {steps} steps");
        }
    }
}

#[test]
fn a_socket_that_nobody_reads_does_not_keep_the_loop_busy() {
    for runner in runners() {
        let socket = runner.run(async {
            let (one, other) = UnixStream::pair().unwrap();
            let mut buffer = [0; 1];
            let read = futures_lite::future::poll_once(one.read(&mut buffer)).await;
            assert!(read.is_none());
            other.write_all(b"x").await.unwrap();
            for _ in 0..100 {
                velodrome::sleep(Duration::from_micros(50)).await;
            }
            (one, other)
        });
        assert_eq!(runner.registered(), (0, 0), "nobody claimed what was reported");
        // And it can be read all the same.
        assert_eq!(runner.run(async { socket.0.read(&mut [0; 4]).await.unwrap() }), 1);
    }
}

#[test]
fn a_socket_moves_from_one_loop_to_another() {
    let [first, second] = runners();
    let (one, other) = UnixStream::pair().unwrap();
    for runner in [&first, &second, &first] {
        runner.run(async {
            let (read, ()) = gather!(async { one.read(&mut [0; 4]).await.unwrap() }, async {
                yield_now().await;
                other.write_all(b"x").await.unwrap();
            });
            assert_eq!(read, 1);
        });
    }
    drop((one, other));
    assert_eq!((first.registered(), second.registered()), ((0, 0), (0, 0)));
}

#[test]
fn a_number_that_is_used_again_is_another_socket() {
    run(async {
        let (one, _other) = UnixStream::pair().unwrap();
        let number = one.as_ref().as_raw_fd();
        assert!(futures_lite::future::poll_once(one.read(&mut [0; 1])).await.is_none());
        drop(one);
        let (again, peer) = UnixStream::pair().unwrap();
        assert!([again.as_ref().as_raw_fd(), peer.as_ref().as_raw_fd()].contains(&number));
        let (read, ()) = gather!(async { again.read(&mut [0; 4]).await.unwrap() }, async {
            yield_now().await;
            peer.write_all(b"x").await.unwrap();
        });
        assert_eq!(read, 1);
    });
}

#[test]
fn connecting_to_nobody_is_refused() {
    let error = run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.as_ref().local_addr().unwrap();
        drop(listener);
        TcpStream::connect(address).await.unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn datagrams_come_whole_and_to_several_who_wait() {
    run(async {
        let (one, other) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let to = other.as_ref().local_addr().unwrap();
        let (mut first, mut second) = ([0; 16], [0; 16]);
        let receive = async { gather!(other.recv_from(&mut first), other.recv_from(&mut second)) };
        let send = async {
            yield_now().await;
            one.send_to(b"a", to).await.unwrap();
            one.send_to(b"bb", to).await.unwrap();
        };
        let ((a, b), ()) = timeout(PATIENCE, async { gather!(receive, send) }).await.unwrap();
        let mut sizes = [a.unwrap().0, b.unwrap().0];
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2]);
    });
}

#[test]
fn a_listener_in_the_file_system() {
    let folder = std::env::temp_dir().join(format!("velodrome-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    run(async {
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, accepted) = gather!(UnixStream::connect(&path), listener.accept());
        stream.unwrap().write_all(b"x").await.unwrap();
        assert_eq!(accepted.unwrap().0.read(&mut [0; 4]).await.unwrap(), 1);
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_regular_file_cannot_be_waited_for() {
    run(async {
        let file = AsyncFd::new(std::fs::File::open("Cargo.toml").unwrap()).unwrap();
        assert!(file.readable().await.is_err());
        // What never blocks need not wait.
        assert!(file.read_with(|mut file| file.read(&mut [0; 4])).await.is_ok());
    });
}

#[test]
fn the_traits_of_others_read_and_write() {
    run(async {
        use futures_lite::{AsyncReadExt, AsyncWriteExt};
        let (mut one, mut other) = UnixStream::pair().unwrap();
        AsyncWriteExt::write_all(&mut one, b"hello").await.unwrap();
        AsyncWriteExt::close(&mut one).await.unwrap();
        let mut text = String::new();
        AsyncReadExt::read_to_string(&mut other, &mut text).await.unwrap();
        assert_eq!(text, "hello");
    });
    #[cfg(feature = "tokio")]
    run(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut one, mut other) = UnixStream::pair().unwrap();
        AsyncWriteExt::write_all(&mut one, b"hello").await.unwrap();
        AsyncWriteExt::shutdown(&mut one).await.unwrap();
        let mut text = String::new();
        AsyncReadExt::read_to_string(&mut other, &mut text).await.unwrap();
        assert_eq!(text, "hello");
    });
}

#[test]
fn a_child_that_talks_and_ends() {
    for runner in runners() {
        runner.run(async {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = Child::spawn(command).unwrap();
            let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let data = vec![7; 300_000];
            let (_, all) = gather!(
                async {
                    input.write_all(&data).await.unwrap();
                    drop(input);
                },
                async {
                    let mut all = Vec::new();
                    output.read_to_end(&mut all).await.unwrap();
                    all
                },
            );
            assert!(all == data);
            assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
        });
    }
}

#[test]
fn a_child_that_is_killed_while_somebody_waits() {
    run(async {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let mut child = Child::spawn(command).unwrap();
        assert!(timeout(Duration::from_millis(1), child.wait()).await.is_err());
        child.kill().unwrap();
        assert!(!timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    });
}

/// A signal ends the loop's wait, and no wait of ours minds.
#[test]
fn signals_are_heard_and_interrupt_nothing() {
    run(async {
        let mut signal = velodrome::Signal::new(signal_hook::consts::SIGUSR1).unwrap();
        let sender = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(5));
            signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap();
        });
        timeout(PATIENCE, signal.recv()).await.unwrap().unwrap();
        sender.join().unwrap();
    });
    let (mut one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    one.write_all(b"x").unwrap();
    assert_eq!(other.read(&mut [0; 2]).unwrap(), 1);
}

/// The kernel and the clock are asked although something is always ready.
#[test]
fn a_task_that_never_waits_starves_neither_timers_nor_sockets_nor_threads() {
    for runner in runners() {
        runner.run(async {
            let busy = create_task(async {
                loop {
                    yield_now().await;
                }
            })
            .cancel_on_drop();
            let (one, other) = UnixStream::pair().unwrap();
            let all = async {
                gather!(
                    async {
                        velodrome::sleep(Duration::from_millis(1)).await;
                        other.write_all(b"x").await.unwrap();
                    },
                    async { one.read(&mut [0; 4]).await.unwrap() },
                    velodrome::spawn_blocking(|| 1),
                )
            };
            let ((), read, blocking) = timeout(PATIENCE, all).await.unwrap();
            assert_eq!((read, blocking.unwrap()), (1, 1));
            drop::<velodrome::CancelOnDrop<()>>(busy);
        });
    }
}

/// A stream may be in the hands of several tasks, and each of them waits for itself.
#[test]
fn tasks_that_wait_for_one_stream_are_all_woken() {
    for runner in runners() {
        runner.run(async {
            let (one, other) = UnixStream::pair().unwrap();
            let one = Rc::new(one);
            let reading: Vec<_> = (0..5)
                .map(|_| {
                    let one = Rc::clone(&one);
                    create_task(async move { one.read(&mut [0]).await.unwrap() })
                })
                .collect();
            yield_now().await;
            // One that has given up leaves the others where they are.
            reading[0].cancel();
            yield_now().await;
            for _ in &reading[1..] {
                other.write_all(b"x").await.unwrap();
                yield_now().await;
            }
            for task in reading.into_iter().skip(1) {
                assert_eq!(timeout(PATIENCE, task).await.expect("a wake-up was lost").unwrap(), 1);
            }
        });
        assert_eq!(runner.registered(), (0, 0));
    }
}

#[test]
fn what_several_tasks_write_to_one_stream_comes_through() {
    const SIZE: usize = 1_000_000;
    for runner in runners() {
        runner.run(async {
            let (one, other) = UnixStream::pair().unwrap();
            let one = Rc::new(one);
            let writing: Vec<_> = (0..3_u8)
                .map(|number| {
                    let one = Rc::clone(&one);
                    create_task(async move { one.write_all(&vec![number; SIZE]).await })
                })
                .collect();
            drop(one);
            let mut all = Vec::new();
            timeout(PATIENCE, other.read_to_end(&mut all)).await.expect("a wake-up was lost").unwrap();
            for (number, task) in writing.into_iter().enumerate() {
                task.await.unwrap().unwrap();
                assert_eq!(all.iter().filter(|&&byte| usize::from(byte) == number).count(), SIZE);
            }
        });
    }
}

#[test]
fn what_was_read_before_the_end_was_given_up_is_in_the_buffer_and_nothing_else() {
    run(async {
        let (one, other) = UnixStream::pair().unwrap();
        let mut all = b"before".to_vec();
        other.write_all(b" and after").await.unwrap();
        let outcome = timeout(Duration::from_millis(5), one.read_to_end(&mut all)).await;
        assert!(outcome.is_err());
        assert_eq!(all, b"before and after");
        other.write_all(b", and the end").await.unwrap();
        drop(other);
        assert_eq!(one.read_to_end(&mut all).await.unwrap(), 13);
        assert_eq!(all, b"before and after, and the end");
    });
}
