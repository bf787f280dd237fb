//! Bytes as no sender of ours makes them, for every reader of bytes from outside: cut, changed,
//! doubled, nested, oversized, random. The same ones each time, and quick.
//!
//! A reader passes when it comes back from all of them, without a panic and bounded, and reads what
//! is right afterwards.

/// How many places of a valid text are changed or cut.
const PLACES: usize = 256;
/// How many random texts are tried.
const RANDOM: u64 = 64;
/// How long a random text is at most.
const RANDOM_BYTES: usize = 300;
/// How deep brackets are nested.
const DEPTH: usize = 100_000;
/// What a byte becomes.
const BYTES: [u8; 6] = [0, 0x7f, 0xff, b'"', b'{', b'9'];

/// Has a reader take bytes that are wrong in every way we know of, beginning with what `valid` holds.
pub fn hostile(valid: &[u8], mut read: impl FnMut(&[u8])) {
    read(&[]);
    let step = (valid.len() / PLACES).max(1);
    for at in (0..valid.len()).step_by(step) {
        read(valid.get(..at).unwrap_or_default());
        read(valid.get(at..).unwrap_or_default());
        for byte in BYTES {
            let mut changed = valid.to_vec();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            read(&changed);
        }
        let mut doubled = valid.to_vec();
        doubled.splice(at..at, valid.iter().copied());
        read(&doubled);
        let mut longer = valid.to_vec();
        longer.insert(at, b'\n');
        read(&longer);
    }
    for nested in [
        b"[".as_slice(),
        b"{\"a\":",
        b"\"",
        b"\xc3",
        b"9",
        b"\n",
        b"- ",
    ] {
        read(&nested.repeat(DEPTH));
    }
    for number in ["1e999999", "-1", "18446744073709551616", "0.1", "NaN"] {
        read(&replace_numbers(valid, number));
    }
    for seed in 1..=RANDOM {
        read(&random(seed));
    }
}

/// Every run of digits becomes another number.
fn replace_numbers(valid: &[u8], number: &str) -> Vec<u8> {
    let mut changed = Vec::with_capacity(valid.len());
    let mut in_number = false;
    for byte in valid {
        let is_digit = byte.is_ascii_digit();
        match (is_digit, in_number) {
            (true, false) => changed.extend_from_slice(number.as_bytes()),
            (true, true) => {}
            (false, _) => changed.push(*byte),
        }
        in_number = is_digit;
    }
    changed
}

/// Bytes of Marsaglia's xorshift, the same for each seed.
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = usize::try_from(next()).unwrap_or_default() % RANDOM_BYTES;
    (0..length).map(|_| next().to_le_bytes()[3]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tries_nothing_the_valid_text_and_many_others() {
        let mut seen = Vec::new();
        hostile(b"{\"a\":12}", |bytes| seen.push(bytes.to_vec()));
        let has = |text: &str| seen.iter().any(|bytes| bytes == text.as_bytes());
        for text in ["", "{\"a\"", "{\"a\":-1}", "{\"a\":92}", "\"a\":12}"] {
            assert!(has(text), "{text}");
        }
        assert!(seen.len() > 150 && seen.iter().any(|bytes| bytes.len() >= DEPTH));
        let mut again = Vec::new();
        hostile(b"{\"a\":12}", |bytes| again.push(bytes.to_vec()));
        assert_eq!(seen, again, "the same ones each time");
    }
}
