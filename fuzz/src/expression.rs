//! Any text as a filter: a program that can be run, or an error that points into the text; the same every time.

use weir_bpf::expression::{MAX_INSTRUCTIONS, Options, Tags, compile};
use weir_bpf::{Packet, Program};

const WORDS: &str = include_str!("../../bpf/tests/expression/words.txt");

/// One run: the first byte chooses between text, and words of the language by number.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let text = match first & 1 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => {
            let words: Vec<&str> = WORDS.split_whitespace().collect();
            let chosen = rest.iter().map(|&byte| words[usize::from(byte) % words.len()].replace('_', " "));
            chosen.collect::<Vec<_>>().join(" ")
        }
    };
    let tags = if first & 2 == 0 { Tags::Frame } else { Tags::Metadata };
    let options = Options { tags, snap_length: 1000 };
    let answer = compile(&text, options);
    assert_eq!(answer, compile(&text, options));
    match answer {
        Ok(program) => {
            assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()));
            let program = Program::new(&program).expect("a program that was compiled is one");
            // The text itself is as good a frame as any.
            for frame in [data, &[0; 64], &[0xff; 200]] {
                let verdict = program.run(&Packet::new(frame));
                assert!(verdict == 0 || verdict == 1000, "{verdict}");
            }
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            assert!((1..=text.chars().count() + 1).contains(&error.column));
            assert!(!error.to_string().is_empty());
        }
    }
}
