//! What the admin of a PostgreSQL rotator needs, as statements for a person, and nothing beyond.
//!
//! Invariants: a test runs exactly these statements on a fresh server and then the whole conformance
//! suite with that admin; a name that would end the line of a comment is never printed.

use keywheel_core::resource::{Resource, Strategy};

use super::role::identifier;

/// What the name of the owner role ends in, where we have to name one.
const OWNER: &str = "_owner";

/// The statements, in the order in which they are run.
pub(super) fn text(resource: &Resource, admin: &str) -> String {
    let rotator = identifier(admin);
    let mut lines = vec![
        format!("-- For {resource}. Run this once there as a superuser; leave out what is there."),
        "-- Up to PostgreSQL 15 CREATEROLE reaches every account that is no superuser's; from 16 on only"
            .to_owned(),
        "-- those that are granted to it below.".to_owned(),
        format!("CREATE ROLE {rotator} LOGIN CREATEROLE;"),
    ];
    let accounts: Vec<String> = resource
        .accounts
        .iter()
        .map(|name| identifier(name))
        .collect();
    if resource.strategy == Strategy::AlternatingUsers
        && let (Some(name), Some(first)) = (resource.accounts.first(), accounts.first())
    {
        let owner = identifier(&format!("{name}{OWNER}"));
        lines.extend(one_owner(&owner, first, &rotator));
    }
    if let Some(first) = accounts.first() {
        lines.extend([
            "-- It gives this account its passwords, and sees and ends its sessions:".to_owned(),
            format!("GRANT {first} TO {rotator} WITH ADMIN OPTION;"),
        ]);
    }
    if let Some(second) = accounts.get(1) {
        lines.push(format!(
            "-- The rotator makes {second} like the first one. Where it is there: GRANT {second} TO {rotator} WITH ADMIN OPTION;"
        ));
    }
    lines.push(format!(
        "-- Give it a password with \\password {rotator} and put it into secret `{}`.",
        resource.admin
    ));
    lines.join("\n") + "\n"
}

/// One role has the rights that both accounts have.
fn one_owner(owner: &str, first: &str, rotator: &str) -> [String; 7] {
    [
        "-- One owner role has the rights, so that both accounts have the same:".to_owned(),
        format!("CREATE ROLE {owner} NOLOGIN;"),
        format!("GRANT {owner} TO {first};"),
        format!(
            "-- What belongs to the account itself goes to it: REASSIGN OWNED BY {first} TO {owner};"
        ),
        "-- What an account makes from now on belongs to the owner role:".to_owned(),
        format!("ALTER ROLE {first} SET role TO {owner};"),
        format!("GRANT {owner} TO {rotator} WITH ADMIN OPTION;"),
    ]
}
