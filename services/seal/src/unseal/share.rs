//! Shares of a wrapping key (Shamir over GF(256)), and the text in which a person keeps and types one.
//!
//! The text is `KWS1-` and groups of five characters of Crockford's base 32, which has no letters that are
//! taken for digits: format, number, threshold, set, 32 bytes, checksum. Invariants: a mistyped text is no
//! share (32 bits of checksum); a share is known by its check, which tells nothing about it; less than
//! `threshold` of them tell nothing about the key.

use std::fmt;

use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use super::WrapError;
use crate::digest;
use crate::entropy::{self, Entropy};
use crate::envelope::UnsealKey;
use crate::hazmat::{self, KEY_BYTES, Key};
use crate::hpke::Rng;
use crate::secret::SecretBytes;

/// One share alone is never enough.
pub const MIN_THRESHOLD: u8 = 2;
/// The most shares of one set.
pub const MAX_SHARES: u8 = 16;
/// How a share's text begins.
const PREFIX: &str = "KWS1";
/// The form of what follows.
const FORM: u8 = 1;
/// Bytes of a set's name.
const SET_BYTES: usize = 4;
/// Bytes of the checksum.
const SUM_BYTES: usize = 4;
/// Form, number, threshold, set, key.
const BODY_BYTES: usize = 3 + SET_BYTES + KEY_BYTES;
/// All bytes of a text.
const TEXT_BYTES: usize = BODY_BYTES + SUM_BYTES;
/// Characters of these.
const TEXT_CHARS: usize = (TEXT_BYTES * 8).div_ceil(5);
/// Characters between two hyphens.
const GROUP: usize = 5;
/// Crockford's digits.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The text is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a share: it is mistyped or not whole")]
pub struct BadShare;

/// Which set a share belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetId([u8; SET_BYTES]);

impl SetId {
    /// A stored one.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; SET_BYTES] {
        self.0
    }
}

/// What a share is known by: made under the share itself, so only who has it can make it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShareCheck([u8; 32]);

impl ShareCheck {
    /// A stored one.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Compares in time that does not depend on where they differ.
    #[must_use]
    pub(super) fn ct_eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}

impl fmt::Debug for ShareCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareCheck(…)")
    }
}

/// One share: in locked memory, overwritten on drop, not printable, not clonable.
///
/// ```compile_fail
/// let share = keywheel_seal::unseal::Share::from_text(&keywheel_seal::SecretBytes::from(vec![1])).unwrap();
/// let _ = share.clone();
/// ```
/// ```compile_fail
/// let share = keywheel_seal::unseal::Share::from_text(&keywheel_seal::SecretBytes::from(vec![1])).unwrap();
/// println!("{share}");
/// ```
/// ```compile_fail
/// let share = keywheel_seal::unseal::Share::from_text(&keywheel_seal::SecretBytes::from(vec![1])).unwrap();
/// let _ = share == share;
/// ```
pub struct Share {
    number: u8,
    threshold: u8,
    set: SetId,
    key: Key,
}

impl Share {
    /// Its number, from 1 on.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// The set it belongs to.
    #[must_use]
    pub const fn set(&self) -> SetId {
        self.set
    }

    /// What it is known by.
    #[must_use]
    pub fn check(&self) -> ShareCheck {
        let label = b"keywheel/share/v1/check";
        let parts: [&[u8]; 3] = [label, &self.set.0, &[self.number, self.threshold]];
        ShareCheck(*hazmat::derive(&self.key, &parts))
    }

    /// The same bytes under another set's name, as a forger would have it.
    #[cfg(test)]
    pub(super) fn renamed(self, set: SetId) -> Self {
        Self { set, ..self }
    }

    /// The text for a person.
    #[must_use]
    pub fn to_text(&self) -> SecretBytes {
        let mut bytes = Zeroizing::new([0u8; TEXT_BYTES]);
        bytes[..3].copy_from_slice(&[FORM, self.number, self.threshold]);
        bytes[3..3 + SET_BYTES].copy_from_slice(&self.set.0);
        bytes[3 + SET_BYTES..BODY_BYTES].copy_from_slice(&self.key[..]);
        let sum = checksum(&bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&sum);
        let mut text = Vec::with_capacity(PREFIX.len() + TEXT_CHARS.div_ceil(GROUP) * (GROUP + 1));
        text.extend_from_slice(PREFIX.as_bytes());
        for at in 0..TEXT_CHARS {
            if at % GROUP == 0 {
                text.push(b'-');
            }
            text.push(DIGITS[usize::from(five_bits(&*bytes, at))]);
        }
        SecretBytes::from(text)
    }

