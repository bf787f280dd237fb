//! What an injector tells about itself and its host: the plan, the lease, the host cache, the container
//! engine and what the kernel offers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::container_host::ContainerHost;
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

    async fn engine(&self) -> Fact {
        match self.containers.ping().await {
            Ok(()) => {
                let note = format!("{} answers", self.containers.name());
                Fact::ok("container engine", note)
            }
            Err(error) => {
                let engine = self.containers.name();
                let next = format!("start {engine}, or name its socket with DOCKER_HOST");
                Fact::problem("container engine", error.to_string(), next)
            }
        }
    }
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
    let mounts = match probed.can_inject() {
        true => Fact::ok(
            "mount interface",
            "the kernel can place mounts in running containers",
        ),
        false => Fact::problem(
            "mount interface",
            "files cannot be placed in running containers",
            "use Linux 5.12 or later",
        ),
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
        facts.push(self.engine().await);
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
        for lacks in [no_openat2, no_mounts] {
            let [_, mounts] = kernel(lacks);
            assert_eq!(mounts.health, Health::Problem, "{lacks:?}");
            let next = mounts.next.as_deref().unwrap_or_default();
            assert!(next.contains("Linux 5.12"), "{lacks:?}: {next}");
        }
    }
}
