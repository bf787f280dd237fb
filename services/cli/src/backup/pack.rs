//! A backup's file: its header, then one stream of bytes in sealed pieces. The stream is the manifest, with its length
//! before it, and then the parts as the manifest names them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use keywheel_schemas::backup::{Manifest, Part};
use keywheel_seal::backup::{
    BackupKey, BadBackup, HEADER_BYTES, Opening, PIECE_BYTES, SEALED_PIECE_BYTES, Sealing,
};
use keywheel_seal::digest::Running;

/// Bytes read at once where no piece is meant.
const CHUNK: usize = 64 * 1024;

/// Seals what is written to it.
pub(super) struct Sealer<W> {
    out: W,
    sealing: Sealing,
    waiting: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    /// Begins, with the header.
    pub(super) fn begin(mut out: W, sealing: Sealing) -> io::Result<Self> {
        out.write_all(sealing.header())?;
        Ok(Self {
            out,
            sealing,
            waiting: Vec::with_capacity(SEALED_PIECE_BYTES),
        })
    }

    /// Seals what waits; gives back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush_piece(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush_piece(&mut self, is_last: bool) -> io::Result<()> {
        self.sealing
            .piece(&mut self.waiting, is_last)
            .map_err(io::Error::other)?;
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece waits until more comes: the last one is marked.
        if self.waiting.len() == PIECE_BYTES && !bytes.is_empty() {
            self.flush_piece(false)?;
        }
        let room = PIECE_BYTES.saturating_sub(self.waiting.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.waiting.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what is read from it. A piece that is not as it was written is an error with a [`BadBackup`] in it.
pub(super) struct Opener<R> {
    from: R,
    opening: Opening,
    /// The next piece, still sealed; empty after the last.
    next: Vec<u8>,
    opened: Vec<u8>,
    read: usize,
    is_over: bool,
}

impl<R: Read> Opener<R> {
    /// Begins, with the header.
    pub(super) fn begin(mut from: R, key: &BackupKey) -> io::Result<Self> {
        let header = up_to(&mut from, HEADER_BYTES)?;
        let opening = Opening::begin(key, &header).map_err(bad)?;
        let next = up_to(&mut from, SEALED_PIECE_BYTES)?;
        Ok(Self {
            from,
            opening,
            next,
            opened: Vec::new(),
            read: 0,
            is_over: false,
        })
    }

    fn open_next(&mut self) -> io::Result<()> {
        let after = up_to(&mut self.from, SEALED_PIECE_BYTES)?;
        let is_last = after.is_empty();
        self.opened = self.opening.piece(&self.next, is_last).map_err(bad)?;
        self.read = 0;
        self.next = after;
        self.is_over = is_last;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.read >= self.opened.len() {
            if self.is_over {
                return Ok(0);
            }
            self.open_next()?;
        }
        let rest = self.opened.get(self.read..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.read = self.read.saturating_add(count);
        Ok(count)
    }
}

fn bad(error: BadBackup) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// So many bytes, or as many as there are.
fn up_to(from: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first bytes of a backup: what says whose it is.
pub(super) fn header(from: &mut impl Read) -> io::Result<Vec<u8>> {
    up_to(from, HEADER_BYTES)
}

/// Writes a manifest, its length before it.
pub(super) fn write_manifest(out: &mut impl Write, manifest: &Manifest) -> io::Result<()> {
    let text = manifest.to_json().map_err(io::Error::other)?;
    out.write_all(&(text.len() as u64).to_be_bytes())?;
    out.write_all(&text)
}

/// Size and digest of a file, as a part of this name.
pub(super) fn part_of(name: &str, path: &Path) -> io::Result<Part> {
    let (bytes, sha256) = copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(Part {
        name: name.to_owned(),
        bytes,
        sha256,
    })
}

/// Copies to the end; how many bytes, and their digest.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut digest = Running::default();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0_u64;
    loop {
        let count = from.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok((bytes, digest.hex()));
        };
        digest.add(read);
        to.write_all(read)?;
        bytes = bytes.saturating_add(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_seal::OsEntropy;
    use keywheel_seal::envelope::UnsealKey;

    fn key() -> BackupKey {
        BackupKey::of(&UnsealKey::generate(&OsEntropy))
    }

    fn sealed(key: &BackupKey, bytes: &[u8]) -> Vec<u8> {
        let sealing = Sealing::begin(key, &[1; 16], &OsEntropy);
        let mut sealer = Sealer::begin(Vec::new(), sealing).unwrap();
        sealer.write_all(bytes).unwrap();
        sealer.finish().unwrap()
    }

    fn open(key: &BackupKey, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut opened = Vec::new();
        Opener::begin(sealed, key)?.read_to_end(&mut opened)?;
        Ok(opened)
    }

    #[test]
    fn a_stream_of_any_length_is_read_back_as_it_was_written() {
        let key = key();
        for length in [
            0,
            1,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES,
        ] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let file = sealed(&key, &bytes);
            assert!(open(&key, &file).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn a_cut_lengthened_or_changed_stream_gives_an_error_that_says_so() {
        let key = key();
        let file = sealed(&key, &vec![7; PIECE_BYTES + 9]);
        let kind = |file: &[u8]| {
            let error = open(&key, file).unwrap_err();
            let source = error.get_ref().and_then(|e| e.downcast_ref::<BadBackup>());
            *source.unwrap()
        };
        let end = file.len();
        for cut in [end - 1, end - 25, HEADER_BYTES + 5] {
            assert!(matches!(kind(&file[..cut]), BadBackup::Piece(_)), "{cut}");
        }
        assert!(matches!(kind(&file[..HEADER_BYTES]), BadBackup::Piece(0)));
        assert_eq!(kind(&file[..HEADER_BYTES - 1]), BadBackup::Form);
        assert!(matches!(
            kind(&[&file[..], b"x"].concat()),
            BadBackup::Piece(1)
        ));
        let mut changed = file.clone();
        changed[HEADER_BYTES + 3] ^= 1;
        assert_eq!(kind(&changed), BadBackup::Piece(0));
        let other = open(&self::key(), &file).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::InvalidData);
    }
}
