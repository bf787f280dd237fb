//! Makes values: characters drawn evenly from an alphabet.
//!
//! Invariants: every allowed character is equally likely (rejection sampling, and a character named
//! twice counts once); buffers that held randomness or value are overwritten. Limits are the core's.

use std::collections::BTreeSet;

use keywheel_core::secret::{DEFAULT_ALPHABET, Generator, MAX_ALPHABET, MAX_LENGTH, MIN_LENGTH};
use keywheel_seal::{Entropy, SecretBytes};
use zeroize::Zeroizing;

/// Random bytes drawn at once.
const BATCH_BYTES: usize = 64;
/// The longest character in UTF-8.
const MAX_CHAR_BYTES: usize = 4;

/// No value can be made like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Too short or too long.
    #[error(
        "a generated value has {MIN_LENGTH} to {MAX_LENGTH} characters, not {0}; change the generator's length"
    )]
    Length(u32),
    /// Nothing left to draw from.
    #[error(
        "no character is left of alphabet `{alphabet}` after excluding `{exclude}`; exclude fewer"
    )]
    EmptyAlphabet {
        /// The alphabet.
        alphabet: String,
        /// What was excluded.
        exclude: String,
    },
    /// More characters than a byte can choose from.
    #[error("an alphabet has at most {MAX_ALPHABET} different characters; name fewer")]
    LargeAlphabet,
}

/// Makes a value as `spec` says.
///
/// # Errors
/// [`GenerateError`] when length or alphabet are outside the limits.
pub fn generate(spec: &Generator, entropy: &dyn Entropy) -> Result<SecretBytes, GenerateError> {
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&spec.length) {
        return Err(GenerateError::Length(spec.length));
    }
    let alphabet = allowed(spec)?;
    // The room is taken at once: a grown buffer would leave a copy behind.
    let mut value = Vec::with_capacity(spec.length as usize * MAX_CHAR_BYTES);
    let mut encoded = Zeroizing::new([0; MAX_CHAR_BYTES]);
    let mut left = spec.length;
    let mut batch = Zeroizing::new([0; BATCH_BYTES]);
    while left > 0 {
        entropy.fill(&mut *batch);
        for byte in batch
            .iter()
            .filter(|byte| usize::from(**byte) < fair_limit(alphabet.len()))
        {
            if left == 0 {
                break;
            }
            let drawn = alphabet[usize::from(*byte) % alphabet.len()];
            value.extend_from_slice(drawn.encode_utf8(&mut *encoded).as_bytes());
            left -= 1;
        }
    }
    Ok(SecretBytes::from(value))
}

/// Whether a value could have come from `spec`.
#[must_use]
pub fn satisfies(value: &SecretBytes, spec: &Generator) -> bool {
    // EXPOSE: each character is compared with the alphabet.
    let Ok(text) = std::str::from_utf8(value.expose()) else {
        return false;
    };
    let Ok(alphabet) = allowed(spec) else {
        return false;
    };
    text.chars().count() == spec.length as usize
        && text.chars().all(|drawn| alphabet.contains(&drawn))
}

/// The different characters that may be drawn, in order.
fn allowed(spec: &Generator) -> Result<Vec<char>, GenerateError> {
    let alphabet = if spec.alphabet.is_empty() {
        DEFAULT_ALPHABET
    } else {
        &spec.alphabet
    };
    let excluded: BTreeSet<char> = spec.exclude.chars().collect();
    let allowed: BTreeSet<char> = alphabet
        .chars()
        .filter(|drawn| !excluded.contains(drawn))
        .collect();
    if allowed.is_empty() {
        let (alphabet, exclude) = (alphabet.to_owned(), spec.exclude.clone());
        return Err(GenerateError::EmptyAlphabet { alphabet, exclude });
    }
    if allowed.len() > MAX_ALPHABET {
        return Err(GenerateError::LargeAlphabet);
    }
    Ok(allowed.into_iter().collect())
}

/// The largest multiple of `choices` a byte can reach; a byte at or over it would favour the first.
fn fair_limit(choices: usize) -> usize {
    256 - 256 % choices
}

#[cfg(test)]
mod tests;
