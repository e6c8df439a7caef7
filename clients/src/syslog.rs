//! Lines of the log as syslog messages (RFC 5424), one a datagram (RFC 5426).

#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write as _};

/// The longest message: with its headers it fits every IPv6 link (RFC 5426 §3.2).
pub const LONGEST: usize = 1180;
/// System daemons (RFC 5424 §6.2.1).
const FACILITY: u8 = 3;

/// How much a message matters (RFC 5424 §6.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Something does not work.
    Error = 3,
    /// Something works less well than it should.
    Warning = 4,
    /// What an operator wants to see.
    Informational = 6,
    /// What a developer wants to see.
    Debug = 7,
}

/// A message; `at_us` is microseconds since 1970, if the time is known.
pub fn message(severity: Severity, at_us: Option<u64>, hostname: &str, text: &str) -> String {
    let mut out = format!("<{}>1 ", FACILITY * 8 + severity as u8);
    match at_us {
        Some(at_us) => _ = write!(out, "{}", Time(at_us)),
        None => out.push('-'),
    }
    let hostname = if hostname.is_empty() { "-" } else { hostname };
    let _ = write!(out, " {hostname} weir - - - ");
    // Control characters are no text: a line stays a line.
    out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    if out.len() > LONGEST {
        out.truncate(out.floor_char_boundary(LONGEST));
    }
    out
}

/// Microseconds since 1970 as people and RFC 3339 write them, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, us) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Howard Hinnant's days_from_civil, backwards: years begin in March, 400 of them are an era.
        let day = days + 719_468;
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z",
            year + era * 400 + next
        )
    }
}
