//! What a MariaDB server keeps of an account, and the statements that change it.
//!
//! Invariants: a statement holds what the server keeps of a password (its hash), never the password;
//! names are quoted so that no text in them becomes SQL. Pure: it talks to nobody.

use std::fmt;

use keywheel_seal::SecretBytes;
use serde_json::Value;
use sha1::{Digest as _, Sha1};

/// The way in that we know: a password, of which the server keeps SHA-1 twice.
const PLUGIN: &str = "mysql_native_password";
/// What no password has for a hash.
const NO_PASSWORD: &str = "invalid";
/// How many passwords an account accepts beside each other.
pub const MAX_PASSWORDS: usize = 2;
/// Limits of an account: as the server keeps them, and as a statement has them.
const LIMITS: [(&str, &str); 5] = [
    ("max_questions", "MAX_QUERIES_PER_HOUR"),
    ("max_updates", "MAX_UPDATES_PER_HOUR"),
    ("max_connections", "MAX_CONNECTIONS_PER_HOUR"),
    ("max_user_connections", "MAX_USER_CONNECTIONS"),
    ("max_statement_time", "MAX_STATEMENT_TIME"),
];

/// An account's two parts. `Display` is the form that statements take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) user: String,
    pub(super) host: String,
}

impl Who {
    /// Reads `user` or `user@host`.
    pub(super) fn parse(name: &str) -> Self {
        let (user, host) = name.rsplit_once('@').unwrap_or((name, "%"));
        Self {
            user: user.to_owned(),
            host: host.to_owned(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", quoted(&self.user), quoted(&self.host))
    }
}

/// A name as a statement takes it, whatever the SQL mode.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What the server keeps of a password, in its own form.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash(String);

impl Hash {
    /// That of a password.
    pub(super) fn of(password: &SecretBytes) -> Self {
        // EXPOSE: what the server keeps is computed from it.
        let twice = Sha1::digest(Sha1::digest(password.expose()));
        let mut text = String::with_capacity(41);
        text.push('*');
        for byte in twice {
            text.push_str(&format!("{byte:02X}"));
        }
        Self(text)
    }

    /// As the server keeps it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// One that the server shows; nothing when no password has it.
    pub(super) fn shown(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('*')?;
        let is_hash = digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hash.then(|| Self(text.to_ascii_uppercase()))
    }
}

/// An account as the server keeps it.
pub(super) struct Account {
    /// What it keeps, newest first; of that it accepts nothing while it is locked.
    kept: Vec<Hash>,
    is_locked: bool,
    /// A way in that is no password of ours.
    pub(super) other: Option<String>,
    pub(super) default_role: Option<String>,
    /// Whether it asks for a client's certificate, which nobody here has.
    pub(super) asks_certificate: bool,
    /// What a like account has behind its password; nothing when that asks for a client's certificate.
    pub(super) clauses: Option<String>,
}

impl Account {
    /// Reads a row of `mysql.global_priv`; nothing when it is not one.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let kept: Value = serde_json::from_str(json).ok()?;
        let kept = kept.as_object()?;
        let text = |of: &serde_json::Map<String, Value>, key: &str| {
            of.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let more = kept.get("auth_or").and_then(Value::as_array);
        // The first way stands outside; an empty place in the list is its own.
        let more = more.into_iter().flatten().filter_map(Value::as_object);
        let ways = std::iter::once(kept).chain(more.filter(|way| !way.is_empty()));
        let (mut hashes, mut other) = (Vec::new(), None);
        for way in ways {
            let plugin = text(way, "plugin").unwrap_or_else(|| PLUGIN.to_owned());
            if plugin != PLUGIN {
                other = Some(plugin);
                continue;
            }
            let shown = text(way, "authentication_string").unwrap_or_default();
            hashes.extend(Hash::shown(&shown));
        }
        let is_locked = kept.get("account_locked").and_then(Value::as_bool) == Some(true);
        Some(Self {
            kept: hashes,
            is_locked,
            other,
            default_role: text(kept, "default_role").filter(|role| !role.is_empty()),
            asks_certificate: kept.get("ssl_type").and_then(Value::as_u64) >= Some(2),
            clauses: clauses(kept),
        })
    }

    /// What it accepts now, newest first.
    pub(super) fn accepted(&self) -> &[Hash] {
        match self.is_locked {
            true => &[],
            false => &self.kept,
        }
    }

    /// Whether it accepts this password, or would once it is unlocked.
    pub(super) fn keeps(&self, password: &Hash) -> bool {
        self.kept.contains(password)
    }

    /// Whether it is locked, and no password is kept for when it is unlocked.
    pub(super) fn is_dead(&self) -> bool {
        self.is_locked && self.kept.is_empty() && self.other.is_none()
    }

    /// The statement that takes one password from it; nothing when it has not that one. What was locked
    /// stays so.
    pub(super) fn without(&self, who: &Who, old: &Hash) -> Option<String> {
        if !self.keeps(old) {
            return None;
        }
        let mut rest = self.kept.clone();
        rest.retain(|kept| kept != old);
        Some(match rest.is_empty() || self.is_locked {
            true => format!("ALTER USER {who} {} ACCOUNT LOCK", identified(&rest)),
            false => accept(who, &rest),
        })
    }
}

/// `REQUIRE …` and `WITH …` of an account; nothing when it asks for a client's certificate.
fn clauses(kept: &serde_json::Map<String, Value>) -> Option<String> {
    let mut clauses = match kept.get("ssl_type").and_then(Value::as_u64).unwrap_or(0) {
        0 => String::new(),
        1 => " REQUIRE SSL".to_owned(),
        _ => return None,
    };
    let mut word = " WITH";
    for (key, clause) in LIMITS {
        let limit = kept.get(key).filter(|limit| limit.is_number());
        if let Some(limit) = limit {
            clauses.push_str(&format!("{word} {clause} {limit}"));
            word = "";
        }
    }
    Some(clauses)
}

/// Makes an account that accepts one password.
pub(super) fn create(who: &Who, password: &Hash, clauses: &str) -> String {
    let ways = identified(std::slice::from_ref(password));
    format!("CREATE USER {who} {ways}{clauses}")
}

/// Has an account accept these passwords and no other, unlocked.
pub(super) fn accept(who: &Who, passwords: &[Hash]) -> String {
    format!("ALTER USER {who} {} ACCOUNT UNLOCK", identified(passwords))
}

/// Locks an account and takes every password from it.
pub(super) fn lock(who: &Who) -> String {
    format!("ALTER USER {who} {} ACCOUNT LOCK", identified(&[]))
}

fn identified(passwords: &[Hash]) -> String {
    let way = |hash: &str| format!("{PLUGIN} USING '{hash}'");
    let ways: Vec<_> = passwords.iter().map(|hash| way(&hash.0)).collect();
    match ways.is_empty() {
        true => format!("IDENTIFIED VIA {}", way(NO_PASSWORD)),
        false => format!("IDENTIFIED VIA {}", ways.join(" OR ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(password: &str) -> Hash {
        Hash::of(&SecretBytes::from(password.as_bytes().to_vec()))
    }

    #[test]
    fn a_hash_is_what_the_server_makes_of_it() {
        // SELECT PASSWORD('one'), PASSWORD('two') on MariaDB 10.11.
        assert_eq!(hash("one").0, "*74445CD742AF268FD22866DA0D12758951D638F7");
        assert_eq!(hash("two").0, "*A41BEE51488264C01B96DE959A9142AF1A75205E");
        assert!(Hash::shown("*a41bee51488264c01b96de959a9142af1a75205e") == Some(hash("two")));
        for shown in [
            "",
            "invalid",
            "*",
            "*74445CD7",
            "74445CD742AF268FD22866DA0D12758951D638F7",
        ] {
            assert!(Hash::shown(shown).is_none(), "{shown}");
        }
    }

    #[test]
    fn rows_as_the_server_keeps_them_are_read() {
        let (one, two) = (hash("one").0, hash("two").0);
        let both = format!(
            r#"{{"access":0,"version_id":101119,"plugin":"mysql_native_password","authentication_string":"{two}","default_role":"r_app","auth_or":[{{}},{{"plugin":"mysql_native_password","authentication_string":"{one}"}}],"ssl_type":1,"max_questions":7,"max_user_connections":5}}"#
        );
        let account = Account::parse(&both).unwrap();
        assert!(account.accepted() == [hash("two"), hash("one")]);
        assert_eq!(account.default_role.as_deref(), Some("r_app"));
        let clauses = " REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 7 MAX_USER_CONNECTIONS 5";
        assert_eq!(account.clauses.as_deref(), Some(clauses));
        assert!(account.other.is_none() && !account.is_dead() && !account.asks_certificate);
        let locked = format!(r#"{{"authentication_string":"{one}","account_locked":true}}"#);
        let locked = Account::parse(&locked).unwrap();
        assert!(locked.accepted().is_empty() && locked.keeps(&hash("one")) && !locked.is_dead());
        let dead = r#"{"plugin":"mysql_native_password","authentication_string":"invalid","account_locked":true,"auth_or":[{}]}"#;
        assert!(Account::parse(dead).unwrap().is_dead());
        let root = r#"{"access":18446744073709551615,"plugin":"mysql_native_password","authentication_string":"invalid","auth_or":[{},{"plugin":"unix_socket"}]}"#;
        let root = Account::parse(root).unwrap();
        assert_eq!(root.other.as_deref(), Some("unix_socket"));
        for certificate in [2, 3] {
            let account = Account::parse(&format!(r#"{{"ssl_type":{certificate}}}"#)).unwrap();
            assert!(account.asks_certificate && account.clauses.is_none());
        }
        assert!(Account::parse("[]").is_none());
        keywheel_testkit::hostile(both.as_bytes(), |bytes| {
            let _read = Account::parse(&String::from_utf8_lossy(bytes));
        });
    }

    #[test]
    fn what_a_locked_account_keeps_is_taken_from_it_and_it_stays_locked() {
        let (one, two, who) = (hash("one").0, hash("two").0, Who::parse("app"));
        let kept = |locked: bool, two: &str| {
            let json = format!(
                r#"{{"authentication_string":"{one}","auth_or":[{{}},{{"authentication_string":"{two}"}}],"account_locked":{locked}}}"#
            );
            Account::parse(&json).unwrap()
        };
        for (locked, end) in [(false, "' ACCOUNT UNLOCK"), (true, "' ACCOUNT LOCK")] {
            let changed = kept(locked, &two).without(&who, &hash("one")).unwrap();
            assert!(
                changed.contains(&two) && !changed.contains(&one),
                "{changed}"
            );
            assert!(changed.ends_with(end), "{changed}");
            assert_eq!(kept(locked, &two).without(&who, &hash("three")), None);
            let last = kept(locked, "invalid").without(&who, &hash("one"));
            assert_eq!(last, Some(lock(&who)));
        }
    }

    #[test]
    fn statements_hold_hashes_and_quoted_names() {
        let who = Who::parse("a`b@10.0.0.%");
        assert_eq!(who.to_string(), "`a``b`@`10.0.0.%`");
        assert_eq!(Who::parse("app").to_string(), "`app`@`%`");
        let accepted = accept(&Who::parse("app"), &[hash("two"), hash("one")]);
        assert_eq!(
            accepted,
            "ALTER USER `app`@`%` IDENTIFIED VIA mysql_native_password USING \
             '*A41BEE51488264C01B96DE959A9142AF1A75205E' OR mysql_native_password USING \
             '*74445CD742AF268FD22866DA0D12758951D638F7' ACCOUNT UNLOCK"
        );
        let locked = lock(&Who::parse("app"));
        let end = "IDENTIFIED VIA mysql_native_password USING 'invalid' ACCOUNT LOCK";
        assert!(locked.ends_with(end), "{locked}");
        let made = create(&Who::parse("app"), &hash("one"), " REQUIRE SSL");
        assert!(
            made.starts_with("CREATE USER `app`@`%` IDENTIFIED VIA "),
            "{made}"
        );
        assert!(made.ends_with("' REQUIRE SSL"), "{made}");
    }
}
