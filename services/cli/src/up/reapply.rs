//! What is known of the time that an accepted log lost is made so again: what died stays dead, and no number that was
//! given out means another value. Done before any service that gives out or makes something runs.
//!
//! Invariants: only commands change anything, each under an id derived from the restore, so a repeat after a crash
//! changes nothing; what cannot be made so is told, never left out; no request that takes several people stays good,
//! for nobody knows here whether it was used, denied or taken back.

use std::fmt;

use keywheel_audit_sink::KeptRecords;
use keywheel_core::approval::{self, MAX_APPROVAL_REASON_CHARS};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::command::{BuryLost, Command};
use keywheel_core::decision::MAX_BURIED;
use keywheel_core::id::{ApprovalId, CommandId, DeploymentId, RevocationId, RotationId};
use keywheel_core::name::SecretName;
use keywheel_core::time::Timestamp;
use keywheel_core::token::{self, MAX_TOKEN_REASON_CHARS, Token};
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::presence::Fact;
use keywheel_gateway::tokens::MAX_TAKEN;
use keywheel_seal::digest;

use super::error::{Error, Kind};
use super::restored::{self, Note, Person, Restored};
use super::{Opened, restored::SINK};
use crate::backup::older::{Lost, LostTime};
use crate::wiring::Ends;

/// Name of what `keywheel status` says of it.
const FACT: &str = "restored";
/// Who is named as ending what ends here.
const BY_LOST_LOG: &str = "the log that was lost";
/// Most names that one text lists.
const MAX_NAMED: usize = 20;
/// Most commands with which one secret's numbers are buried.
const MAX_BURIALS: u64 = 64;

/// What came of it.
#[derive(Debug, Default)]
struct Told {
    revoked: Vec<String>,
    rotated: Vec<String>,
    /// Nobody can make these here: a person gives their value.
    without: Vec<String>,
    /// Made after the backup: this log has no such secret.
    unknown: Vec<String>,
    refused: Vec<String>,
    /// Tokens that opened again what they did.
    tokens: Vec<String>,
    /// Tokens that had uses again which were made.
    used: Vec<String>,
    /// Hosts that were trusted again.
    evicted: Vec<String>,
    /// Requests that would have been good again, or open.
    ended: Vec<String>,
}

/// A secret as this log has it.
struct Here {
    last_version: u64,
    /// Versions alive that died in the lost time.
    dead: Vec<u64>,
}

/// How it is once what died is dead.
enum After {
    /// It has a current version, or one is on its way.
    Serves,
    /// A rotation makes one.
    Rotates,
    /// Only a person has one.
    Waits,
}

/// Makes it so; says what `keywheel status` is to say while this process lives.
pub(super) async fn reapply(
    opened: &Opened,
    restored: &Restored,
    ends: &Ends,
) -> Result<Option<Fact>, Error> {
    let again = |note| Again {
        deployment: opened.installation.deployment,
        now: opened.clock.now(),
        note,
        ends,
        by: accepted_by(note),
    };
    let Some(note) = &restored.note else {
        let Some(note) = &restored.unknown else {
            return Ok(None);
        };
        let fact = again(note).requests_alone().await?;
        restored::forget(&opened.config.data_dir)?;
        return Ok(fact);
    };
    let lost = lost_time(opened, note).await?;
    let again = again(note);
    let mut told = Told::default();
    // Nothing of it goes to a store or a host before the sinks run, and they run after it.
    ends.presences.set_lenient(true);
    again.hosts(&lost, &mut told).await?;
    for (name, lost) in &lost.secrets {
        again.secret(name, lost, &mut told).await?;
    }
    again.tokens(&lost, &mut told).await?;
    again.requests(&mut told).await?;
    ends.presences.set_lenient(false);
    let words = told.words(&lost);
    let reason = (Outcome::Allowed, words.clone());
    let record = restored::record(opened, again.by.clone(), "restored", reason);
    ends.handle.record(record).await?;
    tracing::warn!(reason = words, "an older log was restored");
    restored::forget(&opened.config.data_dir)?;
    Ok(Some(Fact::warning(FACT, told.numbers(&lost), told.next())))
}

