//! Reading the seal file; and every provider at its real server: what opens at a start, what waits for a server that
//! is away, and the way from each provider to each other one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use keywheel_cache::Cache;
use keywheel_core::id::RotationId;
use keywheel_daemon::{Shutdown, SystemClock};
use keywheel_schemas::config::ConfigFlags;
use keywheel_seal::SecretBytes;
use keywheel_store_sync::seal::unseal_by_service;
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::openbao::{OpenBao, ROOT};

use super::making::{Asked, Wish};
use super::reseal::{Place, open_root};
use super::*;
use crate::exit::{Exit, Failure};
use crate::up::layout;

const OWN: DeploymentId = DeploymentId::from_bytes([1; 16]);
const KEPT: RotationId = RotationId::from_bytes([2; 16]);
const CANARY: &[u8] = b"canary-77b1";
const PASSPHRASE: &[u8] = b"correct horse battery staple";
/// How often it is looked whether something came about.
const LOOKS: u32 = 2400;
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

#[test]
fn no_file_is_no_seal_and_one_of_another_deployment_or_changed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join(file::NAME);
    let own = DeploymentId::from_bytes([1; 16]);
    assert_eq!(read(&path, own).ok().unwrap(), None);
    let root = UnsealKey::generate(&OsEntropy);
    let made = SealedRoot::by_shares(*own.bytes(), &root, (2, 3), &OsEntropy).unwrap();
    let text = file::to_text(&made.0).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(read(&path, own).ok().unwrap(), Some(made.0));
    let other = read(&path, DeploymentId::from_bytes([2; 16])).unwrap_err();
    assert!(other.what.contains("another deployment"), "{}", other.what);
    fs::write(&path, text.replace("\"v\":1", "\"v\": 1")).unwrap();
    let changed = read(&path, own).unwrap_err();
    assert!(changed.what.contains("it was changed"), "{}", changed.what);
}

