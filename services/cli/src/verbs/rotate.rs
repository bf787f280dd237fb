//! `rotate`, what it would do, and the nearest name for one that does not exist.

use keywheel_schemas::api::{RotateRequest, RotationPlan, RotationView, SecretView};

use super::{Desk, waiting};
use crate::args::RotateArgs;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::rotations as views;

/// Most edits between a name and the one that is suggested for it.
const MAX_EDITS: usize = 3;

pub(super) async fn rotate(desk: &Desk, args: &RotateArgs) -> Result<(), Failure> {
    if args.dry_run {
        return plan(desk, &args.name).await;
    }
    let request = RotateRequest {
        secret: args.name.clone(),
    };
    match desk
        .client
        .change::<RotationView>("/v1/rotate", &request)
        .await
    {
        Ok(begun) => waiting::rotation(desk, begun, &args.wait).await,
        Err(failure) => Err(with_nearest(desk, &args.name, failure).await),
    }
}

/// Shows what a rotation would do; a plan with something in the way is no success.
async fn plan(desk: &Desk, name: &str) -> Result<(), Failure> {
    let path = format!("/v1/rotation-plan/{}", escape(name));
    let plan: RotationPlan = match desk.client.read(&path).await {
        Ok(plan) => plan,
        Err(failure) => return Err(with_nearest(desk, name, failure).await),
    };
    desk.screen
        .show(&plan, |plan| views::plan(plan, desk.screen.color))?;
    if plan.blockers.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Partial,
        format!(
            "{} things are in the way of a rotation of {name}",
            plan.blockers.len()
        ),
        "do what stands in each of them above; nothing was begun",
    ))
}

/// Adds the nearest secret's name to "no such secret".
pub(super) async fn with_nearest(desk: &Desk, name: &str, failure: Failure) -> Failure {
    if failure.exit != Exit::NotFound || failure.what.contains("did you mean") {
        return failure;
    }
    let Ok(secrets) = desk.client.read_all::<SecretView>("/v1/secrets").await else {
        return failure;
    };
    let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
    match nearest(name, &names) {
        Some(near) => failure.with_next(format!(
            "did you mean `{near}`? `keywheel get secrets` lists all"
        )),
        None => failure.with_next("`keywheel get secrets` lists all"),
    }
}

/// The name with the fewest edits, if they are few.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let edits = |known: &str| strsim::damerau_levenshtein(name, known);
    names
        .iter()
        .map(|known| (edits(known), *known))
        .filter(|(edits, _)| *edits <= MAX_EDITS)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_found_and_a_far_one_is_not() {
        let names = ["prod/db", "prod/api", "test/kept"];
        assert_eq!(nearest("test/kepd", &names), Some("test/kept"));
        assert_eq!(nearest("prod/bd", &names), Some("prod/db"));
        assert_eq!(nearest("stage/other", &names), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
