//! Checks a configuration on the host, with the very code that reads it in the router:
//! `FILE:line:column: error: ...` for each error, or a summary of what the router would do.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use weir_app::config::{Attachment, Config, Interface, MAX_BYTES, ReversePathFilter, Target};
use weir_machine::start_info::MAX_COMMAND_LINE;
use weir_manage::token;

const USAGE: &str = "\
Usage: weir-check FILE
       weir-check -
       weir-check --command-line 'weir.hostname=edge1 ...'
       weir-check --hash-token

Checks a router configuration: a file, standard input, or words of a kernel command line. Or reads a
token of the API from standard input and prints its hash, for a [[management.token]] of the configuration.

Exit status: 0 the configuration is good, 1 it has errors, 2 it could not be read.
";

fn main() -> ExitCode {
    // A reader that went away (`weir-check FILE | head`) is no reason to fail, let alone to panic.
    let out = |text: &str| drop(io::stdout().write_all(text.as_bytes()));
    let err = |text: &str| drop(io::stderr().write_all(text.as_bytes()));

    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let file = match arguments.as_slice() {
        [option, line] if option == "--command-line" => {
            let is_cut = line.len() >= MAX_COMMAND_LINE;
            return match Config::from_command_line(&line.to_string_lossy(), is_cut) {
                Some(Ok(config)) => {
                    out(&summary(&config));
                    ExitCode::SUCCESS
                }
                Some(Err(wrong)) => {
                    err(&wrong);
                    ExitCode::FAILURE
                }
                None => {
                    err("command line: error: no word begins with \"weir.\"\n1 error\n");
                    ExitCode::FAILURE
                }
            };
        }
        [option] if option == "--hash-token" => return hash_token(),
        [file] => file,
        _ => {
            err(USAGE);
            return ExitCode::from(2);
        }
    };
    let name = file.to_string_lossy();
    match &*name {
        "-h" | "--help" => {
            out(USAGE);
            return ExitCode::SUCCESS;
        }
        "-V" | "--version" => {
            out(concat!("weir-check ", env!("CARGO_PKG_VERSION"), "\n"));
            return ExitCode::SUCCESS;
        }
        option if option.starts_with('-') && option != "-" => {
            err(&format!("weir-check: unknown option {option}\n{USAGE}"));
            return ExitCode::from(2);
        }
        _ => {}
    }
    let text = if name == "-" { read(io::stdin()) } else { File::open(file).and_then(read) };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            err(&format!("weir-check: {name}: {error}\n"));
            return ExitCode::from(2);
        }
    };
    match Config::parse(&text) {
        Ok(config) => {
            out(&summary(&config));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            let name = if name == "-" { "<stdin>" } else { &name };
            err(&errors.in_file(name).to_string());
            ExitCode::FAILURE
        }
    }
}

/// Prints the hash of the token in the first line of standard input.
fn hash_token() -> ExitCode {
    let mut line = String::new();
    let most = 4 * token::LONGEST as u64;
    let read = io::BufRead::read_line(&mut io::stdin().lock().take(most), &mut line);
    let hash = read.map_err(|error| error.to_string()).and_then(|_| {
        // Every standard library seeds its maps with what nobody can guess; a salt need only differ from others.
        let halves = [0, 1].map(|half: u64| u128::from(RandomState::new().hash_one(half)));
        let salt = (halves[0] << 64 | halves[1]).to_ne_bytes();
        token::Hash::of(line.trim_end_matches(['\r', '\n']), salt)
    });
    match hash {
        Ok(hash) => {
            println!("{hash}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("weir-check: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// The whole input, or one byte more than a configuration may have.
fn read(input: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn summary(config: &Config) -> String {
    let mut text = format!("hostname   {}\n", config.hostname);
    for interface in &config.interfaces {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "interface  {}", describe(config, interface));
    }
    let count = |forwards: bool| -> usize {
        let alike =
            config.routes.iter().filter(|route| matches!(route.target, Target::Forward(_)) == forwards);
        alike.map(|route| route.to.len()).sum()
    };
    let (forwarding, rejecting) = (count(true), count(false));
    let _ = writeln!(text, "routes     {forwarding} forwarding, {rejecting} rejecting");
    text
}

fn describe(config: &Config, interface: &Interface) -> String {
    let attachment = match interface.attachment {
        Attachment::Device(matching) => matching.to_string(),
        Attachment::Vlan { parent, id } => format!("vlan {id} on {}", config.interfaces[parent].name),
    };
    let mut words = vec![format!("{:<15} {attachment}", interface.name)];
    words.extend(interface.addresses.iter().map(|address| address.to_string()));
    words.extend(interface.mtu.map(|mtu| format!("mtu {mtu}")));
    match interface.reverse_path_filter {
        ReversePathFilter::Off => {}
        ReversePathFilter::Strict => words.push("reverse-path-filter strict".into()),
        ReversePathFilter::Loose => words.push("reverse-path-filter loose".into()),
    }
    if interface.router_advertisement {
        words.push("router-advertisement".into());
    }
    if interface.management {
        words.push("management".into());
    }
    if !interface.enabled {
        words.push("disabled".into());
    }
    words.join("  ")
}
