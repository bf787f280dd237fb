//! The report of a playbook's run: whole, proven to the last byte, and readable for whoever was not there.

use std::time::Duration;

use keywheel_core::id::{NotificationId, PlaybookId, RunId};
use keywheel_core::name::{NotificationName, PlaybookName};
use keywheel_core::playbook::{After, Deed, Selection, Step};
use keywheel_core::playbook_run::{Begun, Cause, Event as Fact, Outcome as Ended, Score, Target};
use keywheel_core::{lease, rotation};

use super::*;

const PLAYBOOK_RUN: RunId = RunId::from_bytes([11; 16]);
const ROTATION: RotationId = RotationId::from_bytes([12; 16]);
const PAGER: NotificationId = NotificationId::from_bytes([13; 16]);
/// What a receiver is told: it is signed with the event, and shown to nobody.
const TOLD: &str = "the text of a call";

fn step(name: &str, deed: Deed, after: &[(&str, bool)]) -> Step {
    let after = after.iter().map(|(step, failed)| After {
        step: (*step).to_owned(),
        failed: *failed,
    });
    Step {
        name: name.to_owned(),
        deed,
        after: after.collect(),
        deadline: Duration::from_secs(600),
        may_fail: false,
    }
}

/// People agree, a password is replaced, hosts are waited for, and a login with the old one is tried; who is paged
/// in the end does not answer.
fn steps() -> Vec<Step> {
    let secrets = vec![Selection::Secret {
        name: "prod/db".to_owned(),
    }];
    let notification = NotificationName::parse("pager").unwrap();
    let text = TOLD.to_owned();
    vec![
        step(
            "agree",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &[],
        ),
        step("replace", Deed::Rotate { secrets }, &[("agree", false)]),
        step("converge", Deed::Withdrawn, &[("replace", false)]),
        step("prove", Deed::Prove, &[("converge", false)]),
        step(
            "page",
            Deed::Call { notification, text },
            &[("prove", false)],
        ),
        step("too-slow", Deed::Wait { span: None }, &[("converge", true)]),
    ]
}

fn run(fact: Fact) -> Event {
    Event::PlaybookRun(PLAYBOOK_RUN, fact)
}

fn started(step: &str, targets: Vec<Target>) -> Event {
    run(Fact::StepStarted {
        step: step.to_owned(),
        targets,
        until: time(200),
    })
}

fn done(step: &str, note: Option<&str>) -> Event {
    run(Fact::StepCompleted {
        step: step.to_owned(),
        note: note.map(str::to_owned),
    })
}

fn consumer() -> Key {
    Key {
        host: HOST,
        container: ContainerId::parse(&"c".repeat(64)).unwrap(),
        binding: BINDING,
        also: None,
    }
}

fn of_consumer(fact: assignment::Event) -> Event {
    Event::Assignment(consumer(), fact)
}

fn of_rotation(fact: rotation::Event) -> Event {
    Event::Rotation(ROTATION, fact)
}

fn of_end(fact: revocation::Event) -> Event {
    Event::Revocation(lease::end_of(ROTATION), fact)
}

/// Before the run, and its beginning until somebody agreed.
fn begin() -> Vec<Event> {
    let mut events = Vec::from(named());
    events.extend([
        of_consumer(assignment::Event::Assigned {
            secret: SECRET,
            version: 1,
            container_name: "<img src=x onerror=alert(1)>".to_owned(),
            image_digest: "sha256:1234".to_owned(),
        }),
        of_consumer(assignment::Event::Swapped {
            version: 1,
            at: time(FIRST),
        }),
        run(Fact::Triggered {
            playbook: PlaybookId::from_bytes([14; 16]),
            name: PlaybookName::parse("leaked-credential").unwrap(),
            arguments: BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]),
            steps: steps(),
            by: "certificate:ann".to_owned(),
            reason: HOSTILE.to_owned(),
            parent: None,
            depth: 0,
            cause: Cause::Person,
        }),
        started("agree", Vec::new()),
        run(Fact::Approved {
            step: "agree".to_owned(),
            by: "certificate:<b>bob</b>".to_owned(),
            reason: HOSTILE.to_owned(),
        }),
        done("agree", None),
    ]);
    events
}

