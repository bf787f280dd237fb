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
    use keywheel_schemas::event::store::Source;

    use super::*;

    #[test]
    fn what_keywheel_makes_is_written_and_the_rest_is_read() {
        let secret = |generated| StoreSecret {
            name: "prod/db".to_owned(),
            source: Source {
                path: "payments/db".to_owned(),
                field: "password".to_owned(),
            },
            known: None,
            written: false,
            current: None,
            generated,
        };
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
