//! The house's mechanical rules: arrows, sizes, words, EXPOSE, schemas, whose code we build, how much of
//! it is linked into the privileged programs, proofs that a document names, examples and test
//! files that are run.
//!
//! Owns the collection of findings and the report. Each rule lives in its own
//! file, takes text and returns findings; only this file reads the disk.

mod arrows;
mod code;
mod crates;
mod examples;
mod joined;
mod linked;
mod proofs;
mod sizes;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::program;

/// What we build for.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// One source file, read once for all rules.
pub(crate) struct Source {
    /// Path relative to the repository's root.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text with comments and literals blanked.
    pub(crate) masked: String,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let masked = code::mask(&text);
        Self { path, text, masked }
    }
}

/// Runs every rule; true when nothing was found.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let tracked = tracked_files(root)?;
    let sources = read_sources(root, &tracked)?;
    let own = metadata(root, &["--no-deps"])?;
    let mut findings = arrows::check(&own)?;
    findings.extend(examples::check(root, &own, &sources)?);
    findings.extend(joined::check(&sources));
    let rules = fs::read_to_string(root.join("deny.toml"))?;
    let all = metadata(root, &["--locked", "--filter-platform", PLATFORM])?;
    findings.extend(crates::check(&rules, &all)?);
    let (many, linked) = linked::check(&asked(root, &linked::TREE)?)?;
    findings.extend(many);
    for source in &sources {
        findings.extend(sizes::check(source));
        findings.extend(words::check(source));
    }
    for path in &tracked {
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            findings.extend(words::check_any_text(path, &text));
        }
    }
    let document = fs::read_to_string(root.join(proofs::DOCUMENT))?;
    findings.extend(proofs::check(&document, &sources));
    findings.extend(proofs::rows(&document));
    let document = fs::read_to_string(root.join(proofs::SECURITY))?;
    findings.extend(proofs::security(&document, &sources));
    findings.extend(proofs::unjudged(&sources));
    findings.extend(stale_files(root)?);
    println!("{}", sizes::report(&sources));
    println!(
        "EXPOSE: {} places take a value out of its wrapper",
        words::count_exposes(&sources)
    );
    println!("{linked}");
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!("tidy: {} files, {} findings", sources.len(), findings.len());
    Ok(findings.is_empty())
}

/// What git tracks or would track: no build output.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    // Without git, or in an unpacked archive, the folders themselves are the list.
    if let Ok(output) = listed
        && output.status.success()
    {
        let text = String::from_utf8_lossy(&output.stdout);
        return Ok(text
            .lines()
            .map(str::to_owned)
            .filter(|path| root.join(path).is_file())
            .collect());
    }
    let mut found = Vec::new();
    walk(root, root, &mut found)?;
    Ok(found)
}

/// The same for an unpacked archive without its history.
fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path: PathBuf = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                walk(root, &path, found)?;
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn read_sources(root: &Path, tracked: &[String]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in tracked.iter().filter(|path| path.ends_with(".rs")) {
        let text =
            fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        sources.push(Source::new(path.clone(), text));
    }
    Ok(sources)
}

fn metadata(root: &Path, flags: &[&str]) -> Result<serde_json::Value> {
    let words = [&["metadata", "--format-version", "1"], flags].concat();
    Ok(serde_json::from_str(&asked(root, &words)?)?)
}

/// What Cargo prints when it is asked so.
fn asked(root: &Path, words: &[&str]) -> Result<String> {
    let verb = words.first().copied().unwrap_or_default();
    let output = program::command("cargo")
        .args(words)
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot run cargo {verb}"))?;
    ensure!(
        output.status.success(),
        "cargo {verb} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Where Cargo puts what it builds.
fn target_directory(root: &Path) -> Result<PathBuf> {
    let metadata = metadata(root, &["--no-deps"])?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// Programs that write what is checked in: which, of which package, and what they write.
const GENERATORS: [(&str, &str, &str); 2] = [
    ("generate", "keywheel-schemas", "schemas/generated"),
    (
        "generate-deploy",
        "keywheel-telemetry",
        "what deploy/ has of metrics",
    ),
];

/// Asks the generators whether what is checked in is what they would write.
fn stale_files(root: &Path) -> Result<Vec<String>> {
    if !root.join("schemas/src/bin/generate.rs").exists() {
        return Ok(Vec::new());
    }
    // Of the whole workspace, or Cargo resolves other features and builds dependencies once more. And as if for its
    // examples, of which there are none: else it leaves out the features that tests ask for, and does that, too.
    let bins = GENERATORS.iter().flat_map(|(bin, ..)| ["--bin", bin]);
    let built = program::command("cargo")
        .args(["build", "--quiet", "--workspace", "--examples"])
        .args(bins)
        .current_dir(root)
        .status()
        .context("cannot build the generators")?;
    ensure!(built.success(), "the generators do not build");
    let debug = target_directory(root)?.join("debug");
    let mut findings = Vec::new();
    for (bin, package, files) in GENERATORS {
        let output = Command::new(debug.join(bin))
            .arg("--check")
            .current_dir(root)
            .output()
            .with_context(|| format!("cannot run {bin}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            findings.push(format!(
                "{files} is stale: {}; run `cargo run -p {package} --bin {bin}`",
                String::from_utf8_lossy(&said).trim()
            ));
        }
    }
    Ok(findings)
}
