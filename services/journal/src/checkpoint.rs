//! Signed checkpoints of the audit tree: a C2SP tlog-checkpoint in a C2SP signed note.
//!
//! Owns the text form, its limits and the check of its signature. Invariants: the text that is
//! signed is exactly the text that is read; a note without a signature by the asked key is refused,
//! signatures by unknown keys are ignored, as the format asks. It does not know the tree's leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_seal::sign::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::merkle::Hash;

/// Longest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 16 * 1024;
/// Most signature lines that are read.
pub const MAX_SIGNATURES: usize = 16;
/// Longest origin, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 255;

/// Begins a signature line: em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// Signature type Ed25519 of the signed-note format.
const ED25519: u8 = 0x01;
/// Bytes of a key id.
const KEY_ID_BYTES: usize = 4;

/// A note that is not a checkpoint signed by the key one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the text form.
    #[error("the checkpoint is not a signed note: {0}")]
    Form(&'static str),
    /// Over a limit.
    #[error(
        "the checkpoint is too long: at most {MAX_NOTE_BYTES} bytes and {MAX_SIGNATURES} signatures are read"
    )]
    TooLong,
    /// Another log's checkpoint.
    #[error("the checkpoint is of log `{found}`, not of `{wanted}`")]
    Origin {
        /// The origin in the note.
        found: String,
        /// The origin asked for.
        wanted: String,
    },
    /// Nobody we asked for signed it.
    #[error(
        "the checkpoint carries no signature by key `{0}`; ask for the key this log was made with"
    )]
    Unsigned(String),
    /// The signature does not match.
    #[error(
        "the signature of the checkpoint does not match its text; it was changed after it was signed"
    )]
    Signature,
    /// An origin that cannot be a key name.
    #[error(
        "`{0}` is not an origin: give 1 to {MAX_ORIGIN_BYTES} characters without spaces, `+` and control characters"
    )]
    BadOrigin(String),
}

/// What a log commits to: its name, size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log; also the name of its key.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// A checkpoint as read, with its signatures not yet checked.
#[derive(Debug, Clone)]
pub struct Note<'a> {
    /// What it says.
    pub checkpoint: Checkpoint,
    text: &'a str,
    signatures: Vec<(&'a str, Vec<u8>)>,
}

impl Checkpoint {
    /// Writes and signs the note.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        let text = format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        );
        let mut line = key_id(&self.origin, &key.verifying_key()).to_vec();
        line.extend_from_slice(&key.sign_raw(text.as_bytes()).to_bytes());
        format!(
            "{text}\n{SIGNATURE_PREFIX}{} {}\n",
            self.origin,
            STANDARD.encode(line)
        )
    }

    /// Reads a note and checks that `key` signed it for the log `origin`.
    ///
    /// # Errors
    /// When it is not such a note.
    pub fn verify(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        let note = Note::parse(note)?;
        if note.checkpoint.origin != origin {
            return Err(NoteError::Origin {
                found: note.checkpoint.origin,
                wanted: origin.to_owned(),
            });
        }
        note.check(key)?;
        Ok(note.checkpoint)
    }
}

impl<'a> Note<'a> {
    /// Reads a note without checking who signed it.
    ///
    /// # Errors
    /// When it is not the text form of a checkpoint.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong);
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Form("it holds control characters"));
        }
        let split = note
            .rfind("\n\n")
            .ok_or(NoteError::Form("it has no signatures"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Form("its last line does not end"))?;
        let signatures = lines
            .split('\n')
            .map(signature_line)
            .collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::TooLong);
        }
        Ok(Self {
            checkpoint: body(text)?,
            text,
            signatures,
        })
    }

    /// Checks that `key` signed it under the log's own name.
    ///
    /// # Errors
    /// When no signature is by that key, or it does not match.
    pub fn check(&self, key: &VerifyingKey) -> Result<(), NoteError> {
        let origin = self.checkpoint.origin.as_str();
        let id = key_id(origin, key);
        let ours = |(name, bytes): &&(&str, Vec<u8>)| *name == origin && bytes.starts_with(&id);
        let unsigned = || NoteError::Unsigned(verifier_key(origin, key));
        let (_, bytes) = self.signatures.iter().find(ours).ok_or_else(unsigned)?;
        let signature = bytes
            .get(KEY_ID_BYTES..)
            .and_then(|s| <[u8; 64]>::try_from(s).ok());
        let signature = signature.ok_or(NoteError::Signature)?;
        key.verify_raw(self.text.as_bytes(), &Signature::from_bytes(signature))
            .map_err(|_| NoteError::Signature)
    }
}

