//! `keywheel import` as an operator runs it: the program, a real API server, and what comes out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};

use keywheel_core::secret::Store;
use keywheel_core::store::Backend;
use keywheel_schemas::manifest::{Manifest, parse};
use keywheel_testkit::server::aws::{AwsServer, Maker};

/// In every value, so that one that is told is found.
const CANARY: &str = "canary-77ab";

/// A person makes a secret with AWS's own tools; neither server checks the signature.
fn create(server: &AwsServer, name: &str) {
    let body = format!("{{\"Name\":\"{name}\",\"SecretString\":\"{CANARY}\"}}");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: secretsmanager.CreateSecret\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-central-1/secretsmanager/aws4_request, \
         SignedHeaders=host, Signature=00\r\n\r\n{body}",
        server.address(),
        body.len()
    );
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn keywheel(words: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_keywheel"))
        .args(words)
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIAOPERATOR")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-operator")
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn names_in_aws_become_manifests_and_no_value_is_read() {
    let server = AwsServer::start(Maker::Ministack);
    for name in ["prod/db", "prod/API key", "test/db"] {
        create(&server, name);
    }
    // More than one page.
    for number in 0..120 {
        create(&server, &format!("many/{number}"));
    }
    let url = server.url();
    let base = [
        "import",
        "aws",
        "--region",
        "eu-central-1",
        "--endpoint",
        &url,
    ];
    let with = |more: &[&str]| keywheel(&[&base[..], more].concat());
    let output = with(&["--path", "prod/", "--store", "sm"]);
    let (out, told) = (words(&output.stdout), words(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(!out.contains(CANARY) && !told.contains(CANARY));
    assert!(
        told.contains("renamed: prod/API key is prod/api-key"),
        "{told}"
    );
    assert!(told.contains("2 secrets proposed"), "{told}");
    let read = parse(out, "proposal", &|_, _| Ok(())).unwrap();
    let [Manifest::Store { name, spec, .. }, secrets @ ..] = &read[..] else {
        panic!("no store: {out}");
    };
    let Backend::Aws(aws) = &spec.backend else {
        panic!("not AWS: {out}");
    };
    assert_eq!((name.as_str(), aws.region.as_str()), ("sm", "eu-central-1"));
    let place = |manifest: &Manifest| match manifest {
        Manifest::Secret { name, spec, .. } => match &spec.store {
            Store::Outside(place) => (name.to_string(), place.source.path.clone()),
            Store::Local => panic!("local: {out}"),
        },
        _ => panic!("no secret: {out}"),
    };
    let mut places: Vec<_> = secrets.iter().map(place).collect();
    places.sort();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        places,
        [
            pair("prod/api-key", "prod/API key"),
            pair("prod/db", "prod/db")
        ]
    );
    let output = with(&["-o", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["secrets"], 123, "all pages, without a prefix");
    assert!(!words(&output.stdout).contains(CANARY));
}

#[test]
fn what_cannot_be_imported_is_said_with_the_next_step() {
    let server = AwsServer::start(Maker::Ministack);
    let url = server.url();
    let refused = |words_given: &[&str], code: i32, said: &str| {
        let output = keywheel(words_given);
        let told = words(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(said) && told.contains("next:"), "{told}");
        assert!(output.stdout.is_empty());
    };
    let aws = ["import", "aws", "--endpoint", &url];
    refused(&aws, 77, "no AWS region");
    let here = [&aws[..], &["--region", "eu-central-1"]].concat();
    refused(&here, 3, "has no secret below");
    refused(&[&here[..], &["--store", "A b"]].concat(), 64, "store name");
    let clear = [
        "import",
        "aws",
        "--region",
        "eu-central-1",
        "--endpoint",
        "http://sm.example",
    ];
    refused(&clear, 77, "neither https nor http to a loopback address");
    let vault = ["import", "vault", "--server", "https://127.0.0.1:1"];
    refused(&vault, 66, ".vault-token");
}
