//! Log lines as entries of systemd's journal, in its native protocol: one datagram per line, a field per
//! thing that is said.
//!
//! Invariants: a line is never taken apart by what is in it, since a field with a line end goes by its
//! length; a field has at most [`MAX_FIELD_BYTES`] and an entry at most [`MAX_ENTRY_BYTES`], so that it
//! fits a datagram. A journal that does not take them loses lines, and nothing waits for it: they are
//! counted, and said in one line as soon as one gets through.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest value of a field; the rest is cut.
const MAX_FIELD_BYTES: usize = 8 << 10;
/// Longest entry; what does not fit is left out.
const MAX_ENTRY_BYTES: usize = 64 << 10;
/// Of an entry, what is for fields; the message has its own room.
const ROOM_FOR_FIELDS: usize = MAX_ENTRY_BYTES - MAX_FIELD_BYTES - 64;
/// How the names of our fields begin.
const PREFIX: &str = "KEYWHEEL_";

/// Lines of this process that the journal did not take.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many log lines systemd's journal did not take since the start; none where logs go elsewhere.
#[must_use]
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Sends every line to the journal.
pub(crate) struct Journal {
    socket: UnixDatagram,
    identifier: String,
    /// Lost lines that were not said yet.
    unsaid: AtomicU64,
}

