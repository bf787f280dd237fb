//! The list of suites, in the order in which they run or end: cheapest first.
//!
//! Owns names, aims, command lines and deadlines; it runs nothing itself. Every build names the whole
//! workspace: Cargo resolves features for what is named, and another selection would build most
//! dependencies once more.

use std::time::Duration;

/// How a suite's result is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// The suite as a whole counts as one.
    Whole,
    /// Every test that libtest reports counts.
    Libtest,
}

/// What a suite runs.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// The checks of this very tool.
    Tidy,
    /// A program with arguments, run at the repository's root.
    Program(Vec<&'static str>),
}

/// One suite.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) aim: &'static str,
    pub(crate) counting: Counting,
    /// After this it hangs: some times what it takes on two busy cores.
    pub(crate) deadline: Duration,
    pub(crate) action: Action,
}

/// After this suite all that the next ones run is built.
pub(crate) const BUILT: &str = "build";
/// The main suite, and what it is called once more, with every service a process of its own.
const MAIN: &str = "first_rotation";
const OVER_NATS: &str = "over_nats";
/// The last suite.
const LAST: &str = "quickstart";

/// Suites that run beside others, one after another and each until its own place, with the suite from which on the
/// first of them does: what needs nothing of ours; lints, which take what processor the others leave; and those that
/// mostly wait, for a start, for hosts with engines of their own or for what comes once in so many seconds. As long as
/// each crate's own suites run, nobody of them but those has containers on the machine's engine.
pub(crate) const BESIDE: [(&str, &[&str]); 3] = [
    ("tidy", &["asyncapi", "peers"]),
    ("unit", &["clippy", "doc"]),
    (
        "unit",
        &[
            "kill_loop",
            "two_hosts",
            "partitions",
            "deploy_files",
            "engines",
            "several_of_each",
            "reconcile",
            "traffic",
            "http_api",
            "offline_audit",
            "migrate",
            "bad_input",
            "privileged_parts",
            "outside_stores",
        ],
    ),
];

/// For what runs in seconds.
const SHORT: Duration = Duration::from_secs(10 * 60);
/// For what runs in a minute or a few. Above several of the waits within, so that one that ends in vain says
/// on what, and the tests after it run.
const MIDDLE: Duration = Duration::from_secs(30 * 60);
/// For what compiles a large part of the tree first.
const LONG: Duration = Duration::from_secs(60 * 60);

/// System suites: test target, test threads, deadline, aim. Each runs real processes, so
/// those that measure or kill run alone.
const SYSTEM: [(&str, &str, Duration, &str); 21] = [
    (
        MAIN,
        "2",
        MIDDLE,
        "a secret rotates inside running containers; canary",
    ),
    (
        "hostile_containers",
        "1",
        MIDDLE,
        "containers that attack their injector, and every kind of container: a census of host files",
    ),
    (
        "crash_points",
        "2",
        MIDDLE,
        "kill -9 between every two steps: resumes, nothing torn",
    ),
    (
        "kill_loop",
        "1",
        MIDDLE,
        "200 kills while commands are acknowledged: none lost",
    ),
    (
        OVER_NATS,
        "2",
        MIDDLE,
        "the same suite with services apart, over a real bus server",
    ),
    (
        "two_hosts",
        "1",
        MIDDLE,
        "two hosts with an engine each, over NATS with TLS",
    ),
    (
        "partitions",
        "1",
        MIDDLE,
        "hosts cut off by dropped packets, services killed: alone, alarmed, back",
    ),
    (
        "deploy_files",
        "1",
        MIDDLE,
        "units by systemd-analyze and under systemd; alert rules by promtool; the Compose file brought up",
    ),
    (
        "engines",
        "1",
        MIDDLE,
        "start, swap, withdraw, refusal, canary under Podman, crun, containerd; restart, health on Podman",
    ),
    (
        "several_of_each",
        "1",
        MIDDLE,
        "two of every service: one dies or sleeps, no operator, nothing twice",
    ),
    (
        "reconcile",
        "2",
        MIDDLE,
        "missed events, a restarted engine, a rebooted host: everybody has what the plan says, audited once",
    ),
    (
        "traffic",
        "1",
        MIDDLE,
        "what the bus server hears and keeps: ciphertext; stolen credentials",
    ),
    (
        "http_api",
        "1",
        MIDDLE,
        "schemathesis asks the API by its published description, and finds nothing wrong",
    ),
    (
        "offline_audit",
        "2",
        SHORT,
        "an audit export verifies without the server; tampering is named",
    ),
    (
        "migrate",
        "1",
        MIDDLE,
        "a container recreated once under the runtime: all else equal, put back, Compose at peace",
    ),
    (
        "bad_input",
        "2",
        MIDDLE,
        "every bad input: clear error, exit code, nothing lost",
    ),
    (
        "privileged_parts",
        "2",
        MIDDLE,
        "what runs with privileges: static, each capability needed; the runtime killed and hung at every step",
    ),
    (
        "outside_stores",
        "1",
        MIDDLE,
        "containers fed from a real OpenBao and AWS's API: followed, written, away and back",
    ),
    (
        "under_load",
        "1",
        MIDDLE,
        "rotations at three databases and of a service under constant load: no query and no request fails",
    ),
    (
        "ten_commands",
        "1",
        MIDDLE,
        "the ten commands of deploy/README.md, as they stand there",
    ),
    (
        LAST,
        "1",
        LONG,
        "the first command of the README: twice, then --down",
    ),
];

