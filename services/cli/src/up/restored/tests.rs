//! A backup of a real data directory, from its making to an accepted restore, without a server; and the note.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use clap::Parser as _;
use keywheel_cache::Cache;
use keywheel_core::id::{DeploymentId, RotationId, SecretId};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_gateway::http::BackupMaker as _;
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::backup::BackupKey;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::journal::decision;

use super::super::identity::Installation;
use super::*;
use crate::args::{BackupArgs, BackupVerb, Cli, Verb};
use crate::backup::make::{FOLDER, Maker};
use crate::backup::restore;
use crate::exit::{Exit, Failure};
use crate::output::Screen;

const CANARY: &[u8] = b"canary-3c9e51aa07d24f1b8e66";

/// A data directory that somebody has open, and room for others beside it.
struct Scene {
    folder: tempfile::TempDir,
    maker: Maker,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        super::super::layout::private_directory(&data_dir).unwrap();
        let key_file = folder.path().join("unseal.key");
        let unseal = UnsealKey::generate(&OsEntropy);
        fs::write(&key_file, unseal.to_file().expose()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let own = Installation::open(&data_dir, &unseal, &key_file, &SystemIds).unwrap();
        let options = JournalOptions {
            deployment: own.deployment,
            source: "keywheel/test/gateway".to_owned(),
            signing_key: own
                .signing_key(keywheel_core::audit::Role::Gateway)
                .unwrap(),
            origin: own.origin(),
        };
        let journal = SqliteJournal::open(&data_dir.join("journal.db"), options).await;
        let journal = journal.unwrap();
        let some: Vec<_> = (1..=5).map(decision).collect();
        journal.append(1, &some).await.unwrap();
        let key = Arc::new(BackupKey::of(&unseal));
        let clock = Arc::new(SystemClock::new());
        let path = data_dir.join("cache.db");
        let cache = Cache::open(
            &path,
            *own.deployment.bytes(),
            unseal,
            Arc::new(OsEntropy),
            clock.clone(),
        );
        let cache = cache.await.unwrap();
        let value = SecretBytes::from(CANARY.to_vec());
        let (secret, token) = (
            SecretId::from_bytes([1; 16]),
            RotationId::from_bytes([2; 16]),
        );
        cache
            .insert_pending(secret, 1, token, &value)
            .await
            .unwrap();
        let cache = Arc::new(cache);
        let maker = Maker {
            data_dir,
            deployment: own.deployment,
            journal: Arc::new(journal),
            cache: Arc::new(move || Some(cache.clone())),
            key,
            clock,
            turn: tokio::sync::Mutex::default(),
        };
        Self { folder, maker }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A backup, taken out of the data directory.
    async fn backup(&self) -> PathBuf {
        let made = self.maker.make().await.unwrap();
        assert_eq!((made.head, made.records), (5, 5));
        let out = self.at("backup");
        fs::rename(&made.path, &out).unwrap();
        out
    }

    /// Runs `restore` or `backup verify` as the command line says it.
    async fn run(&self, words: &[&str], file: &Path, data_dir: &str) -> Result<(), Failure> {
        let key = self.at("unseal.key");
        let (key, file) = (key.display().to_string(), file.display().to_string());
        let data_dir = self.at(data_dir).display().to_string();
        let mut line = vec!["keywheel"];
        line.extend(words);
        line.extend([file.as_str(), "--unseal-key-file", &key]);
        if words == ["backup", "verify"] {
            let cli = Cli::try_parse_from(line).unwrap();
            let Verb::Backup(BackupArgs {
                verb: Some(BackupVerb::Verify(args)),
                ..
            }) = cli.verb
            else {
                panic!("no `backup verify`");
            };
            return restore::verify(Screen::of_terminal(cli.output), &args).await;
        }
        line.extend(["--data-dir", &data_dir]);
        let cli = Cli::try_parse_from(line).unwrap();
        let Verb::Restore(args) = cli.verb else {
            panic!("no `restore`");
        };
        let file = args.file.clone().unwrap();
        restore::restore(Screen::of_terminal(cli.output), &file, &args).await
    }
}

#[tokio::test]
async fn a_backup_is_made_while_it_is_used_verified_and_restored_into_an_empty_directory() {
    let scene = Scene::set().await;
    let file = scene.backup().await;
    let bytes = fs::read(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for plain in [CANARY, b"SQLite format", b"deployment"] {
        let is_there = bytes.windows(plain.len()).any(|part| part == plain);
        assert!(!is_there, "{}", String::from_utf8_lossy(plain));
    }
    // Nothing unsealed stays behind.
    let left = fs::read_dir(scene.maker.data_dir.join(FOLDER)).unwrap();
    assert_eq!(left.count(), 0);
    scene
        .run(&["backup", "verify"], &file, "unused")
        .await
        .unwrap();
    scene.run(&["restore"], &file, "new").await.unwrap();
    let new = scene.at("new");
    let mut names: Vec<String> = fs::read_dir(&new)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["cache.db", "identity.json", "journal.db", NOTE, "up.lock"]
    );
    let note = Note::load(&new).unwrap().unwrap();
    assert!(!note.is_older && !note.is_recorded && note.records == 5);
    assert!(
        note.what.contains("compared with: nothing"),
        "{}",
        note.what
    );
    // Somewhere that has something it is not restored, and what is there stays.
    let again = scene.run(&["restore"], &file, "new").await.unwrap_err();
    assert_eq!(again.exit, Exit::Conflict, "{again}");
    let (new, next) = (new.display(), again.next.unwrap());
    let typed = format!("`mv {new} {new}.before`; then `keywheel restore ");
    assert!(next.contains(&typed), "{next}");
    assert!(
        next.ends_with(&format!("--data-dir {new}`")),
        "no copy is there: {next}"
    );
    let new = scene.at("new");
    fs::write(new.join(SINK), "a copy").unwrap();
    let again = scene.run(&["restore"], &file, "new").await.unwrap_err();
    let sink = format!(" --sink {}.before/{SINK}`", new.display());
    assert!(again.next.unwrap().ends_with(&sink), "{sink}");
    assert!(Note::load(&new).unwrap().is_some());
}

#[tokio::test]
async fn another_key_another_deployment_and_changed_bytes_restore_nothing() {
    let scene = Scene::set().await;
    let file = scene.backup().await;
    let bytes = fs::read(&file).unwrap();
    let is_clean =
        || !scene.at("new").join(UNPACKING).exists() && !scene.at("new").join(NOTE).exists();
    // Its form, the key's word, a piece in the middle, its end.
    let codes = [
        (0, Exit::Unverified),
        (40, Exit::Config),
        (bytes.len() / 2, Exit::Unverified),
    ];
    for (at, exit) in codes {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let other = scene.at("changed");
        fs::write(&other, changed).unwrap();
        let failure = scene.run(&["restore"], &other, "new").await.unwrap_err();
        assert_eq!(failure.exit, exit, "byte {at}: {failure}");
        assert!(is_clean(), "byte {at}");
        let failure = scene.run(&["backup", "verify"], &other, "unused").await;
        assert_eq!(failure.unwrap_err().exit, exit, "byte {at}");
    }
    let cut = scene.at("cut");
    fs::write(&cut, &bytes[..bytes.len() - 7]).unwrap();
    let failure = scene.run(&["restore"], &cut, "new").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified, "{failure}");
    let stranger = DeploymentId::from_bytes([9; 16]).to_string();
    let words = ["restore", "--deployment", &stranger];
    let failure = scene.run(&words, &file, "new").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config, "{failure}");
    let other = UnsealKey::generate(&OsEntropy).to_file();
    fs::write(scene.at("unseal.key"), other.expose()).unwrap();
    let failure = scene.run(&["restore"], &file, "new").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config, "{failure}");
    assert!(failure.what.contains("another key"), "{failure}");
    assert!(is_clean());
}

