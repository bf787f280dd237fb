//! Where what `init` makes lies once it is on its machine.

use std::path::{Path, PathBuf};

use keywheel_core::audit::Role;
use keywheel_schemas::subject::role_word;

use crate::args::InitArgs;

/// Where Linux keeps what a service needs, below the root.
const ETC: &str = "etc/keywheel";
const STATE: &str = "var/lib/keywheel";
const RUN: &str = "run/keywheel";
const BUS_STORE: &str = "var/lib/nats";

/// Directories on the services' machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Credentials, configurations, passwords.
    pub(super) etc: PathBuf,
    gateway_key: PathBuf,
    store_sync_key: PathBuf,
    state: PathBuf,
    run: PathBuf,
    /// Streams of the bus servers.
    pub(super) bus_store: PathBuf,
}

/// store-sync's unseal key lies beside the gateway's while everything is on one machine.
pub(super) fn store_sync_key(gateway_key: &Path) -> PathBuf {
    gateway_key.with_file_name(key_file(Role::StoreSync))
}

fn key_file(role: Role) -> String {
    format!("{}-unseal.key", role_word(role))
}

impl Places {
    /// As the arguments say: below a root, or where it was made.
    pub(super) fn of(args: &InitArgs) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let root = args.root.as_deref().map_or(PathBuf::from("/"), absolute);
        let (etc, gateway_key, store_sync_key) = if args.root.is_some() {
            let etc = root.join(ETC);
            let key = |role| etc.join(key_file(role));
            let keys = (key(Role::Gateway), key(Role::StoreSync));
            (etc, keys.0, keys.1)
        } else {
            let key = absolute(&args.key_file());
            let beside = store_sync_key(&key);
            (absolute(&args.out), key, beside)
        };
        Self {
            etc,
            gateway_key,
            store_sync_key,
            state: root.join(STATE),
            run: root.join(RUN),
            bus_store: args
                .bus_store
                .as_deref()
                .map_or(root.join(BUS_STORE), absolute),
        }
    }

    /// A service's credentials.
    pub(super) fn identity(&self, role: Role) -> PathBuf {
        self.etc.join(role_word(role))
    }

    /// What a service keeps.
    pub(super) fn data(&self, role: Role) -> PathBuf {
        self.state.join(role_word(role))
    }

    /// A service's unseal key, if it has one.
    pub(super) fn unseal_key(&self, role: Role) -> Option<&Path> {
        match role {
            Role::Gateway => Some(&self.gateway_key),
            Role::StoreSync => Some(&self.store_sync_key),
            _ => None,
        }
    }

    /// The gateway's socket for its own machine.
    pub(super) fn socket(&self) -> PathBuf {
        self.run.join("keywheel.sock")
    }
}
