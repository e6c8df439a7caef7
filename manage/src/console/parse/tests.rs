use super::super::grammar::Action;
use super::*;
use proptest::prelude::*;
use std::vec;

const CANDIDATE: &str =
    "[interface.wan]\nmatch = { port = 0 }\n\n[[route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.1\"\n";

fn with<T>(place: Place, then: impl FnOnce(Context<'_>) -> T) -> T {
    let interfaces = vec!["wan".to_string(), "lan".to_string()];
    then(Context { place, interfaces: &interfaces, candidate: CANDIDATE })
}

fn operate(line: &str) -> Result<Parsed, String> {
    with(Place::Operate, |context| parse(line, context))
}

fn action(line: &str) -> Action {
    operate(line).unwrap_or_else(|wrong| panic!("{line}: {wrong}")).command.action
}

fn wrong(line: &str) -> String {
    operate(line).expect_err(line)
}

fn words(place: Place, line: &str) -> Vec<String> {
    with(place, |context| choices(line, context).words.into_iter().map(|(word, _)| word).collect())
}

#[test]
fn words_and_what_they_may_be_shortened_to_are_commands() {
    use super::super::grammar::View;
    assert_eq!(action("show status"), Action::Show(View::Status));
    assert_eq!(action("  sh   int "), Action::Show(View::Interfaces));
    assert_eq!(action("trace"), Action::Events);
    assert_eq!(action("trace on"), Action::TraceOn);
    assert_eq!(action("config"), Action::Replace);
    assert_eq!(action("config modules"), Action::Modules);
    assert_eq!(action("config module 2"), Action::Module);
    let parsed = operate("show interfaces lan | match \"a b\" | json").unwrap();
    assert_eq!(parsed.argument("NAME"), Some("lan"));
    assert_eq!((parsed.json, parsed.pattern.as_deref()), (true, Some("a b")));
    assert_eq!(operate("show routes 2001:db8::/32").unwrap().argument("PREFIX"), Some("2001:db8::/32"));
}

#[test]
fn what_is_optional_may_be_left_out() {
    let commit = |line: &str| with(Place::Configure, |context| parse(line, context));
    assert_eq!(commit("commit").unwrap().number("SECONDS"), None);
    assert_eq!(commit("commit confirm 60").unwrap().number("SECONDS"), Some(60));
    assert_eq!(
        commit("commit confirm").unwrap_err(),
        "there is more to say after `commit confirm`: `SECONDS`"
    );
}

#[test]
fn options_come_in_any_order_and_each_once() {
    let line = "explain lan from 10.0.1.2 to 192.0.2.2";
    for rest in ["ttl 3 port 53 candidate protocol udp", "candidate protocol udp port 53 ttl 3"] {
        let parsed = operate(&format!("{line} {rest}")).unwrap();
        assert_eq!((parsed.number("PORT"), parsed.number("TTL")), (Some(53), Some(3)));
        assert!(parsed.says("candidate") && !parsed.says("length"));
    }
    assert!(!operate(line).unwrap().says("candidate"));
    assert_eq!(
        wrong(&format!("{line} ttl 3 port 53 ttl 4")),
        "unknown word `ttl`; expected `protocol`, `source-port`, `vlan`, `length` or `candidate`"
    );
    assert_eq!(words(Place::Operate, &format!("{line} ttl 3 p")), ["protocol", "port"]);
}

#[test]
fn an_interfaces_name_comes_before_what_a_word_is_short_for() {
    let interfaces = ["d", "f", "lan", "limit"].map(String::from);
    let context = Context { place: Place::Operate, interfaces: &interfaces, candidate: "" };
    let parsed = |line: &str| parse(line, context).unwrap_or_else(|wrong| panic!("{line}: {wrong}"));
    let wrong = |line: &str| parse(line, context).expect_err(line);
    for name in ["d", "f"] {
        assert_eq!(parsed(&format!("capture {name}")).argument("NAME"), Some(name));
        let both = parsed(&format!("capture {name} dir in f \"port 53\""));
        assert_eq!((both.argument("NAME"), both.argument("DIRECTION")), (Some(name), Some("in")));
        assert_eq!(both.argument("FILTER"), Some("port 53"));
    }
    // Where no name can come, it is the word again; and there is no interface of that name.
    assert_eq!(parsed("capture lan d in").argument("DIRECTION"), Some("in"));
    assert_eq!(parsed("capture di out").argument("DIRECTION"), Some("out"));
    assert_eq!(parsed("capture l 5").number("PACKETS"), Some(5));
    assert_eq!(
        wrong("capture d in"),
        "unknown word `in`; expected `filter`, `direction`, `limit` or `snaplen`; `d` is the interface here, not short \
         for `direction`"
    );
    // The whole word is both: which is meant is to be said.
    assert_eq!(
        wrong("capture limit 5"),
        "`limit` can be the word or the interface: `limi` is the word, `\"limit\"` the interface"
    );
    assert_eq!(parsed("capture limi 5").number("PACKETS"), Some(5));
    let advice = |interfaces: &[&str], line: &str| {
        let interfaces: Vec<String> = interfaces.iter().map(|name| (*name).into()).collect();
        parse(line, Context { place: Place::Operate, interfaces: &interfaces, candidate: "" }).unwrap_err()
    };
    assert_eq!(
        advice(&["limit", "limi", "lim"], "capture limit 5"),
        "`limit` can be the word or the interface: `li` is the word, `\"limit\"` the interface"
    );
    assert_eq!(
        advice(&["limit", "limi", "lim", "li", "l"], "capture limit 5"),
        "`limit` can be the word or the interface: `\"limit\"` is the interface, and nothing is short for the word alone"
    );
    let named = parsed("capture \"limit\" limit 5");
    assert_eq!((named.argument("NAME"), named.number("PACKETS")), (Some("limit"), Some(5)));
    assert_eq!(parsed("capture lan limit 5").argument("NAME"), Some("lan"));
}

#[test]
fn an_error_names_the_word_what_was_expected_and_what_is_near() {
    assert_eq!(wrong("show interfcaes"), "unknown word `interfcaes`; did you mean `interfaces`?");
    assert_eq!(wrong("shwo"), "unknown word `shwo`; did you mean `show`?");
    assert_eq!(wrong("xyzzy"), "unknown word `xyzzy`; `help` lists what there is");
    assert!(wrong("show xyzzy").starts_with("unknown word `xyzzy`; expected `status`, `interfaces`, "));
    assert_eq!(wrong("conf"), "`conf` can be `configure`, `confirm` or `config`");
    assert_eq!(wrong("show status now"), "`now` is too much: the command is whole before it");
    assert_eq!(wrong("reb"), "`reb` is short for `reboot`, which is to be typed in full");
    assert_eq!(wrong("set hostname a"), "`set` changes the candidate: `configure` begins that");
    assert_eq!(wrong("rollback x"), "`x` is not right; expected VERSION: a number from `show history`");
    assert_eq!(
        wrong("show routes 10.0.0.0/33"),
        "`10.0.0.0/33` is not right; expected PREFIX: an address such as 10.0.0.1, or a prefix such as 10.0.0.0/8"
    );
    assert_eq!(wrong("reboot | json"), "`reboot` takes no filter");
    assert_eq!(wrong("show status | jsno"), "unknown filter `jsno`; expected `json` or `match TEXT`");
    assert_eq!(wrong("show configuration | json"), "`show configuration` has no form in JSON");
    assert_eq!(wrong("show status |"), "after `|` there is to be `json` or `match TEXT`");
    assert_eq!(wrong("| json"), "there is no command");
    let again = with(Place::Configure, |context| parse("configure", context)).unwrap_err();
    assert_eq!(again, "`configure` is begun already: `exit` leaves it");
}

#[test]
fn words_and_names_complete() {
    assert_eq!(words(Place::Operate, "sh"), ["show"]);
    assert_eq!(words(Place::Operate, "show st"), ["status"]);
    assert_eq!(words(Place::Operate, "show interfaces "), ["wan", "lan", "|"]);
    assert_eq!(words(Place::Operate, "show interfaces l"), ["lan"]);
    assert_eq!(words(Place::Operate, "show status | "), ["json", "match"]);
    assert_eq!(words(Place::Operate, "show configuration | "), ["match"]);
    assert_eq!(words(Place::Operate, "trace "), ["on", "off"]);
    assert!(words(Place::Operate, "nonsense ").is_empty());
    assert!(!words(Place::Operate, "").contains(&"set".into()));
    assert!(words(Place::Configure, "").contains(&"set".into()));
    let whole = with(Place::Operate, |context| choices("show interfaces ", context).whole);
    assert!(whole);
}

#[test]
fn settings_complete_from_the_keys_and_the_candidate() {
    let words = |line: &str| words(Place::Configure, line);
    assert_eq!(
        words("set "),
        ["hostname", "steering", "interface", "management", "route", "dns", "ntp", "syslog"]
    );
    assert_eq!(words("set interface "), ["wan"]);
    assert_eq!(words("set interface wan m"), ["match", "mtu", "management"]);
    assert_eq!(words("set interface wan enabled "), ["true", "false"]);
    assert_eq!(words("set interface wan enabled true reverse-path-filter s"), ["strict"]);
    assert_eq!(words("set interface wan match "), ["mac", "port"]);
    assert_eq!(words("set route 10.0.0.0/8 interface "), ["wan", "lan"]);
    assert_eq!(words("set route "), ["10.0.0.0/8"]);
    assert_eq!(words("delete interface wan "), ["match"]);
    assert_eq!(words("delete "), ["interface", "management", "route", "dns", "ntp", "syslog"]);
}

proptest! {
    #[test]
    fn no_line_is_too_odd(line in "[ -~]{0,60}", place in prop_oneof![Just(Place::Operate), Just(Place::Configure)]) {
        with(place, |context| {
            let _ = parse(&line, context);
            let found = choices(&line, context);
            assert!(found.start <= line.len());
        });
    }

    #[test]
    fn a_word_that_completion_offers_is_understood(picks in prop::collection::vec(0usize..1000, 1..6)) {
        with(Place::Configure, |context| {
            let mut line = String::new();
            for pick in picks {
                let found = choices(&line, context);
                let Some((word, _)) = found.words.get(pick % found.words.len().max(1)) else { break };
                line.push_str(word);
                line.push(' ');
            }
            if let Err(wrong) = parse(&line, context) {
                let open = ["there is more to say", "after `|`", "`| match`"];
                assert!(open.iter().any(|begin| wrong.starts_with(begin)), "{line}: {wrong}");
            }
        });
    }
}
