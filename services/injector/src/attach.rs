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
use keywheel_sys::Error;
use keywheel_sys::nsjoin::Helper;
use keywheel_sys::procfs::{PinnedPid, Sight};
use keywheel_sys::secretfs::{FileAttr, FsKind, SecretDir, SecretFs};
use keywheel_sys::wire::Fault;

use crate::form::{Form, Formed, FurtherValues, formed};
use crate::model::{Place, Unformed};
use crate::state::{self, Remembered, RememberedDir, RememberedHolding};

/// Content of all files of one directory, old and new versions together (rule J14).
pub(crate) const SECRET_FS_BYTES: u64 = 16 << 20;

/// What attaching needs to know of this host.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) helper: Helper,
    pub(crate) kind: FsKind,
    pub(crate) state: PathBuf,
    /// Why no file gets into a container here; each is refused with that.
    pub(crate) lacks: Option<String>,
}

/// A file to be there when the file system becomes visible.
pub(crate) struct Wanted {
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) directory: Directory,
    pub(crate) name: FileName,
    pub(crate) attr: FileAttr,
    pub(crate) form: Option<Arc<Form>>,
    pub(crate) value: Arc<SecretBytes>,
    pub(crate) further: FurtherValues,
}

/// It, with what was made of its value.
struct Whole {
    file: Wanted,
    content: Formed,
}

/// A container with its file systems.
pub(crate) struct Attached {
    pub(crate) target: Arc<PinnedPid>,
    pub(crate) ticks: u64,
    pub(crate) dirs: BTreeMap<Directory, Arc<SecretDir>>,
    pub(crate) written: Vec<Written>,
    pub(crate) refused: Vec<(BindingId, SecretId, u64, String)>,
    /// Files whose template cannot be filled.
    pub(crate) unformed: Vec<(BindingId, Unformed)>,
    /// Set when a file system may be in it or not: what is to be looked for.
    pub(crate) unclear: Option<Remembered>,
}

/// Why a directory has no file system of ours.
struct NotAttached {
    reason: String,
    /// It may have one all the same.
    is_unclear: bool,
}

impl From<String> for NotAttached {
    fn from(reason: String) -> Self {
        Self {
            reason,
            is_unclear: false,
        }
    }
}

/// A file that is in place.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) place: Place,
    pub(crate) attr: FileAttr,
    pub(crate) form: Option<Arc<Form>>,
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
    let (wanted, unformed) = form_all(wanted);
    let mut by_dir: BTreeMap<Directory, Vec<Whole>> = BTreeMap::new();
    for whole in wanted {
        let directory = whole.file.directory.clone();
        by_dir.entry(directory).or_default().push(whole);
    }
    let mut attached = Attached {
        target: Arc::new(target),
        ticks,
        dirs: BTreeMap::new(),
        written: Vec::new(),
        refused: Vec::new(),
        unformed,
        unclear: None,
    };
    let mut is_unclear = false;
    if by_dir.is_empty() {
        state::save(&tools.state, &base).map_err(|error| chain(&error))?;
    }
    for (directory, files) in by_dir {
        let (fs, files) = match make(tools, &attached.target, files) {
            Ok((fs, files, refused)) => {
                attached.refused.extend(refused);
                (fs, files)
            }
            Err(refused) => {
                attached.refused.extend(refused);
                continue;
            }
        };
        match attach_dir(tools, &attached.target, &mut base, (&directory, fs), &files) {
            Ok(dir) => {
                attached.dirs.insert(directory, Arc::new(dir));
                let written = files.iter().map(|whole| whole.file.written());
                attached.written.extend(written);
            }
            Err(fault) => {
                is_unclear |= fault.is_unclear;
                let refuse = |whole: &Whole| whole.file.refused(fault.reason.clone());
                attached.refused.extend(files.iter().map(refuse));
            }
        }
    }
    attached.unclear = is_unclear.then_some(base);
    Ok(attached)
}

