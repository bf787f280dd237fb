//! What the admin of a MariaDB rotator needs, as statements for a person, and how grants are read.
//!
//! Invariant: a test runs exactly these statements on a fresh server and then the whole conformance
//! suite with that admin.

use keywheel_core::resource::{Resource, Strategy};

use super::account::quoted;

/// How a connection to a MySQL server begins; which kind answers is told by the server itself.
const MYSQL: &str = "mysql://";

/// The statements, in the order in which they are run.
pub(super) fn text(resource: &Resource, admin: &str) -> String {
    let admin = format!("{}@'%'", quoted(admin));
    if resource.connection.starts_with(MYSQL) {
        return at_mysql(resource, &admin);
    }
    let mut lines = vec![
        format!("-- For {resource}. Run this once there as a superuser."),
        "-- CREATE USER changes every account of the server, and no data; PROCESS and CONNECTION ADMIN"
            .to_owned(),
        "-- see and end sessions; the server's own tables tell what an account accepts.".to_owned(),
        format!("CREATE USER IF NOT EXISTS {admin} ACCOUNT LOCK;"),
        format!("GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO {admin};"),
        format!("GRANT SELECT ON mysql.* TO {admin};"),
    ];
    if resource.strategy == Strategy::AlternatingUsers {
        lines.extend([
            "-- Both accounts have their rights by roles alone; for each of these roles:"
                .to_owned(),
            format!("-- GRANT `role` TO {admin} WITH ADMIN OPTION;"),
        ]);
    }
    lines.push(format!(
        "-- Put its password into secret `{}`: ALTER USER {admin} IDENTIFIED BY '…' ACCOUNT UNLOCK;",
        resource.admin
    ));
    lines.join("\n") + "\n"
}

/// The same for MySQL, which has its tables elsewhere, and accounts that take turns have to be there.
fn at_mysql(resource: &Resource, admin: &str) -> String {
    let mut lines = vec![
        format!("-- For {resource}, a MySQL server from 8.0.22 on. Run this once there as a superuser."),
        "-- Of a MariaDB server the connection begins with mariadb://, and the rights are others.".to_owned(),
        "-- CREATE USER changes every account of the server but those with SYSTEM_USER, and no data; PROCESS and"
            .to_owned(),
        "-- CONNECTION_ADMIN see and end sessions; mysql.user tells what an account accepts.".to_owned(),
        format!("CREATE USER IF NOT EXISTS {admin} ACCOUNT LOCK;"),
        format!("GRANT CREATE USER, PROCESS, CONNECTION_ADMIN ON *.* TO {admin};"),
        format!("GRANT SELECT ON mysql.user TO {admin};"),
        format!("GRANT SELECT ON performance_schema.global_status TO {admin};"),
    ];
    if resource.strategy == Strategy::AlternatingUsers {
        lines.push(
            "-- Both accounts have to be there, with the same rights: none is made.".to_owned(),
        );
    }
    lines.push(format!(
        "-- Put its password into secret `{}`: ALTER USER {admin} IDENTIFIED BY '…' ACCOUNT UNLOCK;",
        resource.admin
    ));
    lines.join("\n") + "\n"
}

/// Whether a line of `SHOW GRANTS` gives rights on something, rather than a role or nothing.
pub(super) fn is_own_right(grant: &str) -> bool {
    grant.starts_with("GRANT ")
        && !grant.starts_with("GRANT `")
        && !grant.starts_with("GRANT USAGE ON *.* ")
}

/// Whether a line of `SHOW GRANTS` lets its owner see sessions of others.
pub(super) fn shows_sessions(grant: &str) -> bool {
    let Some((rights, _)) = grant.split_once(" ON *.* TO ") else {
        return false;
    };
    let rights = rights.strip_prefix("GRANT ").unwrap_or(rights);
    let mut rights = rights.split(", ");
    rights.any(|right| matches!(right, "PROCESS" | "ALL PRIVILEGES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_grants_are_told_apart() {
        for (grant, own, shows) in [
            ("GRANT `r_app` TO `a`@`%`", false, false),
            (
                "GRANT USAGE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*00'",
                false,
                false,
            ),
            ("SET DEFAULT ROLE `r_app` FOR `a`@`%`", false, false),
            (
                "GRANT SELECT, INSERT (`n`) ON `d`.`t` TO `x`@`%`",
                true,
                false,
            ),
            ("GRANT PROCESS, CREATE USER ON *.* TO `kw`@`%`", true, true),
            (
                "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION",
                true,
                true,
            ),
            ("GRANT SELECT ON `PROCESS`.* TO `x`@`%`", true, false),
        ] {
            assert_eq!(is_own_right(grant), own, "{grant}");
            assert_eq!(shows_sessions(grant), shows, "{grant}");
        }
    }
}
