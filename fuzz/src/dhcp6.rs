//! Bytes as what DHCPv6 servers say: to the parser, and to a client in each of its states.

use std::net::Ipv6Addr;
use weir_clients::NEVER;
use weir_clients::dhcp6::{Client, Reply, Wanted};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
/// The client's identifier as an option.
const CLIENT: [u8; 14] = [0, 1, 0, 10, 0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];

/// One run: a byte says how often what follows comes, and as what; each message is as long as the byte before it says.
pub fn run(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    if let Some(reply) = Reply::parse(rest) {
        for given in reply.associations.iter().flat_map(|one| &one.given) {
            assert!(given.preferred_s <= given.valid_s && !given.address.is_multicast());
        }
    }
    let mut client = Client::new(MAC, 1, || 4);
    client.want(if mode & 1 == 0 { Wanted::Addresses } else { Wanted::Other }, 0);
    let (mut now_ms, mut rest, mut idle) = (0, rest, 0);
    for turn in 0..64 {
        let due = client.deadline_ms();
        if due == NEVER {
            break;
        }
        idle = if due > now_ms { 0 } else { idle + 1 };
        now_ms = due.max(now_ms);
        let (message, event) = client.poll(now_ms);
        if message.is_some() || event.is_some() {
            idle = 0;
        }
        assert!(idle < 3, "it wants to be asked again and again, and does nothing");
        let Some(message) = message else { continue };
        assert!(message.len() >= 4 && message.windows(10).any(|window| window == &CLIENT[4..]));
        if let Some((&[kind, len], more)) = rest.split_first_chunk() {
            let (options, more) = more.split_at(more.len().min(len.into()));
            // As if it answered this very question.
            let mut answer = vec![if kind & 1 == 0 { 7 } else { 2 }];
            answer.extend(&message[1..4]);
            answer.extend(CLIENT);
            answer.extend([0, 2, 0, 1, kind]);
            answer.extend(options);
            let _ = client.input(&answer, now_ms);
            rest = more;
        }
        if mode & 2 != 0 && turn == 20 {
            client.link_is_back(now_ms);
        }
        if mode & 4 != 0 && turn == 30 {
            let first = client.addresses().first().map(|own| own.address);
            client.decline(first.unwrap_or(Ipv6Addr::UNSPECIFIED), now_ms);
        }
        assert!(client.addresses().len() <= 8);
        for own in client.addresses() {
            assert!(!own.address.is_multicast() && own.valid_until_ms > now_ms);
            assert!(own.preferred_until_ms <= own.valid_until_ms);
        }
    }
    client.release(now_ms);
    for _ in 0..64 {
        let due = client.deadline_ms();
        if due == NEVER {
            return;
        }
        now_ms = due.max(now_ms);
        let _ = client.poll(now_ms);
    }
    panic!("it never ends to give its addresses back");
}
