//! Bodies about stores outside.

use keywheel_core::audit::Role;
use keywheel_core::command::{Command, Observation};
use keywheel_core::effect::Outside;
use keywheel_core::id::{RotationId, SecretId, StoreId};
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::resource::{Kind, Probe};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Place;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialNow, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, Found,
    Looked, NamedStore, News, OldVersions, PlannedUse, RemoteVersion, SecretNow, Source, StoreNow,
    StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_engine::port::bus::{Address, Body, Comparison, Held};
use keywheel_engine::unseal::{SealState, Shares};

const SECRET: SecretId = SecretId::from_bytes([2; 16]);

fn secret_name() -> SecretName {
    SecretName::parse("keywheel/token").unwrap()
}

pub(super) fn named(backend: Backend) -> NamedStore {
    NamedStore {
        name: StoreName::parse("outside").unwrap(),
        spec: StoreSpec {
            backend,
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    }
}

pub(super) fn vault(auth: VaultAuth) -> Backend {
    Backend::Vault(VaultSpec {
        address: "https://vault:8200".to_owned(),
        namespace: "team".to_owned(),
        mount: "kv".to_owned(),
        ca_file: "/ca.pem".to_owned(),
        old_versions: OldVersions::SoftDelete,
        auth,
    })
}

fn aws(auth: AwsAuth) -> Backend {
    Backend::Aws(AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: "http://127.0.0.1:1".to_owned(),
        auth,
    })
}

/// One of every way to log in.
fn backends() -> Vec<Backend> {
    let file = || CredentialRef::File("/f".to_owned());
    let secret = || CredentialRef::Secret(secret_name());
    let mount = || "m".to_owned();
    vec![
        vault(VaultAuth::Token { token: secret() }),
        vault(VaultAuth::AppRole {
            mount: mount(),
            role_id: "r".to_owned(),
            secret_id: file(),
            wrapped: true,
        }),
        vault(VaultAuth::Cert {
            mount: mount(),
            role: String::new(),
            certificate: file(),
            key: file(),
        }),
        vault(VaultAuth::Jwt {
            mount: mount(),
            role: "r".to_owned(),
            token: file(),
        }),
        aws(AwsAuth::Chain {
            profile: "p".to_owned(),
        }),
        aws(AwsAuth::Keys {
            access_key_id: "AKID".to_owned(),
            secret_access_key: secret(),
            session_token: None,
        }),
        aws(AwsAuth::Keys {
            access_key_id: "ASID".to_owned(),
            secret_access_key: secret(),
            session_token: Some(file()),
        }),
    ]
}

fn credentials() -> Vec<CredentialNow> {
    vec![CredentialNow {
        name: secret_name(),
        secret: SECRET,
        version: Some(3),
    }]
}

fn remote(text: &str) -> RemoteVersion {
    RemoteVersion(text.to_owned())
}

fn source() -> Source {
    Source {
        path: "db".to_owned(),
        field: String::new(),
    }
}

/// What a step names that works outside.
pub(super) fn outside() -> Outside {
    Outside {
        store: named(aws(AwsAuth::Chain {
            profile: String::new(),
        })),
        source: source(),
        known: Some(remote("6")),
        fetch: Some(remote("7")),
        retire: vec![remote("4"), remote("5")],
        unstage: None,
        probe: Some(Box::new(Probe {
            kind: Kind::Postgres,
            connection: "postgres://db.example/shop".to_owned(),
            ca: Some("/ca.pem".to_owned()),
        })),
    }
}

/// What store-sync submits about stores.
pub(super) fn commands() -> [Command; 4] {
    let rotation = RotationId::from_bytes([1; 16]);
    let seen = Observation {
        secret: SECRET,
        rotation,
        known: Some(remote("6")),
        found: Some(remote("7")),
        is_unchanged: true,
        is_gone: false,
    };
    let finished = Command::StepOutcome {
        rotation,
        step: Step::Finish,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: Some(remote("7")),
        sessions: None,
    };
    let contact = |failure: Option<&str>| Command::StoreContact {
        store: StoreId::from_bytes([5; 16]),
        failure: failure.map(str::to_owned),
    };
    let (lost, found) = (contact(Some("it is sealed")), contact(None));
    [Command::Observed(seen), finished, lost, found]
}

