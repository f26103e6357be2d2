//! Futures of every kind, for Python to await: what tests/bridging.py builds and imports.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use velodrome::net::TcpStream;
use velodrome_bridge::{from_awaitable, into_awaitable, into_awaitable_with};

/// Calls a Python function when it is dropped.
struct Guard(Py<PyAny>, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        Python::attach(|py| self.0.call1(py, (self.1,)).map(drop).unwrap_or_else(|error| error.print(py)));
    }
}

/// The future is ready at once.
#[pyfunction]
fn ready(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move { Ok(value) })
}

#[pyfunction]
fn nap(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        velodrome::sleep(Duration::from_secs_f64(seconds)).await;
        Ok("rested")
    })
}

/// Gives way so many times.
#[pyfunction]
fn yields(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        for _ in 0..times {
            velodrome::yield_now().await;
        }
        Ok(times)
    })
}

/// As `yields`, for whichever thread awaits it.
#[pyfunction]
fn yields_anywhere(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable_with(py, move || async move {
        for _ in 0..times {
            velodrome::yield_now().await;
        }
        Ok(times)
    })
}

/// Is woken so many times by another thread, each time after the poll that asked for it, before its end, or in it.
#[pyfunction]
fn woken(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let (ask, asked) = mpsc::channel::<Waker>();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let waker = thread::spawn(move || {
            for waker in asked {
                counted.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        });
        for number in 1..=times {
            let mut sent = false;
            poll_fn(|cx| {
                if !std::mem::replace(&mut sent, true) {
                    ask.send(cx.waker().clone()).unwrap();
                }
                if count.load(Ordering::Acquire) >= number { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        // With the GIL, which the other thread does not need.
        drop(ask);
        waker.join().unwrap();
        Ok(count.load(Ordering::Relaxed))
    })
}

#[pyfunction]
fn fails<'py>(py: Python<'py>, message: String) -> PyResult<Bound<'py, PyAny>> {
    into_awaitable(py, async move {
        velodrome::yield_now().await;
        Err::<(), _>(PyValueError::new_err(message))
    })
}

#[pyfunction]
fn panics<'py>(py: Python<'py>, log: Py<PyAny>, message: String) -> PyResult<Bound<'py, PyAny>> {
    into_awaitable(py, async move {
        let _guard = Guard(log, "dropped");
        velodrome::yield_now().await;
        if message.is_empty() { Ok(()) } else { panic!("{message}") }
    })
}

/// Waits for ever; logs that it was dropped.
#[pyfunction]
fn pending(py: Python<'_>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let _guard = Guard(log, "dropped");
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// Catches its cancellation, and ends otherwise, or passes it on.
#[pyfunction]
fn catches<'py>(py: Python<'py>, log: Py<PyAny>, propagate: bool) -> PyResult<Bound<'py, PyAny>> {
    into_awaitable(py, async move {
        match velodrome::catch_cancel(std::future::pending::<()>()).await {
            Ok(()) => Ok("never"),
            Err(cancelled) => {
                velodrome::sleep(Duration::from_millis(1)).await;
                Python::attach(|py| log.call1(py, ("cleaned",)))?;
                if propagate { cancelled.propagate().await } else { Ok("cleaned") }
            }
        }
    })
}

/// Makes tasks in Rust, and gathers them.
#[pyfunction]
fn tasks(py: Python<'_>, count: u64) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let tasks = (0..count).map(|number| {
            velodrome::create_task(async move {
                velodrome::sleep(Duration::from_micros(number % 7)).await;
                number
            })
        });
        let mut sum = 0;
        for task in tasks.collect::<Vec<_>>() {
            sum += task.await.map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        Ok(sum)
    })
}

/// Leaves a task alone that waits for ever, and one that catches its cancellation.
#[pyfunction]
fn leaves(py: Python<'_>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let another = Python::attach(|py| log.clone_ref(py));
        velodrome::create_task(async move {
            let _guard = Guard(log, "dropped");
            std::future::pending::<()>().await
        })
        .detach();
        velodrome::create_task(async move {
            let _guard = Guard(another, "cleaned");
            let _cancelled = velodrome::catch_cancel(velodrome::sleep(Duration::MAX)).await;
            velodrome::yield_now().await;
            std::future::pending::<()>().await
        })
        .detach();
        velodrome::yield_now().await;
        Ok(velodrome::all_tasks().len())
    })
}

