//! What the plane refuses: each with its cause and its cure (RFC 9457).

use crate::model::{ConfigError, Problem};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A refusal. In a box: it is rare, and long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused(pub Box<Problem>);

impl core::fmt::Display for Refused {
    /// As the console says it: the errors, or the cause and the cure.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Problem { detail, cure, .. } = &*self.0;
        writeln!(f, "{detail}; {cure}")
    }
}

impl Refused {
    /// The same, of a text that is wrong at this column.
    #[must_use]
    pub fn at(mut self, column: usize) -> Self {
        self.0.column = Some(column as u64);
        self
    }
}

/// A refusal with this HTTP status.
pub fn refuse(status: u16, title: &str, detail: impl Into<String>, cure: impl Into<String>) -> Refused {
    let (title, detail, cure) = (title.into(), detail.into(), cure.into());
    Refused(Box::new(Problem { title, status, detail, cure, column: None, errors: Vec::new() }))
}

/// The text has errors.
pub fn invalid(errors: Vec<ConfigError>) -> Refused {
    let count = errors.len();
    let detail = match &*errors {
        [] => "the router refuses it without a reason".into(),
        [ConfigError { key, message, .. }] if key.is_empty() => message.clone(),
        [ConfigError { key, message, .. }] => format!("{key}: {message}"),
        [ConfigError { key, message, .. }, ..] => format!("{count} errors, the first: {key}: {message}"),
    };
    let cure = "mend each error and send the whole text again; the configuration in force is as it was";
    let mut refused = refuse(422, "The configuration has errors", detail, cure);
    refused.0.errors = errors;
    refused
}

/// `If-Match` names another text than the one in force.
pub fn changed_meanwhile(expected: &[String], running: &str) -> Refused {
    refuse(
        412,
        "The configuration is another one by now",
        format!("If-Match says {}, and {running} is in force", expected.join(" or ")),
        "GET /api/v1/config, make the change there and send it with the ETag that came with it",
    )
}

/// `If-Match` of a commit names another candidate.
pub fn other_candidate(expected: &[String], candidate: &str) -> Refused {
    refuse(
        412,
        "The candidate is another one by now",
        format!("If-Match says {}, and the candidate is {candidate}", expected.join(" or ")),
        "GET /api/v1/config/candidate to see it, or PUT /api/v1/config to replace it",
    )
}

/// The candidate was made for another text.
pub fn outdated(replaces: &str, running: &str) -> Refused {
    refuse(
        409,
        "The configuration changed since the candidate was made",
        format!("the candidate replaces {replaces}, and {running} is in force"),
        "GET /api/v1/config, make the change there and PUT it again",
    )
}

/// There is nothing to commit.
pub fn no_candidate() -> Refused {
    refuse(409, "There is no candidate", "nothing was put since the last commit", "PUT /api/v1/config first")
}

/// There is nothing to discard.
pub fn nothing_to_discard() -> Refused {
    refuse(
        404,
        "There is no candidate",
        "nothing was put since the last commit",
        "nothing is left to be done",
    )
}

/// Another version waits to be confirmed.
pub fn pending(version: u64, by: &str, seconds: u64) -> Refused {
    refuse(
        409,
        "A commit waits to be confirmed",
        format!("version {version} by {by} waits to be confirmed, for {seconds} s more"),
        "POST /api/v1/config/confirm to keep it, POST /api/v1/config/revert to take it back, or wait",
    )
}

/// No version waits to be confirmed.
pub fn nothing_pending() -> Refused {
    refuse(
        409,
        "Nothing waits to be confirmed",
        "the configuration in force was confirmed, reverted, or committed without confirm",
        "GET /api/v1/config/history says what became of it",
    )
}

/// No such version.
pub fn no_version(version: u64, newest: u64) -> Refused {
    refuse(
        404,
        "There is no such version",
        format!("version {version} is not among those remembered; the newest is {newest}"),
        "GET /api/v1/config/history lists them",
    )
}

/// Its text was given up.
pub fn not_kept(version: u64) -> Refused {
    refuse(
        409,
        "The version's text is not kept any more",
        format!(
            "version {version} is too old: texts are kept up to {} KiB",
            crate::configurations::KEPT_BYTES >> 10
        ),
        "PUT /api/v1/config with a copy of your own",
    )
}
