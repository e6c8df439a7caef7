//! Words and what becomes of them.

use super::*;
use alloc::vec;
use proptest::prelude::*;

fn read(line: &str) -> Result<Config, String> {
    Config::from_command_line(line, false).expect("there are words for it")
}

#[track_caller]
fn assert_wrong(line: &str, expected: &str) {
    assert_eq!(read(line).expect_err(line), expected, "{line}");
}

#[test]
fn says_what_a_toml_text_says() {
    let line = "console=ttyS0 weir.hostname=edge log=debug weir.interface.lan.match.port=0 \
                weir.interface.lan.addresses=10.0.0.1/24,2001:db8::1/64 weir.steering=flows \
                weir.interface.lan.router-advertisement=true weir.route=0.0.0.0/0,via=10.0.0.254,metric=10 \
                weir.interface.wan.10.match.mac=52:54:00:00:00:01 weir.interface.wan.10.mtu=1400 \
                weir.interface.wan.10.enabled=false weir.interface.wan.10.reverse-path-filter=strict \
                weir.route=10.0.0.0/8,reject=unreachable weir.route=::/0,via=fe80::1,interface=lan";
    let toml = "hostname = \"edge\"
steering = \"flows\"
[interface.lan]
match = { port = 0 }
addresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]
router-advertisement = true
[interface.\"wan.10\"]
match = { mac = \"52:54:00:00:00:01\" }
mtu = 1400
enabled = false
reverse-path-filter = \"strict\"
[[route]]
to = \"0.0.0.0/0\"
via = \"10.0.0.254\"
metric = 10
[[route]]
to = \"10.0.0.0/8\"
reject = \"unreachable\"
[[route]]
to = \"::/0\"
via = \"fe80::1\"
interface = \"lan\"
";
    assert_eq!(read(line), Ok(Config::parse(toml.as_bytes()).unwrap()));
}

#[test]
fn an_interface_is_on_a_vlan() {
    let line = "weir.interface.wan.match.port=0 weir.interface.lan.parent=wan weir.interface.lan.vlan=20";
    let toml = "[interface.wan]\nmatch.port = 0\n[interface.lan]\nparent = \"wan\"\nvlan = 20\n";
    assert_eq!(read(line), Ok(Config::parse(toml.as_bytes()).unwrap()));
}

#[test]
fn the_example_is_valid() {
    assert_eq!(read(EXAMPLE).unwrap().interfaces.len(), 1);
}

/// A new key of the manual is written on a command line as its type there says.
#[test]
fn every_key_has_the_type_that_the_manual_says() {
    let manual = include_str!("../../../../docs/configuration.md");
    let mut seen = BTreeSet::new();
    for row in manual.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (Some(key), Some(kind)) = (cells.next(), cells.next()) else { continue };
        let key = key.trim_matches('`');
        // A section has no value, though a key of an interface may have its name.
        if kind.starts_with("section") {
            continue;
        }
        let expected = ["number", "true or false", "array of texts"].map(|name| kind == name);
        let found = [NUMBERS.contains(&key), SWITCHES.contains(&key), LISTS.contains(&key)];
        assert_eq!(found, expected, "{key}: {kind}");
        if expected.contains(&true) {
            seen.insert(key);
        }
    }
    assert_eq!(seen.len(), NUMBERS.len() + SWITCHES.len() + LISTS.len());
}

#[test]
fn servers_are_lists() {
    let line =
        "weir.interface.lan.match.port=0 weir.ntp.servers=a.test,192.0.2.1 weir.dns.servers=192.0.2.53";
    let config = read(line).unwrap();
    assert_eq!((config.ntp.len(), config.dns.len()), (2, 1));
}

#[test]
fn a_line_without_words_is_no_configuration() {
    for line in ["", "log=debug", "xweir.hostname=a weir log=weir.hostname=a", "weirder=1"] {
        assert_eq!(Config::from_command_line(line, false), None, "{line}");
    }
}

