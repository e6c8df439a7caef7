//! The API on this router's sockets: on every CPU, for the connections whose flows are its own.

use alloc::rc::Rc;
use core::time::Duration;
use weir_app::manage::plane;
use weir_machine::{error, task};
use weir_manage::http::{self, Servers, Stream};
use weir_transport::{Access, Error, ReadHalf, TcpListener, TcpStream, Transport, WriteHalf};

/// The port of HTTP.
const PORT: u16 = 80;
/// Requests that one CPU serves at once; further ones wait in their connections' buffers, of which there are many more.
const AT_ONCE: usize = 16;
/// Of these, streams of events and captures, which may never end.
const STREAMS: usize = 8;
/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(60);

/// Spawns what serves the API on this CPU.
pub(crate) fn services(transport: &Transport) {
    let listener = match transport.listen_for(PORT, Access::Management, http::has_head) {
        Ok(listener) => listener,
        Err(wrong) => return error!("the API is not served: {wrong}"),
    };
    let own = transport.clone();
    let servers = Servers::new(STREAMS, move || own.arrivals());
    let service = Rc::new(Service { listener, servers });
    for _ in 0..AT_ONCE {
        if let Err(full) = task::spawn("api", serve(service.clone())) {
            error!("the API: {full}");
        }
    }
}

/// What the servers of a CPU share.
struct Service {
    listener: TcpListener,
    servers: Servers,
}

async fn serve(service: Rc<Service>) {
    loop {
        let stream = service.listener.accept().await;
        let peer = stream.peer().ip();
        // Whoever comes before there is management tries again.
        let Some(plane) = plane() else { continue };
        if let Some(Connection(idle)) = http::serve(&plane, Connection(stream), peer, &service.servers).await
        {
            service.listener.park(idle, IDLE);
        }
    }
}

struct Connection(TcpStream);

impl Stream for Connection {
    type Error = Error;
    type Reader<'s> = ReadHalf<'s>;
    type Writer<'s> = WriteHalf<'s>;

    fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        self.0.split()
    }

    fn abort(self) {
        self.0.abort();
    }
}
