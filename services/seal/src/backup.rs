//! A backup's bytes: sealed in pieces, so that neither writer nor reader holds the whole of it.
//!
//! Invariants: every backup is sealed under a key of its own, derived from the deployment's unseal key, its header
//! and a fresh salt (AES-256-GCM, a counter as nonce, a mark on the last piece), so a piece that was changed, moved,
//! left out or added does not open, and neither does one of another backup; the header commits to the key, so another
//! key is told from other bytes; what opens a backup is nowhere in it. What lies in the pieces, and where they lie,
//! is the caller's business.

use std::fmt;

use crate::entropy::{self, Entropy};
use crate::envelope::UnsealKey;
use crate::hazmat::{self, Key, NONCE_BYTES, TAG_BYTES};

/// What every backup begins with: the name of its form.
const MAGIC: &[u8; 20] = b"keywheel-backup/v1\0\n";
const DEPLOYMENT_BYTES: usize = 16;
const SALT_BYTES: usize = 32;
const COMMITMENT_BYTES: usize = 32;
/// What the key and the commitment are made of.
const COMMITTED_BYTES: usize = MAGIC.len() + DEPLOYMENT_BYTES + SALT_BYTES;
/// Bytes before the first piece.
pub const HEADER_BYTES: usize = COMMITTED_BYTES + COMMITMENT_BYTES;
/// Bytes of every piece but the last, before it is sealed.
pub const PIECE_BYTES: usize = 1 << 20;
/// Bytes of every piece but the last, sealed.
pub const SEALED_PIECE_BYTES: usize = PIECE_BYTES + TAG_BYTES;

/// The key of a deployment's backups: who has it has neither the unseal key nor a value.
pub struct BackupKey(UnsealKey);

/// The bytes are not a backup that this key sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBackup {
    /// It does not begin as a backup does.
    #[error("it is not a backup of Keywheel, or of a newer one")]
    Form,
    /// The key is another one, or the header was changed.
    #[error("another key sealed it, or its first bytes were changed")]
    Key,
    /// A piece is not what was written at its place.
    #[error("it was changed or cut off, at the latest in its piece {0}")]
    Piece(u64),
}

/// The bytes could not be sealed, which never happens with pieces of [`PIECE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the backup cannot be sealed")]
pub struct NotSealed;

impl BackupKey {
    /// That of a deployment.
    #[must_use]
    pub fn of(unseal: &UnsealKey) -> Self {
        Self(unseal.derived(b"backups"))
    }

    fn key(&self, committed: &[u8]) -> Key {
        self.0.marked_key(b"pieces", committed)
    }

    fn commitment(&self, committed: &[u8]) -> [u8; COMMITMENT_BYTES] {
        self.0.mark(b"header", committed)
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

/// Whose backup it says it is; proven only once its first piece opens.
///
/// # Errors
/// [`BadBackup::Form`] when it is none.
pub fn deployment_of(header: &[u8]) -> Result<[u8; DEPLOYMENT_BYTES], BadBackup> {
    let rest = header.strip_prefix(MAGIC).ok_or(BadBackup::Form)?;
    if header.len() != HEADER_BYTES {
        return Err(BadBackup::Form);
    }
    let named = rest.first_chunk::<DEPLOYMENT_BYTES>();
    named.copied().ok_or(BadBackup::Form)
}

/// What both ends count alike.
struct Pieces {
    key: Key,
    header: Vec<u8>,
    /// The piece that is next.
    next: u64,
    is_over: bool,
}

impl Pieces {
    fn nonce(&self, is_last: bool) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        if let Some((counter, [last])) = nonce.split_last_chunk_mut::<1>() {
            let number = self.next.to_be_bytes();
            let room = counter.iter_mut().rev();
            room.zip(number.iter().rev())
                .for_each(|(to, from)| *to = *from);
            *last = u8::from(is_last);
        }
        nonce
    }

    fn advance(&mut self, is_last: bool) {
        self.next = self.next.saturating_add(1);
        self.is_over = is_last;
    }
}

/// Seals a backup, piece by piece.
pub struct Sealing(Pieces);

impl Sealing {
    /// Begins a backup of a deployment.
    #[must_use]
    pub fn begin(
        key: &BackupKey,
        deployment: &[u8; DEPLOYMENT_BYTES],
        entropy: &dyn Entropy,
    ) -> Self {
        let salt: [u8; SALT_BYTES] = entropy::array(entropy);
        let mut header = [&MAGIC[..], deployment, &salt].concat();
        let piece_key = key.key(&header);
        let commitment = key.commitment(&header);
        header.extend_from_slice(&commitment);
        Self(Pieces {
            key: piece_key,
            header,
            next: 0,
            is_over: false,
        })
    }

