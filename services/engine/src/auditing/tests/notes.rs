//! What a report notes beside its items, and the record that each note leaves.

use super::*;

#[test]
fn every_refused_start_leaves_a_record_though_nothing_was_decided() {
    let start = |secret: &str| DeniedStart {
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "job".to_owned(),
        image_digest: "sha256:1".to_owned(),
        secret: secret.to_owned(),
        reason: "no binding".to_owned(),
    };
    let command = Command::Report(HostReport {
        generation: 1,
        denied: vec![start("prod/db"), start("")],
        ..HostReport::empty(HostId::from_bytes([1; 16]))
    });
    let deed = Deed {
        principal: &Principal::Service(Role::Injector),
        id: CommandId::from_bytes([2; 16]),
        time: Timestamp::default(),
        traceparent: None,
    };
    let left = records(&World::default(), &deed, &command, &Ok(Vec::new()));
    let objects: Vec<&str> = left.iter().map(|record| record.object.as_str()).collect();
    assert_eq!(objects, ["secret/prod/db", ""]);
    for record in &left {
        assert_eq!(
            (record.verb.as_str(), record.outcome),
            ("refuse", Outcome::Denied)
        );
        assert_eq!(record.category, Category::Usage);
        assert_eq!(record.container.as_ref().unwrap().name, "job");
    }
}

#[test]
fn a_note_of_stale_plans_leaves_a_record_of_its_host() {
    let Command::Report(mut told) = report() else {
        panic!("a report");
    };
    let note = |generation| StalePlan {
        generation,
        held: 9,
        at: Timestamp::default(),
        count: 40,
    };
    told.stale = vec![note(3), note(4)];
    let object = format!("host/{}", told.host);
    let principal = Principal::Service(Role::Injector);
    let command = Command::Report(told);
    let left = records(
        &World::default(),
        &deed(&principal),
        &command,
        &Ok(Vec::new()),
    );
    let seen: Vec<_> = left
        .iter()
        .map(|record| (record.verb.as_str(), record.outcome, record.category))
        .collect();
    let each = ("refuse-plan", Outcome::Rejected, Category::System);
    assert_eq!(seen, [each, each]);
    assert_eq!(left[0].object, object);
    let reason = &left[0].reason;
    assert!(
        reason.starts_with("stale: plan 3 came while the host had plan 9")
            && reason.contains("40 in all"),
        "{reason}"
    );
}

#[test]
fn an_exec_leaves_a_usage_record_of_its_container_and_no_object() {
    let Command::Report(mut told) = report() else {
        panic!("a report");
    };
    let note = |exec: &str, count| Executed {
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        exec: exec.to_owned(),
        at: Timestamp::default(),
        count,
    };
    told.executed = vec![note("5d5d", 1), note("6e6e", 40), note("", 2)];
    let principal = Principal::Service(Role::Injector);
    let command = Command::Report(told);
    let left = records(
        &World::default(),
        &deed(&principal),
        &command,
        &Ok(Vec::new()),
    );
    let reasons: Vec<&str> = left.iter().map(|record| record.reason.as_str()).collect();
    let expected = [
        "exec 5d5d, 1 in all, at 1970-01-01T00:00:00Z",
        "exec 6e6e was the first, 40 in all, from 1970-01-01T00:00:00Z on",
        "2 in all, from 1970-01-01T00:00:00Z on",
    ];
    assert_eq!(reasons, expected);
    for record in &left {
        let kind = (record.verb.as_str(), record.outcome, record.category);
        assert_eq!(kind, ("exec", Outcome::Allowed, Category::Usage));
        assert_eq!((record.object.as_str(), record.version), ("", None));
        let container = record.container.as_ref().unwrap();
        assert_eq!(
            (container.name.as_str(), container.image_digest.as_str()),
            ("web", "sha256:1")
        );
    }
}

#[test]
fn every_note_of_use_leaves_a_record_of_its_own() {
    let Command::Report(mut told) = report() else {
        panic!("a report");
    };
    let key = key();
    told.notes = vec![UsageNote {
        kind: UsageKind::ServedFromCache,
        container: key.container.clone(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        binding: key.binding,
        secret: SECRET,
        version: 2,
        at: Timestamp::default(),
    }];
    told.notes.extend(told.notes.clone());
    told.notes[1].kind = UsageKind::FirstUse;
    let beside = UsageNote {
        kind: UsageKind::GivenBeside,
        version: 1,
        ..told.notes[0].clone()
    };
    told.notes.push(beside);
    let principal = Principal::Service(Role::Injector);
    let world = consumer_that_holds(0);
    let command = Command::Report(told);
    let left = records(&world, &deed(&principal), &command, &Ok(Vec::new()));
    let [record, used, beside] = left.as_slice() else {
        panic!("{left:?}");
    };
    assert_eq!(used.verb, "use");
    assert_eq!(
        (beside.verb.as_str(), beside.category, beside.version),
        ("inject-previous", Category::Usage, Some(1))
    );
    assert_eq!(beside.object, "secret/prod/db");
    assert_eq!(
        used.reason,
        "the file was opened first at 1970-01-01T00:00:00Z"
    );
    assert_eq!(
        (record.verb.as_str(), record.category, record.version),
        ("serve-from-cache", Category::Usage, Some(2))
    );
    assert_eq!(record.object, "secret/prod/db");
    assert_eq!(
        record.reason,
        "the gateway did not answer, at 1970-01-01T00:00:00Z"
    );
    let container = record.container.as_ref().unwrap();
    assert_eq!(
        (container.name.as_str(), container.host.as_str()),
        ("web", "web-1")
    );
}
