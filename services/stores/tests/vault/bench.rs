//! A server, an engine at it, a proxy before it, and the adapter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::name::StoreName;
use keywheel_core::store::{CredentialRef, OldVersions, Source, VaultAuth, VaultSpec};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::store::{Credentials, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::vault::{Process, VaultStore, Wrappings};
use keywheel_testkit::conformance::store::{FIELD, Outside};
use keywheel_testkit::fake::FakeClock;
use keywheel_testkit::server::fault::FaultProxy;
use keywheel_testkit::server::openbao::{OpenBao, ROOT};
use serde_json::Value;

/// The engine's mount.
pub(crate) const MOUNT: &str = "team/kv";
/// Long enough for a busy machine, and what a server that hangs is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A namespace in a namespace.
pub(crate) const NESTED: &str = "team-a/inner";
/// In microseconds: later than anything here is deleted.
pub(crate) const NOW: i64 = 4_000_000_000_000_000;

/// Credentials in memory, by the path they are read at.
#[derive(Default)]
pub(crate) struct Kept(Mutex<BTreeMap<String, Vec<u8>>>);

impl Kept {
    pub(crate) fn put(&self, path: &str, value: impl Into<Vec<u8>>) -> CredentialRef {
        let mut kept = self.0.lock().unwrap();
        kept.insert(path.to_owned(), value.into());
        CredentialRef::File(path.to_owned())
    }
}

#[async_trait]
impl Credentials for Kept {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        let CredentialRef::File(path) = credential else {
            return Err(PortError::new(ErrorKind::NotFound, "no secrets here"));
        };
        let kept = self.0.lock().unwrap().get(path).cloned();
        kept.map(SecretBytes::from)
            .ok_or_else(|| PortError::new(ErrorKind::NotFound, format!("{path} is not there")))
    }
}

/// What a test works with.
pub(crate) struct Bench {
    pub(crate) server: OpenBao,
    pub(crate) proxy: FaultProxy,
    pub(crate) kept: Arc<Kept>,
    pub(crate) clock: Arc<FakeClock>,
    namespace: String,
    header: String,
    store: Mutex<Option<Arc<dyn Store>>>,
    places: AtomicU32,
}

impl Bench {
    /// With an engine in the root namespace, and the root token.
    pub(crate) async fn start() -> Self {
        Self::of(OpenBao::start(None), "").await
    }

    /// At this server, in a namespace.
    pub(crate) async fn of(server: OpenBao, namespace: &str) -> Self {
        let address: SocketAddr = server.address();
        let bench = Self {
            proxy: FaultProxy::before(address).await,
            server,
            kept: Arc::default(),
            clock: Arc::new(FakeClock::at(Timestamp::from_micros(NOW))),
            namespace: namespace.to_owned(),
            header: header(namespace),
            store: Mutex::new(None),
            places: AtomicU32::new(0),
        };
        let mut above = String::new();
        for name in namespace.split('/').filter(|name| !name.is_empty()) {
            let header = header(&above);
            let headers = Vec::from_iter((!above.is_empty()).then_some(header.as_str()));
            let path = format!("sys/namespaces/{name}");
            bench.server.must("POST", &path, &headers, "{}");
            above = format!("{above}{name}/");
        }
        let engine = r#"{"type":"kv","options":{"version":"2"}}"#;
        bench.must("POST", &format!("sys/mounts/{MOUNT}"), engine);
        let token = bench.kept.put("/root-token", ROOT);
        bench.log_in(VaultAuth::Token { token });
        bench
    }

    /// The declaration, by way of the proxy.
    pub(crate) fn spec(&self, auth: VaultAuth) -> VaultSpec {
        VaultSpec {
            address: self.proxy.url(),
            namespace: self.namespace.clone(),
            mount: MOUNT.to_owned(),
            ca_file: String::new(),
            old_versions: OldVersions::Destroy,
            auth,
        }
    }

    /// Another adapter, with this declaration, in a process of its own.
    pub(crate) fn adapter(&self, spec: &VaultSpec) -> Arc<dyn Store> {
        self.adapter_in(&Arc::default(), spec)
    }

