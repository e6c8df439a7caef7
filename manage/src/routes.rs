//! What the API serves: one table, from which requests find their way and the OpenAPI document is made.

use crate::capture;
use crate::model::{
    Committed, ConfigVersion, Cpus, Event, Explanation, Field, Interface, InterfaceLoss, LogLine, Neighbor,
    Plan, Recorded, Routes, Schema, Status,
};
use alloc::vec::Vec;

/// An HTTP method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Reads.
    Get,
    /// Replaces.
    Put,
    /// Does something.
    Post,
    /// Removes.
    Delete,
}

impl Method {
    /// As in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// The router as a whole.
    Status,
    /// Its interfaces.
    Interfaces,
    /// Its routes.
    Routes,
    /// Its neighbours.
    Neighbors,
    /// What it lost.
    Drops,
    /// Packets as they pass.
    Capture,
    /// What becomes of a packet.
    Explain,
    /// Its CPUs, queue pairs, sockets, tasks and locks.
    Cpus,
    /// The end of its log.
    Log,
    /// What happens, as it happens.
    Events,
    /// The configuration in force.
    Config,
    /// A new candidate.
    Put,
    /// The candidate.
    Candidate,
    /// No candidate.
    Discard,
    /// The candidate in force.
    Commit,
    /// A commit that stays.
    Confirm,
    /// A commit taken back.
    Revert,
    /// A former version as candidate.
    Rollback,
    /// All versions.
    History,
    /// This table, as OpenAPI document.
    OpenApi,
    /// All counters, for Prometheus.
    Metrics,
}

/// What a successful request answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// JSON, or text for people if they accept that.
    Model(Schema),
    /// A configuration, with its fingerprint as ETag.
    Configuration,
    /// A stream of events of this type.
    Stream(Schema),
    /// As [`Model`](Self::Model), the second with the query, the first without.
    Either(Schema, Schema),
    /// pcapng, without end.
    Capture,
    /// JSON of its own kind.
    OpenApi,
    /// OpenMetrics text.
    Metrics,
    /// Nothing.
    Nothing,
}

/// A number, or a text, in a request's query.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Whether it is a text.
    pub text: bool,
    /// The least and the most; of a text, its bytes.
    pub range: (u64, u64),
    /// What counts if it is not given; `None`: it has to be, or stands for nothing.
    pub default: Option<u64>,
    /// Whether it has to be given.
    pub needed: bool,
}

/// A method of a path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// The same for people.
    pub doc: &'static str,
    /// Its query.
    pub query: &'static [Query],
    /// What it answers.
    pub answer: Answer,
    /// Statuses of refusals that are its own.
    pub refusals: &'static [u16],
}

/// Refusals that every route knows: a query that cannot be, no token, nobody may, too many wrong ones, no memory.
pub const REFUSALS: &[u16] = &[400, 401, 403, 429, 503];

const fn get(path: &'static str, operation: Operation, answer: Answer, doc: &'static str) -> Route {
    Route { method: Method::Get, path, operation, doc, query: &[], answer, refusals: &[] }
}

const fn from(doc: &'static str) -> Query {
    Query { default: Some(0), ..number("from", doc, (0, u64::MAX)) }
}

const fn number(name: &'static str, doc: &'static str, range: (u64, u64)) -> Query {
    Query { name, doc, text: false, range, default: None, needed: false }
}

const fn text(name: &'static str, doc: &'static str, longest: u64) -> Query {
    Query { text: true, ..number(name, doc, (0, longest)) }
}

/// Entries of the flight recorder in one answer, at most.
pub const LAST: u64 = 1000;
/// Routes in one answer, unless it says how many, and at most.
const ROUTES_AT_ONCE: (u64, u64) = (1000, 10_000);

