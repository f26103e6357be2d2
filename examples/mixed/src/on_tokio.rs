//! Futures of tokio's, polled by Python's loop. What they wait for is watched by a thread of tokio's, which wakes the loop.
//!
//! All it takes is to be in the runtime's context when such a future is polled and dropped: [`OnTokio`] does that, and would do
//! it as well for reqwest's or sqlx's futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use pyo3::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use velodrome_bridge::into_awaitable;

/// One thread watches the sockets and timers of all such futures. The futures themselves never run on it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("tokio's thread can be started")
});

/// A future that is polled and dropped in the context of tokio's runtime.
struct OnTokio<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for OnTokio<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = RUNTIME.enter();
        match &mut self.0 {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for OnTokio<F> {
    fn drop(&mut self) {
        let _entered = RUNTIME.enter();
        self.0 = None;
    }
}

/// Fetches a page over HTTP/1.0, with tokio's sockets: `await mixed.tokio_get(host, port, path)` gives its bytes.
#[pyfunction]
pub fn tokio_get(py: Python<'_>, host: String, port: u16, path: String) -> PyResult<Bound<'_, PyAny>> {
    into_awaitable(
        py,
        OnTokio(Some(Box::pin(async move {
            let mut stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |end| end + 4);
            Ok(answer.split_off(body))
        }))),
    )
}