    /// One in the process that keeps these secret ids.
    pub(crate) fn adapter_in(
        &self,
        wrappings: &Arc<Wrappings>,
        spec: &VaultSpec,
    ) -> Arc<dyn Store> {
        let name = StoreName::parse("elsewhere").unwrap();
        let (kept, clock) = (Arc::clone(&self.kept), Arc::clone(&self.clock));
        let process = Process {
            clock: clock as Arc<dyn Clock>,
            entropy: Arc::new(OsEntropy),
            wrappings: Arc::clone(wrappings),
        };
        Arc::new(VaultStore::new(&name, spec, TIMEOUT, kept, process).unwrap())
    }

    /// From now on the adapter logs in like this.
    pub(crate) fn log_in(&self, auth: VaultAuth) -> Arc<dyn Store> {
        self.declare(&self.spec(auth))
    }

    /// From now on the adapter is declared like this.
    pub(crate) fn declare(&self, spec: &VaultSpec) -> Arc<dyn Store> {
        let store = self.adapter(spec);
        *self.store.lock().unwrap() = Some(Arc::clone(&store));
        store
    }

    /// Does it as a person with the root token in the namespace.
    pub(crate) fn must(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.server.must(method, path, &self.headers(), body);
        serde_json::from_str(&answer).unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> Vec<&str> {
        // A header's name with an empty value is the root namespace.
        Vec::from_iter((!self.namespace.is_empty()).then_some(self.header.as_str()))
    }

    /// Ends every token but the root one.
    pub(crate) fn revoke_tokens(&self) {
        let listed = self.must("LIST", "auth/token/accessors", "");
        for accessor in listed["data"]["keys"].as_array().unwrap() {
            let body = format!("{{\"accessor\":{accessor}}}");
            let found = self.must("POST", "auth/token/lookup-accessor", &body);
            if found["data"]["policies"] != serde_json::json!(["root"]) {
                self.must("POST", "auth/token/revoke-accessor", &body);
            }
        }
    }

    /// A policy of this text, by name.
    pub(crate) fn policy(&self, name: &str, text: &str) {
        let body = serde_json::json!({ "policy": text }).to_string();
        self.must("PUT", &format!("sys/policies/acl/{name}"), &body);
    }

    /// One that may do everything in the engine, by name.
    pub(crate) fn all_rights(&self, name: &str) {
        self.policy(
            name,
            &format!("path \"{MOUNT}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"patch\", \"list\"] }}"),
        );
    }
}

#[async_trait]
impl Outside for Bench {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.lock().unwrap().as_ref().unwrap())
    }

    fn fresh(&self) -> Source {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        Source {
            path: format!("conformance/{number} a&b/näme"),
            field: FIELD.to_owned(),
        }
    }

    async fn write(&self, path: &str, fields: &[(&str, &str)]) {
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        let body = serde_json::json!({ "data": fields }).to_string();
        self.must("POST", &format!("{MOUNT}/data/{}", encoded(path)), &body);
    }

    async fn fields(&self, path: &str) -> BTreeMap<String, String> {
        let path = format!("{MOUNT}/data/{}", encoded(path));
        let (status, body) = self.server.ask("GET", &path, &self.headers(), "");
        if status == 404 {
            return BTreeMap::new();
        }
        let read: Value = serde_json::from_str(&body).unwrap();
        serde_json::from_value(read["data"]["data"].clone()).unwrap()
    }

    async fn delete(&self, path: &str) {
        self.must("DELETE", &format!("{MOUNT}/data/{}", encoded(path)), "");
    }

    async fn versions(&self, path: &str) -> usize {
        let read = self.must("GET", &format!("{MOUNT}/metadata/{}", encoded(path)), "");
        let newest = read["data"]["current_version"].as_u64().unwrap();
        usize::try_from(newest).unwrap()
    }

    fn revoked_is_gone(&self) -> bool {
        true
    }

    fn has_stage(&self) -> bool {
        false
    }
}

fn header(namespace: &str) -> String {
    format!("X-Vault-Namespace: {namespace}")
}

/// As a browser would.
pub(crate) fn encoded(path: &str) -> String {
    path.replace(' ', "%20")
        .replace('&', "%26")
        .replace('ä', "%C3%A4")
}
