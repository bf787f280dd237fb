//! What each client may say and hear.

use keywheel_core::audit::Role;
use serde_json::json;

use crate::client::{Client, Said};
use crate::deployment::{Deployment, host, host_id, service};
use crate::server::VERSIONS;

fn refused(outcome: Result<(), String>, what: &str) {
    let error = outcome.expect_err(what);
    assert!(error.contains("Permissions Violation"), "{what}: {error}");
}

#[test]
fn every_supported_server_takes_the_configuration() {
    for version in VERSIONS {
        let deployment = Deployment::start_version(version);
        let mine = host(1);
        let mut injector = deployment.client(&mine);
        let inbox = format!("{}.>", deployment.subjects.inbox(&mine));
        injector.subscribe(&inbox).unwrap();
        let log = deployment.server.log();
        assert!(!log.contains("[ERR]") && !log.contains("[FTL]"), "{log}");
        refused(injector.subscribe(">"), version);
    }
}

#[test]
fn nobody_connects_without_a_permit_of_this_deployment() {
    let deployment = Deployment::start();
    let bare = Client::connect_bare(deployment.port).err().unwrap();
    assert!(bare.contains("Authorization Violation"), "{bare}");
    let other = Deployment::start();
    let (key, permit) = other.permit(&host(1), crate::deployment::HOUR);
    assert!(Client::connect(deployment.port, &key, &permit).is_err());
    let (_, stolen) = deployment.permit(&host(1), crate::deployment::HOUR);
    assert!(
        Client::connect(deployment.port, &key, &stolen).is_err(),
        "without its key"
    );
}

#[test]
fn an_injector_hears_its_own_inbox_and_nothing_else() {
    let deployment = Deployment::start();
    let (mine, other) = (host(1), host(2));
    let subjects = &deployment.subjects;
    let mut injector = deployment.client(&mine);
    injector
        .subscribe(&format!("{}.>", subjects.inbox(&mine)))
        .unwrap();
    injector
        .subscribe(&format!("{}.7", subjects.inbox(&mine)))
        .unwrap();
    for subject in [
        ">".to_owned(),
        "keywheel.>".into(),
        "_INBOX.>".into(),
        "$SYS.>".into(),
        "$JS.>".into(),
        format!("{}.>", subjects.inbox(&other)),
        subjects.inbox(&other),
        subjects.plan(host_id(&other)),
        subjects.plan(host_id(&mine)),
        subjects.plans(),
        subjects.events(),
        subjects.audit(),
        subjects.hosts(),
        subjects.requests(Role::Gateway),
        subjects.requests(Role::StoreSync),
        subjects.request(Role::StoreSync, &other),
    ] {
        refused(injector.subscribe(&subject), &subject);
    }
}

#[test]
fn an_injector_says_its_own_requests_and_nothing_else() {
    let deployment = Deployment::start();
    let (mine, other) = (host(1), host(2));
    let subjects = &deployment.subjects;
    let mut injector = deployment.client(&mine);
    for server in [Role::Gateway, Role::StoreSync] {
        injector
            .publish(&subjects.request(server, &mine), "{}")
            .unwrap();
        let forged = subjects.request(server, &other);
        refused(injector.publish(&forged, "{}"), &forged);
    }
    let (plans, name) = (subjects.plan_stream(), other.consumer());
    for subject in [
        subjects.events(),
        subjects.audit(),
        subjects.hosts(),
        subjects.plan(host_id(&mine)),
        subjects.plan(host_id(&other)),
        subjects.work(Role::StoreSync),
        subjects.inbox(&other),
        subjects.request(Role::Scheduler, &mine),
        format!("$JS.API.STREAM.CREATE.{plans}"),
        format!("$JS.API.STREAM.DELETE.{plans}"),
        format!("$JS.API.STREAM.PURGE.{plans}"),
        format!("$JS.API.STREAM.MSG.GET.{plans}"),
        format!("$JS.API.DIRECT.GET.{plans}"),
        format!("$JS.API.CONSUMER.CREATE.{plans}"),
        format!(
            "$JS.API.CONSUMER.CREATE.{plans}.{name}.{}",
            subjects.plan(host_id(&other))
        ),
        format!(
            "$JS.API.CONSUMER.DURABLE.CREATE.{plans}.{}",
            mine.consumer()
        ),
        format!("$JS.API.CONSUMER.DELETE.{plans}.{name}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{plans}.{name}"),
        "$JS.API.STREAM.LIST".into(),
        "$SYS.REQ.CLAIMS.UPDATE".into(),
    ] {
        refused(injector.publish(&subject, "{}"), &subject);
    }
}