/// All of them.
pub const ROUTES: &[Route] = &[
    get("/api/v1/status", Operation::Status, Answer::Model(Status::SCHEMA), "The router as a whole."),
    get(
        "/api/v1/interfaces",
        Operation::Interfaces,
        Answer::Model(<Vec<Interface>>::SCHEMA),
        "The interfaces, in the configuration's order.",
    ),
    Route {
        query: &[
            Query { default: Some(0), ..number("offset", "Routes to skip.", (0, u64::MAX)) },
            Query {
                default: Some(ROUTES_AT_ONCE.0),
                ..number("limit", "Routes at most.", (1, ROUTES_AT_ONCE.1))
            },
        ],
        ..get(
            "/api/v1/routes",
            Operation::Routes,
            Answer::Model(Routes::SCHEMA),
            "The routes, some at a time.",
        )
    },
    get(
        "/api/v1/neighbors",
        Operation::Neighbors,
        Answer::Model(<Vec<Neighbor>>::SCHEMA),
        "The neighbours on all links (ARP, ND).",
    ),
    Route {
        query: &[number(
            "last",
            "The last losses and changes instead, the newest first: so many.",
            (1, LAST),
        )],
        ..get(
            "/api/v1/drops",
            Operation::Drops,
            Answer::Either(<Vec<InterfaceLoss>>::SCHEMA, <Vec<Recorded>>::SCHEMA),
            "Packets lost, by interface and reason; or the flight recorder.",
        )
    },
    Route {
        query: &[
            text("interface", "An interface, with those on VLANs of it; without it all.", 64),
            text("filter", "Which packets: an expression of pcap-filter(7).", capture::LONGEST_FILTER),
            Query {
                default: Some(capture::SNAPLEN.0),
                ..number("snaplen", "Bytes to keep of a packet at most.", (1, capture::SNAPLEN.1))
            },
            text("direction", "`in`, `out`, `drop`, or several with commas between; without it all.", 32),
            number("limit", "Packets after which it ends.", (1, u64::MAX)),
            Query {
                default: Some(capture::BUFFER_KIB.1),
                ..number(
                    "buffer",
                    "KiB of memory for each CPU, for packets that wait to be sent.",
                    (capture::BUFFER_KIB.0, capture::BUFFER_KIB.2),
                )
            },
        ],
        refusals: &[404, 409],
        ..get(
            "/api/v1/capture",
            Operation::Capture,
            Answer::Capture,
            "Packets as they pass, as pcapng, until the reader leaves.",
        )
    },
    Route {
        query: &[
            text(
                "packet",
                "As the console's `explain` takes it: `lan from 10.0.1.2 to 192.0.2.2 protocol udp port 53`.",
                3000,
            ),
            text("candidate", "`true`: as it would be with the candidate in force.", 5),
        ],
        refusals: &[404, 422],
        ..get(
            "/api/v1/explain",
            Operation::Explain,
            Answer::Model(Explanation::SCHEMA),
            "What becomes of a packet, and why; none is sent.",
        )
    },
    get(
        "/api/v1/cpus",
        Operation::Cpus,
        Answer::Model(Cpus::SCHEMA),
        "The CPUs, queue pairs, sockets, tasks and locks.",
    ),
    Route {
        query: &[from("Lines with a lower number are left out.")],
        ..get("/api/v1/log", Operation::Log, Answer::Model(<Vec<LogLine>>::SCHEMA), "The end of the log.")
    },
    Route {
        query: &[from("Events with a lower number are left out.")],
        ..get(
            "/api/v1/events",
            Operation::Events,
            Answer::Stream(Event::SCHEMA),
            "What happens, as it happens, as server-sent events; the last ones first.",
        )
    },
    Route {
        refusals: &[304],
        ..get("/api/v1/config", Operation::Config, Answer::Configuration, "The whole configuration in force.")
    },
    Route {
        method: Method::Put,
        refusals: &[411, 412, 413, 422],
        ..get(
            "/api/v1/config",
            Operation::Put,
            Answer::Model(Plan::SCHEMA),
            "Makes the body, a whole configuration, the candidate; says what it would change. With If-Match only if one \
             of its tags is the ETag of the one in force.",
        )
    },
    Route {
        refusals: &[304, 404],
        ..get("/api/v1/config/candidate", Operation::Candidate, Answer::Configuration, "The whole candidate.")
    },
    Route {
        method: Method::Delete,
        refusals: &[404],
        ..get("/api/v1/config/candidate", Operation::Discard, Answer::Nothing, "Forgets the candidate.")
    },
    Route {
        method: Method::Post,
        query: &[number(
            "confirm",
            "Seconds until it is reverted by itself, unless it is confirmed.",
            (1, crate::configurations::LONGEST_CONFIRM),
        )],
        refusals: &[409, 412, 422],
        ..get(
            "/api/v1/config/commit",
            Operation::Commit,
            Answer::Model(Committed::SCHEMA),
            "Puts the candidate in force, as one snapshot. With If-Match only if one of its tags is the candidate's \
             ETag.",
        )
    },
    Route {
        method: Method::Post,
        refusals: &[409],
        ..get(
            "/api/v1/config/confirm",
            Operation::Confirm,
            Answer::Model(ConfigVersion::SCHEMA),
            "Keeps the commit that waits to be confirmed.",
        )
    },
    Route {
        method: Method::Post,
        refusals: &[409, 422],
        ..get(
            "/api/v1/config/revert",
            Operation::Revert,
            Answer::Model(ConfigVersion::SCHEMA),
            "Takes back the commit that waits to be confirmed.",
        )
    },
    Route {
        method: Method::Post,
        query: &[Query { needed: true, ..number("version", "Which version.", (1, u64::MAX)) }],
        refusals: &[404, 409, 422],
        ..get(
            "/api/v1/config/rollback",
            Operation::Rollback,
            Answer::Model(Plan::SCHEMA),
            "Makes the text of a former version the candidate.",
        )
    },
    get(
        "/api/v1/config/history",
        Operation::History,
        Answer::Model(<Vec<ConfigVersion>>::SCHEMA),
        "The last 50 versions with what each changed, the newest first.",
    ),
    get("/api/v1/openapi.json", Operation::OpenApi, Answer::OpenApi, "This document."),
    get("/metrics", Operation::Metrics, Answer::Metrics, "All counters, as OpenMetrics text."),
];