/// Checks that a name can be a log's origin and the name of its key.
///
/// # Errors
/// When it is empty, too long or holds a space, `+` or control character.
pub fn check_origin(origin: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if origin.is_empty() || origin.len() > MAX_ORIGIN_BYTES || origin.contains(bad) {
        return Err(NoteError::BadOrigin(origin.chars().take(80).collect()));
    }
    Ok(())
}

/// The public key in the form that signed-note tools take: `name+id+base64`.
#[must_use]
pub fn verifier_key(origin: &str, key: &VerifyingKey) -> String {
    let mut bytes = vec![ED25519];
    bytes.extend_from_slice(&key.to_bytes());
    let id = u32::from_be_bytes(key_id(origin, key));
    format!("{origin}+{id:08x}+{}", STANDARD.encode(bytes))
}

fn key_id(name: &str, key: &VerifyingKey) -> [u8; KEY_ID_BYTES] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(key.to_bytes())
        .finalize();
    let mut id = [0; KEY_ID_BYTES];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

fn body(text: &str) -> Result<Checkpoint, NoteError> {
    let mut lines = text.split_terminator('\n');
    let origin = lines.next().unwrap_or_default();
    check_origin(origin)?;
    let size = lines.next().unwrap_or_default();
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (size == "0" || !size.starts_with('0'));
    let number = if canonical { size.parse().ok() } else { None };
    let number = number.ok_or(NoteError::Form("its second line is not a size"))?;
    let root = lines.next().and_then(|line| STANDARD.decode(line).ok());
    let root = root.and_then(|root| Hash::try_from(root).ok());
    let root = root.ok_or(NoteError::Form("its third line is not a root hash"))?;
    Ok(Checkpoint {
        origin: origin.to_owned(),
        size: number,
        root,
    })
}

