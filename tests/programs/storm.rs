//! Renames a directory on the way to its own secrets, and links in its place, over and over, as fast as it can; says
//! how often, and what of its own files is not as it was.
//!
//! Built for a container by the test that runs it, with nothing but the standard library. Arguments: the directory
//! in which it renames, where the links lead (the same path has files of its own in the container), how many renames
//! are the least, and a file whose appearance ends it then. It says one line of counts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Exchanges between two looks for the end.
const ROUND: u32 = 128;
/// After each of these rounds the directory stays in its place, so that whoever looks for it may find it.
const REST: Duration = Duration::from_millis(2);
/// What lies where the links lead.
const DECOY: &str = "of the container";
/// How secret file systems are called in mount tables.
const SOURCE: &str = " keywheel-secrets ";
/// What is in the directory that is renamed.
const SECRETS: &str = "secrets";
/// Links by their names.
const LINKS: [&str; 2] = ["absolute", "climbing"];

struct Storm {
    area: PathBuf,
    bait: PathBuf,
    /// Renames that were done.
    tries: u64,
    /// Those that found something else than they expected.
    failed: u64,
    /// Directories that somebody made in the place of the one that was away.
    aside: u64,
}

impl Storm {
    fn set(area: &Path, bait: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(bait.join(SECRETS))?;
        for file in decoys(bait) {
            fs::write(file, DECOY)?;
        }
        let climbing = Path::new("../../../../../..").join(bait.strip_prefix("/").unwrap_or(bait));
        for (name, leads) in LINKS.into_iter().zip([bait, &climbing]) {
            symlink(leads, area.join(name))?;
        }
        Ok(Self {
            area: area.to_owned(),
            bait: bait.to_owned(),
            tries: 0,
            failed: 0,
            aside: 0,
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let is_done = fs::rename(self.area.join(from), self.area.join(to)).is_ok();
        if is_done {
            self.tries += 1;
        } else {
            self.failed += 1;
        }
        is_done
    }

    /// The directory goes, a link comes in its place and goes, the directory is back.
    fn exchange(&mut self, link: &str) {
        self.rename("a", "b");
        if self.rename(link, "a") {
            self.rename("a", link);
        }
        if !self.rename("b", "a") && self.area.join("b").exists() {
            let aside = format!("aside-{}", self.aside);
            self.aside += 1;
            self.rename("a", &aside);
            self.rename("b", "a");
        }
    }

    fn round(&mut self) {
        for _ in 0..ROUND {
            for link in LINKS {
                self.exchange(link);
            }
        }
        thread::sleep(REST);
    }

    /// Files, directories and mounts of the container that are not where and what they were.
    fn strange(&self) -> std::io::Result<Vec<String>> {
        let mut strange = Vec::new();
        for file in decoys(&self.bait) {
            if fs::read(&file)? != DECOY.as_bytes() {
                strange.push(format!("{} changed", file.display()));
            }
        }
        let expected = [
            (self.bait.clone(), vec!["db_password", SECRETS]),
            (self.bait.join(SECRETS), vec!["db_password"]),
        ];
        for (directory, names) in expected {
            let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
            if names_in(&directory)? != names {
                strange.push(format!("{} has other files", directory.display()));
            }
        }
        let moving = names_in(&self.area)?.into_iter();
        for name in moving.filter(|name| !LINKS.contains(&name.as_str())) {
            let is_known = name == "a" || name == "b" || name.starts_with("aside-");
            let inside = names_in(&self.area.join(&name))?;
            if !is_known || inside.iter().any(|one| one != SECRETS) {
                strange.push(format!("{name} has {} entries", inside.len()));
            }
        }
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        for line in table.lines().filter(|line| line.contains(SOURCE)) {
            let place = Path::new(line.split(' ').nth(4).unwrap_or_default());
            let is_in_area = place.starts_with(&self.area);
            if !is_in_area || place.file_name().is_none_or(|name| name != SECRETS) {
                strange.push(format!("a mount at {}", place.display()));
            }
        }
        Ok(strange)
    }
}

fn decoys(bait: &Path) -> [PathBuf; 2] {
    [
        bait.join("db_password"),
        bait.join(SECRETS).join("db_password"),
    ]
}

fn names_in(directory: &Path) -> std::io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [area, bait, least, end] = words.as_slice() else {
        return ExitCode::from(64);
    };
    let Ok(least) = least.parse::<u64>() else {
        return ExitCode::from(64);
    };
    let Ok(mut storm) = Storm::set(Path::new(area), Path::new(bait)) else {
        return ExitCode::from(73);
    };
    while storm.tries < least || !Path::new(end).exists() {
        storm.round();
    }
    let strange = match storm.strange() {
        Ok(strange) => strange,
        Err(error) => vec![format!("not looked at: {error}")],
    };
    for one in &strange {
        println!("strange: {one}");
    }
    println!(
        "tries={} failed={} aside={} strange={}",
        storm.tries,
        storm.failed,
        storm.aside,
        strange.len()
    );
    ExitCode::SUCCESS
}