#[test]
fn errors_name_the_word() {
    let lan = "weir.interface.lan.match.port=0 ";
    let cases = [
        (
            "weir.interface.lan.mtu=20",
            "command line: weir.interface.lan.mtu=20: error: interface.lan.mtu: found the number 20, expected a \
             number of octets from 68 to 9216\n1 error\n",
        ),
        (
            "weir.interface.lan.mtu=x",
            "command line: weir.interface.lan.mtu=x: error: interface.lan.mtu: found \"x\", expected a number of \
             octets from 68 to 9216\n1 error\n",
        ),
        (
            "weir.interface.lan.enabled=yes",
            "command line: weir.interface.lan.enabled=yes: error: interface.lan.enabled: found \"yes\", expected \
             true or false\n1 error\n",
        ),
        (
            "weir.interface.lan.adresses=10.0.0.1/24",
            "command line: weir.interface.lan.adresses=10.0.0.1/24: error: interface.lan.adresses: unknown key, \
             expected one of match, parent, vlan, addresses, mtu, router-advertisement, reverse-path-filter, \
             management, enabled\n  = help: did you mean addresses?\n1 error\n",
        ),
        (
            "weir.foo=1",
            "command line: weir.foo=1: error: foo: unknown key, expected one of hostname, steering, interface, dns, ntp, syslog, \
             management, route\n1 error\n",
        ),
        (
            "weir.hostname",
            "command line: weir.hostname: error: found no value, expected weir.KEY=VALUE\n1 error\n",
        ),
        (
            "weir.interface.lan.match.port=1",
            "command line: weir.interface.lan.match.port=1: error: given twice, expected once\n1 error\n",
        ),
        (
            "weir.interface.wan.match.port=0",
            "command line: weir.interface.wan.match.port=0: error: interface.wan.match: port 0 is the device of \
             interface lan already; first used here: weir.interface.lan.match.port=0\n1 error\n",
        ),
        (
            "weir.interface.wan.match=port",
            "command line: weir.interface.wan.match=port: error: found no key below match, expected \
             weir.interface.wan.match.port=0 or .match.mac=...\n1 error\n",
        ),
        (
            "weir.interface.wan=3",
            "command line: weir.interface.wan=3: error: found \"wan\" and no key, expected \
             weir.interface.NAME.KEY=VALUE\n1 error\n",
        ),
        (
            "weir.interface.wan.mtu=1400",
            "command line: weir.interface.wan.mtu=1400: error: interface.wan.match: missing, expected what picks \
             the interface's device\n  = help: add weir.interface.wan.match.port=0 or \
             weir.interface.wan.match.mac=52:54:00:00:00:01\n1 error\n",
        ),
        (
            "weir.route=0.0.0.0/0",
            "command line: weir.route=0.0.0.0/0: error: route[0]: found none of these, expected via, interface or reject\n1 error\n",
        ),
        (
            "weir.route=0.0.0.0/0,10.0.0.254",
            "command line: weir.route=0.0.0.0/0,10.0.0.254: error: found \"10.0.0.254\", expected \
             weir.route=DESTINATION,KEY=VALUE such as weir.route=0.0.0.0/0,via=10.0.0.254\n1 error\n",
        ),
        (
            "weir.route=0.0.0.0/0,via=10.9.9.9",
            "command line: weir.route=0.0.0.0/0,via=10.9.9.9: error: route[0].via: 10.9.9.9 is on no interface's \
             network, and the way to it leads through itself\n  = help: name a neighbour, or add a route to the next \
             router\n1 error\n",
        ),
    ];
    for (word, expected) in cases {
        assert_wrong(&format!("{lan}{word}"), expected);
    }
    assert_wrong(
        "weir.hostname=a",
        "command line: error: no interface is configured\n  = help: the least is \
         weir.interface.lan.match.port=0 weir.interface.lan.addresses=10.0.0.1/24\n1 error\n",
    );
}

#[test]
fn all_errors_are_named() {
    let wrong = read("weir.a=1 weir.b=2 weir.interface.lan.match.port=0").unwrap_err();
    assert!(wrong.contains("weir.a=1: error") && wrong.contains("weir.b=2: error"), "{wrong}");
    assert!(wrong.ends_with("2 errors\n"), "{wrong}");
}

#[test]
fn a_cut_line_is_refused() {
    let wrong = Config::from_command_line(EXAMPLE, true).unwrap().unwrap_err();
    assert_eq!(wrong, "command line: error: longer than 4095 bytes: what follows is lost\n1 error\n");
    assert_eq!(Config::from_command_line("log=debug", true), None, "there are no words to lose");
}

proptest! {
    /// Whatever the words: an answer that can be shown, and never an error of the TOML that is made of them.
    #[test]
    fn any_words_give_an_answer(
        words in prop::collection::vec((
            prop::sample::select(vec![
                "", "hostname", "interface", "interface.", "interface.a", "interface.a.", "interface..mtu",
                "interface.a.mtu", "interface.a.match", "interface.a.match.port", "interface.a.b.match.mac",
                "interface.match.port", "interface.match.match", "interface.a.addresses", "interface.a.match.x",
                "interface.a.enabled", "route", "route.", "x", "x.y", "\u{7f}", "a\"b", "a\\",
            ]),
            prop_oneof![
                "[a-z0-9./:,=\"'\\\\#\\[\\]{}\u{80}\u{e4}-]{0,20}",
                prop::sample::select(vec!["0", "00", "true", "10.0.0.1/24", "0.0.0.0/0,via=10.0.0.2", "99999999999999999999"])
                    .prop_map(String::from),
            ],
        ), 1..12),
    ) {
        let words: Vec<String> = words.iter().map(|(key, value)| format!("weir.{key}={value}")).collect();
        let line = words.join(" ");
        if let Some(Err(wrong)) = Config::from_command_line(&line, false) {
            prop_assert!(!wrong.contains("not valid TOML"), "{line}\n{wrong}");
            prop_assert!(!wrong.chars().any(|c| c.is_control() && c != '\n'), "{wrong:?}");
            prop_assert!(wrong.lines().all(|line| line.starts_with("command line: ") || line.starts_with("  = help")
                || line.contains("error")), "{wrong}");
        }
    }

    /// Any line at all.
    #[test]
    fn any_line_gives_an_answer(line in "(weir\\.)?\\PC{0,40} weir\\.\\PC{0,60}") {
        let _ = Config::from_command_line(&line, false);
        let _ = vec![line];
    }
}
