//! Filters against tcpdump's programs for the same texts, which `lab filters --record` wrote: the same verdict on every frame.

#[path = "expression/frames.rs"]
mod frames;

use weir_bpf::expression::{Options, Tags, compile};
use weir_bpf::{Instruction, Packet, PacketType, Program};

/// A filter, and the programs that tcpdump makes of it.
struct Recorded {
    filter: String,
    optimized: Program,
    plain: Program,
    /// For an interface of Linux, not optimized either. Nothing where libpcap reads memory that it did not write, which Linux
    /// refuses as well.
    live: Option<Program>,
    /// How many instructions the first has.
    len: usize,
}

/// Of each filter four lines: its text, and the programs, indented, as `tcpdump -ddd` prints them with spaces for line ends.
fn recorded() -> Vec<Recorded> {
    let text = include_str!("expression/tcpdump.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let (records, rest) = lines.as_chunks::<4>();
    assert!(rest.is_empty());
    let record = |[filter, optimized, plain, live]: &[&str; 4]| Recorded {
        filter: (*filter).to_owned(),
        optimized: checked(&program(optimized)),
        plain: checked(&program(plain)),
        live: Program::new(&program(if *live == " =" { plain } else { live })).ok(),
        len: program(optimized).len(),
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

fn checked(instructions: &[Instruction]) -> Program {
    Program::new(instructions).unwrap_or_else(|rejected| panic!("{rejected}"))
}

fn ours(filter: &str, tags: Tags) -> Vec<Instruction> {
    compile(filter, Options { tags, ..Options::default() })
        .unwrap_or_else(|error| panic!("{filter}: {error}"))
}

/// Every third goes out.
fn packets(frames: &[Vec<u8>]) -> Vec<Packet<'_>> {
    let kind = |at: usize| if at.is_multiple_of(3) { PacketType::Outgoing } else { PacketType::Host };
    frames.iter().enumerate().map(|(at, frame)| Packet { kind: kind(at), ..Packet::new(frame) }).collect()
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
    let packets = packets(&frames);
    let mut wrong = String::new();
    for Recorded { filter, optimized, .. } in recorded() {
        let ours = checked(&ours(&filter, Tags::Frame));
        let mut matched = 0;
        for packet in &packets {
            let (ours, theirs) = (ours.run(packet), optimized.run(packet));
            matched += usize::from(theirs != 0);
            if ours != theirs {
                wrong += &format!("{filter}: {ours} instead of {theirs} for {:02x?}\n", packet.head);
                break;
            }
        }
        // A filter that nothing passes, or everything, compares little.
        let all = ["1 = 1", "net 0.0.0.0/0", "len"];
        if (matched == 0 || matched == packets.len()) && !all.iter().any(|known| filter.contains(known)) {
            wrong += &format!("{filter}: passes {matched} of {}\n", packets.len());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The kernel takes the outermost tag out of most frames, but not of all.
#[test]
fn verdicts_with_tags_beside_frames_are_those_of_tcpdump_on_linux() {
    let frames = frames::frames();
    let without: Vec<(Vec<u8>, u16, u16)> = frames
        .iter()
        .filter_map(|frame| {
            let (tpid, tag) = (&frame[12..14], &frame[14..16]);
            let [tpid, tag] = [tpid, tag].map(|field| u16::from_be_bytes([field[0], field[1]]));
            let rest = [&frame[..12], &frame[16..]].concat();
            [0x8100, 0x88a8].contains(&tpid).then_some((rest, tag, tpid))
        })
        .collect();
    assert!(without.len() > 1000);
    let mut packets = packets(&frames);
    packets.extend(without.iter().map(|(frame, vlan_tag, vlan_tpid)| Packet {
        vlan_tag: *vlan_tag,
        vlan_tpid: *vlan_tpid,
        ..Packet::new(frame)
    }));
    let mut wrong = String::new();
    let mut compared = 0;
    for Recorded { filter, live, .. } in recorded() {
        let Some(live) = live else { continue };
        compared += 1;
        let ours = checked(&ours(&filter, Tags::Metadata));
        for packet in &packets {
            let (ours, theirs) = (ours.run(packet), live.run(packet));
            if ours != theirs {
                let beside = packet.vlan_tpid;
                wrong +=
                    &format!("{filter}: {ours} instead of {theirs} for {beside:#x} {:02x?}\n", packet.head);
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    println!("{compared} filters compared");
    assert!(compared > 450);
}

/// Each of them twice, of a length that filters look beyond.
fn cut(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let ends = (0..).map(|at| at * 37 % 111);
    frames.iter().chain(frames).zip(ends).map(|(frame, end)| frame[..end.min(frame.len())].to_vec()).collect()
}

/// A frame that ends early is rejected where the program first looks behind its end, and optimizers move and remove looks: as
/// tcpdump's does.
#[test]
fn verdicts_on_cut_frames_are_those_of_tcpdump() {
    let frames = cut(&frames::frames());
    let packets = packets(&frames);
    let mut wrong = String::new();
    let (mut compared, mut apart) = (0, 0);
    for Recorded { filter, optimized, plain, .. } in recorded() {
        let ours = checked(&ours(&filter, Tags::Frame));
        for packet in &packets {
            let (ours, theirs) = (ours.run(packet), optimized.run(packet));
            compared += 1;
            apart += usize::from(theirs != plain.run(packet));
            if ours != theirs {
                wrong += &format!("{filter}: {ours} instead of {theirs} for {:02x?}\n", packet.head);
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    println!("{compared} verdicts; without its optimizer tcpdump's are others on {apart}");
    assert!(apart > 0);
}

#[test]
fn programs_are_hardly_longer_than_those_of_tcpdump() {
    let (mut total, mut theirs) = (0, 0);
    let mut longest = Vec::new();
    for Recorded { filter, len: their, .. } in recorded() {
        let len = ours(&filter, Tags::Frame).len();
        (total, theirs) = (total + len, theirs + their);
        longest.push((len * 100 / their, len, their, filter));
    }
    longest.sort();
    longest.iter().rev().take(12).for_each(|(_, len, their, filter)| println!("{len:4} {their:4} {filter}"));
    println!("{total} instructions, tcpdump {theirs}: {} %", total * 100 / theirs);
    assert!(total * 100 <= theirs * 102);
}
