//! Which source counts, and what each says when it is wrong.

use super::*;
use alloc::vec;
use proptest::prelude::*;
use weir_machine::xen::store::{Peer, Store};
use weir_netif::Arena;
use weir_sync::cpu::claim_any;

const FREE: u64 = 1 << 20;
const WORDS: &str = "log=debug weir.interface.words.match.port=0";

fn named(name: &str) -> String {
    format!("[interface.{name}]\nmatch = {{ port = 0 }}\n")
}

/// What a machine with this finds.
fn on(module: Option<&str>, store: Option<&str>, command_line: &str, test: impl FnOnce(&mut Search)) {
    let (simulated, peer): (_, Peer) = Store::simulated();
    if let Some(text) = store {
        peer.write(&format!("{}/{CONFIG}", peer.home()), text);
    }
    let modules: Vec<Option<&'static [u8]>> =
        module.map(|text| Some(&*text.as_bytes().to_vec().leak())).into_iter().collect();
    let mut cpu = claim_any().unwrap();
    cpu.control(|cx| {
        let arena = Arena::new(vec![0; 1 << 20].leak());
        let mut guest = store.map(|_| Guest::simulated(cx, simulated, arena));
        let modules = Modules::new(modules.leak());
        let guest = guest.as_mut();
        test(&mut Search { cx, modules, guest, command_line, command_line_is_cut: false, free: || FREE });
    });
}

#[track_caller]
fn assert_found(search: &mut Search, place: &str, interface: &str) {
    let found = find(search).unwrap();
    assert_eq!((&*found.place, &*found.config.unwrap().interfaces[0].name), (place, interface));
}

#[test]
fn the_first_source_that_has_one_counts() {
    let (module, store) = (named("module"), named("store"));
    on(Some(&module), Some(&store), WORDS, |search| assert_found(search, "boot module 1", "module"));
    on(None, Some(&store), WORDS, |search| {
        assert_found(search, "vm-data/weir/config in xenstore", "store");
    });
    on(None, Some(""), WORDS, |search| assert_found(search, "command line", "words"));
    on(None, None, WORDS, |search| assert_found(search, "command line", "words"));
}

#[test]
fn a_wrong_one_is_named_and_no_other_is_taken() {
    let store = named("store");
    let wrong = |search: &mut Search| find(search).unwrap().config.unwrap_err();
    on(Some("x = 1\n"), Some(&store), WORDS, |search| {
        let wrong = wrong(search);
        assert!(wrong.starts_with("boot module 1:1:1: error: x: unknown key"), "{wrong}");
    });
    on(Some(""), Some(&store), WORDS, |search| {
        let wrong = wrong(search);
        assert!(wrong.starts_with("boot module 1:1:1: error: the configuration is empty"), "{wrong}");
    });
    on(None, Some(&format!("\nx = 1\n{store}")), WORDS, |search| {
        let wrong = wrong(search);
        assert!(wrong.starts_with("vm-data/weir/config:2:1: error: x: unknown key"), "{wrong}");
    });
    on(None, None, "weir.x=1", |search| {
        let wrong = wrong(search);
        assert!(wrong.starts_with("command line: weir.x=1: error: x: unknown key"), "{wrong}");
    });
}

#[test]
fn without_any_the_ways_to_give_one_are_named() {
    on(None, Some(""), "log=debug", |search| {
        assert_eq!(
            find(search).unwrap_err(),
            "there is no configuration; give this machine one by
  boot module   -initrd weir.toml
  xenstore      xenstore-write /local/domain/ID/vm-data/weir/config \"$(cat weir.toml)\"
  command line  -append \"weir.interface.lan.match.port=0 weir.interface.lan.addresses=10.0.0.1/24\"\n"
        );
    });
}

#[test]
fn what_memory_cannot_read_and_what_is_too_long_is_refused() {
    on(None, None, "", |search| {
        let text = "[".repeat(1000);
        let found = search.found("fw_cfg x", Ok::<_, &str>(text));
        let expected = "fw_cfg x: 1000 bytes take up to 2 MiB to read and 1 MiB are free: give the machine more memory\n";
        assert_eq!(found.config.unwrap_err(), expected);
        let found = search.found("fw_cfg x", Ok::<_, &str>("#".repeat(MAX_BYTES + 1)));
        let wrong = found.config.unwrap_err();
        assert!(wrong.starts_with("fw_cfg x:1:1: error: the configuration is too long"), "{wrong}");
        let found = search.found("fw_cfg x", Err::<&[u8], _>(fw_cfg::Problem::TooLong(9, 8)));
        assert_eq!(found.config.unwrap_err(), "fw_cfg x: the file has 9 bytes, expected at most 8\n");
    });
}

