//! The policy of Vault and OpenBao (HCL) that is enough for us, and nothing more.
//!
//! Owns the list of rights that a secret needs; `check` asks for the same list, so neither can forget
//! one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::store::{OldVersions, VaultSpec};

use crate::policy::{Access, Grant};

/// Rights by kind of endpoint.
type Needs = &'static [(&'static str, &'static [&'static str])];

/// To see a change, and to take a version.
const TO_READ: Needs = &[("data", &["read"]), ("metadata", &["read"])];
/// To make a version besides: `patch` keeps other fields, `create` and `update` are for a path where
/// nothing is or where it was deleted; `destroy` ends old versions; metadata notes who wrote.
const TO_WRITE: Needs = &[
    ("data", &["create", "patch", "read", "update"]),
    ("destroy", &["update"]),
    ("metadata", &["patch", "read"]),
];
/// The same where old versions are deleted; what is revoked is destroyed there, too.
const TO_WRITE_AND_DELETE: Needs = &[
    ("data", &["create", "patch", "read", "update"]),
    ("delete", &["update"]),
    ("destroy", &["update"]),
    ("metadata", &["patch", "read"]),
];
/// To see that a static role was rotated, and to take its password.
const TO_FOLLOW: Needs = &[("static-creds", &["read"]), ("static-roles", &["read"])];
/// To end a password of it that leaked; a follower who may not rotates by hand then.
const TO_REVOKE: Needs = &[("rotate-role", &["update"])];
/// To have it rotated besides.
const TO_ROTATE: Needs = &[
    ("rotate-role", &["update"]),
    ("static-creds", &["read"]),
    ("static-roles", &["read"]),
];
/// What every login needs for itself.
const OWN: [(&str, &str); 3] = [
    ("auth/token/lookup-self", "read"),
    ("auth/token/renew-self", "update"),
    ("sys/capabilities-self", "update"),
];

/// To make a login for a container and to end it, besides reading its role: each lease has a token of its own.
pub(super) const TO_LEASE: Needs = &[
    ("auth/token/create-orphan", &["update"]),
    ("auth/token/renew-accessor", &["update"]),
    ("auth/token/revoke-accessor", &["update"]),
    ("sys/leases/renew", &["update"]),
    ("sys/leases/revoke", &["update"]),
];
/// To look whether a lease that was revoked is gone; who may not has no proof of it, and all else works.
const TO_PROVE: Needs = &[("sys/leases/lookup", &["update"])];
/// What a role needs.
pub(super) const OF_ROLE: &[&str] = &["read"];

/// What a secret needs at its path.
pub(super) const fn needs(writes: bool, old_versions: OldVersions) -> Needs {
    match (writes, old_versions) {
        (false, _) => TO_READ,
        (true, OldVersions::Destroy) => TO_WRITE,
        (true, OldVersions::SoftDelete) => TO_WRITE_AND_DELETE,
    }
}

/// What a static role of a database engine needs.
pub(super) const fn static_needs(writes: bool) -> Needs {
    match writes {
        false => TO_FOLLOW,
        true => TO_ROTATE,
    }
}

/// The policy for these places.
pub(crate) fn text(spec: &VaultSpec, grants: &[Grant]) -> String {
    let mut writes = BTreeMap::new();
    let is_role = |grant: &&Grant| grant.source.field.is_empty();
    let roles = grants.iter().filter(is_role);
    let roles: BTreeSet<&str> = roles.map(|grant| grant.source.path.as_str()).collect();
    for grant in grants.iter().filter(|grant| !is_role(grant)) {
        let place = writes
            .entry(grant.source.path.as_str())
            .or_insert((false, grant.source.static_role()));
        place.0 |= grant.access == Access::Write;
    }
    let mut out = String::from("# What Keywheel needs, and nothing more.\n");
    if !spec.namespace.is_empty() {
        out.push_str(&format!(
            "# For namespace {}.\n",
            spec.namespace.escape_default()
        ));
    }
    for (path, right) in OWN {
        push(&mut out, path, &[right]);
    }
    for (path, (writes, role)) in writes {
        if path.contains(['*', '+']) {
            out.push_str("# `*` and `+` in a path stand for other paths too; name it otherwise.\n");
        }
        if let Some(role) = role {
            let mut grant = |needs: Needs| {
                for (kind, rights) in needs {
                    let path = format!("{}/{kind}/{}", role.mount, role.name);
                    push(&mut out, &path, rights);
                }
            };
            grant(static_needs(writes));
            if !writes {
                grant(TO_REVOKE);
            }
            continue;
        }
        for (kind, rights) in needs(writes, spec.old_versions) {
            push(&mut out, &format!("{}/{kind}/{path}", spec.mount), rights);
        }
    }
    for role in &roles {
        push(&mut out, role, OF_ROLE);
    }
    if !roles.is_empty() {
        // Without a right there nobody may ask what kind of engine is at the mount, as every check does.
        push(&mut out, &format!("{}/config", spec.mount), &["read"]);
        for (path, rights) in TO_LEASE.iter().chain(TO_PROVE) {
            push(&mut out, path, rights);
        }
    }
    out.push_str("# `keywheel import` lists names; add this while it runs:\n");
    for (kind, right) in [("metadata", "list"), ("subkeys", "read")] {
        let path = format!("{}/{kind}/*", spec.mount);
        out.push_str(&format!(
            "# path {path:?} {{ capabilities = [{right:?}] }}\n"
        ));
    }
    out
}

fn push(out: &mut String, path: &str, rights: &[&str]) {
    let rights: Vec<_> = rights.iter().map(|right| format!("\"{right}\"")).collect();
    out.push_str(&format!(
        "path {path:?} {{\n  capabilities = [{}]\n}}\n",
        rights.join(", ")
    ));
}
