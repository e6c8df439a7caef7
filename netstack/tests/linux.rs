//! The routing table against Linux's: the same few thousand routes, nested at random, are asked for the same addresses, most
//! of them at the edges of the routes. In a network namespace of its own; needs root, and `ip` of iproute2.
//!
//! `cargo test --package weir-netstack --test linux -- --ignored`; `SEED=7` before it for other routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output, Stdio};
use weir_netif::IfIndex;
use weir_netstack::address::Address;
use weir_netstack::fib::Fib;
use weir_netstack::snapshot::{
    InterfacePlan, NextHop, Plan, Route, RoutePlan, RouteTarget, Snapshot, Weighted,
};

/// Links of the router, `eth0` and so on.
const LINKS: u16 = 3;
/// Routers on each link.
const ROUTERS: u64 = 9;
/// Routes of each family.
const ROUTES: usize = 2500;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Answer {
    Router(u16, IpAddr),
    Link(u16),
    Local,
    Broadcast,
    Blackhole,
    Unreachable,
    Prohibit,
    NoRoute,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) % limit
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn router(self, link: u16, host: u64) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 0, link as u8, host as u8).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, link, 0, 0, 0, host as u16).into(),
        }
    }

    /// The first address of a network in 20.0.0.0/8 or 3fff::/20, as a number, and its length: few values a digit, so that
    /// networks nest and lie side by side.
    fn network(self, random: &mut Random) -> (u128, u8) {
        let (base, from, width, step) = match self {
            Self::V4 => (20u128 << 24, 8, 32, 3),
            Self::V6 => (0x3fffu128 << 112, 20, 128, 6),
        };
        let len = from + random.below(u64::from(width - from) + 1) as u8;
        let mut bits = base;
        for at in (from..width).step_by(step) {
            bits |=
                u128::from(random.below(3) * (1 << (step - 2))) << (width - at).saturating_sub(step as u8);
        }
        (bits >> (width - len) << (width - len), len)
    }

    fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(bits as u32).into(),
            Self::V6 => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

fn hop(family: Family, random: &mut Random, on_link: bool) -> NextHop {
    let interface = IfIndex(random.below(LINKS.into()) as u16);
    match on_link {
        true => NextHop::OnLink { interface },
        false => NextHop::Via { gateway: family.router(interface.0, 2 + random.below(ROUTERS)), interface },
    }
}

fn target(family: Family, random: &mut Random) -> RouteTarget {
    match random.below(10) {
        0 => RouteTarget::Blackhole,
        1 => RouteTarget::Unreachable,
        2 => RouteTarget::Prohibit,
        3 => match hop(family, random, true) {
            NextHop::OnLink { interface } => RouteTarget::OnLink { interface },
            _ => RouteTarget::Absent,
        },
        4..=6 => {
            let mut list: Vec<Weighted> = Vec::new();
            for _ in 0..2 + random.below(3) {
                // Linux has no IPv6 route with several next hops of which one is a link.
                let on_link = family == Family::V4 && random.below(5) == 0;
                let hop = hop(family, random, on_link);
                if list.iter().all(|other| other.hop != hop) {
                    list.push(Weighted { hop, weight: 1 + random.below(9) as u8 });
                }
            }
            RouteTarget::Multipath(list.into())
        }
        _ => match hop(family, random, false) {
            NextHop::Via { gateway, interface } => RouteTarget::Via { gateway, interface },
            _ => RouteTarget::Absent,
        },
    }
}

fn routes(family: Family, random: &mut Random) -> Vec<RoutePlan> {
    let mut routes = BTreeMap::new();
    while routes.len() < ROUTES {
        let (bits, len) = family.network(random);
        // Linux takes 0 for "any" in IPv6.
        let metric = 1 + random.below(3) as u32;
        let plan = RoutePlan { to: (family.address(bits), len), target: target(family, random), metric };
        routes.entry((plan.to, metric)).or_insert(plan);
    }
    routes.into_values().collect()
}

