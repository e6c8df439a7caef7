//! Bearer tokens and their hashes.
//!
//! A configuration holds a salted Argon2id hash (RFC 9106), as a PHC string. People choose tokens, so the hash is slow; a
//! router may have 16 MiB, so it takes one. It is computed once for each token and boot: see [`Access`](crate::access).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use core::fmt;
use ctutils::CtEq;

/// Memory of a new hash in KiB, passes over it: some milliseconds, and less than the smallest router has free.
const MEMORY_KIB: u32 = 1024;
const PASSES: u32 = 3;
/// What a configuration may ask for: no more than a small router can bear on behalf of whoever knocks.
const MOST_MEMORY_KIB: u32 = 8192;
const MOST_PASSES: u32 = 16;

/// Bytes of salt (RFC 9106 §3.1: 16 are recommended).
pub const SALT: usize = 16;
const OUTPUT: usize = 32;
/// Characters of a token, at least and at most. Sixteen at random are beyond guessing at the rate that is allowed.
pub const SHORTEST: usize = 16;
/// See [`SHORTEST`].
pub const LONGEST: usize = 256;
/// Tokens there can be: whoever shows a wrong one costs a hash for each.
pub const MOST_TOKENS: usize = 16;

/// A token's hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hash {
    memory_kib: u32,
    passes: u32,
    salt: Vec<u8>,
    output: [u8; OUTPUT],
}

/// Memory for a hash was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl Hash {
    /// The hash of a new token.
    ///
    /// # Errors
    /// What is wrong with the token, in one line.
    pub fn of(token: &str, salt: [u8; SALT]) -> Result<Hash, String> {
        let found = token.chars().count();
        if !(SHORTEST..=LONGEST).contains(&found) {
            return Err(format!("found a token of {found} characters, expected {SHORTEST} to {LONGEST}"));
        }
        if let Some(other) = token.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("found {other:?} in the token, expected printable ASCII without blanks"));
        }
        let mut hash =
            Hash { memory_kib: MEMORY_KIB, passes: PASSES, salt: salt.into(), output: [0; OUTPUT] };
        hash.output =
            hash.compute(token).map_err(|NoMemory| String::from("there is no memory for the hash"))?;
        Ok(hash)
    }

    /// Reads a PHC string: `$argon2id$v=19$m=1024,t=3,p=1$salt$hash`.
    ///
    /// # Errors
    /// What was found and what was expected, in one line.
    pub fn parse(text: &str) -> Result<Hash, String> {
        const FORM: &str =
            "expected $argon2id$v=19$m=...,t=...,p=1$SALT$HASH, as weir-check --hash-token prints it";
        let words: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", parameters, salt, output] = words.as_slice() else {
            return Err(FORM.into());
        };
        let parameters: Vec<Option<u32>> = ["m=", "t=", "p="]
            .iter()
            .zip(parameters.split(','))
            .map(|(name, word)| word.strip_prefix(name)?.parse().ok())
            .collect();
        let [Some(memory_kib), Some(passes), Some(1)] = *parameters.as_slice() else {
            return Err(FORM.into());
        };
        if !(64..=MOST_MEMORY_KIB).contains(&memory_kib) || !(1..=MOST_PASSES).contains(&passes) {
            return Err(format!(
                "found m={memory_kib},t={passes}, expected m from 64 to {MOST_MEMORY_KIB} KiB and t from 1 to {MOST_PASSES}"
            ));
        }
        let decode = |word: &str| BASE64.decode(word).ok();
        let salt = decode(salt).filter(|salt| (8..=64).contains(&salt.len())).ok_or(FORM)?;
        let output = decode(output).and_then(|output| output.try_into().ok()).ok_or(FORM)?;
        Ok(Hash { memory_kib, passes, salt, output })
    }

    /// Whether `token` is the one. Some milliseconds of work, in as much memory as the hash says.
    ///
    /// # Errors
    /// There is not as much memory.
    pub fn verify(&self, token: &str) -> Result<bool, NoMemory> {
        Ok(self.compute(token)?.ct_eq(&self.output).to_bool())
    }

    fn compute(&self, token: &str) -> Result<[u8; OUTPUT], NoMemory> {
        let params = Params::new(self.memory_kib, self.passes, 1, Some(OUTPUT)).map_err(|_| NoMemory)?;
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(params.block_count()).map_err(|_| NoMemory)?;
        blocks.resize(params.block_count(), Block::new());
        let mut output = [0; OUTPUT];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // Lengths are within what Argon2 takes, so nothing else can go wrong.
        argon2
            .hash_password_into_with_memory(token.as_bytes(), &self.salt, &mut output, &mut blocks[..])
            .map_err(|_| NoMemory)?;
        Ok(output)
    }
}

impl fmt::Display for Hash {
    /// The PHC string.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hash { memory_kib, passes, salt, output } = self;
        let (salt, output) = (BASE64.encode(salt), BASE64.encode(output));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${output}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_hash_knows_its_token_and_survives_the_configuration() {
        let hash = Hash::of("correct-horse-battery", [7; SALT]).unwrap();
        let read = Hash::parse(&hash.to_string()).unwrap();
        assert_eq!(read, hash);
        assert_eq!(read.verify("correct-horse-battery"), Ok(true));
        assert_eq!(read.verify("correct-horse-batterx"), Ok(false));
        assert_ne!(Hash::of("correct-horse-battery", [8; SALT]).unwrap().output, hash.output);
    }

    #[test]
    fn agrees_with_the_reference_implementation() {
        // echo -n correct-horse-battery | argon2 saltsaltsaltsalt -id -v 13 -k 1024 -t 3 -p 1 -l 32 -e
        let hash = "$argon2id$v=19$m=1024,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$Pv9Y76c+Jnos+z8GF2SC3HvHZN6DvIST0yHKRNKE8YE";
        assert_eq!(Hash::parse(hash).unwrap().verify("correct-horse-battery"), Ok(true));
        assert_eq!(Hash::of("correct-horse-battery", *b"saltsaltsaltsalt").unwrap().to_string(), hash);
    }

    #[test]
    fn what_is_no_hash_says_what_one_looks_like() {
        let good = Hash::of("0123456789abcdef", [1; SALT]).unwrap().to_string();
        for (from, to) in [("argon2id", "argon2i"), ("v=19", "v=16"), ("p=1", "p=2"), ("m=", "k=")] {
            let wrong = Hash::parse(&good.replace(from, to)).unwrap_err();
            assert!(wrong.starts_with("expected $argon2id$v=19"), "{wrong}");
        }
        assert!(
            Hash::parse(&good.replace("m=1024", "m=1000000")).unwrap_err().starts_with("found m=1000000")
        );
        assert!(Hash::parse(&good[..good.len() - 5]).is_err() && Hash::parse("").is_err());
    }

    #[test]
    fn short_and_unprintable_tokens_are_refused() {
        assert_eq!(
            Hash::of("secret", [0; SALT]).unwrap_err(),
            "found a token of 6 characters, expected 16 to 256"
        );
        assert!(Hash::of("0123456789 abcdef", [0; SALT]).is_err());
    }
}