/// A data directory, a key file and a file of settings, with a value in the cache.
struct Bench {
    scratch: tempfile::TempDir,
    place: Place,
}

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).unwrap();
        let flags = ConfigFlags {
            data_dir: Some(data_dir.clone()),
            unseal_key_file: Some(scratch.path().join("unseal.key")),
            machine_name: Some("one".to_owned()),
            ..ConfigFlags::default()
        };
        let config = Config::load(None, &|_| None, flags).unwrap();
        let place = Place {
            config,
            directory: data_dir,
            deployment: OWN,
        };
        Self { scratch, place }
    }

    fn settings(&self) -> PathBuf {
        self.scratch.path().join("unseal.toml")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Settings of both services, as far as there are servers.
    fn name(&self, kms: Option<(&AwsServer, &str)>, transit: Option<(&OpenBao, &str)>) {
        let mut text = String::new();
        if let Some((server, key)) = kms {
            let secret = self.write("secret-key", "secret-access-key\n");
            let (url, secret) = (server.url(), secret.display().to_string());
            text.push_str(&format!(
                "[kms]\nkey = {key:?}\nregion = \"eu-central-1\"\nendpoint = {url:?}\naccess_key_id = \"AKIAEXAMPLE\"\nsecret_access_key_file = {secret:?}\n"
            ));
        }
        if let Some((server, key)) = transit {
            let token = self.write("token", &format!("{ROOT}\n"));
            let (url, token) = (
                format!("http://{}", server.address()),
                token.display().to_string(),
            );
            text.push_str(&format!(
                "[transit]\naddress = {url:?}\nkey = {key:?}\ntoken_file = {token:?}\n"
            ));
        }
        self.write("unseal.toml", &text);
    }

    fn wish(&self, word: &str) -> Wish {
        let text = match word {
            "kms" | "transit" => format!("{word}:{}", self.settings().display()),
            other => other.to_owned(),
        };
        Wish::parse(&text).unwrap()
    }

    fn asked(&self, word: &str) -> Asked {
        match word {
            "passphrase" => Asked::of_passphrase(SecretBytes::from(PASSPHRASE.to_vec())),
            word => self.wish(word).ask(&self.place.directory).unwrap(),
        }
    }

    fn sealed(&self) -> Option<SealedRoot> {
        read(&self.place.directory.join(file::NAME), OWN)
            .ok()
            .unwrap()
    }

    /// The root key, by what is there and by these shares.
    async fn root(&self, shares: &[String]) -> UnsealKey {
        let sealed = self.sealed();
        match &sealed {
            Some(sealed) if matches!(sealed.provider, Provider::Shares { .. }) => {
                let mut gathered = sealed.gather().unwrap();
                for share in shares {
                    let share = SecretBytes::from(share.clone().into_bytes());
                    gathered.take(&share).unwrap();
                }
                sealed.open_with_shares(&gathered).unwrap()
            }
            Some(sealed) if matches!(sealed.provider, Provider::Passphrase { .. }) => {
                let passphrase = SecretBytes::from(PASSPHRASE.to_vec());
                sealed.open_with_passphrase(&passphrase).unwrap()
            }
            sealed => open_root(&self.place.config, sealed.as_ref())
                .await
                .unwrap(),
        }
    }

    async fn open(&self, root: UnsealKey) -> Result<Cache, keywheel_cache::Error> {
        let clock = Arc::new(SystemClock::new());
        Custodian::new(&self.place.config, OWN, clock)
            .open_cache(root)
            .await
    }

    /// By a key file, with a value in it.
    async fn begin(&self) {
        let config = &self.place.config;
        let root = layout::first_unseal_key(&config.unseal_key_file, &config.data_dir).unwrap();
        let cache = self.open(root).await.unwrap();
        let value = SecretBytes::from(CANARY.to_vec());
        cache.stash(KEPT, &value).await.unwrap();
        cache.close().await.unwrap();
    }

    /// Gives the shares that were shown.
    async fn change(&self, root: UnsealKey, asked: &Asked) -> Result<Vec<String>, Failure> {
        let mut shown = Vec::new();
        let show = |shares: &[String]| {
            shown = shares.to_vec();
            Ok(())
        };
        self.place.change(root, asked, show).await?;
        Ok(shown)
    }

    async fn holds_the_value(&self, root: UnsealKey) {
        let cache = self.open(root).await.unwrap();
        let kept = cache.stashed(KEPT).await.unwrap().unwrap();
        assert!(kept.ct_eq(&SecretBytes::from(CANARY.to_vec())));
        cache.close().await.unwrap();
    }

    /// As `keywheel up` does it.
    async fn start(&self) -> Seal {
        let config = &self.place.config;
        let own = (self.place.directory.as_path(), OWN);
        let key = || layout::present_unseal_key(&config.unseal_key_file, &config.data_dir);
        let clock = Arc::new(SystemClock::new());
        under_seal(config, own, clock, key).await.unwrap()
    }
}

/// A fresh key of moto's; it judges nobody's signature.
fn kms_key(server: &AwsServer) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: TrentService.CreateKey\r\n\
         Content-Type: application/x-amz-json-1.1\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=AKIAOTHER/20261129/eu-central-1/kms/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let at = answer.find("arn:aws:kms:").expect(&answer);
    let arn = answer[at..].split('"').next();
    arn.unwrap().to_owned()
}

