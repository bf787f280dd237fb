//! What an injector tells about itself and its host: the plan, the lease, the host cache, the container
//! engine and what the kernel offers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_daemon::chain;
use keywheel_engine::port::container_host::{ContainerHost, CreateFacts};
use keywheel_engine::presence::{Fact, Look, Reached, Seen};
use keywheel_sys::secretfs::{Features, FsKind, probe};

use crate::options::{HostCache, LeasePolicy};
use crate::service::{Handle, Status};
use crate::shared::Shared;

/// A look at an injector and its host.
pub struct HostLook {
    handle: Handle,
    containers: Arc<dyn ContainerHost>,
    cache: HostCache,
    lease: Duration,
    policy: LeasePolicy,
}

impl HostLook {
    pub(crate) fn new(handle: Handle, shared: &Shared) -> Self {
        Self {
            handle,
            containers: Arc::clone(&shared.containers),
            cache: shared.options.host_cache.clone(),
            lease: shared.options.lease,
            policy: shared.options.lease_policy,
        }
    }

    async fn engine(&self) -> Vec<Fact> {
        let engine = self.containers.name();
        if let Err(error) = self.containers.ping().await {
            let next = format!("start {engine}, or name its socket with DOCKER_HOST");
            return vec![Fact::problem("container engine", error.to_string(), next)];
        }
        let mut facts = vec![Fact::ok("container engine", format!("{engine} answers"))];
        match self.containers.create_facts().await {
            Ok(found) => facts.extend(found.iter().flat_map(creates)),
            Err(error) => {
                let next = "ask again in half a minute; when it stays, look at the engine's log";
                facts.push(Fact::unknown(CREATES, chain(&error), next));
            }
        }
        facts
    }
}

/// Name of the fact about containers that their engine is creating.
const CREATES: &str = "container under creation";

/// What a container is, is its engine's word; annotations are its maker's, and grant nothing.
fn creates(found: &CreateFacts) -> [Fact; 2] {
    let told = match &found.lack {
        None => {
            let note = format!("image, name and labels are read from {}", found.source);
            Fact::ok(CREATES, note)
        }
        Some(lack) if lack.is_total => Fact::problem(CREATES, lack.note.clone(), lack.next.clone()),
        Some(lack) => Fact::warning(CREATES, lack.note.clone(), lack.next.clone()),
    };
    let engine = &found.engine;
    let note = match found.passes_annotations {
        true => format!(
            "{engine} hands them to OCI runtimes; they are passed on and grant nothing: image, name and labels are read from {}",
            found.source
        ),
        false => format!(
            "{engine} hands none to OCI runtimes, and none is needed: image, name and labels are read from {}",
            found.source
        ),
    };
    [told, Fact::ok("annotations", note)]
}

fn lease(status: &Status, length: Duration, policy: LeasePolicy) -> Fact {
    let after = match policy {
        LeasePolicy::Keep => "containers keep what they have",
        LeasePolicy::Withdraw => "containers lose what they have",
    };
    if status.is_lease_over {
        let note = format!("it is over: no start is served, and {after}");
        let next = "let the host reach its gateway: look at the bus, then at the gateway";
        return Fact::problem("lease", note, next);
    }
    let hours = length.as_secs() / 3600;
    let note = format!("{hours} h from the gateway's last word; then {after}");
    Fact::ok("lease", note)
}

fn host_cache(status: &Status, cache: &HostCache) -> Fact {
    let key = match cache {
        HostCache::Off => return Fact::ok("host cache", "off, as the configuration says"),
        HostCache::Keyring => "its key is in the kernel's keyring until the next boot",
        HostCache::KeyFile(_) => "its key is in a file",
        HostCache::SystemdCredential(_) => "its key is a systemd credential",
    };
    if status.is_cached {
        return Fact::ok("host cache", format!("on; {key}"));
    }
    if status.generation.is_none() {
        let next = "ask again in half a minute";
        return Fact::unknown("host cache", "not known before the first plan", next);
    }
    let note = "off: the kernel gave no keyring, so nothing starts after a restart of the injector until the gateway answers";
    let next =
        "keep the key elsewhere: `injector.host_cache = \"key-file\"` or `\"systemd-credential\"`";
    Fact::warning("host cache", note, next)
}

fn kernel(probed: Features) -> [Fact; 2] {
    let memory = match probed.best_kind() {
        FsKind::TmpfsNoswap => "tmpfs that is never swapped",
        FsKind::Ramfs => "ramfs, since this kernel's tmpfs can be swapped",
    };
    let (to_start, for_files) = (probed.missing_to_start(), probed.missing_for_files());
    let lack = match (to_start.as_slice(), for_files.as_slice()) {
        ([], []) => None,
        ([], missing) => Some((missing, "files are refused, variables are served")),
        (missing, _) => Some((missing, "nothing is served")),
    };
    let mounts = match lack {
        None => Fact::ok(
            "mount interface",
            "the kernel can place mounts in running containers",
        ),
        Some((missing, follows)) => {
            let note = format!("the kernel does not know {}: {follows}", missing.join(", "));
            let next = "use Linux 5.12 or newer, and no system call filter that takes that away";
            Fact::problem("mount interface", note, next)
        }
    };
    [Fact::ok("memory file system", memory), mounts]
}

