//! A ledger on a real disk: order, room, half lines, the lock, and what stands in its place.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use keywheel_seal::OsEntropy;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const LATER: Timestamp = Timestamp::from_micros(1_800_000_000_500_000);

/// A gateway's directory, as far as it matters.
fn home() -> (tempfile::TempDir, Ledger) {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join(AUTHORITY_FILE), "{}").unwrap();
    let ledger = Ledger::new(scratch.path());
    (scratch, ledger)
}

fn begin(ledger: &Ledger, verb: Verb, words: &str) -> Result<Deed, LedgerError> {
    let asked = Asked {
        uid: 1001,
        verb,
        object: "ca",
        words,
    };
    ledger.begin(&asked, NOW, &OsEntropy)
}

fn noted(ledger: &Ledger) -> Noted {
    ledger.read().unwrap().unwrap()
}

fn stages(ledger: &Ledger) -> Vec<Stage> {
    noted(ledger).lines.iter().map(|line| line.stage).collect()
}

fn text(ledger: &Ledger) -> String {
    fs::read_to_string(&ledger.path).unwrap()
}

#[test]
fn the_intent_is_on_the_disk_before_and_the_outcome_after_under_one_command() {
    let (_scratch, ledger) = home();
    assert!(ledger.read().unwrap().is_none());
    let deed = begin(&ledger, Verb::BeginCaRollover, "the root\nin x").unwrap();
    let asked = noted(&ledger).lines.remove(0);
    let expected = Line {
        command: asked.command,
        time: NOW,
        uid: 1001,
        verb: Verb::BeginCaRollover,
        object: "ca".to_owned(),
        stage: Stage::Asked,
        words: "the root in x".to_owned(),
    };
    assert_eq!(asked, expected);
    deed.end(Came::Done("both are trusted".to_owned()), LATER)
        .unwrap();
    let done = noted(&ledger).lines.remove(1);
    let expected = Line {
        time: LATER,
        stage: Stage::Done,
        words: "both are trusted".to_owned(),
        ..asked.clone()
    };
    assert_eq!(done, expected);
    let deed = begin(&ledger, Verb::FinishCaRollover, "").unwrap();
    deed.end(Came::Failed("too early".to_owned()), LATER)
        .unwrap();
    let all = noted(&ledger);
    let [_, _, intent, failed] = &all.lines[..] else {
        panic!("{all:?}");
    };
    assert_eq!(intent.command, failed.command);
    assert_ne!(intent.command, asked.command);
    assert_eq!(failed.stage, Stage::Failed);
    assert!(all.abandoned().is_empty() && !all.is_held);
    let mode = fs::metadata(&ledger.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, FILE_MODE);
}

#[test]
fn words_in_the_file_are_those_of_the_audit() {
    for verb in [
        Verb::BeginCaRollover,
        Verb::FinishCaRollover,
        Verb::RefreshCredentials,
        Verb::IssueCredentials,
    ] {
        let written = serde_json::to_string(&verb).unwrap();
        assert_eq!(written, format!("\"{}\"", verb.word()));
    }
    for stage in [Stage::Asked, Stage::Done, Stage::Failed] {
        let written = serde_json::to_string(&stage).unwrap();
        assert_eq!(written, format!("\"{}\"", stage.word()));
    }
}

#[test]
fn half_a_line_is_none_and_the_next_deed_begins_a_line_of_its_own() {
    let (_scratch, ledger) = home();
    let deed = begin(&ledger, Verb::BeginCaRollover, "").unwrap();
    deed.end(Came::Done("x".to_owned()), NOW).unwrap();
    let before = text(&ledger);
    let half = before.get(..before.len() / 3).unwrap();
    fs::write(&ledger.path, format!("{before}{half}")).unwrap();
    assert_eq!(stages(&ledger), [Stage::Asked, Stage::Done]);
    assert_eq!(noted(&ledger).unread, 0);
    let deed = begin(&ledger, Verb::FinishCaRollover, "").unwrap();
    assert!(text(&ledger).starts_with(&before));
    assert_eq!(text(&ledger).lines().count(), 3);
    deed.end(Came::Done("y".to_owned()), NOW).unwrap();
    assert_eq!(stages(&ledger).len(), 4);
    // A first intent that a crash cut is nothing at all.
    fs::write(&ledger.path, half).unwrap();
    let nothing = noted(&ledger);
    assert!(nothing.lines.is_empty() && nothing.unread == 0);
    assert!(ledger.empty(&nothing).unwrap());
    assert!(ledger.read().unwrap().is_none());
}

