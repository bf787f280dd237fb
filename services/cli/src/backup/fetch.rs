//! `backup`: has one made, and fetches it from the machine's own disk.
//!
//! Invariants: the file under its name is whole, on the disk, and byte for byte what the server made; nothing that was
//! there is replaced; nothing is removed for a server's word that is no backup by its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use keywheel_schemas::api::BackupView;
use rustix::fs::OFlags;
use serde_json::json;

use super::make::{FOLDER, SEALED};
use super::open::cannot_write;
use super::pack;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::output::table::fields;

/// The file while it is written; gone when it does not get its name.
struct Beside {
    path: PathBuf,
    is_named: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a backup and writes it to a file.
pub(crate) async fn backup(client: &Client, screen: Screen, out: &Path) -> Result<(), Failure> {
    let (mut file, beside) = begin(out)?;
    let made: BackupView = client.change_many("/v1/backup", &json!({})).await?;
    let from = PathBuf::from(&made.path);
    let opened = open(&from).map_err(|error| not_here(&from, &error))?;
    let failed = |error: io::Error| cannot_write(out, &error);
    // A byte more shows that it is another one; without an end it would fill the disk.
    let mut most = opened.take(made.bytes.saturating_add(1));
    let written = pack::copy(&mut most, &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let meant = (made.bytes, made.sha256.clone());
    let read_back = pack::copy(
        &mut File::open(&beside.path).map_err(failed)?,
        &mut io::sink(),
    );
    if written != meant || read_back.map_err(failed)? != meant {
        return Err(Failure::new(
            Exit::Unverified,
            format!("{} is not what the server made", out.display()),
            "look at that disk, then repeat the command",
        ));
    }
    name(beside, out).map_err(failed)?;
    if from.ends_with(Path::new(FOLDER).join(SEALED)) {
        // The next one removes it, too.
        let _ = fs::remove_file(&from);
    }
    let made = BackupView {
        path: out.display().to_string(),
        ..made
    };
    screen.show(&made, words)
}

/// Opens what a server says that it made: a file, and no pipe that is waited for.
fn open(from: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(from)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

/// Refuses a name that something has, be it a link that leads nowhere: what is kept as evidence replaces nothing.
pub(crate) fn refuse_taken(out: &Path, next: &str) -> Result<(), Failure> {
    match fs::symlink_metadata(out) {
        Ok(_) => Err(Failure::new(
            Exit::CannotCreate,
            format!("{} is there already", out.display()),
            next,
        )),
        Err(_) => Ok(()),
    }
}

fn begin(out: &Path) -> Result<(File, Beside), Failure> {
    refuse_taken(
        out,
        "give a name that is not taken with --out: a backup replaces nothing",
    )?;
    let mut path = out.as_os_str().to_owned();
    path.push(format!(".{}.new", std::process::id()));
    let path = PathBuf::from(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(&path);
    let file = file.map_err(|error| cannot_write(out, &error))?;
    let is_named = false;
    Ok((file, Beside { path, is_named }))
}

fn name(mut beside: Beside, out: &Path) -> io::Result<()> {
    fs::rename(&beside.path, out)?;
    beside.is_named = true;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn not_here(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Denied,
        format!(
            "the backup was made and lies at {} on the machine that serves, but cannot be read here: {error}",
            path.display()
        ),
        "run it there, as root or as the user `keywheel up` runs as: sudo keywheel backup --out FILE",
    )
}

fn words(made: &BackupView) -> String {
    fields(&[
        ("written", made.path.clone()),
        ("bytes", made.bytes.to_string()),
        ("sha256", made.sha256.clone()),
        ("deployment", made.deployment.clone()),
        ("made at", made.made_at.clone()),
        ("last event", made.head.to_string()),
        ("audit records", made.records.to_string()),
        (
            "next",
            "keep it on another machine, and in a third place the unseal key, which opens it also where shares unseal; `keywheel backup verify` checks it"
                .to_owned(),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_a_pipe_and_a_directory_are_no_backup_and_nobody_waits_for_them() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), mode).unwrap();
        for strange in [at("pipe"), PathBuf::from("/dev/zero"), at(".")] {
            assert!(open(&strange).is_err(), "{}", strange.display());
        }
        fs::write(at("backup"), "sealed").unwrap();
        assert!(open(&at("backup")).is_ok());
    }
}
