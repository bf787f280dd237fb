//! What a Redis or Valkey server keeps of a user, and the rules that change it.
//!
//! Invariants: a rule holds what the server keeps of a password (its SHA-256), never the password; a
//! user that nobody may log in as accepts nothing, whatever it kept. Pure: it talks to nobody.

use keywheel_engine::port::accounts::Keep;
use keywheel_seal::SecretBytes;
use sha2::{Digest as _, Sha256};

/// How many passwords a user accepts beside each other.
pub const MAX_PASSWORDS: usize = 2;

/// What the server keeps of a password: 64 lower-case digits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash(String);

impl Hash {
    /// That of a password.
    pub(super) fn of(password: &SecretBytes) -> Self {
        // EXPOSE: what the server keeps is computed from it.
        let digest = Sha256::digest(password.expose());
        let mut text = String::with_capacity(64);
        for byte in digest {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    fn added(&self) -> String {
        format!("#{}", self.0)
    }

    fn removed(&self) -> String {
        format!("!{}", self.0)
    }
}

/// A user as the server keeps it.
pub(super) struct User {
    is_on: bool,
    /// Whether any password is let in.
    is_open: bool,
    hashes: Vec<Hash>,
    /// What it may do, in the server's own words.
    rules: Vec<String>,
}

/// Why a user is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It accepts [`MAX_PASSWORDS`] already.
    Full,
    /// It lets any password in.
    Open,
}

impl User {
    /// Finds a user among the lines of `ACL LIST`; the inner nothing is a line that is no text.
    pub(super) fn find(lines: &[Vec<u8>], name: &str) -> Option<Option<Self>> {
        let begin = format!("user {name} ").into_bytes();
        let line = lines
            .iter()
            .find_map(|line| line.strip_prefix(begin.as_slice()))?;
        Some(std::str::from_utf8(line).ok().map(Self::parse))
    }

    /// Reads the words behind a user's name.
    fn parse(line: &str) -> Self {
        let mut user = Self {
            is_on: false,
            is_open: false,
            hashes: Vec::new(),
            rules: Vec::new(),
        };
        for word in words(line) {
            match word.as_str() {
                "on" => user.is_on = true,
                "off" => user.is_on = false,
                "nopass" => user.is_open = true,
                _ => match word.strip_prefix('#') {
                    Some(hash) => user.hashes.push(Hash(hash.to_owned())),
                    None => user.rules.push(word),
                },
            }
        }
        user
    }

    /// Whether it has this password, or would once it is on; nothing where it lets any password in.
    pub(super) fn keeps(&self, password: &Hash) -> Option<bool> {
        (!self.is_open).then(|| self.hashes.contains(password))
    }

    /// The rules that make it accept a password; none when it does already.
    pub(super) fn accept(&self, new: &Hash, keep: Keep) -> Result<Vec<String>, Refusal> {
        let alone = vec!["resetpass".to_owned(), new.added(), "on".to_owned()];
        if !self.is_on {
            // What a locked user kept comes back to nobody.
            return Ok(alone);
        }
        match keep {
            Keep::Old if self.is_open => Err(Refusal::Open),
            Keep::Old if self.hashes.contains(new) => Ok(Vec::new()),
            Keep::Old if self.hashes.len() >= MAX_PASSWORDS => Err(Refusal::Full),
            Keep::Old => Ok(vec![new.added()]),
            Keep::Nothing if !self.is_open && self.hashes == [new.clone()] => Ok(Vec::new()),
            Keep::Nothing => Ok(alone),
        }
    }

    /// The rules after which it accepts this password no more, or none at all; none when that is so.
    pub(super) fn refuse(&self, old: Option<&Hash>) -> Result<Vec<String>, Refusal> {
        let dead = vec!["resetpass".to_owned(), "off".to_owned()];
        let Some(old) = old else {
            let is_dead = !self.is_on && !self.is_open && self.hashes.is_empty();
            return Ok(if is_dead { Vec::new() } else { dead });
        };
        if self.is_on && self.is_open {
            return Err(Refusal::Open);
        }
        match self.hashes.contains(old) {
            false => Ok(Vec::new()),
            true if self.hashes.len() == 1 => Ok(dead),
            true => Ok(vec![old.removed()]),
        }
    }

    /// The rules of a new user that may do the same and accepts one password.
    pub(super) fn like(&self, password: &Hash) -> Vec<String> {
        let begin = ["reset".to_owned(), "on".to_owned(), password.added()];
        begin
            .into_iter()
            .chain(self.rules.iter().cloned())
            .collect()
    }
}

/// Words between spaces; what stands in brackets is one word.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_within = false;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if is_within => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        is_within = (is_within || word.starts_with('(')) && !word.ends_with(')');
    }
    words
}

