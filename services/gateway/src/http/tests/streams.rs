//! The stream of events: as lines and as server-sent events, resumed by id, filtered.

use keywheel_engine::port::subscriptions::MAX_SUBSCRIPTIONS;
use keywheel_schemas::mirror::TextForm as _;

use super::*;

const FRAMES: (&str, &str) = ("accept", "text/event-stream");
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";

/// Two secrets, one with a binding, and their first rotations.
async fn busy() -> Bench {
    let bench = Bench::start().await;
    bench.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
    bench.work().await;
    bench.apply(&MANIFEST.replace("prod/db", "prod/web")).await;
    bench.work().await;
    bench
}

/// Types and numbers of the lines.
async fn lines(bench: &Bench, query: &str) -> Vec<(String, u64)> {
    let path = format!("/v1/events?{query}");
    let response = bench.send(("GET", &path), &[], Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = text_of(response).await;
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let number = event["sequence"].as_str().unwrap().parse().unwrap();
        (event["type"].as_str().unwrap().to_owned(), number)
    };
    text.lines().map(event).collect()
}

/// Ids, types and data of server-sent events.
fn frames(text: &str) -> Vec<(u64, String, Value)> {
    let frame = |frame: &str| {
        let mut lines = frame.lines();
        let mut field = |name: &str| {
            let line = lines.next().unwrap();
            line.strip_prefix(name).unwrap().to_owned()
        };
        let (id, kind) = (field("id: "), field("event: "));
        let data = serde_json::from_str(&field("data: ")).unwrap();
        assert_eq!(lines.next(), None);
        (id.parse().unwrap(), kind, data)
    };
    text.split_terminator("\n\n").map(frame).collect()
}