async fn lost_time(opened: &Opened, note: &Note) -> Result<LostTime, Error> {
    let path = restored::aside_of(note, &opened.config.data_dir).map(|aside| aside.join(SINK));
    let Some(path) = path.filter(|path| path.exists()) else {
        return Ok(LostTime::default());
    };
    let unread = |why: String| {
        let next =
            "free what is named above and start again: what died after the backup is read from it";
        Error::new(Kind::Unavailable, why, next)
    };
    let sink = KeptRecords::open(&path).await;
    let mut sink = sink.map_err(|error| unread(keywheel_daemon::chain(&error)))?;
    let lost = LostTime::read(&mut sink, note.records).await;
    let closed = sink.close().await;
    closed.map_err(|error| unread(keywheel_daemon::chain(&error)))?;
    lost.map_err(unread)
}

/// Who accepted it last: nobody's word came after that. Where nobody had to, who restored it.
fn accepted_by(note: &Note) -> Principal {
    let last = note.accepted.last().map(|one| &one.by);
    last.or(note.by.as_ref()).map_or(
        Principal::Service(keywheel_core::audit::Role::Gateway),
        Person::principal,
    )
}

/// What one secret after the other is gone through with.
struct Again<'r> {
    deployment: DeploymentId,
    now: Timestamp,
    note: &'r Note,
    ends: &'r Ends,
    by: Principal,
}

