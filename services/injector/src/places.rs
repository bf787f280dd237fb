//! Where an injector works on its host: directories, mounts, the lock, what an earlier run left.
//!
//! Owns how they are made and left; what lies in them is `spool`'s, `state`'s and `runtime`'s.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use keywheel_core::id::ContainerId;
use keywheel_daemon::{chain, names, take_lock};
use keywheel_sys::nsjoin::Helper;
use keywheel_sys::secretfs::{Features, mount_private_tmpfs, probe, unmount_private};

use crate::attach::Tools;
use crate::error::InjectorError;
use crate::options::HostSettings;
use crate::refused::{self, Saved};
use crate::spool::Spool;
use crate::state::{self, Remembered};
use crate::turns::{self, Turns};

/// Room for private bundles: configurations with values, short-lived.
const BUNDLES_BYTES: u64 = 64 << 20;
/// File in the run directory that a running injector keeps locked.
const LOCK_NAME: &str = "injector.lock";

/// Nobody asks any more; the next start makes it anew. In use or gone, it may stay.
pub(crate) async fn leave_bundles(bundles: PathBuf) {
    let _ = tokio::task::spawn_blocking(move || unmount_private(&bundles)).await;
}

/// What an injector finds on its host when it starts.
pub(crate) struct Found {
    pub(crate) tools: Tools,
    pub(crate) spool: Spool,
    /// Reports of an earlier run.
    pub(crate) waiting: Vec<u64>,
    pub(crate) remembered: BTreeMap<ContainerId, Remembered>,
    /// Containers whose start was refused.
    pub(crate) refused: Vec<Saved>,
    /// Restarts that were under way.
    pub(crate) turns: Turns,
    /// Held as long as the injector runs.
    pub(crate) lock: File,
}

/// Makes directories and mounts, sweeps what an earlier run left, finds out what the kernel can do.
pub(crate) fn prepare(options: &HostSettings) -> Result<Found, InjectorError> {
    let features = able(probe())?;
    make_dir(&options.run_dir, 0o755)?;
    let lock = lock(&options.run_dir)?;
    make_dir(&options.state(), 0o700)?;
    let bundles = options.bundles();
    mount_private_tmpfs(&bundles, BUNDLES_BYTES).map_err(|source| InjectorError::Bundles {
        path: bundles.clone(),
        source,
    })?;
    sweep(&bundles).map_err(|source| InjectorError::Directory {
        path: bundles,
        source,
    })?;
    raise_open_files();
    let tools = tools(options, features);
    let spool_fault = |source| InjectorError::Spool {
        path: options.spool_dir.clone(),
        source,
    };
    let spool = Spool::open(&options.spool_dir).map_err(spool_fault)?;
    let waiting = spool.waiting().map_err(spool_fault)?;
    let remembered = state::load_all(&tools.state).map_err(|source| InjectorError::Directory {
        path: tools.state.clone(),
        source,
    })?;
    let refused = refused::load(&tools.state);
    let turns = turns::load(&tools.state);
    Ok(Found {
        tools,
        spool,
        waiting,
        remembered,
        refused,
        turns,
        lock,
    })
}

/// What this kernel gives to work with, aloud.
fn tools(options: &HostSettings, features: Features) -> Tools {
    let kind = options.fs_kind.unwrap_or_else(|| features.best_kind());
    tracing::info!({ names::KIND } = ?kind, "memory file system chosen");
    let lacks = lack_of_files(features);
    if let Some(lack) = lacks.as_deref() {
        tracing::error!(
            { names::REASON } = lack,
            "no file is put into a container; variables are served"
        );
    }
    Tools {
        helper: Helper::new(options.helper.clone()),
        kind,
        state: options.state(),
        lacks,
    }
}

/// Refuses a kernel on which nothing can be served.
fn able(features: Features) -> Result<Features, InjectorError> {
    let missing = features.missing_to_start();
    if missing.is_empty() {
        return Ok(features);
    }
    let missing = missing.join(", ");
    Err(InjectorError::Kernel { missing })
}

/// Why no file gets into a container here, with the next step; nothing where files do.
fn lack_of_files(features: Features) -> Option<String> {
    let missing = features.missing_for_files();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!(
            "the kernel does not know {missing}, by which files get into containers; use Linux 5.12 or newer, and no system call filter that takes that away"
        )
    })
}

/// Makes sure that nobody else works in the run directory; the kernel lets go with the process. A child that a killed
/// injector had just begun holds it, too, until it runs its own program: that is waited for. Blocks.
fn lock(run_dir: &Path) -> Result<File, InjectorError> {
    let path = run_dir.join(LOCK_NAME);
    let fault = |source| InjectorError::Directory {
        path: path.clone(),
        source,
    };
    let mut options = File::options();
    let file = options
        .create(true)
        .append(true)
        .open(&path)
        .map_err(fault)?;
    if !take_lock(&file).map_err(fault)? {
        return Err(InjectorError::Taken {
            path: run_dir.to_owned(),
        });
    }
    Ok(file)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), InjectorError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| InjectorError::Directory {
            path: path.to_owned(),
            source,
        })
}

/// A bundle of a create that was killed may hold values.
fn sweep(bundles: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(bundles)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Three handles a container: the default limit would end at a few hundred.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            { names::ERROR } = chain(&error),
            "limit of open files not raised"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features {
        noswap: true,
        mount_setattr: true,
        openat2: true,
        fsopen: true,
        move_mount: true,
        open_tree: true,
    };

    #[test]
    fn a_kernel_on_which_nothing_can_be_served_is_refused_by_name_with_the_next_step() {
        let without_fsopen = Features {
            fsopen: false,
            ..ALL
        };
        let without_move_mount = Features {
            move_mount: false,
            ..ALL
        };
        let without_mount_setattr = Features {
            mount_setattr: false,
            ..ALL
        };
        for (features, call) in [
            (without_fsopen, "fsopen"),
            (without_move_mount, "move_mount"),
            (without_mount_setattr, "mount_setattr"),
        ] {
            let refused = able(features).unwrap_err().to_string();
            for word in [call, "use Linux 5.12", "filter"] {
                assert!(refused.contains(word), "no `{word}` in {refused}");
            }
        }
        let without_noswap = Features {
            noswap: false,
            ..ALL
        };
        assert!(able(without_noswap).is_ok(), "ramfs is there");
    }

    #[test]
    fn a_kernel_without_what_files_need_is_served_without_them_and_says_why() {
        let without_openat2 = Features {
            openat2: false,
            ..ALL
        };
        let without_open_tree = Features {
            open_tree: false,
            ..ALL
        };
        for (features, call) in [
            (without_openat2, "openat2"),
            (without_open_tree, "open_tree"),
        ] {
            assert!(able(features).is_ok(), "variables need no {call}");
            let lack = lack_of_files(features).unwrap();
            for word in [call, "use Linux 5.12", "filter"] {
                assert!(lack.contains(word), "no `{word}` in {lack}");
            }
        }
        assert_eq!(lack_of_files(ALL), None);
    }

    #[test]
    fn a_run_directory_has_one_injector() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let refused = lock(folder.path()).unwrap_err();
        assert!(matches!(&refused, InjectorError::Taken { path } if path == folder.path()));
        assert!(refused.to_string().contains("--socket"), "{refused}");
        drop(held);
        assert!(lock(folder.path()).is_ok());
    }
}
