//! `backup verify`, `restore` and `restore accept`.
//!
//! A restore unpacks into a directory of its own in the data directory, looks at everything, and only then gives the
//! files their names; where it ends in between, `keywheel up` refuses the directory. What the audit's second copy knows
//! better goes beside the journal, so that `up` sees it, too. Invariants: a directory that has something is left as it
//! is; a backup of another log than the copy's is never restored; an older one only with a reason, and then it waits
//! for two people (`up::held`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keywheel_audit_sink::KeptRecords;
use keywheel_core::audit::Principal;
use keywheel_core::id::DeploymentId;
use keywheel_gateway::access::{Access, Peer};
use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_seal::envelope::UnsealKey;
use serde::Serialize;

use super::older::{Log, Standing};
use super::open::{Examined, Folder, cannot_write, examine, whose};
use crate::args::{KeyArgs, RestoreArgs, VerifyBackupArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::output::table::fields;
use crate::up::held::{ACCEPT, AcceptAnswer, AcceptRequest};
use crate::up::restored::{ACCEPTANCES, BESIDE, Note, Person, SINK, UNPACKING, words as words_of};
use crate::up::{self, layout};

/// What was found, for programs.
#[derive(Serialize)]
struct Found {
    verified: bool,
    deployment: String,
    made_at: String,
    made_by: String,
    head: u64,
    records: u64,
    live_versions: u64,
    destroyed_versions: u64,
    /// Whether the cache's keys were opened.
    keys_opened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_into: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_with: Option<String>,
    /// Whether it waits to be accepted.
    is_older: bool,
}

/// What a backup is held against.
struct Compared {
    words: String,
    is_older: bool,
    /// The sink's file, where the log is behind it.
    sink: Option<PathBuf>,
}

/// Opens a backup and checks all of it.
pub(crate) async fn verify(screen: Screen, args: &VerifyBackupArgs) -> Result<(), Failure> {
    let (_, key_file) = settings(None, &args.key)?;
    let mut beside = args.file.as_os_str().to_owned();
    beside.push(format!(".{}.verify", std::process::id()));
    whose(&args.file)?;
    let unseal = key_of(&key_file, Path::new(&beside))?;
    let folder = Folder::make(PathBuf::from(beside))?;
    let examined = examine(&args.file, (unseal, &key_file), folder.path()).await?;
    screen.show(&Found::of(&examined), words)
}

/// Restores a backup into an empty directory.
pub(crate) async fn restore(
    screen: Screen,
    file: &Path,
    args: &RestoreArgs,
) -> Result<(), Failure> {
    let (data_dir, key_file) = settings(args.data_dir.clone(), &args.key)?;
    refuse_deployment(file, args.deployment.as_deref())?;
    layout::private_directory(&data_dir)?;
    let _lock = layout::lock(&data_dir)?;
    refuse_full(&data_dir, file)?;
    let unseal = key_of(&key_file, &data_dir)?;
    let folder = Folder::make(data_dir.join(UNPACKING))?;
    let examined = examine(file, (unseal, &key_file), folder.path()).await?;
    let compared = compare(&examined, folder.path(), args).await?;
    if compared.is_older && !args.accept_older {
        return Err(older(file, &compared, args));
    }
    let note = note(&examined, &compared, args);
    place(&data_dir, folder, (&note, &compared))
        .map_err(|error| not_placed(file, &data_dir, &error))?;
    let found = Found {
        restored_into: Some(data_dir.display().to_string()),
        compared_with: Some(compared.words),
        is_older: compared.is_older,
        ..Found::of(&examined)
    };
    screen.show(&found, words)
}

/// Accepts, where an older log waits for it.
pub(crate) async fn accept(client: &Client, screen: Screen, reason: &str) -> Result<(), Failure> {
    let reason = reason.to_owned();
    let asked = client.change(ACCEPT, &AcceptRequest { reason }).await;
    let answer: AcceptAnswer = asked.map_err(nothing_waits)?;
    screen.show(&answer, |answer| {
        let next = match answer.is_accepted {
            true => {
                "it is served from now on; `keywheel status` says what was made so again".to_owned()
            }
            false => another(answer.accepted_by.len()),
        };
        fields(&[
            ("accepted by", answer.accepted_by.join(", ")),
            ("next", next),
        ])
    })
}

/// What is left to be done for an older log to be served.
fn another(accepted: usize) -> String {
    let left = ACCEPTANCES.saturating_sub(accepted);
    format!(
        "{ACCEPTANCES} different people have to accept it, and {left} more is needed: `keywheel restore accept --reason \"…\"`, as another user"
    )
}

/// Whoever serves knows of no such request but while an older log waits.
fn nothing_waits(failure: Failure) -> Failure {
    match failure.exit {
        Exit::NotFound => Failure::new(
            Exit::NotFound,
            "nothing waits to be accepted here: no older log was put back, or enough people accepted it",
            "`keywheel status` says what is served, and what came of a restore",
        ),
        _ => failure,
    }
}

/// The data directory and the key file, by flags and configuration.
fn settings(data_dir: Option<PathBuf>, key: &KeyArgs) -> Result<(PathBuf, PathBuf), Failure> {
    let flags = ConfigFlags {
        data_dir,
        unseal_key_file: key.unseal_key_file.clone(),
        ..ConfigFlags::default()
    };
    let looked = keywheel_daemon::settings::look(key.config.as_deref(), flags);
    let config: Config = looked.map_err(up::Error::from)?;
    Ok((config.data_dir, config.unseal_key_file))
}

/// The key that opens a backup, and is in none.
fn key_of(key_file: &Path, beside: &Path) -> Result<UnsealKey, Failure> {
    if key_file.try_exists().is_ok_and(|is_there| !is_there) {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "the unseal key {} is missing, and it opens the backup, whatever unseals store-sync",
                key_file.display()
            ),
            "bring it from where you keep it apart from the backups, or repeat the command with --unseal-key-file FILE",
        ));
    }
    Ok(layout::present_unseal_key(key_file, beside)?)
}

