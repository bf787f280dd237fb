//! The gateway's authorities at work: join tokens, credentials of who joins, renewals, evictions.
//!
//! Invariants: a host's key has a permit only after the log says so, so that an eviction misses none,
//! whichever gateway made it; a member's credentials are made for the name it is known by, never for one it says. No decision:
//! who may join or renew was decided and is on record before anything here is called.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::host::RefusedKey;
use keywheel_core::id::{HostId, JoinTokenId};
use keywheel_core::name::{BusKey, HostName};
use keywheel_core::time::Timestamp;
use keywheel_identity::authority::Authority;
use keywheel_identity::bundle::client_of;
use keywheel_identity::enrol::{
    self, CheckedAsk, EnrolError, JoinAnswer, MAX_ASK_BYTES, Registrar, RenewAsk,
};
use keywheel_identity::init::{Home, InitError};
use keywheel_identity::name::PeerName;
use keywheel_identity::nats::{BusAuthority, NatsError, Revocations};
use keywheel_identity::refresh::{RefreshError, refresh};
use keywheel_identity::token::{Destination, JoinToken};
use keywheel_seal::Entropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::sign::VerifyingKey;
use tokio::sync::watch;

use crate::bus_server::Renewals;
use crate::http::{NewToken, TokenMaker};

/// Why credentials cannot be made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was asked makes no sense, or an authority refused.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The bus's authority refused.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The disk said no.
    #[error(transparent)]
    Disk(#[from] InitError),
}

/// What every member is told, and where machines join.
pub struct Told {
    /// Whose signature counts for which role.
    pub trust: BTreeMap<Role, VerifyingKey>,
    /// Where the bus's servers are.
    pub servers: Vec<String>,
    /// HOST:PORT at which machines reach the join listener.
    pub join_address: String,
    /// How long credentials live that are given out here.
    pub lifetime: Duration,
}

/// Both authorities and what is noted of their permits.
pub struct Registry {
    home: Home,
    /// Opens an authority that was changed on the disk.
    unseal: UnsealKey,
    /// The file that the authority was read from.
    stamp: Mutex<Option<(u64, i64, i64)>>,
    authority: RwLock<Authority>,
    bus: BusAuthority,
    revocations: Mutex<Revocations>,
    told: Told,
    refusals: watch::Sender<u64>,
    entropy: Arc<dyn Entropy>,
}

impl Registry {
    /// Opens the authorities in the gateway's directory of credentials.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the unseal key is another one.
    pub fn open(
        home: Home,
        unseal: UnsealKey,
        told: Told,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, InitError> {
        let stamp = home.authority_stamp();
        let authority = home.authority(&unseal)?;
        Ok(Self {
            stamp: Mutex::new(stamp),
            authority: RwLock::new(authority.with_member_lifetime(told.lifetime)),
            bus: home.bus(&unseal)?,
            unseal,
            revocations: Mutex::new(home.revocations()?),
            home,
            told,
            refusals: watch::Sender::new(0),
            entropy,
        })
    }

    /// The key of what gateways keep in letters; every gateway with this unseal key has the same.
    #[must_use]
    pub fn letter_key(&self) -> LetterKey {
        LetterKey::of(&self.unseal)
    }

    /// Goes on with an authority that was changed on the disk, such as one that is being rolled over.
    fn follow(&self) {
        let stamp = self.home.authority_stamp();
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == stamp {
            return;
        }
        match self.home.authority(&self.unseal) {
            Ok(changed) => {
                let changed = changed.with_member_lifetime(self.told.lifetime);
                let mut current = self
                    .authority
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                *current = changed;
                *known = stamp;
                tracing::info!(
                    "the certificate authority was changed; certificates come from it now"
                );
            }
            Err(error) => {
                let reason = keywheel_daemon::chain(&error);
                tracing::error!(
                    reason,
                    "the changed certificate authority cannot be opened; the one before is used"
                );
            }
        }
    }

    /// Does something with the registrar, such as making the gateway's own credentials fresh.
    pub fn with_registrar<T>(&self, work: impl FnOnce(&Registrar<'_>) -> T) -> T {
        let authority = self.authority();
        work(&Registrar {
            authority: &authority,
            bus: &self.bus,
            trust: &self.told.trust,
            servers: &self.told.servers,
        })
    }

    /// Makes the gateway's own directory of credentials fresh. Writes to disk.
    ///
    /// # Errors
    /// When the directory cannot be used, or an authority refuses.
    pub fn refresh_own(&self, directory: &Path, now: Timestamp) -> Result<(), RefreshError> {
        self.with_registrar(|registrar| refresh(directory, registrar, now, self.entropy.as_ref()))
            .map(drop)
    }

    /// Answers a machine whose token was just spent for it. Writes to disk.
    ///
    /// # Errors
    /// When an authority or the disk refuses.
    pub fn answer_join(
        &self,
        ask: &CheckedAsk,
        now: Timestamp,
    ) -> Result<JoinAnswer, RegistryError> {
        let answer = self.with_registrar(|registrar| {
            enrol::answer_join(registrar, ask, now, self.entropy.as_ref())
        })?;
        Ok(answer)
    }

    /// The permit that a host's key gets when it is made now, with its last instant.
    ///
    /// # Errors
    /// When the key is none.
    pub fn permit_of(&self, bus_key: &str, now: Timestamp) -> Result<(BusKey, Timestamp), String> {
        let key = BusKey::parse(bus_key).map_err(|error| error.to_string())?;
        Ok((key, now.plus(self.told.lifetime)))
    }

    /// Refuses keys of evicted hosts, as the log has them, and notes it on disk; gives how many are
    /// new. The bus learns of it with [`Self::claim`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn refuse(&self, keys: &[RefusedKey], now: Timestamp) -> Result<usize, RegistryError> {
        let mut revocations = self.revocations();
        let is_new = |refused: &&RefusedKey| {
            revocations.refuse(refused.key.as_str(), refused.expires_at, now)
        };
        let count = keys.iter().filter(is_new).count();
        if count > 0 {
            self.home.keep_revocations(&revocations)?;
            self.refusals.send_modify(|rung| *rung += 1);
        }
        Ok(count)
    }

    /// Where the bus tells the claim it has about our account.
    #[must_use]
    pub fn lookup_subject(&self) -> String {
        self.bus.lookup_subject()
    }

    /// The claim with everything that is revoked, to be told to the bus. `known` is the one that the
    /// bus has: another gateway may have made it.
    ///
    /// # Errors
    /// When `known` is not by our operator, or the disk refuses.
    pub fn claim(&self, known: Option<&str>, now: Timestamp) -> Result<String, RegistryError> {
        let mut revocations = self.revocations();
        if let Some(known) = known {
            self.bus.learn(known, &mut revocations)?;
        }
        let claim = self.bus.account_claim(&mut revocations, now)?;
        self.home.keep_revocations(&revocations)?;
        Ok(claim)
    }

    /// The same, unless the one that the bus has refuses everyone already.
    ///
    /// # Errors
    /// When `known` is not by our operator, or the disk refuses.
    pub fn claim_after(
        &self,
        known: &str,
        now: Timestamp,
    ) -> Result<Option<String>, RegistryError> {
        if self.bus.refuses_all(known, &self.revocations())? {
            return Ok(None);
        }
        self.claim(Some(known), now).map(Some)
    }

    /// Whether there is anybody to be refused.
    #[must_use]
    pub fn refuses_anyone(&self) -> bool {
        !self.revocations().is_empty()
    }

    /// Rings whenever somebody new is refused.
    #[must_use]
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.refusals.subscribe()
    }