fn containers(status: &Status) -> Fact {
    let (running, consumers) = (status.containers, status.consumers);
    let note = format!("{running} run, {consumers} hold something");
    if status.is_complete {
        return Fact::ok("containers", note);
    }
    let note = format!("{note}; not all were looked at yet");
    let next = "ask again in half a minute; when it stays, look at the injector's log";
    Fact::unknown("containers", note, next)
}

#[async_trait]
impl Look for HostLook {
    async fn look(&self) -> Seen {
        let status = self.handle.status();
        let mut facts = kernel(probe()).to_vec();
        facts.extend(self.engine().await);
        facts.push(containers(&status));
        facts.push(host_cache(&status, &self.cache));
        facts.push(lease(&status, self.lease, self.policy));
        if let Some(fault) = &status.gateway_fault {
            let next = "look at the bus, then at the gateway";
            facts.push(Fact::warning("gateway", fault.clone(), next));
        }
        Seen {
            reached: status.generation.map(Reached::Plan),
            facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_engine::port::container_host::Lack;
    use keywheel_engine::presence::Health;

    use super::*;

    #[test]
    fn a_lease_that_is_over_is_a_problem_and_a_missing_keyring_a_warning() {
        let length = Duration::from_secs(7200);
        let mut status = Status::default();
        let fact = lease(&status, length, LeasePolicy::Keep);
        assert_eq!(fact.health, Health::Ok);
        assert!(fact.note.starts_with("2 h"), "{}", fact.note);
        status.is_lease_over = true;
        let over = lease(&status, length, LeasePolicy::Withdraw);
        assert_eq!(over.health, Health::Problem);

        let seen = |status: &Status, cache| host_cache(status, cache).health;
        assert_eq!(seen(&status, &HostCache::Keyring), Health::Unknown);
        status.generation = Some(1);
        assert_eq!(seen(&status, &HostCache::Keyring), Health::Warning);
        assert_eq!(seen(&status, &HostCache::Off), Health::Ok);
        status.is_cached = true;
        assert_eq!(seen(&status, &HostCache::Keyring), Health::Ok);
    }

    #[test]
    fn what_the_kernel_lacks_is_named_and_what_files_need_is_a_problem() {
        let all = Features {
            noswap: true,
            mount_setattr: true,
            openat2: true,
            fsopen: true,
            move_mount: true,
            open_tree: true,
        };
        let [memory, mounts] = kernel(all);
        assert_eq!((memory.health, mounts.health), (Health::Ok, Health::Ok));
        assert!(memory.note.contains("tmpfs"), "{}", memory.note);

        let [memory, mounts] = kernel(Features {
            noswap: false,
            ..all
        });
        assert_eq!((memory.health, mounts.health), (Health::Ok, Health::Ok));
        assert!(memory.note.starts_with("ramfs"), "{}", memory.note);

        let no_openat2 = Features {
            openat2: false,
            ..all
        };
        let no_mounts = Features {
            mount_setattr: false,
            ..all
        };
        for (lacks, words) in [
            (
                no_openat2,
                "openat2: files are refused, variables are served",
            ),
            (no_mounts, "mount_setattr: nothing is served"),
        ] {
            let [_, mounts] = kernel(lacks);
            assert_eq!(mounts.health, Health::Problem, "{lacks:?}");
            assert!(mounts.note.ends_with(words), "{}", mounts.note);
            let next = mounts.next.as_deref().unwrap_or_default();
            assert!(next.contains("Linux 5.12"), "{lacks:?}: {next}");
        }
    }

    #[test]
    fn what_the_engine_lacks_is_named_with_what_follows_and_annotations_with_what_they_are_for() {
        let all = CreateFacts {
            engine: "Docker 24.0.7".to_owned(),
            source: "its list".to_owned(),
            lack: None,
            passes_annotations: true,
        };
        let [told, annotations] = creates(&all);
        assert_eq!((told.health, annotations.health), (Health::Ok, Health::Ok));
        assert!(told.note.contains("its list"), "{}", told.note);
        assert!(
            annotations.note.contains("passed on and grant nothing"),
            "{}",
            annotations.note
        );

        let [_, none] = creates(&CreateFacts {
            engine: "Docker 20.10.24".to_owned(),
            passes_annotations: false,
            ..all.clone()
        });
        assert_eq!(none.health, Health::Ok);
        assert!(
            none.note.starts_with("Docker 20.10.24 hands none"),
            "{}",
            none.note
        );
        for (is_total, health) in [(true, Health::Problem), (false, Health::Warning)] {
            let lack = Lack {
                is_total,
                note: "no files".to_owned(),
                next: "do that".to_owned(),
            };
            let [told, _] = creates(&CreateFacts {
                lack: Some(lack),
                ..all.clone()
            });
            assert_eq!((told.health, told.note.as_str()), (health, "no files"));
            assert_eq!(told.next.as_deref(), Some("do that"));
        }
    }
}