fn refuse_deployment(file: &Path, wanted: Option<&str>) -> Result<(), Failure> {
    let found = whose(file)?;
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted = DeploymentId::parse(wanted).map_err(|error| {
        let next = "give the id as `keywheel backup` printed it, or leave --deployment out";
        Failure::new(Exit::Usage, format!("--deployment: {error}"), next)
    })?;
    match wanted == found {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Config,
            format!(
                "{} is a backup of deployment {found}, not of {wanted}",
                file.display()
            ),
            format!(
                "`keywheel restore FILE --deployment {wanted}` with another backup; `keywheel backup verify FILE` says whose one is"
            ),
        )),
    }
}

fn refuse_full(data_dir: &Path, file: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(data_dir).map_err(|error| cannot_write(data_dir, &error))?;
    let names = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let mut others = names.filter(|name| !layout::is_nothing(name));
    let Some(one) = others.next() else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::Conflict,
        format!(
            "{} is not empty: {} is there",
            data_dir.display(),
            one.to_string_lossy()
        ),
        into_empty(data_dir, file),
    ))
}

/// How a directory that has something is kept, and an empty one restored into.
fn into_empty(data_dir: &Path, file: &Path) -> String {
    let (there, file) = (data_dir.display(), file.display());
    let sink = match data_dir.join(SINK).exists() {
        true => format!(" --sink {there}.before/{SINK}"),
        false => String::new(),
    };
    format!(
        "keep what is there: `mv {there} {there}.before`; then `keywheel restore {file} --data-dir {there}{sink}`"
    )
}

