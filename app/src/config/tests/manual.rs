//! The manual and the code agree.

use super::*;

#[test]
fn manual_describes_exactly_the_keys_there_are() {
    let described: BTreeSet<&str> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key))
        .collect();
    let known: BTreeSet<&str> = SECTIONS
        .iter()
        .flat_map(|(keys, _)| keys.iter())
        .chain(keys::NEXT_HOP)
        .chain(keys::TOKEN)
        .map(|key| key.name)
        .filter(|&key| key != "route")
        .collect();
    assert_eq!(described, known);
    for header in ["[interface.NAME]", "[dns]", "[ntp]", "[[syslog]]", "[[management.token]]", "[[route]]"] {
        assert!(MANUAL.contains(header), "{header}");
    }
}

#[test]
fn manuals_examples_are_valid() {
    let examples: Vec<&str> =
        MANUAL.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        Config::parse(example.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}
