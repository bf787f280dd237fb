//! Reads one file, or the files of one directory, over and over, as fast as it can, and says what it saw: counts,
//! never a content.
//!
//! Built for a container by the test that runs it, with nothing but the standard library. Arguments: the file,
//! its length, how many reads are many, and a file whose appearance ends it; with names after these the first is a
//! directory, each of whose files holds its name, `=` and the one value, which has the length. It says `many` once,
//! and in the end one line of counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::process::ExitCode;

/// Reads between two looks for the end.
const ROUND: u64 = 1024;

/// What one look found.
enum Look {
    /// A content, or one value in all files.
    Whole,
    /// Files of several values.
    Mixed,
    /// The directory was replaced since it was opened.
    Gone,
    /// No file, or no directory.
    Missing,
}

/// What was seen since the file was there first.
#[derive(Default)]
struct Seen {
    reads: u64,
    missing: u64,
    gone: u64,
    mixed: u64,
    empty: u64,
    torn: u64,
    /// A content that came again after another one.
    back: u64,
    /// Contents, by when they were seen first.
    contents: HashMap<Vec<u8>, u64>,
    newest: u64,
}

impl Seen {
    fn note(&mut self, look: &Look, content: &[u8], length: usize) {
        match look {
            Look::Whole => self.take(content, length),
            Look::Mixed => {
                self.reads += 1;
                self.mixed += 1;
            }
            Look::Gone => self.gone += 1,
            Look::Missing => self.missing += u64::from(self.reads > 0),
        }
    }

    fn take(&mut self, content: &[u8], length: usize) {
        self.reads += 1;
        match content.len() {
            0 => self.empty += 1,
            some if some != length => self.torn += 1,
            _ => match self.contents.get(content) {
                Some(first) if *first == self.newest => {}
                Some(_) => self.back += 1,
                None => {
                    self.newest += 1;
                    self.contents.insert(content.to_vec(), self.newest);
                }
            },
        }
    }

    fn tell(&self) {
        println!(
            "reads={} missing={} gone={} mixed={} empty={} torn={} back={} contents={}",
            self.reads,
            self.missing,
            self.gone,
            self.mixed,
            self.empty,
            self.torn,
            self.back,
            self.contents.len()
        );
    }
}

fn read(path: &Path, content: &mut Vec<u8>) -> std::io::Result<()> {
    content.clear();
    File::open(path)?.read_to_end(content).map(drop)
}

/// Puts into `content` what the file holds.
fn look_at_file(path: &Path, content: &mut Vec<u8>) -> Look {
    match read(path, content) {
        Ok(()) => Look::Whole,
        Err(_) => Look::Missing,
    }
}

/// Puts into `content` the value that all files of the directory hold, which is opened once for all of them.
fn look_at_set(path: &Path, names: &[String], content: &mut Vec<u8>) -> Look {
    if std::env::set_current_dir(path).is_err() {
        return Look::Missing;
    }
    let mut file = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        match read(Path::new(name), &mut file) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Look::Gone,
            Err(_) => return Look::Missing,
        }
        let value = file.strip_prefix(name.as_bytes());
        let value = value.and_then(|rest| rest.strip_prefix(b"="));
        let value = value.unwrap_or_default();
        if nth == 0 {
            content.clear();
            content.extend_from_slice(value);
        } else if content.as_slice() != value {
            return Look::Mixed;
        }
    }
    Look::Whole
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, length, many, end, names @ ..] = words.as_slice() else {
        return ExitCode::from(64);
    };
    let (Ok(length), Ok(many)) = (length.parse::<usize>(), many.parse::<u64>()) else {
        return ExitCode::from(64);
    };
    let (path, end) = (Path::new(path), Path::new(end));
    let mut seen = Seen::default();
    let mut content = Vec::with_capacity(length + 1);
    let mut is_told = false;
    while !end.exists() {
        for _ in 0..ROUND {
            let look = match names {
                [] => look_at_file(path, &mut content),
                names => look_at_set(path, names, &mut content),
            };
            seen.note(&look, &content, length);
        }
        if seen.reads >= many && !is_told {
            println!("many");
            is_told = true;
        }
    }
    seen.tell();
    ExitCode::SUCCESS
}