    /// Notes a service's permit on disk; a host's are in the log.
    fn note(&self, name: &PeerName, bus_key: &str, now: Timestamp) -> Result<(), RegistryError> {
        let Some(client) = client_of(name).filter(|client| client.host.is_none()) else {
            return Ok(());
        };
        let mut revocations = self.revocations();
        revocations.note_issued(&client, bus_key, now);
        self.home.keep_revocations(&revocations)?;
        Ok(())
    }

    fn renewed(
        &self,
        name: &PeerName,
        ask: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, RegistryError> {
        let ask = read_ask(ask)?;
        let answer = self.with_registrar(|registrar| {
            enrol::answer_renewal(registrar, name, &ask, now, self.entropy.as_ref())
        })?;
        let answer = answer.telling(&self.told.join_address);
        self.note(name, ask.bus_key(), now)?;
        serde_json::to_vec(&answer)
            .map_err(|error| EnrolError::Ask(format!("its answer has no form: {error}")).into())
    }

    fn authority(&self) -> RwLockReadGuard<'_, Authority> {
        self.follow();
        self.authority
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn revocations(&self) -> MutexGuard<'_, Revocations> {
        self.revocations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenMaker for Registry {
    fn make(
        &self,
        host: HostId,
        token: JoinTokenId,
        name: &HostName,
        now: Timestamp,
    ) -> Result<NewToken, String> {
        let to = {
            let authority = self.authority();
            Destination {
                deployment: authority.deployment(),
                address: self.told.join_address.clone(),
                pin: authority.pin(),
            }
        };
        let entropy = self.entropy.as_ref();
        let token = JoinToken::issue(to, host, token, name.clone(), entropy)
            .map_err(|error| format!("{error}; correct `listen.advertise_join`"))?;
        Ok(NewToken {
            request: token.request(now),
            text: token.text(),
        })
    }
}

impl Renewals for Registry {
    fn permit(&self, ask: &[u8], now: Timestamp) -> Result<(BusKey, Timestamp), String> {
        let ask = read_ask(ask).map_err(|error| error.to_string())?;
        self.permit_of(ask.bus_key(), now)
    }

    fn sealing_key(&self, ask: &[u8]) -> Result<Option<(u64, [u8; 32])>, String> {
        let ask = read_ask(ask).map_err(|error| error.to_string())?;
        enrol::renewed_sealing_key(&ask).map_err(|error| error.to_string())
    }

    fn renew(
        &self,
        role: Role,
        host: Option<HostId>,
        ask: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, String> {
        let name = host.map_or(PeerName::Service(role), PeerName::Host);
        let renewed = self.renewed(&name, ask, now);
        renewed.map_err(|error| error.to_string())
    }
}

/// Says where a request is not as expected, and nothing of what is there.
fn read_ask(bytes: &[u8]) -> Result<RenewAsk, EnrolError> {
    if bytes.len() > MAX_ASK_BYTES {
        let text = format!("it has more than {MAX_ASK_BYTES} bytes");
        return Err(EnrolError::Ask(text));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        EnrolError::Ask(format!("line {line}, column {column} is not as expected"))
    })
}

#[cfg(test)]
mod tests;
