//! The command line: words, `--flag` and `--option value`.

use anyhow::{Result, bail};

/// What follows the subcommand.
pub(crate) struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    pub(crate) fn new(words: Vec<String>) -> Arguments {
        Arguments { words }
    }

    /// Whether `name` was given; takes it.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// The word after `name`, or after `name=`; takes both.
    pub(crate) fn option(&mut self, name: &str) -> Result<Option<String>> {
        if let Some(at) = self.words.iter().position(|word| word == name) {
            if at + 1 >= self.words.len() {
                bail!("{name} needs a value");
            }
            self.words.remove(at);
            return Ok(Some(self.words.remove(at)));
        }
        let prefix = format!("{name}=");
        let joined = self.words.iter().position(|word| word.starts_with(&prefix));
        Ok(joined.map(|at| self.words.remove(at)[prefix.len()..].to_owned()))
    }

    /// `option` as a number; `default` if absent.
    pub(crate) fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        match self.option(name)? {
            None => Ok(default),
            Some(text) => match text.replace('_', "").parse() {
                Ok(value) => Ok(value),
                Err(_) => bail!("{name} needs a number, not {text}"),
            },
        }
    }

    /// The next word that is no option.
    pub(crate) fn word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with("--"))?;
        Some(self.words.remove(at))
    }

    /// Fails if anything is left over.
    pub(crate) fn end(self, subcommand: &str) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => bail!("lab {subcommand} knows no {word}; lab {subcommand} --help"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_flags_options_and_words() {
        let mut arguments =
            Arguments::new(["--list", "file", "--seed=7", "--frames", "1_000"].map(str::to_owned).to_vec());
        assert!(arguments.flag("--list") && !arguments.flag("--list"));
        assert_eq!(arguments.number("--frames", 5).unwrap(), 1000);
        assert_eq!(arguments.number("--seed", 5u64).unwrap(), 7);
        assert_eq!(arguments.word().as_deref(), Some("file"));
        assert!(arguments.end("x").is_ok());
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(Arguments::new(vec!["--what".to_owned()]).end("run").is_err());
        assert!(Arguments::new(vec!["--seed".to_owned()]).option("--seed").is_err());
        assert!(Arguments::new(vec!["--seed".to_owned(), "x".to_owned()]).number("--seed", 1).is_err());
    }
}
