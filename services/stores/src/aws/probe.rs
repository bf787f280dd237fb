//! What an earlier attempt left at AWS, whose answer nobody heard.
//!
//! Owns how it is recognised: by its token, which is its version's id, or by its value where a server
//! gave another id. It makes no version; a pending label that a cut-off attempt left goes.

use keywheel_core::id::RotationId;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::PortError;
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::AwsStore;
use super::requests::{PENDING, Requests};

impl AwsStore {
    /// Whether a value is pending under the token. What it is, is compared before it is made current.
    pub(super) async fn is_staged(
        &self,
        at: &Source,
        token: RotationId,
        until: &Until,
    ) -> Result<bool, PortError> {
        let versions = self.requests(until).describe(&at.path).await?;
        let token = token.to_string();
        Ok(versions.is_some_and(|versions| !versions.deleted && versions.is(&token, PENDING)))
    }

    /// What an earlier attempt made current.
    pub(super) async fn find(
        &self,
        at: &Source,
        token: &str,
        value: &SecretBytes,
        expected: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<Option<String>, PortError> {
        let requests = self.requests(until);
        let versions = requests.describe(&at.path).await?;
        let Some(versions) = versions.filter(|versions| !versions.deleted) else {
            return Ok(None);
        };
        let Some(there) = versions.current()? else {
            return Ok(None);
        };
        if there == token {
            self.drop_pending(at, &versions, token, &requests).await?;
            return Ok(Some(token.to_owned()));
        }
        let is_ours = expected.is_none() && self.is_own(at, there, value, &requests).await?;
        Ok(is_ours.then(|| there.to_owned()))
    }

    /// Whether it is our own first value, made before under an id that is not the token: some servers
    /// give it one.
    pub(super) async fn is_own(
        &self,
        at: &Source,
        there: &str,
        value: &SecretBytes,
        requests: &Requests<'_>,
    ) -> Result<bool, PortError> {
        let whole = self.document(at, None, value, requests).await?;
        let held = requests.value(&at.path, there).await?;
        Ok(held.ct_eq(&whole))
    }
}
