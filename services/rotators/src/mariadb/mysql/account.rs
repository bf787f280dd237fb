//! What a MySQL server keeps of an account, and the statements that change it: a primary password, and beside it
//! a secondary one, that was the primary one before.
//!
//! Invariants: a statement holds what the server keeps of a password, never the password; a primary password that
//! is set without `RETAIN CURRENT PASSWORD` leaves the secondary one as it is, so that one is always discarded by
//! itself; what is locked is unlocked last. Pure: it talks to nobody.

use keywheel_engine::port::accounts::Keep;
use keywheel_seal::SecretBytes;

use super::super::account::{Hash, MAX_PASSWORDS, Who};
use super::sha2::{DIGEST_CHARS, ROUNDS, SALT_BYTES, crypt, salt_of};

/// What no password has for a hash, by way in: as the server's own locked accounts have it.
const NO_NATIVE: &str = "*THISISNOTAVALIDPASSWORDTHATCANBEUSEDHERE";
const NO_SHA2: &str = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED";
/// What stands before the rounds, and how many digits of them there are.
const SHA2_PREFIX: &str = "$A$";
const ROUNDS_DIGITS: usize = 3;
/// Thousands of rounds where the server does not say how many it takes; as many as fit its digits at most.
const DEFAULT_ROUNDS: u32 = 5;
const MAX_ROUNDS: u32 = 0xFFF;
/// Bytes of a password above which a server lets nobody in by `caching_sha2_password`, though it takes what is kept
/// of one.
pub(super) const MAX_SHA2_PASSWORD: usize = 256;

/// A way in that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugin {
    Native,
    Sha2,
}

impl Plugin {
    fn of(name: &str) -> Option<Self> {
        match name {
            "mysql_native_password" => Some(Self::Native),
            "caching_sha2_password" => Some(Self::Sha2),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::Sha2 => "caching_sha2_password",
        }
    }

    const fn nothing(self) -> &'static str {
        match self {
            Self::Native => NO_NATIVE,
            Self::Sha2 => NO_SHA2,
        }
    }
}

/// What a server keeps of a password.
struct Kept(String);

impl Kept {
    /// Nothing where no password has it.
    fn shown(plugin: Plugin, text: &str) -> Option<Self> {
        let is_one = !text.is_empty() && text != plugin.nothing();
        is_one.then(|| Self(text.to_owned()))
    }

    /// Whether it is that of a password.
    fn is_of(&self, plugin: Plugin, password: &SecretBytes) -> bool {
        match plugin {
            Plugin::Native => Hash::shown(&self.0) == Some(Hash::of(password)),
            Plugin::Sha2 => parts(&self.0).is_some_and(|(rounds, salt, digest)| {
                // EXPOSE: what the server keeps is computed from it.
                crypt(password.expose(), salt, rounds * ROUNDS).as_bytes() == digest
            }),
        }
    }
}

/// Thousands of rounds, salt and digest.
fn parts(kept: &str) -> Option<(u32, &[u8], &[u8])> {
    let (rounds, rest) = kept
        .strip_prefix(SHA2_PREFIX)?
        .split_at_checked(ROUNDS_DIGITS)?;
    let rounds = u32::from_str_radix(rounds, 16).ok()?;
    let rest = rest.strip_prefix('$')?.as_bytes();
    let (salt, digest) = rest.split_at_checked(SALT_BYTES)?;
    (digest.len() == DIGEST_CHARS).then_some((rounds, salt, digest))
}

/// An account accepts as many passwords as it can.
#[derive(Debug)]
pub(super) struct Full;

/// An account as the server keeps it.
pub(super) struct Account {
    plugin: Option<Plugin>,
    /// How the server calls its way in.
    pub(super) way: String,
    primary: Option<Kept>,
    secondary: Option<Kept>,
    /// Whether an empty password opens it, which is kept as nothing at all.
    is_bare: bool,
    is_locked: bool,
    /// Whether it asks for more than a password.
    pub(super) asks_more: bool,
    /// Whether it asks for a client's certificate, which nobody here has.
    pub(super) asks_certificate: bool,
    /// Thousands of rounds that the server takes for a new password.
    rounds: u32,
}

impl Account {
    /// Reads a row: way in, primary, whether it is locked, secondary, whether it asks for a second factor, what
    /// it asks of TLS, and the server's rounds. Nothing when it is not one.
    pub(super) fn read(row: &[String]) -> Option<Self> {
        let [way, primary, locked, secondary, factors, tls, rounds] = row else {
            return None;
        };
        let rounds = rounds
            .parse::<u32>()
            .map_or(DEFAULT_ROUNDS, |rounds| rounds / ROUNDS);
        let plugin = Plugin::of(way);
        let kept = |text: &str| plugin.and_then(|plugin| Kept::shown(plugin, text));
        Some(Self {
            plugin,
            way: way.clone(),
            primary: kept(primary),
            secondary: kept(secondary),
            is_bare: plugin.is_some() && primary.is_empty(),
            is_locked: locked == "Y",
            asks_more: factors == "1",
            asks_certificate: matches!(tls.as_str(), "X509" | "SPECIFIED"),
            rounds: rounds.clamp(DEFAULT_ROUNDS, MAX_ROUNDS),
        })
    }

    /// Whether it lets in by a password alone, of which it keeps what we can make.
    pub(super) const fn is_ours(&self) -> bool {
        self.plugin.is_some() && !self.asks_more
    }

