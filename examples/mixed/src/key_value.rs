//! A client for servers that speak Redis's protocol (RESP2), over one connection.

use std::io;
use std::rc::Rc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use velodrome::Lock;
use velodrome::net::TcpStream;
use velodrome_bridge::into_awaitable;

/// `await KeyValue.connect(host, port)`, then `await client.set(key, value)` and `await client.get(key)`.
///
/// Any number of tasks may use a client at a time: commands are sent one after another.
#[pyclass(unsendable)]
pub struct KeyValue {
    connection: Rc<Lock<Connection>>,
}

#[pymethods]
impl KeyValue {
    #[staticmethod]
    fn connect(py: Python<'_>, host: String, port: u16) -> PyResult<Bound<'_, PyAny>> {
        into_awaitable(py, async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            let connection = Connection { stream, received: Vec::new(), broken: false };
            Ok(KeyValue { connection: Rc::new(Lock::new(connection)) })
        })
    }

    fn get<'py>(&self, py: Python<'py>, key: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        self.command(py, vec![b"GET".to_vec(), key])
    }

    fn set<'py>(&self, py: Python<'py>, key: Vec<u8>, value: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        self.command(py, vec![b"SET".to_vec(), key, value])
    }

    fn delete<'py>(&self, py: Python<'py>, key: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        self.command(py, vec![b"DEL".to_vec(), key])
    }
}

impl KeyValue {
    fn command<'py>(&self, py: Python<'py>, words: Vec<Vec<u8>>) -> PyResult<Bound<'py, PyAny>> {
        let connection = Rc::clone(&self.connection);
        into_awaitable(py, async move { connection.lock().await.command(&words).await })
    }
}

/// What a server answers.
#[derive(IntoPyObject)]
enum Reply {
    Number(i64),
    Bytes(Option<Vec<u8>>),
    Word(String),
}

struct Connection {
    stream: TcpStream,
    /// What has arrived and is not read yet.
    received: Vec<u8>,
    /// A command was given up before its answer came, which would be taken for the next one's.
    broken: bool,
}

impl Connection {
    async fn command(&mut self, words: &[Vec<u8>]) -> PyResult<Reply> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(PyRuntimeError::new_err("a command was cancelled: connect anew"));
        }
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(word);
            request.extend(b"\r\n");
        }
        self.stream.write_all(&request).await?;
        let reply = self.reply().await?;
        self.broken = false;
        reply
    }

    /// An answer: the outer error is the connection's, the inner one the command's.
    async fn reply(&mut self) -> io::Result<PyResult<Reply>> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid("an empty answer"))?;
        Ok(Ok(match kind {
            "+" => Reply::Word(rest.to_owned()),
            "-" => return Ok(Err(PyValueError::new_err(rest.to_owned()))),
            ":" => Reply::Number(number(rest)?),
            "$" => match usize::try_from(number(rest)?) {
                Ok(size) => Reply::Bytes(Some(self.bytes(size).await?)),
                Err(_negative) => Reply::Bytes(None),
            },
            _ => return Err(invalid("an answer of a kind that no command here asks for")),
        }))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|end| end == b"\r\n") {
                let line = self.received.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(|_| invalid("an answer that is no text"));
            }
            self.receive().await?;
        }
    }

    async fn bytes(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < size + 2 {
            self.receive().await?;
        }
        Ok(self.received.drain(..size + 2).take(size).collect())
    }

    async fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            size => {
                self.received.extend(&buffer[..size]);
                Ok(())
            }
        }
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| invalid("an answer whose number is none"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
