//! Tokens of the API.

use super::*;
use weir_manage::token::{Hash, SALT};

const TOKEN: &str = "correct-horse-battery";

fn with(section: &str) -> String {
    format!("{WAN}{section}")
}

fn hash() -> Hash {
    Hash::of(TOKEN, [7; SALT]).unwrap()
}

#[test]
fn a_token_is_a_name_and_a_hash() {
    let text = with(&format!("[[management.token]]\nname = \"ann\"\nhash = \"{}\"\n", hash()));
    let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.tokens.len(), &*config.tokens[0].name), (1, "ann"));
    assert_eq!(config.tokens[0].hash.verify(TOKEN), Ok(true));
    assert_eq!(&*config.text.0, text);
}

#[test]
fn what_is_wrong_with_a_token_is_said_with_a_cure() {
    let good = hash();
    let cases = [
        ("[management]\nusers = 1\n", "management.users: unknown key"),
        ("management = true\n", "expected a section"),
        ("[management]\ntoken = \"secret\"\n", "write [[management.token]], in double brackets"),
        ("[[management.token]]\nname = \"ann\"\n", "hash is missing"),
        ("[[management.token]]\nname = \"ann\"\nhash = \"secret\"\n", "weir-check --hash-token reads it"),
        (&format!("[[management.token]]\nname = \"console\"\nhash = \"{good}\"\n"), "the console gives out"),
        (&format!("[[management.token]]\nname = \"Ann\"\nhash = \"{good}\"\n"), "lower case"),
        (&format!("[[management.token]]\nhash = \"{good}\"\n"), "name is missing"),
    ];
    for (section, part) in cases {
        // A key at the top stands before the sections.
        let text = if section.starts_with('[') { with(section) } else { format!("{section}{WAN}") };
        let said = errors(&text).to_string();
        assert!(said.contains(part), "{section}: {said}");
    }
    let twice = format!("[[management.token]]\nname = \"ann\"\nhash = \"{good}\"\n").repeat(2);
    assert!(errors(&with(&twice)).to_string().contains("is another token's already"));
    let many: String = (0..=MAX_TOKENS)
        .map(|number| format!("[[management.token]]\nname = \"t{number}\"\nhash = \"{good}\"\n"))
        .collect();
    assert!(errors(&with(&many)).to_string().contains("found 17 tokens, expected at most 16"));
}
