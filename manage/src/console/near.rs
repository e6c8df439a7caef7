//! What somebody may have meant who typed another word.

use alloc::vec::Vec;

/// The candidate that differs from `word` by the fewest typing errors, if these are few for its length.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 32;
    let word: Vec<char> = word.chars().take(LONGEST + 1).flat_map(plain).collect();
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .map(|candidate| (distance(&word, &candidate.chars().flat_map(plain).collect::<Vec<_>>()), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.chars().count() / 3).clamp(1, 3))
        // A word of the same length with nothing in common is another word.
        .filter(|&(distance, candidate)| distance < candidate.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Case, and the choice between `-` and `_`, are no typing errors here.
fn plain(c: char) -> impl Iterator<Item = char> {
    (if c == '_' { '-' } else { c }).to_lowercase()
}

/// Insertions, deletions, substitutions and swaps of neighbours between `a` and `b` (optimal string
/// alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let words = || ["interfaces", "show", "routes"].into_iter();
        assert_eq!(nearest("interfcaes", words()), Some("interfaces"));
        assert_eq!(nearest("shwo", words()), Some("show"));
        assert_eq!(nearest("neighbors", words()), None);
        assert_eq!(nearest(&"x".repeat(1000), words()), None);
    }
}
