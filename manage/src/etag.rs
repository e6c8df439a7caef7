//! Entity tags that requests name (RFC 9110 §8.8.3): which state of a text they are about.

use crate::problem::{Refused, refuse};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A tag without its quotes, and whether it is weak.
type Tag<'l> = (bool, &'l str);

/// The tags of a list; `None` if it is none.
fn tags(list: &str) -> Option<Vec<Tag<'_>>> {
    let mut tags: Vec<Tag<'_>> = Vec::new();
    // Every second piece is between quotes.
    let mut pieces = list.split('"');
    loop {
        let outside = pieces.next()?;
        let (gap, weak) = outside.strip_suffix("W/").map_or((outside, false), |gap| (gap, true));
        // Elements may be empty (RFC 9110 §5.6.1.2).
        if !gap.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b',')) {
            return None;
        }
        let Some(tag) = pieces.next() else { return Some(tags).filter(|tags| !tags.is_empty() && !weak) };
        if !tags.is_empty() && !gap.contains(',') {
            return None;
        }
        tags.push((weak, tag));
    }
}

/// What `If-Match` wants (RFC 9110 §13.1.1): one of these, without quotes; a weak tag stays as it is, and is no text's.
/// `None`: anything there is.
///
/// # Errors
/// It is no list of tags.
pub(crate) fn expected(if_match: Option<&str>) -> Result<Option<Vec<String>>, Refused> {
    let Some(value) = if_match.filter(|value| value.trim() != "*") else { return Ok(None) };
    match tags(value) {
        Some(tags) => {
            let named = |(weak, tag): Tag<'_>| if weak { format!("W/\"{tag}\"") } else { tag.to_string() };
            Ok(Some(tags.into_iter().map(named).collect()))
        }
        None => {
            let found: String = value.chars().take(80).collect();
            Err(refuse(
                400,
                "If-Match cannot be read",
                format!("found {found:?}"),
                "send the ETag as it came, in its quotes; several with commas between, or * alone",
            ))
        }
    }
}

/// Whether `If-None-Match` names this text (RFC 9110 §13.1.2): a weak tag counts as well. What is no list of tags names nothing.
pub(crate) fn is_known(if_none_match: &str, etag: &str) -> bool {
    if_none_match.trim() == "*"
        || tags(if_none_match).is_some_and(|tags| tags.iter().any(|&(_, tag)| tag == etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_tags_with_commas_between() {
        assert_eq!(tags("\"a\""), Some([(false, "a")].into()));
        let several = [(false, "a"), (true, "b,c"), (false, "")];
        assert_eq!(tags(" ,, \"a\" ,W/\"b,c\",\"\"\t, "), Some(several.into()));
        for wrong in [
            "",
            " , ",
            "a",
            "\"a",
            "a\"",
            "\"a\" \"b\"",
            "\"a\"b",
            "w/\"a\"",
            "W/",
            "\"a\", W/",
            "*, \"a\"",
            "\"a\", *",
        ] {
            assert_eq!(tags(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn if_match_wants_one_of_several_and_no_weak_one() {
        assert_eq!(expected(None), Ok(None));
        assert_eq!(expected(Some(" * ")), Ok(None));
        let all = expected(Some("\"a\", W/\"b\", \"c\"")).unwrap().unwrap();
        assert_eq!(all, ["a", "W/\"b\"", "c"]);
        assert!(!all.iter().any(|tag| tag == "b"), "weak tags never match");
        let refused = expected(Some("0123")).unwrap_err().0;
        assert_eq!((refused.status, refused.detail.as_str()), (400, "found \"0123\""));
    }

    #[test]
    fn if_none_match_knows_weak_ones_too() {
        for list in ["*", "\"a\"", "W/\"a\"", "\"b\", W/\"a\""] {
            assert!(is_known(list, "a"), "{list}");
        }
        for list in ["", "a", "\"b\"", "\"a, b\"", "\"aa\""] {
            assert!(!is_known(list, "a"), "{list}");
        }
    }
}
