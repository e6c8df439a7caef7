//! The reference page of the console, for `docs`.

use super::grammar::{ARGUMENTS, COMMANDS, Filters, Place};
use alloc::string::String;
use core::fmt::Write;

const HEAD: &str = "\
# The console

The console is the serial port, Xen's or uhyve's console. Nobody logs in: who reaches it owns the machine. This page is made \
from the table in `manage/src/console/grammar.rs`, by \
`cargo run --package weir-manage --example console > docs/console.md`.

Words may be shortened as long as they stay clear: `sh int lan`. Tab completes, `?` says what can come next at any place. An \
error names the word and what was expected.

| Key | |
|---|---|
| Left, Right, Ctrl-B, Ctrl-F; Home, End, Ctrl-A, Ctrl-E | move the cursor |
| Alt-B, Alt-F, Ctrl-Left, Ctrl-Right | move by a word |
| Up, Down, Ctrl-P, Ctrl-N; Ctrl-R | earlier lines, 64 of them; search in them |
| Ctrl-K, Ctrl-U, Ctrl-W, Alt-D; Ctrl-Y | cut to the end, to the begin, a word, the next word; insert what was cut |
| Ctrl-C | gives the line up, ends a long listing, a `ping` or a `capture` |
| Ctrl-L | clears the screen |
| Ctrl-D | leaves the configuration |

A line has at most 1024 characters of ASCII; one that is longer than the terminal is wide moves sideways. It is drawn with \
backspaces alone, so any terminal will do. One that says how large it is (xterm, VT100) also gets a prompt, and after a \
minute without a key the idle screen: addresses, rates, where the page is, what waits to be confirmed. A port that nobody \
answers at carries the log and nothing else. A serial port that takes nothing for some milliseconds loses bytes rather than hold \
the router up: once it takes some again a line there says how many, and `show status` and `/metrics` count them.
";

const EXPLAIN: &str = "
## What becomes of a packet

`explain` makes the packet, or takes a whole frame, and has a stack of its own do with it what the router would: the same code, \
the tables in force, the neighbours that are known now. Nothing is sent, counted or learnt by it. Each step names the line of \
the configuration that it comes from. With `candidate` it is asked what would be with the candidate in force. Limits on ICMP \
errors are not counted in, and of sockets only whether one has the port.
";

const REACH: &str = "
## Whether a host answers

`ping` sends echo requests and says who answers: the reply with its time, or an ICMP error and who sent it. Then it says how \
many were sent and received, and the least, mean and greatest time. `traceroute` sends them with one hop more each time, three \
to each, and lists who returns them; `*` is one that nobody answered within four seconds. Options come in any order. Both hold \
the console until they end or Ctrl-C is typed; the router goes on. A link-local address wants its `interface`.

```
edge1> ping 10.0.1.2 size 1400 df count 3
edge1> ping fe80::5054:ff:fe00:101 interface wan
edge1> traceroute 2001:db8:99::9 source 2001:db8:2::1
```
";

const CAPTURE: &str = "
## What passes

`capture` shows packets as interfaces receive, send and lose them: when, where, which way, who to whom, what, how long, and why it \
was dropped. Options come in any order. NAME is an interface with those on VLANs of it; a \
name comes before what a word may be shortened to. A filter is tcpdump's \
([filters.md](filters.md)); one that is wrong is shown with the place where it is, and nothing is captured.

```
edge1> capture wan direction drop limit 2 filter icmp
listening on wan; Ctrl-C ends it
00:00:03.243000 wan drop 192.0.2.2 > 10.0.1.2 ICMP type 8 code 0, 98 bytes, dropped: ttl-expired
00:00:03.545415 wan drop 192.0.2.2 > 10.0.1.2 ICMP type 8 code 0, 98 bytes, dropped: ttl-expired
2 packets received, 2 matched, 2 captured, 0 dropped, 2 shown
edge1> capture filter \"port port\"
port port
     ^
column 6: expected the number or name of a port, found \"port\"; pcap-filter(7) describes filters: host 192.0.2.1 and tcp port \
443, for example
```

Times are of the day, in UTC, if the router knows it, and since it began otherwise. At the end it says how many packets passed \
(received), how many the filter let pass (matched), how many of these were kept and how many found no room (captured, dropped), and \
how many were shown. A console that is slower than the packets loses the newest once 256 KiB of each CPU are full; forwarding \
does not wait for it. Whole packets are to be had as a file, or in Wireshark: [captures](capture.md).
";

const SETTING: &str = "
## Change the configuration

`configure` begins a candidate, a copy of the configuration. `set` and `delete` change it where they must: comments and order \
stay as they were. Nothing is in force before `commit`.

```
edge1> configure
edge1 configure> set interface lan mtu 1400
edge1* configure> set interface lan addresses 10.0.1.1/24,2001:db8:2::1/64
edge1* configure> set route 198.51.100.0/24 via 10.0.1.254 metric 10
edge1* configure> compare
edge1* configure> commit confirm 60
edge1 configure> confirm
```

A value is written as in the file, or without its quotes and brackets. What a key means is in \
[configuration.md](configuration.md). A commit with `confirm` is taken back by itself unless it is confirmed in time, so that \
a mistake locks nobody out. A commit is refused if another configuration came into force since the candidate was begun.
";

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for (place, title) in [
        (Place::Anywhere, "Commands"),
        (Place::Operate, "Before `configure`"),
        (Place::Configure, "After `configure`"),
    ] {
        let _ = write!(page, "\n## {title}\n\n| Command | |\n|---|---|\n");
        for command in COMMANDS.iter().filter(|command| command.place == place) {
            let filters = match command.filters {
                Filters::None => "",
                Filters::Lines => "; `\\| match TEXT`",
                Filters::Json => "; `\\| json`, `\\| match TEXT`",
            };
            let _ = writeln!(page, "| `{}` | {}{filters} |", command.syntax, command.help);
        }
    }
    page.push_str(EXPLAIN);
    page.push_str(REACH);
    page.push_str(CAPTURE);
    page.push_str(SETTING);
    page.push_str("\n## Words in capitals\n\n| Word | |\n|---|---|\n");
    for argument in ARGUMENTS {
        let _ = writeln!(page, "| `{}` | {} |", argument.name, argument.about);
    }
    page
}