/// Makes of each value what its file holds; one that cannot be made takes no other with it.
fn form_all(wanted: Vec<Wanted>) -> (Vec<Whole>, Vec<(BindingId, Unformed)>) {
    let mut whole = Vec::with_capacity(wanted.len());
    let mut faults = Vec::new();
    for file in wanted {
        match formed(file.form.as_ref(), &file.value, &file.further) {
            Ok(content) => whole.push(Whole { file, content }),
            Err(reason) => {
                let unformed = Unformed {
                    secret: file.secret,
                    version: file.version,
                    form: file.form,
                    reason,
                };
                faults.push((file.binding, unformed));
            }
        }
    }
    (whole, faults)
}

/// A file that could not be served, and why.
type RefusedFile = (BindingId, SecretId, u64, String);

/// Makes a file system with all files that can be written, and tells which cannot. An error: none can.
fn make(
    tools: &Tools,
    target: &PinnedPid,
    files: Vec<Whole>,
) -> Result<(SecretFs, Vec<Whole>, Vec<RefusedFile>), Vec<RefusedFile>> {
    let created = match &tools.lacks {
        Some(lack) => Err(lack.clone()),
        None => failpoint::hit("injector.before_swap")
            .map_err(|error| error.to_string())
            .and_then(|()| {
                SecretFs::create(tools.kind, SECRET_FS_BYTES).map_err(|error| chain(&error))
            }),
    };
    let fs = match created {
        Ok(fs) => fs,
        Err(reason) => {
            let refuse = |whole: &Whole| whole.file.refused(reason.clone());
            return Err(files.iter().map(refuse).collect());
        }
    };
    let mut filled = Vec::with_capacity(files.len());
    let mut refused = Vec::new();
    for whole in files {
        match fill(fs.dir(), target, &whole) {
            Ok(()) => filled.push(whole),
            Err(reason) => refused.push(whole.file.refused(reason)),
        }
    }
    if filled.is_empty() {
        return Err(refused);
    }
    Ok((fs, filled, refused))
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
            attr: self.attr,
            form: self.form.clone(),
        }
    }

    fn refused(&self, reason: String) -> RefusedFile {
        (self.binding, self.secret, self.version, reason)
    }
}

fn attach_dir(
    tools: &Tools,
    target: &PinnedPid,
    base: &mut Remembered,
    (directory, fs): (&Directory, SecretFs),
    files: &[Whole],
) -> Result<SecretDir, NotAttached> {
    let former = base
        .dirs
        .iter()
        .find(|known| known.dir == directory.as_str())
        .map(|known| known.device);
    base.dirs.retain(|known| known.dir != directory.as_str());
    base.dirs.push(RememberedDir {
        dir: directory.to_string(),
        device: fs.device(),
    });
    let holdings = files.iter().map(|whole| remember(&whole.file));
    base.holdings.extend(holdings);
    state::save(&tools.state, base).map_err(|error| chain(&error))?;
    failpoint::hit("injector.after_state_write").map_err(|error| error.to_string())?;
    if let Err(error) = tools.helper.attach(target, &fs, directory.as_str(), true) {
        if is_in_place(&error) {
            return Ok(fs.into_dir());
        }
        let device = match error {
            // An earlier attempt came further than it said.
            Error::AlreadyAttached { .. } => former,
            ref error if may_have_attached(error) => Some(fs.device()),
            _ => None,
        };
        return get_back(tools, target, base, (directory, device), files, &error);
    }
    failpoint::hit("injector.after_swap").map_err(|error| unclear(error.to_string()))?;
    Ok(fs.into_dir())
}

