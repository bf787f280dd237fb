//! Statements about one role: its password, its lock, and another one made like it.
//!
//! Invariants: a role is made whole or not at all; nothing mighty is ever made (no superuser, no maker
//! of roles). What a role owns or was granted by itself cannot be made alike: what both shall have
//! belongs to a role that both are members of.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Settings whose stored text is a list of quoted names: given again as one text they would be one name.
const LISTS: [&str; 2] = ["search_path", "temp_tablespaces"];

/// What is made alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    /// Whether it may do more than use what it was granted.
    is_mighty: bool,
    inherits: bool,
    /// Most sessions; -1 for any number.
    connections: i32,
    /// Roles that it is a member of.
    member_of: Vec<String>,
    settings: Vec<Setting>,
    /// Whether the admin needs to be made a member to see and end sessions.
    admin_joins: bool,
}

/// A setting of a role, in one database or everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    database: Option<String>,
    name: String,
    value: String,
}

impl Model {
    /// Why none is made like it.
    pub(super) fn refusal(&self, name: &str) -> Option<String> {
        if self.is_mighty {
            return Some(format!(
                "{name} is a superuser or may make roles, and no such account is made for you; make the second one yourself"
            ));
        }
        self.member_of.is_empty().then(|| {
            format!(
                "{name} is a member of no role, so a second account could not have its rights; `keywheel rotator grants NAME` prints how one owner role has them for both"
            )
        })
    }
}

/// A name in a statement.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in a statement.
fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    // Safe: every name and text in it went through `identifier` or `literal`.
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    statement.execute(connection).await.map(drop)
}

