//! A program that replaces the KEK, or gives the cache another root key, and is killed by a signal: between every two
//! rows, and at moments that nobody chose within the writing of one. The test starts itself once more as that program.
//!
//! Invariant: a program replaces one row and then waits for its end, so each row is the last one of some program. It
//! ends with the test, however that ends.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::rekey::{KEKS, VERSIONS, assert_all_open, count, fill, sealed_kek};
use super::*;
use crate::table::Table;

/// Set for the program: what to do, and with what; one a line.
const ORDER: &str = "KEYWHEEL_TEST_CACHE_ORDER";
/// It is about to write.
pub(crate) const WRITES: &str = "the program writes";
/// It has written.
pub(crate) const WROTE: &str = "the program wrote";
/// There is nothing more to write.
pub(crate) const DONE: &str = "the program is done";
/// Rows that are no versions; they and the end are one run of a program.
pub(crate) const OTHERS: u64 = 2;
/// Moments within a writing are so far apart.
const MOMENT: Duration = Duration::from_micros(150);
/// So many such moments, and then from the first one again.
pub(crate) const MOMENTS: u32 = 16;
/// Programs that are killed in a reseal.
const RESEALS: u32 = 16;
/// No replacing takes more programs.
pub(crate) const MOST_KILLS: u32 = 500;

/// Rows that name a KEK that is not there.
pub(crate) const ORPHANS: &str = "
SELECT COUNT(*) FROM (
    SELECT key_id FROM version WHERE state = 'live'
    UNION ALL SELECT key_id FROM stash
    UNION ALL SELECT key_id FROM store_key
) AS named WHERE key_id NOT IN (SELECT id FROM kek)";

/// What a program is told; nothing in the test itself.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
pub(crate) fn order() -> Option<Vec<String>> {
    let text = std::env::var_os(ORDER)?.into_string().unwrap();
    Some(text.split('\n').map(str::to_owned).collect())
}

