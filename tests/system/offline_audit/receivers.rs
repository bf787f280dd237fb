//! One receiver of each kind that a sink of the audit may have, each a program that nobody here wrote but for the one
//! of requests: how it is stopped, and what it has.
//!
//! Invariant: what is read of a receiver is what it wrote down or prints, in the order in which it has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};
use keywheel_testkit::server::port::held_port;
use keywheel_testkit::server::rsyslog::{Driver, RsyslogServer};
use keywheel_tests::process::Process;
use keywheel_tests::scratch::Scratch;
use keywheel_tests::spans;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// The stream that keeps records, and its subject.
const STREAM: &str = "audit";
const SUBJECT: &str = "audit.keywheel";
/// A file more, which is told OCSF; the others are told records as they are.
const EVENTS: &str = "events";
/// The key that signs requests.
const KEY: &str = concat!("whsec_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
/// A receiver of requests: what it was sent is on the disk before it answers.
const HOOK: &str = r#"
import http.server, os, sys
file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        os.write(file, body + b"\n")
        os.fsync(file)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// Which receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// A file.
    File,
    /// rsyslog, over TLS.
    Syslog,
    /// A stream of NATS JetStream.
    Nats,
    /// An OpenTelemetry collector.
    Otlp,
    /// A receiver of signed requests.
    Http,
}

impl Which {
    pub(crate) const ALL: [Self; 5] =
        [Self::File, Self::Syslog, Self::Nats, Self::Otlp, Self::Http];

    /// The sink's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::File => "archive",
            Self::Syslog => "siem",
            Self::Nats => "lake",
            Self::Otlp => "logs",
            Self::Http => "hook",
        }
    }
}

/// All of them, running.
pub(crate) struct Receivers {
    syslog: RsyslogServer,
    nats: NatsServer,
    runtime: Runtime,
    collector: Process,
    collector_port: u16,
    hook: Process,
    hook_port: u16,
    /// The syslog receiver's certificate.
    certificate: PathBuf,
    key: PathBuf,
    scratch: Scratch,
}

impl Receivers {
    pub(crate) fn start() -> Result<Self> {
        let scratch = Scratch::make()?;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let pem = made.cert.pem();
        let syslog = RsyslogServer::start(Driver::Ossl, &pem, &made.signing_key.serialize_pem());
        let certificate = scratch.write("syslog.pem", &pem)?;
        let key = scratch.write("hook.key", KEY)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let nats = NatsServer::start(Settings::of(VERSIONS[VERSIONS.len() - 1]));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(make_stream(nats.url()))?;
        let ports = [held_port(), held_port(), held_port()];
        let mut receivers = Self {
            syslog,
            nats,
            runtime,
            collector: collector(&scratch, ports)?,
            collector_port: ports[0],
            hook: hook(&scratch, ports[2]),
            hook_port: ports[2],
            certificate,
            key,
            scratch,
        };
        receivers.collector.start()?;
        receivers.hook.start()?;
        Ok(receivers)
    }

    /// The file of sinks.
    pub(crate) fn sinks(&self) -> String {
        let sink = |which: Which, kind: &str, more: &str| {
            let name = which.name();
            format!("[[sink]]\nname = \"{name}\"\ntype = \"{kind}\"\n{more}\n")
        };
        let file = self.file().display().to_string();
        let certificate = self.certificate.display();
        let key = self.key.display();
        let (url, address) = (self.nats.url(), self.syslog.address());
        let (logs, hook) = (self.collector_port, self.hook_port);
        let events = self.events_file().display().to_string();
        [
            format!(
                "[[sink]]\nname = \"{EVENTS}\"\ntype = \"file\"\npath = \"{events}\"\nformat = \"ocsf\"\n\n"
            ),
            sink(Which::File, "file", &format!("path = \"{file}\"")),
            sink(
                Which::Syslog,
                "syslog",
                &format!("address = \"{address}\"\nca_file = \"{certificate}\""),
            ),
            sink(
                Which::Nats,
                "nats",
                &format!("url = \"{url}\"\nsubject = \"{SUBJECT}\""),
            ),
            sink(
                Which::Otlp,
                "otlp",
                &format!("url = \"http://127.0.0.1:{logs}/v1/logs\""),
            ),
            sink(
                Which::Http,
                "http",
                &format!("url = \"http://127.0.0.1:{hook}/audit\"\nkey_file = \"{key}\""),
            ),
        ]
        .concat()
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self, which: Which) -> Result<()> {
        match which {
            Which::File => {}
            Which::Syslog => self.syslog.kill(),
            Which::Nats => self.nats.kill(),
            Which::Otlp => self.collector.kill9()?,
            Which::Http => self.hook.kill9()?,
        }
        Ok(())
    }

    /// Starts one that was killed.
    pub(crate) fn restart(&mut self, which: Which) -> Result<()> {
        match which {
            Which::File => {}
            Which::Syslog => self.syslog.restart(),
            Which::Nats => self.nats.restart(),
            Which::Otlp => self.collector.start()?,
            Which::Http => self.hook.start()?,
        }
        Ok(())
    }

