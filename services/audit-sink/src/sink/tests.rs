//! The sink on a real bus and file, against a gateway that a test writes.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::presence::{Fact, Health, Look as _};
use keywheel_schemas::config::sinks::{Sink, SinkFormat};
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_telemetry::{Page, Source as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(120);

/// A gateway's audit log and a directory for the copy.
struct World {
    gateway: Arc<dyn Bus>,
    sink: Arc<dyn Bus>,
    log: Arc<Mutex<Vec<AuditLeaf>>>,
    /// How often the gateway answered.
    answered: watch::Sender<u64>,
    options: AuditSinkOptions,
    directory: tempfile::TempDir,
}

fn leaf(index: u64) -> AuditLeaf {
    AuditLeaf {
        index,
        bytes: Arc::from(format!("{{\"n\":{index}}}").as_bytes()),
    }
}

impl World {
    async fn new() -> Self {
        let deployment = DeploymentId::default();
        let of = |role| Identity::service(deployment, role, SigningKey::generate(&OsEntropy));
        let (gateway, sink) = (of(Role::Gateway), of(Role::AuditSink));
        let keys = [
            (Role::Gateway, gateway.verifying_key()),
            (Role::AuditSink, sink.verifying_key()),
        ];
        let trust = Trust::new(deployment, keys);
        let hub = InProcess::new(trust, Arc::new(SystemClock::new()), Arc::new(SystemIds));
        let (gateway, sink) = (hub.endpoint(gateway), hub.endpoint(sink));
        let log: Arc<Mutex<Vec<AuditLeaf>>> = Arc::default();
        let mut requests = gateway.serve(Address::Gateway).await.unwrap();
        let served = Arc::clone(&log);
        let answered = watch::Sender::new(0);
        let counted = answered.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Body::ReadAudit { from, limit } = request.message().body else {
                    panic!("an audit sink asks for nothing else");
                };
                let leaves = served
                    .lock()
                    .unwrap()
                    .iter()
                    // What was removed by its age is left out.
                    .filter(|leaf| leaf.index >= from)
                    .take(limit.min(50))
                    .cloned()
                    .collect();
                request.answer(Body::AuditLeaves(leaves)).await.unwrap();
                counted.send_modify(|count| *count += 1);
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit-sink.db");
        Self {
            gateway,
            sink,
            log,
            answered,
            options: AuditSinkOptions { path },
            directory,
        }
    }

    /// Grows the log to a size without telling anyone.
    fn grow(&self, size: u64) {
        let mut log = self.log.lock().unwrap();
        let from = log.len() as u64;
        log.extend((from..size).map(leaf));
    }

    async fn tell(&self, leaf: AuditLeaf) {
        let id = SystemIds.draw();
        self.gateway
            .publish(Topic::Audit, id, None, Body::Audit(leaf))
            .await
            .unwrap();
    }

    async fn start(&self) -> (Handle, Shutdown, JoinHandle<()>) {
        let sink = AuditSink::open(&self.options, Arc::clone(&self.sink))
            .await
            .unwrap();
        let handle = sink.handle();
        let shutdown = Shutdown::new();
        let told = shutdown.clone();
        let mut answered = self.answered.subscribe();
        let before = *answered.borrow();
        let task = tokio::spawn(async move { sink.run(told).await.unwrap() });
        // Its subscription begins with what is said after it, and it asks once it has one.
        let asked = answered.wait_for(|count| *count > before);
        assert!(tokio::time::timeout(SOON, asked).await.is_ok());
        (handle, shutdown, task)
    }

    /// What the file holds, read by another hand after the sink let go of it.
    async fn kept(&self) -> Vec<(i64, Vec<u8>)> {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.options.path);
        let mut connection: sqlx::SqliteConnection =
            sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::query_as("SELECT idx, bytes FROM leaf ORDER BY idx")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    async fn assert_kept(&self, size: u64) {
        let wanted: Vec<_> = (0..size)
            .map(|index| (index.cast_signed(), leaf(index).bytes.to_vec()))
            .collect();
        assert_eq!(self.kept().await, wanted);
    }
}

async fn wait_for(handle: &Handle, size: u64) {
    let grown = async {
        while handle.size() < size {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, grown).await;
    assert!(waited.is_ok(), "{} of {size} records", handle.size());
    assert_eq!(handle.size(), size);
}

async fn stop(shutdown: &Shutdown, task: JoinHandle<()>) {
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn records_are_kept_once_and_in_order() {
    let world = World::new().await;
    let (handle, shutdown, task) = world.start().await;
    world.grow(8);
    for index in [0, 1, 1, 3, 2, 0, 4, 5, 7, 6, 7] {
        world.tell(leaf(index)).await;
    }
    wait_for(&handle, 8).await;
    assert_eq!(handle.conflicts(), 0);
    stop(&shutdown, task).await;
    world.assert_kept(8).await;
    let mode = std::fs::metadata(&world.options.path)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_gap_is_read_from_the_gateway() {
    let world = World::new().await;
    let (handle, shutdown, task) = world.start().await;
    world.grow(200);
    world.tell(leaf(0)).await;
    wait_for(&handle, 1).await;
    world.tell(leaf(199)).await;
    wait_for(&handle, 200).await;
    assert_eq!(handle.backfilled(), 198);
    assert_eq!(handle.conflicts(), 0);
    stop(&shutdown, task).await;
    world.assert_kept(200).await;
}

#[tokio::test]
async fn what_happened_before_the_start_is_read_from_the_gateway() {
    let world = World::new().await;
    world.grow(120);
    let (handle, shutdown, task) = world.start().await;
    wait_for(&handle, 120).await;
    stop(&shutdown, task).await;
    world.assert_kept(120).await;
}

#[tokio::test]
async fn a_copy_of_a_log_whose_old_records_left_begins_with_the_first_that_is_there() {
    let world = World::new().await;
    world.log.lock().unwrap().extend((512..600).map(leaf));
    let (handle, shutdown, task) = world.start().await;
    wait_for(&handle, 600).await;
    // One from before it is late on its way.
    world.tell(leaf(300)).await;
    world.tell(leaf(600)).await;
    wait_for(&handle, 601).await;
    assert_eq!((handle.begins(), handle.conflicts()), (512, 0));
    stop(&shutdown, task).await;
    let kept: Vec<i64> = world.kept().await.iter().map(|(index, _)| *index).collect();
    assert_eq!(kept, (512..601).collect::<Vec<i64>>());
    let read = crate::KeptRecords::open(&world.options.path).await.unwrap();
    assert_eq!((read.begins(), read.size()), (512, 601));
    read.close().await.unwrap();
    // It goes on after a restart, and knows a hole from where it began.
    world.log.lock().unwrap().extend((600..605).map(leaf));
    let (handle, shutdown, task) = world.start().await;
    wait_for(&handle, 605).await;
    stop(&shutdown, task).await;
    let file = File::open(&world.options.path).await.unwrap();
    assert_eq!((file.begins(), file.size()), (512, 605));
    file.begin_at(700).await.unwrap();
    assert_eq!((file.begins(), file.size()), (512, 605), "it has records");
}

#[tokio::test]
async fn what_waited_for_records_that_are_nowhere_waits_no_longer() {
    let world = World::new().await;
    let (handle, shutdown, task) = world.start().await;
    world.log.lock().unwrap().extend((2000..2050).map(leaf));
    for index in 1..=MAX_HELD as u64 {
        world.tell(leaf(index)).await;
    }
    wait_for(&handle, 2050).await;
    // The log does not have it yet, so it comes by its message or not at all.
    world.tell(leaf(2050)).await;
    wait_for(&handle, 2051).await;
    assert_eq!(handle.conflicts(), 0);
    stop(&shutdown, task).await;
}

#[tokio::test]
async fn a_copy_that_lacks_what_left_the_log_alarms_and_keeps_what_it_has() {
    let world = World::new().await;
    world.grow(10);
    let (handle, shutdown, task) = world.start().await;
    wait_for(&handle, 10).await;
    stop(&shutdown, task).await;
    {
        let mut log = world.log.lock().unwrap();
        log.clear();
        log.extend((256..260).map(leaf));
    }
    let (handle, shutdown, task) = world.start().await;
    let alarmed = async {
        while handle.conflicts() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, alarmed).await.is_ok());
    stop(&shutdown, task).await;
    world.assert_kept(10).await;
}

#[tokio::test]
async fn a_killed_sink_continues_where_its_file_ends() {
    let world = World::new().await;
    let (handle, _shutdown, task) = world.start().await;
    world.grow(60);
    for index in 0..60 {
        world.tell(leaf(index)).await;
    }
    wait_for(&handle, 60).await;
    task.abort();
    let _ = task.await;
    world.grow(90);
    let (handle, shutdown, task) = world.start().await;
    for index in 90..100 {
        world.grow(index + 1);
        world.tell(leaf(index)).await;
    }
    wait_for(&handle, 100).await;
    assert_eq!(handle.conflicts(), 0);
    stop(&shutdown, task).await;
    world.assert_kept(100).await;
}

#[tokio::test]
async fn a_record_that_differs_from_its_copy_is_an_alarm_and_changes_nothing() {
    let world = World::new().await;
    let (handle, shutdown, task) = world.start().await;
    world.grow(2);
    world.tell(leaf(0)).await;
    world.tell(leaf(1)).await;
    wait_for(&handle, 2).await;
    let changed = AuditLeaf {
        index: 0,
        bytes: Arc::from(b"{}".as_slice()),
    };
    world.tell(changed).await;
    world.grow(3);
    world.tell(leaf(2)).await;
    wait_for(&handle, 3).await;
    assert_eq!(handle.conflicts(), 1);
    stop(&shutdown, task).await;
    world.assert_kept(3).await;
}

#[tokio::test]
async fn a_log_that_became_shorter_or_other_is_an_alarm() {
    for rewritten in [
        Vec::new(),
        vec![AuditLeaf {
            index: 0,
            bytes: Arc::from(*b"{\"other\":true}"),
        }],
    ] {
        let world = World::new().await;
        world.grow(1);
        let (handle, shutdown, task) = world.start().await;
        wait_for(&handle, 1).await;
        stop(&shutdown, task).await;
        *world.log.lock().unwrap() = rewritten;
        let (handle, shutdown, task) = world.start().await;
        let alarmed = async {
            while handle.conflicts() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, alarmed).await.is_ok());
        assert_eq!(handle.size(), 1);
        stop(&shutdown, task).await;
        world.assert_kept(1).await;
    }
}

#[tokio::test]
async fn records_that_wait_are_bounded() {
    let world = World::new().await;
    let mut sink = AuditSink::open(&world.options, Arc::clone(&world.sink))
        .await
        .unwrap();
    let mut records = world.sink.subscribe(Topic::Audit, CONSUMER).await.unwrap();
    let many = u64::try_from(MAX_HELD).unwrap() + 100;
    for index in 1..many {
        world.tell(leaf(index)).await;
    }
    let shutdown = Shutdown::new();
    while sink.held.len() < MAX_HELD {
        let mut timer = Box::pin(tokio::time::sleep(SOON));
        let woken = sink.wait(&mut *records, timer.as_mut(), &shutdown).await;
        let Wake::Message(first) = woken else {
            panic!("{} of {MAX_HELD} are held", sink.held.len());
        };
        sink.take_ready(&mut *records, *first).await;
    }
    assert_eq!(sink.held.len(), MAX_HELD);
    let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
    let woken = sink.wait(&mut *records, timer.as_mut(), &shutdown).await;
    assert!(matches!(woken, Wake::CatchUp), "it takes no more");
    assert_eq!(sink.file.size(), 0);
}

#[tokio::test]
async fn a_file_with_a_hole_or_of_another_format_is_refused() {
    let world = World::new().await;
    drop(
        AuditSink::open(&world.options, Arc::clone(&world.sink))
            .await
            .unwrap(),
    );
    let change = |sql: &'static str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&world.options.path);
        async move {
            let mut connection: sqlx::SqliteConnection =
                sqlx::ConnectOptions::connect(&options).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            sqlx::Connection::close(connection).await.unwrap();
        }
    };
    change("INSERT INTO leaf VALUES (0, x'00'), (2, x'00')").await;
    let opened = AuditSink::open(&world.options, Arc::clone(&world.sink)).await;
    assert!(matches!(
        opened.err(),
        Some(AuditSinkError::Hole {
            found: 2,
            expected: 3,
            ..
        })
    ));
    change("PRAGMA user_version = 9").await;
    let opened = AuditSink::open(&world.options, Arc::clone(&world.sink)).await;
    assert!(matches!(
        opened.err(),
        Some(AuditSinkError::UnknownFormat { found: 9, .. })
    ));
    let nowhere = AuditSinkOptions {
        path: world.directory.path().join("no/such/directory"),
    };
    let opened = AuditSink::open(&nowhere, Arc::clone(&world.sink)).await;
    assert!(matches!(opened.err(), Some(AuditSinkError::Create { .. })));
}

/// A sink's file in the world's directory.
fn file_sink(world: &World, name: &str) -> (std::path::PathBuf, Sink) {
    let path = world.directory.path().join(format!("{name}.jsonl"));
    let sink = Sink::File {
        name: name.to_owned(),
        path: path.display().to_string(),
        max_bytes: 1 << 20,
        keep: 0,
        format: SinkFormat::Native,
    };
    (path, sink)
}

fn onward(sinks: Vec<Sink>) -> OnwardOptions {
    OnwardOptions {
        sinks,
        max_lag: Duration::from_millis(1),
        machine: "m".to_owned(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
    }
}

/// What the sink's metrics are.
async fn page_of(handle: &Handle) -> String {
    let mut page = Page::default();
    handle.read(&mut page).await;
    page.text()
}

/// The number of one sink in a page of metrics.
fn number(page: &str, metric: &str, sink: &str) -> f64 {
    let begins = format!("{metric}{{sink=\"{sink}\"}} ");
    let mut found = page.lines().filter_map(|line| line.strip_prefix(&begins));
    found
        .next()
        .unwrap_or_else(|| panic!("no {begins}in {page}"))
        .parse()
        .unwrap()
}

/// Waits for the fact of a sink to be so, and to say so.
async fn fact_of(handle: &Handle, name: &str, (wanted, word): (Health, &str)) {
    let found = async {
        loop {
            let seen = handle.look().await;
            let is_it = |fact: &Fact| fact.health == wanted && fact.note.contains(word);
            let mut facts = seen.facts.iter().filter(|fact| fact.name == name);
            if facts.any(is_it) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap()
}

/// One sink was told all, the other nothing.
async fn assert_numbers(handle: &Handle) {
    let page = page_of(handle).await;
    assert_eq!(
        number(&page, "keywheel_audit_sink_waiting_records", "nowhere"),
        120.0
    );
    assert!(
        number(&page, "keywheel_audit_sink_lag_seconds", "nowhere") > 0.0,
        "{page}"
    );
    assert!(
        number(&page, "keywheel_audit_sink_failures_total", "nowhere") > 0.0,
        "{page}"
    );
    assert_eq!(
        number(&page, "keywheel_audit_sink_waiting_records", "archive"),
        0.0
    );
    assert_eq!(
        number(&page, "keywheel_audit_sink_failures_total", "archive"),
        0.0
    );
}

#[tokio::test]
async fn sinks_are_told_what_the_copy_keeps_and_one_that_fails_is_named_and_delays_no_other() {
    let world = World::new().await;
    world.grow(120);
    let (path, archive) = file_sink(&world, "archive");
    let nowhere = Sink::File {
        name: "nowhere".to_owned(),
        path: "/no/such/directory/audit.jsonl".to_owned(),
        max_bytes: 1 << 20,
        keep: 0,
        format: SinkFormat::Native,
    };
    let sink = AuditSink::open(&world.options, Arc::clone(&world.sink)).await;
    let sink = sink.unwrap().with_sinks(&onward(vec![nowhere, archive]));
    let (handle, shutdown) = (sink.handle(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { sink.run(told).await.unwrap() });
    let lines = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.lines().count() == 120 {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let text = tokio::time::timeout(SOON, lines).await.unwrap();
    for (index, line) in (0..).zip(text.lines()) {
        let record = String::from_utf8(leaf(index).bytes.to_vec()).unwrap();
        let ends = format!(",\"record\":{record}}}");
        assert!(
            line.starts_with(&format!("{{\"sequence\":{index},")),
            "{line}"
        );
        assert!(line.ends_with(&ends), "{line}");
    }
    fact_of(
        &handle,
        "sink archive",
        (Health::Ok, "120 records told by file"),
    )
    .await;
    fact_of(
        &handle,
        "sink nowhere",
        (Health::Problem, "cannot be written"),
    )
    .await;
    let nowhere = &handle.sinks()[0];
    assert_eq!((nowhere.told, nowhere.waiting), (0, 120));
    assert_numbers(&handle).await;
    assert!(shutdown.drain(SOON).await, "its tasks end with it");
    task.await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_made_anew_goes_on_with_a_file_that_has_its_records_and_not_with_another() {
    let world = World::new().await;
    let (path, archive) = file_sink(&world, "archive");
    let rounds = [
        (Health::Ok, "30 records told"),
        (Health::Ok, "30 records told"),
        (Health::Problem, "record 29 is another one"),
    ];
    for (round, told) in rounds.into_iter().enumerate() {
        // Each time another copy is made, read from the log.
        let path = world.directory.path().join(format!("copy-{round}.db"));
        world.grow(30);
        if told.0 == Health::Problem {
            world.log.lock().unwrap()[29].bytes = Arc::from(*b"{\"other\":true}");
        }
        let sink = AuditSink::open(&AuditSinkOptions { path }, Arc::clone(&world.sink)).await;
        let sink = sink.unwrap().with_sinks(&onward(vec![archive.clone()]));
        let (handle, shutdown) = (sink.handle(), Shutdown::new());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { sink.run(stop).await.unwrap() });
        wait_for(&handle, 30).await;
        fact_of(&handle, "sink archive", told).await;
        let differs = number(
            &page_of(&handle).await,
            "keywheel_audit_sink_differs",
            "archive",
        );
        assert_eq!(differs > 0.0, told.0 == Health::Problem);
        assert!(shutdown.drain(SOON).await);
        task.await.unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.lines().count(),
        30,
        "nothing was written twice or over"
    );
}
