//! A ledger that cannot be taken up, or not all of it: what the status says, and what is on record.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use keywheel_engine::presence::{Fact, Health, Look, Presence, Seen};
use keywheel_identity::ledger::MAX_LEDGER_BYTES;
use keywheel_schemas::api::{ComponentKind, HealthWord};

use super::*;

/// A gateway that is well otherwise.
struct Well;

#[async_trait]
impl Look for Well {
    async fn look(&self) -> Seen {
        Seen {
            reached: None,
            facts: vec![Fact::ok("own", "it is well")],
        }
    }
}

fn look_of(taking: &AtMachine) -> WithTrouble {
    WithTrouble::new(Arc::new(Well), taking.trouble())
}

/// What its gateway says of the ledger.
async fn told(look: &WithTrouble) -> Option<Fact> {
    let facts = look.look().await.facts;
    assert!(facts.iter().any(|fact| fact.name == "own"), "{facts:?}");
    let mut own = facts.into_iter().filter(|fact| fact.name == DEEDS_FACT);
    let fact = own.next();
    assert_eq!(own.next(), None, "once");
    fact
}

/// What of it cannot be read, on record.
fn passed_over(command: CommandId, words: &str) -> String {
    let reason = format!("passed over: {words} that this build writes");
    let about = ("read-deeds", "deeds.jsonl");
    shown(gateway(), about, command, (Outcome::Rejected, &reason))
}

fn mark_of(home: &Path) -> CommandId {
    made_of(READ, &noted(home).mark())
}

/// Puts something in the ledger's place that is refused for this.
fn spoil(home: &Path, why: &str) {
    let (ledger, elsewhere) = (home.join(LEDGER_FILE), home.join("elsewhere"));
    let write = |path: &Path, mode| {
        fs::write(path, format!("{CANARY}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    match why {
        "is a link" => symlink(&elsewhere, &ledger).unwrap(),
        "another name" => {
            write(&elsewhere, 0o600);
            fs::hard_link(&elsewhere, &ledger).unwrap();
        }
        "open to others" => write(&ledger, 0o640),
        "another user" => {
            write(&ledger, 0o600);
            chown(&ledger, Some(4242), None).unwrap();
        }
        "larger than" => {
            write(&ledger, 0o600);
            let file = File::options().write(true).open(&ledger).unwrap();
            file.set_len(MAX_LEDGER_BYTES + 1).unwrap();
        }
        _ => panic!("{why}"),
    }
}

#[tokio::test]
async fn a_refused_ledger_is_told_at_once_with_the_next_step_until_it_is_put_right() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let look = look_of(&taking);
    taking.take_up().await.unwrap();
    assert_eq!(told(&look).await, None);
    assert!(look.changed().now_or_never().is_none());
    let is_root = fs::metadata(home.path()).unwrap().uid() == 0;
    let mut reasons = vec!["is a link", "another name", "open to others", "larger than"];
    // Only root can give a file away.
    reasons.extend(is_root.then_some("another user"));
    for why in reasons {
        spoil(home.path(), why);
        for _ in 0..2 {
            assert!(matches!(taking.take_up().await, Err(Fault::Ledger(_))));
        }
        assert!(look.changed().now_or_never().is_some(), "{why}");
        assert!(look.changed().now_or_never().is_none(), "{why}, once");
        let fact = told(&look).await.unwrap();
        assert_eq!(fact.health, Health::Problem);
        for part in [LEDGER_FILE, why, "cannot be put on record"] {
            assert!(fact.note.contains(part), "{part}: {}", fact.note);
        }
        assert!(!fact.note.contains(CANARY), "{}", fact.note);
        assert!(fact.next.is_some_and(|next| next.contains("mode 0600")));
        fs::remove_file(home.path().join(LEDGER_FILE)).unwrap();
        taking.take_up().await.unwrap();
        assert!(look.changed().now_or_never().is_some(), "{why}");
        assert_eq!(told(&look).await, None);
    }
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_a_warning_for_as_long() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let look = look_of(&taking);
    done(home.path(), Verb::BeginCaRollover);
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    assert!(matches!(taking.take_up().await, Err(Fault::Log(_))));
    let fact = told(&look).await.unwrap();
    assert_eq!(fact.health, Health::Warning);
    let next = fact.next.unwrap();
    assert!(next.contains("tried again"), "{next}");
    taking.take_up().await.unwrap();
    assert_eq!(told(&look).await, None);
}

#[tokio::test]
async fn every_gateway_s_status_names_the_machine_whose_ledger_is_refused() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let look = look_of(&taking);
    spoil(home.path(), "open to others");
    taking.take_up().await.unwrap_err();
    let presence = Presence {
        role: Role::Gateway,
        host: None,
        instance: [1; 16],
        machine: "m-2".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: Timestamp::default(),
        sent: Timestamp::from_micros(1),
        leaving: false,
        certificate_end: None,
        bus: None,
        seen: look.look().await,
    };
    assert!(bench.api.presences.hear(presence, None));
    let status = crate::http::status::look(&bench.api).await.0;
    assert_eq!(status.state, HealthWord::Problem);
    let mut findings = status.findings.iter();
    let finding = findings.find(|finding| finding.what.starts_with("deeds: "));
    let finding = finding.unwrap();
    assert_eq!(finding.state, HealthWord::Problem);
    assert_eq!(finding.kind, ComponentKind::Gateway);
    assert_eq!(finding.name, "m-2");
    assert!(finding.what.contains("is open to others"));
    assert!(finding.next.is_some());
}