#[tokio::test]
async fn an_older_backup_is_refused_and_with_a_reason_it_waits_for_two_people() {
    let scene = Scene::set().await;
    let file = scene.backup().await;
    let words = ["restore", "--seen-records", "6"];
    let refused = scene.run(&words, &file, "new").await.unwrap_err();
    assert_eq!(refused.exit, Exit::Conflict, "{refused}");
    assert!(refused.what.contains("6 records were seen"), "{refused}");
    let next = refused.next.unwrap();
    let again = format!("`keywheel restore {} --seen-records 6 ", file.display());
    for typed in [
        again.as_str(),
        " --accept-older ",
        "`keywheel up`",
        "`keywheel restore accept --reason ",
    ] {
        assert!(next.contains(typed), "{typed}: {next}");
    }
    let words = ["restore", "--sink", "/nowhere/audit-sink.db"];
    let refused = scene.run(&words, &file, "new").await.unwrap_err();
    assert_eq!(refused.exit, Exit::NoInput, "{refused}");
    assert!(refused.next.unwrap().contains("--seen-records N"));
    let words = ["restore", "--seen-records", "6"];
    let words = [&words[..], &["--accept-older", "--reason", "lost"]].concat();
    scene.run(&words, &file, "new").await.unwrap();
    let note = Note::load(&scene.at("new")).unwrap().unwrap();
    assert!(note.is_older && !note.is_accepted());
    assert_eq!(note.reason, "lost");
    // What was seen and is there needs nobody.
    let words = ["restore", "--seen-records", "5"];
    scene.run(&words, &file, "other").await.unwrap();
    assert!(!Note::load(&scene.at("other")).unwrap().unwrap().is_older);
}

