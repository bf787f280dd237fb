//! Join tokens for tests.

use keywheel_core::host::{JOIN_TOKEN_LIFETIME, TokenRequest};
use keywheel_core::id::{HostId, JoinTokenId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_seal::SecretBytes;

use crate::http::{NewToken, TokenMaker};

/// The text of each token.
pub(crate) const SECRET_HALF: &str = "kwjoin1.the-secret-half";

/// Makes tokens whose text everyone knows.
pub(crate) struct FakeTokens;

impl TokenMaker for FakeTokens {
    fn make(
        &self,
        host: HostId,
        token: JoinTokenId,
        name: &HostName,
        now: Timestamp,
    ) -> Result<NewToken, String> {
        let request = TokenRequest {
            host,
            name: name.clone(),
            token,
            secret_hash: [7; 32],
            expires_at: now.plus(JOIN_TOKEN_LIFETIME),
        };
        let text = SecretBytes::from(SECRET_HALF.as_bytes().to_vec());
        Ok(NewToken { request, text })
    }
}
