//! Bytes as a name server's answer.

use std::net::{IpAddr, Ipv4Addr};
use weir_clients::dns::{Answer, Kind, Lookup};

/// One run: as they are, and behind the question that they would answer.
pub fn run(data: &[u8]) {
    let servers = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    for kind in [Kind::A, Kind::Aaaa] {
        let Ok(mut lookup) = Lookup::new("ntp.example.net", kind, &servers, || 0x1234) else { return };
        let Some((_, mut answer)) = lookup.ask() else { return };
        let _ = lookup.input(data);
        let Some((head, records)) = data.split_first_chunk::<4>() else { return };
        answer[2] = 0x80 | head[0] & 7;
        answer[3] = head[1];
        answer[6..8].copy_from_slice(&head[2..]);
        answer.extend_from_slice(records);
        if let Some(Answer::Addresses(all, _)) = lookup.input(&answer) {
            assert!(
                (1..=16).contains(&all.len()) && all.iter().all(|one| one.is_ipv4() == (kind == Kind::A))
            );
        }
    }
}