async fn compare(
    examined: &Examined,
    folder: &Path,
    args: &RestoreArgs,
) -> Result<Compared, Failure> {
    let records = examined.manifest.records;
    let mut words = Vec::new();
    let mut is_older = false;
    let mut sink = None;
    if let Some(path) = &args.sink {
        let copy = copy_sink(path, folder)?;
        let standing = standing((path, &copy), records, folder).await?;
        if let Standing::Other { index } = standing {
            return Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{} is the copy of another log: from record {index} on it differs from the backup",
                    path.display()
                ),
                format!(
                    "repeat the command with --sink DIR/{SINK} of the deployment that made the backup, {}; if it is that, one of the two was altered: keep both as they are",
                    examined.deployment
                ),
            ));
        }
        words.push(words_of(standing).unwrap_or_else(|| "the sink kept nothing newer".to_owned()));
        if let Standing::Older { .. } = standing {
            is_older = true;
            sink = Some(copy);
        }
    }
    if let Some(seen) = args.seen_records {
        is_older |= seen > records;
        words.push(format!(
            "{seen} records were seen, and the backup has {records}"
        ));
    }
    if words.is_empty() {
        words.push("nothing: neither --sink nor --seen-records was given".to_owned());
    }
    let words = words.join("; ");
    Ok(Compared {
        words,
        is_older,
        sink,
    })
}

/// A copy of the sink's file: what is evidence is not opened itself.
fn copy_sink(path: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let copy = folder.join(SINK);
    fs::copy(path, &copy).map_err(|error| no_sink(path, &error))?;
    let log = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    match fs::copy(log(path), log(&copy)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(no_sink(&log(path), &error)),
        _ => Ok(copy),
    }
}

/// What is done where no sink's file can be compared with.
fn other_sink() -> String {
    format!(
        "repeat the command with --sink DIR/{SINK} of an audit sink that does not run; where there is none, with --seen-records N, as many as a person or a metric last saw"
    )
}

fn no_sink(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot read the sink {}: {error}", path.display());
    Failure::new(Exit::NoInput, what, other_sink())
}

async fn standing(
    (named, copy): (&Path, &Path),
    records: u64,
    folder: &Path,
) -> Result<Standing, Failure> {
    let unread = |why: String| {
        let what = format!("the sink {} cannot be read: {why}", named.display());
        Failure::new(Exit::Input, what, other_sink())
    };
    let opened = KeptRecords::open(copy).await;
    let mut kept = opened.map_err(|error| unread(keywheel_daemon::chain(&error)))?;
    let journal = folder.join("journal.db");
    let standing = Log::File(&journal).stands_wholly(records, &mut kept).await;
    let closed = kept.close().await;
    closed.map_err(|error| unread(keywheel_daemon::chain(&error)))?;
    standing.map_err(unread)
}

fn older(file: &Path, compared: &Compared, args: &RestoreArgs) -> Failure {
    let sink = args.sink.as_ref();
    let sink = sink.map(|sink| format!(" --sink {}", sink.display()));
    let seen = args.seen_records;
    let seen = seen.map(|seen| format!(" --seen-records {seen}"));
    Failure::new(
        Exit::Conflict,
        format!(
            "{} is older than what is known: {}; what happened afterwards would be undone",
            file.display(),
            compared.words
        ),
        format!(
            "restore a newer backup; when there is none: `keywheel restore {}{}{} --accept-older --reason \"…\"` with the other words as before, then `keywheel up`, and two different people `keywheel restore accept --reason \"…\"`",
            file.display(),
            sink.unwrap_or_default(),
            seen.unwrap_or_default()
        ),
    )
}

fn note(examined: &Examined, compared: &Compared, args: &RestoreArgs) -> Note {
    let manifest = &examined.manifest;
    let what = format!(
        "the backup of {}, up to event {} and {} records; compared with: {}",
        manifest.made_at, manifest.head, manifest.records, compared.words
    );
    let by = person();
    let reason = args.reason.as_deref().unwrap_or_default();
    Note::of_restore(by, (what, reason), (manifest.records, compared.is_older))
}

/// Who restores, by the kernel's word.
fn person() -> Person {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    match Access::of_machine(uid).principal(&Peer::User { uid, gid }) {
        Principal::User { uid, name } => Person { uid, name },
        _ => Person {
            uid,
            name: uid.to_string(),
        },
    }
}