/// A command line of words without spaces.
fn program(line: &'static str) -> Action {
    Action::Program(line.split(' ').collect())
}

/// The published bus, judged by a tool nobody here wrote.
fn asyncapi() -> Suite {
    Suite {
        name: "asyncapi",
        aim: "AsyncAPI's own parser judges the published bus, and refuses broken ones",
        counting: Counting::Whole,
        deadline: SHORT,
        action: program("node tests/asyncapi/check.cjs schemas/generated/asyncapi.v1.json"),
    }
}

/// What the comparison with peers could get wrong unnoticed, and whether its table says what was measured.
fn peers() -> Suite {
    Suite {
        name: "peers",
        aim: "the comparison with peers: reading, counting, ranking; table, plot and README say its results",
        counting: Counting::Whole,
        deadline: SHORT,
        action: program("python3 -B bench/peers/test_peers.py -q"),
    }
}

/// `unit` and `crates` run four tests of a program at a time, also on two cores: most of them wait, for servers, for
/// containers, for the disk.
fn checks() -> Vec<Suite> {
    let libtest = |name, aim, line| Suite {
        name,
        aim,
        counting: Counting::Libtest,
        deadline: LONG,
        action: program(line),
    };
    let whole = |name, aim, deadline, action| Suite {
        name,
        aim,
        counting: Counting::Whole,
        deadline,
        action,
    };
    vec![
        whole(
            "fmt",
            "formatting",
            SHORT,
            program("cargo fmt --all --check"),
        ),
        whole(
            "tidy",
            "arrows, sizes, words, EXPOSE, schemas, licences",
            LONG,
            Action::Tidy,
        ),
        whole(
            BUILT,
            "all tests, and the binaries that the system suites run",
            LONG,
            program("./deploy/build.sh --profile dev"),
        ),
        libtest(
            "unit",
            "unit and given/when/then tests, of the harness and the benchmarks too",
            "cargo test --workspace --no-fail-fast --lib --bins -- --test-threads 4",
        ),
        libtest(
            "crates",
            "each crate's own suites: conformance of every adapter against real servers",
            "cargo test --workspace --exclude keywheel-tests --no-fail-fast --test * -- --test-threads 4",
        ),
        libtest(
            "doctest",
            "the examples in the documentation",
            "cargo test --workspace --no-fail-fast --doc",
        ),
        asyncapi(),
        peers(),
    ]
}

