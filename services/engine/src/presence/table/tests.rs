//! Who is shown, who is silent, who is forgotten.

use super::super::Seen;
use super::*;

fn presence(role: Role, instance: u8, machine: &str, started: i64, sent: i64) -> Presence {
    Presence {
        role,
        host: None,
        instance: [instance; 16],
        machine: machine.to_owned(),
        version: "1".to_owned(),
        started: at(started),
        sent: at(sent),
        leaving: false,
        certificate_end: None,
        bus: None,
        seen: Seen::default(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn heard(second: u64) -> Heard {
    Heard {
        at: at(second.try_into().unwrap()),
        steady: secs(second),
        head: Some(100),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn two_of_a_role_are_two_rows_and_the_newest_word_of_each_counts() {
    let table = Table::default();
    assert!(table.hear(presence(Role::Scheduler, 1, "a", 0, 10), heard(10)));
    assert!(table.hear(presence(Role::Scheduler, 2, "b", 5, 10), heard(10)));
    assert!(table.hear(presence(Role::Scheduler, 1, "a", 0, 20), heard(20)));
    let rows = table.all(secs(20));
    let sent: Vec<_> = rows.iter().map(|row| row.presence.sent).collect();
    assert_eq!(sent, [at(20), at(10)]);
}

#[test]
fn a_copy_that_was_kept_does_not_make_an_instance_look_alive() {
    let table = Table::default();
    let first = presence(Role::StoreSync, 1, "a", 0, 10);
    assert!(table.hear(first.clone(), heard(10)));
    assert!(!table.hear(first, heard(60)));
    assert!(table.all(secs(60))[0].is_silent(secs(60)));
    assert!(!table.all(secs(60))[0].is_silent(secs(10) + SILENT_AFTER));
}

#[test]
fn who_leaves_on_purpose_is_gone_and_who_is_silent_is_forgotten_in_the_end() {
    let table = Table::default();
    table.hear(presence(Role::AuditSink, 1, "a", 0, 10), heard(10));
    table.hear(presence(Role::Scheduler, 1, "a", 0, 10), heard(10));
    let mut last = presence(Role::AuditSink, 1, "a", 0, 11);
    last.leaving = true;
    assert!(table.hear(last, heard(11)));
    assert_eq!(table.all(secs(10) + FORGOTTEN_AFTER).len(), 1);
    assert_eq!(table.all(secs(11) + FORGOTTEN_AFTER).len(), 0);
}

#[test]
fn a_run_that_was_killed_is_over_when_the_next_one_speaks_from_its_machine() {
    let table = Table::default();
    table.hear(presence(Role::Scheduler, 1, "a", 0, 10), heard(10));
    table.hear(presence(Role::Scheduler, 2, "b", 50, 60), heard(60));
    assert_eq!(table.all(secs(60)).len(), 2, "another machine");
    table.hear(presence(Role::Scheduler, 3, "a", 5, 60), heard(60));
    assert_eq!(table.all(secs(60)).len(), 3, "it began beside it");
    table.hear(presence(Role::Scheduler, 4, "a", 50, 60), heard(60));
    let rows = table.all(secs(60));
    let left: Vec<_> = rows.iter().map(|row| row.presence.instance[0]).collect();
    assert_eq!(left, [3, 2, 4], "by start");
}

#[test]
fn an_injector_is_its_host_whatever_run_speaks() {
    let table = Table::default();
    for (run, sent) in [(1, 10), (2, 20)] {
        let mut host = presence(Role::Injector, run, "web-1", sent, sent);
        host.host = Some(HostId::from_bytes([9; 16]));
        table.hear(host, heard(20));
    }
    assert_eq!(table.all(secs(20)).len(), 1);
}

#[test]
fn what_is_kept_is_bounded_and_the_silent_go_first() {
    let table = Table::default();
    let last = u8::try_from(MAX_INSTANCES).unwrap();
    for number in 0..last {
        let machine = number.to_string();
        table.hear(
            presence(Role::Scheduler, number, &machine, 0, 10),
            heard(10),
        );
    }
    let more = presence(Role::Scheduler, last, "more", 0, 11);
    assert!(!table.hear(more.clone(), heard(11)), "all are alive");
    assert!(table.hear(presence(Role::Gateway, 1, "x", 0, 11), heard(11)));
    assert!(table.hear(more, heard(100)), "a silent one goes");
    assert_eq!(table.all(secs(100)).len(), MAX_INSTANCES + 1);
}

#[test]
fn since_when_it_is_behind_is_kept_until_it_caught_up() {
    let table = Table::default();
    let tell = |second: u64, number| {
        let mut word = presence(Role::Scheduler, 1, "a", 0, second.try_into().unwrap());
        word.seen.reached = Some(Reached::Event(number));
        table.hear(word, heard(second));
        let row = &table.all(secs(second))[0];
        (row.lag(), row.behind_since)
    };
    assert_eq!(tell(10, 40), (Some(60), Some(secs(10))));
    assert_eq!(tell(20, 90), (Some(10), Some(secs(10))));
    assert_eq!(tell(30, 100), (Some(0), None));
    assert_eq!(tell(40, 99), (Some(1), Some(secs(40))));
}
