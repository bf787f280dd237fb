//! Writes what `deploy/` has for those who watch: rules, their tests, a dashboard, and two pages; or
//! with `--check` says what is stale.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use keywheel_telemetry::deploy;

fn main() -> io::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let checks = std::env::args().nth(1).as_deref() == Some("--check");
    let mut is_stale = false;
    for file in deploy::files() {
        let path = root.join(file.path);
        if fs::read_to_string(&path).is_ok_and(|text| text == file.text) {
            continue;
        }
        is_stale = true;
        writeln!(io::stdout(), "deploy/{}", file.path)?;
        if checks {
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, file.text)?;
    }
    Ok(match checks && is_stale {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