/// The password is replaced: its rotation, and the revocation by which the old one dies.
fn replace() -> Vec<Event> {
    let secret = Target::Secret {
        secret: SECRET,
        version: None,
    };
    vec![
        started("replace", vec![secret]),
        of_rotation(rotation::Event::Started {
            secret: SECRET,
            version: 2,
            trigger: rotation::Trigger::Playbook { run: PLAYBOOK_RUN },
        }),
        run(Fact::Acted {
            step: "replace".to_owned(),
            place: 0,
            begun: Begun::Rotation { rotation: ROTATION },
        }),
        done("replace", None),
        started("converge", Vec::new()),
        Event::Secret(SECRET, secret::Event::VersionPromoted { version: 2 }),
        of_rotation(rotation::Event::DistributionStarted {
            consumers: vec![consumer()],
            hosts: vec![HOST],
            old: vec![1],
            deadline: time(200),
        }),
        of_consumer(assignment::Event::Swapped {
            version: 2,
            at: time(FIRST),
        }),
        of_consumer(assignment::Event::Reloaded {
            version: 2,
            at: time(FIRST),
        }),
        of_rotation(rotation::Event::ConsumerAcknowledged {
            consumer: consumer(),
        }),
        of_rotation(rotation::Event::HostBarrierAcknowledged { host: HOST }),
        of_rotation(rotation::Event::Closed {
            outcome: rotation::Outcome::Completed,
        }),
        of_end(revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1],
            hosts: Vec::new(),
            reason: "replaced".to_owned(),
            is_to_prove: true,
            is_emergency: false,
        }),
        Event::Secret(SECRET, secret::Event::VersionRevoked { version: 1 }),
        of_end(revocation::Event::WithdrawnEverywhere),
        done("converge", None),
    ]
}

/// A login with the old one is refused, somebody is told, and the run ends.
fn end(outcome: Ended) -> Vec<Event> {
    let login = Evidence {
        version: 1,
        at: time(FIRST + 30),
        place: "app at db.example:5432".to_owned(),
        answer: Answer::WrongPassword,
    };
    let pager = Target::Notification {
        notification: PAGER,
    };
    vec![
        run(Fact::StepSkipped {
            step: "too-slow".to_owned(),
        }),
        started("prove", Vec::new()),
        of_end(revocation::Event::BackendConfirmed),
        of_end(revocation::Event::ProvenDead {
            evidence: vec![login],
        }),
        of_end(revocation::Event::Destroyed),
        of_end(revocation::Event::Closed),
        done("prove", Some("1 login was refused")),
        started("page", vec![pager]),
        run(Fact::Notified {
            step: "page".to_owned(),
            place: 0,
            notification: PAGER,
            text: TOLD.to_owned(),
        }),
        run(Fact::Answered {
            step: "page".to_owned(),
            place: 0,
            failure: Some("503 <script>".to_owned()),
            at: None,
        }),
        run(Fact::StepFailed {
            step: "page".to_owned(),
            reason: "503 <script>".to_owned(),
        }),
        run(Fact::Completed {
            outcome,
            score: Score {
                targets: 1,
                through: 1,
            },
        }),
    ]
}

fn whole() -> Vec<Event> {
    [begin(), replace(), end(Ended::Failed)].concat()
}

fn answer(events: &[Event]) -> EvidenceReport {
    answered_of("playbook-run", &PLAYBOOK_RUN.to_string(), events, &key())
}

fn told(events: &[Event]) -> keywheel_schemas::api::EvidenceSummary {
    complete(answer(events)).unwrap().summary.unwrap()
}

