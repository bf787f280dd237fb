//! Reading one value of a bbolt file, the database in which Podman 4 keeps its containers.
//!
//! Read only, under the shared side of the lock that every writer of the file takes whole, and only the pages on
//! the way to one key. Owns the format (version 2, little-endian) and nothing of what the values mean. Invariants: no
//! bytes make it panic or read without a bound; what does not fit the format is a fault, never a guess.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What a meta page begins with.
const MAGIC: u32 = 0xED0C_DAED;
/// The format.
const VERSION: u32 = 2;
/// Bytes of a meta that its checksum is over.
const META_SUMMED: usize = 56;
/// A meta with its checksum.
const META_BYTES: usize = 64;
/// Bytes before the elements of a page, and of each element.
const HEADER: usize = 16;
/// Smallest and largest page.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;
/// Longest run of pages for one node: a value lies in its node whole.
const MAX_NODE_BYTES: usize = 16 << 20;
/// Nodes on the way to one key.
const MAX_DEPTH: usize = 32;
/// Bits of a page's flags.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Bit of an element that is a bucket.
const IS_BUCKET: u32 = 1;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes could not be had.
    #[error("reading it failed")]
    Read(#[from] io::Error),
    /// It is no such file, or a broken one.
    #[error("{0}")]
    Form(&'static str),
}

/// Where bytes come from.
pub(crate) trait Bytes {
    /// Exactly so many from there.
    fn at(&self, offset: u64, count: usize) -> io::Result<Vec<u8>>;
}

impl Bytes for File {
    fn at(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// A bucket: a tree of its own, or a small one inside its element.
enum Bucket {
    Tree(u64),
    Inline(Vec<u8>),
}

/// What lies under a key.
enum Found {
    Value(Vec<u8>),
    Bucket(Bucket),
}

/// The value under `key` in the bucket that `path` leads to; `None` when there is none.
pub(crate) fn value(
    bytes: &dyn Bytes,
    path: &[&[u8]],
    key: &[u8],
) -> Result<Option<Vec<u8>>, Fault> {
    let (page_size, root) = newest_meta(bytes)?;
    let reader = Reader { bytes, page_size };
    let mut bucket = Bucket::Tree(root);
    for name in path {
        match reader.find(&bucket, name)? {
            Some(Found::Bucket(inner)) => bucket = inner,
            Some(Found::Value(_)) => return Err(Fault::Form("a bucket is a value")),
            None => return Ok(None),
        }
    }
    match reader.find(&bucket, key)? {
        Some(Found::Value(value)) => Ok(Some(value)),
        Some(Found::Bucket(_)) => Err(Fault::Form("a value is a bucket")),
        None => Ok(None),
    }
}

/// Page size and root of the newer of the two metas that is whole.
fn newest_meta(bytes: &dyn Bytes) -> Result<(u32, u64), Fault> {
    const NO_META: Fault = Fault::Form("it has no meta page of a known version");
    let first = meta_at(bytes, 0);
    let size = first.map_or(4096, |(_, size, _)| size);
    let second = meta_at(bytes, u64::from(size));
    let newest = first.into_iter().chain(second).max_by_key(|meta| meta.0);
    let (_, size, root) = newest.ok_or(NO_META)?;
    Ok((size, root))
}

/// Transaction, page size and root of the meta whose page begins there.
fn meta_at(bytes: &dyn Bytes, offset: u64) -> Option<(u64, u32, u64)> {
    let page = bytes.at(offset, HEADER + META_BYTES).ok()?;
    let meta = page.get(HEADER..)?;
    let is_known = u32_at(meta, 0)? == MAGIC && u32_at(meta, 4)? == VERSION;
    let is_whole = checksum(meta.get(..META_SUMMED)?) == u64_at(meta, META_SUMMED)?;
    let size = u32_at(meta, 8)?;
    let fits = is_known && is_whole && PAGE_SIZES.contains(&size);
    let found = (u64_at(meta, 48)?, size, u64_at(meta, 16)?);
    fits.then_some(found)
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Reader<'a> {
    bytes: &'a dyn Bytes,
    page_size: u32,
}

impl Reader<'_> {
    fn find(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Found>, Fault> {
        let mut node = match bucket {
            Bucket::Tree(root) => self.node(*root)?,
            Bucket::Inline(node) => node.clone(),
        };
        for _ in 0..MAX_DEPTH {
            const CUT: Fault = Fault::Form("a page is cut");
            match u16_at(&node, 8).ok_or(CUT)? {
                flags if flags & LEAF != 0 => return in_leaf(&node, key).ok_or(CUT),
                flags if flags & BRANCH != 0 => {
                    node = self.node(child(&node, key).ok_or(CUT)?)?;
                }
                _ => return Err(Fault::Form("a page is of another kind")),
            }
        }
        Err(Fault::Form("its pages lead nowhere"))
    }

    /// A page with those that belong to it.
    fn node(&self, page: u64) -> Result<Vec<u8>, Fault> {
        const LONG: Fault = Fault::Form("a page is too long");
        let size = u64::from(self.page_size);
        let offset = page.checked_mul(size).ok_or(LONG)?;
        let header = self.bytes.at(offset, HEADER)?;
        let more = u32_at(&header, 12).ok_or(LONG)?;
        let count = (u64::from(more) + 1).checked_mul(size).ok_or(LONG)?;
        let count = usize::try_from(count).map_err(|_| LONG)?;
        if count > MAX_NODE_BYTES {
            return Err(LONG);
        }
        Ok(self.bytes.at(offset, count)?)
    }
}

/// The element in a leaf; the outer `None`: the page is cut.
fn in_leaf(node: &[u8], key: &[u8]) -> Option<Option<Found>> {
    for index in 0..usize::from(u16_at(node, 10)?) {
        let at = HEADER + index * HEADER;
        let (from, length) = (size_at(node, at + 4)?, size_at(node, at + 8)?);
        let from = at.checked_add(from)?;
        let to = from.checked_add(length)?;
        if node.get(from..to)? != key {
            continue;
        }
        let end = to.checked_add(size_at(node, at + 12)?)?;
        let value = node.get(to..end)?;
        if u32_at(node, at)? & IS_BUCKET == 0 {
            return Some(Some(Found::Value(value.to_vec())));
        }
        let bucket = match u64_at(value, 0)? {
            0 => Bucket::Inline(value.get(HEADER..)?.to_vec()),
            root => Bucket::Tree(root),
        };
        return Some(Some(Found::Bucket(bucket)));
    }
    Some(None)
}

/// The page below a branch in which a key would be; `None`: the page is cut or empty.
fn child(node: &[u8], key: &[u8]) -> Option<u64> {
    let mut below = None;
    for index in 0..usize::from(u16_at(node, 10)?) {
        let at = HEADER + index * HEADER;
        let from = at.checked_add(size_at(node, at)?)?;
        let to = from.checked_add(size_at(node, at + 4)?)?;
        if below.is_some() && node.get(from..to)? > key {
            break;
        }
        below = Some(u64_at(node, at + 8)?);
    }
    below
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(found.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(found.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let found = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(found.try_into().ok()?))
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// Bytes in memory.
    pub(crate) struct Memory(pub(crate) Vec<u8>);

    impl Bytes for Memory {
        fn at(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let found = from
                .checked_add(count)
                .and_then(|to| self.0.get(from..to).map(<[u8]>::to_vec));
            found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn header(flags: u16, count: usize, more: u32) -> Vec<u8> {
        let mut page = vec![0; 8];
        page.extend(flags.to_le_bytes());
        page.extend(u16::try_from(count).unwrap().to_le_bytes());
        page.extend(more.to_le_bytes());
        page
    }

    fn number(size: usize) -> [u8; 4] {
        u32::try_from(size).unwrap().to_le_bytes()
    }

    /// A leaf page of these elements: whether it is a bucket, key, value.
    fn leaf(elements: &[(bool, &[u8], Vec<u8>)]) -> Vec<u8> {
        let mut page = header(LEAF, elements.len(), 0);
        let mut data = Vec::new();
        for (index, (is_bucket, key, value)) in elements.iter().enumerate() {
            let before = HEADER * (elements.len() - index) + data.len();
            page.extend(u32::from(*is_bucket).to_le_bytes());
            page.extend(number(before));
            page.extend(number(key.len()));
            page.extend(number(value.len()));
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        page.extend(data);
        page
    }

    fn branch(elements: &[(&[u8], u64)]) -> Vec<u8> {
        let mut page = header(BRANCH, elements.len(), 0);
        let mut data = Vec::new();
        for (index, (key, below)) in elements.iter().enumerate() {
            let before = HEADER * (elements.len() - index) + data.len();
            page.extend(number(before));
            page.extend(number(key.len()));
            page.extend(below.to_le_bytes());
            data.extend_from_slice(key);
        }
        page.extend(data);
        page
    }

    fn tree(root: u64) -> Vec<u8> {
        [root.to_le_bytes(), 0u64.to_le_bytes()].concat()
    }

    fn meta(transaction: u64, root: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        meta.extend(MAGIC.to_le_bytes());
        meta.extend(VERSION.to_le_bytes());
        meta.extend(number(PAGE));
        meta.extend([0; 4]);
        for word in [root, 0, 0, 9, transaction] {
            meta.extend(word.to_le_bytes());
        }
        let sum = checksum(&meta);
        meta.extend(sum.to_le_bytes());
        [header(4, 0, 0), meta].concat()
    }

    fn file(pages: Vec<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mut page in pages {
            let whole = page.len().div_ceil(PAGE) * PAGE;
            page.resize(whole, 0);
            bytes.extend(page);
        }
        bytes
    }

    /// As Podman keeps one container: bucket `ctr`, in it one named after the id, in it `config`.
    pub(crate) fn of_container(id: &str, config: &[u8]) -> Vec<u8> {
        let container = leaf(&[
            (false, b"config", config.to_vec()),
            (false, b"state", vec![]),
        ]);
        let containers = leaf(&[(true, id.as_bytes(), tree(5))]);
        let root = leaf(&[(true, b"ctr", tree(4)), (true, b"pod", tree(9))]);
        let more = u32::try_from(container.len().div_ceil(PAGE) - 1).unwrap();
        let mut container = container;
        container[12..16].copy_from_slice(&more.to_le_bytes());
        // The older meta leads nowhere.
        file(vec![
            meta(1, 77),
            meta(2, 3),
            header(16, 0, 0),
            root,
            containers,
            container,
        ])
    }

    #[test]
    fn a_value_is_found_over_several_pages_and_what_is_not_there_is_none() {
        let id = "a".repeat(64);
        let config = vec![b'x'; 3 * PAGE];
        let bytes = Memory(of_container(&id, &config));
        let path: [&[u8]; 2] = [b"ctr", id.as_bytes()];
        assert_eq!(value(&bytes, &path, b"config").unwrap(), Some(config));
        assert_eq!(value(&bytes, &path, b"nothing").unwrap(), None);
        let other: [&[u8]; 2] = [b"ctr", b"b"];
        assert_eq!(value(&bytes, &other, b"config").unwrap(), None);
        assert!(value(&bytes, &[], b"ctr").is_err());
        let deep: [&[u8]; 3] = [b"ctr", id.as_bytes(), b"config"];
        assert!(value(&bytes, &deep, b"x").is_err());
    }

    #[test]
    fn branches_and_small_buckets_are_followed() {
        let small = [tree(0), leaf(&[(false, b"k", b"inside".to_vec())])].concat();
        let low = leaf(&[(false, b"a", b"1".to_vec()), (false, b"f", b"2".to_vec())]);
        let high = leaf(&[(false, b"m", b"3".to_vec()), (true, b"s", small)]);
        let root = branch(&[(b"a", 4), (b"m", 5)]);
        let pages = vec![meta(7, 3), meta(6, 9), header(16, 0, 0), root, low, high];
        let bytes = Memory(file(pages));
        for (key, found) in [("a", "1"), ("f", "2"), ("m", "3")] {
            let value = value(&bytes, &[], key.as_bytes()).unwrap();
            assert_eq!(value.as_deref(), Some(found.as_bytes()), "{key}");
        }
        // Before the first key, and behind the last.
        assert_eq!(value(&bytes, &[], b"A").unwrap(), None);
        assert_eq!(value(&bytes, &[], b"z").unwrap(), None);
        let inside = value(&bytes, &[b"s"], b"k").unwrap();
        assert_eq!(inside.as_deref(), Some(b"inside".as_slice()));
    }

    #[test]
    fn a_node_is_read_up_to_the_limit() {
        let pages = |bytes: usize| u32::try_from(bytes / PAGE - 1).unwrap();
        for (more, fits) in [
            (pages(MAX_NODE_BYTES), true),
            (pages(MAX_NODE_BYTES) + 1, false),
        ] {
            let mut bytes = file(vec![meta(1, 3), meta(0, 3), header(16, 0, 0)]);
            let mut page = leaf(&[]);
            page[12..16].copy_from_slice(&more.to_le_bytes());
            bytes.extend(page);
            bytes.resize(bytes.len() + MAX_NODE_BYTES + PAGE, 0);
            assert_eq!(value(&Memory(bytes), &[], b"k").is_ok(), fits, "{more}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let id = "a".repeat(64);
        let good = of_container(&id, b"{}");
        keywheel_testkit::hostile(&good, |bytes| {
            let path: [&[u8]; 2] = [b"ctr", id.as_bytes()];
            drop(value(&Memory(bytes.to_vec()), &path, b"config"));
        });
    }
}
