//! `store …` and `refresh`: stores outside, and looking there now.

use keywheel_schemas::api::{ApplyAnswer, RefreshAnswer, RefreshRequest, StorePage, StoreView};

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
        StoreVerb::Remove { name, yes } => remove(desk, name, *yes).await,
    }
}

pub(super) async fn list(desk: &Desk) -> Result<(), Failure> {
    let stores: Vec<StoreView> = desk.client.read("/v1/stores").await?;
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
