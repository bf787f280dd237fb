//! `store …` and `refresh`: stores outside, and looking there now.

use keywheel_schemas::api::{
    ApplyAnswer, RefreshAnswer, RefreshRequest, StorePage, StoreSecret, StoreView,
};
use keywheel_schemas::mirror::Mirror as _;
use keywheel_stores::policy::{Access, Grant, policy};
use serde::Serialize;

use super::revoke::{confirm, require_person};
use super::rotate::with_nearest;
use super::{Desk, waiting};
use crate::args::{RefreshStoresArgs, StoreVerb};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{stores as texts, views};

pub(super) async fn run(desk: &Desk, verb: &StoreVerb) -> Result<(), Failure> {
    match verb {
        StoreVerb::List => list(desk).await,
        StoreVerb::Describe { name } => describe(desk, name).await,
        StoreVerb::Policy { name, writes } => print_policy(desk, name, *writes).await,
        StoreVerb::Remove { name, yes } => remove(desk, name, *yes).await,
    }
}

pub(super) async fn list(desk: &Desk) -> Result<(), Failure> {
    let stores: Vec<StoreView> = desk.client.read_all("/v1/stores").await?;
    desk.screen
        .show(&stores, |stores| texts::stores(stores, desk.screen.color))
}

async fn page(desk: &Desk, name: &str) -> Result<StorePage, Failure> {
    let path = format!("/v1/stores/{}", escape(name));
    desk.client.read(&path).await
}

/// One store as a line of the list.
pub(super) async fn one(desk: &Desk, name: &str) -> Result<(), Failure> {
    let found = page(desk, name).await?.store;
    desk.screen.show(&found, |found| {
        texts::stores(std::slice::from_ref(found), desk.screen.color)
    })
}

pub(super) async fn describe(desk: &Desk, name: &str) -> Result<(), Failure> {
    let page = page(desk, name).await?;
    desk.screen
        .show(&page, |page| texts::store(page, desk.screen.color))
}

/// Made here, from what was declared: nobody is asked for it but the gateway.
async fn print_policy(desk: &Desk, name: &str, writes: bool) -> Result<(), Failure> {
    let page = page(desk, name).await?;
    if !writes && page.secrets.iter().any(|secret| !secret.generated) {
        desk.screen.note(&format!(
            "For `keywheel secret put` to a secret without a generator: keywheel store policy {name} --writes"
        ));
    }
    let text = policy(&page.spec.into_core(), &grants(&page.secrets, writes));
    let answer = PolicyAnswer {
        store: page.store.name,
        policy: text,
    };
    desk.screen.show(&answer, |answer| answer.policy.clone())
}

/// The least rights at a store that one secret needs which lies there: of a role that gives logins, of a static
/// role or of a value.
pub(super) async fn policy_of(desk: &Desk, store: &str, secret: &str) -> Result<String, Failure> {
    let page = page(desk, store).await?;
    policy_for(page, secret).ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("secret {secret} does not lie in the store {store} any more"),
            "its manifest was applied anew; ask again",
        )
    })
}

fn policy_for(page: StorePage, secret: &str) -> Option<String> {
    let mut secrets = page.secrets;
    secrets.retain(|one| one.name == secret);
    let is_there = !secrets.is_empty();
    is_there.then(|| policy(&page.spec.into_core(), &grants(&secrets, false)))
}

/// `store policy` for programs.
#[derive(Debug, Serialize)]
struct PolicyAnswer {
    /// The store.
    store: String,
    /// The policy's text.
    policy: String,
}

/// What is done where: values that Keywheel makes are written, and with `writes` all others by a person.
fn grants(secrets: &[StoreSecret], writes: bool) -> Vec<Grant> {
    let grant = |secret: &StoreSecret| Grant {
        source: secret.source.clone().into_core(),
        access: match secret.generated || writes {
            true => Access::Write,
            false => Access::Read,
        },
    };
    secrets.iter().map(grant).collect()
}

async fn remove(desk: &Desk, name: &str, yes: bool) -> Result<(), Failure> {
    if !yes {
        require_person(desk.screen, "store remove")?;
        desk.screen.note(&format!(
            "This removes the store {name}: it is asked nothing any more. Nothing in it is touched."
        ));
        confirm(desk.screen, name)?;
    }
    let path = format!("/v1/stores/{}", escape(name));
    let answer: ApplyAnswer = desk.client.remove(&path).await?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, false, desk.screen.color)
    })
}

