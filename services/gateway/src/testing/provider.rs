//! A provider of identities for tests: it signs with keys of its own, and says what a test wants said.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::provider::{Provider, Replied};
use keywheel_schemas::config::login::{DEFAULT_LOGIN_LIFETIME, Provider as Settings, ProviderFile};
use keywheel_seal::SecretBytes;
use keywheel_testkit::fake::FakeClock;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::login::Logins;

pub(crate) const ISSUER: &str = "https://id.example.org";
pub(crate) const CLIENT: &str = "keywheel";
/// How long its word counts.
pub(crate) const WORD_SECONDS: i64 = 3600;

/// What it says, as a test left it.
struct Says {
    /// Seeds of its keys; the last one signs.
    keys: Vec<u8>,
    /// What it claims of somebody, in place of what it would.
    claims: Value,
    /// The whole answer to a form, in place of tokens.
    answer: Option<(u16, Value)>,
    refresh: Option<String>,
    device: bool,
    /// The token itself, in place of one that it signs.
    token: Option<String>,
}

/// The provider.
pub(crate) struct FakeProvider {
    clock: Arc<FakeClock>,
    says: Mutex<Says>,
    /// What it was asked: documents by their path, forms as they came.
    pub(crate) asked: Mutex<Vec<String>>,
    /// What it waits for before it answers a form.
    pub(crate) holds: Mutex<Option<Arc<Notify>>>,
}

