//! The router with the echo protocol (RFC 862) on TCP and UDP port 7 of its management interfaces, for tests of the sockets
//! beneath its services. Port 9 connects back to the peer's port 9 and echoes there.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use embedded_io_async::{Read, Write};
use weir_app::start;
use weir_machine::boot::Boot;
use weir_machine::{dispatch, println, task};
use weir_sync::CpuId;
use weir_sync::cpu::claim;
use weir_transport::{Access, Error, TcpListener, TcpStream, Transport, UdpSocket};

const ECHO: u16 = 7;
const BACK: u16 = 9;
/// Connections of each CPU that are served at once.
const SERVERS: usize = 64;

static LISTENING: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn main(boot: &'static Boot) -> ! {
    let Some(mut cpu) = claim(CpuId::BOOT) else { panic!("the boot CPU has a dispatcher already") };
    let (router, tasks) = cpu.control(|cx| start::start(cx, boot, |queue| queue, services));
    dispatch::run(cpu, Box::new(router), |_| tasks())
}

fn services(transport: &Transport) {
    let listener = Rc::new(transport.listen(ECHO, Access::Management).expect("a free port"));
    for _ in 0..SERVERS {
        task::spawn("echo", serve(listener.clone())).expect("a free task");
    }
    let listener = transport.listen(BACK, Access::Management).expect("a free port");
    task::spawn("echo-back", call_back(transport.clone(), listener)).expect("a free task");
    let socket = transport.bind(ECHO, Access::Management).expect("a free port");
    task::spawn("echo-udp", datagrams(socket)).expect("a free task");
    task::spawn("echo-count", count(transport.clone())).expect("a free task");
    println!("echo: CPUs that listen: {}", LISTENING.fetch_add(1, Ordering::Relaxed) + 1);
}

async fn serve(listener: Rc<TcpListener>) {
    loop {
        let stream = listener.accept().await;
        // What ends a connection is the peer's business.
        let _ = echo(stream).await;
    }
}

async fn echo(mut stream: TcpStream) -> Result<(), Error> {
    stream.set_read_timeout(Some(Duration::from_secs(60)));
    stream.set_write_timeout(Some(Duration::from_secs(60)));
    let mut buffer = vec![0; 8192];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.close().await,
            len => stream.write_all(buffer.get(..len).unwrap_or(&[])).await?,
        }
    }
}

async fn call_back(transport: Transport, listener: TcpListener) {
    loop {
        let stream = listener.accept().await;
        let mut peer = stream.peer();
        peer.set_port(BACK);
        match transport.connect(peer, Some(Duration::from_secs(10))).await {
            Ok(stream) => drop(echo(stream).await),
            Err(error) => println!("echo: {peer}: {error}"),
        }
        match ask(&transport, peer).await {
            Ok(len) => println!("echo: udp {peer}: {len} bytes"),
            Err(error) => println!("echo: udp {peer}: {error}"),
        }
    }
}

/// A datagram to the peer, and what becomes of it.
async fn ask(transport: &Transport, peer: SocketAddr) -> Result<usize, Error> {
    let mut socket = transport.connect_udp(peer)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)));
    socket.send_to(b"hello", peer).await?;
    socket.recv_from(&mut [0; 64]).await.map(|(len, _)| len)
}

async fn datagrams(mut socket: UdpSocket) {
    let mut buffer = vec![0; UdpSocket::MAX];
    loop {
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.reply(buffer.get(..len).unwrap_or(&[]), &from).await;
        }
    }
}

/// Says what the sockets of a CPU have seen, when that has changed.
async fn count(transport: Transport) {
    let mut last = transport.counters();
    loop {
        task::sleep(Duration::from_secs(1)).await;
        let counters = transport.counters();
        if counters != last {
            println!("echo: {:?} {counters:?}", transport.load());
            last = counters;
        }
    }
}