#[test]
fn what_this_build_does_not_write_is_counted_and_passed_over() {
    let (_scratch, ledger) = home();
    let deed = begin(&ledger, Verb::BeginCaRollover, "").unwrap();
    drop(deed);
    let line = text(&ledger);
    let strange = line.replace("begin-ca-rollover", "begin-of-the-end");
    let long = "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap());
    fs::write(&ledger.path, format!("{strange}{long}\n{{}}\n\n{line}")).unwrap();
    let noted = noted(&ledger);
    assert_eq!((noted.lines.len(), noted.unread), (1, 3));
}

#[test]
fn a_mark_tells_what_is_noted_from_anything_else_and_from_the_same_another_time() {
    let (_scratch, ledger) = home();
    drop(begin(&ledger, Verb::BeginCaRollover, "").unwrap());
    let first = noted(&ledger).mark();
    assert_eq!(noted(&ledger).mark(), first, "it is that of the file");
    let (before, at) = (text(&ledger), fs::metadata(&ledger.path).unwrap());
    let at = at.modified().unwrap();
    let put = |text: &str, when| {
        fs::write(&ledger.path, text).unwrap();
        let file = File::options().write(true).open(&ledger.path);
        file.unwrap().set_modified(when).unwrap();
        noted(&ledger).mark()
    };
    assert_eq!(put(&before, at), first);
    assert_ne!(put(&before, at + Duration::from_secs(1)), first);
    assert_ne!(put(&format!("{before}{{}}\n"), at), first);
}

#[test]
fn nobody_begins_before_the_one_at_it_has_ended() {
    let (_scratch, ledger) = home();
    let first = begin(&ledger, Verb::BeginCaRollover, "first").unwrap();
    let other = ledger.clone();
    let second = std::thread::spawn(move || begin(&other, Verb::FinishCaRollover, "second"));
    assert_eq!(stages(&ledger), [Stage::Asked]);
    first.end(Came::Done("first".to_owned()), NOW).unwrap();
    let second = second.join().unwrap().unwrap();
    second.end(Came::Done("second".to_owned()), NOW).unwrap();
    let words = noted(&ledger).lines.into_iter().map(|line| line.words);
    let words: Vec<String> = words.collect();
    assert_eq!(words, ["first", "first", "second", "second"]);
}

#[test]
fn whoever_keeps_the_lock_is_waited_for_for_a_time_only() {
    let (_scratch, ledger) = home();
    let held = begin(&ledger, Verb::BeginCaRollover, "").unwrap();
    let file = ledger.open().unwrap().unwrap();
    let refused = ledger.lock(&file, 2).unwrap_err();
    assert!(matches!(refused, LedgerError::Held(_)), "{refused}");
    drop(held);
    ledger.lock(&file, 2).unwrap();
}

#[test]
fn an_intent_is_abandoned_once_nobody_holds_it_and_none_is_emptied_before() {
    let (_scratch, ledger) = home();
    let deed = begin(&ledger, Verb::RefreshCredentials, "").unwrap();
    let held = noted(&ledger);
    assert!(held.is_held && held.abandoned().is_empty());
    assert!(!ledger.empty(&held).unwrap());
    // Killed: the kernel frees what it held.
    drop(deed);
    let free = noted(&ledger);
    assert!(!free.is_held);
    assert_eq!(free.abandoned(), [&held.lines[0]]);
    // What came since was not looked at.
    let deed = begin(&ledger, Verb::RefreshCredentials, "").unwrap();
    deed.end(Came::Done("x".to_owned()), NOW).unwrap();
    assert!(!ledger.empty(&free).unwrap());
    let all = noted(&ledger);
    assert_eq!((all.lines.len(), all.abandoned().len()), (3, 1));
    assert!(ledger.empty(&all).unwrap());
    assert!(ledger.read().unwrap().is_none());
    let deed = begin(&ledger, Verb::BeginCaRollover, "").unwrap();
    assert_eq!(stages(&ledger), [Stage::Asked]);
    drop(deed);
}

