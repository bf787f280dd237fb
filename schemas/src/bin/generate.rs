//! Writes `schemas/generated` and `schemas/golden`, or with `--check` says what is stale.
//!
//! A golden file that exists is never overwritten: a released event keeps its bytes. Whoever changes
//! the format gives the type a new version number.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keywheel_schemas::catalogue::{self, Document};
use keywheel_schemas::stale;

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match asked.as_slice() {
        [] => write(&root),
        [flag] if flag == "--check" => check(&root),
        _ => Err(io::Error::other("usage: generate [--check]")),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _unseen = writeln!(io::stderr(), "generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> io::Result<ExitCode> {
    let faults = stale::check(root)?;
    for fault in &faults {
        writeln!(io::stdout(), "{fault}")?;
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn write(root: &Path) -> io::Result<ExitCode> {
    fs::create_dir_all(root.join(catalogue::GENERATED))?;
    fs::create_dir_all(root.join(catalogue::GOLDEN))?;
    let schemas = catalogue::schemas();
    for Document { path, text } in &schemas {
        fs::write(root.join(path), text)?;
    }
    let wanted: BTreeSet<PathBuf> = schemas
        .iter()
        .map(|schema| root.join(&schema.path))
        .collect();
    for entry in fs::read_dir(root.join(catalogue::GENERATED))? {
        let path = entry?.path();
        if !wanted.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    for Document { path, text } in catalogue::goldens().map_err(io::Error::other)? {
        let path = root.join(path);
        if !path.exists() {
            fs::write(path, text)?;
        }
    }
    writeln!(io::stdout(), "{} schemas written", schemas.len())?;
    Ok(ExitCode::SUCCESS)
}
