//! Both ways at AWS's API: what changes there is followed, and what Keywheel makes is written there.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::{docker, manifest, wait};
use serde_json::{Value, json};

use crate::scene::{PLACEHOLDER, TOKEN, apart, give, secret, variable};

/// What the servers take for the secret access key; they check none.
pub(crate) const KEY: &str = "secret-access-key-of-a-test-b4d1";

#[test]
fn aws_is_followed_by_arn_and_written_in_a_field_by_name() -> Result<()> {
    follows_and_writes(&Options::default())
}

#[test]
fn aws_is_followed_and_written_with_services_apart() -> Result<()> {
    follows_and_writes(&apart())
}

fn follows_and_writes(options: &Options) -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = AwsServer::start(Maker::Moto);
    let stage = Stage::set_with(options)?;
    let keywheel = &stage.keywheel;
    let [before, one, two] = ["aws-before-us-02fe", "aws-token-1-a9b3", "aws-token-2-6d47"];
    create(
        &server,
        "prod/db",
        &json!({ "user": "app", "password": before }).to_string(),
    )?;
    let arn = create(&server, "prod/token", one)?;
    give(keywheel, "keywheel/aws", &server.url(), KEY)?;
    let generator = "  generator: { length: 32 }\n";
    let on = stage.on("aws");
    let restart = "{ restart: { settle: 1s } }";
    let all = [
        store(&server.url(), "{ secret: keywheel/aws }"),
        secret(SECRET, "aws", "prod/db", "password", generator),
        secret(TOKEN, "aws", &arn, "", ""),
        manifest::file_binding("test-file", SECRET, &on, "db_password", "none"),
        manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", restart),
    ];
    keywheel.apply(&all.concat())?;
    stage.wait_current(SECRET, 1)?;
    stage.wait_current(TOKEN, 1)?;
    let container = stage.run("aws", &["-e", PLACEHOLDER], "/bin/app-env")?;
    ensure!(
        stage.value_in(&container)? == before,
        "what is there is taken over"
    );
    ensure!(variable(&container)? == one);

    stage.rotate(SECRET)?;
    let whole: Value = serde_json::from_str(&read(&server, "prod/db")?)?;
    let made = stage.value_in(&container)?;
    ensure!(
        made != before && whole == json!({ "user": "app", "password": made }),
        "in the container {made}, there {whole}"
    );
    put_value(&server, "prod/token", two)?;
    wait::until_true("the new value in the variable", PATIENCE, || {
        Ok(variable(&container)? == two)
    })?;
    let policy = keywheel.cli(&["store", "policy", "aws"])?.ok()?.stdout;
    let policy: Value = serde_json::from_str(&policy)?;
    ensure!(policy.to_string().contains(&arn), "{policy}");
    let values = [before, one, two, &made, KEY].map(str::to_owned);
    stage.finish(&values, &[&container])
}

/// `kind: Store` at AWS's API; `key` says where the secret access key is read.
pub(crate) fn store(endpoint: &str, key: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: aws }}\nspec:\n  \
         aws: {{ region: eu-central-1, endpoint: \"{endpoint}\", auth: {{ keys: {{ accessKeyId: AKIATEST, secretAccessKey: {key} }} }} }}\n  \
         poll: 1s\n---\n"
    )
}

/// A person makes a secret; gives its ARN.
pub(crate) fn create(server: &AwsServer, name: &str, value: &str) -> Result<String> {
    let body = json!({ "Name": name, "SecretString": value });
    let made = ask(server, "CreateSecret", &body)?;
    Ok(made["ARN"].as_str().context("no ARN")?.to_owned())
}

pub(crate) fn put_value(server: &AwsServer, name: &str, value: &str) -> Result<()> {
    let body = json!({ "SecretId": name, "SecretString": value });
    ask(server, "PutSecretValue", &body).map(drop)
}

/// The value in force. moto gives an older one when the stage is not named.
pub(crate) fn read(server: &AwsServer, name: &str) -> Result<String> {
    let wanted = json!({ "SecretId": name, "VersionStage": "AWSCURRENT" });
    let said = ask(server, "GetSecretValue", &wanted)?;
    let text = said["SecretString"].as_str().context("no text")?;
    Ok(text.to_owned())
}

/// As AWS's own tools ask; no server of the tests checks a signature.
fn ask(server: &AwsServer, what: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: secretsmanager.{what}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-central-1/secretsmanager/aws4_request, \
         SignedHeaders=host, Signature=00\r\n\r\n{body}",
        server.address(),
        body.len()
    );
    let mut socket = TcpStream::connect(server.address())?;
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}
