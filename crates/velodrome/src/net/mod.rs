//! Sockets: TCP, UDP and Unix, as futures.
//!
//! Each is `AsRef` of the socket of the standard library that it is made of, for what does not wait (addresses, options).
//!
//! ```
//! use velodrome::net::{TcpListener, TcpStream};
//! use velodrome::{create_task, run};
//!
//! run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.as_ref().local_addr()?;
//!     let server = create_task(async move {
//!         let (stream, _) = listener.accept().await?;
//!         let mut buffer = [0; 16];
//!         let size = stream.read(&mut buffer).await?;
//!         stream.write_all(&buffer[..size]).await
//!     });
//!     let stream = TcpStream::connect(address).await?;
//!     stream.write_all(b"echo").await?;
//!     let mut answer = [0; 4];
//!     stream.read_exact(&mut answer).await?;
//!     assert_eq!(&answer, b"echo");
//!     server.await?
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod connect;
mod socket;
mod tcp;
mod udp;
mod unix;

pub use connect::{Address, ToAddress};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};
