//! Clients and a server of the echo protocol (RFC 862), which the lab starts inside Linux hosts: Linux's own TCP is the
//! peer of the router's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::{content, digest};

/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sends `size` bytes over each of `connections` at once, reads them back, and compares digests; seconds it took.
pub(crate) fn exchange(address: SocketAddr, size: usize, connections: usize) -> Result<f64> {
    let began = Instant::now();
    let all = thread::scope(|scope| {
        let one = |seed: usize| move || once(address, size, seed as u64 + 1);
        let running: Vec<_> = (0..connections).map(|seed| scope.spawn(one(seed))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    for (number, outcome) in all.into_iter().enumerate() {
        outcome.with_context(|| format!("connection {number} of {connections} to {address}"))?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn once(address: SocketAddr, size: usize, seed: u64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
    both_ways(&mut stream, size, seed)
}

fn both_ways(stream: &mut TcpStream, size: usize, seed: u64) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let bytes = content(size, seed);
    let sent = digest(&bytes);
    let mut writer = stream.try_clone()?;
    let sender = thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&bytes)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut back = Vec::new();
    let read = stream.read_to_end(&mut back).with_context(|| format!("after {} bytes", back.len()));
    sender.join().expect("no panic").context("sending")?;
    read?;
    ensure!(digest(&back) == sent, "{} bytes came back of {size}, and not those that were sent", back.len());
    Ok(())
}

/// Sends `count` datagrams of each of some lengths and waits for each to come back.
pub(crate) fn datagrams(address: SocketAddr, count: usize) -> Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    for len in [0, 1, 100, 1400, 4000, 8000] {
        for number in 0..count {
            let bytes = content(len, (len + number) as u64);
            let mut back = vec![0; 9000];
            // Neighbours may have to be asked for first.
            let mut tries = 0;
            let got = loop {
                socket.send(&bytes)?;
                match socket.recv(&mut back) {
                    Ok(got) => break got,
                    Err(_) if tries < 2 => tries += 1,
                    Err(error) => return Err(error).context(format!("{len} bytes to {address}")),
                }
            };
            ensure!(back[..got] == bytes, "{len} bytes to {address}: {got} others came back");
        }
    }
    Ok(())
}

/// Waits for one connection at `address`, exchanges `size` bytes over it, and says so.
pub(crate) fn answer(address: SocketAddr, size: usize) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    println!("listening on {address}");
    let (mut stream, peer) = listener.accept()?;
    both_ways(&mut stream, size, 3)?;
    println!("exchanged {size} bytes with {peer}");
    Ok(())
}