    /// Stops it in its tracks: who connects to it hears nothing.
    pub(crate) fn pause(&self, which: Which) -> Result<()> {
        match which {
            Which::File => {}
            Which::Syslog => self.syslog.pause(),
            Which::Nats => self.nats.pause(),
            Which::Otlp => self.collector.pause()?,
            Which::Http => self.hook.pause()?,
        }
        Ok(())
    }

    /// Lets one go on that was stopped.
    pub(crate) fn resume(&self, which: Which) -> Result<()> {
        match which {
            Which::File => {}
            Which::Syslog => self.syslog.resume(),
            Which::Nats => self.nats.resume(),
            Which::Otlp => self.collector.resume()?,
            Which::Http => self.hook.resume()?,
        }
        Ok(())
    }

    /// Everything it has, one JSON object for each record, in the order in which it has them.
    pub(crate) fn texts(&self, which: Which) -> Result<Vec<String>> {
        Ok(match which {
            Which::File => lines(&whole(&self.file())?),
            Which::Syslog => self.syslog.received(),
            Which::Nats => self.runtime.block_on(stored(self.nats.url()))?,
            Which::Otlp => bodies(&self.collector.log()),
            Which::Http => {
                let mut all = Vec::new();
                for body in whole(&self.scratch.join("hook.jsonl"))?.lines() {
                    let body: Value = serde_json::from_str(body)?;
                    let records = body["data"]["records"].as_array();
                    let records = records.context("a request without records")?;
                    all.extend(records.iter().map(Value::to_string));
                }
                all
            }
        })
    }

    /// The records it has, each once, from the first one on; an error where one is missing before another, or came
    /// again as another one.
    pub(crate) fn records(&self, which: Which) -> Result<Vec<Value>> {
        let number = |line: &Value| line["sequence"].as_u64();
        once(which.name(), &self.texts(which)?, number)
    }

    /// The events of OCSF that the file of those has, in the same way.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let number = |event: &Value| event["metadata"]["sequence"].as_u64();
        once(EVENTS, &lines(&whole(&self.events_file())?), number)
    }

    /// That file.
    pub(crate) fn events_file(&self) -> PathBuf {
        self.scratch.join("events.jsonl")
    }

    fn file(&self) -> PathBuf {
        self.scratch.join("archive.jsonl")
    }
}

/// Numbered lines, each once, from the first one on.
fn once(
    name: &str,
    texts: &[String],
    number: impl Fn(&Value) -> Option<u64>,
) -> Result<Vec<Value>> {
    let mut all: Vec<Value> = Vec::new();
    for text in texts {
        let line: Value = serde_json::from_str(text)?;
        let at = number(&line).with_context(|| format!("{name} has a line without number"))?;
        let at = usize::try_from(at)?;
        let count = all.len();
        ensure!(at <= count, "{name} has record {at} and not {count}");
        match all.get(at) {
            None => all.push(line),
            Some(before) => ensure!(*before == line, "{name} has two records {at}"),
        }
    }
    Ok(all)
}

/// What a file has up to the end of its last line; nothing where there is none yet.
fn whole(path: &std::path::Path) -> Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    let mut text = fs::read_to_string(path)?;
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    Ok(text)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// What the collector prints of log records; a line that is being written has no end yet.
fn bodies(log: &str) -> Vec<String> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let bodies = whole.lines().filter_map(|line| {
        let body = line.trim().strip_prefix("Body: Str(")?;
        body.strip_suffix(')').map(str::to_owned)
    });
    bodies.collect()
}

fn collector(scratch: &Scratch, [http, grpc, _]: [u16; 3]) -> Result<Process> {
    let [http, grpc] = [http, grpc].map(|port| format!("127.0.0.1:{port}"));
    let words = [
        "start",
        "--otlp-http-endpoint",
        &http,
        "--otlp-grpc-endpoint",
        &grpc,
        "--exporter",
        "blackhole",
        "--debug-log",
        "logs",
        "--debug-log-verbosity",
        "detailed",
    ];
    let log = scratch.join("collector.log");
    Ok(Process::new("collector", log, &spans::collector()?, &words))
}

fn hook(scratch: &Scratch, port: u16) -> Process {
    let file = scratch.join("hook.jsonl").display().to_string();
    let port = port.to_string();
    let words = ["-c", HOOK, &port, &file];
    let python = std::path::Path::new("python3");
    Process::new("hook", scratch.join("hook.log"), python, &words)
}

async fn make_stream(url: String) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let config = jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        ..jetstream::stream::Config::default()
    };
    jetstream::new(client).create_stream(config).await?;
    Ok(())
}

async fn stored(url: String) -> Result<Vec<String>> {
    let client = async_nats::connect(url).await?;
    let mut stream = jetstream::new(client).get_stream(STREAM).await?;
    let last = stream.info().await?.state.last_sequence;
    let mut all = Vec::new();
    for number in 1..=last {
        let message = stream.get_raw_message(number).await?;
        all.push(String::from_utf8(message.payload.to_vec())?);
    }
    Ok(all)
}
