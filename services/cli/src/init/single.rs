//! `keywheel init --single`: the data directory of a first `keywheel up`, when something else than its key file
//! is to open the cache. Made once; nothing that exists is overwritten.

use std::fs;
use std::path::Path;

use crate::args::InitArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::seal::making::{self, Wish};
use crate::up;

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

/// Whether nothing is there yet; a directory that is made, or a disk's root, may be.
fn is_empty(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return !directory.exists();
    };
    entries
        .filter_map(Result::ok)
        .all(|entry| entry.file_name() == "lost+found")
}

#[cfg(test)]
mod tests {
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
}
