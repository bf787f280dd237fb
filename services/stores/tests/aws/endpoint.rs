//! The endpoints at which an environment gives credentials: of a container (ECS, EKS Pod Identity), of an
//! instance (IMDS version 2), and of an SSO portal. The real ones are addresses of machines at AWS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Without it the container's endpoint says nothing.
pub const CONTAINER_TOKEN: &str = "of-the-container";
const SESSION: &str = "of-the-instance";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// A running server of all of them; it ends with the test's process.
pub struct Endpoints(SocketAddr);

impl Endpoints {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Self(address)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0)
    }
}

/// Temporary credentials as these endpoints write them.
pub fn document(key: &str) -> String {
    format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"s\",\
         \"Token\":\"of-{key}\",\"SessionToken\":\"of-{key}\",\"Expiration\":\"2096-01-01T00:00:00Z\"}}"
    )
}

fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let (status, more, body) = answer(&head);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n{body}"
        );
        if (&stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Status, header and body. Whoever does not show what he was given is refused.
fn answer(head: &str) -> (u16, &'static str, String) {
    let has = |name: &str, value: &str| head.contains(&format!("{name}: {value}\r\n"));
    let line = head.split("\r\n").next().unwrap_or_default();
    let (method, path) = line.split_once(' ').unwrap_or_default();
    let path = path.split(' ').next().unwrap_or_default();
    match (method, path) {
        ("get", "/container") if has("authorization", CONTAINER_TOKEN) => {
            (200, "", document("ASIACONTAINER"))
        }
        ("put", "/latest/api/token") => {
            let lives = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
            (200, lives, SESSION.to_owned())
        }
        ("get", path) if path.starts_with("/latest/") => {
            if !has("x-aws-ec2-metadata-token", SESSION) {
                return (401, "", String::new());
            }
            match path {
                "/latest/meta-data/placement/region" => (200, "", "eu-central-1".to_owned()),
                ROLES => (200, "", "keywheel".to_owned()),
                path if path == format!("{ROLES}keywheel") => (200, "", document("ASIAINSTANCE")),
                _ => (404, "", String::new()),
            }
        }
        _ => (403, "", String::new()),
    }
}
