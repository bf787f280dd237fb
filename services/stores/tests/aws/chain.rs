//! The standard credential chain: what it finds is told by the environment, so each case is a process
//! of its own, this very test with a variable that says which.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::name::StoreName;
use keywheel_core::store::{AwsAuth, AwsSpec, CredentialRef};
use keywheel_engine::port::PortError;
use keywheel_engine::port::store::{Credentials, Store as _};
use keywheel_seal::SecretBytes;
use keywheel_stores::aws::AwsStore;
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::FaultProxy;

use crate::endpoint::{CONTAINER_TOKEN, Endpoints, document};
use crate::hand::{Key, TIMEOUT, adapter, spec};

const CHILD: &str = "KEYWHEEL_TEST_CHAIN";
const TEST: &str = "chain::the_standard_chain_is_followed";

/// Checks the store in this process and prints what came of it.
async fn check(endpoint: &str, region: &str, profile: &str) {
    let spec = AwsSpec {
        region: region.to_owned(),
        endpoint: endpoint.to_owned(),
        auth: AwsAuth::Chain {
            profile: profile.to_owned(),
        },
    };
    let store = adapter(spec, Key(Err("no declared key is read")), TIMEOUT);
    let checked = store.check(&plenty()).await;
    let said = checked.map_or_else(|error| error.text, |()| "well".to_owned());
    println!("checked: {said} .");
}

/// What a child with these variables says.
fn said(directory: &Path, child: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env_clear()
        .env("HOME", directory)
        .env("PATH", "/usr/bin:/bin")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(CHILD, child)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let all = String::from_utf8(output.stdout).unwrap();
    let line = all
        .split_once("checked: ")
        .and_then(|(_, rest)| rest.split_once(" ."));
    line.unwrap_or_else(|| panic!("it checked nothing: {all}"))
        .0
        .to_owned()
}

/// Profiles of every kind; the name of each is its access key's end.
fn write_profiles(home: &Path) {
    let process = home.join("process.json");
    let printed = document("AKIAPROCESS").replacen('{', "{\"Version\":1,", 1);
    std::fs::write(&process, printed).unwrap();
    let process = process.display();
    let config = format!(
        "[profile keys]\nregion = eu-west-1\naws_access_key_id = AKIAKEYS\n\
         aws_secret_access_key = of-the-profile\n\
         [profile process]\ncredential_process = cat {process}\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/keywheel\nsource_profile = keys\n"
    );
    std::fs::create_dir_all(home.join(".aws")).unwrap();
    std::fs::write(home.join(".aws/config"), config).unwrap();
    std::fs::write(home.join("jwt"), "a.b.c").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_standard_chain_is_followed() {
    if let Ok(child) = std::env::var(CHILD) {
        let words: Vec<_> = child.split(' ').collect();
        return check(words[0], words[1], words[2]).await;
    }
    let server = AwsServer::start(Maker::Moto);
    let proxy = FaultProxy::before(server.address()).await;
    let endpoints = Endpoints::start();
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    write_profiles(home);
    let (url, sts) = (proxy.url(), server.url());
    let case = |region: &str, profile: &str, variables: &[(&str, &str)]| {
        proxy.forget();
        said(home, &format!("{url} {region} {profile}"), variables)
    };
    let shown = |key: &str| proxy.asked(&format!("Credential={key}/"));
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SECRET_ACCESS_KEY", "of-the-environment"),
    ];
    assert_eq!(case("eu-central-1", "", &keys), "well");
    assert_eq!(shown("AKIAENV"), 1);
    let in_environment = [keys[0], keys[1], ("AWS_REGION", "eu-central-1")];
    assert_eq!(case("", "", &in_environment), "well");
    assert_eq!(
        case("", "keys", &[]),
        "well",
        "region and keys of a profile"
    );
    assert_eq!(shown("AKIAKEYS"), 1);
    assert_eq!(case("eu-central-1", "process", &[]), "well");
    assert_eq!(shown("AKIAPROCESS"), 1);
    let at_sts = ("AWS_ENDPOINT_URL_STS", sts.as_str());
    assert_eq!(case("eu-central-1", "role", &[at_sts]), "well");
    assert_eq!(
        (proxy.asked("Credential="), shown("AKIAKEYS")),
        (1, 0),
        "the role's"
    );
    let jwt = home.join("jwt");
    let web_identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", jwt.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/keywheel"),
        at_sts,
    ];
    assert_eq!(case("eu-central-1", "", &web_identity), "well");

    let container = format!("{}/container", endpoints.url());
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN),
    ];
    assert_eq!(case("eu-central-1", "", &container), "well");
    assert_eq!(shown("ASIACONTAINER"), 1);
    assert_eq!(proxy.asked("x-amz-security-token: of-ASIACONTAINER"), 1);
    let url = endpoints.url();
    let instance = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
    ];
    assert_eq!(case("eu-central-1", "", &instance), "well");
    assert_eq!(shown("ASIAINSTANCE"), 1);
    assert_eq!(case("", "", &instance), "well", "the region, too");

    lacks_are_named(&case, &keys);
}

/// Where the chain ends without an answer, the error says what is missing.
fn lacks_are_named(case: &impl Fn(&str, &str, &[(&str, &str)]) -> String, keys: &[(&str, &str)]) {
    let told = case("", "", keys);
    assert!(
        told.contains("no AWS region") && told.contains("declare `region`"),
        "{told}"
    );
    let told = case("eu-central-1", "", &[]);
    assert!(
        told.contains("no AWS credentials") && told.contains("the default profile"),
        "{told}"
    );
    let told = case("eu-central-1", "theirs", &[]);
    assert!(
        told.contains("no AWS credentials") && told.contains("`theirs`"),
        "{told}"
    );
}

/// Credentials by the path they are read at.
struct Named(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl Credentials for Named {
    async fn read(&self, from: &CredentialRef) -> Result<SecretBytes, PortError> {
        let CredentialRef::File(path) = from else {
            panic!("{from:?}");
        };
        let held = self.0.lock().unwrap();
        Ok(SecretBytes::from(held[path].clone().into_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_key_is_shown_with_its_session_token_both_read_anew() {
    let server = AwsServer::start(Maker::Moto);
    let proxy = FaultProxy::before(server.address()).await;
    let file = |path: &str| CredentialRef::File(path.to_owned());
    let held = [("/key", "a-key"), ("/token", "first-token")];
    let held = held.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let held = Arc::new(Named(Mutex::new(held.into())));
    let store = |session_token| {
        let spec = AwsSpec {
            auth: AwsAuth::Keys {
                access_key_id: "ASIATEMPORARY".to_owned(),
                secret_access_key: file("/key"),
                session_token,
            },
            ..spec(&proxy.url())
        };
        let name = StoreName::parse("prod").unwrap();
        AwsStore::new(name, spec, TIMEOUT, held.clone()).unwrap()
    };
    let with = store(Some(file("/token")));
    for token in ["first-token", "second-token"] {
        held.0
            .lock()
            .unwrap()
            .insert("/token".to_owned(), token.to_owned());
        with.check(&plenty()).await.unwrap();
        assert_eq!(proxy.asked(&format!("x-amz-security-token: {token}")), 1);
    }
    proxy.forget();
    store(None).check(&plenty()).await.unwrap();
    assert_eq!(
        (proxy.asked(""), proxy.asked("x-amz-security-token")),
        (1, 0)
    );
}