fn check() -> Body {
    let token = CredentialRef::Secret(secret_name());
    Body::CheckStore {
        store: Box::new(named(vault(VaultAuth::Token { token }))),
        credentials: credentials(),
        places: vec![PlannedUse {
            source: source(),
            writes: true,
        }],
    }
}

/// Every request about stores.
pub(super) fn requests() -> Vec<(Role, Address, Body)> {
    let look = |secret| (Role::Gateway, Address::StoreSync, Body::LookNow { secret });
    let read = Body::ReadStores {
        after: 8,
        wait: true,
    };
    vec![
        (Role::StoreSync, Address::Gateway, read),
        (Role::Gateway, Address::StoreSync, check()),
        look(Some(SECRET)),
        look(None),
        (Role::Gateway, Address::StoreSync, compare()),
        (Role::Gateway, Address::StoreSync, Body::ReadSeal),
        (
            Role::Gateway,
            Address::StoreSync,
            Body::Unseal {
                offered: vec![0, 9, 255],
            },
        ),
        (Role::Gateway, Address::StoreSync, Body::Seal),
        (Role::Gateway, Address::StoreSync, Body::RotateKek),
    ]
}

fn compare() -> Body {
    Body::Compare(Comparison {
        sealed_key: vec![3; 130],
        digests: vec![[4; 32], [5; 32]],
        among: vec![(SECRET, 1), (SECRET, u64::MAX)],
    })
}

pub(super) fn compared() -> Body {
    Body::Compared(vec![Held {
        token: 1,
        secret: SECRET,
        version: u64::MAX,
    }])
}

pub(super) fn seal_state(shares: Option<Shares>) -> Body {
    Body::SealState(SealState {
        sealed: shares.is_some(),
        provider: "shamir".to_owned(),
        key: [8; 32],
        shares,
        kek_rows_left: shares.map(|_| u64::MAX),
    })
}

pub(super) fn tried() -> Body {
    Body::Tried(vec!["2 places were not checked".to_owned()])
}

pub(super) fn looked() -> Body {
    let found = [
        Found::Unchanged,
        Found::Changed,
        Found::Busy,
        Found::Absent,
        Found::Failed {
            reason: "it is sealed; unseal it".to_owned(),
        },
    ];
    let looked = |found| Looked {
        secret: SECRET,
        found,
    };
    Body::Looked(found.map(looked).to_vec())
}

pub(super) fn news() -> Body {
    let now = |store: Option<NamedStore>| StoreNow {
        id: StoreId::from_bytes([4; 16]),
        is_stale: store.is_some(),
        store,
        credentials: credentials(),
    };
    let mut stores: Vec<StoreNow> = backends()
        .into_iter()
        .map(|b| now(Some(named(b))))
        .collect();
    stores.push(now(None));
    let secret = |place: Option<Place>| SecretNow {
        secret: SECRET,
        name: secret_name(),
        known: place.is_some().then(|| RemoteVersion("7".to_owned())),
        current: place.is_some().then_some(2),
        is_passed_over: place.is_some(),
        leases: place
            .iter()
            .map(|_| RemoteVersion("accessor:lease:3600".to_owned()))
            .collect(),
        place,
        is_generated: true,
        is_rotating: false,
    };
    let place = Place {
        store: StoreName::parse("outside").unwrap(),
        source: Source {
            path: "payments/db".to_owned(),
            field: "password".to_owned(),
        },
    };
    Body::Stores(Box::new(News {
        through: 9,
        more: true,
        stores,
        secrets: vec![secret(Some(place)), secret(None)],
    }))
}
