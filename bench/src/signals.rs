//! From a scanner's word that something leaked, over HTTP, to the old login's end: the playbook as it is shipped
//! replaces it in every container and has a login with it refused. Real servers, each with one secret.
//!
//! Invariants: nobody does anything but tell; times are the log's; a run that was not through, a container that did not
//! move and a login that was not refused are no figure. A lease that another one took the place of is tried at no
//! server: there it is its store's word that counts, and nothing here calls that a proof.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::deployment::clock;
use keywheel_bench::due;
use keywheel_bench::samples::Samples;
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer, USER};
use keywheel_tests::database::Database;
use keywheel_tests::docker::Container;
use keywheel_tests::incident::{self, LEAK, LEAKED, Scanner};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{PATIENCE, Stage, items};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};

use crate::{Line, stores};

/// Signals one after the other, and containers that have what leaked.
const SIGNALS: usize = 10;
const CONTAINERS: usize = 3;
/// What a container is told by.
const RELOAD: &str = "{ signal: HUP }";
const APP: &str = "signals";
const FILE: &str = "login";
/// For so long the same leak begins no other run; the shipped trigger has ten minutes.
const HOLD_OFF: Duration = Duration::from_secs(1);
/// Between two looks whether a run has ended: a look costs the server something, too.
const LOOK: Duration = Duration::from_millis(500);
/// What OpenBao lends logins of.
const LENT: &str = "signals/lent";
const DATABASE: &str = "shop";

/// What leaks again and again, and what shows that it is dead.
struct Leaking<'a> {
    /// Its kind, as keys say it.
    kind: &'a str,
    secret: &'a str,
    death: Death,
}

/// What shows that what leaked is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// A login with it was refused.
    Proven,
    /// Of each container's lease its store says that it is gone.
    Confirmed,
}

impl Death {
    /// The event, and how many of them a signal brings.
    const fn event(self) -> (&'static str, usize) {
        match self {
            Self::Proven => ("revocation.proven_dead", 1),
            Self::Confirmed => ("revocation.backend_confirmed", CONTAINERS),
        }
    }

    /// As keys say it, and as people do.
    const fn words(self) -> [&'static str; 2] {
        match self {
            Self::Proven => ["proven", "login refused"],
            Self::Confirmed => ["dead", "ended by its store"],
        }
    }

    /// The run did all that it can where this shows it.
    fn check(self, run: &Value) -> Result<()> {
        if self == Self::Proven {
            return incident::check_run(run, 1);
        }
        ensure!(
            run["state"] == "completed" && run["score"]["percent"] == 100,
            "{run}"
        );
        Ok(())
    }
}

/// Measures each kind of server.
pub(crate) fn signals() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for start in [Database::postgres, Database::mariadb, Database::redis] {
        lines.extend(of_database(&start())?);
    }
    lines.extend(of_leases()?);
    Ok(lines)
}

fn of_database(database: &Database) -> Result<Vec<Line>> {
    let scanner = Scanner::make()?;
    let stage = Stage::set_with(&scanner.options())?;
    let (on, template) = (stage.on(APP), database.template());
    let secret = database.secret;
    let binding = manifest::told_template_binding(APP, secret, &on, FILE, &template, RELOAD);
    database.adopt(&stage, &binding)?;
    let leaking = Leaking {
        kind: database.kind,
        secret,
        death: Death::Proven,
    };
    measure(&stage, &scanner, &leaking)
}

/// Logins that a real OpenBao makes at a real PostgreSQL, one for each container.
fn of_leases() -> Result<Vec<Line>> {
    let (server, bao) = (PostgresServer::start(), OpenBao::start(None));
    let _url = server.database(DATABASE);
    lend(&bao, &server);
    let scanner = Scanner::make()?;
    let stage = Stage::set_with(&scanner.options())?;
    let token = stores::token(&stage.keywheel)?;
    let lent = format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {LENT} }}\nspec:\n  rotator: {{ type: dynamic, \
         store: {}, role: database/creds/app }}\n---\n",
        stores::STORE
    );
    let all = [
        stores::declared(&format!("http://{}", bao.address()), &token),
        lent,
        manifest::file_binding(APP, LENT, &stage.on(APP), FILE, RELOAD),
    ];
    stage.keywheel.apply(&all.concat())?;
    stage.keywheel.wait_plans()?;
    let leaking = Leaking {
        kind: "lease",
        secret: LENT,
        death: Death::Confirmed,
    };
    measure(&stage, &scanner, &leaking)
}

/// The role whose logins are lent.
fn lend(bao: &OpenBao, server: &PostgresServer) {
    let place = server.place();
    let host = place.trim_start_matches("postgres://");
    let must = |path: &str, body: &Value| {
        let _answer = bao.must("POST", path, &[], &body.to_string());
    };
    must("sys/mounts/database", &json!({ "type": "database" }));
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@{host}/{DATABASE}?sslmode=disable");
    must(
        "database/config/shop",
        &json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "app",
            "connection_url": url, "username": USER, "password": PASSWORD,
        }),
    );
    let creation =
        "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
    let role = json!({
        "db_name": "shop", "creation_statements": [creation],
        "default_ttl": "1h", "max_ttl": "24h",
    });
    must("database/roles/app", &role);
}

