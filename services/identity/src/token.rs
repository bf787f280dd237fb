//! Join tokens: everything a new machine needs to become a host, in one line of text.
//!
//! Text form: `kwjoin1.` and base64url of deployment, host, token id, secret, fingerprint of the
//! root, host name, join address, and a checksum against slips of copying. Invariants: the gateway
//! keeps only SHA-256 of the secret; parsing is strict and never tells the secret; a token says which
//! gateway to trust, so a machine that joins trusts nobody else. That a token is used once, in time
//! and for its own name is the core's decision.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_core::host::{JOIN_TOKEN_LIFETIME, TokenHash, TokenRequest};
use keywheel_core::id::{DeploymentId, HostId, JoinTokenId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_seal::{Entropy, SecretBytes};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What every token begins with.
pub const PREFIX: &str = "kwjoin1.";
/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 32;
/// Longest join address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 255;
/// Longest text of a token.
pub const MAX_TOKEN_CHARS: usize = 1024;
const CHECK_BYTES: usize = 4;

/// Why a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else was given.
    #[error(
        "this is not a join token: it does not begin with `{PREFIX}`; copy the whole line that `keywheel host join-token NAME` printed"
    )]
    Prefix,
    /// Too long.
    #[error(
        "a join token has at most {MAX_TOKEN_CHARS} characters; copy the one line that `keywheel host join-token NAME` printed"
    )]
    TooLong,
    /// Characters are missing or changed.
    #[error("the join token is damaged: characters are missing or changed; copy it again")]
    Damaged,
    /// An address that is none.
    #[error("`{0}` is not an address to join at; give HOST:PORT of the gateway's join listener")]
    Address(String),
}

/// A join token. Whoever has it can become the host it was issued for.
pub struct JoinToken {
    /// The deployment to join.
    pub deployment: DeploymentId,
    /// The host that the machine becomes.
    pub host: HostId,
    /// Its id.
    pub token: JoinTokenId,
    /// The name it was issued for.
    pub name: HostName,
    /// HOST:PORT of the gateway's join listener.
    pub address: String,
    /// SHA-256 of the root the gateway's certificate leads to.
    pub pin: [u8; 32],
    secret: SecretBytes,
}

/// Where a new token leads: the gateway, and the authority it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The deployment to join.
    pub deployment: DeploymentId,
    /// HOST:PORT of the gateway's join listener.
    pub address: String,
    /// SHA-256 of the root ([`crate::authority::Authority::pin`]).
    pub pin: [u8; 32],
}

impl JoinToken {
    /// Makes a token with a fresh secret.
    ///
    /// # Errors
    /// When the address is none.
    pub fn issue(
        to: Destination,
        host: HostId,
        token: JoinTokenId,
        name: HostName,
        entropy: &dyn Entropy,
    ) -> Result<Self, TokenError> {
        check_address(&to.address)?;
        let mut secret = vec![0; SECRET_BYTES];
        entropy.fill(&mut secret);
        Ok(Self {
            deployment: to.deployment,
            host,
            token,
            name,
            address: to.address,
            pin: to.pin,
            secret: SecretBytes::from(secret),
        })
    }

    /// What the gateway records of it.
    #[must_use]
    pub fn request(&self, now: Timestamp) -> TokenRequest {
        TokenRequest {
            host: self.host,
            name: self.name.clone(),
            token: self.token,
            secret_hash: self.secret_hash(),
            expires_at: now.plus(JOIN_TOKEN_LIFETIME),
        }
    }

    /// SHA-256 of its secret.
    #[must_use]
    pub fn secret_hash(&self) -> TokenHash {
        hash(&self.secret)
    }

    /// Its secret, to be presented once.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.secret
    }

    /// The line to hand to the new machine. Contains the secret.
    #[must_use]
    pub fn text(&self) -> SecretBytes {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_CHARS));
        bytes.extend_from_slice(self.deployment.bytes());
        bytes.extend_from_slice(self.host.bytes());
        bytes.extend_from_slice(self.token.bytes());
        // EXPOSE: the token's text is what carries the secret to the new machine.
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(&self.pin);
        for text in [self.name.as_str(), &self.address] {
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(text.as_bytes());
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        let mut text = PREFIX.as_bytes().to_vec();
        text.extend_from_slice(Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes)).as_bytes());
        SecretBytes::from(text)
    }

    /// Reads the line.
    ///
    /// # Errors
    /// When it is not a whole token; what was wrong with which character is not told.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if text.len() > MAX_TOKEN_CHARS {
            return Err(TokenError::TooLong);
        }
        let bytes = Zeroizing::new(
            URL_SAFE_NO_PAD
                .decode(body)
                .map_err(|_| TokenError::Damaged)?,
        );
        let (content, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if checksum(content) != *check {
            return Err(TokenError::Damaged);
        }
        let token = Self::read(content).ok_or(TokenError::Damaged)?;
        check_address(&token.address)?;
        Ok(token)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (deployment, rest) = bytes.split_first_chunk::<16>()?;
        let (host, rest) = rest.split_first_chunk::<16>()?;
        let (token, rest) = rest.split_first_chunk::<16>()?;
        let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let (pin, rest) = rest.split_first_chunk::<32>()?;
        let (name, rest) = split_text(rest)?;
        let (address, rest) = split_text(rest)?;
        rest.is_empty().then_some(())?;
        Some(Self {
            deployment: DeploymentId::from_bytes(*deployment),
            host: HostId::from_bytes(*host),
            token: JoinTokenId::from_bytes(*token),
            name: HostName::parse(name).ok()?,
            address: address.to_owned(),
            pin: *pin,
            secret: SecretBytes::copied(secret),
        })
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({} for {}, …)", self.token, self.name)
    }
}

