//! A file to which records are appended, one a line; put aside at a size, and then begun anew.
//!
//! Invariants: only its owner may read it; what is told is on the disk; lines are in order without a gap, over all
//! files that were put aside; what a crash left half written is taken off before more comes; a file that was removed,
//! cut or written to by somebody else is noticed before the next line, and what it lacks is told again. Where it ends
//! the file itself says, so no place is noted for it.

mod tail;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keywheel_engine::port::{ErrorKind, PortError};
use rustix::fs::OFlags;
use tokio::task::JoinHandle;

use super::line::Line;
use super::{Known, Target};
use tail::Tail;

/// Its owner reads and writes it, and nobody else.
const OWNER_ONLY: u32 = 0o600;
/// Digits of the number by which a file that was put aside is named.
const DIGITS: usize = 20;

/// The sink. Its work is done on a blocking thread, of which there is one at a time however long it hangs.
pub(super) struct Lines {
    place: Place,
    files: Option<Files>,
    busy: Option<JoinHandle<(Files, io::Result<Option<Known>>)>>,
}

/// Where the files are, and how many.
#[derive(Clone)]
struct Place {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    /// The first record of the copy; an empty file begins with it.
    begins: Arc<AtomicU64>,
}

/// The files, as one hand has them.
struct Files {
    place: Place,
    open: Option<Open>,
}

/// The file that lines are appended to.
struct Open {
    file: File,
    size: u64,
    /// Number of its first line; that of the next one while it has none.
    first: u64,
    next: u64,
}

type Work = Box<dyn FnOnce(&mut Files) -> io::Result<Option<Known>> + Send>;

impl Lines {
    pub(super) fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        let place = Place {
            path,
            max_bytes,
            keep,
            begins: Arc::default(),
        };
        Self {
            place,
            files: None,
            busy: None,
        }
    }

    /// Of a copy whose first record is this one, which may come to be another while it has none.
    pub(super) fn beginning(mut self, begins: Arc<AtomicU64>) -> Self {
        self.place.begins = begins;
        self
    }

    async fn run(&mut self, work: Work) -> Result<Option<Known>, PortError> {
        if let Some(busy) = &mut self.busy {
            // What was given up hangs still; nothing else is begun beside it.
            let late = busy.await;
            self.busy = None;
            late.map(drop).map_err(ended)?;
        }
        let files = self.files.take();
        let mut files = files.unwrap_or_else(|| Files {
            place: self.place.clone(),
            open: None,
        });
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&mut files);
            (files, done)
        });
        let worked = self.busy.insert(task).await;
        self.busy = None;
        let (files, done) = worked.map_err(ended)?;
        self.files = Some(files);
        done.map_err(|error| {
            let text = format!("{} cannot be written", self.place.path.display());
            PortError::caused(ErrorKind::Unavailable, text, error)
        })
    }
}

fn ended(error: tokio::task::JoinError) -> PortError {
    PortError::caused(ErrorKind::Unavailable, "its thread ended", error)
}

#[async_trait]
impl Target for Lines {
    async fn known(&mut self) -> Result<Option<Known>, PortError> {
        self.run(Box::new(|files: &mut Files| files.begin().map(Some)))
            .await
    }

    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        let lines: Vec<(u64, String)> = lines
            .iter()
            .map(|line| (line.sequence, format!("{}\n", line.text)))
            .collect();
        let work = move |files: &mut Files| files.append(&lines).map(|()| None);
        self.run(Box::new(work)).await.map(drop)
    }

    fn reset(&mut self) {
        self.files = None;
    }
}

impl Files {
    /// Opens the file and finds where it ends.
    fn begin(&mut self) -> io::Result<Known> {
        self.open = None;
        let mut file = open_file(&self.place.path)?;
        sync_directory(&self.place.path)?;
        // One that holds something else is somebody's, and is left as it is.
        let tail = tail::read(&mut file)?;
        shut(&file)?;
        if tail.half_written > 0 {
            file.set_len(tail.size)?;
            file.sync_all()?;
        }
        let (first, last) = match (tail.first, tail.last) {
            (Some(first), Some(last)) => (Some(first.sequence), Some(last)),
            _ => (None, self.last_aside()?),
        };
        let known = Known {
            next: last.map_or_else(
                || self.place.begins.load(Ordering::Relaxed),
                |last| last.sequence.saturating_add(1),
            ),
            leaf: last.and_then(|last| last.leaf),
        };
        self.open = Some(Open {
            file,
            size: tail.size,
            first: first.unwrap_or(known.next),
            next: known.next,
        });
        Ok(known)
    }

