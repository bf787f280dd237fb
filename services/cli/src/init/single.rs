//! `keywheel init --single`: the data directory of a first `keywheel up`, when something else than its key file
//! is to open the cache. Made once; nothing that exists is overwritten.

use std::fs;
use std::path::Path;

use crate::args::InitArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::seal::making::{self, Wish};
use crate::up::{self, layout};

/// Makes key file, identity and seal file.
pub(super) async fn run(screen: Screen, args: &InitArgs, wish: &Wish) -> Result<(), Failure> {
    let data_dir = &args.out;
    if !is_empty(data_dir) {
        return Err(Failure::new(
            Exit::CannotCreate,
            format!("{} is not empty", data_dir.display()),
            "give the directory of a `keywheel up` that never ran; what is there is never changed",
        ));
    }
    let asked = wish.ask(data_dir)?;
    asked.prove().await?;
    let key_file = args.key_file();
    let (deployment, _lock) = up::prepare(data_dir, &key_file)?;
    let shares = making::texts(&asked.write(data_dir, deployment).await?);
    let (shown, key) = (data_dir.display(), key_file.display());
    let mut text = format!(
        "deployment {deployment} is made under {shown}\n\nnext:\n  keywheel up --data-dir {shown} --unseal-key-file {key}\n"
    );
    match wish {
        Wish::KeyFile => {}
        Wish::Service { .. } => {
            let line = wish.at_a_start().unwrap_or_default();
            text.push_str(&format!("\n{line}\n"));
        }
        Wish::Passphrase | Wish::Shares { .. } => {
            text.push_str("  keywheel unseal                          # after each start\n");
        }
    }
    if *wish != Wish::KeyFile {
        text.push_str(&format!(
            "\n{key} opens the services' keys and no value; keep it apart from {shown} all the same\n"
        ));
    }
    text.push_str(&making::told(&shares, wish));
    let json = serde_json::json!({
        "unseal": args.unseal,
        "shares": shares,
        "deployment": deployment.to_string(),
        "directory": data_dir,
    });
    screen.show(&json, |_| text)
}

/// Whether nothing is there yet; a directory that is made, a disk's root, or the lock of a try that was refused may be.
fn is_empty(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return !directory.exists();
    };
    entries
        .filter_map(Result::ok)
        .all(|entry| layout::is_nothing(&entry.file_name()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_an_empty_directory_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(is_empty(scratch.path()) && is_empty(&scratch.path().join("none")));
        fs::create_dir(scratch.path().join("lost+found")).unwrap();
        assert!(is_empty(scratch.path()));
        fs::write(scratch.path().join("journal.db"), b"x").unwrap();
        assert!(!is_empty(scratch.path()));
        assert!(!is_empty(&scratch.path().join("journal.db")));
    }

    #[test]
    fn a_try_that_was_refused_leaves_a_directory_that_the_next_one_takes() {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let inside = data_dir.join("unseal.key");
        let shown = scratch.path().join("shown.key");
        fs::write(&shown, "0".repeat(64)).unwrap();
        fs::set_permissions(&shown, fs::Permissions::from_mode(0o644)).unwrap();
        let junk = scratch.path().join("junk.key");
        fs::write(&junk, "no key").unwrap();
        fs::set_permissions(&junk, fs::Permissions::from_mode(0o600)).unwrap();
        for key_file in [inside, shown, junk] {
            assert!(up::prepare(&data_dir, &key_file).is_err());
            assert!(data_dir.join("up.lock").exists(), "it held the directory");
            assert!(is_empty(&data_dir), "{}", key_file.display());
        }
        assert!(up::prepare(&data_dir, &scratch.path().join("unseal.key")).is_ok());
        assert!(!is_empty(&data_dir));
    }
}
