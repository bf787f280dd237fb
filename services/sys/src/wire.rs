//! The fixed-size messages between this crate and its namespace helper, on one `SOCK_SEQPACKET` pair.
//!
//! One request with its file descriptors, one reply. No allocation on either side. Private to this crate: both ends
//! are built from the same commit, so the format carries a check word and no version negotiation.

/// Longest directory inside a container. Short enough that rustix keeps its C string on the stack.
pub const MAX_DIR: usize = 240;
/// Longest text in a reply.
pub const MAX_DETAIL: usize = 240;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 24 + MAX_DIR;
/// Bytes of a reply.
pub const REPLY_LEN: usize = 16 + MAX_DETAIL;
/// First bytes of both messages.
const CHECK: u32 = 0x4B57_4E01;
/// Source name of the wrapper's empty mount point.
pub const PLACEHOLDER_SOURCE: &[u8] = b"keywheel";
/// Source name of a secret file system.
pub const SECRETS_SOURCE: &[u8] = b"keywheel-secrets";

/// What the helper shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Move the passed mount onto the directory.
    Attach,
    /// Return a writable clone of the mount at the directory.
    Reacquire,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The operation.
    pub op: Op,
    /// Whether missing directories are made.
    pub create_dir: bool,
    /// Seconds after which the helper ends itself.
    pub alarm_seconds: u32,
    /// Device number the directory must have in the end.
    pub device: u64,
    length: usize,
    dir: [u8; MAX_DIR],
}

/// Whether `dir` is absolute, short, and made of plain components.
#[must_use]
pub fn is_plain_directory(dir: &[u8]) -> bool {
    let Some((b'/', rest)) = dir.split_first() else {
        return false;
    };
    dir.len() <= MAX_DIR
        && !dir.contains(&0)
        && rest
            .split(|byte| *byte == b'/')
            .all(|part| !part.is_empty() && part != b"." && part != b"..")
}

impl Request {
    /// A request; `None` when `dir` is not plain.
    #[must_use]
    pub fn new(
        op: Op,
        create_dir: bool,
        alarm_seconds: u32,
        device: u64,
        dir: &[u8],
    ) -> Option<Self> {
        if !is_plain_directory(dir) {
            return None;
        }
        let mut buffer = [0; MAX_DIR];
        buffer.get_mut(..dir.len())?.copy_from_slice(dir);
        Some(Self {
            op,
            create_dir,
            alarm_seconds,
            device,
            length: dir.len(),
            dir: buffer,
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &[u8] {
        self.dir.get(..self.length).unwrap_or_default()
    }

    /// The bytes on the socket.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let op = match self.op {
            Op::Attach => 1,
            Op::Reacquire => 2,
        };
        put(&mut bytes, 0, &CHECK.to_le_bytes());
        put(&mut bytes, 4, &[op, u8::from(self.create_dir)]);
        put(
            &mut bytes,
            6,
            &u16::try_from(self.length).unwrap_or(0).to_le_bytes(),
        );
        put(&mut bytes, 8, &self.alarm_seconds.to_le_bytes());
        put(&mut bytes, 16, &self.device.to_le_bytes());
        put(&mut bytes, 24, &self.dir);
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REQUEST_LEN || take::<4>(bytes, 0)? != CHECK.to_le_bytes() {
            return None;
        }
        let op = match bytes.get(4)? {
            1 => Op::Attach,
            2 => Op::Reacquire,
            _ => return None,
        };
        let length = usize::from(u16::from_le_bytes(take(bytes, 6)?));
        let dir = bytes.get(24..)?.get(..length)?;
        Self::new(
            op,
            *bytes.get(5)? == 1,
            u32::from_le_bytes(take(bytes, 8)?),
            u64::from_le_bytes(take(bytes, 16)?),
            dir,
        )
    }
}

/// Why the helper refused. The number is the wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Done.
    None = 0,
    /// The request or its descriptors were malformed.
    Request = 1,
    /// procfs could not be opened or is not procfs.
    Procfs = 2,
    /// The mount namespace could not be joined.
    Join = 3,
    /// The namespace's root could not be opened.
    Root = 4,
    /// The directory could not be opened (a symlink on the way, or missing).
    Open = 5,
    /// The directory could not be made.
    Create = 6,
    /// The mount table could not be read.
    Table = 7,
    /// Another mount is at or below the directory; named in the detail.
    Foreign = 8,
    /// A secret file system is already there.
    Already = 9,
    /// The directory lies on a shared mount; named in the detail.
    Shared = 10,
    /// The mount at the directory is not the wrapper's empty read-only placeholder.
    Placeholder = 11,
    /// The mount could not be moved.
    Move = 12,
    /// What is at the directory is not the expected file system.
    Device = 13,
    /// No secret file system is at the directory.
    Absent = 14,
    /// The mount could not be cloned.
    Clone = 15,
    /// The clone could not be made writable.
    Writable = 16,
    /// The system call filter could not be installed.
    Filter = 17,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::None,
        Self::Request,
        Self::Procfs,
        Self::Join,
        Self::Root,
        Self::Open,
        Self::Create,
        Self::Table,
        Self::Foreign,
        Self::Already,
        Self::Shared,
        Self::Placeholder,
        Self::Move,
        Self::Device,
        Self::Absent,
        Self::Clone,
        Self::Writable,
        Self::Filter,
    ];

    fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The fault for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "done",
            Self::Request => "the namespace helper got a malformed request",
            Self::Procfs => "the host's /proc is not procfs",
            Self::Join => "cannot join the container's mount namespace",
            Self::Root => "cannot open the container's root directory",
            Self::Open => "cannot open the directory (is it missing, or is a symlink on the way?)",
            Self::Create => "cannot make the directory in the container",
            Self::Table => "cannot read the container's mount table",
            Self::Foreign => "another mount is at or below the directory",
            Self::Already => "a secret file system is already mounted there",
            Self::Shared => "the directory lies on a mount that is shared with the host",
            Self::Placeholder => "the mount there is not the runtime's empty read-only placeholder",
            Self::Move => "cannot mount the secret file system there",
            Self::Device => "what is mounted there is not the expected secret file system",
            Self::Absent => "no secret file system is mounted there",
            Self::Clone => "cannot clone the secret file system",
            Self::Writable => "cannot make the private clone writable",
            Self::Filter => "cannot install the system call filter",
        }
    }
}