/// After a failed attach: takes what is there all the same, or forgets it only if it is not there.
fn get_back(
    tools: &Tools,
    target: &PinnedPid,
    base: &mut Remembered,
    (directory, device): (&Directory, Option<u64>),
    files: &[Whole],
    error: &Error,
) -> Result<SecretDir, NotAttached> {
    if let Some(device) = device {
        for known in &mut base.dirs {
            if known.dir == directory.as_str() {
                known.device = device;
            }
        }
        state::save(&tools.state, base).map_err(|error| unclear(chain(&error)))?;
        match tools.helper.reacquire(target, directory.as_str(), device) {
            Ok(dir) => {
                let mut files = files.iter();
                let filled = files.try_for_each(|file| fill(&dir, target, file));
                return filled.map(|()| dir).map_err(unclear);
            }
            Err(fault) if !is_absent(&fault) => return Err(unclear(explain(error))),
            Err(_) => {}
        }
    }
    base.dirs.retain(|known| known.dir != directory.as_str());
    base.holdings
        .retain(|known| known.dir != directory.as_str());
    state::save(&tools.state, base).map_err(|error| chain(&error))?;
    Err(explain(error).into())
}

fn unclear(reason: String) -> NotAttached {
    NotAttached {
        reason,
        is_unclear: true,
    }
}

fn fill(dir: &SecretDir, target: &PinnedPid, whole: &Whole) -> Result<(), String> {
    let mapped = map(target, whole.file.attr)?;
    write(dir, whole.file.name.as_str(), &whole.content, mapped, || ())
}

/// Puts a file or a set of files in place, in one step; calls `written` just before.
pub(crate) fn write(
    dir: &SecretDir,
    name: &str,
    content: &Formed,
    attr: FileAttr,
    written: impl FnOnce(),
) -> Result<(), String> {
    // EXPOSE: written to the container's own memory file system.
    let put = match content {
        Formed::File(value) => dir.replace_pausing(name, value.expose(), attr, written),
        Formed::Set(files) => {
            let each = files.iter();
            // EXPOSE: as above, each into a file of its own.
            let each = each.map(|(file, bytes)| (file.as_str(), bytes.expose()));
            dir.replace_set(name, &each.collect::<Vec<_>>(), attr, written)
        }
    };
    put.map_err(|error| chain(&error))
}

/// Whether the file system is in the container although its directory leads elsewhere by now: the helper
/// looks for it there only after it attached it. It is ours to change and to empty all the same.
fn is_in_place(error: &Error) -> bool {
    matches!(error, Error::Helper { reason, .. } if *reason == Fault::Device.text())
}

/// Whether a failed attach may have come as far as attaching.
fn may_have_attached(error: &Error) -> bool {
    matches!(
        error,
        Error::HelperTimeout { .. } | Error::HelperDied { .. } | Error::Gone { .. }
    )
}

fn remember(file: &Wanted) -> RememberedHolding {
    let form = file.form.as_ref();
    let further = form.map(|form| state::further_words(&form.versions()));
    let previous = form.map(|form| state::further_words(&form.previous_versions()));
    RememberedHolding {
        binding: file.binding.to_string(),
        secret: file.secret.to_string(),
        version: file.version,
        acked: false,
        began: true,
        dir: file.directory.to_string(),
        name: file.name.to_string(),
        attr: Some((file.attr.uid, file.attr.gid, file.attr.mode)),
        further: further.unwrap_or_default(),
        previous: previous.unwrap_or_default(),
    }
}