impl Again<'_> {
    async fn secret(&self, name: &SecretName, lost: &Lost, told: &mut Told) -> Result<(), Error> {
        let Some(here) = self.here(name, lost) else {
            told.unknown.push(name.to_string());
            return Ok(());
        };
        for version in &here.dead {
            let what = format!("revoke/{version}");
            let command = Command::Revoke {
                revocation: RevocationId::from_bytes(self.id(name, &format!("{what}/run"))),
                secret: name.clone(),
                version: Some(*version),
                reason: self.reason(),
                is_emergency: false,
            };
            if self.submit(name, &what, command, told).await? {
                told.revoked.push(format!("{name} version {version}"));
            }
        }
        self.bury(name, (here.last_version, lost.highest), told)
            .await?;
        match self.after(name, lost) {
            After::Serves => {}
            After::Waits => told.without.push(name.to_string()),
            After::Rotates => {
                let command = Command::Rotate {
                    rotation: RotationId::from_bytes(self.id(name, "rotate/run")),
                    secret: name.clone(),
                };
                if self.submit(name, "rotate", command, told).await? {
                    told.rotated.push(name.to_string());
                }
            }
        }
        Ok(())
    }

    /// Those that were evicted; one that joined again afterwards has to once more.
    async fn hosts(&self, lost: &LostTime, told: &mut Told) -> Result<(), Error> {
        for name in &lost.hosts {
            let host = {
                let committed = self.ends.view.read();
                committed.world.host_named(name).map(|known| known.id)
            };
            // One that joined after the backup is not known here.
            let Some(host) = host else { continue };
            let command = Command::EvictHost {
                host,
                reason: self.reason(),
            };
            let what = format!("host {name}");
            if self.submit(&what, "evict", command, told).await? {
                told.evicted.push(name.to_string());
            }
        }
        Ok(())
    }

    /// Those that were revoked; another one by the same name may be among them. Of the others, uses that were made.
    async fn tokens(&self, lost: &LostTime, told: &mut Told) -> Result<(), Error> {
        let known: Vec<Token> = {
            let committed = self.ends.view.read();
            committed.world.tokens.iter().cloned().collect()
        };
        for token in known {
            let what = format!("token {}", token.name);
            if !lost.tokens.contains(&token.name) && !lost.owners.contains(&token.owner) {
                self.uses(&token, (lost, &what), told).await?;
                continue;
            }
            let command = Command::Token(token::Request::Revoke {
                which: token::Which::Named(token.name.clone()),
                by: BY_LOST_LOG.to_owned(),
                reason: shortened(&self.reason()),
            });
            if self.submit(&what, "revoke", command, told).await? {
                told.tokens.push(token.name.to_string());
            }
        }
        Ok(())
    }

    /// All that are open or approved, also where no record of the lost time is here. What broke the glass in this log
    /// waits for its review as before.
    async fn requests(&self, told: &mut Told) -> Result<(), Error> {
        let open: Vec<ApprovalId> = {
            let committed = self.ends.view.read();
            let known = committed.world.approvals.iter();
            let open = known.filter(|one| one.is_open(self.now));
            open.map(|one| one.id).collect()
        };
        for id in open {
            let command = Command::Approval(approval::Request::Deny {
                approval: id,
                by: BY_LOST_LOG.to_owned(),
                reason: shortened(&self.reason()),
            });
            let what = format!("request {id}");
            if self.submit(&what, "deny", command, told).await? {
                told.ended.push(id.to_string());
            }
        }
        Ok(())
    }

    /// Of a log of which nobody knows whether it is older: what was used since would be good again.
    async fn requests_alone(&self) -> Result<Option<Fact>, Error> {
        let mut told = Told::default();
        self.ends.presences.set_lenient(true);
        self.requests(&mut told).await?;
        self.ends.presences.set_lenient(false);
        let (ended, refused) = (told.ended.len(), told.refused.len());
        if ended + refused == 0 {
            return Ok(None);
        }
        let words = format!(
            "a backup was restored; requests denied, to be asked for anew: {ended}; refused: {refused}"
        );
        tracing::warn!(reason = words, "requests of a restored log were denied");
        let next = "ask for them anew: nobody knows here whether they were used, denied or taken back; `keywheel approval list` shows them";
        Ok(Some(Fact::warning(FACT, words, next)))
    }

    /// No record says how many were taken at once: as many as can be.
    async fn uses(
        &self,
        token: &Token,
        (lost, what): (&LostTime, &String),
        told: &mut Told,
    ) -> Result<(), Error> {
        let times = lost.taken.get(&token.id).copied().unwrap_or(0);
        let left = token.left().unwrap_or(0);
        let uses = times.saturating_mul(MAX_TAKEN).min(left);
        if uses == 0 || !token.is_alive(self.now) {
            return Ok(());
        }
        let command = Command::Token(token::Request::Take {
            token: token.id,
            uses,
        });
        if self.submit(what, "uses", command, told).await? {
            told.used.push(token.name.to_string());
        }
        Ok(())
    }

    /// One command buries so many at most.
    async fn bury(
        &self,
        name: &SecretName,
        (last, highest): (u64, u64),
        told: &mut Told,
    ) -> Result<(), Error> {
        let missing = highest.saturating_sub(last);
        for part in 0..missing.div_ceil(MAX_BURIED).min(MAX_BURIALS) {
            let command = Command::BuryLost(BuryLost {
                secret: name.clone(),
                up_to: highest,
                reason: self.reason(),
            });
            self.submit(name, &format!("bury/{part}"), command, told)
                .await?;
        }
        Ok(())
    }

    /// `false` when it was refused, which is told.
    async fn submit(
        &self,
        name: &(dyn fmt::Display + Sync),
        what: &str,
        command: Command,
        told: &mut Told,
    ) -> Result<bool, Error> {
        let submission = Submission {
            id: CommandId::from_bytes(self.id(name, what)),
            principal: self.by.clone(),
            traceparent: None,
            command,
        };
        Ok(match self.ends.handle.submit(submission).await? {
            Verdict::Accepted { .. } => true,
            Verdict::Rejected { text, .. } => {
                told.refused.push(format!("{name}: {text}"));
                false
            }
        })
    }

    fn here(&self, name: &SecretName, lost: &Lost) -> Option<Here> {
        let committed = self.ends.view.read();
        let world = &committed.world;
        let secret = world.secret_named(name)?;
        let mut revocations = world.revocations.values();
        let is_revoked = revocations.any(|run| run.secret == secret.id && !run.closed);
        let dead = secret.alive().into_iter();
        Some(Here {
            last_version: secret.last_version,
            dead: dead
                .filter(|version| lost.died(*version, is_revoked))
                .collect(),
        })
    }

    fn after(&self, name: &SecretName, lost: &Lost) -> After {
        let committed = self.ends.view.read();
        let world = &committed.world;
        let Some(secret) = world.secret_named(name) else {
            return After::Serves;
        };
        let is_served = secret.current.is_some() || world.open_rotation(secret.id).is_some();
        // A container's lease is its own; the store makes another one when it asks.
        let is_lease = secret.lease_of().is_some() || secret.gives_leases();
        let is_made = secret.spec.generator.is_some() || secret.spec.rotator.is_some();
        // What had no current version in that time, or one that is here, is as it was.
        let is_as_it_was = lost.current.is_none() || is_served;
        match (is_as_it_was || is_lease, is_made) {
            (true, _) => After::Serves,
            (false, true) => After::Rotates,
            (false, false) => After::Waits,
        }
    }

    fn reason(&self) -> String {
        format!("of the time that the log lost: {}", self.note.what)
    }

    /// The same for the same restore, so that a repeat gets the first answer.
    fn id(&self, name: &dyn fmt::Display, what: &str) -> [u8; 16] {
        let accepted = self.note.accepted.iter();
        let accepted: Vec<&str> = accepted.map(|one| one.at.as_str()).collect();
        let deployment = self.deployment;
        let text = format!(
            "keywheel/restored/v1\n{deployment}\n{}\n{}\n{name}\n{what}",
            self.note.records,
            accepted.join("\n")
        );
        let hash = digest::sha256(text.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        id
    }
}