/// Whether a role may sign in; `None` when it is not there.
pub(super) async fn can_login(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar("SELECT rolcanlogin FROM pg_roles WHERE rolname::text = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// What the server keeps of a role's password; `None` when the role is not there or has none. It takes a
/// superuser.
pub(super) async fn verifier(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<String>, sqlx::Error> {
    let kept: Option<Option<String>> =
        sqlx::query_scalar("SELECT rolpassword FROM pg_authid WHERE rolname::text = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?;
    Ok(kept.flatten())
}

/// Whether a role's password is good no more by its time alone (`VALID UNTIL`).
pub(super) async fn is_expired(
    connection: &mut PgConnection,
    name: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname::text = $1 AND rolvaliduntil <= now())",
    )
    .bind(name)
    .fetch_one(connection)
    .await
}

/// Gives a role its password and unlocks it.
pub(super) async fn set_password(
    connection: &mut PgConnection,
    name: &str,
    verifier: &str,
) -> Result<(), sqlx::Error> {
    let (name, verifier) = (identifier(name), literal(verifier));
    run(
        connection,
        format!("ALTER ROLE {name} LOGIN PASSWORD {verifier}"),
    )
    .await
}

/// Takes a role's password and locks it.
pub(super) async fn lock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let name = identifier(name);
    run(
        connection,
        format!("ALTER ROLE {name} NOLOGIN PASSWORD NULL"),
    )
    .await
}

/// What another role is made like; `None` when it is not there.
pub(super) async fn read(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Model>, sqlx::Error> {
    let found: Option<(bool, bool, i32, bool)> = sqlx::query_as(
        "SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls, rolinherit, \
         rolconnlimit, (SELECT NOT rolsuper FROM pg_roles WHERE rolname = current_user) \
         FROM pg_roles WHERE rolname::text = $1",
    )
    .bind(name)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((is_mighty, inherits, connections, admin_joins)) = found else {
        return Ok(None);
    };
    let member_of = sqlx::query_scalar(
        "SELECT DISTINCT granted.rolname::text FROM pg_auth_members AS m \
         JOIN pg_roles AS granted ON granted.oid = m.roleid \
         JOIN pg_roles AS member ON member.oid = m.member \
         WHERE member.rolname::text = $1 ORDER BY 1",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    let rows: Vec<(Option<String>, String)> = sqlx::query_as(
        "SELECT d.datname::text, unnest(s.setconfig) FROM pg_db_role_setting AS s \
         JOIN pg_roles AS r ON r.oid = s.setrole \
         LEFT JOIN pg_database AS d ON d.oid = s.setdatabase \
         WHERE r.rolname::text = $1 ORDER BY 1 NULLS FIRST, 2",
    )
    .bind(name)
    .fetch_all(connection)
    .await?;
    let settings = rows.into_iter().filter_map(|(database, setting)| {
        let (name, value) = setting.split_once('=')?;
        Some(Setting {
            database,
            name: name.to_owned(),
            value: value.to_owned(),
        })
    });
    Ok(Some(Model {
        is_mighty,
        inherits,
        connections,
        member_of,
        settings: settings.collect(),
        admin_joins,
    }))
}

/// Makes a role, all of it or nothing.
pub(super) async fn make(
    connection: &mut PgConnection,
    name: &str,
    model: &Model,
    verifier: &str,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for statement in statements(name, model, verifier) {
        run(&mut transaction, statement).await?;
    }
    transaction.commit().await
}

fn statements(name: &str, model: &Model, verifier: &str) -> Vec<String> {
    let role = identifier(name);
    let inherit = match model.inherits {
        true => "INHERIT",
        false => "NOINHERIT",
    };
    let owners: Vec<String> = model
        .member_of
        .iter()
        .map(|owner| identifier(owner))
        .collect();
    let joins = match model.admin_joins {
        true => " ROLE CURRENT_USER",
        false => "",
    };
    let made = format!(
        "CREATE ROLE {role} LOGIN {inherit} CONNECTION LIMIT {} PASSWORD {} IN ROLE {}{joins}",
        model.connections,
        literal(verifier),
        owners.join(", ")
    );
    let settings = model.settings.iter();
    let settings = settings.flat_map(|setting| setting.statements(&role));
    std::iter::once(made).chain(settings).collect()
}

impl Setting {
    fn statements(&self, role: &str) -> Vec<String> {
        let within = self.database.as_deref().map(identifier);
        let within = within.map_or_else(String::new, |name| format!(" IN DATABASE {name}"));
        // An extension's own has a dot in its name, which stands between names.
        let parts: Vec<String> = self.name.split('.').map(identifier).collect();
        let (name, value) = (parts.join("."), literal(&self.value));
        if LISTS.contains(&self.name.as_str()) {
            return vec![
                format!("SELECT set_config({}, {value}, true)", literal(&self.name)),
                format!("ALTER ROLE {role}{within} SET {name} FROM CURRENT"),
            ];
        }
        vec![format!("ALTER ROLE {role}{within} SET {name} TO {value}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_one_name_and_one_text() {
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'"), r" E'a\\'''");
        assert_eq!(literal(r"a\' --"), r" E'a\\'' --'");
    }

    #[test]
    fn a_role_is_made_with_all_that_the_other_has() {
        let setting = |database: Option<&str>, name: &str, value: &str| Setting {
            database: database.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let model = Model {
            is_mighty: false,
            inherits: true,
            connections: 7,
            member_of: vec!["app_owner".to_owned(), "Reader".to_owned()],
            settings: vec![
                setting(None, "role", "app_owner"),
                setting(Some("shop"), "search_path", "\"$user\", public"),
                setting(None, "shop.tenant", "it's"),
            ],
            admin_joins: true,
        };
        assert_eq!(model.refusal("app"), None);
        assert_eq!(
            statements("app_b", &model, "SCRAM-SHA-256$x"),
            [
                "CREATE ROLE \"app_b\" LOGIN INHERIT CONNECTION LIMIT 7 PASSWORD 'SCRAM-SHA-256$x' IN ROLE \"app_owner\", \"Reader\" ROLE CURRENT_USER",
                "ALTER ROLE \"app_b\" SET \"role\" TO 'app_owner'",
                "SELECT set_config('search_path', '\"$user\", public', true)",
                "ALTER ROLE \"app_b\" IN DATABASE \"shop\" SET \"search_path\" FROM CURRENT",
                "ALTER ROLE \"app_b\" SET \"shop\".\"tenant\" TO 'it''s'",
            ]
        );
        let alone = Model {
            member_of: Vec::new(),
            ..model.clone()
        };
        assert!(
            alone
                .refusal("app")
                .is_some_and(|why| why.contains("no role"))
        );
        let mighty = Model {
            is_mighty: true,
            ..model
        };
        assert!(
            mighty
                .refusal("app")
                .is_some_and(|why| why.contains("superuser"))
        );
    }
}
