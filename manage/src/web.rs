//! The web page: files of `manage/web`, embedded as `build.rs` compresses them, without comments and indentation. The HTTP
//! server hands them out to everybody, with gzip's coding and no other; the page then asks for a token, and speaks to the
//! API alone.

use crate::api::{Body, Request, Response};
use crate::etag::is_known;
use crate::problem::refuse;
use crate::routes::Method;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A file of the page.
#[derive(Debug)]
pub struct File {
    /// The path it is asked for by.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its contents, compressed (gzip, RFC 1952).
    pub bytes: &'static [u8],
    /// These bytes' fingerprint (FNV-1a, 64 bits), as an entity tag: 16 hexadecimal digits in quotes.
    pub etag: &'static str,
}

/// Headers of every answer with a file, beside its media type and entity tag.
///
/// The browser asks each time whether a file is still the same, so that a new release is in use at once. It runs and
/// loads nothing but what the router sends, and never shows the page inside another.
pub const HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; \
         require-trusted-types-for 'script'",
    ),
    ("Referrer-Policy", "no-referrer"),
    VARY,
    ("X-Content-Type-Options", "nosniff"),
];

/// Who accepts no gzip is answered otherwise.
const VARY: (&str, &str) = ("Vary", "Accept-Encoding");

/// The answer to a request for a file of the page; none if it is for something else.
pub fn answer(request: &Request<'_>) -> Option<Response> {
    let file = find(request.path).filter(|_| request.asks(Method::Get))?;
    if let Some(accepted) = request.accept_encoding.filter(|accepted| !accepts_gzip(accepted)) {
        let accepted: String = accepted.chars().take(80).collect();
        let mut refused = Response::from(refuse(
            406,
            "The page comes compressed",
            format!("Accept-Encoding says {accepted:?}, and the router has the page in gzip alone"),
            "send Accept-Encoding: gzip, as browsers and curl --compressed do, or leave the header out",
        ));
        refused.headers.push((VARY.0, VARY.1.into()));
        return Some(refused);
    }
    let etag = file.etag.trim_matches('"');
    let (status, body) = match request.if_none_match.is_some_and(|value| is_known(value, etag)) {
        true => (304, Body::EMPTY),
        false => (200, Body::Static(file.bytes)),
    };
    let mut headers: Vec<_> = HEADERS.iter().map(|&(name, value)| (name, value.into())).collect();
    headers.push(("ETag", file.etag.into()));
    if status == 200 {
        headers.push(("Content-Encoding", "gzip".into()));
    }
    Some(Response { status, content_type: file.content_type, headers, body })
}

/// Whether a value of `Accept-Encoding` lets gzip through: by its name or its old one, else by the asterisk, with a
/// weight above zero (RFC 9110, 12.5.3).
fn accepts_gzip(value: &str) -> bool {
    let weight = |names: &[&str]| {
        value.split(',').find_map(|one| {
            let (coding, parameters) = one.split_once(';').unwrap_or((one, ""));
            let named = names.iter().any(|name| coding.trim().eq_ignore_ascii_case(name));
            let weight = parameters.trim().strip_prefix(['q', 'Q']).unwrap_or("=1");
            named.then(|| weight.bytes().any(|digit| matches!(digit, b'1'..=b'9')))
        })
    };
    weight(&["gzip", "x-gzip"]).or_else(|| weight(&["*"])).unwrap_or(false)
}

/// The file at `path`, which begins with a slash and has no query.
pub fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

