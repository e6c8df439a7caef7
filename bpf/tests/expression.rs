//! Filters against tcpdump's programs for the same texts, which `lab filters --record` wrote: the same verdict on every frame.

#[path = "expression/frames.rs"]
mod frames;
#[path = "expression/reference.rs"]
mod reference;

use weir_bpf::Instruction;
use weir_bpf::expression::{Options, compile};

/// A filter, and the programs that tcpdump makes of it with its optimizer and without.
struct Recorded {
    filter: String,
    optimized: Vec<Instruction>,
    plain: Vec<Instruction>,
}

/// Of each filter three lines: its text, and both programs, indented, as `tcpdump -ddd` prints them with spaces for line ends.
fn recorded() -> Vec<Recorded> {
    let text = include_str!("expression/tcpdump.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let (records, rest) = lines.as_chunks::<3>();
    assert!(rest.is_empty());
    let record = |[filter, optimized, plain]: &[&str; 3]| Recorded {
        filter: (*filter).to_owned(),
        optimized: program(optimized),
        plain: program(plain),
    };
    records.iter().map(record).collect()
}

fn program(line: &str) -> Vec<Instruction> {
    let numbers: Vec<u32> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let (codes, rest) = numbers.as_chunks::<4>();
    assert!(!codes.is_empty() && rest.is_empty(), "{line}");
    let instruction = |&[code, jt, jf, k]: &[u32; 4]| Instruction {
        code: code.try_into().unwrap(),
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    codes.iter().map(instruction).collect()
}

#[test]
fn every_filter_is_recorded() {
    let filters = include_str!("expression/filters.txt").lines().filter(|line| !line.starts_with('#'));
    let recorded: Vec<String> = recorded().into_iter().map(|record| record.filter).collect();
    assert_eq!(filters.collect::<Vec<_>>(), recorded, "lab filters --record");
    assert!(recorded.len() >= 300);
}

#[test]
fn verdicts_are_those_of_tcpdump() {
    let frames = frames::frames();
    let mut wrong = String::new();
    for Recorded { filter, optimized, .. } in recorded() {
        let ours = compile(&filter, Options::default()).unwrap_or_else(|error| panic!("{filter}: {error}"));
        let (mut matched, mut differ) = (0, Vec::new());
        for (at, frame) in frames.iter().enumerate() {
            let verdicts = [&ours, &optimized].map(|program| reference::run(program, frame).unwrap());
            matched += usize::from(verdicts[0] != 0);
            if verdicts[0] != verdicts[1] {
                differ.push(at);
            }
        }
        if !differ.is_empty() {
            wrong +=
                &format!("{filter}: differs on {} frames, first {:02x?}\n", differ.len(), frames[differ[0]]);
        }
        // A filter that nothing passes, or everything, compares little.
        let all = ["1 = 1", "net 0.0.0.0/0", "len"];
        if (matched == 0 || matched == frames.len()) && !all.iter().any(|known| filter.contains(known)) {
            wrong += &format!("{filter}: passes {matched} of {}\n", frames.len());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A frame that ends early is rejected where the program first looks behind its end, and optimizers move and remove looks:
/// what both programs of tcpdump agree on holds here too.
#[test]
fn verdicts_on_cut_frames_are_those_of_tcpdump() {
    let frames = frames::cut(&frames::frames());
    let mut wrong = String::new();
    let (mut compared, mut unclear, mut apart) = (0, 0, 0);
    for Recorded { filter, optimized, plain } in recorded() {
        let ours = compile(&filter, Options::default()).unwrap();
        for frame in &frames {
            let [ours, optimized, plain] =
                [&ours, &optimized, &plain].map(|program| reference::run(program, frame).unwrap());
            compared += 1;
            if optimized != plain {
                unclear += 1;
                apart += usize::from(ours != optimized);
            } else if ours != optimized {
                wrong += &format!("{filter}: {ours} instead of {optimized} for {frame:02x?}\n");
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    println!(
        "{compared} verdicts; on {unclear} tcpdump's programs differ, on {apart} of these ours from the optimized"
    );
}

#[test]
fn programs_are_hardly_longer_than_those_of_tcpdump() {
    let (mut ours, mut theirs) = (0, 0);
    let mut worst = Vec::new();
    for Recorded { filter, optimized, .. } in recorded() {
        let len = compile(&filter, Options::default()).unwrap().len();
        (ours, theirs) = (ours + len, theirs + optimized.len());
        worst.push((len as f64 / optimized.len() as f64, len, optimized.len(), filter));
    }
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    worst.iter().take(12).for_each(|(_, ours, theirs, filter)| println!("{ours:4} {theirs:4} {filter}"));
    println!(
        "{ours} instructions, tcpdump {theirs}: {:.3}",
        f64::from(ours as u32) / f64::from(theirs as u32)
    );
    assert!(ours * 100 <= theirs * 102);
}