#[test]
fn a_run_s_report_tells_its_steps_who_approved_what_died_and_that_it_is_dead() {
    let report = complete(answer(&whole())).unwrap();
    assert_eq!(found(&report).faults, []);
    let told = report.summary.unwrap();
    assert_eq!(told.name, "leaked-credential");
    assert_eq!(told.marks[0].what, "begun by certificate:ann");
    assert_eq!(told.reason, HOSTILE);
    assert_eq!(told.state, "failed at step page: 503 <script>");
    let steps: Vec<(&str, &str)> = told
        .steps
        .iter()
        .map(|one| (one.name.as_str(), one.state.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            ("agree", "completed"),
            ("replace", "completed"),
            ("converge", "completed"),
            ("prove", "completed"),
            ("page", "failed"),
            ("too-slow", "skipped"),
        ]
    );
    assert_eq!(told.steps[0].took_us, Some(2000));
    assert_eq!(told.steps[1].after, ["agree"]);
    assert_eq!(told.steps[5].after, ["converge failed"]);
    assert_eq!(told.steps[3].result, "1 login was refused");
    let replaced = &told.steps[1].targets[0];
    assert_eq!(replaced.outcome, format!("rotation {ROTATION}"));
    let paged = &told.steps[4].targets[0];
    assert_eq!(paged.target, "notification pager");
    assert_eq!(paged.outcome, "told, and not taken: 503 <script>");
    let [approval] = told.approvals.as_slice() else {
        panic!("{:?}", told.approvals);
    };
    assert_eq!((approval.step.as_str(), approval.after_us), ("agree", 1000));
    let [proof] = told.proofs.as_slice() else {
        panic!("{:?}", told.proofs);
    };
    assert_eq!((proof.version, proof.event), (1, Some(38)));
    assert!(proof.verdict.starts_with("proven dead"), "{proof:?}");
    let [login] = told.logins.as_slice() else {
        panic!("{:?}", told.logins);
    };
    assert_eq!((&login.secret, login.event), (&proof.secret, 38));
    let [consumer] = told.consumers.as_slice() else {
        panic!("{:?}", told.consumers);
    };
    assert_eq!(
        (consumer.outcome.as_str(), consumer.after_us),
        ("runs on version 2", Some(12_000))
    );
    assert_eq!(told.hosts[0].outcome, "gone");
    let reached: Vec<Option<u64>> = told.marks.iter().map(|mark| mark.event).collect();
    assert_eq!(reached, [15, 24, 27, 32, 37, 38, 46].map(Some));
    let versions: Vec<(u64, &str)> = told
        .secrets
        .iter()
        .map(|one| (one.version, one.outcome.as_str()))
        .collect();
    assert_eq!(versions, [(1, "revoked"), (2, "alive")]);
    let score = told.score.unwrap();
    assert_eq!((score.targets, score.through, score.percent), (1, 1, 100));
}

#[test]
fn a_run_that_goes_on_says_whom_it_waits_for_and_what_lives() {
    let waiting = told(&begin()[..7]);
    assert!(
        waiting
            .state
            .starts_with("open: step agree waits for people, 0 of 1 approved, until "),
        "{}",
        waiting.state
    );
    assert!(waiting.score.is_none() && waiting.proofs.is_empty());
    let before_death = [begin(), replace()[..12].to_vec()].concat();
    let open = told(&before_death);
    assert!(
        open.state.starts_with("open: step converge"),
        "{}",
        open.state
    );
    assert_eq!(open.proofs[0].verdict, "not yet: it is alive");
    assert!(open.proof.starts_with("not yet"), "{}", open.proof);
    let page = page(&complete(answer(&before_death)).unwrap()).unwrap();
    assert!(page.contains("<li>NOT dead: prod/payments/db-password version 1."));
    let begun = told(&[begin(), replace()].concat());
    let confirmed = begun
        .marks
        .iter()
        .find(|mark| mark.what.starts_with("every store"));
    assert_eq!(confirmed.unwrap().at, None, "nobody said so yet");
    let shown = open
        .marks
        .iter()
        .find(|mark| mark.what.starts_with("last version"));
    assert_eq!(shown.unwrap().at, None);
}

/// What older versions left at a store outside is cleared away by the rotation itself, while a revocation takes the old one.
#[test]
fn the_end_of_a_rotation_confirms_nothing_of_what_a_revocation_takes() {
    let mut replaced = replace();
    let closed = replaced.remove(11);
    assert!(matches!(
        &closed,
        Event::Rotation(_, rotation::Event::Closed { .. })
    ));
    let told = told(&[begin(), replaced, vec![closed]].concat());
    let confirmed = told
        .marks
        .iter()
        .find(|mark| mark.what.starts_with("every store"));
    assert_eq!(
        confirmed.unwrap().event,
        None,
        "its store may let it in still"
    );
}