/// The command that gives Linux this route.
fn command(route: &RoutePlan) -> String {
    let hop = |hop: &NextHop| match hop {
        NextHop::Via { gateway, interface } => format!("via {gateway} dev eth{}", interface.0),
        NextHop::OnLink { interface } => format!("dev eth{}", interface.0),
        NextHop::Through { .. } => unreachable!("Linux resolves nothing"),
    };
    let ((to, len), metric) = (route.to, route.metric);
    match &route.target {
        RouteTarget::Via { gateway, interface } => {
            let hop = hop(&NextHop::Via { gateway: *gateway, interface: *interface });
            format!("route add {to}/{len} {hop} metric {metric}\n")
        }
        RouteTarget::OnLink { interface } => {
            format!("route add {to}/{len} dev eth{} metric {metric}\n", interface.0)
        }
        RouteTarget::Multipath(list) => {
            let hops = list.iter().map(|one| format!(" nexthop {} weight {}", hop(&one.hop), one.weight));
            format!("route add {to}/{len} metric {metric}{}\n", hops.collect::<String>())
        }
        reject => {
            let kind = format!("{reject:?}").to_lowercase();
            format!("route add {kind} {to}/{len} metric {metric}\n")
        }
    }
}

/// A network namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("weir-routes-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let made = made.unwrap_or_else(|e| panic!("ip does not start ({e}): apt-get install -y iproute2"));
        let why = String::from_utf8_lossy(&made.stderr);
        assert!(
            made.status.success(),
            "a network namespace needs root (CAP_SYS_ADMIN in a container): {why}"
        );
        Self(name)
    }

    fn ip(&self, options: &[&str], lines: &str) -> Output {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0]).args(options).args(["-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it ran before");
        let mut input = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(lines.as_bytes()));
            child.wait_with_output().expect("it runs")
        })
    }

    fn set_up(&self, lines: &str) {
        let output = self.ip(&[], lines);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What Linux does with packets to each of `addresses`.
    fn ask(&self, addresses: &[IpAddr]) -> Vec<Answer> {
        let mut lines = String::new();
        addresses.iter().for_each(|to| writeln!(lines, "route get {to}").unwrap());
        let output = self.ip(&["-force"], &lines);
        let mut refused = BTreeMap::new();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut reason = "";
        for line in errors.lines() {
            match line.strip_prefix("Command failed -:") {
                None => reason = line,
                Some(number) => _ = refused.insert(number.parse::<usize>().unwrap() - 1, refusal(reason)),
            }
        }
        // Lines that go on begin with white space.
        let mut found = text.lines().filter(|line| line.starts_with(|c: char| !c.is_whitespace()));
        let answers = (0..addresses.len()).map(|n| {
            refused.get(&n).copied().unwrap_or_else(|| {
                let line = found.next().unwrap_or_else(|| panic!("no answer for {}", addresses[n]));
                answer(line, addresses[n])
            })
        });
        answers.collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Linux's errors for routes that turn packets away.
fn refusal(reason: &str) -> Answer {
    match reason.strip_prefix("RTNETLINK answers: ") {
        Some("Invalid argument") => Answer::Blackhole,
        Some("No route to host") => Answer::Unreachable,
        Some("Permission denied") => Answer::Prohibit,
        Some("Network is unreachable") => Answer::NoRoute,
        _ => panic!("ip says {reason:?}"),
    }
}

fn answer(line: &str, asked: IpAddr) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    let behind = |word| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1));
    let link = || behind("dev").and_then(|dev| dev.strip_prefix("eth")?.parse().ok()).expect(line);
    assert!(
        words[0].parse() == Ok(asked) || words.get(1).map(|w| w.parse()) == Some(Ok(asked)),
        "{asked}: {line}"
    );
    match words[0] {
        "local" | "anycast" => Answer::Local,
        "broadcast" => Answer::Broadcast,
        _ => behind("via")
            .map_or_else(|| Answer::Link(link()), |via| Answer::Router(link(), via.parse().expect(line))),
    }
}

/// What we do with packets to `address`: any of these.
fn ours<A: Address>(
    fib: &Fib<A, Route<A>>,
    members: impl Fn(u32) -> Vec<Route<A>>,
    address: A,
) -> BTreeSet<Answer> {
    let one = |route: &Route<A>| match *route {
        Route::Gateway { interface, via } => Answer::Router(interface.0, via.into()),
        Route::Connected { interface } => Answer::Link(interface.0),
        Route::Local { .. } => Answer::Local,
        Route::Broadcast { .. } => Answer::Broadcast,
        Route::Blackhole => Answer::Blackhole,
        Route::Unreachable => Answer::Unreachable,
        Route::Prohibit => Answer::Prohibit,
        Route::Multipath { .. } => panic!("a group in a group"),
        Route::Tentative => panic!("no address is tentative here"),
    };
    match fib.lookup(address) {
        None => [Answer::NoRoute].into(),
        Some(&Route::Multipath { group }) => members(group).iter().map(one).collect(),
        Some(route) => [one(route)].into(),
    }
}