    /// Reads a text as a person types it: spaces, hyphens and case do not matter, nor does O for 0.
    ///
    /// # Errors
    /// [`BadShare`] for anything else, without what or where.
    pub fn from_text(text: &SecretBytes) -> Result<Self, BadShare> {
        let bytes = decode(text).ok_or(BadShare)?;
        let (body, sum) = bytes.split_at(BODY_BYTES);
        let same: bool = subtle::ConstantTimeEq::ct_eq(&checksum(body)[..], sum).into();
        let [FORM, number, threshold, rest @ ..] = body else {
            return Err(BadShare);
        };
        let (set, key) = rest.split_first_chunk::<SET_BYTES>().ok_or(BadShare)?;
        let key: &[u8; KEY_BYTES] = key.try_into().map_err(|_| BadShare)?;
        let sensible =
            (1..=MAX_SHARES).contains(number) && (MIN_THRESHOLD..=MAX_SHARES).contains(threshold);
        (same && sensible).then_some(()).ok_or(BadShare)?;
        Ok(Self {
            number: *number,
            threshold: *threshold,
            set: SetId(*set),
            key: Key::copied(key),
        })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Share(…)")
    }
}

/// Makes so many shares of a key.
pub(super) fn split(
    key: &UnsealKey,
    threshold: u8,
    shares: u8,
    entropy: &dyn Entropy,
) -> Result<Vec<Share>, WrapError> {
    if threshold < MIN_THRESHOLD || shares < threshold || shares > MAX_SHARES {
        return Err(WrapError::BadThreshold { threshold, shares });
    }
    let failed = |_| WrapError::Failed("the key cannot be split");
    let (need, all) = (usize::from(threshold), usize::from(shares));
    let made = Gf256::split_array(need, all, key.bytes(), Rng(entropy)).map_err(failed)?;
    let made = Zeroizing::new(made);
    hazmat::overwrite_stack();
    let set = SetId(entropy::array(entropy));
    let share = |bytes: &Vec<u8>| {
        let (number, key) = bytes.split_first()?;
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        Some(Share {
            number: *number,
            threshold,
            set,
            key: Key::copied(key),
        })
    };
    let shares: Option<Vec<Share>> = made.iter().map(share).collect();
    shares.ok_or(WrapError::Failed("a share has another length"))
}

/// The key that shares give; what they are shares of is not judged.
pub(super) fn combine(shares: &[Share]) -> Option<UnsealKey> {
    let mut rows: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(Vec::with_capacity(shares.len()));
    for share in shares {
        let mut row = Vec::with_capacity(1 + KEY_BYTES);
        row.push(share.number);
        row.extend_from_slice(&share.key[..]);
        rows.push(row);
    }
    let mut combined = Gf256::combine_array(rows.as_slice()).ok()?;
    let key = <&[u8; KEY_BYTES]>::try_from(combined.as_slice())
        .ok()
        .map(Key::copied);
    combined.zeroize();
    hazmat::overwrite_stack();
    key.map(UnsealKey::from_bytes)
}

fn checksum(body: &[u8]) -> [u8; SUM_BYTES] {
    let mut labelled = Zeroizing::new(Vec::with_capacity(32 + body.len()));
    labelled.extend_from_slice(b"keywheel/share/v1/sum");
    labelled.extend_from_slice(body);
    let hash = digest::sha256(&labelled);
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hash[..SUM_BYTES]);
    sum
}

/// The five bits of one character; beyond the end there are zeros.
fn five_bits(bytes: &[u8], at: usize) -> u8 {
    let bit = at * 5;
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or_default());
    let two = (byte(bit / 8) << 8) | byte(bit / 8 + 1);
    let five = (two >> (11 - bit % 8)) & 31;
    // Five bits fit.
    u8::try_from(five).unwrap_or_default()
}

/// The bytes of a text; none when a character, the length or the last bits are wrong.
fn decode(text: &SecretBytes) -> Option<Zeroizing<[u8; TEXT_BYTES]>> {
    // EXPOSE: a typed share is decoded into the share's own type.
    let typed = text.expose().trim_ascii();
    let [k, w, s, form, typed @ ..] = typed else {
        return None;
    };
    // Its digit is typed like every other one.
    let begins = [k, w, s].map(u8::to_ascii_uppercase) == *b"KWS" && digit(*form) == Some(FORM);
    begins.then_some(())?;
    let mut bytes = Zeroizing::new([0u8; TEXT_BYTES]);
    let (mut bits, mut held, mut at) = (0u32, 0u32, 0);
    let mut count = 0;
    for letter in typed.iter().filter(|letter| !is_gap(**letter)) {
        held = ((held << 5) | u32::from(digit(*letter)?)) & 0xfff;
        bits += 5;
        count += 1;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(at)? = u8::try_from((held >> bits) & 0xff).ok()?;
            at += 1;
        }
    }
    let left = held & ((1 << bits) - 1);
    (count == TEXT_CHARS && at == TEXT_BYTES && left == 0).then_some(bytes)
}

const fn is_gap(letter: u8) -> bool {
    letter == b'-' || letter.is_ascii_whitespace()
}

fn digit(letter: u8) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        letter => letter,
    };
    let at = DIGITS.iter().position(|digit| *digit == letter)?;
    u8::try_from(at).ok()
}
