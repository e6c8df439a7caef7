//! Figures that must not get worse: recorded in a text file beside the lab, compared by later runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A figure may be this much over its record (parts of 1).
const TOLERANCE: f64 = 0.03;

/// Names and figures, lower is better.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, f64>);

/// What to do with measured figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Show,
    Record,
    Check,
}

/// The file of guest instructions.
pub(crate) fn file() -> Result<PathBuf> {
    Ok(crate::router::workspace()?.join("ci/instructions.txt"))
}

impl Figures {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let head = "# Guest instructions of the router image, one CPU, QEMU -icount: `make bench-record`. `make preflight` fails when\n\
                    # one is more than 3 % higher, and says so when one is more than 3 % lower.\n";
        let lines: String = self.0.iter().map(|(name, value)| format!("{name} {value:.0}\n")).collect();
        std::fs::write(path, format!("{head}{lines}")).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn read(path: &Path) -> Result<Figures> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("no record at {}: make bench-record", path.display()))?;
        let mut figures = Figures::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) =
                line.split_once(' ').with_context(|| format!("{}: {line:?}", path.display()))?;
            figures.0.insert(
                name.to_owned(),
                value.parse().with_context(|| format!("{}: {line:?}", path.display()))?,
            );
        }
        Ok(figures)
    }

    /// Compares with what is `recorded`, prints what is to be done; whether nothing got worse.
    pub(crate) fn check(&self, recorded: &Figures) -> bool {
        let found = self.compare(recorded);
        for line in &found.better {
            println!("better  {line}");
        }
        for line in &found.worse {
            println!("FAIL    {line}");
        }
        match (found.worse.is_empty(), found.better.is_empty()) {
            (true, true) => println!("every count is within {} of its record", Percent(TOLERANCE)),
            (true, false) => {
                println!(
                    "make bench-record, and commit ci/instructions.txt: the gain is guarded from then on"
                );
            }
            (false, _) => {
                println!(
                    "make it cheaper; if the cost is wanted, make bench-record and say why in the commit"
                );
            }
        }
        found.worse.is_empty()
    }

    /// Each figure that is further from its record than the tolerance, in words.
    fn compare(&self, recorded: &Figures) -> Comparison {
        let mut found = Comparison::default();
        for (name, was) in &recorded.0 {
            let Some(value) = self.0.get(name) else {
                found.worse.push(format!("{name}: recorded as {was:.0}, not measured"));
                continue;
            };
            let share = value / was - 1.0;
            if share > TOLERANCE {
                found
                    .worse
                    .push(format!("{name}: {value:.0}, {} over the recorded {was:.0}", Percent(share)));
            } else if share < -TOLERANCE {
                found
                    .better
                    .push(format!("{name}: {value:.0}, {} under the recorded {was:.0}", Percent(-share)));
            }
        }
        for (name, value) in self.0.iter().filter(|(name, _)| !recorded.0.contains_key(*name)) {
            found.worse.push(format!("{name}: {value:.0}, not recorded"));
        }
        found
    }
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq)]
struct Comparison {
    worse: Vec<String>,
    better: Vec<String>,
}

/// Parts of 1 as a percentage.
struct Percent(f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} %", self.0 * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, f64)]) -> Figures {
        Figures(pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    #[test]
    fn names_what_moved_and_keeps_quiet_within_the_tolerance() {
        let recorded = figures(&[("a", 1000.0), ("b", 1000.0), ("c", 5.0), ("d", 1000.0), ("e", 1000.0)]);
        let now = figures(&[("a", 1029.0), ("b", 1031.0), ("d", 971.0), ("e", 969.0), ("f", 7.0)]);
        let found = now.compare(&recorded);
        let worse =
            ["b: 1031, 3.1 % over the recorded 1000", "c: recorded as 5, not measured", "f: 7, not recorded"];
        assert_eq!(found.worse, worse);
        assert_eq!(found.better, ["e: 969, 3.1 % under the recorded 1000"]);
    }

    #[test]
    fn only_what_got_worse_fails() {
        let recorded = figures(&[("a", 1000.0)]);
        assert!(figures(&[("a", 1029.0)]).check(&recorded));
        assert!(figures(&[("a", 10.0)]).check(&recorded));
        assert!(!figures(&[("a", 1031.0)]).check(&recorded));
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let path = std::env::temp_dir().join(crate::cleanup::name("figures"));
        let figures = Figures([("ready".to_owned(), 3_712_345.0)].into());
        figures.write(&path).unwrap();
        assert_eq!(Figures::read(&path).unwrap(), figures);
        std::fs::remove_file(path).unwrap();
    }
}
