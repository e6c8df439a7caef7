//! Routes: many destinations, several next hops, next routers elsewhere.

use super::*;

/// Two interfaces and what the routes below them mean.
fn parsed(routes: &str) -> Config {
    let text = format!("{WAN}{LAN}{routes}");
    Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

const LAN: &str = "[interface.lan]
match = { port = 1 }
addresses = [\"10.0.0.1/24\"]
";

fn hop(via: &str, interface: Option<usize>, weight: u8) -> NextHop {
    NextHop { via: (!via.is_empty()).then(|| via.parse().expect(via)), interface, weight }
}

#[track_caller]
fn leads(route: &str, expected: &[NextHop]) {
    let config = parsed(&format!("[[route]]\nto = \"0.0.0.0/0\"\n{route}\n"));
    assert_eq!(config.routes[0].target, Target::Forward(expected.to_vec()), "{route}");
}

#[test]
fn reads_next_hops_in_every_form() {
    leads("via = \"10.0.0.9\"", &[hop("10.0.0.9", Some(1), 1)]);
    leads("via = [\"10.0.0.9\"]", &[hop("10.0.0.9", Some(1), 1)]);
    leads("interface = \"lan\"", &[hop("", Some(1), 1)]);
    leads(
        "via = [\"10.0.0.9\", { address = \"192.0.2.9\", weight = 255 }, { interface = \"lan\", weight = 2 }]",
        &[hop("10.0.0.9", Some(1), 1), hop("192.0.2.9", Some(0), 255), hop("", Some(1), 2)],
    );
    let config = parsed(
        "[[route]]\nto = \"::/0\"\nvia = [{ address = \"fe80::1\", interface = \"wan\" }, \
         { address = \"fe80::1\", interface = \"lan\" }]\n",
    );
    let both = vec![hop("fe80::1", Some(0), 1), hop("fe80::1", Some(1), 1)];
    assert_eq!(config.routes[0].target, Target::Forward(both));
}

#[test]
fn reads_destinations_in_every_form() {
    for (to, nets) in [
        ("\"20.0.0.0/8\"", &["20.0.0.0/8"][..]),
        ("[\"20.0.0.0/8\"]", &["20.0.0.0/8"]),
        ("[\"20.0.0.0/8\", \"2001:db8:f::/48\"]", &["20.0.0.0/8", "2001:db8:f::/48"]),
        ("\"20.0.0.0/8  30.0.0.0/8\"", &["20.0.0.0/8", "30.0.0.0/8"]),
        (
            "\"\"\"\n20.0.0.0/8 # an # example\n\t# none\n30.0.0.0/8\r\n40.0.0.0/8\n\"\"\"",
            &["20.0.0.0/8", "30.0.0.0/8", "40.0.0.0/8"],
        ),
        ("'''20.0.0.0/8\n30.0.0.0/8'''", &["20.0.0.0/8", "30.0.0.0/8"]),
        ("\"20.0.0.0/8\\n30.0.0.0/8\"", &["20.0.0.0/8", "30.0.0.0/8"]),
    ] {
        let config = parsed(&format!("[[route]]\nto = {to}\nreject = \"prohibit\"\n"));
        assert_eq!(config.routes[0].to, nets.iter().map(|text| net(text)).collect::<Vec<_>>(), "{to}");
    }
}

#[test]
fn names_the_destination_that_is_wrong() {
    let expected = "expected a network such as \"198.51.100.0/24\"";
    for (to, line, column, key, message) in [
        ("[\"20.0.0.0/8\", \"x\"]", 5, 21, "route[0].to[1]", format!("found \"x\", {expected}")),
        ("\"\"\"\n20.0.0.0/8\n  x # y\n\"\"\"", 7, 3, "route[0].to", format!("found \"x\", {expected}")),
        ("\"20.0.0.0/8 x\"", 5, 18, "route[0].to", format!("found \"x\", {expected}")),
        ("'''\r\n20.0.0.0/8\r\n  x\r\n'''", 7, 3, "route[0].to", format!("found \"x\", {expected}")),
        // With an escape it stands nowhere as it is.
        ("\"20.0.0.0/8\\tx\"", 5, 6, "route[0].to", format!("found \"x\", {expected}")),
        ("[]", 5, 6, "route[0].to", "found no network, expected one or more".into()),
        ("\"\"\"\n# 1.0.0.0/8\n\"\"\"", 5, 6, "route[0].to", "found no network, expected one or more".into()),
        ("[3]", 5, 7, "route[0].to[0]", format!("found the number 3, {expected}")),
        (
            "\"\"\"\n20.0.0.0/8\n192.0.2.0/24\"\"\"",
            7,
            1,
            "route[0].to",
            "192.0.2.0/24 is the network of interface wan: the route would never be used".into(),
        ),
        (
            "\"\"\"\n20.0.0.0/8\n30.0.0.0/8 20.0.0.0/8\"\"\"",
            7,
            12,
            "route[0].to",
            "there is a route to 20.0.0.0/8 with metric 0 already".into(),
        ),
    ] {
        let text = with_route(&format!("to = {to}\nreject = \"prohibit\""));
        let error = only(&text);
        assert_eq!(
            (error.line, error.column, &*error.key, error.message),
            (line, column, key, message),
            "{text}"
        );
    }
    let text = with_route("to = [\"20.0.0.0/8\", \"::/0\"]\nvia = \"192.0.2.9\"");
    assert_only(
        &text,
        6,
        "route[0].via",
        "192.0.2.9 cannot be the next router to ::/0, expected an IPv6 address",
    );
}

#[test]
fn names_the_next_hop_that_is_wrong() {
    let form = "expected a next hop such as \"192.0.2.254\" or { address = \"192.0.2.254\", weight = 2 }";
    for (via, key, message) in [
        ("[]", "via", "found no next hop, expected one or more".to_string()),
        ("[3]", "via[0]", format!("found the number 3, {form}")),
        ("[{}]", "via[0]", "found neither, expected address or interface".into()),
        ("[{ weight = 2 }]", "via[0]", "found neither, expected address or interface".into()),
        (
            "[\"192.0.2.9\", { address = \"192.0.2.8\", weight = 0 }]",
            "via[1].weight",
            "found the number 0, expected a weight from 1 to 255".into(),
        ),
        (
            "[\"192.0.2.9\", { address = \"192.0.2.9\", weight = 2 }]",
            "via",
            "192.0.2.9 is given twice".into(),
        ),
        (
            "[{ address = \"192.0.2.9\", metric = 2 }]",
            "via[0].metric",
            "unknown key, expected one of address, interface, weight".into(),
        ),
        (
            "[{ interface = \"lan\" }]",
            "via[0].interface",
            "found \"lan\", expected the name of an interface".into(),
        ),
        (
            "[\"192.0.2.9\"]\ninterface = \"wan\"",
            "interface",
            "found an interface beside several next hops, expected it in each that needs one".into(),
        ),
        (
            "\"10.9.9.9\"\ninterface = \"wan\"",
            "interface",
            "found \"wan\", but 10.9.9.9 is on no network of it".into(),
        ),
        (
            "{ address = \"192.0.2.9\" }",
            "via",
            "found a table, expected an address, or several next hops in an array".into(),
        ),
    ] {
        let text = with_route(&format!("to = \"0.0.0.0/0\"\nvia = {via}"));
        let error = only(&text);
        assert_eq!((&*error.key, error.message), (&*format!("route[0].{key}"), message), "{text}");
    }
    let many: Vec<String> = (2..67).map(|n| format!("\"192.0.2.{n}\"")).collect();
    let text =
        |count: usize| with_route(&format!("to = \"0.0.0.0/0\"\nvia = [{}]", many[..count].join(", ")));
    assert!(Config::parse(text(64).as_bytes()).is_ok());
    assert_only(&text(65), 6, "route[0].via", "found 65 next hops, expected at most 64");
    let narrow = "[interface.wan]\nmatch.port = 0\nmtu = 600\n[[route]]\nto = \"::/0\"\n";
    for target in ["interface = \"wan\"", "via = \"fe80::1\"\ninterface = \"wan\""] {
        let error = only(&format!("{narrow}{target}"));
        assert_eq!(error.message, "found \"wan\", whose MTU is too small for IPv6");
    }
}

#[test]
fn a_next_router_elsewhere_needs_a_route() {
    let config = parsed(
        "[[route]]\nto = \"0.0.0.0/0\"\nvia = [\"172.16.0.1\", \"10.0.0.9\"]\n\
         [[route]]\nto = \"172.16.0.0/12\"\nvia = \"192.0.2.9\"\n",
    );
    let both = vec![hop("172.16.0.1", None, 1), hop("10.0.0.9", Some(1), 1)];
    assert_eq!(config.routes[0].target, Target::Forward(both));

    let unreached = with_route("to = \"20.0.0.0/8\"\nvia = \"192.0.3.1\"");
    let message = "192.0.3.1 is on no interface's network, and no other route leads to it";
    assert_only(&unreached, 6, "route[0].via", message);
    let text = with_route(
        "to = \"20.0.0.0/8\"\nvia = [\"192.0.2.9\", { address = \"30.0.0.1\", weight = 2 }]\n\
         [[route]]\nto = \"30.0.0.0/8\"\nvia = \"20.0.0.1\"",
    );
    let errors = errors(&text);
    let shown: Vec<_> = errors.iter().map(|error| (error.line, &*error.key, &*error.message)).collect();
    let lasso = |via| format!("{via} is on no interface's network, and the way to it leads through itself");
    assert_eq!(
        shown,
        [(6, "route[0].via[1].address", &*lasso("30.0.0.1")), (9, "route[1].via", &*lasso("20.0.0.1"))]
    );
    let link = |n: u8| format!("[[route]]\nto = \"20.{n}.0.0/16\"\nvia = \"20.{}.0.1\"\n", n.wrapping_sub(1));
    let chain = |links: u8| {
        let first = "[[route]]\nto = \"20.0.0.0/16\"\nvia = \"192.0.2.9\"\n";
        format!("{WAN}{first}{}", (1..=links).map(link).collect::<String>())
    };
    assert!(Config::parse(chain(8).as_bytes()).is_ok());
    let message = "the way to 20.8.0.1 leads through more than 8 other next routers";
    assert_only(&chain(9), 33, "route[9].via", message);
}

#[test]
fn lists_of_next_hops_are_not_without_number() {
    let lists = |count: usize| {
        let route = |n: usize| {
            let (high, low) = (n / 200, n % 200 + 2);
            format!(
                "[[route]]\nto = \"20.{high}.{low}.0/24\"\nvia = [\"10.0.0.{}\", \"10.0.0.{low}\"]\n",
                205 + high
            )
        };
        format!("{WAN}{LAN}{}", (0..count).map(route).collect::<String>())
    };
    assert!(Config::parse(lists(4096).as_bytes()).is_ok());
    let error = only(&lists(4097));
    assert_eq!(
        (&*error.key, &*error.message),
        ("route[4096].to", "found more than 4096 different lists of next hops")
    );
}