    /// What goes before the first piece.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.0.header
    }

    /// Seals the next piece where it lies. All but the last have [`PIECE_BYTES`].
    ///
    /// # Errors
    /// [`NotSealed`] when it has another length, or the last one was sealed.
    pub fn piece(&mut self, bytes: &mut Vec<u8>, is_last: bool) -> Result<(), NotSealed> {
        let fits = bytes.len() == PIECE_BYTES || (is_last && bytes.len() < PIECE_BYTES);
        if !fits || self.0.is_over {
            return Err(NotSealed);
        }
        let nonce = self.0.nonce(is_last);
        hazmat::gcm_seal_in_place(&self.0.key, &nonce, &self.0.header, bytes)
            .map_err(|_| NotSealed)?;
        self.0.advance(is_last);
        Ok(())
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing(piece {})", self.0.next)
    }
}

/// Opens a backup, piece by piece.
pub struct Opening(Pieces);

impl Opening {
    /// Begins with its header.
    ///
    /// # Errors
    /// [`BadBackup::Form`] or [`BadBackup::Key`].
    pub fn begin(key: &BackupKey, header: &[u8]) -> Result<Self, BadBackup> {
        deployment_of(header)?;
        let (committed, commitment) = header
            .split_at_checked(COMMITTED_BYTES)
            .ok_or(BadBackup::Form)?;
        let want = key.commitment(committed);
        if !bool::from(subtle::ConstantTimeEq::ct_eq(&want[..], commitment)) {
            return Err(BadBackup::Key);
        }
        Ok(Self(Pieces {
            key: key.key(committed),
            header: header.to_vec(),
            next: 0,
            is_over: false,
        }))
    }

