//! A census of host files (I12): whatever an attack reaches for is the same afterwards, down to inode,
//! times and content.
//!
//! Owns looking and comparing; which files, its caller knows. Links are not followed, and what is no
//! regular file is not opened. Access times are left out: whoever reads changes them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

/// What is known of one file. Two that are equal are the same file, untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    modified: (i64, i64),
    /// Also an `utime` or a `chmod` that was taken back shows here.
    changed: (i64, i64),
    /// SHA-256 of a regular file, the target of a link.
    content: Vec<u8>,
}

impl Entry {
    fn of(path: &Path) -> Result<Self> {
        let about = fs::symlink_metadata(path)?;
        let content = if about.is_file() {
            Sha256::digest(fs::read(path)?).to_vec()
        } else if about.is_symlink() {
            let target = fs::read_link(path)?;
            target.as_os_str().as_encoded_bytes().to_vec()
        } else {
            Vec::new()
        };
        Ok(Self {
            inode: about.ino(),
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            links: about.nlink(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            content,
        })
    }
}

/// Files and directories at one time.
#[derive(Clone, Debug)]
pub struct Census {
    tops: Vec<PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Census {
    /// Takes one of these files, and of everything below these directories. They have to be there.
    pub fn take(tops: &[&Path]) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for top in tops {
            look(top, &mut entries).with_context(|| format!("no census of {}", top.display()))?;
        }
        Ok(Self {
            tops: tops.iter().map(|top| (*top).to_owned()).collect(),
            entries,
        })
    }

    /// Takes it again; fails with everything that is not as it was.
    pub fn check(&self) -> Result<()> {
        let tops: Vec<&Path> = self.tops.iter().map(PathBuf::as_path).collect();
        let now = Self::take(&tops)?;
        let gone = self
            .entries
            .keys()
            .filter(|path| !now.entries.contains_key(*path));
        let gone = gone.map(|path| format!("{} is gone", path.display()));
        let other = now.entries.iter().filter_map(|(path, entry)| {
            let path_text = path.display();
            match self.entries.get(path) {
                None => Some(format!("{path_text} is new: {entry:?}")),
                Some(before) if before != entry => {
                    Some(format!("{path_text} was {before:?} and is {entry:?}"))
                }
                Some(_) => None,
            }
        });
        let found: Vec<String> = gone.chain(other).collect();
        ensure!(found.is_empty(), "host files changed, I12: {found:#?}");
        Ok(())
    }
}

fn look(path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) -> Result<()> {
    let is_directory = fs::symlink_metadata(path)?.is_dir();
    entries.insert(path.to_owned(), Entry::of(path)?);
    if is_directory {
        for entry in fs::read_dir(path)? {
            look(&entry?.path(), entries)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::scratch::Scratch;

    /// What is told of a change to a directory with a file, a link and a directory.
    fn told(change: impl FnOnce(&Path) -> Result<()>) -> Result<Option<String>> {
        let scratch = Scratch::make()?;
        fs::create_dir(scratch.join("deep"))?;
        scratch.write("deep/file", "content")?;
        symlink("deep/file", scratch.join("link"))?;
        let census = Census::take(&[scratch.path()])?;
        change(scratch.path())?;
        Ok(census.check().err().map(|error| error.to_string()))
    }

    #[test]
    fn what_was_only_read_is_unchanged() -> Result<()> {
        let told = told(|top| {
            fs::read(top.join("link"))?;
            Ok(())
        })?;
        assert_eq!(told, None);
        Ok(())
    }

    #[test]
    fn whatever_changes_is_named() -> Result<()> {
        let written = told(|top| Ok(fs::write(top.join("deep/file"), "CONTENT")?))?;
        assert!(written.is_some_and(|text| text.contains("deep/file was")));
        let made = told(|top| Ok(fs::write(top.join("deep/new"), "")?))?;
        assert!(made.is_some_and(|text| text.contains("deep/new is new")));
        let removed = told(|top| Ok(fs::remove_file(top.join("link"))?))?;
        assert!(removed.is_some_and(|text| text.contains("link is gone")));
        let opened = told(|top| {
            let mode = fs::Permissions::from_mode(0o777);
            Ok(fs::set_permissions(top.join("deep"), mode)?)
        })?;
        assert!(opened.is_some_and(|text| text.contains("deep was")));
        let turned = told(|top| {
            fs::remove_file(top.join("link"))?;
            Ok(symlink("/", top.join("link"))?)
        })?;
        assert!(turned.is_some_and(|text| text.contains("link was")));
        let linked = told(|top| Ok(fs::hard_link(top.join("deep/file"), top.join("hard"))?))?;
        assert!(linked.is_some_and(|text| text.contains("deep/file was")));
        Ok(())
    }

    #[test]
    fn what_is_not_there_has_no_census() {
        assert!(Census::take(&[Path::new("/nonexistent/keywheel")]).is_err());
    }
}