/// SHA-256 of a token's secret: thirty-two random bytes, so the hash tells nothing.
#[must_use]
pub fn hash(secret: &SecretBytes) -> TokenHash {
    // EXPOSE: hashed; only the hash is kept.
    Sha256::digest(secret.expose()).into()
}

/// Compares two hashes in time that does not depend on where they differ.
#[must_use]
pub fn matches(kept: &TokenHash, presented: &SecretBytes) -> bool {
    kept.ct_eq(&hash(presented)).into()
}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::new_with_prefix(PREFIX)
        .chain_update(bytes)
        .finalize()
        .into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

/// `HOST:PORT`, with an IPv6 host in brackets.
pub(crate) fn check_address(address: &str) -> Result<(), TokenError> {
    let bad = || TokenError::Address(address.chars().take(80).collect());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port_good = port.parse::<u16>().is_ok_and(|port| port != 0);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_good = match inner {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => rustls::pki_types::ServerName::try_from(host).is_ok() && !host.contains(':'),
    };
    if port_good && host_good && address.len() <= MAX_ADDRESS_BYTES {
        Ok(())
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::OsEntropy;

    use super::*;

    fn token() -> JoinToken {
        let to = Destination {
            deployment: DeploymentId::from_bytes([1; 16]),
            address: "gateway.example:7443".into(),
            pin: [4; 32],
        };
        JoinToken::issue(
            to,
            HostId::from_bytes([2; 16]),
            JoinTokenId::from_bytes([3; 16]),
            HostName::parse("web-1").unwrap(),
            &OsEntropy,
        )
        .unwrap()
    }

    fn text(token: &JoinToken) -> String {
        // EXPOSE: tests read it as the new machine would.
        String::from_utf8(token.text().expose().to_vec()).unwrap()
    }

    #[test]
    fn a_token_reads_back_whole() {
        let token = token();
        let text = text(&token);
        assert!(text.starts_with(PREFIX) && text.len() < MAX_TOKEN_CHARS);
        let read = JoinToken::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(read.deployment, token.deployment);
        assert_eq!(
            (read.host, read.token, read.pin),
            (token.host, token.token, token.pin)
        );
        assert_eq!((&read.name, &read.address), (&token.name, &token.address));
        assert!(matches(&token.secret_hash(), read.secret()));
    }

    #[test]
    fn the_longest_token_fits() {
        let mut token = token();
        token.name = HostName::parse(&"a".repeat(255)).unwrap();
        token.address = format!("{}.example:65535", ["a".repeat(60).as_str(); 3].join("."));
        assert!(token.address.len() <= MAX_ADDRESS_BYTES);
        assert!(JoinToken::parse(&text(&token)).is_ok());
    }

    #[test]
    fn every_changed_missing_or_added_character_is_noticed() {
        let text = text(&token());
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(JoinToken::parse(&changed).unwrap_err(), TokenError::Damaged);
            assert!(JoinToken::parse(&text[..at]).is_err());
        }
        assert_eq!(
            JoinToken::parse(&format!("{text}A")).unwrap_err(),
            TokenError::Damaged
        );
        assert_eq!(
            JoinToken::parse("kwjoin2.AAAA").unwrap_err(),
            TokenError::Prefix
        );
        let long = format!("{PREFIX}{}", "A".repeat(MAX_TOKEN_CHARS));
        assert_eq!(JoinToken::parse(&long).unwrap_err(), TokenError::TooLong);
    }

    #[test]
    fn the_record_holds_the_hash_and_ends_after_ten_minutes() {
        let token = token();
        let now = Timestamp::from_micros(5);
        let request = token.request(now);
        assert_eq!(request.expires_at.since(now).as_secs(), 600);
        assert!(matches(&request.secret_hash, token.secret()));
        assert!(!matches(
            &request.secret_hash,
            super::tests::token().secret()
        ));
    }

    #[test]
    fn no_error_and_no_debug_text_tells_the_secret() {
        let token = token();
        let text = text(&token);
        // Behind three ids and in front of the fingerprint nothing but the secret decides a character.
        let secret = PREFIX.len() + 64..PREFIX.len() + 104;
        let cut = JoinToken::parse(&text[..secret.end]).unwrap_err();
        let shown = format!("{token:?} {cut}");
        // Two of them would stand in any text now and then; eight do not.
        for at in secret.step_by(8) {
            assert!(!shown.contains(&text[at..at + 8]), "{shown}");
        }
        assert!(shown.contains("web-1"));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in [
            "a:1",
            "10.0.0.1:7443",
            "[::1]:7443",
            "gateway.example:65535",
        ] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "a:",
            "a:0",
            "a:65536",
            ":1",
            "::1:7443",
            "http://a:1",
            "a b:1",
            "[x]:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
