//! What compiles and what does not, how that is said, and that any text is one of the two.

#[path = "../../tests/expression/frames.rs"]
mod frames;

use super::*;
use crate::{Packet, Program};
use alloc::format;
use alloc::string::ToString;
use proptest::prelude::*;
use std::println;

fn program_of(text: &str) -> Vec<Instruction> {
    compile(text, Options::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error_of(text: &str) -> Error {
    compile(text, Options::default()).expect_err(text)
}

fn accepts(text: &str, frame: &[u8]) -> bool {
    Program::new(&program_of(text)).unwrap().run(&Packet::new(frame)) != 0
}

/// The same filter with nothing shortened.
fn at_length(text: &str, options: Options) -> Vec<Instruction> {
    super::program(text, options, 0).unwrap()
}

#[test]
fn empty_texts_accept_everything() {
    for text in ["", "  \t\r\n "] {
        assert_eq!(program_of(text), [Instruction { code: 6, jt: 0, jf: 0, k: 262_144 }]);
    }
    let options = Options { snap_length: 96, ..Options::default() };
    assert_eq!(compile("1 = 1", options).unwrap(), [Instruction { code: 6, jt: 0, jf: 0, k: 96 }]);
    assert_eq!(compile("1 = 2", options).unwrap(), [Instruction { code: 6, jt: 0, jf: 0, k: 0 }]);
}

/// tcpdump takes these too; it wants a backslash in the first.
#[test]
fn names_of_protocols_need_no_backslash_after_proto() {
    assert_eq!(program_of("ip proto tcp"), program_of("ip proto \\tcp"));
    assert_eq!(program_of("ether proto ip6 or arp"), program_of("ether proto \\ip6 or arp"));
    assert_eq!(program_of("net 10/8"), program_of("net 10.0.0.0/8"));
}

#[test]
fn both_joins_bind_alike() {
    assert_eq!(program_of("arp or ip and len > 60"), program_of("(arp or ip) and len > 60"));
    assert_eq!(program_of("arp || ip && !tcp"), program_of("(arp or ip) and not tcp"));
}

#[test]
fn interfaces_are_told_by_their_numbers() {
    let program = Program::new(&program_of("ifindex 3 and ip")).unwrap();
    let mut frame = [0; 60];
    frame[12] = 8;
    assert_eq!(program.run(&Packet { interface: 3, ..Packet::new(&frame) }), 262_144);
    assert_eq!(program.run(&Packet { interface: 4, ..Packet::new(&frame) }), 0);
}

#[test]
fn errors_say_where_what_and_how_else() {
    // Read as what a person sees who typed the line before.
    let snapshots = include_str!("errors.txt");
    let mut told = String::new();
    for text in snapshots.lines().filter(|line| !line.starts_with(' ')) {
        told += &format!("{text}\n    {}\n", error_of(text));
    }
    let differ = told.lines().zip(snapshots.lines()).find(|(now, then)| now != then);
    assert!(told == snapshots, "{differ:?}\n{told}");
}

#[test]
fn columns_count_characters_and_spans_bytes() {
    let error = error_of("\u{e9}");
    assert_eq!((error.column, error.span), (1, 0..2));
    let error = error_of("host \u{e9}");
    assert_eq!((error.column, error.span), (6, 5..7));
    assert_eq!(error_of("not \\\u{e9}\u{e9}\u{e9} \u{e9}").column, 10);
    assert_eq!(error_of("tcp and").span, 7..7);
}

#[test]
fn hostile_texts_are_refused_or_compiled_within_bounds() {
    let times = |text: &str, times: usize| text.repeat(times);
    let cases = [
        times("(", 8192),
        format!("{}ip{}", times("(", 17), times(")", 17)),
        times("not ", 2047),
        times("!", 8191),
        format!("{}ip", times("!", 8190)),
        times("-", 8000),
        format!("len = {}1", times("-", 40)),
        format!("len{} = 1", times("+len", 2000)),
        format!("len{} = 1", times("+1", 4000)),
        format!("{}0{} = 1", times("ip[", 40), times("]", 40)),
        format!("ip{}", times(" or ip", 1300)),
        format!("ip{}", times(" or vlan", 1000)),
        format!("ip{}", times(" or mpls", 1000)),
        format!("port 1{}", times(" or 2", 1600)),
        format!("host 1.1.1.1{}", times(" or 1.1.1.2", 700)),
        format!("1{}", times("&1", 4000)),
        times("\\", 8000),
        times(":", 8000),
        times("1:", 4000),
        times("a.", 4000),
        times("tcp[", 2000),
        format!("{}1{} > 0", times("1|1&1<<1+1*(", 16), times(")", 16)),
        format!("{}1{} > 0", times("1|1&1<<1+1*(", 3), times(")", 3)),
        times("x", 9000),
    ];
    for text in cases {
        match compile(&text, Options::default()) {
            Ok(program) => assert!(program.len() <= MAX_INSTRUCTIONS && Program::new(&program).is_ok()),
            Err(error) => assert!(error.to_string().len() < 250 + text.len(), "{error}"),
        }
    }
    let nots = format!("{}ip", times("!", 8189));
    assert_eq!(program_of(&nots), program_of("not ip"));
    let deep = format!("{}ip{}", times("(", 16), times(")", 16));
    assert_eq!(program_of(&deep), program_of("ip"));
}

#[test]
fn jumps_reach_over_more_than_255_instructions() {
    let mut text = String::from("ip");
    for n in 1..=300 {
        text += &format!(" and not src 10.0.{}.{}", n / 256, n % 256);
    }
    let program = program_of(&text);
    assert!(program.len() > 300 && program.iter().any(|instruction| instruction.code == 5));
    let frame = |last: u8| {
        let mut frame = [0; 60];
        frame[12] = 8;
        frame[26..30].copy_from_slice(&[10, 0, 1, last]);
        frame
    };
    for n in 0..=255 {
        assert_eq!(accepts(&text, &frame(n)), n > 44, "10.0.1.{n}");
    }
    assert!(!accepts(&text, &[0; 60]));
    let hosts: Vec<String> = (0..600).map(|n| format!("host 10.0.{}.{}", n / 256, n % 256)).collect();
    let text = hosts.join(" or ").replace("or host", "or");
    println!("{} instructions of 600 hosts", program_of(&text).len());
    assert!(accepts(&text, &frame(7)));
}

const FILTERS: &str = include_str!("../../tests/expression/filters.txt");
const WORDS: &str = include_str!("../../tests/expression/words.txt");

/// Filters joined at random, which compile.
fn joined(choices: &[u8]) -> String {
    // A division by 0 rejects a packet, unless what it is for is decided without it.
    let divides = |line: &str| line.contains("/ ip") || line.contains("% (ip");
    let lines = FILTERS.lines().filter(|line| !line.starts_with('#') && !divides(line));
    let filters: Vec<&str> = lines.collect();
    let mut text = String::new();
    let mut open = 0;
    for pair in choices.chunks(2) {
        if !text.is_empty() {
            text += if pair[0] & 1 == 0 { " and " } else { " or " };
        }
        text += if pair[0] & 2 == 0 { "" } else { "not " };
        if pair[0] & 4 != 0 {
            text += "(";
            open += 1;
        }
        let at = usize::from(pair[0] >> 3) << 8 | usize::from(pair[1..].first().copied().unwrap_or(0));
        text += filters[at % filters.len()];
        if pair[0] & 0xc0 == 0xc0 && open > 0 {
            text += ")";
            open -= 1;
        }
    }
    text + &")".repeat(open)
}

/// Words and signs, which seldom compile.
fn mixed(choices: &[u8]) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let words = choices.iter().map(|&choice| words[usize::from(choice) % words.len()].replace('_', " "));
    words.collect::<Vec<_>>().join(" ")
}

fn compiles_or_says_why(text: &str) {
    for tags in [Tags::Frame, Tags::Metadata] {
        match compile(text, Options { tags, ..Options::default() }) {
            Ok(program) => assert!(Program::new(&program).is_ok(), "{text:?}"),
            Err(error) => {
                assert!(
                    error.span.start <= error.span.end && error.span.end <= text.len(),
                    "{text:?} {error:?}"
                );
                assert!(text.is_char_boundary(error.span.start), "{text:?} {error:?}");
                assert!((1..=text.chars().count() + 1).contains(&error.column), "{text:?} {error:?}");
                assert!(!error.message.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_characters_compile_or_say_why(text in "\\PC{0,60}") {
        compiles_or_says_why(&text);
    }

    #[test]
    fn any_words_compile_or_say_why(choices in prop::collection::vec(any::<u8>(), 0..24)) {
        compiles_or_says_why(&mixed(&choices));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn shortened_programs_decide_as_those_at_length(choices in prop::collection::vec(any::<u8>(), 1..14)) {
        let text = joined(&choices);
        let frames = FRAMES.with(Vec::clone);
        for tags in [Tags::Frame, Tags::Metadata] {
            let options = Options { tags, ..Options::default() };
            let Ok(short) = compile(&text, options) else { continue };
            let long = at_length(&text, options);
            prop_assert!(short.len() <= long.len());
            let (short, long) = (Program::new(&short).unwrap(), Program::new(&long).unwrap());
            for frame in &frames {
                let packet = Packet::new(frame);
                prop_assert_eq!(short.run(&packet), long.run(&packet), "{} {:02x?}", &text, frame);
            }
        }
    }
}

std::thread_local! {
    /// Long enough for whatever the filters look at.
    static FRAMES: Vec<Vec<u8>> = frames::frames().into_iter().step_by(13).map(|mut frame| {
        frame.resize(frame.len().max(400), 0);
        frame
    }).collect();
}