/// What becomes of these OEM strings.
fn oem(list: &[&[u8]]) -> Option<Found> {
    let mut found = None;
    on(None, None, "", |search| {
        found = oem_string(search, &Strings { list: list.to_vec(), problem: None });
    });
    found
}

#[test]
fn an_oem_string_is_a_text_or_base64() {
    assert_eq!(oem(&[]), None);
    assert_eq!(oem(&[b"io.systemd.credential:weir.config=x", b"weird"]), None);
    let text = named("strings");
    let plain = [OEM_TEXT.as_bytes(), text.as_bytes()].concat();
    let coded = BASE64_STANDARD.encode(&text);
    let (first, second) = coded.split_at(20);
    let coded = [OEM_BASE64, first, "\r\n", second, "\n"].concat();
    for (string, place) in
        [(&plain[..], "SMBIOS weir.config"), (coded.as_bytes(), "SMBIOS weir.config.binary")]
    {
        let found = oem(&[b"other", string]).unwrap();
        assert_eq!((&*found.place, &*found.config.unwrap().interfaces[0].name), (place, "strings"));
    }
}

#[test]
fn an_oem_string_that_is_wrong_is_named() {
    for (strings, expected) in [
        (&[&b"weir.config=x = 1"[..]][..], "SMBIOS weir.config:1:1: error: x: unknown key"),
        (&[b"weir.config="], "SMBIOS weir.config:1:1: error: the configuration is empty"),
        (
            &[b"weir.config.binary=eD0x_w=="],
            "SMBIOS weir.config.binary: not base64: Invalid symbol 95, offset 4.",
        ),
        (&[b"weir.config.binary=eD0"], "SMBIOS weir.config.binary: not base64: Invalid padding"),
        (&[b"weir.config.binary=eCA9IDE="], "SMBIOS weir.config.binary:1:1: error: x: unknown key"),
        (
            &[b"weir.confg=x"],
            "SMBIOS: a string begins with \"weir.confg\", expected \"weir.config=\" or \"weir.config.binary=\"",
        ),
        (&[b"weir.\x1b[2J\xff"], "SMBIOS: a string begins with \"weir.\\u{1b}[2J\u{fffd}\", expected"),
        (
            &[b"weir.config=", b"other", b"weir.config.binary="],
            "SMBIOS: several strings begin with \"weir.\", expected one",
        ),
    ] {
        let wrong = oem(strings).unwrap().config.unwrap_err();
        assert!(wrong.starts_with(expected), "{wrong}");
    }
}

#[test]
fn the_manual_lists_the_sources_in_this_order() {
    let manual = include_str!("../../../docs/configuration.md");
    let (_, section) = manual.split_once("## Where the configuration comes from\n").unwrap();
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> =
        table.skip(2).filter_map(|row| row.strip_prefix("| ")?.split(" |").next()).collect();
    assert_eq!(listed, SOURCES.map(|source| source.name));
}

proptest! {
    /// Any strings at all: an answer.
    #[test]
    fn any_oem_strings_give_an_answer(
        strings in prop::collection::vec((
            prop::sample::select(vec!["", "weir.", OEM_TEXT, OEM_BASE64, "weir.config"]),
            prop::collection::vec(any::<u8>(), 0..40),
        ), 0..4),
    ) {
        let strings: Vec<Vec<u8>> = strings.into_iter().map(|(start, end)| [start.as_bytes(), &end].concat()).collect();
        let list: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        if let Some(Err(wrong)) = oem(&list).map(|found| found.config) {
            prop_assert!(wrong.starts_with("SMBIOS") && wrong.ends_with('\n'), "{wrong}");
            prop_assert!(!wrong.chars().any(|c| c.is_control() && c != '\n'), "{wrong:?}");
        }
    }
}