#[tokio::test]
async fn a_second_backup_at_the_same_time_is_refused_and_what_was_left_of_one_is_removed() {
    let scene = Scene::set().await;
    let folder = scene.maker.data_dir.join(FOLDER);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("journal.db"), "half of one").unwrap();
    let turn = scene.maker.turn.lock().await;
    let refused = scene.maker.make().await.unwrap_err();
    assert_eq!(refused.kind, keywheel_engine::port::ErrorKind::Conflict);
    drop(turn);
    scene.backup().await;
}

fn note() -> Note {
    let by = Person {
        uid: 0,
        name: "root".to_owned(),
    };
    Note::of_restore(by, ("a backup".to_owned(), "why"), (7, true))
}

fn accepted(uid: u32) -> Accepted {
    Accepted {
        by: Person {
            uid,
            name: uid.to_string(),
        },
        reason: "why".to_owned(),
        at: "2026-11-29T20:00:00Z".to_owned(),
    }
}

#[test]
fn a_restored_log_is_gone_through_also_where_nobody_knows_that_it_is_older() {
    let older = Restored::of(Some(note()));
    assert!(older.note.is_some() && older.unknown.is_none());
    let mut one = note();
    one.is_older = false;
    let unknown = Restored::of(Some(one));
    assert!(unknown.note.is_none() && unknown.unknown.is_some());
    let nothing = Restored::of(None);
    assert!(nothing.note.is_none() && nothing.unknown.is_none());
}

#[test]
fn two_different_people_accept_and_one_counts_once() {
    let mut note = note();
    assert!(note.accept(accepted(1)) && !note.is_accepted());
    assert!(!note.accept(accepted(1)) && !note.is_accepted());
    assert!(note.accept(accepted(2)) && note.is_accepted());
    assert!(!note.accept(accepted(2)));
    assert!(note.accept(accepted(3)) && note.accepted.len() == ACCEPTANCES);
}

#[test]
fn a_note_is_read_back_another_text_is_refused_and_so_is_a_restore_that_did_not_end() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Note::load(folder.path()).unwrap(), None);
    let mut one = note();
    one.accept(accepted(1));
    one.save(folder.path()).unwrap();
    assert_eq!(Note::load(folder.path()).unwrap(), Some(one));
    for bad in ["", "{}", "{\"v\":2}"] {
        fs::write(folder.path().join(NOTE), bad).unwrap();
        assert!(Note::load(folder.path()).is_err(), "{bad}");
    }
    refuse_half_done(folder.path()).unwrap();
    fs::create_dir(folder.path().join(UNPACKING)).unwrap();
    let refused = refuse_half_done(folder.path()).unwrap_err();
    assert!(
        refused.what.contains("did not come to its end"),
        "{}",
        refused.what
    );
}

#[test]
fn what_was_put_aside_before_stays_and_a_crash_in_between_goes_on_with_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path();
    let fill = |what: &str| {
        fs::write(data_dir.join(SINK), what).unwrap();
        fs::create_dir(data_dir.join(HOST_CACHE)).unwrap();
        fs::write(data_dir.join(HOST_CACHE).join("plan1.sealed"), what).unwrap();
    };
    fill("one");
    let mut first = note();
    put_aside(&mut first, data_dir).unwrap();
    assert_eq!(first.aside.as_deref(), Some("before-restore-at-7"));
    fill("two");
    let mut second = note();
    put_aside(&mut second, data_dir).unwrap();
    // Killed before the host's cache went, and before the note said that it is done.
    let aside = aside_of(&second, data_dir).unwrap();
    fs::rename(aside.join(HOST_CACHE), data_dir.join(HOST_CACHE)).unwrap();
    second.aside = None;
    put_aside(&mut second, data_dir).unwrap();
    assert_eq!(second.aside.as_deref(), Some("before-restore-at-7-2"));
    for (note, what) in [(first, "one"), (second, "two")] {
        let aside = aside_of(&note, data_dir).unwrap();
        for name in [SINK, "host-cache/plan1.sealed"] {
            assert_eq!(fs::read_to_string(aside.join(name)).unwrap(), what);
        }
    }
    assert!(!data_dir.join(SINK).exists() && !data_dir.join(HOST_CACHE).exists());
}

#[test]
fn a_copy_that_begins_behind_the_log_s_end_is_no_proof_of_it_and_says_so() {
    let older = |begins| {
        words(Standing::Older {
            kept: 900,
            here: 700,
            begins,
        })
        .unwrap()
    };
    for begins in [0, 512, 699] {
        let said = older(begins);
        assert!(said.ends_with("the journal has 700"), "{said}");
    }
    assert!(older(700).contains("no record is in both"));
    let said = older(768);
    assert!(
        said.contains("begins with record 768") && said.contains("the 68 before it"),
        "{said}"
    );
    assert!(said.contains("no record is in both"), "{said}");
}
