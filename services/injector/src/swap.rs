//! Blocking work on secret files: replace, read back, tell the consumer, remove.
//!
//! Invariants: what is reported as swapped was read back and compared under a key random for this
//! one delivery (rule C3), in a file system that the container has not hidden from itself; a file that
//! holds the version already is not written again; a signal goes only to a process that catches it.
//! Runs on blocking threads, two at a time.

use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::name::Directory;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, failpoint, names};
use keywheel_engine::trace::Context;
use keywheel_seal::{MAX_VALUE_BYTES, SecretBytes, digest};
use keywheel_sys::procfs::{PinnedPid, Sight};
use keywheel_sys::secretfs::{FileAttr, SecretDir};
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use zeroize::Zeroizing;

use crate::attach::{map, write};
use crate::form::{Form, Formed, FurtherValues, formed};
use crate::model::Unformed;
use crate::origin::SERVICE;
use crate::shared::Shared;

/// Batches that run at the same time.
const PARALLEL: usize = 2;
/// Jobs from which on they are worth two threads.
const WORTH_SPLITTING: usize = 8;

/// What a consumer is told after its file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tell {
    /// The signal.
    pub(crate) signal: i32,
    /// Also when the file held the version already.
    pub(crate) even_if_equal: bool,
}

/// One file to bring to a version.
pub(crate) struct Swap {
    pub(crate) container: ContainerId,
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) dir: Arc<SecretDir>,
    pub(crate) target: Arc<PinnedPid>,
    pub(crate) directory: Directory,
    pub(crate) name: String,
    /// As the binding says it.
    pub(crate) attr: FileAttr,
    /// In the host's ids, if known already.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) form: Option<Arc<Form>>,
    pub(crate) value: Arc<SecretBytes>,
    pub(crate) further: FurtherValues,
    pub(crate) compare_first: bool,
    pub(crate) tell: Option<Tell>,
    /// Where it comes from.
    pub(crate) trace: Option<Context>,
}

/// How a swap ended.
pub(crate) struct Swapped {
    pub(crate) container: ContainerId,
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) form: Option<Arc<Form>>,
    pub(crate) result: Result<Done, NotSwapped>,
}

/// A swap that did not work.
#[derive(Debug)]
pub(crate) enum NotSwapped {
    /// For this reason; it may work another time.
    Now(String),
    /// Its template cannot be filled with this version: another try ends the same.
    Unformed(Unformed),
}

impl NotSwapped {
    fn reason(&self) -> &str {
        match self {
            Self::Now(reason) => reason,
            Self::Unformed(one) => &one.reason,
        }
    }
}

impl From<String> for NotSwapped {
    fn from(reason: String) -> Self {
        Self::Now(reason)
    }
}

/// A swap that worked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) at: Timestamp,
    /// `false` when the file held the version already.
    pub(crate) written: bool,
    pub(crate) told: Told,
    /// Owner as the binding says it, and in the host's ids.
    pub(crate) owner: ((u32, u32), (u32, u32)),
}

/// What became of telling the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nobody asked for it.
    NotAsked,
    /// The signal went to a process that catches it.
    At(Timestamp),
    /// The process does not catch the signal; nothing was sent.
    Unhandled,
}

/// Runs swaps on blocking threads.
pub(crate) async fn swap_all(shared: &Arc<Shared>, jobs: Vec<Swap>) -> Vec<Swapped> {
    in_batches(jobs, {
        let shared = Arc::clone(shared);
        move |job| {
            let mut span = span_of(&job);
            let result = swap(&shared, &job);
            if let Err(fault) = &result {
                span.fail("replace", fault.reason());
            }
            drop(span);
            Swapped {
                container: job.container,
                binding: job.binding,
                secret: job.secret,
                version: job.version,
                form: job.form,
                result,
            }
        }
    })
    .await
}

/// Runs blocking work over a list in at most [`PARALLEL`] threads; order is kept.
pub(crate) async fn in_batches<J, R, F>(mut jobs: Vec<J>, work: F) -> Vec<R>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> R + Send + Sync + Clone + 'static,
{
    let parts = if jobs.len() >= WORTH_SPLITTING {
        PARALLEL
    } else {
        1
    };
    let each = jobs.len().div_ceil(parts).max(1);
    let mut running = Vec::with_capacity(parts);
    while !jobs.is_empty() {
        let rest = jobs.split_off(each.min(jobs.len()));
        let batch = std::mem::replace(&mut jobs, rest);
        let work = work.clone();
        running.push(tokio::task::spawn_blocking(move || {
            batch.into_iter().map(work).collect::<Vec<R>>()
        }));
    }
    let mut done = Vec::new();
    for batch in running {
        // A batch fails only when the runtime shuts down; then nobody reads the result.
        done.extend(batch.await.unwrap_or_default());
    }
    done
}

fn span_of(job: &Swap) -> Span {
    Span::below(SERVICE, spans::REPLACE, Kind::Internal, job.trace)
        .with(spans::CONTAINER_ID, job.container.to_string())
        .with(spans::SECRET_ID, job.secret.to_string())
        .with(spans::VERSION, job.version)
}