/// A panic in a task of Rust's: the join error, as text.
#[pyfunction]
fn task_panics(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let error = velodrome::create_task(async { panic!("oh") }).await.unwrap_err();
        Ok(error.to_string())
    })
}

/// What a context variable holds, before and after a wait.
#[pyfunction]
fn sees(py: Python<'_>, variable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let get = || Python::attach(|py| variable.call_method0(py, "get"));
        let before = get()?;
        velodrome::sleep(Duration::from_millis(1)).await;
        Ok((before, get()?))
    })
}

/// Awaits something of Python's.
#[pyfunction]
fn awaits(py: Python<'_>, awaitable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move { from_awaitable(awaitable).await })
}

/// Awaits something of Python's for so long.
#[pyfunction]
fn awaits_for(py: Python<'_>, awaitable: Py<PyAny>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        match velodrome::timeout(Duration::from_secs_f64(seconds), from_awaitable(awaitable)).await {
            Ok(result) => result.map(Some),
            Err(_elapsed) => Ok(None),
        }
    })
}

/// Awaits things of Python's side by side, in tasks of Rust's.
#[pyfunction]
fn awaits_all(py: Python<'_>, awaitables: Vec<Py<PyAny>>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let tasks: Vec<_> =
            awaitables.into_iter().map(|it| velodrome::create_task(from_awaitable(it))).collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.map_err(|error| PyValueError::new_err(error.to_string()))??);
        }
        Ok(results)
    })
}

/// Sends lines to a server that echoes them, over a socket of the crate `velodrome`.
#[pyfunction]
fn echo(py: Python<'_>, port: u16, lines: usize) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut echoed = 0;
        for number in 0..lines {
            let line = format!("line {number}\n");
            stream.write_all(line.as_bytes()).await?;
            if read_line(&stream).await? == line {
                echoed += 1;
            }
        }
        Ok(echoed)
    })
}

/// Waits for what a silent server never sends; logs that it was dropped.
#[pyfunction]
fn listens(py: Python<'_>, port: u16, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let _guard = Guard(log, "dropped");
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(read_line(&stream).await?)
    })
}

async fn read_line(stream: &TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Rings for one waiter.
#[pyclass(frozen)]
#[derive(Default)]
struct Bell(Arc<Mutex<(bool, Option<Waker>)>>);

#[pymethods]
impl Bell {
    #[new]
    fn new() -> Self {
        Bell::default()
    }

    fn ring(&self) {
        let waker = {
            let mut s = self.0.lock().unwrap();
            s.0 = true;
            s.1.take()
        };
        if let Some(waker) = waker {
            waker.wake()
        }
    }
}

struct OnThread(Py<PyAny>, thread::ThreadId);
impl Drop for OnThread {
    fn drop(&mut self) {
        let here = self.1 == thread::current().id();
        Python::attach(|py| {
            self.0.call1(py, (("dropped", here),)).map(drop).unwrap_or_else(|error| error.print(py))
        });
    }
}

/// Leaves a Rust task (not Send) that logs whether it is polled on its own thread, and waits for the bell.
#[pyfunction]
fn waits_for_bell<'py>(py: Python<'py>, bell: &Bell, log: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let bell = Arc::clone(&bell.0);
    into_awaitable(py, async move {
        velodrome::create_task(async move {
            let guard = OnThread(log, thread::current().id());
            let rc = std::rc::Rc::new(());
            poll_fn(|cx| {
                let here = guard.1 == thread::current().id();
                let _c = rc.clone();
                Python::attach(|py| guard.0.call1(py, (("polled", here),)).unwrap());
                let mut s = bell.lock().unwrap();
                if s.0 {
                    return Poll::Ready(());
                }
                s.1 = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        })
        .detach();
        velodrome::yield_now().await;
        Ok(())
    })
}

/// Sleeps in a task of Rust's.
#[pyfunction]
fn task_naps(py: Python<'_>, micros: u64) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        velodrome::create_task(velodrome::sleep(Duration::from_micros(micros)))
            .await
            .map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok("rested")
    })
}

