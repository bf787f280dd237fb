//! The asking side: keys are made here and stay here until an answer fits them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::sign::SigningKey;
use keywheel_seal::{Entropy, SecretBytes};

use super::wire::{self, NewSealingKey, Presented};
use super::{EnrolError, JoinAnswer, JoinAsk, RenewAnswer, RenewAsk};
use crate::authority::{addresses, certificates, signing_request};
use crate::bundle::{Bundle, Identity, SealingKey, TlsFiles, stored};
use crate::name::PeerName;
use crate::nats::UserKey;
use crate::token::JoinToken;

/// A machine on its way in.
pub struct Joining {
    deployment: DeploymentId,
    host: HostId,
    name: HostName,
    pin: [u8; 32],
    address: String,
    signing: SigningKey,
    sealing: HostKeyPair,
    bus: UserKey,
    key_pem: SecretBytes,
    request_pem: String,
}

impl Joining {
    /// Makes the machine's keys.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn begin(token: &JoinToken, entropy: &dyn Entropy) -> Result<Self, EnrolError> {
        let (key_pem, request_pem) = signing_request()?;
        Ok(Self {
            deployment: token.deployment,
            host: token.host,
            name: token.name.clone(),
            pin: token.pin,
            address: token.address.clone(),
            signing: SigningKey::generate(entropy),
            sealing: HostKeyPair::generate(entropy),
            bus: UserKey::generate(),
            key_pem,
            request_pem,
        })
    }

    /// What to send to the token's address, over [`crate::tls::join_client_config`].
    #[must_use]
    pub fn ask(&self, token: &JoinToken) -> JoinAsk {
        JoinAsk {
            v: wire::VERSION,
            host: self.host.to_string(),
            name: self.name.to_string(),
            token: token.token.to_string(),
            // EXPOSE: presented once, over TLS, to the gateway the token names.
            secret: Presented(STANDARD.encode(token.secret().expose())),
            signing_request: self.request_pem.clone(),
            signing_key: STANDARD.encode(self.signing.verifying_key().to_bytes()),
            sealing_key: STANDARD.encode(self.sealing.public().to_bytes()),
            bus_key: self.bus.public_key(),
        }
    }

    /// Checks the answer and gives the credentials to write.
    ///
    /// # Errors
    /// When the answer is for another machine or leads to another root.
    pub fn accept(self, answer: &JoinAnswer, now: Timestamp) -> Result<Bundle, EnrolError> {
        let no = |why: &str| EnrolError::Answer(why.to_owned());
        if answer.v != wire::VERSION {
            return Err(no("it has another version"));
        }
        if answer.deployment != self.deployment.to_string() || answer.host != self.host.to_string()
        {
            return Err(no("it is for another host or deployment"));
        }
        let roots = certificates(&answer.roots).map_err(EnrolError::Answer)?;
        if !roots
            .iter()
            .any(|der| keywheel_seal::digest::sha256(der) == self.pin)
        {
            return Err(no("its roots lack the one in the token"));
        }
        let identity = Identity {
            deployment: self.deployment,
            name: PeerName::Host(self.host),
            host_name: Some(self.name),
            signing: self.signing,
            sealing: vec![SealingKey {
                generation: 1,
                made: now,
                pair: self.sealing,
            }],
            trust: stored::read_trust(&answer.trust).map_err(EnrolError::Answer)?,
            servers: answer.servers.clone(),
            gateways: vec![self.address],
        };
        let tls = TlsFiles {
            chain_pem: answer.certificate.clone(),
            key_pem: self.key_pem,
            roots_pem: answer.roots.clone(),
        };
        fits(&tls, &identity)?;
        Ok(Bundle {
            tls,
            bus: Some(self.bus.credentials(&answer.permit)?),
            identity: Some(identity),
            claims: None,
        })
    }
}

/// A member on its way to fresh credentials.
pub struct Renewing {
    bus: UserKey,
    key_pem: SecretBytes,
    request_pem: String,
    certificate: Option<String>,
    sealing: Option<NewSealingKey>,
}

impl Renewing {
    /// Makes fresh keys for TLS and the bus.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn begin() -> Result<Self, EnrolError> {
        let (key_pem, request_pem) = signing_request()?;
        Ok(Self {
            bus: UserKey::generate(),
            key_pem,
            request_pem,
            certificate: None,
            sealing: None,
        })
    }

    /// Asks for the addresses of the certificate in use, expired or not.
    #[must_use]
    pub fn keeping_addresses(mut self, tls: &TlsFiles) -> Self {
        let leaf = certificates(&tls.chain_pem).ok();
        let leaf = leaf.and_then(|chain| chain.into_iter().next());
        let named = leaf.and_then(|der| addresses(&der).ok());
        let has_some = named.is_some_and(|named| !named.is_empty());
        self.certificate = has_some.then(|| tls.chain_pem.clone());
        self
    }

    /// Tells the gateway a host's newest sealing key. It has to be on the host's disk already: values
    /// may be sealed to it from the answer on, whether that arrives or not. Telling it again is no
    /// change.
    #[must_use]
    pub fn with_sealing_key(mut self, key: &SealingKey) -> Self {
        self.sealing = Some(NewSealingKey {
            generation: key.generation,
            public: STANDARD.encode(key.pair.public().to_bytes()),
        });
        self
    }

    /// What to send.
    #[must_use]
    pub fn ask(&self) -> RenewAsk {
        RenewAsk {
            v: wire::VERSION,
            signing_request: self.request_pem.clone(),
            bus_key: self.bus.public_key(),
            certificate: self.certificate.clone(),
            sealing_key: self.sealing.clone(),
        }
    }

    /// Checks the answer and gives the credentials to write, with `identity` brought up to date.
    ///
    /// # Errors
    /// When the answer is for somebody else.
    pub fn accept(
        self,
        mut identity: Identity,
        answer: &RenewAnswer,
    ) -> Result<Bundle, EnrolError> {
        if answer.v != wire::VERSION {
            return Err(EnrolError::Answer("it has another version".into()));
        }
        let tls = TlsFiles {
            chain_pem: answer.certificate.clone(),
            key_pem: self.key_pem,
            roots_pem: answer.roots.clone(),
        };
        fits(&tls, &identity)?;
        identity.trust = stored::read_trust(&answer.trust).map_err(EnrolError::Answer)?;
        identity.servers.clone_from(&answer.servers);
        if let (Some(_), Some(address)) = (identity.host(), &answer.gateway) {
            identity.learn_gateway(address);
        }
        Ok(Bundle {
            tls,
            bus: Some(self.bus.credentials(&answer.permit)?),
            identity: Some(identity),
            claims: None,
        })
    }
}

/// The certificate is for the key we made and names us.
fn fits(tls: &TlsFiles, identity: &Identity) -> Result<(), EnrolError> {
    let credentials = tls
        .credentials(identity.deployment)
        .map_err(|error| EnrolError::Answer(error.to_string()))?;
    if *credentials.name() == identity.name {
        Ok(())
    } else {
        let found = credentials.name();
        Err(EnrolError::Answer(format!(
            "its certificate is for {found}"
        )))
    }
}
