//! Blocking work on containers: pin the first process, check whose it is, put a secret file system
//! into it, or get the one of an earlier run back.
//!
//! Invariants: the process is compared with its container before anything is touched (rule J1);
//! files are complete before the file system becomes visible; its device is remembered before it is
//! attached, so that a crash in between leaves nothing that cannot be found again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::name::{Directory, FileName};
use keywheel_daemon::{chain, failpoint};
use keywheel_seal::SecretBytes;
use keywheel_sys::nsjoin::Helper;
use keywheel_sys::procfs::PinnedPid;
use keywheel_sys::secretfs::{FileAttr, FsKind, SecretDir, SecretFs};

use crate::model::Place;
use crate::state::{self, Remembered, RememberedDir, RememberedHolding};

/// Content of all files of one directory, old and new versions together (rule J14).
pub(crate) const SECRET_FS_BYTES: u64 = 16 << 20;

/// What attaching needs to know of this host.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) helper: Helper,
    pub(crate) kind: FsKind,
    pub(crate) state: PathBuf,
}

/// A file to be there when the file system becomes visible.
pub(crate) struct Wanted {
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) directory: Directory,
    pub(crate) name: FileName,
    pub(crate) attr: FileAttr,
    pub(crate) value: Arc<SecretBytes>,
}

/// A container with its file systems.
pub(crate) struct Attached {
    pub(crate) target: Arc<PinnedPid>,
    pub(crate) ticks: u64,
    pub(crate) dirs: BTreeMap<Directory, Arc<SecretDir>>,
    pub(crate) written: Vec<Written>,
    pub(crate) refused: Vec<(BindingId, SecretId, u64, String)>,
}

/// A file that is in place.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) place: Place,
}

/// Pins a container's first process and checks that it is that container's.
pub(crate) fn pin(id: &ContainerId, pid: i32) -> Result<(PinnedPid, u64), String> {
    let target = PinnedPid::open(pid).map_err(|error| chain(&error))?;
    if !target
        .belongs_to(id.as_str())
        .map_err(|error| chain(&error))?
    {
        return Err(format!(
            "process {pid} does not belong to container {}",
            id.short()
        ));
    }
    let ticks = target.start_ticks().map_err(|error| chain(&error))?;
    Ok((target, ticks))
}

/// Puts files into a container, one file system per directory. `base` is what is remembered of it so far.
pub(crate) fn attach(
    tools: &Tools,
    id: &ContainerId,
    pid: i32,
    mut base: Remembered,
    wanted: Vec<Wanted>,
) -> Result<Attached, String> {
    let (target, ticks) = pin(id, pid)?;
    base.ticks = ticks;
    let mut by_dir: BTreeMap<Directory, Vec<Wanted>> = BTreeMap::new();
    for file in wanted {
        by_dir.entry(file.directory.clone()).or_default().push(file);
    }
    let mut attached = Attached {
        target: Arc::new(target),
        ticks,
        dirs: BTreeMap::new(),
        written: Vec::new(),
        refused: Vec::new(),
    };
    if by_dir.is_empty() {
        state::save(&tools.state, &base).map_err(|error| chain(&error))?;
    }
    for (directory, files) in by_dir {
        match attach_dir(tools, &attached.target, &mut base, &directory, &files) {
            Ok(dir) => {
                attached.dirs.insert(directory, Arc::new(dir));
                attached.written.extend(files.iter().map(Wanted::written));
            }
            Err(reason) => {
                let refuse =
                    |file: &Wanted| (file.binding, file.secret, file.version, reason.clone());
                attached.refused.extend(files.iter().map(refuse));
            }
        }
    }
    Ok(attached)
}

impl Wanted {
    fn written(&self) -> Written {
        let place = Place::File {
            directory: self.directory.clone(),
            name: self.name.clone(),
        };
        Written {
            binding: self.binding,
            secret: self.secret,
            version: self.version,
            place,
        }
    }
}