fn swap(shared: &Shared, job: &Swap) -> Result<Done, NotSwapped> {
    let content = formed(job.form.as_ref(), &job.value, &job.further).map_err(|reason| {
        NotSwapped::Unformed(Unformed {
            secret: job.secret,
            version: job.version,
            form: job.form.clone(),
            reason,
        })
    })?;
    let mut key = Zeroizing::new([0_u8; 32]);
    shared.entropy.fill(&mut *key);
    let owner = match job.owner {
        Some(owner) => owner,
        None => map(&job.target, job.attr).map(|mapped| (mapped.uid, mapped.gid))?,
    };
    let written = !(job.compare_first && holds(job, &key, &content)?);
    if written {
        check_sight(job)?;
        failpoint::hit("injector.before_swap").map_err(|error| error.to_string())?;
        let attr = FileAttr {
            uid: owner.0,
            gid: owner.1,
            mode: job.attr.mode,
        };
        let written = || reach("injector.after_temp_write");
        write(&job.dir, &job.name, &content, attr, written)?;
        if !holds(job, &key, &content)? {
            let reason = "the file read back is not what was written";
            return Err(reason.to_owned().into());
        }
        failpoint::hit("injector.after_swap").map_err(|error| error.to_string())?;
    }
    let at = shared.clock.now();
    let told = match job.tell {
        Some(tell) if written || tell.even_if_equal => {
            // The write stands; the consumer is told again later.
            signal(shared, &job.target, tell.signal).unwrap_or_else(|reason| {
                tracing::info!({ names::REASON } = reason, "consumer not signalled yet");
                Told::Unhandled
            })
        }
        _ => Told::NotAsked,
    };
    Ok(Done {
        at,
        written,
        told,
        owner: ((job.attr.uid, job.attr.gid), owner),
    })
}

/// Refuses what the container hid from itself, which takes the right to mount: its program would count as
/// one that has the version. What cannot be told is let pass; most often the process just ended.
fn check_sight(job: &Swap) -> Result<(), String> {
    let directory = &job.directory;
    let hidden = match job.target.sight(directory.as_str(), job.dir.device()) {
        Ok(Sight::Unmounted) => "was unmounted inside the container",
        Ok(Sight::Covered) => "is covered by another mount that was made inside the container",
        Ok(Sight::Seen | Sight::Unknown) | Err(_) => return Ok(()),
    };
    Err(format!(
        "{directory} {hidden}; undo that or restart the container, and take the right to mount from it"
    ))
}

/// Whether exactly this is there, read back.
fn holds(job: &Swap, key: &[u8; 32], wanted: &Formed) -> Result<bool, String> {
    // EXPOSE: digests under a one-time key are what files are compared by.
    let is = |found: &[u8], value: &SecretBytes| {
        digest::keyed(key, found) == digest::keyed(key, value.expose())
    };
    let (dir, name) = (&job.dir, job.name.as_str());
    match wanted {
        Formed::File(value) => {
            let mut found = Zeroizing::new(Vec::new());
            let read = dir.read_into(name, MAX_VALUE_BYTES, &mut found);
            Ok(read.map_err(|error| chain(&error))? && is(&found, value))
        }
        Formed::Set(files) => {
            let names = dir.set_names(name).map_err(|error| chain(&error))?;
            // None that is not wanted; that all are there comes next.
            if names.is_none_or(|names| names.len() != files.len()) {
                return Ok(false);
            }
            for (file, value) in files {
                let mut found = Zeroizing::new(Vec::new());
                let read = dir.read_in_set(name, file.as_str(), MAX_VALUE_BYTES, &mut found);
                if !(read.map_err(|error| chain(&error))? && is(&found, value)) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Signals a process that catches it.
pub(crate) fn signal(shared: &Shared, target: &PinnedPid, number: i32) -> Result<Told, String> {
    if !target.catches(number).map_err(|error| chain(&error))? {
        return Ok(Told::Unhandled);
    }
    target.signal(number).map_err(|error| chain(&error))?;
    Ok(Told::At(shared.clock.now()))
}

/// One file to remove.
pub(crate) struct Removal {
    pub(crate) container: ContainerId,
    pub(crate) binding: BindingId,
    pub(crate) secret: SecretId,
    pub(crate) dir: Option<Arc<SecretDir>>,
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) trace: Option<Context>,
}

/// Removes files; a file that is gone already counts as removed.
pub(crate) async fn remove_all(jobs: Vec<Removal>) -> Vec<(Removal, Result<(), String>)> {
    in_batches(jobs, |job: Removal| {
        let mut span = Span::below(SERVICE, spans::WITHDRAW, Kind::Internal, job.trace)
            .with(spans::CONTAINER_ID, job.container.to_string())
            .with(spans::SECRET_ID, job.secret.to_string());
        let result = match &job.dir {
            Some(dir) => remove(dir, &job.name),
            None => Ok(()),
        };
        if let Err(reason) = &result {
            span.fail("withdraw", reason);
        }
        drop(span);
        (job, result)
    })
    .await
}

fn remove(dir: &SecretDir, name: &str) -> Result<(), String> {
    failpoint::hit("injector.before_withdraw").map_err(|error| error.to_string())?;
    dir.remove(name).map_err(|error| chain(&error))?;
    failpoint::hit("injector.after_withdraw").map_err(|error| error.to_string())
}

/// A failpoint where an injected error has no meaning: only stopping and waiting have.
fn reach(name: &'static str) {
    let _injected = failpoint::hit(name);
}