#[tokio::test]
async fn lines_that_cannot_be_read_are_counted_on_record_and_nothing_of_them_is_repeated() {
    let (bench, home) = (Bench::start().await, home());
    let mut taking = started(&bench, home.path());
    let before = bench.audit().await.len();
    let deed = begin(home.path(), Verb::BeginCaRollover, "");
    let command = commands(home.path())[0];
    append(home.path(), &format!("{CANARY}\n{{}}\n\n"));
    // More may come as long as somebody is at a deed.
    taking.take_up().await.unwrap();
    assert_eq!(bench.audit().await.len(), before + 1);
    deed.end(Came::Done("it is so".to_owned()), NOW).unwrap();
    let mark = mark_of(home.path());
    for _ in 0..2 {
        taking.take_up().await.unwrap();
    }
    let mut expected = pair(Verb::BeginCaRollover, command).to_vec();
    let two = "2 lines of it on the gateway's machine are none";
    expected.push(passed_over(mark, two));
    assert_eq!(bench.audit().await.split_off(before), expected);
    assert_eq!(length(home.path()), 0);
    let all = bench.audit().await.concat();
    assert!(!all.contains(CANARY), "{all}");
}

#[tokio::test]
async fn lines_that_cannot_be_read_are_on_record_before_they_are_gone_and_once_for_each_time() {
    let (bench, home) = (Bench::start().await, home());
    let ledger = home.path().join(LEDGER_FILE);
    let before = bench.audit().await.len();
    fs::write(&ledger, format!("{CANARY}\n")).unwrap();
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o600)).unwrap();
    let (mark, written) = (mark_of(home.path()), fs::metadata(&ledger).unwrap());
    let written = written.modified().unwrap();
    let put = |when| {
        fs::write(&ledger, format!("{CANARY}\n")).unwrap();
        let file = File::options().write(true).open(&ledger).unwrap();
        file.set_modified(when).unwrap();
    };
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let taken = started(&bench, home.path()).take_up().await;
    assert!(matches!(taken, Err(Fault::Log(_))));
    assert_ne!(length(home.path()), 0);
    started(&bench, home.path()).take_up().await.unwrap();
    // A gateway that was killed before it emptied it.
    put(written);
    started(&bench, home.path()).take_up().await.unwrap();
    let one = "1 line of it on the gateway's machine is none";
    let expected = [passed_over(mark, one)];
    assert_eq!(bench.audit().await.split_off(before), expected);
    // The same line, another day.
    put(written + Duration::from_secs(86_400));
    let again = mark_of(home.path());
    assert_ne!(again, mark);
    started(&bench, home.path()).take_up().await.unwrap();
    let expected = [passed_over(again, one)];
    assert_eq!(bench.audit().await.split_off(before + 1), expected);
    assert_eq!(length(home.path()), 0);
}