impl Journal {
    /// At this socket; `identifier` is what `journalctl -t` finds.
    pub(crate) fn connect(path: &Path, identifier: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            identifier: identifier.to_owned(),
            unsaid: AtomicU64::new(0),
        })
    }

    /// What every entry begins with.
    fn entry(&self, level: Level, target: &str) -> Entry {
        let mut entry = Entry::default();
        entry.add("PRIORITY", priority(level), MAX_ENTRY_BYTES);
        entry.add("SYSLOG_IDENTIFIER", &self.identifier, MAX_ENTRY_BYTES);
        entry.add("KEYWHEEL_TARGET", target, MAX_ENTRY_BYTES);
        entry
    }

    /// Sends a line; one that gets through is followed by how many did not before it.
    fn send(&self, entry: &Entry) {
        if self.socket.send(&entry.fields).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.unsaid.swap(0, Ordering::Relaxed);
        if lost > 0 && self.socket.send(&self.loss(lost).fields).is_err() {
            self.unsaid.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn loss(&self, lost: u64) -> Entry {
        let mut entry = self.entry(Level::WARN, module_path!());
        let count = lost.to_string();
        entry.add(&format!("{PREFIX}COUNT"), &count, MAX_ENTRY_BYTES);
        let message = format!(
            "{lost} log lines lost: the journal did not take them; raise net.unix.max_dgram_qlen, or log less"
        );
        entry.add("MESSAGE", &message, MAX_ENTRY_BYTES);
        entry
    }
}

/// One entry: what people read, and the fields.
#[derive(Default)]
struct Entry {
    message: String,
    said: String,
    fields: Vec<u8>,
}

impl Entry {
    /// Adds a field, unless the entry would be longer than `most`.
    fn add(&mut self, name: &str, value: &str, most: usize) {
        let mut end = value.len().min(MAX_FIELD_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = value.get(..end).unwrap_or_default();
        // Name, length, two line ends.
        if self.fields.len() + name.len() + 10 + value.len() > most {
            return;
        }
        self.fields.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.fields.push(b'\n');
            self.fields
                .extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.fields.push(b'=');
        }
        self.fields.extend_from_slice(value.as_bytes());
        self.fields.push(b'\n');
    }

    fn say(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let name: String = field.name().chars().map(upper).collect();
        self.add(&format!("{PREFIX}{name}"), value, ROOM_FOR_FIELDS);
        // Writing into a string cannot fail.
        let _ = write!(self.said, " {}={value}", field.name());
    }
}

/// The journal's letters for names.
fn upper(letter: char) -> char {
    match letter.to_ascii_uppercase() {
        letter @ ('A'..='Z' | '0'..='9') => letter,
        _ => '_',
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.say(field, &format!("{value:?}"));
    }
}

/// As syslog numbers it.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = self.entry(*metadata.level(), metadata.target());
        event.record(&mut entry);
        let message = format!("{}{}", entry.message, entry.said);
        entry.add("MESSAGE", message.trim_start(), MAX_ENTRY_BYTES);
        self.send(&entry);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Reads an entry as systemd's documentation of the native protocol has it.
    fn read(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let line = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 1..];
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
                    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                    let value = String::from_utf8(rest[..length].to_vec()).unwrap();
                    assert_eq!(rest[length], b'\n');
                    bytes = &rest[length + 1..];
                    (line, value)
                }
            };
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(
                name.chars().all(is_name) && !name.starts_with('_'),
                "{name}"
            );
            assert_eq!(fields.insert(name.to_owned(), value), None, "{name} twice");
        }
        fields
    }

    #[test]
    fn lines_are_entries_with_fields_that_nothing_in_them_can_forge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path, "keywheel").unwrap();
        let subscriber = tracing_subscriber::registry().with(journal);
        let long = "é".repeat(MAX_FIELD_BYTES);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(secret_name = "test/db", version = 3_u64, "rotation started");
            tracing::error!(reason = "first\nPRIORITY=0\n", "step failed");
            tracing::warn!(a.b = %long, nothing = None::<&str>, "long");
        });
        let heard = || {
            let mut bytes = vec![0; 2 * MAX_ENTRY_BYTES];
            let length = listener.recv(&mut bytes).unwrap();
            bytes.truncate(length);
            read(&bytes)
        };
        let started = heard();
        let of = |fields: &BTreeMap<String, String>, name: &str| fields.get(name).cloned();
        let expected = [
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "keywheel"),
            ("MESSAGE", "rotation started secret_name=test/db version=3"),
            ("KEYWHEEL_SECRET_NAME", "test/db"),
            ("KEYWHEEL_VERSION", "3"),
        ];
        for (name, value) in expected {
            assert_eq!(of(&started, name).as_deref(), Some(value), "{name}");
        }
        assert!(of(&started, "KEYWHEEL_TARGET").is_some());
        assert_eq!(started.len(), expected.len() + 1);
        let failed = heard();
        assert_eq!(of(&failed, "PRIORITY").as_deref(), Some("3"));
        let reason = of(&failed, "KEYWHEEL_REASON");
        assert_eq!(reason.as_deref(), Some("first\nPRIORITY=0\n"));
        let cut = heard();
        assert_eq!(of(&cut, "PRIORITY").as_deref(), Some("4"));
        assert_eq!(
            of(&cut, "KEYWHEEL_A_B").map(|v| v.len()),
            Some(MAX_FIELD_BYTES)
        );
        assert_eq!(of(&cut, "KEYWHEEL_NOTHING"), None);
    }

    #[test]
    fn lines_that_the_journal_does_not_take_are_counted_and_said_once() {
        const BURST: u64 = 10_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let journal = Journal::connect(&path, "keywheel").unwrap();
        let heard = || {
            let mut all = Vec::new();
            let mut bytes = vec![0; 2 * MAX_ENTRY_BYTES];
            while let Ok(length) = listener.recv(&mut bytes) {
                all.push(read(&bytes[..length]));
            }
            all
        };
        let message = |fields: &BTreeMap<String, String>| fields["MESSAGE"].clone();
        let before = lines_lost();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            // Nobody reads, so that most of it finds no room.
            for number in 0..BURST {
                tracing::info!(number, "one of many");
            }
            let lost = lines_lost() - before;
            assert!(lost > 0 && lost < BURST, "{lost}");
            let taken = heard();
            assert_eq!(taken.len() as u64, BURST - lost);
            assert!(taken.iter().all(|fields| fields["PRIORITY"] == "6"));
            tracing::info!("there is room");
            tracing::info!("and more");
            let [line, said, next] = &heard()[..] else {
                panic!("three lines");
            };
            assert_eq!(message(line), "there is room");
            assert_eq!(said["KEYWHEEL_COUNT"], lost.to_string());
            assert!(message(said).contains("max_dgram_qlen"), "{said:?}");
            assert_eq!(said["PRIORITY"], "4");
            assert_eq!(message(next), "and more");
            assert_eq!(lines_lost() - before, lost);
        });
    }

    #[test]
    fn an_entry_is_as_long_as_a_datagram_may_be_and_not_longer() {
        let mut entry = Entry::default();
        let value = "x".repeat(MAX_FIELD_BYTES - 11);
        for _ in 0..10 {
            entry.add("A", &value, MAX_ENTRY_BYTES);
        }
        // Each takes its value, its name, and ten bytes more are reckoned for it.
        assert_eq!(
            entry.fields.len(),
            MAX_ENTRY_BYTES / MAX_FIELD_BYTES * (value.len() + 3)
        );
        assert!(entry.fields.len() <= MAX_ENTRY_BYTES);
    }

    #[test]
    fn without_a_journal_there_is_an_error() {
        assert!(Journal::connect(Path::new("/nowhere/socket"), "x").is_err());
    }
}
