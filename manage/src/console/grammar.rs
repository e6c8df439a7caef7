//! What can be typed: one table, from which lines are parsed and completed, and from which help and the reference page
//! are made.

use crate::configurations::LONGEST_CONFIRM;

/// What a line has the console do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The page of interfaces, CPUs and tasks.
    Table,
    /// A view of the router.
    Show(View),
    /// Begin to edit the configuration.
    Configure,
    /// Change a value of the candidate.
    Set,
    /// Take a value or a section out of the candidate.
    Delete,
    /// Replace the candidate by a text that is pasted.
    Load,
    /// What the candidate changes in the text.
    Compare,
    /// What the candidate would change in the router.
    Check,
    /// Begin anew with the configuration in force.
    Discard,
    /// Put the candidate in force.
    Commit,
    /// Keep what was committed.
    Confirm,
    /// An earlier configuration.
    Rollback,
    /// Leave the configuration.
    Exit,
    /// Replace the configuration by a text that is pasted, at once.
    Replace,
    /// The boot modules.
    Modules,
    /// Replace the configuration by a boot module.
    Module,
    /// A token for the API.
    Token,
    /// No token for the API.
    Withdraw,
    /// Note events.
    TraceOn,
    /// Note events no more.
    TraceOff,
    /// The events noted.
    Events,
    /// The idle screen, now.
    Dashboard,
    /// Begin anew.
    Reboot,
    /// End.
    PowerOff,
    /// What would become of a packet.
    Explain,
    /// Whether a host answers.
    Ping,
    /// Which routers are on the way to it.
    Traceroute,
    /// Packets as they pass, a line each.
    Capture,
    /// The list of commands.
    Help,
}

/// What `show` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the word after `show`")]
pub enum View {
    Status,
    Interfaces,
    Routes,
    Neighbors,
    Drops,
    Cpus,
    Queues,
    Sockets,
    Tasks,
    Locks,
    Log,
    Configuration,
    History,
    Candidate,
}

/// Where a command is understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Everywhere.
    Anywhere,
    /// After `configure`.
    Configure,
    /// Before it.
    Operate,
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its words: small ones are typed as they are, capital ones are [`ARGUMENTS`]. What is in brackets may be left out, and
    /// brackets that follow each other come in any order.
    pub syntax: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What it does.
    pub action: Action,
    /// Where it is understood.
    pub place: Place,
    /// What can follow.
    pub filters: Filters,
}

/// What can be done to what a command says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filters {
    /// Nothing.
    None,
    /// `| match TEXT`
    Lines,
    /// `| json` too
    Json,
}

/// A word that the operator chooses.
#[derive(Debug)]
pub struct Argument {
    /// How help calls it.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it may be.
    pub kind: Kind,
}

/// What a word may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An interface's name.
    Interface,
    /// A number from the first to the second.
    Number(u64, u64),
    /// An address, with a prefix length or without.
    Prefix,
    /// An address.
    Address,
    /// An address, or a name that stands for some.
    Host,
    /// An IP protocol, by name or number.
    Protocol,
    /// An Ethernet frame in hexadecimal digits.
    Frame,
    /// Which way packets go.
    Directions,
    /// A word, or several in quotes.
    Text,
    /// All the rest of the line: a place in the configuration and what to write there.
    Setting,
    /// All the rest of the line: a place in the configuration.
    Setting0,
}

const fn command(syntax: &'static str, help: &'static str, action: Action) -> Command {
    Command { syntax, help, action, place: Place::Anywhere, filters: Filters::None }
}

const fn show(syntax: &'static str, help: &'static str, view: View) -> Command {
    Command { filters: Filters::Json, ..command(syntax, help, Action::Show(view)) }
}

const fn lines(command: Command) -> Command {
    Command { filters: Filters::Lines, ..command }
}

const fn at(place: Place, command: Command) -> Command {
    Command { place, ..command }
}

