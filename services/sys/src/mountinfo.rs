//! Reads the kernel's mount table text without allocating, for use inside a foreign namespace.
//!
//! Pure parsing plus one bounded line reader. Decides nothing about what a mount may be.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::{Errno, read};

/// Longest line of a mount table that is read; a longer one is an error.
pub const MAX_LINE: usize = 32 * 1024;

/// Where a mount point lies, seen from a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Neither at nor below it.
    Elsewhere,
    /// Exactly at it.
    At,
    /// Below it.
    Below,
}

/// The fields of one mount that matter here. Text is still escaped as the kernel wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Mount id, as in `statx`.
    pub id: u64,
    /// Device of the file system, major and minor number.
    pub device: (u32, u32),
    /// Mount point, escaped.
    pub mount_point: &'a [u8],
    /// Whether changes below it spread to other namespaces.
    pub shared: bool,
    /// File system type.
    pub fs_type: &'a [u8],
    /// Source name.
    pub source: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses one line without its newline.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let _parent = fields.next()?;
        let device = device(fields.next()?)?;
        let _root = fields.next()?;
        let mount_point = fields.next()?;
        let _options = fields.next()?;
        let mut shared = false;
        loop {
            let field = fields.next()?;
            if field == b"-" {
                break;
            }
            shared |= field.starts_with(b"shared:");
        }
        Some(Self {
            id,
            device,
            mount_point,
            shared,
            fs_type: fields.next()?,
            source: fields.next()?,
        })
    }

    /// Where this mount lies, seen from `dir` (absolute, no trailing slash).
    #[must_use]
    pub fn relation(&self, dir: &[u8]) -> Relation {
        let mut here = unescape(self.mount_point);
        for expected in dir {
            if here.next() != Some(*expected) {
                return Relation::Elsewhere;
            }
        }
        match here.next() {
            None => Relation::At,
            Some(b'/') => Relation::Below,
            Some(_) => Relation::Elsewhere,
        }
    }

    /// Whether a mount here hides what was at `dir` before: it is at `dir` or at a directory above it, the root
    /// left out.
    #[must_use]
    pub fn covers(&self, dir: &[u8]) -> bool {
        let mut rest = dir;
        for byte in unescape(self.mount_point) {
            match rest.split_first() {
                Some((first, tail)) if *first == byte => rest = tail,
                _ => return false,
            }
        }
        rest.is_empty() || rest.starts_with(b"/")
    }
}

/// Major and minor number of `8:1`.
fn device(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes the kernel's `\ooo` escapes.
pub fn unescape(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if first == b'\\'
            && let Some((digits, after)) = tail.split_first_chunk::<3>()
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            rest = after;
            let value = digits
                .iter()
                .fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
            return Some(value.to_le_bytes()[0]);
        }
        rest = tail;
        Some(first)
    })
}

/// The id of the mount that `fd` lies on, as in [`Line::id`].
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(found.stx_mnt_id)
}

