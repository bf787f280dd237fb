//! A leak that somebody outside tells of: the secret rotates, once for each, and whoever watches is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::port::held_port;
use keywheel_tests::keywheel::{Keywheel, Options, READY};
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::scratch::Scratch;
use keywheel_tests::{manifest, stage, wait};
use serde_json::{Value, json};

const LEAKY: &str = "test/leaky";
const TOKEN: &str = "a-token-of-this-test-alone";
/// What signs; its parts are apart, so that nobody takes it for a key that was left here.
const KEY: &str = concat!("whsec_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

/// A receiver: keeps the bodies that came.
struct Hook {
    at: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let got = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&got);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || while take(&stream, &kept).is_ok() {});
            }
        });
        Ok(Self { at, got })
    }

    /// Ids of the messages about the end of a rotation.
    fn closed(&self) -> Vec<String> {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies = got
            .iter()
            .filter_map(|body| serde_json::from_str::<Value>(body).ok());
        let closed = bodies.filter(|body| body["type"] == "dev.keywheel.rotation.closed.v1");
        closed.map(|body| body["id"].to_string()).collect()
    }
}

/// One request of a connection, which is answered well.
fn take(mut stream: &TcpStream, kept: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the connection ended");
        let lower = line.to_lowercase();
        if let Some(rest) = lower.strip_prefix("content-length:") {
            length = rest.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(String::from_utf8(body)?);
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    Ok(())
}

/// Sends a CloudEvent; the answer, which is kept for the canary.
fn tell(keywheel: &Keywheel, at: SocketAddr, id: &str) -> Result<String> {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "https://scan.example", "type": "com.example.leak",
        "data": { "secret": LEAKY },
    });
    let body = event.to_string();
    let head = format!(
        "POST /signals/scanner HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/cloudevents+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    keywheel.hear_answer("a signal", &answer);
    ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    Ok(answer)
}

fn manifests(keys: &Scratch, hook: &Hook) -> String {
    let rule = format!(
        "type: dev.keywheel.signal.received.v1, when: 'event.data.type == \"com.example.leak\" && event.data.fields.secret == \"{LEAKY}\"', holdOff: 1s"
    );
    let secret = manifest::secret(
        LEAKY,
        &[&format!("rotation: {{ onEvent: [{{ {rule} }}] }}")],
    );
    let source = format!(
        "apiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: {{ name: scanner }}\nspec: {{ format: cloudEvents, proof: bearer, keyFile: {}, map: {{ secret: body.secret }} }}\n",
        keys.join("token").display()
    );
    let when = format!("event.secret == \"{LEAKY}\"");
    let notification = format!(
        "---\napiVersion: keywheel.dev/v1\nkind: Notification\nmetadata: {{ name: soc }}\nspec: {{ webhook: {{ url: \"http://{}/hook\", keyFile: {} }}, when: '{when}' }}\n",
        hook.at,
        keys.join("key").display()
    );
    format!("{secret}{source}{notification}")
}

#[test]
fn a_leak_told_from_outside_rotates_the_secret_once_and_whoever_watches_is_told() -> Result<()> {
    let (hook, keys) = (Hook::start()?, Scratch::make()?);
    keys.write("token", TOKEN)?;
    keys.write("key", KEY)?;
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, held_port()));
    let setting = |name: &str, text: String| (format!("KEYWHEEL_SIGNALS_{name}"), text);
    let options = Options {
        environment: vec![
            setting("LISTEN", door.to_string()),
            setting("ALLOW", hook.at.to_string()),
            setting("CREDENTIALS_DIR", keys.path().display().to_string()),
        ],
        ..Options::default()
    };
    let mut keywheel = Keywheel::start_with(&options)?;
    keywheel.apply(&manifests(&keys, &hook))?;
    stage::wait_current(&keywheel, LEAKY, 1)?;
    planted::plant(&keywheel, PLANTED)?;
    keywheel.json(&["notification", "test", "soc"])?;
    tell(&keywheel, door, "7")?;
    stage::wait_current(&keywheel, LEAKY, 2)?;
    keywheel.restart(&options)?;
    let again = tell(&keywheel, door, "7")?;
    ensure!(again.contains("\"repeated\":1"), "taken twice: {again}");
    tell(&keywheel, door, "8")?;
    stage::wait_current(&keywheel, LEAKY, 3)?;
    wait::until_true("three ends at the receiver", READY, || {
        Ok(hook.closed().len() >= 3)
    })?;
    // A signal that was taken twice would have made one more.
    let version = stage::current(&keywheel, LEAKY)?;
    ensure!(version == 3, "{LEAKY} has version {version}");
    let mut ids = hook.closed();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 3, "told of {} rotations", ids.len());
    let listed = keywheel.json(&["notification", "list"])?;
    let first = listed.get(0).context("no notification")?;
    ensure!(
        first["trouble"].is_null() && first["letters"] == 0,
        "{first}"
    );
    keywheel.json(&["journal", "verify"])?;
    planted::assert_clean(&keywheel, &[])
}
