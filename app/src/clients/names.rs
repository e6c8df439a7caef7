//! Addresses of names.

use crate::manage::View;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use weir_clients::dns::{Answer, Failure, Kind, Lookup, PORT, WAIT_MS};
use weir_machine::random;
use weir_transport::Transport;

/// Room for an answer: what a server sends without more being asked for.
const LONGEST: usize = 512;

/// The name servers in force: the configuration's, or those that were learnt.
pub(crate) fn servers(view: &View) -> Vec<IpAddr> {
    match &*view.config.dns {
        [] => view.learnt.interfaces.iter().flat_map(|on| on.dns.iter().copied()).collect(),
        servers => servers.into(),
    }
}

/// The addresses of `name`, IPv4 ones first.
///
/// # Errors
/// Why there are none.
pub async fn resolve(transport: &Transport, servers: &[IpAddr], name: &str) -> Result<Vec<IpAddr>, Failure> {
    let (mut all, mut failure) = (Vec::new(), Failure::NoAddress);
    for kind in [Kind::A, Kind::Aaaa] {
        match of_kind(transport, servers, name, kind).await {
            Ok(found) => all.extend(found),
            Err(Failure::NoAddress) => {}
            Err(Failure::NoAnswer) if !all.is_empty() => {}
            Err(why) => {
                failure = why;
                break;
            }
        }
    }
    if all.is_empty() { Err(failure) } else { Ok(all) }
}

async fn of_kind(
    transport: &Transport,
    servers: &[IpAddr],
    name: &str,
    kind: Kind,
) -> Result<Vec<IpAddr>, Failure> {
    let mut lookup = Lookup::new(name, kind, servers, random::seed)?;
    let mut buffer = vec![0; LONGEST];
    while let Some((server, query)) = lookup.ask() {
        // A socket each time: its port is as good as random, and nobody else's answers come.
        let to = SocketAddr::new(server, PORT);
        let Ok(mut socket) = transport.connect_udp(to) else { continue };
        socket.set_read_timeout(Some(Duration::from_millis(WAIT_MS)));
        if socket.send_to(&query, to).await.is_err() {
            continue;
        }
        while let Ok((len, _)) = socket.recv_from(&mut buffer).await {
            match lookup.input(buffer.get(..len).unwrap_or_default()) {
                None => {}
                Some(Answer::Elsewhere) => break,
                Some(Answer::Failed(why)) => return Err(why),
                Some(Answer::Addresses(found, _)) => return Ok(found),
            }
        }
    }
    Err(Failure::NoAnswer)
}