#[test]
fn the_longest_line_has_room_and_a_full_ledger_takes_no_intent() {
    let (_scratch, ledger) = home();
    for letter in ["\u{1d11e}", "\"", "\\", "\u{1}"] {
        let long = letter.repeat(2 * MAX_WORDS_CHARS);
        let asked = Asked {
            uid: u32::MAX,
            verb: Verb::RefreshCredentials,
            object: &long,
            words: &long,
        };
        let end = Timestamp::from_micros(i64::MIN);
        let deed = ledger.begin(&asked, end, &OsEntropy).unwrap();
        deed.end(Came::Failed(long), end).unwrap();
    }
    assert_eq!(noted(&ledger).unread, 0);
    assert!(
        text(&ledger)
            .lines()
            .all(|line| (line.len() as u64) < MAX_LINE_BYTES)
    );
    let most = usize::try_from(MAX_LEDGER_BYTES - 2 * MAX_LINE_BYTES).unwrap();
    let full = |bytes: usize| format!("{}\n", "x".repeat(bytes - 1));
    fs::write(&ledger.path, full(most)).unwrap();
    drop(begin(&ledger, Verb::BeginCaRollover, "").unwrap());
    fs::write(&ledger.path, full(most + 1)).unwrap();
    let refused = begin(&ledger, Verb::BeginCaRollover, "").unwrap_err();
    assert!(matches!(refused, LedgerError::Full(_)), "{refused}");
    assert_eq!(text(&ledger).len(), most + 1);
    let past = usize::try_from(MAX_LEDGER_BYTES + 1).unwrap();
    fs::write(&ledger.path, full(past)).unwrap();
    assert!(matches!(ledger.read(), Err(LedgerError::Strange { .. })));
}

#[test]
fn no_link_is_followed_and_what_is_open_to_others_is_refused() {
    let (scratch, ledger) = home();
    let elsewhere = scratch.path().join("elsewhere");
    let refused = |why: &str| {
        let begun = begin(&ledger, Verb::BeginCaRollover, "").unwrap_err();
        assert!(begun.to_string().contains(why), "{begun}");
        let read = ledger.read().unwrap_err();
        assert!(read.to_string().contains(why), "{read}");
    };
    symlink(&elsewhere, &ledger.path).unwrap();
    refused("is a link");
    assert!(!elsewhere.exists());
    fs::write(&elsewhere, "kept\n").unwrap();
    refused("is a link");
    fs::remove_file(&ledger.path).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(FILE_MODE)).unwrap();
    fs::hard_link(&elsewhere, &ledger.path).unwrap();
    refused("another name");
    fs::remove_file(&ledger.path).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept\n");
    fs::write(&ledger.path, "x\n").unwrap();
    fs::set_permissions(&ledger.path, fs::Permissions::from_mode(0o620)).unwrap();
    refused("open to others");
    fs::remove_file(&ledger.path).unwrap();
    fs::create_dir(&ledger.path).unwrap();
    refused("no file");
}

#[test]
fn a_directory_without_an_authority_gets_no_ledger() {
    let scratch = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(scratch.path());
    let refused = begin(&ledger, Verb::BeginCaRollover, "").unwrap_err();
    assert!(refused.to_string().contains(AUTHORITY_FILE), "{refused}");
    assert!(!ledger.path.exists());
}

#[test]
fn what_root_notes_the_gateway_s_own_user_can_take_up() {
    const GATEWAY: u32 = 4242;
    let (scratch, ledger) = home();
    if fs::metadata(scratch.path()).unwrap().uid() != 0 {
        return;
    }
    chown(scratch.path(), Some(GATEWAY), Some(GATEWAY)).unwrap();
    drop(begin(&ledger, Verb::BeginCaRollover, "").unwrap());
    let about = fs::metadata(&ledger.path).unwrap();
    assert_eq!((about.uid(), about.gid()), (GATEWAY, GATEWAY));
}

#[test]
fn what_belongs_to_somebody_else_is_neither_given_away_nor_written() {
    const GATEWAY: u32 = 4242;
    let (scratch, ledger) = home();
    if fs::metadata(scratch.path()).unwrap().uid() != 0 {
        return;
    }
    // Root's own file, which the directory's owner moved there.
    let text = "kept, and no whole line";
    fs::write(&ledger.path, text).unwrap();
    fs::set_permissions(&ledger.path, fs::Permissions::from_mode(FILE_MODE)).unwrap();
    chown(scratch.path(), Some(GATEWAY), Some(GATEWAY)).unwrap();
    let refused = begin(&ledger, Verb::BeginCaRollover, "").unwrap_err();
    assert!(refused.to_string().contains("another user"), "{refused}");
    assert_eq!(fs::metadata(&ledger.path).unwrap().uid(), 0);
    assert_eq!(fs::read_to_string(&ledger.path).unwrap(), text);
}