/// Gives what was unpacked its names, in any order: until the last one has its own the directory that they come from
/// is there.
fn place(
    data_dir: &Path,
    mut folder: Folder,
    (note, compared): (&Note, &Compared),
) -> io::Result<()> {
    // Where it was unpacked, and nothing that came in its place since: all that lies there is moved.
    let from = folder.pinned();
    // From here on its being there says that this did not come to its end.
    folder.keep();
    if compared.sink.is_none() {
        for end in BESIDE {
            remove(&from.join(format!("{SINK}{end}")))?;
        }
    }
    note.save(data_dir)?;
    let entries = fs::read_dir(&from)?.collect::<io::Result<Vec<_>>>()?;
    let names = entries.into_iter().map(|entry| entry.file_name());
    for name in names {
        fs::File::open(from.join(&name))?.sync_all()?;
        fs::rename(from.join(&name), data_dir.join(&name))?;
    }
    fs::File::open(data_dir)?.sync_all()?;
    fs::remove_dir(folder.path())?;
    fs::File::open(data_dir)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn not_placed(file: &Path, data_dir: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        format!(
            "the backup was not restored whole into {}: {error}",
            data_dir.display()
        ),
        format!(
            "empty the directory, then `keywheel restore {} --data-dir {}` again; the backup is as it was",
            file.display(),
            data_dir.display()
        ),
    )
}

impl Found {
    fn of(examined: &Examined) -> Self {
        let manifest = examined.manifest.clone();
        Self {
            verified: true,
            deployment: examined.deployment.to_string(),
            made_at: manifest.made_at,
            made_by: manifest.made_by,
            head: manifest.head,
            records: manifest.records,
            live_versions: examined.cache.live,
            destroyed_versions: examined.cache.destroyed,
            keys_opened: examined.has_opened_keys,
            restored_into: None,
            compared_with: None,
            is_older: false,
        }
    }
}

fn words(found: &Found) -> String {
    let next = match (&found.restored_into, found.is_older) {
        (None, _) => String::new(),
        (Some(_), false) => "start `keywheel up`; rotate what changed since, as deploy/docs/backup.md says".to_owned(),
        (Some(_), true) => {
            "start `keywheel up`: it serves nothing before two different people ran `keywheel restore accept --reason \"…\"`".to_owned()
        }
    };
    let verified = match found.keys_opened {
        true => "yes: its seal, its journal, its audit, its cache",
        false => {
            "yes: its seal, its journal, its audit, its cache's pages; not its keys, which take what unseals store-sync"
        }
    };
    fields(&[
        ("verified", verified.to_owned()),
        ("deployment", found.deployment.clone()),
        ("made at", found.made_at.clone()),
        ("made by", found.made_by.clone()),
        ("last event", found.head.to_string()),
        ("audit records", found.records.to_string()),
        (
            "versions",
            format!(
                "{} alive, {} destroyed",
                found.live_versions, found.destroyed_versions
            ),
        ),
        (
            "compared with",
            found.compared_with.clone().unwrap_or_default(),
        ),
        (
            "restored into",
            found.restored_into.clone().unwrap_or_default(),
        ),
        ("next", next),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_the_place_of_the_directory_is_not_moved() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("data")).unwrap();
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/theirs"), "kept").unwrap();
        let folder = Folder::make(at("data").join(UNPACKING)).unwrap();
        fs::write(folder.path().join("journal.db"), "journal").unwrap();
        // Whoever owns the data directory can do this at any time.
        fs::rename(folder.path(), at("data/aside")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), folder.path()).unwrap();
        let person = Person {
            uid: 0,
            name: "root".to_owned(),
        };
        let note = Note::of_restore(person, (String::new(), ""), (1, false));
        let compared = Compared {
            words: String::new(),
            is_older: false,
            sink: None,
        };
        std::os::unix::fs::symlink(at("elsewhere/theirs"), at("data/restored.new")).unwrap();
        let placed = place(&at("data"), folder, (&note, &compared));
        assert!(placed.is_err(), "a link is no directory to be removed");
        let kept = fs::read_to_string(at("elsewhere/theirs")).unwrap();
        assert_eq!(kept, "kept");
        assert_eq!(
            fs::read_to_string(at("data/journal.db")).unwrap(),
            "journal"
        );
    }

    #[test]
    fn who_accepted_first_is_told_what_the_other_one_types() {
        let said = another(1);
        assert!(said.contains("1 more is needed"), "{said}");
        assert!(
            said.contains("`keywheel restore accept --reason "),
            "{said}"
        );
    }
}
