//! Connections of this machine's TCP, a thread each.

use std::io::{ErrorKind as Kind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use picoserve::io::embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use weir_manage::http::{self, Servers, Stream};
use weir_manage::router::Router;

/// Serves whoever connects, for as long as the program runs. What arrives is not counted: each moment is another one.
pub(crate) fn serve<R: Router + Send + Sync + 'static>(listener: TcpListener, router: Arc<R>) {
    let moments = Arc::new(AtomicU64::new(0));
    serve_counted(listener, router, move || moments.fetch_add(1, Ordering::Relaxed));
}

/// The same; `arrivals` counts what arrives.
pub(crate) fn serve_counted<R: Router + Send + Sync + 'static>(
    listener: TcpListener,
    router: Arc<R>,
    arrivals: impl Fn() -> u64 + Clone + Send + 'static,
) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (router, arrivals) = (router.clone(), arrivals.clone());
            std::thread::spawn(move || {
                stream.set_nonblocking(true).unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let servers = Servers::new(8, arrivals);
                let mut next = Some(Tcp(stream));
                while let Some(stream) = next.take() {
                    next = block_on(http::serve(&*router, stream, peer, &servers));
                    if let Some(Tcp(idle)) = &next {
                        block_on(std::future::poll_fn(|_| outcome(idle.peek(&mut [0])).map(drop)));
                    }
                }
            });
        }
    });
}

/// Polls now and then: nothing here wakes anybody.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Tcp(TcpStream);
struct Half<'s>(&'s TcpStream);

/// As the router does: what was not read costs no answer that is on its way.
impl Drop for Tcp {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        let _ = self.0.set_nonblocking(false);
        let _ = self.0.set_read_timeout(Some(Duration::from_millis(500)));
        while self.0.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {}
    }
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection broke")
    }
}

impl std::error::Error for Broken {}

impl Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }
}

impl ErrorType for Half<'_> {
    type Error = Broken;
}

fn outcome<T>(done: std::io::Result<T>) -> Poll<Result<T, Broken>> {
    match done {
        Err(error) if error.kind() == Kind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done.map_err(|_| Broken)),
    }
}

impl Read for Half<'_> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        std::future::poll_fn(|_| outcome(self.0.read(into))).await
    }
}

impl Write for Half<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        std::future::poll_fn(|_| outcome(self.0.write(bytes))).await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

impl Stream for Tcp {
    type Error = Broken;
    type Reader<'s> = Half<'s>;
    type Writer<'s> = Half<'s>;

    fn split(&mut self) -> (Half<'_>, Half<'_>) {
        (Half(&self.0), Half(&self.0))
    }

    fn abort(self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}
