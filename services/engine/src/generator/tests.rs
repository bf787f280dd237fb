//! Tests of the generator: limits, alphabets, and evenness.

use std::sync::Mutex;

use keywheel_seal::OsEntropy;
use proptest::prelude::*;

use super::*;

fn spec(length: u32, alphabet: &str, exclude: &str) -> Generator {
    Generator {
        length,
        alphabet: alphabet.to_owned(),
        exclude: exclude.to_owned(),
    }
}

fn text(value: &SecretBytes) -> String {
    // EXPOSE: the test looks at what was generated.
    String::from_utf8(value.expose().to_vec()).unwrap()
}

#[test]
fn length_is_limited_at_both_ends() {
    for length in [MIN_LENGTH, MAX_LENGTH] {
        let value = generate(&spec(length, "", ""), &OsEntropy).unwrap();
        assert_eq!(text(&value).len(), length as usize);
    }
    for length in [0, MAX_LENGTH + 1, u32::MAX] {
        let error = generate(&spec(length, "", ""), &OsEntropy).unwrap_err();
        assert_eq!(error, GenerateError::Length(length));
    }
}

#[test]
fn an_alphabet_with_nothing_left_is_named() {
    let error = generate(&spec(8, "abc", "cba"), &OsEntropy).unwrap_err();
    assert!(
        error.to_string().contains("`abc`") && error.to_string().contains("`cba`"),
        "{error}"
    );
}

#[test]
fn an_alphabet_may_have_256_characters_and_not_one_more() {
    let many = |count: u32| {
        (0..count)
            .filter_map(|n| char::from_u32(0x4e00 + n))
            .collect::<String>()
    };
    let value = generate(&spec(50, &many(256), ""), &OsEntropy).unwrap();
    assert_eq!(text(&value).chars().count(), 50);
    let error = generate(&spec(50, &many(257), ""), &OsEntropy).unwrap_err();
    assert_eq!(error, GenerateError::LargeAlphabet);
}

#[test]
fn excluded_characters_are_never_drawn() {
    let value = generate(&spec(MAX_LENGTH, "", "0O1lI"), &OsEntropy).unwrap();
    assert!(!text(&value).contains(['0', 'O', '1', 'l', 'I']));
}

#[test]
fn two_values_differ() {
    let wanted = spec(32, "", "");
    let (first, second) = (
        generate(&wanted, &OsEntropy).unwrap(),
        generate(&wanted, &OsEntropy).unwrap(),
    );
    assert!(!first.ct_eq(&second));
}

/// Hands out the bytes 0, 1, … 255, 0, 1, …
struct Counting(Mutex<u8>);

impl Entropy for Counting {
    fn fill(&self, buf: &mut [u8]) {
        let mut next = self.0.lock().unwrap();
        for byte in buf {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
    }
}

#[test]
fn every_byte_value_once_gives_every_character_equally_often() {
    // 3 does not divide 256: without rejection the first character would come 86 times.
    let value = generate(&spec(255, "abc", ""), &Counting(Mutex::new(0))).unwrap();
    for drawn in ['a', 'b', 'c'] {
        assert_eq!(text(&value).matches(drawn).count(), 85, "{drawn}");
    }
}

#[test]
fn a_character_named_twice_is_not_more_likely() {
    let value = generate(&spec(256, "aaaab", ""), &Counting(Mutex::new(0))).unwrap();
    assert_eq!(text(&value).matches('a').count(), 128);
}

#[test]
fn the_default_alphabet_is_drawn_evenly() {
    let choices = DEFAULT_ALPHABET.chars().count();
    let mut counts = vec![0_u32; 128];
    let draws = 50 * MAX_LENGTH;
    for _ in 0..50 {
        let value = generate(&spec(MAX_LENGTH, "", ""), &OsEntropy).unwrap();
        for byte in text(&value).bytes() {
            counts[usize::from(byte)] += 1;
        }
    }
    let expected = f64::from(draws) / choices as f64;
    let chi_square: f64 = DEFAULT_ALPHABET
        .bytes()
        .map(|byte| (f64::from(counts[usize::from(byte)]) - expected).powi(2) / expected)
        .sum();
    // Mean is one less than the choices, deviation √(2·mean); eight deviations never happen.
    let mean = choices as f64 - 1.0;
    assert!(
        chi_square < mean + 8.0 * (2.0 * mean).sqrt(),
        "chi-square {chi_square}"
    );
}

proptest! {
    #[test]
    fn any_spec_gives_a_value_that_satisfies_it_or_an_error(
        length in 0_u32..200, alphabet in ".{0,40}", exclude in ".{0,10}",
    ) {
        let wanted = spec(length, &alphabet, &exclude);
        if let Ok(value) = generate(&wanted, &OsEntropy) {
            prop_assert!(satisfies(&value, &wanted));
            prop_assert!(!satisfies(&value, &spec(length + 1, &alphabet, &exclude)));
        }
    }
}

#[test]
fn a_foreign_value_does_not_satisfy_a_spec() {
    let wanted = spec(3, "abc", "c");
    let fits = |bytes: &[u8]| satisfies(&SecretBytes::from(bytes.to_vec()), &wanted);
    assert!(fits(b"aba"));
    assert!(!fits(b"abc") && !fits(b"ab") && !fits(b"") && !fits(&[0xff; 3]));
}
