//! Serves the web page and the API of a simulated router with traffic on this machine: `page [ADDRESS:PORT]`.
#![forbid(unsafe_code)]

mod engine;
mod router;
#[path = "../../tests/simulated/tcp.rs"]
mod tcp;
mod way;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}; usage: page [ADDRESS:PORT]");
            std::process::exit(1);
        }
    };
    let router = Arc::new(router::Simulated::new());
    if let Ok(at) = listener.local_addr() {
        println!("http://{at}/#token={}", router::TOKEN);
    }
    tcp::serve(listener, router.clone());
    loop {
        router.tick();
        std::thread::sleep(Duration::from_millis(20));
    }
}
