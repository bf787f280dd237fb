//! Logins with policies at a server that judges by them, made by the account's own hand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use keywheel_testkit::server::aws::{AwsServer, Maker};

/// An access key.
pub struct Login {
    pub id: String,
    pub secret: String,
}

/// Whose users are who.
pub struct Iam<'a> {
    server: &'a AwsServer,
    maker: Maker,
}

impl<'a> Iam<'a> {
    pub const fn at(server: &'a AwsServer, maker: Maker) -> Self {
        Self { server, maker }
    }

    /// A new user with this policy.
    pub fn user(&self, name: &str, policy: &str) -> Login {
        self.ask(&[("Action", "CreateUser"), ("UserName", name)]);
        self.grant(name, policy);
        let made = self.ask(&[("Action", "CreateAccessKey"), ("UserName", name)]);
        Login {
            id: element(&made, "AccessKeyId"),
            secret: element(&made, "SecretAccessKey"),
        }
    }

    /// This policy instead of the one before, and it holds at once.
    pub fn grant(&self, name: &str, policy: &str) {
        let policy = policy_at(self.maker, policy);
        self.judge("inf");
        self.ask(&[
            ("Action", "PutUserPolicy"),
            ("UserName", name),
            ("PolicyName", "only"),
            ("PolicyDocument", &policy),
        ]);
        self.judge("0");
    }

    /// moto asks for rights after so many requests; the account's own hand has none there.
    fn judge(&self, after: &str) {
        if self.maker == Maker::Moto {
            self.post("/moto-api/reset-auth", "text/plain", after);
        }
    }

    fn ask(&self, fields: &[(&str, &str)]) -> String {
        let mut body = "Version=2010-05-08".to_owned();
        for (name, value) in fields {
            body.push_str(&format!("&{name}="));
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() {
                    body.push(char::from(byte));
                } else {
                    body.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        self.judge("inf");
        self.post("/", "application/x-www-form-urlencoded", &body)
    }

    fn post(&self, path: &str, kind: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: iam.amazonaws.com\r\nContent-Type: {kind}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20261128/us-east-1/iam/aws4_request, \
             SignedHeaders=host, Signature=0\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{body}: {answer}");
        answer
    }
}

/// moto judges by action alone: it knows every resource as `*`.
fn policy_at(maker: Maker, policy: &str) -> String {
    if maker == Maker::Ministack {
        return policy.to_owned();
    }
    let mut document: serde_json::Value = serde_json::from_str(policy).unwrap();
    for statement in document["Statement"].as_array_mut().unwrap() {
        statement["Resource"] = "*".into();
    }
    document.to_string()
}

fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}
