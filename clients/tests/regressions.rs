//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/dhcp.rs"]
mod dhcp;
#[path = "../../fuzz/src/dns.rs"]
mod dns;
#[path = "../../fuzz/src/ntp.rs"]
mod ntp;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions").join(target);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing to replay in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn what_dhcp_servers_and_routers_say() {
    replay("dhcp", dhcp::run);
}

#[test]
fn what_name_servers_say() {
    replay("dns", dns::run);
}

#[test]
fn what_time_servers_say() {
    replay("ntp", ntp::run);
}
