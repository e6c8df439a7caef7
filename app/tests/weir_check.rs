//! `weir-check` as a program: its exit status and what it prints where.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const GOOD: &str = "hostname = \"edge1\"
[interface.wan]
match = { port = 0 }
addresses = [\"192.0.2.1/24\", \"2001:db8:1::1/64\"]
[interface.lan]
match = { mac = \"52:54:00:00:00:01\" }
enabled = false
[[route]]
to = \"0.0.0.0/0\"
via = \"192.0.2.254\"
";

/// Exit status, standard output and standard error.
fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-check"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("weir-check starts");
    // Without "-" it need not read its input.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("weir-check ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit status"), text(stdout), text(stderr))
}

#[test]
fn sums_up_a_good_configuration() {
    let summary = "hostname   edge1\n\
                   interface  wan             port 0  192.0.2.1/24  2001:db8:1::1/64\n\
                   interface  lan             mac 52:54:00:00:00:01  disabled\n\
                   routes     1 forwarding, 0 rejecting\n";
    assert_eq!(run(&["-"], GOOD), (0, summary.to_owned(), String::new()));
}

#[test]
fn reports_errors_as_file_line_column() {
    let bad = GOOD.replace("port = 0", "prot = 0");
    let (status, stdout, stderr) = run(&["-"], &bad);
    assert_eq!((status, &*stdout), (1, ""));
    assert!(stderr.starts_with("<stdin>:3:11: error: interface.wan.match.prot: unknown key"), "{stderr}");

    let file = std::env::temp_dir().join(format!("weir-check-{}.toml", std::process::id()));
    std::fs::write(&file, bad).expect("temporary file");
    let name = file.to_str().expect("UTF-8");
    let (status, _, stderr) = run(&[name], "");
    std::fs::remove_file(&file).expect("temporary file");
    assert_eq!(status, 1);
    assert!(stderr.starts_with(&format!("{name}:3:11: error: ")), "{stderr}");
}

#[test]
fn checks_words_of_a_command_line() {
    let check = |line: &str| run(&["--command-line", line], "");
    let words = "log=debug weir.interface.lan.match.port=0 weir.interface.lan.addresses=10.0.0.1/24";
    let summary = "hostname   weir\n\
                   interface  lan             port 0  10.0.0.1/24\n\
                   routes     0 forwarding, 0 rejecting\n";
    assert_eq!(check(words), (0, summary.to_owned(), String::new()));
    let (status, stdout, stderr) = check(&format!("{words} weir.foo=1"));
    assert_eq!((status, &*stdout), (1, ""));
    assert!(stderr.starts_with("command line: weir.foo=1: error: foo: unknown key"), "{stderr}");
    let (status, _, stderr) = check("log=debug");
    assert_eq!((status, &*stderr), (1, "command line: error: no word begins with \"weir.\"\n1 error\n"));
}

#[test]
fn tells_wrong_use_from_wrong_configurations() {
    for arguments in
        [&[][..], &["a", "b"], &["--frobnicate"], &["--command-line"], &["/nonexistent/weir.toml"], &["/"]]
    {
        let (status, stdout, stderr) = run(arguments, "");
        assert_eq!((status, &*stdout), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn answers_questions_about_itself() {
    let (status, stdout, _) = run(&["--help"], "");
    assert!(status == 0 && stdout.starts_with("Usage: weir-check FILE"), "{stdout}");
    assert_eq!(
        run(&["--version"], ""),
        (0, format!("weir-check {}\n", env!("CARGO_PKG_VERSION")), String::new())
    );
}

/// The line of docs/management.md, as a shell runs it: what it prints is a hash of the token that it made.
#[test]
fn hashes_the_token_that_openssl_makes() {
    let document = include_str!("../../docs/management.md");
    let line = document.lines().find_map(|line| line.strip_prefix("$ openssl")).expect("the line is there");
    let folder = folder();
    let line = format!("openssl{line}").replace("weir-check", env!("CARGO_BIN_EXE_weir-check"));
    let output = Command::new("sh").args(["-ec", &line]).current_dir(&folder).output().expect("sh starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (hash, said) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
    let token = std::fs::read_to_string(folder.join("token")).expect("the token is kept");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let (hash, token) = (hash.trim(), token.trim());
    assert!(token.len() == 32 && hash.starts_with("$argon2id$v=19$m=1024,t=3,p=1$"), "{token} {hash}");
    let parsed = weir_manage::token::Hash::parse(hash).expect("the router can read it");
    assert_eq!(parsed.verify(token), Ok(true));
    assert_eq!(parsed.verify(&token.to_uppercase().replace('0', "f")), Ok(false));
    let with = format!("{GOOD}[[management.token]]\nname = \"ann\"\nhash = \"{hash}\"\n");
    let (status, _, errors) = run(&["-"], &with);
    assert_eq!((status, errors.as_str()), (0, ""));
    let (status, out, errors) = run(&["--hash-token"], "too-short\n");
    assert!(status == 1 && out.is_empty() && errors.contains("expected 16 to 256"), "{status} {out}{errors}");
}

/// A folder of this test's own.
fn folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-check-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