    /// The last line of what was put aside last.
    fn last_aside(&self) -> io::Result<Option<Tail>> {
        let Some((_, path)) = self.aside()?.pop() else {
            return Ok(None);
        };
        let mut file = File::open(path)?;
        Ok(tail::read(&mut file)?.last)
    }

    /// What was put aside, oldest first.
    fn aside(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let (Some(directory), Some(name)) = (self.place.path.parent(), self.place.path.file_name())
        else {
            return Ok(Vec::new());
        };
        let name = format!("{}.", name.to_string_lossy());
        let mut all = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let found = entry.file_name().to_string_lossy().into_owned();
            let number = found.strip_prefix(&name);
            let number = number.filter(|number| number.len() == DIGITS);
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                all.push((number, entry.path()));
            }
        }
        all.sort();
        Ok(all)
    }

    fn append(&mut self, lines: &[(u64, String)]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let most = self.place.max_bytes;
            let open = self.checked()?;
            let room = most.saturating_sub(open.size);
            let fitting = fitting(rest, room, open.size == 0);
            if fitting == 0 {
                self.put_aside()?;
                continue;
            }
            let (now, later) = rest.split_at(fitting);
            open.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// The open file, if it is the one at its path and as long as we left it.
    fn checked(&mut self) -> io::Result<&mut Open> {
        let path = &self.place.path;
        let open = self.open.as_mut().ok_or_else(|| other("it is not open"))?;
        let there = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(other("it was removed; what it lacks is written again"));
            }
            there => there?,
        };
        let own = open.file.metadata()?;
        let is_same = (there.dev(), there.ino(), own.len()) == (own.dev(), own.ino(), open.size);
        match is_same {
            true => Ok(open),
            false => Err(other(
                "somebody else replaced, cut or wrote to it; what it lacks is written again",
            )),
        }
    }

    /// Names the full file by its first record, and begins another.
    fn put_aside(&mut self) -> io::Result<()> {
        let open = self.open.take().ok_or_else(|| other("it is not open"))?;
        let mut aside = self.place.path.clone().into_os_string();
        aside.push(format!(".{:0digits$}", open.first, digits = DIGITS));
        let aside = PathBuf::from(aside);
        if aside.try_exists()? {
            let text = format!("{} is there already; move it elsewhere", aside.display());
            return Err(other(&text));
        }
        fs::rename(&self.place.path, &aside)?;
        let file = open_file(&self.place.path)?;
        shut(&file)?;
        sync_directory(&self.place.path)?;
        self.open = Some(Open {
            file,
            size: 0,
            first: open.next,
            next: open.next,
        });
        self.forget_old()
    }

    fn forget_old(&self) -> io::Result<()> {
        if self.place.keep == 0 {
            return Ok(());
        }
        let all = self.aside()?;
        let kept = usize::try_from(self.place.keep).unwrap_or(usize::MAX);
        let old = all.len().saturating_sub(kept);
        for (_, path) in all.into_iter().take(old) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Open {
    fn write(&mut self, lines: &[(u64, String)]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut next = self.next;
        for (sequence, line) in lines {
            if *sequence != next {
                return Err(other(&format!("record {sequence} is not next; {next} is")));
            }
            bytes.extend_from_slice(line.as_bytes());
            next += 1;
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.size += bytes.len() as u64;
        self.next = next;
        Ok(())
    }
}

/// How many lines have room; an empty file takes at least one, however long.
fn fitting(lines: &[(u64, String)], room: u64, is_empty: bool) -> usize {
    let mut size = 0;
    let count = lines
        .iter()
        .take_while(|(_, line)| {
            size += line.len() as u64;
            size <= room
        })
        .count();
    count.max(usize::from(is_empty))
}

/// Made for its owner alone; a link at its place is not followed.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(OWNER_ONLY)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(other("what is there keeps no lines; name a file")),
    }
}

/// Takes it from others who might read it. One that has another name may be another file of somebody's, by a link.
fn shut(file: &File) -> io::Result<()> {
    let there = file.metadata()?;
    if there.mode() & 0o077 == 0 {
        return Ok(());
    }
    if there.nlink() > 1 {
        return Err(other(
            "others may read or write it, and it has another name, too; give it one name alone, and mode 0600",
        ));
    }
    let shut = file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY));
    shut.map_err(|error| other(&open_to_others(&there, &error)))
}

/// Why a file that others may read or write is not written to: whoever owns it alone can shut it.
fn open_to_others(there: &fs::Metadata, error: &io::Error) -> String {
    let (mode, uid) = (there.mode() & 0o7777, there.uid());
    format!(
        "others may read or write it (mode {mode:04o}), and it belongs to uid {uid}, so it cannot be shut ({error}); give it to the audit sink's own user with mode 0600"
    )
}

/// So that a file that was made or renamed is there after a crash, too.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

#[cfg(test)]
mod tests;