/// Lints. They compile for many minutes and change nothing, so they run at the lowest priority while suites wait for
/// their servers and containers; in a directory of their own, for Cargo lets one at a time into one.
fn lints() -> [Suite; 2] {
    let lint = |name, aim, line| Suite {
        name,
        aim,
        counting: Counting::Whole,
        deadline: LONG,
        action: program(line),
    };
    [
        lint(
            "clippy",
            "lints, warnings denied",
            "nice -n 19 tests/xtask/lint.sh clippy",
        ),
        lint(
            "doc",
            "the documentation builds, warnings denied",
            "nice -n 19 tests/xtask/lint.sh doc",
        ),
    ]
}

/// Every suite in order.
pub(crate) fn all() -> Vec<Suite> {
    let system = SYSTEM.into_iter().map(|(name, threads, deadline, aim)| {
        let is_apart = name == OVER_NATS;
        let target = if is_apart { MAIN } else { name };
        let mut words = Vec::new();
        if is_apart {
            words.extend(["env", "KEYWHEEL_TEST_MODE=apart"]);
        }
        words.extend(["cargo", "test", "--workspace", "--test", target]);
        words.extend(["--", "--test-threads", threads]);
        Suite {
            name,
            aim,
            counting: Counting::Libtest,
            deadline,
            action: Action::Program(words),
        }
    });
    let mut suites: Vec<Suite> = checks().into_iter().chain(system).collect();
    // The quickstart is the last one.
    if let Some(quickstart) = suites.pop() {
        suites.extend(lints());
        suites.push(quickstart);
    }
    suites
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::program;

    /// The names of a package's targets of a kind.
    fn targets(package: &Value, kind: &str) -> Vec<String> {
        let targets = package["targets"].as_array().unwrap();
        let targets = targets.iter().filter(|target| target["kind"][0] == kind);
        let names = targets.map(|target| target["name"].as_str().unwrap().to_owned());
        names.collect()
    }

    #[test]
    fn the_documentation_of_every_program_is_built() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let words = ["metadata", "--no-deps", "--format-version", "1"];
        let mut asked = program::command("cargo");
        let said = asked.args(words).current_dir(&root).output().unwrap();
        let metadata: Value = serde_json::from_slice(&said.stdout).unwrap();
        let mut programs = BTreeSet::new();
        for package in metadata["packages"].as_array().unwrap() {
            // Where a program has its library's name, the library's documentation is the package's.
            let libraries = targets(package, "lib");
            let is_apart = |name: &String| !libraries.contains(&name.replace('-', "_"));
            programs.extend(targets(package, "bin").into_iter().filter(is_apart));
        }
        let script = std::fs::read_to_string(root.join("tests/xtask/lint.sh")).unwrap();
        let words: Vec<&str> = script.split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| pair[0] == "--bin");
        let named: BTreeSet<String> = pairs.map(|pair| pair[1].to_owned()).collect();
        assert_eq!(named, programs);
    }

    #[test]
    fn whoever_runs_beside_others_has_its_place_after_they_began() {
        let all = all();
        let place = |name: &str| all.iter().position(|suite| suite.name == name).unwrap();
        for (from, names) in BESIDE {
            let places: Vec<_> = names.iter().map(|name| place(name)).collect();
            assert!(places.is_sorted(), "{names:?} end in another order");
            for at in places {
                let suite = &all[at];
                assert!(place(from) < at, "{}", suite.name);
                // Its program is asked for when the first one begins.
                let is_built = place(BUILT) < place(from);
                assert!(is_built || suite.counting == Counting::Whole);
            }
        }
    }

    #[test]
    fn nobody_runs_beside_others_twice() {
        let mut names: Vec<_> = BESIDE.iter().flat_map(|(_, names)| *names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_suite_has_its_own_name() {
        let mut names: Vec<_> = all().into_iter().map(|suite| suite.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_cheapest_suite_is_first_and_the_quickstart_is_last() {
        let names: Vec<_> = all().into_iter().map(|suite| suite.name).collect();
        assert_eq!(names.first(), Some(&"fmt"));
        assert_eq!(names.last(), Some(&LAST));
        assert!(names.contains(&BUILT));
    }
}
