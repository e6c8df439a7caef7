//! What a configuration with a full table takes, in time and memory: reading it, and the snapshot of it. As a list of
//! networks for each next router, as arrays of them, and as a section for each route.
//!
//! `cargo bench --package weir-app --bench routes`; `-- 100000` for another number of IPv4 routes.

#[path = "../tests/wan/mod.rs"]
mod wan;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;
use wan::wan;
use weir_app::attach::snapshot;
use weir_app::config::{Config, appetite};

/// Next routers that the routes are spread over.
const GATEWAYS: usize = 200;

const INTERFACES: &str = "[interface.wan]
match = { port = 0 }
addresses = [\"10.0.0.1/16\", \"2001:db8::1/64\"]
";

/// Networks of both families, a fifth as many of IPv6, and the next router of each.
fn networks(count: usize) -> Vec<(String, usize)> {
    // Odd steps through the numbers of /24 and /40 networks: none comes twice.
    let four = |n: usize| {
        let [_, a, b, c] = (n as u32 * 37 % (220 << 16)).to_be_bytes();
        format!("{}.{b}.{c}.0/24", 11 + u32::from(a) % 110)
    };
    let six = |n: usize| format!("2a{:02x}:{:x}:{:x}00::/40", n >> 18, n >> 8 & 0x3ff, n & 0xff);
    let all = (0..count).map(four).chain((0..count / 5).map(six));
    all.enumerate().map(|(n, net)| (net, n % GATEWAYS)).collect()
}

fn via(net: &str, gateway: usize) -> String {
    if net.contains(':') { format!("2001:db8::{gateway:x}:2") } else { format!("10.0.1.{}", gateway + 2) }
}

/// A section for each next router, `open`, the networks each with `with`, `close`.
fn lists(networks: &[(String, usize)], open: &str, with: impl Fn(&str) -> String, close: &str) -> String {
    let mut text = INTERFACES.to_string();
    for gateway in 0..GATEWAYS {
        for family in ['.', ':'] {
            let mine = |(net, by): &&(String, usize)| *by == gateway && net.contains(family);
            let mine: Vec<&str> = networks.iter().filter(mine).map(|(net, _)| &**net).collect();
            if let Some(first) = mine.first() {
                let _ = writeln!(text, "[[route]]\nvia = \"{}\"\nto = {open}", via(first, gateway));
                mine.iter().for_each(|net| text.push_str(&with(net)));
                let _ = writeln!(text, "{close}");
            }
        }
    }
    text
}

fn measure(name: &str, text: &str) {
    let mut config = None;
    let begun = Instant::now();
    let reading = allocation_counter::measure(|| config = Some(Config::parse(text.as_bytes())));
    let read = begun.elapsed();
    let config = config.unwrap().unwrap_or_else(|errors| panic!("{errors}"));
    let attached = [wan()];
    let begun = Instant::now();
    let building = allocation_counter::measure(|| {
        black_box(snapshot(&config, &Default::default(), &attached, &[], &Default::default()).unwrap());
    });
    let built = begun.elapsed();
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    println!(
        "{name:<10} {:>8} routes {:>4} MiB of text: read in {:>5.2} s with {:>5} MiB, asked for {:>5}; kept {:>3}; built in {:>5.2} s with {:>3}",
        config.routes.iter().map(|route| route.to.len()).sum::<usize>(),
        mib(text.len() as u64),
        read.as_secs_f64(),
        mib(reading.bytes_max),
        mib(appetite(text.as_bytes())),
        mib(reading.bytes_current as u64),
        built.as_secs_f64(),
        mib(building.bytes_max),
    );
}

fn main() {
    let count = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1_000_000);
    let networks = networks(count);
    measure("text", &lists(&networks, "\"\"\"", |net| format!("{net}\n"), "\"\"\""));
    measure("array", &lists(&networks, "[", |net| format!("\"{net}\",\n"), "]"));
    let section =
        |(net, by): &(String, usize)| format!("[[route]]\nto = \"{net}\"\nvia = \"{}\"\n", via(net, *by));
    let sections: Vec<String> = networks.iter().take(networks.len() / 4).map(section).collect();
    measure("sections", &(INTERFACES.to_string() + &sections.concat()));
}