impl Told {
    /// With names, for the record.
    fn words(&self, lost: &LostTime) -> String {
        self.said(lost, listed)
    }

    /// In numbers, for the status: it is open to people who may list nothing.
    fn numbers(&self, lost: &LostTime) -> String {
        let text = self.said(lost, |names| names.len().to_string());
        format!("{text}; the audit record `restored` has the names")
    }

    fn said(&self, lost: &LostTime, of: fn(&[String]) -> String) -> String {
        let mut words = match lost.records {
            0 => vec![
                "an older log was restored, and no record of the time it lost is here".to_owned(),
            ],
            records => vec![format!(
                "an older log was restored; {records} records of the time it lost were read"
            )],
        };
        let glass: Vec<String> = lost.glass.values().cloned().collect();
        let lists = [
            ("revoked again", &self.revoked),
            ("rotated since what was current is dead", &self.rotated),
            ("without a value", &self.without),
            ("made after it, and not known here", &self.unknown),
            ("tokens revoked again", &self.tokens),
            ("uses of tokens counted again", &self.used),
            ("hosts evicted again", &self.evicted),
            ("requests denied, to be asked for anew", &self.ended),
            (
                "glass was broken that nobody reviewed and this log does not know, have somebody else look at what was done",
                &glass,
            ),
            ("refused", &self.refused),
        ];
        let named = lists.into_iter().filter(|(_, names)| !names.is_empty());
        words.extend(named.map(|(what, names)| format!("{what}: {}", of(names))));
        if !lost.missing.is_empty() {
            words.push(format!(
                "records {} to {} are not in that copy: what died in that part of the time is not known here and may live again; revoke and rotate by hand what an older copy or another sink has of it",
                lost.missing.start,
                lost.missing.end.saturating_sub(1)
            ));
        }
        if lost.unread > 0 {
            words.push(format!(
                "{} records are of another build and were not read",
                lost.unread
            ));
        }
        words.join("; ")
    }

    fn next(&self) -> String {
        let first = match (self.without.is_empty(), self.unknown.is_empty()) {
            (false, _) => {
                "give each secret that has none a value: `keywheel secret put NAME --value-file FILE`"
            }
            (true, false) => "apply the manifests of what was made after it again",
            (true, true) => "rotate what a server or a store outside knows in a newer version",
        };
        format!("{first}; deploy/docs/backup.md says what else a restore cannot know")
    }
}

/// As long as the reason of a token's end, or of a word about a request, may be.
fn shortened(reason: &str) -> String {
    let most = MAX_TOKEN_REASON_CHARS.min(MAX_APPROVAL_REASON_CHARS);
    reason.chars().take(most).collect()
}

/// Names, as far as a text has room.
fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
    let left = names.len().saturating_sub(shown.len());
    match left {
        0 => shown.join(", "),
        left => format!("{} and {left} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
