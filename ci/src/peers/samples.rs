//! Samples of programs that take turns.

use anyhow::{Context, Result};

use super::program::Program;

/// Samples of a turn that count; the one before them warms the caches up again.
const TURN: usize = 4;

/// Nanoseconds: the quickest sample, which is the least disturbed one, and the median.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) best: f64,
    pub(super) median: f64,
}

impl Figure {
    pub(super) fn of(mut samples: Vec<f64>) -> Result<Figure> {
        samples.sort_by(f64::total_cmp);
        let best = *samples.first().context("no samples")?;
        Ok(Figure { best, median: samples[samples.len() / 2] })
    }

    pub(super) fn times(self, factor: f64) -> Figure {
        Figure { best: self.best * factor, median: self.median * factor }
    }

    /// What is left of it without `other`.
    pub(super) fn less(self, other: Figure) -> Figure {
        Figure { best: self.best - other.best, median: self.median - other.median }
    }
}

/// Asks each program `turns` times, in turn, so that what else the machine does disturbs all alike.
/// Each with what it is asked, where `#` stands for the number of samples.
pub(super) fn in_turn(programs: &mut [(&mut Program, &str)], turns: usize) -> Result<Vec<Figure>> {
    in_turn_of::<1>(programs, turns)?.into_iter().map(|[samples]| Figure::of(samples)).collect()
}

/// The same where a sample has `N` numbers: all of each program, and each of the `N`.
pub(super) fn in_turn_of<const N: usize>(
    programs: &mut [(&mut Program, &str)],
    turns: usize,
) -> Result<Vec<[Vec<f64>; N]>> {
    let mut samples = vec![[const { Vec::new() }; N]; programs.len()];
    for _ in 0..turns {
        for ((program, request), samples) in programs.iter_mut().zip(&mut samples) {
            let answer = program.ask(&request.replace('#', &(TURN + 1).to_string()))?;
            for numbers in answer.chunks_exact(N).skip(1) {
                samples.iter_mut().zip(numbers).for_each(|(samples, number)| samples.push(*number));
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_and_the_middle_one_count() {
        let figure = Figure::of(vec![3.0, 1.0, 2.0, 9.0, 4.0]).unwrap();
        assert_eq!((figure.best, figure.median), (1.0, 3.0));
        assert!(Figure::of(Vec::new()).is_err());
    }

    #[test]
    fn programs_take_turns_and_the_first_sample_of_each_is_left_out() {
        // Answers with falling numbers: the first, 100, counts nowhere.
        let script = "echo ready; while read what n; do echo 100 $what 5 6 7; done";
        let start = || {
            let mut command = std::process::Command::new("sh");
            Program::start(command.args(["-c", script])).unwrap().ready().unwrap()
        };
        let (mut one, mut two) = (start(), start());
        let figures = in_turn(&mut [(&mut one, "4 #"), (&mut two, "4 #")], 3).unwrap();
        assert_eq!(figures.len(), 2);
        assert_eq!((figures[1].best, figures[1].median), (4.0, 6.0));
    }
}
