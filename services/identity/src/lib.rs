//! Who may speak: the deployment's certificate authority, host and service credentials, join tokens,
//! and the bus server's users. Holds no transport and no journal.
//!
//! Invariants: one certificate, one name ([`name::PeerName`]); private keys of authorities rest
//! sealed; nothing here reads a clock or opens a connection. What others call:
//!
//! ```text
//! name::PeerName::{Service(Role), BusServer, Host(HostId), Operator(OperatorName)}
//! name::PeerName::of_certificate(der: &[u8], ours: DeploymentId) -> Result<PeerName, NameError>
//!
//! // A service's or host's directory of credentials.
//! bundle::Bundle::read_speaker(dir: &Path) -> Result<(Bundle, Identity), BundleError>
//! bundle::Bundle::read(dir: &Path) -> Result<Bundle, BundleError>          // a person, a bus server
//! bundle::Bundle::write(&self, dir: &Path) -> Result<(), BundleError>      // all or nothing
//! bundle::Bundle { tls: TlsFiles, identity: Option<Identity>,
//!                  bus: Option<SecretBytes>,      // text of the .creds file
//!                  claims: Option<SecretBytes> }  // the gateway's second .creds (system account)
//! bundle::Identity { deployment, name: PeerName, host_name: Option<HostName>, signing: SigningKey,
//!                    sealing: Vec<SealingKey>, trust: BTreeMap<Role, VerifyingKey>,
//!                    servers: Vec<String> }      // .client() -> Option<subject::Client>
//! bundle::TlsFiles::credentials(&self, DeploymentId) -> Result<tls::TlsCredentials, tls::TlsError>
//!
//! // Mutual TLS 1.3; a renewed certificate is shown from the next handshake on.
//! tls::TlsIdentity::new(DeploymentId, TlsCredentials, Arc<dyn Clock>) -> Arc<TlsIdentity>
//! tls::TlsIdentity::replace(&self, TlsCredentials) -> Result<(), TlsError>
//! tls::TlsIdentity::deny(&self, BTreeSet<PeerName>)                        // evicted hosts
//! tls::TlsIdentity::server_config(self: &Arc<Self>, tls::Admit) -> Result<rustls::ServerConfig, TlsError>
//! tls::TlsIdentity::client_config(self: &Arc<Self>, tls::Admit) -> Result<rustls::ClientConfig, TlsError>
//! tls::TlsIdentity::join_server_config(self: &Arc<Self>) -> Result<rustls::ServerConfig, TlsError>
//! tls::join_client_config(DeploymentId, pin: [u8; 32], Arc<dyn Clock>) -> Result<rustls::ClientConfig, TlsError>
//! tls::TlsIdentity::peer(&self, connection.peer_certificates()) -> Result<PeerName, Refusal>
//! tls::Admit::only([tls::PeerKind::{Service(Role), BusServer, Host, Operator}, …])
//! tls::explain(&io::Error) -> Option<tls::Refusal>                         // text for a person
//!
//! // Making a deployment, and the gateway's authorities afterwards.
//! init::init(out: &Path, &init::NewDeployment) -> Result<(), InitError>
//! init::Home::new(gateway_dir).{authority(&UnsealKey), bus(&UnsealKey), revocations(),
//!                               keep_revocations(&_), keep_authority(&_)}
//! init::plain(&Authority, &PeerName, addresses: &[String], now, entropy) -> Result<Bundle, AuthorityError>
//! refresh::refresh(dir: &Path, &Registrar, now, entropy) -> Result<(TlsCredentials, Identity), RefreshError>
//!                                   // the gateway's own directory, or a service's that was down too long
//! refresh::refresh_any(dir, &Registrar, now, entropy) -> Result<(PeerName, Timestamp), RefreshError>
//! refresh::whose(dir) -> Result<PeerName, RefreshError>
//! authority::Authority::{create, from_pem, issue, sign, begin_rollover, finish_rollover, seal, open, pin}
//!
//! // What a person does at the gateway's machine, until a gateway has it on record.
//! ledger::Ledger::new(gateway_dir).begin(&ledger::Asked, now, entropy) -> Result<ledger::Deed, LedgerError>
//! ledger::Deed::end(self, ledger::Came, now) -> Result<(), LedgerError>
//! ledger::Ledger::read(&self) -> Result<Option<ledger::Noted>, LedgerError>    // the gateway's end
//! ledger::Ledger::empty(&self, &ledger::Noted) -> Result<bool, LedgerError>
//!
//! // Joining. Gateway: JoinToken::issue → command IssueJoinToken(token.request(now)) → print token.text();
//! // JoinAsk::check → command JoinHost(checked.request) → answer_join. Machine: the other half.
//! token::JoinToken::issue(token::Destination, HostId, JoinTokenId, HostName, &dyn Entropy) -> Result<JoinToken, TokenError>
//! token::JoinToken::parse(&str) -> Result<JoinToken, TokenError>
//! enrol::Joining::begin(&JoinToken, &dyn Entropy) -> Result<Joining, EnrolError>
//! enrol::Joining::ask(&self, &JoinToken) -> JoinAsk                        // POST it as JSON
//! enrol::JoinAsk::check(&self) -> Result<CheckedAsk { request: core::host::JoinRequest, .. }, EnrolError>
//! enrol::answer_join(&Registrar, &CheckedAsk, now, entropy) -> Result<JoinAnswer, EnrolError>
//! enrol::Joining::accept(self, &JoinAnswer, now) -> Result<Bundle, EnrolError>
//! enrol::Renewing::begin(); .keeping_addresses(&TlsFiles); .with_sealing_key(&SealingKey);
//!                 .ask() -> RenewAsk;
//!                 .accept(self, Identity, &RenewAnswer) -> Result<Bundle, EnrolError>
//! enrol::RenewAsk::signed((DeploymentId, HostId), &SigningKey, &tls::Binding) -> ReturnAsk   // at the join port
//! enrol::ReturnAsk::check(&self) -> Result<CheckedReturn { host, ask, .. }, EnrolError>; .is_by(key, ..)
//! enrol::answer_renewal(&Registrar, &PeerName, &RenewAsk, now, entropy)
//! enrol::Registrar { authority: &Authority, bus: &BusAuthority, trust: &BTreeMap<Role, VerifyingKey>, servers: &[String] }
//! renewal::due(id: &[u8], (begin, end)) -> Timestamp    // of bundle::TlsFiles::life()
//! renewal::renew_at(id: &[u8], begin: Timestamp, end: Timestamp) -> Timestamp
//! renewal::sealing_key_steps(&[KeyAge], age, now) -> Vec<KeyStep>
//!
//! // The bus server. After each answer: revocations.note_issued(&client, ask.bus_key(), now), keep.
//! // Eviction: revocations.revoke_client(&client, now), keep, then over a connection with
//! // `nats-claims.creds` (inbox prefix nats::CLAIMS_INBOX): request bus.lookup_subject(), bus.learn(answer),
//! // request nats::CLAIMS_SUBJECT with bus.account_claim(..); answer `{"data":{"code":200,…}}`.
//! nats::server_config(&BusAuthority, &mut Revocations, &BusServer, now) -> Result<String, NatsError>
//! nats::BusAuthority::{permit(&Client, user_key: &str, now, not_after), system_permit, account_claim(&mut Revocations, now)}
//! nats::UserKey::{generate, from_seed, public_key, seed, sign, credentials(&permit)}
//!
//! // What a provider of identities signed.
//! jwt::Keys::parse(&[u8]) -> Result<Keys, JwtError>
//! jwt::claims(text: &[u8], &Keys) -> Result<serde_json::Map<String, Value>, JwtError>
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod authority;
pub mod bundle;
pub mod enrol;
mod hex;
pub mod init;
pub mod jwt;
pub mod ledger;
pub mod life;
pub mod name;
pub mod nats;
pub mod refresh;
pub mod renewal;
pub mod tls;
pub mod token;