/// All commands, in the order of the help.
pub const COMMANDS: &[Command] = &[
    show("show status", "name, release, uptime, memory, buffers", View::Status),
    show("show interfaces [NAME]", "state, addresses, device, counters and losses", View::Interfaces),
    show(
        "show routes [PREFIX]",
        "routes; those to PREFIX, or those that packets to an address take",
        View::Routes,
    ),
    show("show neighbors", "ARP and neighbour discovery", View::Neighbors),
    show(
        "show drops [--last COUNT]",
        "packets lost, by interface and reason; or the last of them",
        View::Drops,
    ),
    show("show cpus", "what the CPUs do", View::Cpus),
    show("show queues", "each device's queue pairs, and the CPUs they belong to", View::Queues),
    show("show sockets", "the router's own sockets on each CPU, and what they refused", View::Sockets),
    show("show tasks", "what tasks cost, by name and CPU, the dearest first", View::Tasks),
    show("show locks", "how often each lock was taken, and waited for", View::Locks),
    show("show log [--last COUNT]", "the log; 100 lines of it unless COUNT says more", View::Log),
    Command {
        filters: Filters::Json,
        ..command(
            "explain NAME from SOURCE to DESTINATION [protocol PROTOCOL] [port PORT] [source-port SOURCE-PORT] \
             [vlan VLAN] [length LENGTH] [ttl TTL] [candidate]",
            "what becomes of a packet that comes in by NAME, and why; none is sent",
            Action::Explain,
        )
    },
    Command {
        filters: Filters::Json,
        ..command("explain NAME frame HEX [candidate]", "the same of a whole Ethernet frame", Action::Explain)
    },
    command(
        "ping HOST [count TIMES] [interval MILLISECONDS] [size SIZE] [df] [ttl HOPS] [source SOURCE] [interface NAME] [ipv6]",
        "asks HOST for an answer by ICMP, five times unless TIMES says otherwise; Ctrl-C ends it",
        Action::Ping,
    ),
    command(
        "traceroute HOST [hops HOPS] [size SIZE] [source SOURCE] [interface NAME] [ipv6]",
        "asks each router on the way to HOST, three times; Ctrl-C ends it",
        Action::Traceroute,
    ),
    command(
        "capture [NAME] [filter FILTER] [direction DIRECTION] [limit PACKETS] [snaplen BYTES]",
        "shows packets as they pass, a line each: those of NAME, or all; Ctrl-C ends it",
        Action::Capture,
    ),
    lines(show("show configuration", "the configuration in force, as text", View::Configuration)),
    show("show history", "configurations since boot", View::History),
    at(Place::Configure, lines(show("show candidate", "the candidate, as text", View::Candidate))),
    lines(command(
        "table",
        "interfaces, CPUs and tasks on a page; an empty line does the same",
        Action::Table,
    )),
    command("dashboard", "the idle screen, now; any key leaves it", Action::Dashboard),
    at(
        Place::Operate,
        command("configure", "edits a copy of the configuration: the candidate", Action::Configure),
    ),
    at(
        Place::Configure,
        command("set SETTING", "writes values into the candidate: set interface lan mtu 1400", Action::Set),
    ),
    at(
        Place::Configure,
        command("delete PLACE", "takes a value or a section out: delete interface lan mtu", Action::Delete),
    ),
    at(
        Place::Configure,
        command("load", "replaces the candidate: paste TOML, then a line with a single dot", Action::Load),
    ),
    at(
        Place::Configure,
        lines(command("compare", "what the candidate changes in the text", Action::Compare)),
    ),
    at(
        Place::Configure,
        Command {
            filters: Filters::Json,
            ..command(
                "check",
                "whether it is right, and what it would do to interfaces and routes",
                Action::Check,
            )
        },
    ),
    at(
        Place::Configure,
        command(
            "commit [confirm SECONDS]",
            "puts the candidate in force; with confirm it is taken back after SECONDS unless confirmed",
            Action::Commit,
        ),
    ),
    at(
        Place::Configure,
        command("discard", "the candidate is the configuration in force again", Action::Discard),
    ),
    at(Place::Configure, command("exit", "leaves the configuration; the candidate is kept", Action::Exit)),
    command("confirm", "keeps what was committed with confirm", Action::Confirm),
    command(
        "rollback [VERSION]",
        "puts an earlier configuration in force: the last, or VERSION",
        Action::Rollback,
    ),
    command(
        "config",
        "replaces the configuration at once: paste TOML, then a line with a single dot, or Ctrl-D; Ctrl-C gives up",
        Action::Replace,
    ),
    lines(command(
        "config modules",
        "says where the configuration is from, and lists the boot modules",
        Action::Modules,
    )),
    command("config module NUMBER", "replaces the configuration by this boot module", Action::Module),
    command("token", "gives out a token for the page and the API; it holds for 15 minutes", Action::Token),
    command("token withdraw", "takes it back", Action::Withdraw),
    command(
        "trace on",
        "notes what every CPU does: softints, tasks, sleep, packets handed over",
        Action::TraceOn,
    ),
    command("trace off", "notes no more", Action::TraceOff),
    command(
        "trace",
        "prints the last events of every CPU; `lab trace` makes a time line of them",
        Action::Events,
    ),
    lines(show("locks", "the same as show locks", View::Locks)),
    command("reboot", "begins anew; interfaces stop first", Action::Reboot),
    command("poweroff", "ends; interfaces stop first", Action::PowerOff),
    lines(command("help", "this list", Action::Help)),
];

