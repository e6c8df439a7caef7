//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/dhcp.rs"]
mod dhcp;
#[path = "../../fuzz/src/dhcp6.rs"]
mod dhcp6;
#[path = "../../fuzz/src/dns.rs"]
mod dns;
#[path = "../../fuzz/src/ntp.rs"]
mod ntp;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn what_dhcp_servers_and_routers_say() {
    replay("dhcp", dhcp::run);
}

#[test]
fn what_dhcpv6_servers_say() {
    replay("dhcp6", dhcp6::run);
}

#[test]
fn what_name_servers_say() {
    replay("dns", dns::run);
}

#[test]
fn what_time_servers_say() {
    replay("ntp", ntp::run);
}
