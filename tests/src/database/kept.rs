//! What a server keeps of its accounts and who is there, asked by the hand that may do everything: whom it lets in,
//! whether anybody else is left, and an account that goes while it stands by.

use std::fs;

use anyhow::{Result, ensure};
use keywheel_testkit::server::redis;

use super::{ADMIN, Database, Server};

/// Accounts at PostgreSQL and MariaDB that some password opens, a comma between them; neither the admin
/// nor the one who may do everything.
const ACCEPTED_AT_POSTGRES: &str = "SELECT coalesce(string_agg(rolname, ','), '') FROM pg_authid \
     WHERE rolcanlogin AND rolpassword IS NOT NULL AND NOT rolsuper AND rolname <> 'rotator'";
const ACCEPTED_AT_MARIADB: &str = "SELECT COALESCE(GROUP_CONCAT(User), '') FROM mysql.global_priv \
     WHERE User NOT IN ('keywheel', 'rotator') AND Priv LIKE '%\"authentication_string\":\"*%' \
     AND Priv NOT LIKE '%\"account_locked\":true%'";
/// Sessions and locks there that are of anybody but who asks.
const LEFT_AT_POSTGRES: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') + \
     (SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user)";
const LEFT_AT_MARIADB: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
     WHERE USER NOT IN ('keywheel', 'system user', 'event_scheduler')";

impl Database {
    /// The accounts that a password opens, at Redis each as often as there are such passwords.
    pub fn accepted(&self) -> Result<Vec<String>> {
        let list = match &self.server {
            Server::Postgres(_) => self.run(&[ACCEPTED_AT_POSTGRES])?.concat(),
            Server::MariaDb(_) => self.run(&[ACCEPTED_AT_MARIADB])?.concat(),
            Server::Redis(server) => {
                return accepted_at_redis(&fs::read_to_string(server.users())?);
            }
        };
        let names = list.split(',').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// Whether no session and no lock of anybody else is there.
    pub fn is_quiet(&self) -> Result<bool> {
        Ok(match &self.server {
            Server::Postgres(_) => self.run(&[LEFT_AT_POSTGRES])?.concat() == "0",
            Server::MariaDb(_) => self.run(&[LEFT_AT_MARIADB])?.concat() == "0",
            Server::Redis(_) => {
                let sessions = self.run(&["CLIENT LIST"])?;
                let mut sessions = sessions.iter().filter(|line| !line.is_empty());
                sessions.all(|line| line.contains(" user=keywheel "))
            }
        })
    }

    /// The account that is not this one is gone, where two take turns.
    pub fn drop_standby(&self, in_use: &str) -> Result<()> {
        let mut names = self.accounts.iter();
        let Some(standby) = names.find(|name| **name != in_use) else {
            return Ok(());
        };
        let statement = match &self.server {
            Server::Postgres(_) => format!("DROP ROLE IF EXISTS {standby}"),
            Server::MariaDb(_) => format!("DROP USER IF EXISTS {standby}@'%'"),
            Server::Redis(_) => format!("ACL DELUSER {standby}"),
        };
        self.run(&[&statement]).map(drop)
    }
}

/// Reads the file in which Redis keeps its users.
fn accepted_at_redis(kept: &str) -> Result<Vec<String>> {
    let mut accepted = Vec::new();
    for line in kept.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, name, rules @ ..] = words.as_slice() else {
            continue;
        };
        let is_other = [redis::USER, ADMIN, "default"].contains(name);
        if !is_other && rules.contains(&"on") {
            let hashes = rules.iter().filter(|word| word.starts_with('#'));
            accepted.extend(hashes.map(|_| (*name).to_owned()));
        }
    }
    ensure!(!kept.is_empty(), "Redis keeps no users");
    Ok(accepted)
}
