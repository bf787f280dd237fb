//! What `keywheel import` proposes is applied as it is, and works; it holds names and no value.

use anyhow::{Result, ensure};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{finish, wait_current};
use serde_json::json;

use crate::aws::create;
use crate::scene::{KEY, credential, make_token};

/// The standard chain of whoever runs, and nothing of the machine's.
const CHAIN: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIATEST"),
    ("AWS_SECRET_ACCESS_KEY", "of-the-standard-chain-2b17"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

#[test]
fn what_is_proposed_for_vault_and_aws_is_applied_as_it_is() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let (bao, moto) = (OpenBao::start(None), AwsServer::start(Maker::Moto));
    make_token(&bao);
    let environment = CHAIN.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let keywheel = Keywheel::start_with(&Options {
        environment: environment.to_vec(),
        ..Options::default()
    })?;
    let values = ["import-pw-7b1e", "import-user-04ac", "import-whole-c95d"];
    let body = json!({ "data": { "password": values[0], "API user": values[1] } });
    bao.must("POST", "secret/data/team/shop/db", &[], &body.to_string());
    bao.must("POST", "secret/data/else/where", &[], &body.to_string());
    create(&moto, "team/mail", values[2])?;
    create(&moto, "else/where", values[2])?;

    let own = credential(&keywheel, "own-token", KEY)?
        .display()
        .to_string();
    let theirs = credential(&keywheel, "store-token", KEY)?
        .display()
        .to_string();
    let server = format!("http://{}", bao.address());
    let vault = ["import", "vault", "--path", "team", "--server", &server];
    let tokens = ["--token-file", &own, "--store-token-file", &theirs];
    let url = moto.url();
    let aws = ["import", "aws", "--path", "team/", "--endpoint", &url];
    let region = ["--region", "eu-central-1"];
    for words in [[&vault[..], &tokens].concat(), [&aws[..], &region].concat()] {
        let mut asked = keywheel.client(&words)?;
        let proposed = keywheel.hear(asked.envs(CHAIN))?.ok()?;
        is_only_names(&proposed, &values)?;
        keywheel.apply(&proposed.stdout)?;
    }
    for secret in [
        "team/shop/db/password",
        "team/shop/db/api-user",
        "team/mail",
    ] {
        wait_current(&keywheel, secret, 1)?;
    }
    let stores = keywheel.json(&["get", "stores"])?;
    ensure!(
        stores.as_array().is_some_and(|stores| stores.len() == 2),
        "{stores}"
    );
    let secrets = keywheel.json(&["get", "secrets"])?.to_string();
    ensure!(!secrets.contains("else"), "{secrets}");
    let mut plaintexts = values.map(str::to_owned).to_vec();
    plaintexts.push(KEY.to_owned());
    finish(&keywheel, &plaintexts, &[])
}

fn is_only_names(proposed: &Output, values: &[&str]) -> Result<()> {
    let said = format!("{}{}", proposed.stdout, proposed.stderr);
    for hidden in values.iter().copied().chain([KEY, CHAIN[1].1]) {
        ensure!(!said.contains(hidden), "a value is proposed: {said}");
    }
    ensure!(said.contains("no value was read"), "{said}");
    Ok(())
}
