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