#[test]
fn only_the_gateway_speaks_in_topics() {
    let deployment = Deployment::start();
    let subjects = &deployment.subjects;
    let topics = [
        subjects.events(),
        subjects.audit(),
        subjects.hosts(),
        subjects.plan(host_id(&host(1))),
        subjects.work(Role::StoreSync),
    ];
    for role in [Role::Scheduler, Role::StoreSync, Role::AuditSink] {
        let mut client = deployment.client(&service(role));
        for topic in &topics {
            refused(client.publish(topic, "{}"), topic);
        }
    }
    let mut gateway = deployment.client(&service(Role::Gateway));
    for topic in &topics {
        gateway.publish(topic, "{}").unwrap();
    }
    let delete = format!("$JS.API.STREAM.DELETE.{}", subjects.event_stream());
    refused(gateway.publish(&delete, ""), &delete);
}

#[test]
fn a_host_reads_its_own_plan_from_the_stream_and_no_other() {
    let deployment = Deployment::start();
    let subjects = &deployment.subjects;
    let (mine, other) = (host(1), host(2));
    let plans = subjects.plan_stream();
    let gateway = service(Role::Gateway);
    let mut owner = deployment.client(&gateway);
    let answer_to = |who| format!("{}.a", subjects.inbox(who));
    owner.subscribe(&answer_to(&gateway)).unwrap();
    let stream = json!({
        "name": plans, "subjects": [subjects.plans()], "storage": "file",
        "max_msgs_per_subject": 1, "num_replicas": 1,
    });
    let made = owner.ask(
        &format!("$JS.API.STREAM.CREATE.{plans}"),
        &answer_to(&gateway),
        &stream.to_string(),
    );
    assert_eq!(made.unwrap()["config"]["name"], plans.as_str());
    for who in [&mine, &other] {
        owner
            .publish(&subjects.plan(host_id(who)), "{\"plan\":1}")
            .unwrap();
    }
    let mut injector = deployment.client(&mine);
    injector.subscribe(&answer_to(&mine)).unwrap();
    let own = subjects.plan(host_id(&mine));
    let create = format!("$JS.API.CONSUMER.CREATE.{plans}.{}.{own}", mine.consumer());
    let wish = |filter: &str| {
        let config = json!({
            "name": mine.consumer(), "durable_name": mine.consumer(),
            "ack_policy": "explicit", "filter_subject": filter,
        });
        json!({ "stream_name": plans, "config": config }).to_string()
    };
    let theirs = wish(&subjects.plan(host_id(&other)));
    for lie in [theirs, wish(&subjects.plans()), wish("")] {
        let answer = injector.ask(&create, &answer_to(&mine), &lie).unwrap();
        assert!(answer["error"].is_object(), "{lie}: {answer}");
    }
    let made = injector
        .ask(&create, &answer_to(&mine), &wish(&own))
        .unwrap();
    assert_eq!(made["config"]["filter_subject"], own.as_str(), "{made}");
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{plans}.{}", mine.consumer());
    let plan = injector.ask(&next, &answer_to(&mine), "").unwrap();
    assert_eq!(plan, json!({ "plan": 1 }));
}

#[test]
fn who_is_asked_may_answer_once_and_cannot_speak_unasked() {
    let deployment = Deployment::start();
    let subjects = &deployment.subjects;
    let mine = host(1);
    let mut injector = deployment.client(&mine);
    let inbox = format!("{}.1", subjects.inbox(&mine));
    injector.subscribe(&inbox).unwrap();
    let mut store_sync = deployment.client(&service(Role::StoreSync));
    store_sync
        .subscribe(&subjects.requests(Role::StoreSync))
        .unwrap();
    refused(store_sync.publish(&inbox, "unasked"), "unasked");
    injector
        .request(&subjects.request(Role::StoreSync, &mine), &inbox)
        .unwrap();
    let Said::Message(_, Some(reply), _) = store_sync.hear().unwrap() else {
        panic!("no request came");
    };
    assert_eq!(reply, inbox);
    store_sync.publish(&reply, "\"answer\"").unwrap();
    let heard = injector.hear().unwrap();
    assert_eq!(
        heard,
        Said::Message(inbox.clone(), None, b"\"answer\"".to_vec())
    );
    refused(store_sync.publish(&reply, "again"), "a second answer");
}
