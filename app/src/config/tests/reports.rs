//! How errors are told: their place, their number, the source beside them.

use super::*;

#[test]
fn reports_syntax_errors_with_their_place() {
    for (text, line, column, message) in [
        ("hostname = \"a\nx = 1\n", 1, 14, "not valid TOML: invalid basic string, expected `\"`"),
        ("\n\n[interface.wan\n", 3, 15, "not valid TOML: unclosed table, expected `]`"),
        ("mtu 5\n", 1, 5, "not valid TOML: key with no value, expected `=`"),
        ("[interface.wan]\nmtu = 1\nmtu = 2\n", 3, 1, "not valid TOML: duplicate key"),
        ("[interface.wan]\n[interface.wan]\n", 2, 12, "not valid TOML: duplicate key"),
    ] {
        let error = only(text);
        assert_eq!((error.line, error.column, &*error.key, &*error.message), (line, column, "", message));
    }
    let several = errors("a = 1\na = 2\nb = \"open\nc\n");
    assert_eq!(several.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3, 4], "{several}");
}

#[test]
fn reports_texts_that_say_nothing() {
    for text in ["", " \n\t\n", "# only a comment\n"] {
        assert_only(text, 1, "", "the configuration is empty");
    }
    assert_only("hostname = \"a\"", 1, "", "no interface is configured");
    assert_only("[interface]", 1, "interface", "found no interface, expected a section for each");
}

#[test]
fn reports_the_first_byte_that_is_not_utf8() {
    let errors = Config::parse(b"hostname = \"\xc3\xa9dge\"\n  # \xff\n").unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!((error.line, error.column, &*error.message), (2, 5, "not UTF-8: found the byte 0xff"));
}

#[test]
fn refuses_more_than_its_limits() {
    let long = format!("{WAN}#{}", " ".repeat(MAX_BYTES - WAN.len() - 1));
    assert!(Config::parse(long.as_bytes()).is_ok());
    assert_only(&format!("{long} "), 1, "", "the configuration is too long, expected at most 67108864 bytes");

    let interfaces = |count| -> String {
        (0..count).map(|i| format!("[interface.if{i}]\nmatch = {{ port = {i} }}\n")).collect()
    };
    assert_eq!(Config::parse(interfaces(64).as_bytes()).unwrap().interfaces.len(), 64);
    let message = "found more than 64 interfaces with a device of their own";
    assert_only(&interfaces(65), 130, "interface.if64.match", message);

    let addresses = |count| {
        let list: Vec<String> = (1..=count).map(|i| format!("\"192.0.2.{i}/24\"")).collect();
        with_setting(&format!("addresses = [{}]", list.join(",\n")))
    };
    assert!(Config::parse(addresses(32).as_bytes()).is_ok());
    assert_only(&addresses(33), 35, "interface.wan.addresses", "found 33 addresses, expected at most 32");

    let routes = |count: usize| {
        let net = |i: usize| format!("{}.{}.{}.0/24\n", 1 + i / 65536, i / 256 % 256, i % 256);
        let list: String = (0..count).map(net).collect();
        format!(
            "{WAN}[[route]]\nto = \"::/0\"\nreject = \"prohibit\"\n[[route]]\nto = \"\"\"\n{list}\"\"\"\nreject = \"prohibit\"\n"
        )
    };
    assert_eq!(Config::parse(routes(MAX_ROUTES - 1).as_bytes()).unwrap().routes[1].to.len(), MAX_ROUTES - 1);
    let message = "found more than 2000000 destinations, the most that a router has";
    assert_only(&routes(MAX_ROUTES), 7, "route[1]", message);
}

#[test]
fn reports_the_first_errors_and_counts_the_rest() {
    let mut text = with_setting("");
    for _ in 0..25 {
        text.push_str("[[route]]\nto = 1\n");
    }
    text.insert_str(0, "hostname = 3\n");
    let errors = errors(&text);
    // Each route lacks a target and has a bad destination; the first error of all is found before them.
    assert_eq!((errors.iter().count(), errors.omitted()), (MAX_ERRORS, 51 - MAX_ERRORS));
    let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [vec![1], (5..24).collect::<Vec<_>>()].concat());
    assert!(errors.to_string().ends_with("51 errors, the first 20 are shown\n"), "{errors}");
}

#[test]
fn shows_the_source_with_a_caret() {
    let text = "hostname = \"edge1\"\n\n[interface.wan]\nmatch = { port = 0 }\nmtu = 12\t# tëst\r\n";
    let errors = errors(text);
    assert_eq!(
        errors.in_file("weir.toml").to_string(),
        "weir.toml:5:7: error: interface.wan.mtu: found the number 12, expected a number of octets from 68 to 9216\n\
         \x20 |\n\
         5 | mtu = 12 # tëst\n\
         \x20 |       ^^\n\
         1 error\n"
    );
    assert!(
        errors.to_string().starts_with("line 5, column 7: error: interface.wan.mtu: found the number 12")
    );
}

#[test]
fn shows_a_conflict_with_both_lines() {
    let text = "[interface.a]\nmatch.port = 1\n[interface.b]\n\n\n\n\n\n\n\nmatch.port = 1\n";
    assert_eq!(
        errors(text).to_string(),
        "line 11, column 1: error: interface.b.match: port 1 is the device of interface a already\n\
         \x20  |\n\
         11 | match.port = 1\n\
         \x20  | ^^^^^\n\
         \x202 | match.port = 1\n\
         \x20  | ----- first used here\n\
         1 error\n"
    );
}

#[test]
fn cuts_long_lines_around_the_caret() {
    let good: Vec<String> = (11..=29).map(|host| format!("\"192.0.2.{host}/24\"")).collect();
    let (before, after) = (good[..9].join(", "), good[9..].join(", "));
    let error = only(&with_setting(&format!("addresses = [{before}, \"ä\", {after}]")));
    assert_eq!((error.line, error.column), (3, 14 + 9 * 17));
    let shown = error.to_string();
    let excerpt: Vec<&str> = shown.lines().skip(2).take(2).collect();
    let [source, caret] = excerpt[..] else { panic!("{shown}") };
    assert!(source.starts_with("3 | ...") && source.ends_with("..."), "{shown}");
    assert!(source.chars().count() <= 4 + 3 + 60 + 60 + 3, "{shown}");
    let (at, marked) = (caret.find('^').unwrap(), caret.matches('^').count());
    assert_eq!(source.chars().skip(at).take(marked).collect::<String>(), "\"ä\"", "{shown}");

    let endless = with_route(&format!("to = \"{}\"\nvia = \"192.0.2.2\"", "é".repeat(10_000)));
    let shown = only(&endless).to_string();
    assert!(shown.lines().all(|line| line.chars().count() < 160), "{shown}");
}

#[test]
fn never_prints_control_characters_of_the_text() {
    for text in [
        "hostname = \"a\u{1b}[2Jb\"\n".to_owned(),
        "hostname = \"a\\u001b[2Jb\"\n".to_owned(),
        format!("\"\\u001b[2J\" = 1\n{WAN}"),
        with_setting("addresses = [\"\\u001b[2J\"]"),
        "[interface.\"\\u001b[2J\"]".to_owned(),
        with_setting("# \u{9b}2J\u{7f}\nmtu = 1 # \u{9b}2J"),
    ] {
        let shown = errors(&text).to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}
