//! Logins by lease, in memory: a lease that nobody extended ends when the test says that its time is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::leases::{Extended, Leases, Minted};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

/// How long a lease lives by default.
const WHOLE: Duration = Duration::from_secs(3600);
/// The roles that there are begin so.
const ROLES: &str = "database/creds/";

/// Logins of a store in memory.
#[derive(Default)]
pub struct FakeLeases {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    minted: u64,
    /// How often a lease was extended.
    extensions: u64,
    /// Values of logins that are alive, and whether somebody extended them.
    alive: BTreeMap<RemoteVersion, (Vec<u8>, bool)>,
    granted: Option<Duration>,
    whole: Option<Duration>,
    is_down: bool,
}

impl FakeLeases {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answers nobody, or again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// From now on a lease gets no more time than this.
    pub fn grant(&self, granted: Duration) {
        self.state().granted = Some(granted);
    }

    /// From now on a lease lives so long where nothing limits it.
    pub fn set_whole(&self, whole: Duration) {
        self.state().whole = Some(whole);
    }

    /// The time is over in which a lease has to be extended.
    pub fn pass_mint_span(&self) {
        self.state()
            .alive
            .retain(|_, (_, is_extended)| *is_extended);
    }

    /// How many of those that are alive were extended.
    #[must_use]
    pub fn extended(&self) -> usize {
        let state = self.state();
        let extended = state.alive.values();
        extended.filter(|(_, is_extended)| *is_extended).count()
    }

    /// How many logins were ever made.
    #[must_use]
    pub fn minted(&self) -> u64 {
        self.state().minted
    }

    /// How often a lease that is alive was extended.
    #[must_use]
    pub fn extensions(&self) -> u64 {
        self.state().extensions
    }

    /// Leases that are alive.
    #[must_use]
    pub fn alive(&self) -> Vec<RemoteVersion> {
        self.state().alive.keys().cloned().collect()
    }

    /// Whether a login is let in.
    #[must_use]
    pub fn admits(&self, value: &[u8]) -> bool {
        let state = self.state();
        state.alive.values().any(|(alive, _)| alive == value)
    }

    fn asked(&self, until: &Until) -> Result<MutexGuard<'_, State>, PortError> {
        until.check()?;
        let state = self.state();
        if state.is_down {
            return Err(PortError::new(ErrorKind::Unavailable, "it is down"));
        }
        Ok(state)
    }
}

#[async_trait]
impl Leases for FakeLeases {
    async fn mint(&self, role: &Source, until: &Until) -> Result<Minted, PortError> {
        let mut state = self.asked(until)?;
        if !role.path.starts_with(ROLES) {
            return Err(PortError::new(ErrorKind::Denied, "there is no such role"));
        }
        state.minted += 1;
        let number = state.minted;
        let lease = RemoteVersion(format!("token{number}:lease{number}:{}", WHOLE.as_secs()));
        let value = format!("{{\"username\":\"v-{number}\",\"password\":\"canary-{number}\"}}");
        let value = value.into_bytes();
        state.alive.insert(lease.clone(), (value.clone(), false));
        Ok(Minted {
            lease,
            value: SecretBytes::from(value),
        })
    }

    async fn extend(
        &self,
        _: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<Extended, PortError> {
        let mut state = self.asked(until)?;
        let whole = state.whole.unwrap_or(WHOLE);
        let granted = state.granted.unwrap_or(whole);
        let Some((_, is_extended)) = state.alive.get_mut(lease) else {
            return Ok(Extended::Gone);
        };
        *is_extended = true;
        state.extensions += 1;
        Ok(Extended::For { granted, whole })
    }

    async fn end(&self, _: &Source, lease: &RemoteVersion, until: &Until) -> Result<(), PortError> {
        self.asked(until)?.alive.remove(lease);
        Ok(())
    }

    async fn is_gone(
        &self,
        _: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<bool, PortError> {
        Ok(!self.asked(until)?.alive.contains_key(lease))
    }
}
