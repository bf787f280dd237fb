//! The memory of running processes, searched for plaintexts.
//!
//! Everything that a process can write is read through procfs while it runs: heap, stacks, what it mapped. What goes
//! meanwhile is passed over. It does not look into the kernel: a container's file lies in pages of a memory file
//! system, where it belongs. Registers are not seen either, nor pages that nobody reads from outside (`memfd_secret`):
//! a process that is begun with [`UNLOCKED`] has none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::canary::{Canary, Hit};
use crate::keywheel::Options;
use crate::wait;

/// Begins the command line of a process that may lock no memory, whose keys and values then lie where they can be
/// looked for: see [`unlocked`]. The bounding set takes from root what goes beyond the limit.
pub const UNLOCKED: [&str; 5] = [
    "prlimit",
    "--memlock=0:0",
    "setpriv",
    "--inh-caps=-ipc_lock",
    "--bounding-set=-ipc_lock",
];

/// How a table of mappings names pages that nobody reads from outside.
const HIDDEN: &str = " /secretmem";
/// How the names of our processes begin.
const OWN: &str = "keywheel";
/// What the limit of a process that leaves no core looks like.
const NO_CORE: [&str; 2] = ["0", "0"];

/// Has all processes lie open, with these options beside.
#[must_use]
pub fn unlocked(options: &Options) -> Options {
    Options {
        prefix: UNLOCKED.map(str::to_owned).to_vec(),
        ..options.clone()
    }
}

/// A part of a process's memory.
struct Region<'m> {
    memory: &'m File,
    at: u64,
    end: u64,
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(room) = buffer.get_mut(..wanted) else {
            return Ok(0);
        };
        // One that went since it was listed has nothing.
        let read = self.memory.read_at(room, self.at).unwrap_or(0);
        self.at = self.at.saturating_add(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

/// From where to where a writable mapping goes, by its line in `maps`.
fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rest.starts_with("rw")
        .then_some((number(from)?, number(to)?))
}

fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Searches what a process can write. One that ended meanwhile has nothing.
pub fn search(canary: &Canary, pid: u32) -> Result<Vec<Hit>> {
    let folder = folder(pid);
    let opened = File::open(folder.join("mem"));
    let listed = fs::read_to_string(folder.join("maps"));
    let (Ok(memory), Ok(maps)) = (opened, listed) else {
        ensure!(
            !folder.exists(),
            "the memory of process {pid} cannot be read"
        );
        return Ok(Vec::new());
    };
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let place = format!("memory of {} ({pid})", name.trim());
    let mut hits = Vec::new();
    for (at, end) in maps.lines().filter_map(writable) {
        let memory = &memory;
        hits.extend(canary.search_stream(&place, Region { memory, at, end })?);
    }
    Ok(hits)
}

/// Whether a process has pages in which a search finds nothing, whatever lies there.
fn is_hidden(pid: u32) -> bool {
    let maps = fs::read_to_string(folder(pid).join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.contains(HIDDEN))
}

/// Processes whose arguments name something below a directory; one of ours has to be among them.
fn processes(below: &Path) -> Result<Vec<u32>> {
    let below = below.as_os_str().as_encoded_bytes();
    let (mut found, mut has_own) = (Vec::new(), false);
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.windows(below.len()).any(|part| part == below) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            has_own |= name.starts_with(OWN);
            found.push(pid);
        }
    }
    ensure!(has_own, "no process of ours runs there");
    Ok(found)
}

/// Waits until no process that was started with something below this directory has any of these in its memory, in any
/// encoding; what a request or an effect under way has it gives up when it is done. All have to be [`unlocked`].
pub fn assert_forgotten(below: &Path, plaintexts: &[&str]) -> Result<()> {
    let plaintexts: Vec<Vec<u8>> = plaintexts
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    let canary = Canary::new(&plaintexts)?;
    let (mut left, mut hidden) = (Vec::<Hit>::new(), Vec::<u32>::new());
    let gone = wait::until_true("memory without a plaintext", wait::PATIENCE, || {
        left.clear();
        hidden.clear();
        for pid in processes(below)? {
            left.extend(search(&canary, pid)?);
            hidden.extend(Some(pid).filter(|pid| is_hidden(*pid)));
        }
        Ok(left.is_empty() && hidden.is_empty())
    });
    gone.with_context(|| {
        format!(
            "plaintext in memory, rule I13: {left:#?}; memory that is not looked at: {hidden:?}"
        )
    })
}