/// Never lets itself be cancelled.
#[pyfunction]
fn stubborn(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        velodrome::create_task(async {
            loop {
                let _ = velodrome::catch_cancel(std::future::pending::<()>()).await;
            }
        })
        .detach();
        velodrome::yield_now().await;
        Ok(())
    })
}

/// Leaves a Rust task that waits for a Python awaitable.
#[pyfunction]
fn leaves_awaiting(py: Python<'_>, awaitable: Py<PyAny>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        velodrome::create_task(async move {
            let _guard = Guard(log, "dropped");
            let _ = from_awaitable(awaitable).await;
        })
        .detach();
        velodrome::yield_now().await;
        Ok(())
    })
}

#[pyfunction]
fn made_anywhere(py: Python<'_>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable_with(py, move || {
        Python::attach(|py| log.call1(py, ("made",)).unwrap());
        async move {
            velodrome::yield_now().await;
            Ok("done")
        }
    })
}

#[pyfunction]
fn pending_anywhere(py: Python<'_>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable_with(py, move || async move {
        let _guard = OnThread(log, thread::current().id());
        std::future::pending::<()>().await;
        Ok("done")
    })
}

struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor")
    }
}

#[pyfunction]
fn bomb(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
        Ok(())
    })
}

#[pyfunction]
fn all_tasks(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move { Ok(velodrome::all_tasks().len()) })
}

/// A thread without the GIL that calls the loop again and again.
#[pyfunction]
fn hammer(py: Python<'_>, times: u64) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let handle = velodrome::Handle::current();
        thread::spawn(move || {
            for _ in 0..times {
                if handle.call_soon(|| ()).is_err() {
                    break;
                }
            }
        });
        Ok(())
    })
}

/// A thread that makes tasks on the loop until it is closed.
#[pyfunction]
fn makes_tasks(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let handle = velodrome::Handle::current();
        thread::spawn(move || {
            while let Ok(task) = handle.create_task(|| async { 1 }) {
                drop(task);
                thread::yield_now();
            }
        });
        Ok(())
    })
}

/// Woken by a thread that holds a lock meanwhile, which the future takes in its poll (as event-listener does).
#[pyfunction]
fn woken_in_lock(py: Python<'_>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(py, async move {
        let shared = Arc::new(Mutex::new((0usize, None::<Waker>)));
        let other = Arc::clone(&shared);
        thread::spawn(move || {
            loop {
                let mut s = other.lock().unwrap();
                s.0 += 1;
                if let Some(w) = s.1.take() {
                    w.wake()
                }
                if s.0 > times {
                    break;
                }
                drop(s);
                thread::yield_now();
            }
        });
        poll_fn(|cx| {
            let mut s = shared.lock().unwrap();
            if s.0 > times {
                return Poll::Ready(());
            }
            s.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Ok("woken")
    })
}

/// Not awaited yet, and holding something.
#[pyfunction]
fn holds(py: Python<'_>, log: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let guard = Guard(log, "dropped");
    into_awaitable(py, async move {
        let _g = guard;
        std::future::pending::<()>().await;
        Ok(())
    })
}

#[pymodule]
fn bridge_probe(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($name:ident),*) => {$( module.add_function(wrap_pyfunction!($name, module)?)?; )*};
    }
    add!(
        ready,
        nap,
        yields,
        yields_anywhere,
        woken,
        fails,
        panics,
        pending,
        catches,
        tasks,
        leaves,
        task_panics,
        sees,
        awaits,
        awaits_for,
        awaits_all,
        echo,
        listens,
        waits_for_bell,
        task_naps,
        stubborn,
        leaves_awaiting,
        made_anywhere,
        pending_anywhere,
        bomb,
        all_tasks,
        holds,
        hammer,
        makes_tasks,
        woken_in_lock
    );
    module.add_class::<Bell>()?;
    Ok(())
}