impl FakeProvider {
    pub(crate) fn new(clock: Arc<FakeClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            says: Mutex::new(Says {
                keys: vec![1],
                claims: json!({}),
                answer: None,
                refresh: None,
                device: true,
                token: None,
            }),
            asked: Mutex::default(),
            holds: Mutex::default(),
        })
    }

    /// Logins at it, with groups.
    pub(crate) fn logins(self: &Arc<Self>) -> Arc<Logins> {
        self.logins_with(|_| ())
    }

    pub(crate) fn logins_with(
        self: &Arc<Self>,
        change: impl FnOnce(&mut ProviderFile),
    ) -> Arc<Logins> {
        let mut file = ProviderFile {
            issuer: ISSUER.to_owned(),
            client_id: CLIENT.to_owned(),
            client_secret_file: None,
            ca_file: None,
            name_claim: "preferred_username".to_owned(),
            groups_claim: Some("groups".to_owned()),
            scopes: vec!["groups".to_owned()],
            max_lifetime: None,
        };
        change(&mut file);
        let settings = Settings {
            file,
            max_lifetime: DEFAULT_LOGIN_LIFETIME,
        };
        Arc::new(Logins::new(settings, self.clone(), self.clock.clone()))
    }

    /// Claims are other ones from now on; `null` takes one away.
    pub(crate) fn claims(&self, claims: Value) {
        self.says.lock().unwrap().claims = claims;
    }

    /// It signs with another key, and shows that alone or beside the others.
    pub(crate) fn turn_key(&self, seed: u8, keeps_old: bool) {
        let mut says = self.says.lock().unwrap();
        if !keeps_old {
            says.keys.clear();
        }
        says.keys.push(seed);
    }

    /// Forms get this answer.
    pub(crate) fn answers(&self, status: u16, body: Value) {
        self.says.lock().unwrap().answer = Some((status, body));
    }

    /// Forms get tokens again.
    pub(crate) fn answers_with_tokens(&self) {
        self.says.lock().unwrap().answer = None;
    }

    pub(crate) fn gives_refresh(&self, token: &str) {
        self.says.lock().unwrap().refresh = Some(token.to_owned());
    }

    pub(crate) fn makes_no_codes(&self) {
        self.says.lock().unwrap().device = false;
    }

    /// The identity token is this text.
    pub(crate) fn sends(&self, token: &str) {
        self.says.lock().unwrap().token = Some(token.to_owned());
    }

    /// How often a document was read.
    pub(crate) fn reads(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| *one == path).count()
    }

    /// A token with these claims, signed by the key of a seed under the name of another.
    pub(crate) fn signed(claims: &Value, seed: u8, name: u8) -> String {
        let head = json!({ "alg": "EdDSA", "kid": format!("key-{name}") });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&head), part(claims));
        let signature = pair(seed).sign(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// What it claims of ada, with what a test changed.
    pub(crate) fn claimed(&self) -> Value {
        let now = self.clock.now().micros().div_euclid(1_000_000);
        let mut claims = json!({
            "iss": ISSUER, "aud": CLIENT, "sub": "4711", "nonce": "nonce",
            "iat": now, "exp": now + WORD_SECONDS,
            "preferred_username": "ada", "groups": ["payments"],
        });
        let says = self.says.lock().unwrap();
        for (name, value) in says.claims.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn tokens(&self) -> (u16, Value) {
        let claims = self.claimed();
        let says = self.says.lock().unwrap();
        if let Some(answer) = says.answer.clone() {
            return answer;
        }
        let seed = *says.keys.last().unwrap();
        let own = || Self::signed(&claims, seed, seed);
        let mut tokens = json!({
            "access_token": "access", "token_type": "Bearer",
            "id_token": says.token.clone().unwrap_or_else(own),
        });
        if let Some(refresh) = &says.refresh {
            tokens["refresh_token"] = refresh.as_str().into();
        }
        (200, tokens)
    }

    fn document(&self, path: &str) -> Value {
        let says = self.says.lock().unwrap();
        let at = |path: &str| format!("{ISSUER}/{path}");
        match path {
            "/.well-known/openid-configuration" => {
                let mut all = json!({
                    "issuer": ISSUER, "authorization_endpoint": at("authorize"),
                    "token_endpoint": at("token"), "jwks_uri": at("keys"),
                    "revocation_endpoint": at("revoke"), "userinfo_endpoint": at("userinfo"),
                });
                if says.device {
                    all["device_authorization_endpoint"] = at("device").into();
                }
                all
            }
            "/keys" => {
                let key = |seed: &u8| {
                    let x = URL_SAFE_NO_PAD.encode(pair(*seed).public_key().as_ref());
                    json!({ "kty": "OKP", "crv": "Ed25519", "kid": format!("key-{seed}"), "x": x })
                };
                let keys: Vec<Value> = says.keys.iter().map(key).collect();
                json!({ "keys": keys })
            }
            other => panic!("{other} is no document"),
        }
    }
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn replied((status, body): (u16, Value)) -> Replied {
    Replied {
        status,
        body: SecretBytes::from(body.to_string().into_bytes()),
    }
}

#[async_trait]
impl Provider for FakeProvider {
    async fn read(&self, url: &str) -> Result<Replied, PortError> {
        let path = url.strip_prefix(ISSUER).unwrap();
        self.asked.lock().unwrap().push(path.to_owned());
        Ok(replied((200, self.document(path))))
    }

    async fn read_as(&self, url: &str, token: &SecretBytes) -> Result<Replied, PortError> {
        assert_eq!(url, format!("{ISSUER}/userinfo"));
        // EXPOSE: tests look at what was sent.
        let is_known = token.expose() == b"access";
        Ok(replied(match is_known {
            true => (200, self.claimed()),
            false => (401, Value::Null),
        }))
    }

    async fn post(&self, url: &str, form: &SecretBytes) -> Result<Replied, PortError> {
        let path = url.strip_prefix(ISSUER).unwrap();
        // EXPOSE: tests look at what was sent.
        let form = String::from_utf8(form.expose().to_vec()).unwrap();
        self.asked.lock().unwrap().push(format!("{path} {form}"));
        let holds = self.holds.lock().unwrap().clone();
        if let Some(holds) = holds {
            holds.notified().await;
        }
        Ok(replied(match path {
            "/device" => {
                let says = self.says.lock().unwrap();
                let code = json!({
                    "device_code": "device-canary", "user_code": "WDJB-MJHT", "interval": 7,
                    "verification_uri": format!("{ISSUER}/type"), "expires_in": 600,
                });
                says.answer.clone().unwrap_or((200, code))
            }
            "/revoke" => (200, json!({})),
            _ => self.tokens(),
        }))
    }
}

/// As long as keys are believed after they were read once more.
pub(crate) const A_MOMENT: Duration = crate::login::KEYS_AGAIN_AFTER;