/// All words that the operator chooses.
pub const ARGUMENTS: &[Argument] = &[
    Argument { name: "NAME", about: "an interface's name", kind: Kind::Interface },
    Argument {
        name: "PREFIX",
        about: "an address such as 10.0.0.1, or a prefix such as 10.0.0.0/8",
        kind: Kind::Prefix,
    },
    Argument { name: "SOURCE", about: "where it comes from: an address", kind: Kind::Address },
    Argument { name: "DESTINATION", about: "where it goes: an address", kind: Kind::Address },
    Argument {
        name: "PROTOCOL",
        about: "tcp, udp, icmp, icmpv6 or a number; an echo request unless given",
        kind: Kind::Protocol,
    },
    Argument {
        name: "PORT",
        about: "the destination's port, from 0 to 65535; 80 unless given",
        kind: Kind::Number(0, 65535),
    },
    Argument {
        name: "SOURCE-PORT",
        about: "the sender's port, from 0 to 65535; 50000 unless given",
        kind: Kind::Number(0, 65535),
    },
    Argument {
        name: "VLAN",
        about: "its tag's VLAN, from 1 to 4094, or 0 for no tag; that of NAME unless given",
        kind: Kind::Number(0, 4094),
    },
    Argument {
        name: "LENGTH",
        about: "bytes of the IP packet, from 20 to 9216; the least unless given",
        kind: Kind::Number(20, 9216),
    },
    Argument { name: "TTL", about: "hops left, from 0 to 255; 64 unless given", kind: Kind::Number(0, 255) },
    Argument {
        name: "HEX",
        about: "an Ethernet frame, two hexadecimal digits a byte, 14 to 500 bytes",
        kind: Kind::Frame,
    },
    Argument { name: "HOST", about: "an address, or a name that name servers know", kind: Kind::Host },
    Argument { name: "TIMES", about: "how often, from 1 to 65535", kind: Kind::Number(1, 65535) },
    Argument {
        name: "MILLISECONDS",
        about: "between two requests, from 10 to 60000; 1000 unless given",
        kind: Kind::Number(10, 60_000),
    },
    Argument {
        name: "SIZE",
        about: "bytes of data, from 0 to 8192; 56 unless given, 32 for traceroute",
        kind: Kind::Number(0, 8192),
    },
    Argument {
        name: "HOPS",
        about: "how far, from 1 to 255 hops; 64 unless given, 30 for traceroute",
        kind: Kind::Number(1, 255),
    },
    Argument {
        name: "FILTER",
        about: "which packets, in tcpdump's language and in quotes: \"host 10.0.0.1 and port 53\"",
        kind: Kind::Text,
    },
    Argument {
        name: "DIRECTION",
        about: "in, out, drop, or several with commas between; all unless given",
        kind: Kind::Directions,
    },
    Argument {
        name: "PACKETS",
        about: "lines after which it ends, at least 1",
        kind: Kind::Number(1, u64::MAX),
    },
    Argument {
        name: "BYTES",
        about: "bytes kept of a packet for its line, from 64 to 2048; 128 unless given",
        kind: Kind::Number(64, 2048),
    },
    Argument { name: "COUNT", about: "how many, from the last one back", kind: Kind::Number(1, 100_000) },
    Argument { name: "SECONDS", about: "seconds, from 5 to 3600", kind: Kind::Number(5, LONGEST_CONFIRM) },
    Argument { name: "VERSION", about: "a number from `show history`", kind: Kind::Number(1, u64::MAX) },
    Argument { name: "NUMBER", about: "a number from `config modules`", kind: Kind::Number(0, u64::MAX) },
    Argument {
        name: "SETTING",
        about: "section, key and value: interface lan mtu 1400",
        kind: Kind::Setting,
    },
    Argument { name: "PLACE", about: "section and key: interface lan mtu", kind: Kind::Setting0 },
];

/// Words whose effect is not to come from a slip: they are typed in full.
pub const WHOLE: &[&str] = &["reboot", "poweroff", "rollback", "config"];

/// A piece of a command's syntax.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A word typed as it is.
    Word(&'static str),
    /// A word that the operator chooses.
    Argument(&'static Argument),
    /// What follows, up to the closing bracket so many items on, may be left out.
    Open(usize),
    /// The end of it. The first of those that follow each other begins there.
    Close(usize),
}

impl Command {
    /// Its syntax in pieces.
    pub fn items(&self) -> alloc::vec::Vec<Item> {
        let mut items = alloc::vec::Vec::new();
        let mut first = 0;
        for word in self.syntax.split(' ') {
            let name = word.trim_matches(['[', ']']);
            if word.starts_with('[') {
                if !matches!(items.last(), Some(Item::Close(_))) {
                    first = items.len();
                }
                items.push(Item::Open(0));
            }
            items.push(match ARGUMENTS.iter().find(|argument| argument.name == name) {
                Some(argument) => Item::Argument(argument),
                None => Item::Word(name),
            });
            if word.ends_with(']') {
                let end = items.len();
                if let Some(at) = items.iter().rposition(|item| matches!(item, Item::Open(0))) {
                    items[at] = Item::Open(end - at);
                }
                items.push(Item::Close(first));
            }
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_small_or_an_argument() {
        for command in COMMANDS {
            for item in command.items() {
                if let Item::Word(word) = item {
                    assert!(
                        !word.is_empty() && word.chars().all(|c| matches!(c, 'a'..='z' | '6' | '-')),
                        "{word}"
                    );
                }
            }
        }
        for argument in ARGUMENTS {
            assert!(
                COMMANDS.iter().any(|command| command.syntax.contains(argument.name)),
                "{}",
                argument.name
            );
        }
        for word in WHOLE {
            assert!(COMMANDS.iter().any(|command| command.syntax.starts_with(word)), "{word}");
        }
    }
}
