//! Bytes as what DHCP servers and routers say: to the parsers, and to clients in each of their states.

use std::net::{Ipv4Addr, Ipv6Addr};
use weir_clients::dhcp4::{Client, Reply, Settings};
use weir_clients::{NEVER, slaac};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// One run: the first byte is when it comes.
pub fn run(data: &[u8]) {
    let Some((&at, message)) = data.split_first() else { return };
    if let Some(grant) = Reply::parse(message).and_then(|reply| reply.grant) {
        assert!((1..=32).contains(&grant.prefix_len) && !grant.address.is_unspecified());
        assert!(grant.t1_s <= grant.t2_s && grant.t2_s < grant.lease_s && grant.lease_s >= 10);
        assert!(grant.t1_s >= (grant.lease_s / 16).clamp(5, 60), "it is renewed without an end");
        assert!(grant.routes.iter().all(|&(to, len, _)| len == 0 && to.is_unspecified() || len <= 32));
    }
    let settings = Settings { mac: MAC, iaid: 1, hostname: "edge1".into() };
    let mut client = Client::new(settings, || 4, 0);
    for now_ms in (0..u64::from(at) * 500_000).step_by(5_000_000).take(20) {
        let (send, _) = client.poll(now_ms);
        // As if it answered this very question.
        let mut answer = message.to_vec();
        if let (Some(send), Some(head)) = (&send, answer.get_mut(..34)) {
            assert!(send.payload.len() >= 300 && send.to != Ipv4Addr::UNSPECIFIED);
            head[4..8].copy_from_slice(&send.payload[4..8]);
            head[28..].copy_from_slice(&MAC);
        }
        let _ = client.input(&answer, now_ms);
        let _ = client.poll(now_ms);
    }
    let mut client = slaac::Client::new(MAC, || 4, 0);
    let mut now_ms = u64::from(at) * 1000;
    client.input(message, ROUTER, now_ms);
    while client.deadline_ms() != NEVER && now_ms < 1 << 40 {
        let due = client.deadline_ms();
        client.poll(ROUTER, due.max(now_ms));
        assert!(client.deadline_ms() > due, "it asks without an end");
        now_ms = due;
        if client.prefixes().is_empty() && client.router().is_none() && client.dns().next().is_none() {
            break;
        }
    }
}
