//! How often a client speaks at most, whatever servers answer and links do.

/// Messages at once, and the time after which there is another one: 20 in 20 s (RFC 9915 §14.1).
const BURST: u64 = 20;
const EACH_MS: u64 = 1000;

/// Counts the messages of a client.
#[derive(Default)]
pub(crate) struct Pace {
    /// When the last one would have been sent, had there been no burst, and [`EACH_MS`] later.
    spent_ms: u64,
}

impl Pace {
    /// Counts a message that is to be sent now.
    ///
    /// # Errors
    /// It is too many: when it may be sent.
    pub(crate) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let free_ms = self.spent_ms.saturating_sub((BURST - 1) * EACH_MS);
        if free_ms > now_ms {
            return Err(free_ms);
        }
        self.spent_ms = self.spent_ms.max(now_ms).saturating_add(EACH_MS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_there_is_one_each_second() {
        let mut pace = Pace::default();
        for begin in [5, 1_000_000] {
            assert!((0..20).all(|_| pace.take(begin) == Ok(())));
            for second in 1..100 {
                let due = begin + 1000 * second;
                assert_eq!(
                    (pace.take(due - 1), pace.take(due), pace.take(due)),
                    (Err(due), Ok(()), Err(due + 1000))
                );
            }
        }
    }
}
