use super::*;
use proptest::prelude::*;

const TEXT: &str = "\
# the edge

hostname = \"edge1\" # its name

# upstream
[interface.wan]
match = { port = 0 } # first
addresses = [
    \"192.0.2.1/24\", # us
]

[interface.lan]
match.port = 1
mtu = 1500

[[route]] # default
to = \"0.0.0.0/0\"
via = \"192.0.2.254\"

[[route]]
to = \"10.0.0.0/8\"
reject = \"blackhole\"
";

fn changed(rest: &str) -> String {
    set(TEXT, rest).unwrap_or_else(|wrong| panic!("{rest}: {wrong}"))
}

/// The lines that a change took out and put in.
fn diff(after: &str) -> String {
    let diff = crate::diff::unified(TEXT, after, "a", "b");
    let lines = diff
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_value_is_changed_where_it_stands() {
    assert_eq!(diff(&changed("interface lan mtu 1400")), "-mtu = 1500\n+mtu = 1400");
    assert_eq!(
        diff(&changed("hostname edge2")),
        "-hostname = \"edge1\" # its name\n+hostname = \"edge2\" # its name"
    );
    assert_eq!(
        diff(&changed("route 10.0.0.0/8 reject prohibit")),
        "-reject = \"blackhole\"\n+reject = \"prohibit\""
    );
    assert_eq!(
        diff(&changed("interface wan match mac 52:54:00:00:00:01")),
        "-match = { port = 0 } # first\n+match = { mac = \"52:54:00:00:00:01\" } # first"
    );
    assert_eq!(diff(&changed("interface lan match port 2")), "-match.port = 1\n+match = { port = 2 }");
}

#[test]
fn what_is_new_stands_with_its_like() {
    assert_eq!(diff(&changed("interface lan enabled false")), "+enabled = false");
    assert!(changed("interface lan enabled false").contains("mtu = 1500\nenabled = false\n\n[[route]]"));
    assert!(changed("steering flows").contains("# its name\nsteering = \"flows\"\n"));
    let dmz = changed("interface dmz match port 2 addresses 10.1.0.1/24,2001:db8::1/64");
    assert!(dmz.contains(
        "mtu = 1500\n\n[interface.dmz]\nmatch = { port = 2 }\naddresses = [\"10.1.0.1/24\", \"2001:db8::1/64\"]\n\n[[route]]"
    ), "{dmz}");
    let route = changed("route 198.51.100.0/24 via 192.0.2.7 metric 5");
    assert!(
        route.ends_with("\n\n[[route]]\nto = \"198.51.100.0/24\"\nvia = \"192.0.2.7\"\nmetric = 5\n"),
        "{route}"
    );
    let token = "[[management.token]]\nname = \"ann\"\nhash = \"$argon2id$x\"\n";
    assert_eq!(set("", "management token ann hash $argon2id$x").unwrap(), token);
    assert_eq!(delete(token, "management token ann").unwrap(), "");
    assert_eq!(set("", "hostname a").unwrap(), "hostname = \"a\"\n");
    assert_eq!(set("# x\n\n[interface.a]", "hostname a").unwrap(), "# x\n\nhostname = \"a\"\n[interface.a]");
    assert_eq!(set("", "interface wan.10 mtu 1400").unwrap(), "[interface.\"wan.10\"]\nmtu = 1400\n");
    assert_eq!(set("[interface.a]", "interface a mtu 1400").unwrap(), "[interface.a]\nmtu = 1400\n");
}

#[test]
fn toml_is_taken_as_it_is() {
    let text = changed("interface lan addresses [\"10.0.0.1/24\", \"2001:db8::1/64\"] mtu 1300");
    assert!(text.contains("mtu = 1300\naddresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\n"), "{text}");
    let text = changed("route 0.0.0.0/0 via [{ address = \"192.0.2.9\", weight = 3 }, \"192.0.2.8\"]");
    assert!(text.contains("via = [{ address = \"192.0.2.9\", weight = 3 }, \"192.0.2.8\"]\n"), "{text}");
}

#[test]
fn what_is_deleted_leaves_no_gap() {
    let deleted = |rest| delete(TEXT, rest).unwrap_or_else(|wrong| panic!("{rest}: {wrong}"));
    assert_eq!(diff(&deleted("interface lan mtu")), "-mtu = 1500");
    assert_eq!(diff(&deleted("interface lan match")), "-match.port = 1");
    assert_eq!(diff(&deleted("hostname")), "-hostname = \"edge1\" # its name");
    assert!(deleted("interface lan").contains("]\n\n[[route]] # default"));
    assert!(!deleted("interface lan").contains("lan"));
    assert!(deleted("route 0.0.0.0/0").contains("mtu = 1500\n\n[[route]]\nto = \"10.0.0.0/8\""));
    assert!(deleted("interface wan addresses").contains("# first\n\n[interface.lan]"));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let wrong = |rest| set(TEXT, rest).expect_err(rest);
    assert_eq!(wrong("interface lan mut 1400"), "unknown key `mut`; did you mean `mtu`?");
    assert_eq!(wrong("interface lan mtu"), "`mtu` wants a value: a number");
    assert_eq!(wrong("interface lan mtu big"), "`big` is no value of `mtu`; expected a number");
    assert_eq!(wrong("interface"), "there is more to say: the name of the interface");
    assert_eq!(
        wrong("interface lan"),
        "there is more to say: `match`, `parent`, `vlan`, `addresses`, `mtu`, `router-advertisement`, `reverse-path-filter`, `management`, `enabled`"
    );
    assert_eq!(
        wrong("steering flow"),
        "`flow` is no value of `steering`; expected `off`, `flows`; did you mean `flows`?"
    );
    assert!(wrong("interface lan addresses [\"10.0.0.1/24\"").contains("is no value in TOML"));
    assert_eq!(delete(TEXT, "interface dmz").unwrap_err(), "there is no interface dmz");
    assert_eq!(delete(TEXT, "interface lan parent").unwrap_err(), "there is no `parent` in interface lan");
    assert_eq!(
        set("interface = { lan = { mtu = 1 } }", "interface dmz mtu 1400").unwrap_err(),
        "`interface` is written in one line, which is not changed here; `load` replaces the text"
    );
    assert!(set("a = ", "hostname b").unwrap_err().starts_with("the candidate is not valid TOML, line 1: "));
    let twice = "[[route]]\nto = \"::/0\"\n[[route]]\nto = \"::/0\"\n";
    assert_eq!(
        set(twice, "route ::/0 metric 1").unwrap_err(),
        "there are 2 of route ::/0; `load` replaces the text"
    );
}

fn name() -> impl Strategy<Value = String> {
    "[a-c]{1,2}"
}

proptest! {
    /// A text as TOML reads it is a map; `set` and `delete` change what they name in it and nothing else.
    #[test]
    fn nothing_else_changes(
        interfaces in prop::collection::btree_map(name(), prop::collection::btree_set(0usize..3, 0..3), 1..4),
        comment in "[a-z \"=\\[\\]]{0,12}",
        which in name(),
        key in 0usize..3,
    ) {
        const KEYS: [(&str, &str); 3] = [("mtu", "1400"), ("enabled", "true"), ("parent", "\"x\"")];
        let mut text = String::new();
        for (name, keys) in &interfaces {
            text.push_str(&format!("# {comment}\n[interface.{name}] # {comment}\n"));
            for &key in keys {
                text.push_str(&format!("  {} = {} # {comment}\n", KEYS[key].0, KEYS[key].1));
            }
        }
        let read = |text: &str| {
            let document = Document::read(text).unwrap();
            let mut all = std::collections::BTreeMap::new();
            for name in document.names(&["interface".to_string()], None) {
                let target = Target::Table(Vec::from(["interface".to_string(), name.clone()]));
                all.insert(name, document.keys(&target).into_iter().collect::<std::collections::BTreeSet<_>>());
            }
            all
        };
        let mut model = read(&text);
        let known: Vec<&String> = interfaces.keys().collect();
        prop_assert_eq!(model.keys().collect::<Vec<_>>(), known);
        let (name, _) = KEYS[key];
        let after = set(&text, &format!("interface {which} {name} {}", ["1", "false", "y"][key])).unwrap();
        model.entry(which.clone()).or_default().insert(name.to_string());
        prop_assert_eq!(read(&after), model.clone());
        // Every comment is still there.
        prop_assert_eq!(after.matches('#').count(), text.matches('#').count());
        let back = delete(&after, &format!("interface {which} {name}")).unwrap();
        model.get_mut(&which).unwrap().remove(name);
        prop_assert_eq!(read(&back), model.clone());
        let gone = delete(&back, &format!("interface {which}")).unwrap();
        model.remove(&which);
        prop_assert_eq!(read(&gone), model);
    }

    #[test]
    fn any_text_and_any_words_are_answered(text in "[ -~\n]{0,80}", rest in "[ -~]{0,40}") {
        let _ = set(&text, &rest);
        let _ = delete(&text, &rest);
    }
}