pub(super) async fn refresh(desk: &Desk, args: &RefreshStoresArgs) -> Result<(), Failure> {
    let request = RefreshRequest {
        secret: args.name.clone(),
    };
    let asked = desk.client.change::<RefreshAnswer>("/v1/refresh", &request);
    let answer = match (asked.await, &args.name) {
        (Ok(answer), _) => answer,
        (Err(failure), Some(name)) => return Err(with_nearest(desk, name, failure).await),
        (Err(failure), None) => return Err(failure),
    };
    desk.screen.show(&answer, |answer| {
        texts::refreshed(answer, desk.screen.color)
    })?;
    if args.wait.wait {
        let begun = answer
            .results
            .iter()
            .filter_map(|one| one.rotation.as_ref());
        for rotation in begun {
            waiting::rotation_quietly(desk, rotation, &args.wait).await?;
        }
    }
    let failed = answer.results.iter().filter(|one| one.found == "failed");
    match failed.count() {
        0 => Ok(()),
        failed => Err(Failure::new(
            Exit::Partial,
            format!(
                "{failed} of {} secrets could not be looked at",
                answer.results.len()
            ),
            "mend what is named above; containers keep what they have meanwhile",
        )),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::store as stores;
    use keywheel_schemas::api::HealthWord;
    use keywheel_schemas::event::store::{Source, StoreSpec};

    use super::*;

    fn lying_at(name: &str, path: &str, field: &str, generated: bool) -> StoreSecret {
        StoreSecret {
            name: name.to_owned(),
            source: Source {
                path: path.to_owned(),
                field: field.to_owned(),
            },
            known: None,
            written: false,
            current: None,
            generated,
        }
    }

    fn vault(secrets: Vec<StoreSecret>) -> StorePage {
        let backend = stores::Backend::Vault(stores::VaultSpec {
            address: "https://vault:8200".to_owned(),
            namespace: String::new(),
            mount: "secret".to_owned(),
            ca_file: String::new(),
            old_versions: stores::OldVersions::Destroy,
            auth: stores::VaultAuth::Token {
                token: stores::CredentialRef::File("/etc/token".to_owned()),
            },
        });
        StorePage {
            store: StoreView {
                name: "bao".to_owned(),
                kind: "vault".to_owned(),
                address: "https://vault:8200/secret".to_owned(),
                poll_seconds: 60,
                secrets: 0,
                health: HealthWord::Unknown,
                note: String::new(),
                next: None,
            },
            spec: StoreSpec::of(&stores::StoreSpec {
                backend,
                poll: stores::DEFAULT_POLL,
                timeout: stores::DEFAULT_TIMEOUT,
            }),
            secrets,
        }
    }

    #[test]
    fn a_secret_in_a_store_is_granted_what_it_needs_and_nothing_of_another() {
        let page = || {
            vault(vec![
                lying_at("shop/role", "/db/static-creds/shop", "password", true),
                lying_at("shop/login", "db/creds/app", "", false),
                lying_at("shop/key", "shop/key", "value", false),
            ])
        };
        for (name, has, has_not) in [
            (
                "shop/role",
                &["db/rotate-role/shop", "db/static-creds/shop"][..],
                &["db/creds/app", "sys/leases/revoke", "secret/data"][..],
            ),
            (
                "shop/login",
                &[
                    "db/creds/app",
                    "sys/leases/revoke",
                    "auth/token/create-orphan",
                ][..],
                &["rotate-role", "secret/data"][..],
            ),
            (
                "shop/key",
                &["secret/data/shop/key", "secret/metadata/shop/key"][..],
                &["destroy", "db/", "sys/leases"][..],
            ),
        ] {
            let text = policy_for(page(), name).unwrap();
            for path in has {
                assert!(text.contains(&format!("path \"{path}")), "{path}: {text}");
            }
            for path in has_not {
                assert!(!text.contains(path), "{path}: {text}");
            }
        }
        assert_eq!(policy_for(page(), "shop/other"), None);
    }

    #[test]
    fn what_keywheel_makes_is_written_and_the_rest_is_read() {
        let secret = |generated| lying_at("prod/db", "payments/db", "password", generated);
        let made = grants(&[secret(true), secret(false)], false);
        assert_eq!(
            (made[0].access, made[1].access),
            (Access::Write, Access::Read)
        );
        assert_eq!(made[0].source.path, "payments/db");
        let put = grants(&[secret(true), secret(false)], true);
        assert!(put.iter().all(|grant| grant.access == Access::Write));
    }
}