fn attach_dir(
    tools: &Tools,
    target: &PinnedPid,
    base: &mut Remembered,
    directory: &Directory,
    files: &[Wanted],
) -> Result<SecretDir, String> {
    failpoint::hit("injector.before_swap").map_err(|error| error.to_string())?;
    let fs = SecretFs::create(tools.kind, SECRET_FS_BYTES).map_err(|error| chain(&error))?;
    for file in files {
        let mapped = map(target, file.attr)?;
        // EXPOSE: written to the container's own memory file system.
        let bytes = file.value.expose();
        fs.dir()
            .replace(file.name.as_str(), bytes, mapped)
            .map_err(|error| chain(&error))?;
    }
    base.dirs.retain(|known| known.dir != directory.as_str());
    base.dirs.push(RememberedDir {
        dir: directory.to_string(),
        device: fs.device(),
    });
    base.holdings.extend(files.iter().map(remember));
    state::save(&tools.state, base).map_err(|error| chain(&error))?;
    if let Err(error) = tools.helper.attach(target, &fs, directory.as_str(), true) {
        base.dirs.retain(|known| known.dir != directory.as_str());
        base.holdings
            .retain(|known| known.dir != directory.as_str());
        state::save(&tools.state, base).map_err(|error| chain(&error))?;
        return Err(explain(&error));
    }
    failpoint::hit("injector.after_swap").map_err(|error| error.to_string())?;
    Ok(fs.into_dir())
}

fn remember(file: &Wanted) -> RememberedHolding {
    RememberedHolding {
        binding: file.binding.to_string(),
        secret: file.secret.to_string(),
        version: file.version,
        acked: false,
        dir: file.directory.to_string(),
        name: file.name.to_string(),
    }
}

/// The reason with the next step, where there is one.
fn explain(error: &keywheel_sys::Error) -> String {
    use keywheel_sys::Error;
    let next = match error {
        Error::ForeignMount { .. } | Error::AlreadyAttached { .. } => {
            "; recreate the container without it, or set another `directory` in the binding"
        }
        Error::SharedMount { .. } => {
            "; set another `directory` in the binding, one that is not on a shared mount"
        }
        Error::HelperStart { .. } => "; install keywheel-nsjoin beside keywheel",
        _ => "",
    };
    format!("{}{next}", chain(error))
}

/// Owner and group in the host's ids (rule J7).
pub(crate) fn map(target: &PinnedPid, attr: FileAttr) -> Result<FileAttr, String> {
    let uid = target.map_uid(attr.uid).map_err(|error| chain(&error))?;
    let gid = target.map_gid(attr.gid).map_err(|error| chain(&error))?;
    Ok(FileAttr {
        uid,
        gid,
        mode: attr.mode,
    })
}

/// A container of an earlier run, got back.
pub(crate) struct Adopted {
    pub(crate) target: Arc<PinnedPid>,
    pub(crate) ticks: u64,
    pub(crate) dirs: BTreeMap<Directory, Arc<SecretDir>>,
    /// Whether it is the same incarnation, so that what was remembered of it holds.
    pub(crate) is_same: bool,
}

/// Pins a container and gets its file systems back, if it is the incarnation that is remembered.
pub(crate) fn adopt(
    tools: &Tools,
    id: &ContainerId,
    pid: i32,
    remembered: Option<&Remembered>,
) -> Result<Adopted, String> {
    let (target, ticks) = pin(id, pid)?;
    let mut dirs = BTreeMap::new();
    let same = remembered.filter(|remembered| remembered.ticks == ticks);
    for known in same.iter().flat_map(|same| &same.dirs) {
        let Ok(directory) = Directory::parse(&known.dir) else {
            continue;
        };
        match tools.helper.reacquire(&target, &known.dir, known.device) {
            Ok(dir) => {
                tidy(&dir, same, &directory);
                dirs.insert(directory, Arc::new(dir));
            }
            Err(error) => tracing::warn!(
                container = id.short(),
                error = chain(&error),
                "file system not got back"
            ),
        }
    }
    Ok(Adopted {
        target: Arc::new(target),
        ticks,
        dirs,
        is_same: same.is_some(),
    })
}

/// Removes what an interrupted write left, and files that nothing is remembered of.
fn tidy(dir: &SecretDir, same: Option<&Remembered>, directory: &Directory) {
    let known = |name: &String| {
        same.is_some_and(|same| {
            same.holdings
                .iter()
                .any(|one| one.dir == directory.as_str() && one.name == *name)
        })
    };
    let swept = dir
        .sweep_temps()
        .and_then(|_| dir.names())
        .and_then(|names| {
            names
                .iter()
                .filter(|name| !known(name))
                .try_for_each(|name| dir.remove(name).map(|_| ()))
        });
    if let Err(error) = swept {
        tracing::warn!(error = chain(&error), "leftover secret file not removed");
    }
}