    /// Whether a login with this password would be turned away for its length.
    pub(super) fn is_too_long(&self, password: &SecretBytes) -> bool {
        // EXPOSE: its length is looked at.
        self.plugin == Some(Plugin::Sha2) && password.expose().len() > MAX_SHA2_PASSWORD
    }

    fn is(&self, kept: Option<&Kept>, password: &SecretBytes) -> bool {
        let both = self.plugin.zip(kept);
        both.is_some_and(|(plugin, kept)| kept.is_of(plugin, password))
    }

    /// Whether it accepts this password, or would once it is unlocked.
    pub(super) fn keeps(&self, password: &SecretBytes) -> bool {
        self.is(self.primary.as_ref(), password) || self.is(self.secondary.as_ref(), password)
    }

    /// Whether it is locked, and no password is kept for when it is unlocked.
    pub(super) const fn is_dead(&self) -> bool {
        self.is_locked && !self.is_bare && self.primary.is_none() && self.secondary.is_none()
    }

    /// How many passwords it accepts. A primary one that took the secondary one's place is both until that is
    /// discarded, which may never have been heard of.
    fn count(&self) -> usize {
        let kept = [&self.primary, &self.secondary].map(|kept| kept.as_ref().map(|kept| &kept.0));
        match kept {
            _ if self.is_locked => 0,
            [Some(primary), Some(secondary)] if primary != secondary => 2,
            [None, None] => 0,
            _ => 1,
        }
    }

    /// The statements that have it accept a password, unlocked; none when it does already. The salt is new.
    pub(super) fn accept(
        &self,
        who: &Who,
        (password, salt): (&SecretBytes, &[u8; SALT_BYTES]),
        keep: Keep,
    ) -> Result<Vec<String>, Full> {
        let Some(plugin) = self.plugin else {
            return Ok(Vec::new());
        };
        let has = !self.is_locked && self.keeps(password);
        match keep {
            Keep::Old if has => return Ok(Vec::new()),
            Keep::Nothing if has && self.count() == 1 => return Ok(Vec::new()),
            Keep::Old if self.count() >= MAX_PASSWORDS => return Err(Full),
            Keep::Old if self.count() == 1 => {
                let made = self.made(plugin, password, salt);
                let retain = self
                    .primary
                    .as_ref()
                    .map_or("", |_| " RETAIN CURRENT PASSWORD");
                return Ok(vec![format!("{}{retain}", set(who, plugin, &made))]);
            }
            Keep::Old | Keep::Nothing => {}
        }
        let mut statements = Vec::new();
        if !self.is(self.primary.as_ref(), password) {
            statements.push(set(who, plugin, &self.made(plugin, password, salt)));
        }
        statements.extend(self.secondary.as_ref().map(|_| discard(who)));
        if self.is_locked {
            statements.push(format!("ALTER USER {who} ACCOUNT UNLOCK"));
        }
        Ok(statements)
    }

    /// What the server is to keep of a password; with as many rounds as it takes now, or as the account had.
    fn made(&self, plugin: Plugin, password: &SecretBytes, drawn: &[u8; SALT_BYTES]) -> String {
        if plugin == Plugin::Native {
            return Hash::of(password).text().to_owned();
        }
        let before = self.primary.as_ref().and_then(|kept| parts(&kept.0));
        let rounds = before.map_or(self.rounds, |(rounds, _, _)| rounds.max(self.rounds));
        let salt = salt_of(drawn);
        // EXPOSE: what the server keeps is computed from it.
        let digest = crypt(password.expose(), salt.as_bytes(), rounds * ROUNDS);
        format!("{SHA2_PREFIX}{rounds:03X}${salt}{digest}")
    }

    /// The statements that take one password from it; none when it has not that one. What was locked stays so.
    pub(super) fn without(&self, who: &Who, old: &SecretBytes) -> Vec<String> {
        let is_first = self.is(self.primary.as_ref(), old);
        let is_second = self.is(self.secondary.as_ref(), old);
        match (
            is_first,
            is_second,
            self.plugin.zip(self.secondary.as_ref()),
        ) {
            (false, false, _) => Vec::new(),
            (false, true, _) => vec![discard(who)],
            (true, false, Some((plugin, other))) => vec![set(who, plugin, &other.0), discard(who)],
            (true, _, _) => self.lock(who),
        }
    }

    /// The statements that lock it, and take every password from it.
    pub(super) fn lock(&self, who: &Who) -> Vec<String> {
        let Some(plugin) = self.plugin else {
            return vec![format!("ALTER USER {who} ACCOUNT LOCK")];
        };
        let locked = format!("{} ACCOUNT LOCK", set(who, plugin, plugin.nothing()));
        let discarded = self.secondary.as_ref().map(|_| discard(who));
        std::iter::once(locked).chain(discarded).collect()
    }
}

fn discard(who: &Who) -> String {
    format!("ALTER USER {who} DISCARD OLD PASSWORD")
}

/// In hexadecimal digits, since a salt that the server drew may hold any sign.
fn set(who: &Who, plugin: Plugin, kept: &str) -> String {
    let mut digits = String::with_capacity(kept.len() * 2);
    for byte in kept.bytes() {
        digits.push_str(&format!("{byte:02X}"));
    }
    format!(
        "ALTER USER {who} IDENTIFIED WITH {} AS 0x{digits}",
        plugin.name()
    )
}

#[cfg(test)]
mod tests;