macro_rules! files {
    ($($path:literal $name:literal $type:expr;)+) => {
        /// All files; the first is the page itself.
        pub const FILES: &[File] = &[$({
            const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz"));
            const TAG: [u8; 18] = etag(BYTES);
            const ETAG: &str = match core::str::from_utf8(&TAG) {
                Ok(text) => text,
                Err(_) => unreachable!(),
            };
            File { path: $path, content_type: $type, bytes: BYTES, etag: ETAG }
        },)+];
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

files! {
    "/" "index.html" HTML;
    "/style.css" "style.css" CSS;
    "/icon.svg" "icon.svg" SVG;
    "/api.js" "api.js" SCRIPT;
    "/app.js" "app.js" SCRIPT;
    "/capture.js" "capture.js" SCRIPT;
    "/configuration.js" "configuration.js" SCRIPT;
    "/diff.js" "diff.js" SCRIPT;
    "/dom.js" "dom.js" SCRIPT;
    "/drops.js" "drops.js" SCRIPT;
    "/editor.js" "editor.js" SCRIPT;
    "/explain.js" "explain.js" SCRIPT;
    "/format.js" "format.js" SCRIPT;
    "/interfaces.js" "interfaces.js" SCRIPT;
    "/live.js" "live.js" SCRIPT;
    "/log.js" "log.js" SCRIPT;
    "/overview.js" "overview.js" SCRIPT;
    "/packet.js" "packet.js" SCRIPT;
    "/pcapng.js" "pcapng.js" SCRIPT;
    "/plot.js" "plot.js" SCRIPT;
    "/reasons.js" "reasons.js" SCRIPT;
    "/routes.js" "routes.js" SCRIPT;
    "/view.js" "view.js" SCRIPT;
}

const fn etag(bytes: &[u8]) -> [u8; 18] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    let mut tag = [b'"'; 18];
    let mut digit = 0;
    while digit < 16 {
        tag[digit + 1] = b"0123456789abcdef"[(hash >> (60 - 4 * digit)) as usize & 15];
        digit += 1;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::collections::BTreeSet;
    use std::io::Read;
    use std::string::ToString;

    /// What the specification allows the page.
    const MOST_BYTES: usize = 150 * 1024;

    fn text(file: &File) -> String {
        let mut text = String::new();
        GzDecoder::new(file.bytes).read_to_string(&mut text).unwrap();
        text
    }

    /// What stands between `before` and `after` in `text`, each time.
    fn between<'a>(text: &'a str, before: &str, after: char) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
    }

    #[test]
    fn is_small() {
        let total: usize = FILES.iter().map(|file| text(file).len()).sum();
        assert!(total < MOST_BYTES, "{total} bytes, at most {MOST_BYTES}");
    }

    #[test]
    fn is_sent_once_until_it_changes() {
        let request = |method, path, if_none_match| Request {
            method,
            path,
            query: "",
            authorization: None,
            accept: None,
            accept_encoding: None,
            if_match: None,
            if_none_match,
            peer: core::net::IpAddr::from([192, 0, 2, 1]),
        };
        let page = answer(&request("GET", "/", None)).unwrap();
        assert_eq!((page.status, page.content_type, &*page.body), (200, HTML, FILES[0].bytes));
        let etag =
            page.headers.iter().find(|(name, _)| *name == "ETag").map(|(_, value)| value.clone()).unwrap();
        let known = std::format!("\"x\", W/{etag}");
        let again = answer(&request("GET", "/", Some(&known))).unwrap();
        assert_eq!((again.status, again.body.len()), (304, 0));
        assert_eq!(answer(&request("GET", "/app.js", Some(&etag))).unwrap().status, 200);
        assert!(answer(&request("GET", "/api/v1/status", None)).is_none());
        assert!(answer(&request("PUT", "/", None)).is_none());
    }

    #[test]
    fn goes_to_whoever_accepts_gzip() {
        for yes in
            ["gzip", "br, GZIP;q=0.5", "x-gzip", "*", "deflate, *;q=0.001", "gzip;q=1.000", "gzip ; q=1"]
        {
            assert!(accepts_gzip(yes), "{yes}");
        }
        for no in ["", "identity", "br, deflate", "gzip;q=0", "gzip; q=0.000, *", "*;q=0", "gzipped"] {
            assert!(!accepts_gzip(no), "{no}");
        }
    }

    #[test]
    fn tags_are_those_of_fnv() {
        // Test vectors of draft-eastlake-fnv, appendix C.
        assert_eq!(&etag(b""), b"\"cbf29ce484222325\"");
        assert_eq!(&etag(b"foobar"), b"\"85944171f73967e8\"");
        let tags: BTreeSet<_> = FILES.iter().map(|file| file.etag).collect();
        assert_eq!(tags.len(), FILES.len());
    }

    #[test]
    fn has_every_file_it_refers_to() {
        let mut wanted = BTreeSet::new();
        for file in FILES {
            let source = text(file);
            let names = between(&source, "from \"./", '"').into_iter();
            wanted.extend(names.map(|name| std::format!("/{name}")));
        }
        let page = text(&FILES[0]);
        let links = ["src=\"", "href=\""].into_iter().flat_map(|before| between(&page, before, '"'));
        wanted.extend(links.filter(|link| !link.starts_with('#')).map(String::from));
        for path in &wanted {
            assert!(find(path).is_some(), "{path} is missing");
        }
        let unused: Vec<_> =
            FILES.iter().filter(|file| file.path != "/" && !wanted.contains(file.path)).collect();
        assert!(unused.is_empty(), "nothing refers to {unused:?}");
    }

    #[test]
    fn asks_nobody_else_and_makes_no_markup_of_text() {
        for file in FILES {
            let source = text(file);
            let elsewhere = between(&source, "://", '"')
                .into_iter()
                .filter(|rest| !rest.starts_with("www.w3.org/2000/svg"));
            assert_eq!(elsewhere.count(), 0, "{} names another site", file.path);
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "new Function"] {
                assert!(!source.contains(word), "{}: {word}", file.path);
            }
        }
        // Styles and scripts in the markup would need a weaker policy.
        assert!(!text(&FILES[0]).contains("style=") && !text(&FILES[0]).contains("<script>"));
    }

    #[test]
    fn explains_every_reason_to_drop_a_packet() {
        let quoted = |text: &str, before: &str, after: &str| -> BTreeSet<String> {
            let lines = text
                .lines()
                .filter_map(|line| Some(line.split_once(before)?.1.split_once(after)?.0.to_string()));
            lines.collect()
        };
        let reasons = include_str!("../../netif/src/discard.rs");
        let mut known = quoted(reasons, " = \"", "\",");
        // Counted among them, but not lost.
        assert!(known.remove("consumed"));
        let explained = quoted(&text(find("/reasons.js").unwrap()), "\"", "\": \"");
        let differ: Vec<_> = explained.symmetric_difference(&known).collect();
        assert!(differ.is_empty(), "reasons.js and netif::Drop differ by {differ:?}");
    }
}
