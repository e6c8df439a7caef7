//! A web server and client small enough to carry along: the lab starts them as its own children inside the hosts, so
//! that a file crosses the router by real TCP, and compares digests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::netns::LinuxHost;
use crate::random::Random;

/// Port of the server.
pub(crate) const PORT: u16 = 8080;

/// The file: `size` bytes that follow from `seed`.
pub(crate) fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves the file to every client, until the process is ended.
pub(crate) fn serve(address: SocketAddr, body: &[u8]) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    println!("serving {} bytes on http://{address}/file", body.len());
    for stream in listener.incoming() {
        let stream = stream?;
        if let Err(error) = answer(stream, body) {
            eprintln!("client: {error:#}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, body: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let found = line.starts_with("GET /file ");
    while line.trim() != "" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "request cut short");
    }
    let (status, body) = if found { ("200 OK", body) } else { ("404 Not Found", &[][..]) };
    let kind = "Content-Type: application/octet-stream\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{kind}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    Ok(())
}

/// Fetches `/file`; the body and the seconds from request to last byte.
pub(crate) fn fetch(address: SocketAddr) -> Result<(Vec<u8>, f64)> {
    let limit = Duration::from_secs(10);
    let mut stream =
        TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    let began = Instant::now();
    write!(stream, "GET /file HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("after {} bytes from {address}", answer.len()))?;
    let seconds = began.elapsed().as_secs_f64();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP head")? + 4;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..head]));
    Ok((answer.split_off(head), seconds))
}

/// What a transfer between two hosts took.
pub(crate) struct Transfer {
    pub(crate) bytes: usize,
    pub(crate) seconds: f64,
    pub(crate) digest: String,
}

/// Serves `size` bytes at `address` in one host, fetches them in the other; fails unless the digests agree.
pub(crate) fn transfer(
    server: &LinuxHost,
    client: &LinuxHost,
    address: IpAddr,
    size: usize,
) -> Result<Transfer> {
    let own = std::env::current_exe().context("own path")?.display().to_string();
    let at = SocketAddr::new(address, PORT).to_string();
    let seed = 0x77656972;
    let list = ["serve-http", &at, "--size", &size.to_string(), "--seed", &seed.to_string()];
    let running = server.start(&own, &list)?;
    running.output.wait("serving", Duration::from_secs(30)).with_context(|| running.errors.text())?;
    let text = client.check(&own, &["fetch", &at], Duration::from_secs(180))?;
    let mut words = text.split_whitespace();
    let mut next = || words.next().unwrap_or_default();
    let (bytes, got, seconds) = (next().parse()?, next().to_owned(), next().parse()?);
    let sent = digest(&content(size, seed));
    ensure!(bytes == size && got == sent, "sent {size} bytes {sent}, received {bytes} bytes {got}");
    Ok(Transfer { bytes, seconds, digest: got })
}