#[tokio::test]
async fn server_sent_events_go_on_after_the_last_id() {
    let bench = busy().await;
    let all = lines(&bench, "").await;
    assert!(all.len() > 8, "{all:?}");
    let path = "/v1/events?limit=4";
    let response = bench.send(("GET", path), &[FRAMES], Body::empty()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut seen = frames(&text_of(response).await);
    let last = seen[3].0.to_string();
    // `after` is what the client began with; where it stands wins.
    let path = format!("/v1/events?after=1&limit={}", all.len() - 4);
    let headers = [FRAMES, ("last-event-id", &last)];
    let response = bench.send(("GET", &path), &headers, Body::empty()).await;
    seen.extend(frames(&text_of(response).await));
    for ((id, kind, data), (expected, number)) in seen.iter().zip(&all) {
        assert_eq!((id, kind), (number, expected));
        assert_eq!(data["type"], kind.as_str());
    }
    assert_eq!(seen.len(), all.len());
    let headers = [FRAMES, ("last-event-id", "x")];
    let bad = bench
        .send(("GET", "/v1/events"), &headers, Body::empty())
        .await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_quiet_stream_of_frames_stays_open_and_says_what_comes() {
    let bench = busy().await;
    let head = lines(&bench, "").await.len();
    let path = format!("/v1/events?after={head}&limit=1&type=dev.keywheel.binding.unbound.v1");
    let response = bench.send(("GET", &path), &[FRAMES], Body::empty()).await;
    let reading = tokio::spawn(text_of(response));
    bench
        .apply(&MANIFEST.replace("prod/db", "prod/other"))
        .await;
    let gone = ("DELETE", "/v1/bindings/web");
    let response = bench.send(gone, &[], Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let told = frames(&reading.await.unwrap());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, "dev.keywheel.binding.unbound.v1");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_of_frames_says_that_it_is_there() {
    use http_body_util::BodyExt as _;

    let bench = busy().await;
    let head = lines(&bench, "").await.len();
    let path = format!("/v1/events?after={head}");
    let mut response = bench.send(("GET", &path), &[FRAMES], Body::empty()).await;
    let chunk = response.body_mut().frame().await.unwrap().unwrap();
    let expected = format!("id: {head}\n: here\n\n");
    assert_eq!(chunk.into_data().unwrap(), expected.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_filtered_stream_says_how_far_it_read_however_often_others_happen() {
    use http_body_util::BodyExt as _;

    let bench = busy().await;
    let head = lines(&bench, "").await.len();
    let path = format!("/v1/events?after={head}&type=dev.keywheel.binding.unbound.v1");
    let mut response = bench.send(("GET", &path), &[FRAMES], Body::empty()).await;
    let reading = tokio::spawn(async move { response.body_mut().frame().await });
    let a_while = KEEP_ALIVE_AFTER * 2 / 3;
    tokio::time::sleep(a_while).await;
    bench.clock.advance(a_while);
    bench
        .apply(&MANIFEST.replace("prod/db", "prod/other"))
        .await;
    let passed = bench.journal.head().await.unwrap().number;
    let told = tokio::time::timeout(KEEP_ALIVE_AFTER / 2, reading).await;
    let told = told.unwrap().unwrap().unwrap().unwrap();
    let expected = format!("id: {passed}\n: here\n\n");
    assert_eq!(told.into_data().unwrap(), expected.as_bytes());
}

#[tokio::test]
async fn a_place_beyond_the_log_is_refused_and_not_waited_for() {
    let bench = busy().await;
    let head = bench.journal.head().await.unwrap().number;
    for (last, status) in [(head + 1, 400), (head, 200)] {
        let last = last.to_string();
        let path = format!("/v1/events?after={last}");
        let response = bench.send(("GET", &path), &[], Body::empty()).await;
        assert_eq!(response.status().as_u16(), status);
        let headers = [FRAMES, ("last-event-id", last.as_str())];
        let asked = ("GET", "/v1/events");
        let response = bench.send(asked, &headers, Body::empty()).await;
        assert_eq!(response.status().as_u16(), status);
        if status == 400 {
            let kind = &response.headers()["content-type"];
            assert_eq!(kind, "application/problem+json");
            let text = text_of(response).await;
            assert!(text.contains("the journal was put back"), "{text}");
        }
    }
}

#[tokio::test]
async fn so_many_read_the_whole_log_at_once_and_others_are_told_when_to_come() {
    let bench = busy().await;
    let scans = (0..MAX_SCANS).map(|_| bench.api.scans.scan());
    let scans = scans.collect::<Result<Vec<_>, _>>().unwrap();
    let folds = (0..MAX_FOLDS).map(|_| bench.api.scans.fold());
    let folds = folds.collect::<Result<Vec<_>, _>>().unwrap();
    let ask = async |path: &'static str| {
        let response = bench.send(("GET", path), &[], Body::empty()).await;
        let again = response.headers().get("retry-after").cloned();
        (response.status().as_u16(), again)
    };
    let again = axum::http::HeaderValue::from(COME_AGAIN_AFTER);
    let limited = [
        "/v1/events?type=dev.keywheel.secret.",
        "/v1/audit/export",
        "/v1/journal/verify",
        "/v1/history/prod/db?at=2100-01-01T00:00:00Z",
    ];
    for path in limited {
        assert_eq!(ask(path).await, (503, Some(again.clone())), "{path}");
    }
    for path in ["/v1/events", "/v1/audit", "/v1/history/prod/db"] {
        assert_eq!(ask(path).await, (200, None), "{path}");
    }
    drop((scans, folds));
    for path in limited {
        assert_eq!(ask(path).await, (200, None), "{path}");
    }
}

#[tokio::test]
async fn whoever_reads_a_filtered_stream_slowly_keeps_nobody_from_a_place() {
    let bench = busy().await;
    let path = "/v1/events?type=dev.keywheel.secret.&limit=1000000";
    let mut slow = Vec::new();
    for _ in 0..=MAX_SCANS {
        let mut response = bench.send(("GET", path), &[], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let first = http_body_util::BodyExt::frame(response.body_mut()).await;
        assert!(first.unwrap().is_ok());
        slow.push(response);
    }
    for response in slow {
        text_of(response).await;
    }
}

#[tokio::test]
async fn filters_leave_what_was_asked_for() {
    let bench = busy().await;
    let all = lines(&bench, "").await;
    let staged = lines(&bench, "type=dev.keywheel.secret.version_staged.v1").await;
    assert_eq!(staged.len(), 2, "{staged:?}");
    let of_secrets = lines(&bench, "type=dev.keywheel.secret.").await;
    assert!(of_secrets.len() > 4 && of_secrets.len() < all.len());
    assert!(
        of_secrets
            .iter()
            .all(|(kind, _)| kind.starts_with("dev.keywheel.secret."))
    );
    assert_eq!(
        lines(&bench, "type=dev.keywheel.secret").await,
        [],
        "no prefix without its dot"
    );
    let web = lines(&bench, "secret=prod/web").await;
    let db = lines(&bench, "secret=prod/db").await;
    assert!(
        web.iter().any(|(kind, _)| kind.contains("rotation.")),
        "{web:?}"
    );
    assert!(
        db.iter().any(|(kind, _)| kind.contains("binding.bound")),
        "{db:?}"
    );
    assert!(web.iter().all(|one| !db.contains(one)));
    assert_eq!(
        web.len() + db.len(),
        all.len(),
        "each event is of one secret here"
    );
    let id = bench
        .api
        .view
        .read()
        .world
        .secrets
        .keys()
        .next()
        .unwrap()
        .to_string();
    let own = lines(&bench, &format!("subject=secret/{id}")).await;
    assert!(!own.is_empty() && own.iter().all(|one| of_secrets.contains(one)));
    let none = lines(&bench, "secret=prod/web&limit=2").await;
    assert_eq!(none, web[..2], "the limit is of what is wanted");
}

#[tokio::test]
async fn a_time_is_where_a_stream_begins() {
    let bench = busy().await;
    let before = lines(&bench, "").await.len();
    bench.clock.advance(Duration::from_secs(60));
    let since = bench.api.clock.now().text();
    bench.apply(&MANIFEST.replace("prod/db", "prod/late")).await;
    let late = lines(&bench, &format!("since={since}")).await;
    assert!(!late.is_empty());
    assert!(late.iter().all(|(_, number)| *number > before as u64));
}

#[tokio::test]
async fn a_filter_that_is_not_understood_is_refused() {
    let bench = busy().await;
    let long = "x".repeat(513);
    for (query, status, part) in [
        ("since=yesterday".to_owned(), 400, "is no time"),
        ("secret=UPPER".to_owned(), 400, ""),
        ("secret=no/such".to_owned(), 404, "get secrets"),
        (format!("type={long}"), 400, "512 bytes"),
        ("kind=x".to_owned(), 400, ""),
    ] {
        let answer = bench.see(&format!("events?{query}")).await;
        let code = if status == 404 {
            "not_found"
        } else {
            "invalid"
        };
        assert_problem(&answer, status, code, part);
    }
    let longest = "x".repeat(512);
    assert_eq!(lines(&bench, &format!("type={longest}")).await, []);
}

#[tokio::test]
async fn a_subscription_goes_on_where_its_client_acknowledged() {
    let bench = busy().await;
    let all = lines(&bench, "").await;
    let made = json!({ "name": "siem", "after": 0 });
    let (status, view) = bench.post("subscriptions", made.clone()).await;
    assert_eq!(
        (status, &view["acknowledged"], &view["behind"]),
        (200, &json!(0), &json!(all.len()))
    );
    let id = view["id"].as_str().unwrap().to_owned();
    assert_eq!(lines(&bench, "subscription=siem").await, all);
    let ack = |number: u64| {
        bench.post(
            "subscriptions/siem/acknowledge",
            json!({ "id": id, "number": number }),
        )
    };
    assert_eq!(ack(3).await.1["acknowledged"], 3);
    assert_eq!(ack(2).await.1["acknowledged"], 3, "never back");
    assert_eq!(bench.post("subscriptions", made).await.1["acknowledged"], 3);
    assert_eq!(lines(&bench, "subscription=siem").await, all[3..]);
    assert_eq!(lines(&bench, "subscription=siem&after=5").await, all[5..]);
    let before = bench.journal.head().await.unwrap().number;
    let beyond = ack(before + 1).await;
    assert_problem(&beyond, 400, "invalid", "there is no event");
    let (_, listed) = bench.see("subscriptions").await;
    assert_eq!(listed[0]["name"], "siem");
    let gone = ("DELETE", "/v1/subscriptions/siem");
    let response = bench.send(gone, &[], Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(bench.see("subscriptions").await, (200, json!([])));
    let none = bench.see("events?subscription=siem").await;
    assert_problem(&none, 404, "not_found", "events subscribe");
    assert_problem(&ack(3).await, 404, "not_found", "siem");
    assert_eq!(bench.journal.head().await.unwrap().number, before);
    let records = bench.audit().await.join("\n");
    for verb in ["\"subscribe\"", "\"acknowledge\"", "\"unsubscribe\""] {
        assert!(records.contains(verb), "{verb}");
    }
}

#[tokio::test]
async fn a_subscription_made_again_is_not_moved_by_a_client_of_the_one_before() {
    let bench = busy().await;
    let make = || bench.post("subscriptions", json!({ "name": "siem", "after": 0 }));
    let ack = |id: &Value| {
        bench.post(
            "subscriptions/siem/acknowledge",
            json!({ "id": id, "number": 3 }),
        )
    };
    let (_, first) = make().await;
    let gone = ("DELETE", "/v1/subscriptions/siem");
    bench.send(gone, &[], Body::empty()).await;
    let (_, second) = make().await;
    assert_ne!(first["id"], second["id"]);
    assert_problem(&ack(&first["id"]).await, 409, "conflict", "made again");
    assert_eq!(bench.see("subscriptions/siem").await.1["acknowledged"], 0);
    assert_eq!(ack(&second["id"]).await.1["acknowledged"], 3);
    assert_problem(&ack(&json!("x")).await, 400, "invalid", "`id`");
}

#[tokio::test]
async fn what_is_acknowledged_is_judged_by_the_log_and_not_by_what_is_folded_here() {
    let [one, other] = Bench::pair().await;
    one.apply(MANIFEST).await;
    one.work().await;
    let head = one.journal.head().await.unwrap().number;
    assert!(other.api.view.read().number < head, "it has not heard");
    let (status, view) = other
        .post("subscriptions", json!({ "name": "siem", "after": head }))
        .await;
    assert_eq!(status, 200, "{view}");
}

#[tokio::test]
async fn what_a_subscription_cannot_be_is_refused_by_name() {
    let bench = busy().await;
    let make = |name: String| bench.post("subscriptions", json!({ "name": name }));
    assert_problem(&make("Not A Name".to_owned()).await, 400, "invalid", "");
    for number in 0..MAX_SUBSCRIPTIONS {
        let (status, view) = make(format!("s{number}")).await;
        assert_eq!((status, &view["behind"]), (200, &json!(0)));
    }
    let full = make("one-more".to_owned()).await;
    assert_problem(&full, 409, "conflict", "unsubscribe");
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let gone = ("DELETE", "/v1/subscriptions/s0");
    let refused = bench.send(gone, &[], Body::empty()).await;
    assert_eq!(
        refused.status().as_u16(),
        503,
        "it is on record or not made"
    );
    assert_eq!(bench.see("subscriptions/s0").await.0, 200);
}

#[tokio::test]
async fn a_record_comes_with_the_number_by_which_it_is_proven_also_behind_a_filter() {
    let real = super::reports::Real::start().await;
    let bench = &real.bench;
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
    assert_eq!(bench.see("secrets").await.0, 200);
    for query in ["limit=5", "verb=list"] {
        let read = async |query: &str| {
            let path = format!("/v1/audit?{query}");
            text_of(bench.send(("GET", &path), &[], Body::empty()).await).await
        };
        let numbered = read(&format!("{query}&numbered=true")).await;
        let plain = read(query).await;
        for (line, record) in numbered.lines().zip(plain.lines()) {
            let told: Value = serde_json::from_str(line).unwrap();
            let (status, proof) = bench.see(&format!("audit/proofs/{}", told["index"])).await;
            assert_eq!(status, 200, "{line}");
            assert_eq!(proof["record"].as_str(), Some(record), "byte by byte");
            assert!(line.ends_with(&format!("\"record\":{record}}}")), "{line}");
        }
        assert!(!numbered.is_empty() && !plain.is_empty(), "{query}");
        assert!(!plain.contains("\"index\""), "{plain}");
    }
}

#[tokio::test]
async fn the_audit_is_asked_by_a_person_as_policies_name_them_and_by_the_policy_that_decided() {
    let real = super::reports::Real::start().await;
    let bench = &real.bench;
    let set = "@id(\"root\")\npermit (principal in Group::\"root\", action, resource);\n@id(\"looks\")\npermit (principal == User::\"certificate:ada\", action == Action::\"list\", resource);\n@id(\"no-log\")\nforbid (principal == User::\"certificate:ada\", action == Action::\"audit\", resource);\n";
    let (status, answer) = bench.post("policies", json!({ "policies": set })).await;
    assert_eq!(status, 200, "{answer}");
    for (path, status) in [("/v1/letters", 200), ("/v1/audit/retention", 403)] {
        let ada = keywheel_identity::name::OperatorName::parse("ada").unwrap();
        let asked = bench.ask_as(Peer::Operator(ada), "GET", path, Body::empty());
        let asked = asked.await;
        assert_eq!(asked.0.as_u16(), status, "{path}: {}", asked.1);
    }
    let found = async |query: &str| {
        let path = format!("/v1/audit?{query}");
        let response = bench.send(("GET", &path), &[], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let text = text_of(response).await;
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (permitted, forbidden) = (found("policy=looks").await, found("policy=no-log").await);
    assert_eq!((permitted.len(), forbidden.len()), (1, 1));
    assert!(permitted[0].contains("\"allowed\""), "{permitted:?}");
    assert!(forbidden[0].contains("\"denied\""), "{forbidden:?}");
    let hers = found("who=certificate%3Aada").await;
    assert_eq!(hers, [permitted, forbidden].concat());
    assert_eq!(found("who=oidc%3Aada").await, Vec::<String>::new());
    let root = found("who=unix%3A0").await;
    assert!(!root.is_empty(), "whoever applied the set");
}
