//! Packets on the console, from a capture that is made up.

use super::*;
use crate::capture::{Source, Wish};
use crate::pcapng::{Counts, Packet};
use crate::problem::refuse;

/// Hands over numbered ARP frames.
#[derive(Default)]
struct Numbered {
    names: Vec<String>,
    waiting: core::ops::Range<u64>,
    lost: u64,
    stopped: bool,
    over: bool,
}

impl Source for &mut Numbered {
    fn interfaces(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, each: &mut dyn FnMut(&Packet<'_>) -> bool) {
        for number in self.waiting.by_ref() {
            let bytes = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
            let interface = number as u32 % 2;
            let packet = Packet { interface, len: 60, ..Packet::received(number * 1000, &bytes) };
            if !each(&packet) {
                break;
            }
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn counts(&self, interface: usize) -> Counts {
        match interface {
            0 => Counts { received: 5000, matched: self.waiting.end + self.lost, dropped: self.lost },
            _ => Counts { received: 7, ..Counts::default() },
        }
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

fn numbered(packets: u64) -> Numbered {
    Numbered { names: vec!["wan".into(), "lan".into()], waiting: 0..packets, ..Numbered::default() }
}

/// A console that has typed this.
fn seat(line: &str) -> Seat {
    let mut seat = Seat::new();
    seat.type_(line).type_("\r");
    seat
}

fn line(number: u64) -> String {
    let name = if number.is_multiple_of(2) { "wan" } else { "lan" };
    format!("00:00:00.{number:06} {name} in ARP, cut short or unknown, 60 bytes\n")
}

#[test]
fn capture_says_what_is_wanted() {
    let asked = |line: &str| seat(line).router.did.pop().unwrap_or_default();
    let whole = Wish { snaplen: 128, buffer: 256 << 10, ..Wish::default() };
    assert_eq!(asked("capture"), format!("{whole:?}"));
    let filter = "host 10.0.0.1 and port 53".to_string();
    let wish = Wish {
        interface: Some("lan".into()),
        filter,
        snaplen: 96,
        directions: 5,
        limit: Some(3),
        ..whole.clone()
    };
    let line = "cap lan limit 3 filter \"host 10.0.0.1 and port 53\" direction drop,in snaplen 96";
    assert_eq!(asked(line), format!("{wish:?}"));
    for (line, wrong) in [
        ("capture wna", "there is no interface `wna`; did you mean `wan`?"),
        ("capture filter port 53", "a filter of several words is written in quotes: filter \"port 53\""),
        ("capture direction sideways", "expected DIRECTION: in, out, drop, or several"),
        ("capture limit 0", "expected PACKETS"),
        ("capture snaplen 32", "expected BYTES: bytes kept of a packet for its line, from 64 to 2048"),
        ("capture | json", "takes no filter"),
    ] {
        let mut seat = seat(line);
        assert!(seat.sent.contains(wrong), "{line}: {}", seat.sent);
        assert_eq!(seat.router.did, [""; 0], "{line}");
        assert!(seat.said("show status").contains("edge1"), "the console is free after {line}");
    }
    let mut seat = Seat::new();
    seat.type_("capture direction ?");
    assert!(seat.sent.contains("\n  in\n  out\n  drop\n"), "{}", seat.sent);
}

#[test]
fn filter_is_shown_with_the_place_where_it_is_wrong() {
    let mut seat = seat("capture filter \"port port\"");
    let refused = refuse(400, "The filter cannot be", "column 6: found `port`", "write a number").at(6);
    let wish = Wish { filter: "port port".into(), ..Wish::default() };
    seat.console.capture_refused(&wish, &refused);
    seat.print();
    let said = "\nport port\n     ^\ncolumn 6: found `port`; write a number\nedge1>";
    assert!(seat.screen().ends_with(said), "{}", seat.sent);
}

#[test]
fn packets_wait_while_the_console_has_no_room() {
    let mut seat = seat("capture");
    let mut source = numbered(1000);
    source.lost = 11;
    let mut listing = Listing::begin(&mut source, None, &mut seat.console);
    let mut said = String::new();
    for turn in 0..1000 {
        assert!(listing.next(&mut seat.console), "nobody ended it");
        let before = seat.console.out.len();
        assert!(before < 4096 + 100, "turn {turn}: {before} bytes");
        assert!(listing.next(&mut seat.console) && seat.console.out.len() == before, "it is full");
        let Some(text) = seat.console.take_output(2048) else { break };
        said += &text;
    }
    let lines: String = (0..1000).map(line).collect();
    assert!(said == format!("listening on 2 interfaces; Ctrl-C ends it\n{lines}"), "{said}");
    seat.type_("x");
    assert_eq!(seat.console.line.text(), "", "keys are not taken");
    assert!(!seat.console.is_quiet());
    seat.type_("\x03");
    assert!(!listing.next(&mut seat.console));
    seat.print();
    let end = "^C\n5007 packets received, 1011 matched, 1000 captured, 11 dropped, 1000 shown\nedge1>";
    assert!(seat.screen().ends_with(end), "{}", seat.sent);
    assert!(seat.router.did.iter().all(|did| did != "stop"), "no ping was under way");
    drop(listing);
    assert!(source.stopped);
}

#[test]
fn capture_ends_after_so_many_packets() {
    let mut seat = seat("capture limit 3");
    let mut source = numbered(9);
    assert!(!Listing::begin(&mut source, Some(3), &mut seat.console).next(&mut seat.console));
    seat.print();
    let end = "9 matched, 9 captured, 0 dropped, 3 shown\nedge1>";
    let lines: String = (0..3).map(line).collect();
    assert!(seat.sent.contains(&lines) && !seat.sent.contains(&line(3)), "{}", seat.sent);
    assert!(seat.screen().ends_with(end), "{}", seat.sent);
    assert!(source.stopped);
}

#[test]
fn capture_ends_with_its_interfaces_or_its_reader() {
    let mut one = seat("capture wan");
    let mut source = numbered(2);
    source.over = true;
    source.names.truncate(1);
    assert!(!Listing::begin(&mut source, None, &mut one.console).next(&mut one.console));
    one.print();
    assert!(one.sent.contains("\nlistening on wan; Ctrl-C ends it\n"), "{}", one.sent);
    let end = "2 captured, 0 dropped, 2 shown\nthe capture is over: its interfaces are others now\nedge1>";
    assert!(one.screen().ends_with(end), "what waits is shown: {}", one.sent);

    let mut gone = seat("capture wan");
    let mut source = numbered(2);
    let mut listing = Listing::begin(&mut source, None, &mut gone.console);
    gone.type_("\x03\x03");
    let before = gone.sent.len();
    assert!(!listing.next(&mut gone.console));
    drop(listing);
    drop(Listing::begin(&mut source, None, &mut gone.console));
    gone.console.capture_refused(&Wish::default(), &refuse(503, "", "full", "wait"));
    gone.print();
    assert_eq!(gone.sent.len(), before, "nothing comes below the prompt");
    assert!(source.stopped);
}
