//! The standard credential chain: what it finds is told by the environment, so each case is a process
//! of its own, this very test with a variable that says which.

use std::path::Path;
use std::process::Command;

use keywheel_core::store::{AwsAuth, AwsSpec};
use keywheel_engine::port::store::Store as _;
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::server::aws::{AwsServer, Maker};

use crate::hand::{Key, TIMEOUT, adapter};

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

#[tokio::test]
async fn the_standard_chain_is_followed() {
    if let Ok(child) = std::env::var(CHILD) {
        let words: Vec<_> = child.split(' ').collect();
        return check(words[0], words[1], words[2]).await;
    }
    let server = AwsServer::start(Maker::Moto);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::create_dir(directory.join(".aws")).unwrap();
    std::fs::write(directory.join("jwt"), "a.b.c").unwrap();
    let config = "[profile ours]\nregion = eu-west-1\naws_access_key_id = AKIAPROFILE\n\
                  aws_secret_access_key = of-the-profile\n";
    std::fs::write(directory.join(".aws/config"), config).unwrap();
    let url = server.url();
    let case = |region: &str, profile: &str, variables: &[(&str, &str)]| {
        said(directory, &format!("{url} {region} {profile}"), variables)
    };
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SECRET_ACCESS_KEY", "of-the-environment"),
    ];
    assert_eq!(case("eu-central-1", "", &keys), "well");
    let in_environment = [keys[0], keys[1], ("AWS_REGION", "eu-central-1")];
    assert_eq!(case("", "", &in_environment), "well");
    assert_eq!(
        case("", "ours", &[]),
        "well",
        "region and keys of a profile"
    );
    let jwt = directory.join("jwt");
    let web_identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", jwt.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/keywheel"),
        ("AWS_ENDPOINT_URL_STS", &url),
    ];
    assert_eq!(case("eu-central-1", "", &web_identity), "well");
    let told = case("", "", &keys);
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