#[test]
fn an_event_of_what_a_step_began_that_is_missing_is_named() {
    let all = whole();
    let began = |event: &Event, kind: &str| event::type_name(event).contains(kind);
    for (kind, subject) in [
        ("rotation.started", format!("rotation/{ROTATION}")),
        (
            "revocation.backend_confirmed",
            format!("revocation/{}", lease::end_of(ROTATION)),
        ),
        (
            "playbook_run.approved",
            format!("playbook_run/{PLAYBOOK_RUN}"),
        ),
    ] {
        let mut report = complete(answer(&all)).unwrap();
        let place = all.iter().position(|event| began(event, kind)).unwrap();
        report.events.remove(place);
        let found = found(&report);
        let mut faults = found.faults.iter();
        let named = faults.any(|one| one.record == subject && one.what.contains("is missing"));
        assert!(named, "{kind}: {found:?}");
    }
    // A rotation that a step began, and not one event of it: sealed so, and yet it is named.
    let mut none = all.clone();
    none.retain(|event| !matches!(event, Event::Rotation(..)));
    let fault = complete(answer(&none)).unwrap_err();
    assert_eq!(fault.record, format!("rotation/{ROTATION}"));
}

/// Bits are flipped at places that are spread over the whole file, and at each of the first and last ones.
#[test]
fn a_flipped_byte_anywhere_is_found() {
    /// So many places lie between two that are tried.
    const STRIDE: usize = 97;
    const EDGE: usize = 40;
    let report = complete(answer(&whole())).unwrap();
    let public = key().verifying_key();
    for file in [page(&report).unwrap(), json(&report).unwrap()] {
        let end = file.len();
        let spread = (0..end).step_by(STRIDE);
        for place in spread.chain(0..EDGE).chain(end - EDGE..end) {
            let mut bytes = file.clone().into_bytes();
            bytes[place] ^= 1 << (place % 7);
            let Ok(text) = String::from_utf8(bytes) else {
                continue; // No text is no report: see `input`.
            };
            let is_good =
                read(&text).is_ok_and(|inside| verify(&inside, &public, Some(&text)).verified);
            assert!(!is_good, "byte {place} of {end}: {:?}", &text[..60]);
        }
    }
}

/// Letters of another case mean the same to JSON and to hexadecimal digits, and are no report's all the same.
#[test]
fn what_is_written_otherwise_and_means_the_same_is_found() {
    let report = complete(answer(&whole())).unwrap();
    let public = key().verifying_key();
    let text = json(&report).unwrap();
    for (written, otherwise) in [
        ("\"kind\": \"playbook-run\"", "\"kind\":  \"playbook-run\""),
        (
            "\"kind\": \"playbook-run\"",
            "\"kind\": \"playbook\\u002drun\"",
        ),
    ] {
        let changed = text.replacen(written, otherwise, 1);
        let inside = read(&changed).unwrap();
        assert_eq!(inside, report);
        let found = verify(&inside, &public, Some(&changed));
        assert_eq!(found.faults[0].record, "file", "{found:?}");
    }
    let mut other = report.clone();
    other.public_key = STANDARD.encode([9; 32]);
    let found = verify(&other, &public, None);
    assert_eq!(found.faults[0].record, "public key", "{found:?}");
}

/// Every tag of a page is one of these, without an attribute but for those few that stand in its head.
#[test]
fn a_run_s_page_runs_nothing_loads_nothing_and_shows_words_as_text() {
    let page = page(&complete(answer(&whole())).unwrap()).unwrap();
    let policy = "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\"";
    assert_eq!(page.matches(policy).count(), 1);
    let body = page.split_once("<body>").unwrap().1;
    let allowed = [
        "header",
        "section",
        "h1",
        "h2",
        "p",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "td class=\"line\"",
        "wbr",
        "pre",
        "div",
        "script",
        "body",
        "html",
        "p class=\"kind\"",
        "section class=\"short\"",
        "div class=\"wide\"",
        "script type=\"application/json\" id=\"keywheel-report\"",
    ];
    for tag in body.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap().trim_start_matches('/');
        assert!(allowed.contains(&tag), "<{tag}>");
    }
    assert_eq!(page.matches("<script").count(), 1, "the report itself");
    // The data holds the names of the events' own schemas, which nothing follows.
    let (shown, _) = page.split_once("<script").unwrap();
    for outside in ["http://", "https://", "@import", "url(", "src=\"", "href="] {
        assert!(!shown.contains(outside), "{outside}");
    }
    for words in [
        "&lt;/script&gt;&lt;script&gt;alert(1)",
        "certificate:&lt;b&gt;bob&lt;/b&gt;",
        "&lt;img src=x onerror=alert(1)&gt;",
        "503 &lt;script&gt;",
        "1 of 1 rotations and revocations",
        "app at db.example:5432",
    ] {
        assert!(shown.contains(words), "{words}");
    }
    assert!(!shown.contains(TOLD), "what others are told is not shown");
}
