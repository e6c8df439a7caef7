//! Clients of the API that the lab starts inside Linux hosts: very many at once, and such that go away at a bad moment.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What became of many requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Microseconds that each answered request took, its connection's handshake included where it had one; sorted.
    pub(crate) times_us: Vec<u64>,
    /// Requests that were not answered with 200, and what happened instead.
    pub(crate) failed: u64,
    pub(crate) first_failure: String,
    pub(crate) seconds: f64,
}

impl Outcome {
    /// The time that `permille` of the requests took at most.
    pub(crate) fn quantile(&self, permille: usize) -> u64 {
        let at = (self.times_us.len() * permille).div_ceil(1000).max(1) - 1;
        self.times_us.get(at).copied().unwrap_or(0)
    }

    /// One line, and back.
    pub(crate) fn print(&self) {
        let quantiles = [500, 900, 990, 1000].map(|permille| self.quantile(permille).to_string());
        println!(
            "{} {} {} {} {}",
            self.times_us.len(),
            self.failed,
            quantiles.join(" "),
            self.seconds,
            self.first_failure
        );
    }
}

/// `requests` of `path`, `connections` at once: each connection asks again as soon as it is answered.
pub(crate) fn load(
    to: SocketAddr,
    token: &str,
    path: &str,
    connections: usize,
    requests: usize,
) -> Result<Outcome> {
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(16_384), maximum: Some(16_384) },
    )
    .context("raising the limit of open files")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: router\r\nAuthorization: Bearer {token}\r\n\r\n");
    let (began, mut outcome) = (Instant::now(), Outcome::default());
    // What a round costs here must not grow with the connections that wait: the router shares the machine.
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
    let begin = |number: usize| -> Result<Option<Call>> {
        let call = Call::begin(to)?;
        let both = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&ready, &call.stream, epoll::EventData::new_u64(number as u64), both).context("epoll")?;
        Ok(Some(call))
    };
    let mut all = (0..connections.min(requests)).map(begin).collect::<Result<Vec<_>>>()?;
    let (mut left, mut waiting) = (requests - all.len(), all.len());
    let (mut events, limit) = (Vec::with_capacity(256), Duration::from_secs(300));
    while waiting > 0 {
        ensure!(began.elapsed() < limit, "{} requests are not answered after {limit:?}", waiting + left);
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), Some(&second)).context("epoll")?;
        for event in events.drain(..) {
            let number = event.data.u64() as usize;
            let Some(place) = all.get_mut(number) else { continue };
            // Until it would wait: the next answer may be there as soon as the request is.
            while let Some(call) = place.as_mut() {
                let goes_on = match call.proceed(request.as_bytes()) {
                    Ok(false) => break,
                    Ok(true) => {
                        outcome.times_us.push(call.asked.elapsed().as_micros() as u64);
                        call.again();
                        true
                    }
                    Err(error) => {
                        outcome.failed += 1;
                        if outcome.first_failure.is_empty() {
                            outcome.first_failure = format!("{error:#}");
                        }
                        false
                    }
                };
                if left == 0 {
                    (*place, waiting) = (None, waiting - 1);
                } else {
                    left -= 1;
                    if !goes_on {
                        *place = begin(number)?;
                    }
                }
            }
        }
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.times_us.sort_unstable();
    Ok(outcome)
}

/// A connection with one request under way.
struct Call {
    stream: TcpStream,
    asked: Instant,
    sent: usize,
    answer: Vec<u8>,
}

impl Call {
    fn begin(to: SocketAddr) -> Result<Call> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket: OwnedFd =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None)
                .context("a socket")?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {to}")),
        }
        let stream = TcpStream::from(socket);
        Ok(Call { stream, asked: Instant::now(), sent: 0, answer: Vec::new() })
    }

    fn again(&mut self) {
        (self.asked, self.sent) = (Instant::now(), 0);
        self.answer.clear();
    }

    /// Writes and reads what can be. Whether it is answered.
    fn proceed(&mut self, request: &[u8]) -> Result<bool> {
        if self.sent == 0 {
            match self.stream.write(request) {
                Ok(count) => self.sent = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("sending"),
            }
            ensure!(self.sent == request.len(), "half a request was taken");
        }
        let mut piece = [0; 16_384];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => anyhow::bail!("the router ended the connection after {} bytes", self.answer.len()),
                Ok(count) => self.answer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("reading"),
            }
            let Some(head) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.answer[..head]).to_lowercase();
            ensure!(text.starts_with("http/1.1 200"), "{}", text.lines().next().unwrap_or_default());
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if self.answer.len() >= head + 4 + length.context("no length")? {
                return Ok(true);
            }
        }
    }
}

/// Sends the first `count` bytes of `requests`, which are many, waits for `wait` while it reads, and ends the connection by
/// a reset, or by leaving it.
pub(crate) fn cut(to: SocketAddr, requests: &[u8], count: usize, wait: Duration, reset: bool) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).context("connecting")?;
    if reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).context("SO_LINGER")?;
    }
    stream.set_nodelay(true)?;
    stream.write_all(&requests[..count.min(requests.len())]).context("sending")?;
    stream.set_nonblocking(true)?;
    let until = Instant::now() + wait;
    let mut piece = [0; 4096];
    while Instant::now() < until {
        if let Ok(0) = stream.read(&mut piece) {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