fn signature_line(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let malformed = NoteError::Form("a signature line is malformed");
    let rest = line
        .strip_prefix(SIGNATURE_PREFIX)
        .ok_or(malformed.clone())?;
    let (name, encoded) = rest.split_once(' ').ok_or(malformed.clone())?;
    let bytes = STANDARD.decode(encoded).map_err(|_| malformed.clone())?;
    if name.is_empty() || bytes.len() <= KEY_ID_BYTES {
        return Err(malformed);
    }
    Ok((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle;
    use keywheel_seal::{OsEntropy, SecretBytes};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed_bytes(&SecretBytes::from(vec![seed; 32])).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "keywheel.test/a".to_owned(),
            size: 3,
            root: merkle::leaf_hash(b"x"),
        }
    }

    #[test]
    fn a_signed_checkpoint_has_the_form_of_the_standard() {
        let note = checkpoint().sign(&key(1));
        let root = STANDARD.encode(merkle::leaf_hash(b"x"));
        assert!(note.starts_with(&format!(
            "keywheel.test/a\n3\n{root}\n\n\u{2014} keywheel.test/a "
        )));
        assert!(note.ends_with('\n'));
        let read = Checkpoint::verify(&note, "keywheel.test/a", &key(1).verifying_key());
        assert_eq!(read, Ok(checkpoint()));
    }

    #[test]
    fn the_key_of_the_signed_note_example_has_its_known_id() {
        // The example key of the Go checksum database's note package.
        let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let bytes = STANDARD
            .decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
            .unwrap();
        let key = VerifyingKey::from_bytes(bytes[1..].try_into().unwrap()).unwrap();
        assert_eq!(verifier_key("PeterNeumann", &key), vkey);
    }

    #[test]
    fn any_changed_byte_of_the_text_breaks_the_signature() {
        let note = checkpoint().sign(&key(1));
        let public = key(1).verifying_key();
        let end = note.find("\n\n").unwrap();
        for at in 0..end {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert!(
                Checkpoint::verify(&changed, "keywheel.test/a", &public).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn no_note_makes_its_reader_panic() {
        let note = checkpoint().sign(&key(1));
        let public = key(1).verifying_key();
        keywheel_testkit::hostile(note.as_bytes(), |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let read = Checkpoint::verify(&text, "keywheel.test/a", &public);
            assert!(read.is_err() || read == Ok(checkpoint()), "{text}");
        });
    }

    #[test]
    fn another_log_another_key_and_no_key_are_told_apart() {
        let note = checkpoint().sign(&key(1));
        let public = key(1).verifying_key();
        assert!(matches!(
            Checkpoint::verify(&note, "other", &public),
            Err(NoteError::Origin { .. })
        ));
        let other = SigningKey::generate(&OsEntropy).verifying_key();
        let unsigned = Checkpoint::verify(&note, "keywheel.test/a", &other);
        assert!(matches!(unsigned, Err(NoteError::Unsigned(_))));
    }

    #[test]
    fn signatures_by_others_and_extension_lines_are_allowed() {
        let text = format!(
            "o\n0\n{}\nextension\n",
            STANDARD.encode(merkle::empty_root())
        );
        let sign = |key: &SigningKey, name: &str| {
            let mut line = key_id(name, &key.verifying_key()).to_vec();
            line.extend_from_slice(&key.sign_raw(text.as_bytes()).to_bytes());
            format!("{SIGNATURE_PREFIX}{name} {}\n", STANDARD.encode(line))
        };
        let note = format!("{text}\n{}{}", sign(&key(2), "witness"), sign(&key(1), "o"));
        assert!(Checkpoint::verify(&note, "o", &key(1).verifying_key()).is_ok());
        assert!(Checkpoint::verify(&note, "o", &key(2).verifying_key()).is_err());
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        let good = checkpoint().sign(&key(1));
        for bad in [
            String::new(),
            "\n\n".to_owned(),
            good.replace("\n3\n", "\n03\n"),
            good.replace("\n3\n", "\n-3\n"),
            good.replace("\n3\n", "\n99999999999999999999\n"),
            good.replace('\u{2014}', "-"),
            good.trim_end().to_owned(),
            good.replace("keywheel", "key\twheel"),
            good.replace("\n3\n", "\n3\nnot base64\n"),
        ] {
            assert!(Note::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let long = format!(
            "{}{}",
            checkpoint().sign(&key(1)),
            "a".repeat(MAX_NOTE_BYTES)
        );
        assert_eq!(Note::parse(&long).err(), Some(NoteError::TooLong));
        let note = checkpoint().sign(&key(1));
        let line = note.lines().last().unwrap();
        let full = format!("{note}{}", format!("{line}\n").repeat(MAX_SIGNATURES - 1));
        assert!(Note::parse(&full).is_ok());
        assert_eq!(
            Note::parse(&format!("{full}{line}\n")).err(),
            Some(NoteError::TooLong)
        );
        assert!(check_origin(&"o".repeat(MAX_ORIGIN_BYTES)).is_ok());
        for bad in [
            String::new(),
            "o".repeat(MAX_ORIGIN_BYTES + 1),
            "a b".into(),
            "a+b".into(),
            "a\nb".into(),
        ] {
            assert!(check_origin(&bad).is_err(), "{bad}");
        }
    }
}