/// Both ends of every route and what lies beside them, and the router's own surroundings.
fn interesting(routes: &[RoutePlan]) -> Vec<IpAddr> {
    let mut all = BTreeSet::new();
    for RoutePlan { to: (address, len), .. } in routes.iter().filter(|route| route.to.1 > 0) {
        let (bits, width, family) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32, Family::V4),
            IpAddr::V6(v6) => (v6.to_bits(), 128, Family::V6),
        };
        let last = bits | (u128::MAX.checked_shr(u32::from(128 - width + len)).unwrap_or(0));
        all.extend([bits - 1, bits, last, last + 1].map(|bits| family.address(bits)));
    }
    for link in 0..LINKS {
        all.extend([1, 2, 7, 255].map(|host| Family::V4.router(link, host)));
        all.extend([0, 1, 2, 0xffff].map(|host| Family::V6.router(link, host)));
    }
    all.into_iter().collect()
}

fn compare(seed: u64, default: bool) {
    println!("SEED={seed}, {} default routes", if default { "with" } else { "without" });
    let mut random = Random(seed);
    let mut plan = Plan::default();
    let mut lines = String::from("link set lo up\n");
    for n in 0..LINKS {
        let own = [Family::V4.router(n, 1), Family::V6.router(n, 1)];
        plan.interfaces.push(InterfacePlan {
            addresses: vec![(own[0], 24), (own[1], 64)],
            ..InterfacePlan::new(format!("eth{n}"), [2, 0, 0, 0, 0, n as u8])
        });
        let _ = write!(
            lines,
            "link add eth{n} type veth peer name peer{n}\nlink set eth{n} up\nlink set peer{n} up\n\
             addr add {}/24 brd + dev eth{n}\naddr add {}/64 dev eth{n} nodad\n",
            own[0], own[1]
        );
    }
    for family in [Family::V4, Family::V6] {
        plan.routes.extend(routes(family, &mut random));
        if default {
            let target = target(family, &mut random);
            plan.routes.push(RoutePlan { to: (family.address(0), 0), target, metric: 1 });
        }
    }
    let namespace = Namespace::new();
    // As on a router: the lowest address of an IPv6 network is that of all routers.
    let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    let done = Command::new("ip").args(["netns", "exec", &namespace.0, "sh", "-c", forward]).status();
    assert!(done.is_ok_and(|status| status.success()), "{forward}");
    plan.routes.iter().for_each(|route| lines.push_str(&command(route)));
    namespace.set_up(&lines);

    let snapshot = Snapshot::build(&plan).unwrap();
    let asked = interesting(&plan.routes);
    let (mut kinds, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    for (address, linux) in asked.iter().zip(namespace.ask(&asked)) {
        let ours = match *address {
            IpAddr::V4(v4) => ours(snapshot.fib4(), |group| snapshot.members4(group).copied().collect(), v4),
            IpAddr::V6(v6) => ours(snapshot.fib6(), |group| snapshot.members6(group).copied().collect(), v6),
        };
        if !ours.contains(&linux) {
            wrong.push(format!("{address}: Linux {linux:?}, here {ours:?}"));
        }
        let kind = if ours.len() > 1 { "one of several".into() } else { format!("{linux:?}") };
        *kinds.entry(kind.split('(').next().unwrap_or_default().into()).or_default() += 1;
    }
    println!("{} addresses: {kinds:?}", asked.len());
    assert!(
        wrong.is_empty(),
        "{} of {} differ, such as\n{}",
        wrong.len(),
        asked.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    // All that there is was asked for.
    assert!(asked.len() > 2 * ROUTES && kinds.len() >= 8 - usize::from(default), "{kinds:?}");
}

#[test]
#[ignore = "needs root and iproute2: make test runs it"]
fn linux_routes_the_same_way() {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64,
    };
    compare(seed, false);
    compare(seed.wrapping_add(1), true);
}
