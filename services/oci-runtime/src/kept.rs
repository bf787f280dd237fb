//! crun's own copy of the configuration, in its state directory: with placeholders, never with a value.
//!
//! crun writes there what it was given, on whatever file system that is, and reads it again for `exec`, `start` and
//! `delete`. So it gets its configuration through a pipe, which it finds empty when it makes the copy; the copy is then
//! replaced by the same configuration with its placeholders. Where this program was killed before that, crun cannot
//! delete the container by an empty copy: the next call about its end gives it one. Invariant: a copy that is neither
//! empty nor what the bundle holds, of another version that keeps what it has read, is accepted in memory only; what
//! cannot be looked at is refused.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keywheel_sys::scrub::Scrubbed;
use keywheel_sys::secretfs::lies_in_memory;

use crate::config::MAX_CONFIG;
use crate::refuse::Refusal;

/// The copy's name in a container's state directory.
const NAME: &str = "config.json";
/// The name under which its successor is written.
const FRESH: &str = "config.json.keywheel";

/// What crun has to know of a container to end it: that its first process is to be killed.
const LEAST: &[u8] = br#"{"ociVersion":"1.0.0","root":{"path":"/"},"mounts":[],"process":{"cwd":"/","args":["x"]},"linux":{"namespaces":[{"type":"pid"}]}}"#;

/// Makes a container that a killed create left deletable again. Best effort: the call goes on whatever comes of it.
pub(crate) fn heal(root: &Path, id: &str) {
    let dir = root.join(id);
    let copy = fs::symlink_metadata(dir.join(NAME));
    if copy.is_ok_and(|copy| copy.is_file() && copy.len() == 0) {
        let path = dir.join(NAME);
        let text = Scrubbed::new(LEAST.to_vec());
        let _ = Kept { dir, text }.write(&path);
    }
}

/// The copy of one container.
pub(crate) struct Kept {
    dir: PathBuf,
    text: Scrubbed,
}

impl Kept {
    /// The copy of container `id` below crun's `root`, and what it is to hold.
    pub(crate) fn new(root: &Path, id: &str, text: Scrubbed) -> Self {
        let dir = root.join(id);
        Self { dir, text }
    }

    /// What it is to hold.
    pub(crate) fn text(&self) -> &Scrubbed {
        &self.text
    }

    /// Replaces what crun wrote, once its `create` has returned.
    pub(crate) fn replace(&self) -> Result<(), Refusal> {
        let about = fs::symlink_metadata(&self.dir).map_err(|error| self.unfit(&error))?;
        if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() {
            return Err(self.unfit(&"it is no directory of crun's"));
        }
        let path = self.dir.join(NAME);
        let copy = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| self.unfit(&error))?,
        };
        let is_in_memory = lies_in_memory(&self.dir).map_err(|error| self.unfit(&error))?;
        let is_harmless = copy.len() == 0 || self.is_text(&path);
        self.write(&path).map_err(|error| self.unfit(&error))?;
        if !is_harmless && !is_in_memory {
            return Err(Refusal::new(
                format!(
                    "crun wrote its configuration, with every variable, to {}, which is not in memory",
                    path.display()
                ),
                "rotate the container's secrets, and use runc as the real runtime (--keywheel-real-runtime runc), or let crun's --root lie below /run",
            ));
        }
        Ok(())
    }

    /// Whether it is what the bundle holds.
    fn is_text(&self, path: &Path) -> bool {
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map(|file| file.take(MAX_CONFIG));
        let read = file.and_then(|mut file| file.read_to_end(&mut bytes));
        // EXPOSE: compared; both are without a value, or the copy is about to be replaced.
        read.is_ok() && Scrubbed::new(bytes).expose() == self.text.expose()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = self.dir.join(FRESH);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        // EXPOSE: it holds placeholders and no value; what else is in it is the engine's.
        file.write_all(self.text.expose())?;
        fs::rename(&fresh, path)
    }

    fn unfit(&self, why: &dyn std::fmt::Display) -> Refusal {
        Refusal::new(
            format!(
                "what crun keeps in {} cannot be looked after: {why}",
                self.dir.display()
            ),
            "use runc as the real runtime (--keywheel-real-runtime runc)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("keywheel-kept-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("id")).unwrap();
        root
    }

    fn kept(root: &Path) -> Kept {
        Kept::new(root, "id", Scrubbed::new(b"placeholders".to_vec()))
    }

    #[test]
    fn an_empty_copy_is_replaced_and_nothing_lies_beside_it() {
        let root = root("empty");
        let copy = root.join("id").join(NAME);
        // What a run that was killed left.
        fs::write(root.join("id").join(FRESH), "old").unwrap();
        kept(&root).replace().unwrap();
        assert!(!copy.exists(), "a copy that crun did not make");
        fs::write(&copy, "").unwrap();
        kept(&root).replace().unwrap();
        let text = fs::read_to_string(&copy).unwrap();
        let count = fs::read_dir(root.join("id")).unwrap().count();
        fs::remove_dir_all(root).unwrap();
        assert_eq!((text.as_str(), count), ("placeholders", 1));
    }

    #[test]
    fn a_copy_with_content_is_replaced_and_accepted_in_memory_only() {
        let root = root("full");
        let copy = root.join("id").join(NAME);
        fs::write(&copy, "value").unwrap();
        let is_in_memory = lies_in_memory(&root.join("id")).unwrap();
        let replaced = kept(&root).replace();
        let text = fs::read_to_string(&copy).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert_eq!(text, "placeholders");
        assert_eq!(replaced.is_ok(), is_in_memory);
    }

    #[test]
    fn what_a_killed_create_left_can_be_deleted_and_nothing_else_is_touched() {
        let root = root("heal");
        let copy = root.join("id").join(NAME);
        heal(&root, "id");
        assert!(!copy.exists(), "a copy that crun did not make");
        fs::write(&copy, "").unwrap();
        heal(&root, "id");
        let healed = fs::read(&copy).unwrap();
        fs::write(&copy, "placeholders").unwrap();
        heal(&root, "id");
        let kept = fs::read(&copy).unwrap();
        fs::remove_dir_all(root).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&healed).is_ok());
        assert_eq!(kept, b"placeholders");
    }

    #[test]
    fn a_state_directory_that_is_not_there_is_refused() {
        let text = kept(Path::new("/nonexistent"))
            .replace()
            .unwrap_err()
            .text();
        assert!(text.contains("use runc"), "{text}");
    }
}
