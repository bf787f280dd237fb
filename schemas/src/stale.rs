//! Whether what is checked in under `schemas/` is what the shapes say, and every golden file still reads.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::catalogue::{self, GENERATED, GOLDEN};
use crate::event;

/// Compares a `schemas/` directory with this build; one line per fault.
///
/// # Errors
/// When the directory cannot be read.
pub fn check(root: &Path) -> io::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut wanted = BTreeSet::new();
    for schema in catalogue::schemas() {
        match fs::read_to_string(root.join(&schema.path)) {
            Ok(text) if text == schema.text => {}
            Ok(_) => faults.push(format!("{} is stale", schema.path)),
            Err(_) => faults.push(format!("{} is missing", schema.path)),
        }
        wanted.insert(schema.path);
    }
    for name in names(&root.join(GENERATED))? {
        let path = format!("{GENERATED}/{name}");
        if !wanted.contains(&path) {
            faults.push(format!("{path} belongs to no shape"));
        }
    }
    for golden in catalogue::goldens().map_err(io::Error::other)? {
        if !root.join(&golden.path).exists() {
            faults.push(format!("{} is missing", golden.path));
        }
    }
    // What people write (a manifest, a configuration) is checked by `tests/golden_inputs.rs`.
    let events = names(&root.join(GOLDEN))?.into_iter();
    for name in events.filter(|name| name.ends_with(".json")) {
        faults.extend(check_golden(root, &name)?);
    }
    Ok(faults)
}

/// A golden file is canonical bytes and a closing line feed; it reads, and under its own name.
fn check_golden(root: &Path, name: &str) -> io::Result<Option<String>> {
    let bytes = fs::read(root.join(GOLDEN).join(name))?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Ok(match event::decode(bytes) {
        Err(error) => Some(format!("{GOLDEN}/{name} no longer decodes: {error}")),
        Ok((meta, event)) => {
            let type_name = event::type_name(&event);
            if format!("{type_name}.json") != name {
                Some(format!("{GOLDEN}/{name} holds a `{type_name}`"))
            } else if event::encode(&meta, &event) != bytes {
                Some(format!(
                    "{GOLDEN}/{name} would be written differently today; a changed event needs a new version"
                ))
            } else {
                None
            }
        }
    })
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}