/// The reason with the next step, where there is one.
fn explain(error: &Error) -> String {
    let next = match error {
        Error::ForeignMount { .. } | Error::AlreadyAttached { .. } => {
            "; recreate the container without it, or set another `directory` in the binding"
        }
        Error::SharedMount { .. } => {
            "; set another `directory` in the binding, one that is not on a shared mount"
        }
        Error::Helper { .. } => {
            "; look at that directory in the container and recreate it, or set another `directory` in the binding"
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

/// Whether the answer says that the file system is not there, as against not knowing it.
fn is_absent(error: &Error) -> bool {
    match error {
        Error::NotSecretFs { .. } => true,
        Error::Helper { reason, .. } => [Fault::Absent, Fault::Device]
            .iter()
            .any(|fault| fault.text() == *reason),
        _ => false,
    }
}

/// A container of an earlier run, got back.
pub(crate) struct Adopted {
    pub(crate) target: Arc<PinnedPid>,
    pub(crate) ticks: u64,
    pub(crate) dirs: BTreeMap<Directory, Arc<SecretDir>>,
    /// Whether it is the same incarnation, so that what was remembered of it holds.
    pub(crate) is_same: bool,
    /// Whether a file system is in it that cannot be reached at its directory.
    pub(crate) is_hidden: bool,
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
    let mut is_hidden = false;
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
            Err(error) if hides(&target, known, &error) => is_hidden = true,
            Err(error) if is_absent(&error) => tracing::warn!(
                container = id.short(),
                error = chain(&error),
                "file system not there any more"
            ),
            // Whether it is there is not known: what was remembered of it stays.
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(Adopted {
        target: Arc::new(target),
        ticks,
        dirs,
        is_same: same.is_some(),
        is_hidden,
    })
}

/// Whether a file system that was not got back is in the container all the same, covered or moved away by
/// what runs there.
fn hides(target: &PinnedPid, known: &RememberedDir, error: &Error) -> bool {
    let is_refusal = matches!(
        error,
        Error::ForeignMount { .. } | Error::Helper { .. } | Error::NotSecretFs { .. }
    );
    if !is_refusal {
        return false;
    }
    let sight = target.sight(&known.dir, known.device);
    matches!(sight, Ok(Sight::Seen | Sight::Covered))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(fault: Fault) -> Error {
        Error::Helper {
            dir: "/run/secrets".to_owned(),
            reason: fault.text(),
            source: std::io::ErrorKind::Other.into(),
        }
    }

    #[test]
    fn a_template_that_cannot_be_filled_takes_no_other_file_with_it() {
        let wanted = |number: u8, template: Option<&str>| Wanted {
            binding: BindingId::from_bytes([number; 16]),
            secret: SecretId::from_bytes([7; 16]),
            version: 3,
            directory: Directory::parse("/run/secrets").unwrap(),
            name: FileName::parse(&format!("f{number}")).unwrap(),
            attr: FileAttr {
                uid: 0,
                gid: 0,
                mode: 0o400,
            },
            form: template.map(|template| Form::new(template, "prod/db")),
            value: Arc::new(SecretBytes::from(b"plain".to_vec())),
            further: FurtherValues::new(),
        };
        let field = "{{ secret(\"prod/db\").user }}";
        let (whole, faults) = form_all(vec![
            wanted(1, Some("<{{ secret(\"prod/db\") }}>")),
            wanted(2, Some(field)),
            wanted(3, None),
        ]);
        let held = whole.iter().map(|whole| match &whole.content {
            Formed::File(value) => value.expose(),
            Formed::Set(files) => panic!("{} files", files.len()),
        });
        let held: Vec<&[u8]> = held.collect();
        assert_eq!(held, [b"<plain>".as_slice(), b"plain"]);
        let [(binding, unformed)] = faults.as_slice() else {
            panic!("{} faults", faults.len());
        };
        assert_eq!(*binding, BindingId::from_bytes([2; 16]));
        assert_eq!(unformed.form, Some(Form::new(field, "prod/db")));
        let reason = &unformed.reason;
        assert!(reason.starts_with("template_failed: line 1"), "{reason}");
    }

    #[test]
    fn only_a_clear_word_counts_as_absent() {
        assert!(is_absent(&helper(Fault::Absent)) && is_absent(&helper(Fault::Device)));
        assert!(is_absent(&Error::NotSecretFs { reason: "other" }));
        for fault in [Fault::Join, Fault::Open, Fault::Table, Fault::Clone] {
            assert!(!is_absent(&helper(fault)), "{fault:?}");
        }
        let (timeout, status) = (std::time::Duration::ZERO, String::new());
        for error in [
            Error::HelperTimeout { timeout },
            Error::HelperDied { status },
            Error::Gone { pid: 1 },
        ] {
            assert!(!is_absent(&error) && may_have_attached(&error), "{error}");
        }
        assert!(!may_have_attached(&helper(Fault::Move)));
        assert!(is_in_place(&helper(Fault::Device)));
        for fault in [Fault::Move, Fault::Open, Fault::Already, Fault::Placeholder] {
            assert!(!is_in_place(&helper(fault)), "{fault:?}");
        }
    }
}