    /// Opens the next piece.
    ///
    /// # Errors
    /// [`BadBackup::Piece`] when it is not what was written there.
    pub fn piece(&mut self, sealed: &[u8], is_last: bool) -> Result<Vec<u8>, BadBackup> {
        let bad = BadBackup::Piece(self.0.next);
        let fits =
            sealed.len() == SEALED_PIECE_BYTES || (is_last && sealed.len() < SEALED_PIECE_BYTES);
        if !fits || self.0.is_over {
            return Err(bad);
        }
        let nonce = self.0.nonce(is_last);
        let opened = hazmat::gcm_open(&self.0.key, &nonce, &self.0.header, sealed);
        let opened = opened.map_err(|_| bad)?;
        self.0.advance(is_last);
        Ok(opened.bytes().to_vec())
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening(piece {})", self.0.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsEntropy;

    const DEPLOYMENT: [u8; 16] = [7; 16];

    fn key() -> BackupKey {
        BackupKey::of(&UnsealKey::generate(&OsEntropy))
    }

    /// A backup of pieces that are full but for the last; its header and them.
    fn sealed(key: &BackupKey, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut sealing = Sealing::begin(key, &DEPLOYMENT, &OsEntropy);
        let header = sealing.header().to_vec();
        let last = pieces.len() - 1;
        let seal = |(at, bytes): (usize, &&[u8])| {
            let mut bytes = bytes.to_vec();
            sealing.piece(&mut bytes, at == last).unwrap();
            bytes
        };
        let pieces = pieces.iter().enumerate().map(seal).collect();
        (header, pieces)
    }

    fn open(key: &BackupKey, header: &[u8], pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, BadBackup> {
        let mut opening = Opening::begin(key, header)?;
        let last = pieces.len() - 1;
        let each = pieces.iter().enumerate();
        each.map(|(at, piece)| opening.piece(piece, at == last))
            .collect()
    }

    #[test]
    fn what_was_sealed_opens_with_the_key_of_its_deployment_and_shows_nothing() {
        let unseal = UnsealKey::generate(&OsEntropy);
        let full = vec![b'c'; PIECE_BYTES];
        let given: [&[u8]; 3] = [&full, &full, b"canary-bytes"];
        let (header, pieces) = sealed(&BackupKey::of(&unseal), &given);
        assert_eq!(deployment_of(&header), Ok(DEPLOYMENT));
        assert!(!pieces[2].windows(6).any(|part| part == b"canary"));
        // Equal pieces do not look alike.
        assert_ne!(pieces[0], pieces[1]);
        let again = BackupKey::of(&unseal);
        assert_eq!(open(&again, &header, &pieces).unwrap(), given);
        assert_eq!(open(&key(), &header, &pieces), Err(BadBackup::Key));
        assert_eq!(format!("{again:?}"), "BackupKey(…)");
    }

    #[test]
    fn a_changed_moved_missing_added_or_foreign_piece_does_not_open() {
        let key = key();
        let full = [vec![1; PIECE_BYTES], vec![2; PIECE_BYTES]];
        let given: [&[u8]; 3] = [&full[0], &full[1], b"end"];
        let (header, pieces) = sealed(&key, &given);
        let refused = |pieces: &[Vec<u8>]| open(&key, &header, pieces).unwrap_err();
        for (at, byte) in [(0, 0), (1, PIECE_BYTES), (2, 2)] {
            let mut changed = pieces.clone();
            changed[at][byte] ^= 1;
            assert_eq!(refused(&changed), BadBackup::Piece(at as u64));
        }
        let moved = [pieces[1].clone(), pieces[0].clone(), pieces[2].clone()];
        assert_eq!(refused(&moved), BadBackup::Piece(0));
        assert_eq!(refused(&pieces[..2]), BadBackup::Piece(1));
        assert_eq!(refused(&pieces[1..]), BadBackup::Piece(0));
        let added = [&pieces[..], &pieces[2..]].concat();
        assert_eq!(refused(&added), BadBackup::Piece(2));
        let (_, others) = sealed(&key, &given);
        let foreign = [others[0].clone(), pieces[1].clone(), pieces[2].clone()];
        assert_eq!(refused(&foreign), BadBackup::Piece(0));
    }

    #[test]
    fn each_byte_of_the_header_counts_and_a_short_one_is_none() {
        let key = key();
        let (header, pieces) = sealed(&key, &[b"x"]);
        assert_eq!(header.len(), HEADER_BYTES);
        for at in 0..header.len() {
            let mut changed = header.clone();
            changed[at] ^= 1;
            assert!(open(&key, &changed, &pieces).is_err(), "byte {at}");
            assert_eq!(deployment_of(&header[..at]), Err(BadBackup::Form));
        }
    }

    #[test]
    fn a_piece_of_another_length_and_one_after_the_last_are_refused() {
        let mut sealing = Sealing::begin(&key(), &DEPLOYMENT, &OsEntropy);
        assert_eq!(
            sealing.piece(&mut vec![0; PIECE_BYTES - 1], false),
            Err(NotSealed)
        );
        assert_eq!(
            sealing.piece(&mut vec![0; PIECE_BYTES + 1], true),
            Err(NotSealed)
        );
        sealing.piece(&mut Vec::new(), true).unwrap();
        assert_eq!(sealing.piece(&mut Vec::new(), true), Err(NotSealed));
    }

    #[test]
    fn a_backup_key_opens_nothing_that_the_unseal_key_sealed_itself() {
        let unseal = UnsealKey::generate(&OsEntropy);
        let own = unseal
            .seal_bytes(&DEPLOYMENT, b"service", b"gateway", b"a key", &OsEntropy)
            .unwrap();
        let backups = BackupKey::of(&unseal);
        let opened = backups.0.open(&DEPLOYMENT, b"service", b"gateway", &own);
        assert!(opened.is_err());
    }
}
