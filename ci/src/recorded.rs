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
        let head = "# Guest instructions of the router image, one CPU, QEMU -icount: `lab bench --instructions --record`.\n\
                    # `--check` fails when one is more than 3 % higher.\n";
        let lines: String = self.0.iter().map(|(name, value)| format!("{name} {value:.0}\n")).collect();
        std::fs::write(path, format!("{head}{lines}")).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn read(path: &Path) -> Result<Figures> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("no record at {}: lab bench --instructions --record", path.display()))?;
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

    /// Each figure that is worse than its record in `self`, in words.
    pub(crate) fn worse(&self, now: &Figures) -> Vec<String> {
        let mut found = Vec::new();
        for (name, recorded) in &self.0 {
            match now.0.get(name) {
                None => found.push(format!("{name}: recorded as {recorded:.0}, not measured")),
                Some(value) if *value > recorded * (1.0 + TOLERANCE) => {
                    let percent = (value / recorded - 1.0) * 100.0;
                    found.push(format!("{name}: {value:.0}, {percent:.1} % over the recorded {recorded:.0}"));
                }
                Some(_) => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_grew_and_keeps_quiet_within_the_tolerance() {
        let figures = |pairs: &[(&str, f64)]| {
            Figures(pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
        };
        let recorded = figures(&[("a", 1000.0), ("b", 1000.0), ("c", 5.0)]);
        let worse = recorded.worse(&figures(&[("a", 1029.0), ("b", 1031.0)]));
        assert_eq!(worse, ["b: 1031, 3.1 % over the recorded 1000", "c: recorded as 5, not measured"]);
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
