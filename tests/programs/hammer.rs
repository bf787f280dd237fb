//! Reads one file over and over, as fast as it can, and says what it saw: counts, never a content.
//!
//! Built for a container by the test that runs it, with nothing but the standard library. Arguments: the file,
//! its length, how many reads are many, and a file whose appearance ends it. It says `many` once, and in the end
//! one line of counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// Reads between two looks for the end.
const ROUND: u64 = 1024;

/// What was seen since the file was there first.
#[derive(Default)]
struct Seen {
    reads: u64,
    missing: u64,
    empty: u64,
    torn: u64,
    /// A content that came again after another one.
    back: u64,
    /// Contents, by when they were seen first.
    contents: HashMap<Vec<u8>, u64>,
    newest: u64,
}

impl Seen {
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
            "reads={} missing={} empty={} torn={} back={} contents={}",
            self.reads,
            self.missing,
            self.empty,
            self.torn,
            self.back,
            self.contents.len()
        );
    }
}

fn look(path: &Path, content: &mut Vec<u8>) -> std::io::Result<()> {
    content.clear();
    File::open(path)?.read_to_end(content).map(drop)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, length, many, end] = words.as_slice() else {
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
            match look(path, &mut content) {
                Ok(()) => seen.take(&content, length),
                Err(_) if seen.reads > 0 => seen.missing += 1,
                Err(_) => {}
            }
        }
        if seen.reads >= many && !is_told {
            println!("many");
            is_told = true;
        }
    }
    seen.tell();
    ExitCode::SUCCESS
}