pub(crate) fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    // libtest writes on its line before.
    out.write_all(format!("\n{word}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Waits to be killed, and ends when the test does.
pub(crate) fn wait_for_the_end() {
    let _ended = std::io::stdin().read(&mut [0]);
}

pub(crate) fn key_in(file: &str) -> SecretBytes {
    SecretBytes::from(std::fs::read(file).unwrap())
}

/// The program.
async fn obey(order: &[String]) {
    let words: Vec<&str> = order.iter().map(String::as_str).collect();
    let [verb, path, key, rest @ ..] = words.as_slice() else {
        panic!("an order has three words");
    };
    let unseal = UnsealKey::from_file(&key_in(key)).unwrap();
    let clock = Arc::<StillClock>::default();
    let opened = Cache::open(
        Path::new(path),
        DEPLOYMENT,
        unseal,
        Arc::new(OsEntropy),
        clock,
    );
    let cache = opened.await.unwrap();
    match (*verb, rest) {
        ("begin", []) => {
            say(WRITES);
            cache.begin_rekey().await.unwrap();
        }
        ("step", []) => step(&cache).await,
        ("reseal", [next, mark]) => {
            let root = UnsealKey::from_file(&key_in(next)).unwrap();
            say(WRITES);
            cache.reseal(root, mark.parse().unwrap()).await.unwrap();
        }
        _ => panic!("no such order: {order:?}"),
    }
    say(DONE);
    wait_for_the_end();
}

/// Replaces one row; what is no version, and the end, in one run.
pub(crate) async fn step(cache: &Cache<impl Table>) {
    loop {
        say(WRITES);
        if cache.rekey_step(1).await.unwrap() == Stepped::Done {
            return;
        }
        say(WROTE);
        if cache.rekeying().await.unwrap().left > OTHERS {
            return wait_for_the_end();
        }
    }
}

/// A program that runs.
pub(crate) struct Program {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(test: &str, order: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command
            .args(["--exact", test, "--nocapture"])
            .env(ORDER, order.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Reads on until it says this; `false` when it says that it is done.
    pub(crate) fn hear(&mut self, word: &str) -> bool {
        loop {
            let line = self.said.next().expect("the program ended by itself");
            match line.unwrap() {
                line if line == word => return true,
                line if line == DONE => return false,
                _ => {}
            }
        }
    }

    pub(crate) fn kill(mut self, moment: u32) {
        std::thread::sleep(MOMENT * moment);
        self.child.kill().unwrap();
        let ended = self.child.wait().unwrap();
        assert!(!ended.success(), "it ended by itself");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A key in a file, outside of the cache's directory.
pub(crate) fn key_file(keys: &TempDir, name: &str, key: &SecretBytes) -> String {
    let path = keys.path().join(name);
    std::fs::write(&path, key.expose()).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn killed_at_any_row_it_goes_on_and_all_opens_by_the_new_key_alone() {
    const OWN: &str =
        "tests::killed::killed_at_any_row_it_goes_on_and_all_opens_by_the_new_key_alone";
    if let Some(order) = order() {
        return obey(&order).await;
    }
    let (place, keys) = (Place::new(), tempfile::tempdir().unwrap());
    let key = key_file(&keys, "key", &place.key);
    let path = place.path().display().to_string();
    let cache = place.open().await;
    let key_pair = fill(&cache).await;
    let old = sealed_kek(&cache).await;
    cache.close().await.unwrap();
    let mut left = 2 * VERSIONS + OTHERS;
    let (mut kills, mut begun, mut ends) = (0, false, 0);
    loop {
        let cache = place.open().await;
        assert_all_open(&cache, &key_pair).await;
        let now = cache.rekeying().await.unwrap();
        cache.close().await.unwrap();
        match (begun, now.old_keks) {
            (false, keks) => begun = keks > 0,
            (true, 0) => break,
            (true, keks) => assert_eq!(keks, 1),
        }
        if begun {
            assert!(now.left <= left, "{} of {left}", now.left);
            left = now.left;
        }
        let verb = if begun { "step" } else { "begin" };
        let mut program = Program::start(OWN, &[verb, &path, &key]);
        assert!(program.hear(WRITES));
        if kills % 2 == 0 {
            program.kill(kills / 2 % MOMENTS);
        } else if left > OTHERS {
            program.hear(WROTE);
            program.kill(0);
        } else {
            // One step later each time, until one program comes to the end.
            for _ in 0..=ends {
                if !program.hear(WROTE) {
                    break;
                }
            }
            ends += 1;
            program.kill(0);
        }
        kills += 1;
        assert!(kills < MOST_KILLS, "it does not end");
    }
    assert!(u64::from(kills) >= 2 * VERSIONS, "{kills} kills");
    let cache = place.open().await;
    assert_eq!(count(&cache, KEKS).await, 1);
    assert_eq!(count(&cache, ORPHANS).await, 0);
    assert!(!place.contains(&old), "the old key is in the file");
}

#[tokio::test]
async fn killed_in_a_reseal_the_root_key_of_its_mark_alone_opens_everything() {
    const OWN: &str =
        "tests::killed::killed_in_a_reseal_the_root_key_of_its_mark_alone_opens_everything";
    if let Some(order) = order() {
        return obey(&order).await;
    }
    let (place, keys) = (Place::new(), tempfile::tempdir().unwrap());
    let path = place.path().display().to_string();
    let mut current = (0, UnsealKey::generate(&OsEntropy).to_file());
    let cache = place.try_open(&current.1).await.unwrap();
    let key_pair = fill(&cache).await;
    cache.close().await.unwrap();
    for mark in 1..=RESEALS {
        let next = (mark, UnsealKey::generate(&OsEntropy).to_file());
        let key = key_file(&keys, "key", &current.1);
        let wanted = key_file(&keys, "next", &next.1);
        let text = mark.to_string();
        let mut program = Program::start(OWN, &["reseal", &path, &key, &wanted, &text]);
        assert!(program.hear(WRITES));
        if mark == RESEALS {
            assert!(!program.hear(WROTE), "it writes once");
        }
        program.kill(mark - 1);
        let found = Cache::root_mark(&place.path()).await.unwrap();
        let is_next = found == Some(mark);
        assert!(is_next || found == Some(current.0), "{found:?}");
        let (opens, other) = if is_next {
            (next, current)
        } else {
            (current, next)
        };
        let refused = place.try_open(&other.1).await;
        assert!(matches!(refused, Err(Error::WrongUnsealKey { .. })));
        let cache = place.try_open(&opens.1).await.unwrap();
        assert_all_open(&cache, &key_pair).await;
        cache.close().await.unwrap();
        current = opens;
    }
    assert_eq!(current.0, RESEALS, "what was not killed before its end");
}