fn transit_keys(server: &OpenBao) {
    server.must("POST", "sys/mounts/transit", &[], r#"{"type":"transit"}"#);
    for key in ["kw", "other"] {
        server.must("POST", &format!("transit/keys/{key}"), &[], "{}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_is_resealed_to_every_other_one_and_the_value_stays() {
    let (moto, bao) = (AwsServer::start(Maker::Moto), OpenBao::start(None));
    transit_keys(&bao);
    let bench = Bench::new();
    let key = kms_key(&moto);
    bench.name(Some((&moto, key.as_str())), Some((&bao, "kw")));
    bench.begin().await;
    let mut shares = Vec::new();
    // Each of the four once from each other one; then a passphrase, which costs memory and time.
    let way = [
        "shamir:2/2",
        "key-file",
        "kms",
        "key-file",
        "transit",
        "shamir:2/2",
        "kms",
        "shamir:2/2",
        "transit",
        "kms",
        "transit",
        "key-file",
        "passphrase",
        "kms",
        "passphrase",
        "transit",
    ];
    for word in way {
        let root = bench.root(&shares).await;
        let before = root.to_file();
        shares = bench.change(root, &bench.asked(word)).await.unwrap();
        let sealed = bench.sealed().unwrap();
        assert!(word.starts_with(sealed.provider.word()), "{word}");
        bench.holds_the_value(bench.root(&shares).await).await;
        let before = UnsealKey::from_file(&before).unwrap();
        let opened = bench.open(before).await;
        assert!(
            matches!(opened, Err(keywheel_cache::Error::WrongUnsealKey { .. })),
            "what opened it before {word} opens it still"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_opens_the_cache_at_a_start_and_a_wrong_key_changes_nothing() {
    let (moto, bao) = (AwsServer::start(Maker::Moto), OpenBao::start(None));
    transit_keys(&bao);
    let (own, other) = (kms_key(&moto), kms_key(&moto));
    let bench = Bench::new();
    bench.name(Some((&moto, own.as_str())), Some((&bao, "kw")));
    bench.begin().await;
    for (word, wrong) in [
        ("kms", (other.as_str(), "kw")),
        ("transit", (own.as_str(), "other")),
    ] {
        let root = bench.root(&[]).await;
        bench.change(root, &bench.asked(word)).await.unwrap();
        let seal = bench.start().await;
        assert!(!seal.is_sealed(), "{word}");
        assert_eq!(seal.state().await.unwrap().provider, word);
        drop(seal);
        let text = fs::read(bench.place.directory.join(file::NAME)).unwrap();
        bench.name(Some((&moto, wrong.0)), Some((&bao, wrong.1)));
        let seal = bench.start().await;
        assert!(seal.is_sealed(), "{word}: another key opened it");
        drop(seal);
        let sealed = bench.sealed();
        let refused = open_root(&bench.place.config, sealed.as_ref()).await;
        let refused = refused.map(drop).unwrap_err();
        assert_eq!(refused.exit, Exit::Config, "{refused:?}");
        assert!(refused.what.contains("it was wrapped by"), "{refused:?}");
        assert_eq!(
            fs::read(bench.place.directory.join(file::NAME)).unwrap(),
            text
        );
        bench.name(Some((&moto, own.as_str())), Some((&bao, "kw")));
        bench.holds_the_value(bench.root(&[]).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_a_reseal_changes_nothing() {
    let bao = OpenBao::start(None);
    transit_keys(&bao);
    // It encrypts, and takes no associated data.
    bao.must("POST", "transit/keys/rsa", &[], r#"{"type":"rsa-2048"}"#);
    let bench = Bench::new();
    bench.name(None, Some((&bao, "rsa")));
    bench.begin().await;
    let refused = bench
        .change(bench.root(&[]).await, &bench.asked("transit"))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.exit, Exit::Config, "{refused:?}");
    assert!(refused.what.contains("transit key `rsa`"), "{refused:?}");
    let there: Vec<_> = fs::read_dir(&bench.place.directory).unwrap().collect();
    let names: Vec<_> = there
        .into_iter()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().starts_with("seal")),
        "{names:?}"
    );
    bench.holds_the_value(bench.root(&[]).await).await;
    let asked = bench.asked("transit").prove().await;
    assert!(asked.is_err(), "`init` is refused before anything is made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_at_a_start_opens_it_without_a_word_when_it_is_back() {
    let mut bao = OpenBao::start_kept();
    transit_keys(&bao);
    let bench = Bench::new();
    bench.name(None, Some((&bao, "kw")));
    bench.begin().await;
    let root = bench.root(&[]).await;
    bench.change(root, &bench.asked("transit")).await.unwrap();
    bao.kill();
    let seal = bench.start().await;
    assert!(seal.is_sealed());
    let (asking, shutdown) = (seal.clone(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { unseal_by_service(&asking, &told).await });
    bao.start_again();
    assert!(seal.is_sealed(), "it answers, and is sealed itself");
    bao.unseal();
    let mut looks = 0;
    while seal.is_sealed() {
        assert!(looks < LOOKS, "nobody asks it");
        tokio::time::sleep(LOOK).await;
        looks += 1;
    }
    shutdown.request();
    task.await.unwrap();
    drop(seal);
    bench.holds_the_value(bench.root(&[]).await).await;
}
