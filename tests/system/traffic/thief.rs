//! Somebody with stolen bus credentials and a client of their own.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use async_nats::{Client, ConnectOptions, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::wait;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::replay::Captured;

/// In everything a thief says.
pub(crate) const FORGED: &str = "forged-by-a-thief";
/// Messages of a stream that are read in one go.
const BATCH: usize = 10_000;

/// A connection with what it heard and how it was refused.
pub(crate) struct Thief {
    runtime: Runtime,
    client: Client,
    may_say: Vec<String>,
    root: String,
    inbox: String,
    heard: Arc<Mutex<Vec<u8>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Thief {
    /// Connects with the permit of an identity, and nothing else of it.
    pub(crate) fn begin(identity: &Path, port: u16) -> Result<Self> {
        let permit = identity.join("nats.creds");
        let claims = claims(&fs::read_to_string(&permit)?)?;
        let words = |at: &str| -> Vec<String> {
            let allowed = claims.pointer(at).and_then(Value::as_array);
            let allowed = allowed.into_iter().flatten().filter_map(Value::as_str);
            allowed.map(str::to_owned).collect()
        };
        let may_hear = words("/nats/sub/allow");
        let inbox = may_hear.iter().find(|subject| subject.contains(".inbox."));
        let inbox = inbox.context("no inbox")?.trim_end_matches(".>").to_owned();
        let (root, _) = inbox.split_once(".inbox.").context("no root")?;
        let root = root.to_owned();
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = Arc::clone(&refused);
        let runtime = Runtime::new()?;
        let client = runtime.block_on(async {
            let options = ConnectOptions::with_credentials_file(&permit).await?;
            let options = options.custom_inbox_prefix(inbox.clone());
            let options = options.event_callback(move |event| {
                if let Ok(mut said) = said.lock() {
                    said.push(event.to_string());
                }
                std::future::ready(())
            });
            anyhow::Ok(options.connect(format!("nats://127.0.0.1:{port}")).await?)
        })?;
        Ok(Self {
            runtime,
            client,
            may_say: words("/nats/pub/allow"),
            root,
            inbox,
            heard: Arc::default(),
            refused,
        })
    }

    /// What every subject of the deployment begins with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Hears from now on what its owner hears.
    pub(crate) fn listen(&self) -> Result<()> {
        let all = format!("{}.>", self.inbox);
        let mut messages = self.runtime.block_on(self.client.subscribe(all))?;
        self.runtime.block_on(self.client.flush())?;
        let heard = Arc::clone(&self.heard);
        self.runtime.spawn(async move {
            while let Some(message) = messages.next().await {
                if let Ok(mut heard) = heard.lock() {
                    heard.extend_from_slice(&message.payload);
                    heard.push(b'\n');
                }
            }
        });
        Ok(())
    }

    /// What it heard.
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.heard
            .lock()
            .map(|heard| heard.clone())
            .unwrap_or_default()
    }

    /// Reads the stream its owner reads, from its beginning, under a name of its own.
    pub(crate) fn read_stream(&self) -> Result<Vec<u8>> {
        let create = self.allowed("$JS.API.CONSUMER.CREATE.")?;
        let parts: Vec<&str> = create.splitn(7, '.').collect();
        let [_, _, _, _, stream, _, filter] = parts[..] else {
            bail!("not how a reader's permit looks: {create}");
        };
        let create = format!("$JS.API.CONSUMER.CREATE.{stream}.{FORGED}.{filter}");
        let config = json!({
            "name": FORGED, "ack_policy": "none", "deliver_policy": "all", "filter_subject": filter,
        });
        let wish = json!({ "stream_name": stream, "config": config }).to_string();
        self.runtime.block_on(async {
            let made = self.client.request(create, wish.into()).await?;
            let made: Value = serde_json::from_slice(&made.payload)?;
            let count = made.get("num_pending").and_then(Value::as_u64);
            let count = count.with_context(|| format!("no consumer: {made}"))?;
            let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{FORGED}");
            let inbox = format!("{}.read", self.inbox);
            let mut messages = self.client.subscribe(inbox.clone()).await?;
            let wish = json!({ "batch": BATCH, "no_wait": true }).to_string();
            self.client
                .publish_with_reply(next, inbox, wish.into())
                .await?;
            let mut read = Vec::new();
            for _ in 0..count {
                let message = tokio::time::timeout(PATIENCE, messages.next()).await?;
                read.extend_from_slice(&message.context("the connection ended")?.payload);
            }
            Ok(read)
        })
    }

    /// Says each message so many times, without the id by which the bus server drops repeats.
    pub(crate) fn repeat(&self, messages: &[&Captured], times: usize) -> Result<()> {
        self.runtime.block_on(async {
            for message in messages {
                let mut headers = HeaderMap::new();
                headers.insert("Keywheel-Signature", message.signature.as_str());
                for _ in 0..times {
                    let (subject, payload) = (message.subject.clone(), message.payload.clone());
                    let sent =
                        self.client
                            .publish_with_headers(subject, headers.clone(), payload.into());
                    sent.await?;
                }
            }
            anyhow::Ok(self.client.flush().await?)
        })
    }

    /// What it says for others is refused by the bus server; what it says for its owner by who hears
    /// it, since it has no key to sign with.
    pub(crate) fn is_refused(&self) -> Result<()> {
        let root = &self.root;
        let other = "00000000-0000-7000-8000-000000000001";
        let subjects = ["events", "audit", "hosts", "work.store-sync"].map(str::to_owned);
        let others = [
            format!("plan.{other}"),
            format!("ask.gateway.injector.{other}"),
            format!("ask.store-sync.injector.{other}"),
            format!("inbox.injector.{other}.1"),
            "ask.store-sync.gateway".to_owned(),
        ];
        for subject in subjects.into_iter().chain(others) {
            self.is_refused_at(&format!("{root}.{subject}"))?;
        }
        self.is_refused_at("$SYS.REQ.CLAIMS.UPDATE")?;
        let own = self.allowed(&format!("{root}.ask.gateway."))?.to_owned();
        let reply = format!("{}.forged", self.inbox);
        self.runtime.block_on(async {
            let publish = self.client.publish_with_reply(own, reply, FORGED.into());
            publish.await?;
            anyhow::Ok(self.client.flush().await?)
        })
    }

    fn is_refused_at(&self, subject: &str) -> Result<()> {
        self.runtime.block_on(async {
            let publish = self.client.publish(subject.to_owned(), FORGED.into());
            publish.await?;
            anyhow::Ok(self.client.flush().await?)
        })?;
        let what = format!("the refusal of {subject}");
        wait::until_true(&what, PATIENCE, || {
            let refused = self.refused.lock().map(|all| all.clone());
            let quoted = format!("\"{}\"", subject.to_lowercase());
            let is_it = |said: &String| said.to_lowercase().contains(&quoted);
            Ok(refused.unwrap_or_default().iter().any(is_it))
        })
    }

    fn allowed(&self, prefix: &str) -> Result<&str> {
        let mut all = self.may_say.iter();
        let found = all.find(|subject| subject.starts_with(prefix));
        Ok(found.with_context(|| format!("may say nothing at {prefix}"))?)
    }
}

/// What a permit says of itself.
fn claims(permit: &str) -> Result<Value> {
    let mut lines = permit.lines().map(str::trim);
    let text = lines
        .find(|line| line.starts_with("ey"))
        .context("no permit")?;
    let body = text.split('.').nth(1).context("no claims")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body)?)?)
}