/// One signal after the other, each about what the one before has put in place.
fn measure(stage: &Stage, scanner: &Scanner, leaking: &Leaking<'_>) -> Result<Vec<Line>> {
    scanner.declare(&stage.keywheel, &[&again_and_again()])?;
    let containers = start(stage, leaking.secret)?;
    let (mut moved, mut dead) = (Samples::new(), Samples::new());
    for turn in 1..=SIGNALS {
        let answered = answered(&stage.keywheel, scanner, leaking);
        let answered = answered.with_context(|| format!("{}, signal {turn}", leaking.kind))?;
        moved.add(answered[0]);
        dead.add(answered[1]);
    }
    drop(containers);
    Ok(lines(leaking, moved, dead))
}

/// The playbook as it is shipped, but for its trigger's hold-off.
fn again_and_again() -> String {
    let last = "  #     with:";
    let hold_off = format!("  #     holdOff: {}s\n{last}", HOLD_OFF.as_secs());
    LEAKED.replacen(last, &hold_off, 1)
}

/// Containers with a value, which is known of all of them.
fn start(stage: &Stage, secret: &str) -> Result<Vec<Container>> {
    let containers = (0..CONTAINERS)
        .map(|_| stage.run(APP, &[], "/bin/app-idle"))
        .collect::<Result<Vec<Container>>>()?;
    wait::until_true("every container to be known", PATIENCE, || {
        let known = stage.keywheel.json(&["consumers", "--secret", secret])?;
        let has_one = |one: &&Value| one["version"].as_u64() >= Some(1);
        Ok(items(&known).into_iter().filter(has_one).count() == CONTAINERS)
    })?;
    Ok(containers)
}

/// Tells of a leak once. Milliseconds from before that to when the last container runs on another one, and to when what
/// leaked is dead.
fn answered(keywheel: &Keywheel, scanner: &Scanner, leaking: &Leaking<'_>) -> Result<[f64; 2]> {
    due::wait_rest(keywheel)?;
    thread::sleep(HOLD_OFF);
    let head = due::head(keywheel)?;
    let told = clock().now();
    scanner.tell(keywheel, LEAK, leaking.secret)?;
    let run = wait::until("the run to end", PATIENCE, || {
        thread::sleep(LOOK);
        Ok(ended(&due::after(keywheel, &head)?))
    })?;
    let run = keywheel.json(&["playbook", "describe-run", &run])?;
    leaking.death.check(&run)?;
    due::wait_revoked(keywheel)?;
    let events = due::after(keywheel, &head)?;
    let last = |kind: &str, count: usize| {
        let found = due::since(told, &events, kind);
        ensure!(found.len() == count, "{} of {count} {kind}", found.len());
        let last = found.into_iter().reduce(f64::max);
        last.with_context(|| format!("no {kind}"))
    };
    let (event, count) = leaking.death.event();
    Ok([
        last("rotation.consumer_acknowledged", CONTAINERS)?,
        last(event, count)?,
    ])
}

/// The run of a playbook that ended, whatever became of it.
fn ended(events: &[Value]) -> Option<String> {
    let is_end = |event: &&Value| event["type"] == "dev.keywheel.playbook_run.completed.v1";
    let subject = events.iter().find(is_end)?["subject"].as_str()?;
    subject.strip_prefix("playbook_run/").map(ToOwned::to_owned)
}

fn lines(leaking: &Leaking<'_>, moved: Samples, dead: Samples) -> Vec<Line> {
    let (kind, [key, words]) = (leaking.kind, leaking.death.words());
    let line = |key: &str, what: String, samples| Line {
        key: format!("signal_{kind}_{key}"),
        what: format!("leak told -> {what}, {kind}"),
        samples,
        budget: "-",
    };
    vec![
        line("moved", format!("{CONTAINERS} containers moved"), moved),
        line(key, words.to_owned(), dead),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_has_a_hold_off_of_its_own_and_nothing_else() {
        let told = again_and_again();
        assert_eq!(told.matches("  #     holdOff: 1s\n").count(), 1);
        assert_eq!(told.replace("  #     holdOff: 1s\n", ""), LEAKED);
    }

    #[test]
    fn a_run_that_ended_is_found_by_its_event_alone() {
        let event = |kind: &str, id: &str| {
            json!({
                "type": format!("dev.keywheel.playbook_run.{kind}.v1"),
                "subject": format!("playbook_run/{id}"),
            })
        };
        let mut events = vec![event("triggered", "a"), event("step_completed", "b")];
        assert_eq!(ended(&events), None);
        events.push(event("completed", "c"));
        assert_eq!(ended(&events).as_deref(), Some("c"));
    }

    #[test]
    fn a_store_s_word_is_not_called_a_proof() {
        let keys = |kind: &'static str, death| {
            let leaking = Leaking {
                kind,
                secret: LENT,
                death,
            };
            let told = lines(&leaking, Samples::new(), Samples::new());
            told.into_iter().map(|line| line.key).collect::<Vec<_>>()
        };
        let proven = keys("postgres", Death::Proven);
        assert_eq!(proven, ["signal_postgres_moved", "signal_postgres_proven"]);
        let confirmed = keys("lease", Death::Confirmed);
        assert_eq!(confirmed, ["signal_lease_moved", "signal_lease_dead"]);
    }
}
