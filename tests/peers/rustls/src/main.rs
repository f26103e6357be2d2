//! The other side of a TLS connection, by rustls, for `tests/test_tls_peers.py`.
//!
//! `peer ROLE VERSION [OPTION=VALUE ...] [STEP ...]`: standard input is the connected socket. What happens is printed,
//! a line for the handshake and for every step; a failure is the last line.
//!
//! Options: `chain`, `key` (what to present), `authority` (what to trust; a server demands a certificate then), `alpn`
//! (names with commas between them).
//!
//! Steps: `send:COUNT`, `receive:COUNT`, `echo` (all that comes, until its end), `update` (new keys, which the other side
//! is asked for as well), `flood:COUNT` (the same so many times, reading nothing), `notify` (the end is announced),
//! `cut` (the stream ends), `end` (read until the end).

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = talk(&arguments) {
        println!("failed: {error}");
    }
}

fn talk(arguments: &[String]) -> Outcome {
    let option = |name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('=')).map(String::from)
    };
    let mut socket = TcpStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut connection = connect(&arguments[0], &arguments[1], option)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    println!(
        "{:?}, {}, {} certificates",
        connection.protocol_version().ok_or("no version")?,
        connection.alpn_protocol().map_or("no protocol".into(), String::from_utf8_lossy),
        connection.peer_certificates().map_or(0, <[_]>::len),
    );
    for step in arguments[2..].iter().filter(|argument| !argument.contains('=')) {
        let (name, count) = step.split_once(':').unwrap_or((step, "0"));
        let said = take(&mut connection, &mut socket, name, count.parse()?)?;
        println!("{step}: {said}");
    }
    Ok(())
}

fn connect(role: &str, version: &str, option: impl Fn(&str) -> Option<String>) -> Outcome<Connection> {
    let versions: &[_] = match version {
        "1.2" => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let mut trusted = RootCertStore::empty();
    if let Some(file) = option("authority") {
        trusted.add(CertificateDer::from_pem_file(file)?)?;
    }
    let present = match (option("chain"), option("key")) {
        (Some(chain), Some(key)) => Some((
            CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?,
            PrivateKeyDer::from_pem_file(key)?,
        )),
        _ => None,
    };
    let alpn = option("alpn").map_or(Vec::new(), |names| names.split(',').map(Vec::from).collect());
    if role == "client" {
        let config = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(trusted);
        let mut config = match present {
            Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn;
        return Ok(ClientConnection::new(Arc::new(config), "localhost".try_into()?)?.into());
    }
    let (chain, key) = present.ok_or("a server needs a certificate")?;
    let config = ServerConfig::builder_with_protocol_versions(versions);
    let config = match trusted.is_empty() {
        true => config.with_no_client_auth(),
        false => config.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(trusted)).build()?),
    };
    let mut config = config.with_single_cert(chain, key)?;
    config.alpn_protocols = alpn;
    Ok(ServerConnection::new(Arc::new(config))?.into())
}

fn take(connection: &mut Connection, socket: &mut TcpStream, name: &str, count: usize) -> Outcome<String> {
    match name {
        "send" => send(connection, socket, &vec![b'x'; count])?,
        "receive" => {
            let mut missing = count;
            while missing > 0 {
                match receive(connection, socket, &mut vec![0; missing])? {
                    0 => return Err("the end came too early".into()),
                    count => missing -= count,
                }
            }
        }
        "echo" => return until_the_end(connection, socket, true),
        "end" => return until_the_end(connection, socket, false),
        "update" => {
            connection.refresh_traffic_keys()?;
            flush(connection, socket)?;
        }
        "flood" => {
            for _ in 0..count {
                connection.refresh_traffic_keys()?;
                flush(connection, socket)?;
            }
        }
        "notify" => {
            connection.send_close_notify();
            flush(connection, socket)?;
        }
        "cut" => socket.shutdown(Shutdown::Write)?,
        _ => return Err(format!("there is no step {name}").into()),
    }
    Ok("done".into())
}

fn send(connection: &mut Connection, socket: &mut TcpStream, mut data: &[u8]) -> Outcome {
    while !data.is_empty() {
        let taken = connection.writer().write(data)?;
        data = &data[taken..];
        flush(connection, socket)?;
    }
    Ok(())
}

fn flush(connection: &mut Connection, socket: &mut TcpStream) -> Outcome {
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    Ok(())
}

fn receive(connection: &mut Connection, socket: &mut TcpStream, space: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match connection.reader().read(space) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => connection.complete_io(socket)?,
            outcome => return outcome,
        };
    }
}

/// How many bytes came, and how it ended.
fn until_the_end(connection: &mut Connection, socket: &mut TcpStream, echo: bool) -> Outcome<String> {
    let (mut total, mut space) = (0, vec![0; 65536]);
    let how = loop {
        match receive(connection, socket, &mut space) {
            Ok(0) => break "announced",
            Ok(count) => {
                total += count;
                if echo {
                    send(connection, socket, &space[..count])?;
                }
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break "cut off",
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break "reset",
            Err(error) => return Err(error.into()),
        }
    };
    Ok(format!("{total} bytes, {how}"))
}