/// Text of bounded length that goes with a reply.
#[derive(Clone, Debug)]
pub struct Detail {
    length: usize,
    bytes: [u8; MAX_DETAIL],
}

impl Default for Detail {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; MAX_DETAIL],
        }
    }
}

impl Detail {
    /// Replaces the text, cut at the limit.
    pub fn set(&mut self, text: impl Iterator<Item = u8>) {
        self.length = 0;
        for (slot, byte) in self.bytes.iter_mut().zip(text) {
            *slot = byte;
            self.length += 1;
        }
    }

    /// The text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes.get(..self.length).unwrap_or_default()).into_owned()
    }
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What went wrong, or [`Fault::None`].
    pub fault: Fault,
    /// The kernel's error number, or 0.
    pub errno: i32,
    /// The mount that stands in the way.
    pub detail: Detail,
}

impl Reply {
    /// The bytes on the socket.
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        put(&mut bytes, 0, &CHECK.to_le_bytes());
        put(&mut bytes, 4, &[self.fault as u8]);
        put(
            &mut bytes,
            6,
            &u16::try_from(self.detail.length).unwrap_or(0).to_le_bytes(),
        );
        put(&mut bytes, 8, &self.errno.to_le_bytes());
        put(&mut bytes, 16, &self.detail.bytes);
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REPLY_LEN || take::<4>(bytes, 0)? != CHECK.to_le_bytes() {
            return None;
        }
        let length = usize::from(u16::from_le_bytes(take(bytes, 6)?));
        let mut detail = Detail::default();
        detail.set(bytes.get(16..)?.get(..length)?.iter().copied());
        Some(Self {
            fault: Fault::from_wire(*bytes.get(4)?)?,
            errno: i32::from_le_bytes(take(bytes, 8)?),
            detail,
        })
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(part) {
        *slot = *byte;
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_socket() {
        let request = Request::new(Op::Reacquire, true, 7, u64::MAX - 3, b"/run/secrets").unwrap();
        let back = Request::decode(&request.encode()).unwrap();
        assert_eq!(
            (back.op, back.create_dir, back.alarm_seconds),
            (Op::Reacquire, true, 7)
        );
        assert_eq!(
            (back.device, back.dir()),
            (u64::MAX - 3, &b"/run/secrets"[..])
        );
    }

    #[test]
    fn a_reply_survives_the_socket_and_cuts_its_detail() {
        let mut detail = Detail::default();
        detail.set(std::iter::repeat_n(b'x', MAX_DETAIL + 9));
        let reply = Reply {
            fault: Fault::Shared,
            errno: -5,
            detail,
        };
        let back = Reply::decode(&reply.encode()).unwrap();
        assert_eq!(
            (back.fault, back.errno, back.detail.text().len()),
            (Fault::Shared, -5, MAX_DETAIL)
        );
    }

    #[test]
    fn every_fault_has_its_own_number() {
        for (number, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, number);
        }
        assert_eq!(Fault::from_wire(18), None);
    }

    #[test]
    fn only_plain_directories_pass() {
        for good in ["/run/secrets", "/a", "/opt/app/..data"] {
            assert!(is_plain_directory(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "/",
            "run",
            "/run/",
            "/run//x",
            "/run/../etc",
            "/.",
            "/a\0b",
        ] {
            assert!(!is_plain_directory(bad.as_bytes()), "{bad}");
        }
        let longest = format!("/{}", "a".repeat(MAX_DIR - 1));
        assert!(is_plain_directory(longest.as_bytes()));
        assert!(!is_plain_directory(format!("{longest}a").as_bytes()));
    }

    #[test]
    fn no_bytes_make_either_reader_panic() {
        let reply = [1; REPLY_LEN];
        keywheel_testkit::hostile(&reply, |bytes| {
            drop(Request::decode(bytes));
            drop(Reply::decode(bytes));
        });
    }

    #[test]
    fn short_or_foreign_bytes_are_refused() {
        let good = Request::new(Op::Attach, false, 1, 1, b"/a")
            .unwrap()
            .encode();
        assert!(Request::decode(good.get(1..).unwrap()).is_none());
        assert!(Request::decode(&[0; REQUEST_LEN]).is_none());
        assert!(Reply::decode(&[0; REPLY_LEN]).is_none());
    }
}