/// How many of a server's sessions are this user's and no younger than one; `list` is the answer to
/// `CLIENT LIST`.
pub(super) fn count_older(list: &str, name: &str, last: i64) -> u64 {
    let field = |line: &str, key: &str| {
        let mut fields = line.split(' ');
        fields.find_map(|field| field.strip_prefix(key).map(str::to_owned))
    };
    let is_older = |line: &&str| {
        let id = field(line, "id=").and_then(|id| id.parse::<i64>().ok());
        field(line, "user=").as_deref() == Some(name) && id.is_none_or(|id| id <= last)
    };
    let count = list.lines().filter(is_older).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis 7.0 prints it; the hash is that of "one".
    const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    const TWO: &str = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";

    fn hash(password: &str) -> Hash {
        Hash::of(&SecretBytes::from(password.as_bytes().to_vec()))
    }

    fn user(line: &str) -> User {
        let lines = [format!("user app {line}").into_bytes()];
        User::find(&lines, "app").unwrap().unwrap()
    }

    #[test]
    fn a_hash_is_what_the_server_makes_of_it() {
        assert_eq!((hash("one").0.as_str(), hash("two").0.as_str()), (ONE, TWO));
    }

    #[test]
    fn a_user_is_found_by_its_whole_name_and_its_rules_are_kept_in_order() {
        let line = format!(
            "on #{ONE} ~a:* %R~b:* resetchannels -@all +get (~c:* resetchannels &d -@all +set)"
        );
        let found = user(&line);
        assert!(found.is_on && !found.is_open && found.hashes == [hash("one")]);
        let rules = found.like(&hash("two"));
        let expected = format!(
            "reset on #{TWO} ~a:* %R~b:* resetchannels -@all +get (~c:* resetchannels &d -@all +set)"
        );
        assert_eq!(rules.join(" "), expected);
        assert_eq!(rules.len(), 9, "what stands in brackets is one rule");
        let lines = [b"user apple on".to_vec(), b"user app \xff".to_vec()];
        assert!(matches!(User::find(&lines, "app"), Some(None)));
        assert!(User::find(&lines, "ap").is_none());
        keywheel_testkit::hostile(line.as_bytes(), |bytes| {
            let _read = User::parse(&String::from_utf8_lossy(bytes));
        });
    }

    #[test]
    fn what_is_accepted_already_needs_no_rule() {
        let (one, two, three) = (hash("one"), hash("two"), hash("three"));
        let alone = user(&format!("on #{ONE} +@all"));
        assert_eq!(alone.accept(&one, Keep::Nothing), Ok(vec![]));
        assert_eq!(alone.accept(&one, Keep::Old), Ok(vec![]));
        assert_eq!(alone.accept(&two, Keep::Old), Ok(vec![format!("#{TWO}")]));
        let replaced = vec!["resetpass".to_owned(), format!("#{TWO}"), "on".to_owned()];
        assert_eq!(alone.accept(&two, Keep::Nothing), Ok(replaced.clone()));
        let both = user(&format!("on #{ONE} #{TWO} +@all"));
        assert_eq!(both.accept(&two, Keep::Old), Ok(vec![]));
        assert_eq!(both.accept(&three, Keep::Old), Err(Refusal::Full));
        assert_eq!(both.accept(&two, Keep::Nothing), Ok(replaced.clone()));
        let locked = user(&format!("off #{ONE} +@all"));
        assert_eq!(locked.accept(&two, Keep::Old), Ok(replaced));
        assert_eq!(
            user("on nopass +@all").accept(&one, Keep::Old),
            Err(Refusal::Open)
        );
    }

    #[test]
    fn the_last_password_takes_the_user_with_it() {
        let (one, two) = (hash("one"), hash("two"));
        let dead = vec!["resetpass".to_owned(), "off".to_owned()];
        let both = user(&format!("on #{ONE} #{TWO} +@all"));
        assert_eq!(both.refuse(Some(&one)), Ok(vec![format!("!{ONE}")]));
        assert_eq!(both.refuse(None), Ok(dead.clone()));
        let alone = user(&format!("on #{ONE} +@all"));
        assert_eq!(alone.refuse(Some(&two)), Ok(vec![]));
        assert_eq!(alone.refuse(Some(&one)), Ok(dead.clone()));
        // What a user keeps that was locked by hand would be good again once it is unlocked.
        let locked = user(&format!("off #{ONE} +@all"));
        assert_eq!(locked.refuse(Some(&one)), Ok(dead));
        assert_eq!(user("off +@all").refuse(None), Ok(vec![]));
        assert_eq!(user("on nopass").refuse(Some(&one)), Err(Refusal::Open));
    }

    #[test]
    fn sessions_are_counted_by_user_and_number() {
        let list = "id=3 addr=x name=user=app user=app resp=2\nid=9 user=app\nid=4 user=apple\nid=? user=app\n";
        assert_eq!(count_older(list, "app", 3), 2);
        assert_eq!(count_older(list, "app", 9), 3);
        assert_eq!(count_older("", "app", 9), 0);
    }
}
