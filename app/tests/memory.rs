//! Reading a configuration takes no more memory than is asked for before, whatever the text is like.

mod wan;

use wan::wan;
use weir_app::attach::snapshot;
use weir_app::config::{Config, appetite};

const INTERFACES: &str = "[interface.wan]
match = { port = 0 }
addresses = [\"10.0.0.1/16\"]
";

/// Bytes that reading `text` took, and putting it in force if it is good.
fn taken(text: &str) -> u64 {
    allocation_counter::measure(|| {
        if let Ok(config) = Config::parse(text.as_bytes()) {
            snapshot(&config, &Default::default(), &[wan()], &[], &Default::default()).unwrap();
        }
    })
    .bytes_max
}

/// `count` times what `part` says of the number.
fn many(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

fn net(n: usize) -> String {
    format!("{}.{}.{}.0/24", 20 + (n >> 16), n >> 8 & 255, n & 255)
}

/// Short ones: the most for a byte of text.
fn short(n: usize) -> String {
    format!("{}.{}.0.0/16", 20 + (n >> 8), n & 255)
}

#[test]
fn it_is_known_before() {
    let via = "via = \"10.0.0.9\"";
    for (name, text) in [
        (
            "a text",
            format!("{INTERFACES}[[route]]\n{via}\nto = \"\"\"\n{}\"\"\"", many(100_000, |n| net(n) + "\n")),
        ),
        (
            "short ones",
            format!("{INTERFACES}[[route]]\n{via}\nto = \"\"\"{}\"\"\"", many(20_000, |n| short(n) + " ")),
        ),
        ("escapes", format!("{INTERFACES}[[route]]\n{via}\nto = \"{}\"", many(20_000, |n| net(n) + "\\n"))),
        (
            "an array",
            format!("{INTERFACES}[[route]]\n{via}\nto = [{}]", many(50_000, |n| format!("\"{}\",", net(n)))),
        ),
        (
            "sections",
            INTERFACES.to_string() + &many(10_000, |n| format!("[[route]]\nto=\"{}\"\n{via}\n", net(n))),
        ),
        (
            "inline tables",
            format!("route=[{}]\n{INTERFACES}", many(10_000, |n| format!("{{to='{}',{via}}},", net(n)))),
        ),
        (
            "next hops",
            INTERFACES.to_string()
                + &many(4000, |n| {
                    let hops = many(3, |m| format!("'10.0.{}.{}',", (n >> 5) + m, 2 + n % 200));
                    format!("[[route]]\nto='{}'\nvia=[{hops}]\n", net(n))
                }),
        ),
        (
            "far gateways",
            INTERFACES.to_string()
                + &many(5000, |n| {
                    let via = if n == 0 { "10.0.0.9".into() } else { format!("20.0.0.{}", n % 250) };
                    format!("[[route]]\nto='{}'\nvia='{via}'\n", net(n))
                }),
        ),
        ("numbers", format!("a=[{}]", "1,".repeat(50_000))),
        ("arrays", format!("a=[{}]", "[],".repeat(50_000))),
        ("tables", many(20_000, |n| format!("[a{n}]\n"))),
        ("tables of tables", many(500, |n| format!("[a{n}{}]\n", ".b".repeat(14)))),
        ("tables in arrays", many(2000, |_| "[[a]]\n[a.b.c.d.e.f.g]\n".to_string())),
        ("dotted keys", many(500, |n| format!("a{n}{}=1\n", ".b".repeat(14)))),
        ("dots in a table", format!("a=[{}]", format!("{{a{}=1}},", ".b".repeat(14)).repeat(500))),
        ("lines", "\n".repeat(50_000)),
        ("a long comment", format!("#{}", " ".repeat(100_000))),
        ("errors", "=".repeat(50_000)),
        ("unknown keys", many(5000, |n| format!("a{n}=1\n"))),
    ] {
        let (asked, taken) = (appetite(text.as_bytes()), taken(&text));
        println!("{name:<20} {:>8} bytes: asked for {asked:>10}, took {taken:>10}", text.len());
        assert!(taken <= asked, "{name}: asked for {asked}, took {taken}");
        assert!(asked < 32 * taken, "{name}: asked for {asked}, took {taken} only");
    }
}
