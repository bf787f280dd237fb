//! Another hand at the same server, and the adapter under test: what a person does with AWS's own tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials as Keys, Region};
use aws_sdk_secretsmanager::primitives::Blob;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use keywheel_core::name::StoreName;
use keywheel_core::store::{AwsAuth, AwsSpec, CredentialRef, Source};
use keywheel_engine::port::PortError;
use keywheel_engine::port::store::{Credentials, Store};
use keywheel_seal::SecretBytes;
use keywheel_stores::aws::AwsStore;
use keywheel_testkit::conformance::store::{FIELD, Outside};
use keywheel_testkit::server::aws::{AwsServer, Maker};

use crate::iam::Login;

/// The store's own timeout: long for a busy machine, short for a server that hangs.
pub const TIMEOUT: Duration = Duration::from_secs(8);
pub const REGION: &str = "eu-central-1";
/// A credential that no error may tell.
pub const SECRET_KEY: &str = "secret-access-key-3f81";

/// Gives a key, or says what is missing.
pub struct Key(pub Result<&'static str, &'static str>);

#[async_trait]
impl Credentials for Key {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        let key = self.0.map(|key| SecretBytes::from(key.as_bytes().to_vec()));
        key.map_err(|text| PortError::new(keywheel_engine::port::ErrorKind::NotFound, text))
    }
}

pub fn spec(endpoint: &str) -> AwsSpec {
    spec_of(endpoint, "AKIAEXAMPLE")
}

pub fn spec_of(endpoint: &str, access_key_id: &str) -> AwsSpec {
    AwsSpec {
        region: REGION.to_owned(),
        endpoint: endpoint.to_owned(),
        auth: AwsAuth::Keys {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: CredentialRef::File("/nowhere".to_owned()),
            session_token: None,
        },
    }
}

pub fn adapter(spec: AwsSpec, key: Key, timeout: Duration) -> AwsStore {
    let name = StoreName::parse("prod").unwrap();
    AwsStore::new(name, spec, timeout, Arc::new(key)).unwrap()
}

/// A server, the adapter on the way `endpoint` to it, and a hand that goes straight to it.
pub struct AtAws {
    pub client: Client,
    pub store: Arc<AwsStore>,
    made: AtomicU64,
    _server: Arc<AwsServer>,
}

impl AtAws {
    pub fn start(maker: Maker) -> Self {
        let server = Arc::new(AwsServer::start(maker));
        let endpoint = server.url();
        Self::by_way_of(server, &endpoint)
    }

    pub fn by_way_of(server: Arc<AwsServer>, endpoint: &str) -> Self {
        let login = |id: &str, secret: &str| Login {
            id: id.to_owned(),
            secret: secret.to_owned(),
        };
        let ours = login("AKIAEXAMPLE", SECRET_KEY);
        Self::between(server, endpoint, &login("AKIAOTHER", "other"), ours)
    }

    /// The other hand and the adapter, each with a login of its own.
    pub fn between(server: Arc<AwsServer>, endpoint: &str, other: &Login, ours: Login) -> Self {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(tls);
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(server.url())
            .http_client(http.build_https())
            .credentials_provider(Keys::new(&other.id, &other.secret, None, None, "test"));
        let key = Key(Ok(&*ours.secret.leak()));
        Self {
            client: Client::from_conf(config.build()),
            store: Arc::new(adapter(spec_of(endpoint, &ours.id), key, TIMEOUT)),
            made: AtomicU64::new(0),
            _server: server,
        }
    }

    /// Labels by version, the empty ones left out.
    pub async fn labels(&self, path: &str) -> BTreeMap<String, Vec<String>> {
        let described = self.client.describe_secret().secret_id(path).send().await;
        let all = described.unwrap().version_ids_to_stages.unwrap_or_default();
        let mut all: BTreeMap<_, _> = all.into_iter().filter(|(_, l)| !l.is_empty()).collect();
        for labels in all.values_mut() {
            labels.sort();
        }
        all
    }

    pub async fn current(&self, path: &str) -> Option<String> {
        let all = self.labels(path).await;
        let mut current = all
            .into_iter()
            .filter(|(_, labels)| labels.iter().any(|l| l == "AWSCURRENT"));
        current.next().map(|(version, _)| version)
    }

    /// The whole value in force. Not asked for by its label: moto forgets which version has it.
    pub async fn whole(&self, path: &str) -> Vec<u8> {
        let version = self.current(path).await.unwrap();
        let request = self.client.get_secret_value().secret_id(path);
        let value = request.version_id(version).send().await.unwrap();
        let text = value.secret_string.map(String::into_bytes);
        text.unwrap_or_else(|| value.secret_binary.unwrap().into_inner())
    }

    /// Makes a whole value current, as AWS's own rotation does.
    pub async fn put(&self, path: &str, whole: &[u8]) {
        let text = str::from_utf8(whole).ok().map(str::to_owned);
        let blob = text.is_none().then(|| Blob::new(whole));
        let request = self.client.create_secret().name(path);
        let request = request
            .set_secret_string(text.clone())
            .set_secret_binary(blob.clone());
        if request.send().await.is_ok() {
            return;
        }
        let before = self.current(path).await;
        let request = self.client.put_secret_value().secret_id(path);
        let request = request.set_secret_string(text).set_secret_binary(blob);
        let put = request.version_stages("AWSPENDING").send().await.unwrap();
        let version = put.version_id.unwrap();
        self.relabel(path, "AWSCURRENT", before.as_deref(), Some(&version))
            .await;
        self.relabel(path, "AWSPENDING", Some(&version), None).await;
    }

    pub async fn relabel(&self, path: &str, label: &str, from: Option<&str>, to: Option<&str>) {
        let request = self.client.update_secret_version_stage().secret_id(path);
        let request = request
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned));
        let request = request.set_move_to_version_id(to.map(str::to_owned));
        request.send().await.unwrap();
    }

    pub fn place(&self, field: &str) -> Source {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Source {
            path: format!("conformance/{number}"),
            field: field.to_owned(),
        }
    }
}

#[async_trait]
impl Outside for AtAws {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
    fn fresh(&self) -> Source {
        self.place(FIELD)
    }
    async fn write(&self, path: &str, fields: &[(&str, &str)]) {
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        self.put(path, &serde_json::to_vec(&fields).unwrap()).await;
    }
    async fn fields(&self, path: &str) -> BTreeMap<String, String> {
        serde_json::from_slice(&self.whole(path).await).unwrap()
    }
    async fn delete(&self, path: &str) {
        self.client
            .delete_secret()
            .secret_id(path)
            .send()
            .await
            .unwrap();
    }
    async fn versions(&self, path: &str) -> usize {
        let listed = self.client.list_secret_version_ids().secret_id(path);
        let listed = listed.include_deprecated(true).send().await.unwrap();
        listed.versions().len()
    }
    fn revoked_is_gone(&self) -> bool {
        false
    }
    fn has_stage(&self) -> bool {
        true
    }
}