/// The first of these that a process has in its memory, by its number; it may have only one of them.
pub fn first_held(pid: u32, secrets: &[Vec<u8>]) -> Result<Option<usize>> {
    for (number, secret) in secrets.iter().enumerate() {
        if !search(&Canary::new(std::slice::from_ref(secret))?, pid)?.is_empty() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Waits until a process has none of these in its memory, in any encoding. It has to be there still, and
/// [`unlocked`].
pub fn assert_forgotten_by(pid: u32, secrets: &[Vec<u8>]) -> Result<()> {
    let canary = Canary::new(secrets)?;
    let mut left: Vec<Hit> = Vec::new();
    let gone = wait::until_true("a process without a secret", wait::PATIENCE, || {
        ensure!(folder(pid).exists(), "process {pid} is gone");
        ensure!(!is_hidden(pid), "not all memory of {pid} is looked at");
        left = search(&canary, pid)?;
        Ok(left.is_empty())
    });
    gone.with_context(|| format!("secret in memory, rule I18: {left:#?}"))
}

/// Every such process of ours leaves no core.
pub fn assert_coreless(below: &Path) -> Result<()> {
    for pid in processes(below)? {
        let Ok(limits) = fs::read_to_string(folder(pid).join("limits")) else {
            continue;
        };
        let name = fs::read_to_string(folder(pid).join("comm")).unwrap_or_default();
        if !name.starts_with(OWN) {
            continue;
        }
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let words: Vec<&str> = line
            .unwrap_or_default()
            .split_whitespace()
            .take(2)
            .collect();
        ensure!(
            words == NO_CORE,
            "process {pid} may leave a core: {words:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_can_be_written_is_a_region() {
        let line = "7f00a000-7f00b000 rw-p 00000000 00:00 0 ";
        assert_eq!(writable(line), Some((0x7f00_a000, 0x7f00_b000)));
        let stack = "7ffd0000-7ffd2000 rw-p 00000000 00:00 0    [stack]";
        assert!(writable(stack).is_some());
        for line in [
            "7f00a000-7f00b000 r-xp 00000000 08:01 5 /bin/x",
            "",
            "x-y rw-p",
        ] {
            assert_eq!(writable(line), None, "{line}");
        }
    }

    #[test]
    fn what_another_process_has_is_found_for_as_long_as_it_has_it() -> Result<()> {
        let value = format!("a-plaintext-in-an-environment-{}", std::process::id());
        let canary = Canary::new(&[value.clone().into_bytes()])?;
        let mut child = Command::new("sleep")
            .arg("600")
            .env("KEYWHEEL_TEST_PLAINTEXT", &value)
            .spawn()?;
        // The kernel may be at its start still, when its memory is moved.
        let hits = wait::until("the child's memory", wait::PATIENCE, || {
            Ok(Some(search(&canary, child.id())?).filter(|hits| !hits.is_empty()))
        });
        child.kill()?;
        child.wait()?;
        let hits = hits?;
        assert!(hits.iter().any(|hit| hit.encoding == "raw"), "{hits:?}");
        assert!(search(&canary, child.id())?.is_empty());
        Ok(())
    }

    #[test]
    fn a_process_that_has_one_of_several_is_told_and_one_without_them_passes() -> Result<()> {
        let text = |which: &str| format!("a-secret-of-{which}-{}", std::process::id()).into_bytes();
        let value = String::from_utf8(text("one"))?;
        let mut child = Command::new("sleep")
            .arg("600")
            .env("KEYWHEEL_TEST_PLAINTEXT", &value)
            .spawn()?;
        let (one, other) = (text("one"), text("other"));
        let held = wait::until("the child's memory", wait::PATIENCE, || {
            first_held(child.id(), &[other.clone(), one.clone()])
        });
        let without = assert_forgotten_by(child.id(), &[other]);
        child.kill()?;
        child.wait()?;
        assert_eq!(held?, 1);
        without?;
        Ok(())
    }

    #[test]
    fn a_process_that_is_gone_has_nothing_and_no_process_is_a_fault() -> Result<()> {
        let canary = Canary::new(&[b"a-plaintext-of-some-length".to_vec()])?;
        assert!(search(&canary, u32::MAX)?.is_empty());
        assert!(processes(Path::new("/no/process/names/this")).is_err());
        Ok(())
    }
}
