//! Files of one secret that change together: in place before the first instruction, and never of two versions
//! while it rotates without a pause.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::docker;
use keywheel_tests::manifest;
use keywheel_tests::stage::{SECRET, Stage};

/// Where the files are in the container.
const SET: &str = "/run/secrets/db";
/// Their names; each holds its name, `=` and the value.
const FILES: [&str; 3] = ["first", "second", "third"];
const ROTATIONS: usize = 10;
/// Between two looks: the machine is left to those that rotate.
const PAUSE: Duration = Duration::from_micros(100);

/// What a reader saw.
#[derive(Default)]
struct Seen {
    whole: u64,
    mixed: u64,
    missing: u64,
}

/// The value in each file of one directory, opened once; none when it was replaced meanwhile.
fn values_in(set: &File) -> Result<Option<Vec<String>>> {
    let mut values = Vec::new();
    for name in FILES {
        let text = match fs::read_to_string(format!("/proc/self/fd/{}/{name}", set.as_raw_fd())) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = text.strip_prefix(&format!("{name}="));
        values.push(value.context("a file without its first words")?.to_owned());
    }
    Ok(Some(values))
}

fn read_until(stop: &AtomicBool, path: &str) -> Result<Seen> {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        let Ok(set) = File::open(path) else {
            seen.missing += 1;
            continue;
        };
        let Some(values) = values_in(&set)? else {
            continue;
        };
        seen.whole += 1;
        let is_mixed = values.windows(2).any(|two| two.first() != two.last());
        seen.mixed += u64::from(is_mixed || values.iter().any(String::is_empty));
    }
    Ok(seen)
}

#[test]
fn files_of_one_secret_are_never_of_two_versions_while_it_rotates() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let templates = FILES.map(|name| (name, format!("{name}={{{{ secret(\"{SECRET}\") }}}}")));
    let templates = templates.each_ref();
    let templates = templates.map(|(name, template)| (*name, template.as_str()));
    let on = stage.on("set");
    let binding = manifest::files_binding("test-set", SECRET, &on, "db", &templates);
    stage
        .keywheel
        .apply(&(manifest::secret(SECRET, &[]) + &binding))?;
    stage.wait_current(SECRET, 1)?;
    let container = stage.run("set", &[], "/bin/app-idle")?;
    let path = format!("/proc/{}/root{SET}", container.pid()?);
    let now = || values_in(&File::open(&path)?)?.context("no files");
    let mut plaintexts = now()?;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stop, path) = (Arc::clone(&stop), path.clone());
        thread::spawn(move || read_until(&stop, &path))
    };
    let rotated = (0..ROTATIONS).try_for_each(|_| {
        stage.rotate(SECRET)?;
        plaintexts.extend(now()?);
        anyhow::Ok(())
    });
    stop.store(true, Ordering::Relaxed);
    let seen = reader
        .join()
        .map_err(|_| anyhow!("the reader panicked"))??;
    rotated?;
    ensure!(seen.whole > 0, "nothing was read");
    ensure!(
        seen.mixed == 0 && seen.missing == 0,
        "{} mixed and {} missing of {}",
        seen.mixed,
        seen.missing,
        seen.whole
    );
    plaintexts.dedup();
    assert_eq!(plaintexts.len(), ROTATIONS + 1, "a version was not taken");
    // The container, which is root, changes nothing of it.
    for words in [
        ["touch", "/run/secrets/db/other"],
        ["touch", "/run/secrets/db/first"],
    ] {
        assert_ne!(container.exec(&words)?.code, 0, "{words:?}");
    }
    stage.finish(&plaintexts, &[&container])
}
