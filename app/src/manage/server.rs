//! The API on this router's sockets: on every CPU, for the connections whose flows are its own.

use super::Plane;
use alloc::rc::Rc;
use spin::Once;
use weir_machine::{error, task};
use weir_manage::http::{self, Stream};
use weir_transport::{Access, Error, ReadHalf, TcpListener, TcpStream, Transport, WriteHalf};

/// The port of HTTP.
const PORT: u16 = 80;
/// Connections that one CPU serves at once; further ones wait.
const AT_ONCE: usize = 8;

/// `[I]` Set by management before other CPUs serve anything: whoever comes earlier waits.
pub(super) static PLANE: Once<&'static Plane> = Once::new();

/// Spawns what serves the API on this CPU.
pub fn services(transport: &Transport) {
    let listener = match transport.listen(PORT, Access::Management) {
        Ok(listener) => Rc::new(listener),
        Err(wrong) => return error!("the API is not served: {wrong}"),
    };
    for _ in 0..AT_ONCE {
        if let Err(full) = task::spawn("api", serve(listener.clone())) {
            error!("the API: {full}");
        }
    }
}

async fn serve(listener: Rc<TcpListener>) {
    loop {
        let stream = listener.accept().await;
        let peer = stream.peer().ip();
        if let Some(plane) = PLANE.get() {
            http::serve(plane, Connection(stream), peer).await;
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