/// Calls `visit` with every line of the table behind `table`; `visit` ends the walk by an error.
pub fn for_each_line<E: From<Errno>>(
    table: BorrowedFd<'_>,
    mut visit: impl FnMut(Line<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = [0_u8; MAX_LINE];
    let mut filled = 0;
    loop {
        let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) else {
            return Err(Errno::OVERFLOW.into());
        };
        let count = match read(table, free) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if count == 0 {
            return if filled == 0 {
                Ok(())
            } else {
                Err(Errno::PROTO.into())
            };
        }
        filled += count;
        let mut start = 0;
        while let Some(rest) = buffer.get(start..filled)
            && let Some(length) = rest.iter().position(|byte| *byte == b'\n')
        {
            let line = rest
                .get(..length)
                .and_then(Line::parse)
                .ok_or(Errno::PROTO)?;
            visit(line)?;
            start += length + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const PLACEHOLDER: &[u8] =
        b"412 398 0:55 / /run/secrets ro,nosuid,nodev,noexec - tmpfs keywheel ro,size=4k";

    #[test]
    fn reads_the_fields_of_a_placeholder() {
        let line = Line::parse(PLACEHOLDER).unwrap();
        assert_eq!(
            (line.id, line.fs_type, line.source),
            (412, &b"tmpfs"[..], &b"keywheel"[..])
        );
        assert_eq!(
            (line.mount_point, line.shared),
            (&b"/run/secrets"[..], false)
        );
        assert_eq!(line.device, (0, 55));
    }

    #[test]
    fn sees_shared_propagation_among_several_optional_fields() {
        let line = Line::parse(b"22 1 8:1 / /srv rw master:3 shared:7 - ext4 /dev/a rw").unwrap();
        assert!(line.shared);
    }

    #[test]
    fn relation_compares_whole_components_after_unescaping() {
        let at = |point: &'static [u8], dir: &[u8]| line_at(point).relation(dir);
        assert_eq!(at(b"/run/secrets", b"/run/secrets"), Relation::At);
        assert_eq!(at(b"/run/secrets/db", b"/run/secrets"), Relation::Below);
        assert_eq!(at(b"/run/secrets2", b"/run/secrets"), Relation::Elsewhere);
        assert_eq!(at(b"/run", b"/run/secrets"), Relation::Elsewhere);
        assert_eq!(at(b"/a\\040b", b"/a b"), Relation::At);
        assert_eq!(at(b"/a\\04", b"/a\\04"), Relation::At);
    }

    fn line_at(mount_point: &[u8]) -> Line<'_> {
        Line {
            id: 1,
            device: (0, 1),
            mount_point,
            shared: false,
            fs_type: b"",
            source: b"",
        }
    }

    #[test]
    fn a_mount_covers_its_own_directory_and_those_below() {
        let covers = |point: &[u8], dir: &[u8]| line_at(point).covers(dir);
        assert!(covers(b"/run/secrets", b"/run/secrets"));
        assert!(covers(b"/run", b"/run/secrets"));
        assert!(covers(b"/a\\040b", b"/a b/c"));
        assert!(!covers(b"/run/secrets/db", b"/run/secrets"));
        assert!(!covers(b"/ru", b"/run/secrets"));
        assert!(!covers(b"/run2", b"/run/secrets"));
        assert!(!covers(b"/", b"/run/secrets"));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            &b""[..],
            b"1 2 8 4 5 6 - tmpfs x",
            b"1 2 8:y 4 5 6 - tmpfs x",
            b"x 1 2 3 4 5 - a b",
            b"1 2 3 4 5 6 shared:1",
            b"1 2 3 4 5 6 - tmpfs",
        ] {
            assert_eq!(Line::parse(line), None);
        }
    }

    #[test]
    fn no_line_makes_it_panic() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert!(Line::parse(line).is_some());
        keywheel_testkit::hostile(line, |bytes| {
            let _ = Line::parse(bytes);
        });
    }

    #[test]
    fn reads_the_table_of_this_process() {
        let table = std::fs::File::open("/proc/self/mountinfo").unwrap();
        let mut seen_root = false;
        for_each_line::<Errno>(table.as_fd(), |line| {
            seen_root |= line.mount_point == b"/";
            Ok(())
        })
        .unwrap();
        assert!(seen_root);
    }

    #[test]
    fn a_line_over_the_limit_is_an_error() {
        let mut file = tempfile_with(&[b'a'; MAX_LINE + 1]);
        use std::io::Seek;
        file.rewind().unwrap();
        assert_eq!(
            for_each_line::<Errno>(file.as_fd(), |_| Ok(())),
            Err(Errno::OVERFLOW)
        );
    }

    fn tempfile_with(bytes: &[u8]) -> std::fs::File {
        use std::io::Write;
        let fd = rustix::fs::memfd_create("table", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(bytes).unwrap();
        file
    }
}
