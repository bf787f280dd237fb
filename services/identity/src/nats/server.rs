//! The bus server's configuration file.
//!
//! Choices: the *full* resolver keeps claims in a directory, so that an eviction pushed over the
//! system account holds after a restart, and the preloaded claim never replaces a newer one; streams
//! are synced on every write; TLS 1.3 with client certificates everywhere but on loopback.
//! Invariant: a server without TLS listens on loopback only.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::MAX_FRAME_BYTES;

use super::{BusAuthority, NatsError, Revocations};

/// Room for headers: the server counts them as payload.
pub const HEADER_ROOM_BYTES: usize = 64 << 10;
/// Largest message the server takes, headers included.
pub const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES + HEADER_ROOM_BYTES;
/// Longest protocol line: a permit travels in one.
const MAX_CONTROL_LINE_BYTES: usize = 32 << 10;
/// A client that leaves so many of these unanswered is gone: until then a process that is paused
/// keeps its share of what its role is asked.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PINGS_UNANSWERED: u32 = 2;
/// Slow readers are cut off beyond this.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Where a server's certificate files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusTls {
    /// PEM: certificate and chain.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// PEM: trusted roots.
    pub roots: PathBuf,
}

/// The other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusCluster {
    /// Where this one listens for the others.
    pub listen: SocketAddr,
    /// `HOST:PORT` of all of them; this one's own may be among them.
    pub routes: Vec<String>,
}

/// One bus server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusServer {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Directory for streams and claims.
    pub store: PathBuf,
    /// Most bytes of all streams on disk.
    pub max_store_bytes: u64,
    /// Certificates; `None` only on loopback.
    pub tls: Option<BusTls>,
    /// The other servers; `None` for a single one.
    pub cluster: Option<BusCluster>,
}

/// The text of the server's configuration file. The same `revocations` give every server of a
/// cluster the same claim.
///
/// # Errors
/// When a setting would be unsafe, or cannot stand in the file.
pub fn server_config(
    authority: &BusAuthority,
    revocations: &mut Revocations,
    server: &BusServer,
    now: Timestamp,
) -> Result<String, NatsError> {
    refuse_open(server)?;
    let name = quoted(&server.name)?;
    let streams = quoted_path(&server.store.join("streams"))?;
    let claims = quoted_path(&server.store.join("claims"))?;
    let (system, account) = (authority.system_account(), authority.account());
    let mut text = format!(
        "# Made by `keywheel nats config`. A change here is lost when it is made again.\n\
         server_name: {name}\n\
         listen: \"{}\"\n\
         max_payload: {MAX_PAYLOAD_BYTES}\n\
         max_control_line: {MAX_CONTROL_LINE_BYTES}\n\
         max_pending: {MAX_PENDING_BYTES}\n\
         ping_interval: \"{}s\"\n\
         ping_max: {PINGS_UNANSWERED}\n\
         jetstream {{\n  store_dir: {streams}\n  sync_interval: always\n  max_file_store: {}\n}}\n\
         operator: {}\n\
         system_account: {system}\n\
         resolver {{\n  type: full\n  dir: {claims}\n  allow_delete: false\n  interval: \"2m\"\n}}\n\
         resolver_preload {{\n  {system}: {}\n  {account}: {}\n}}\n",
        server.listen,
        PING_INTERVAL.as_secs(),
        server.max_store_bytes,
        authority.operator_claim(now)?,
        authority.system_claim(now)?,
        authority.account_claim(revocations, now)?,
    );
    if let Some(tls) = &server.tls {
        text.push_str(&tls_block(tls, "")?);
    }
    if let Some(cluster) = &server.cluster {
        text.push_str(&cluster_block(authority, cluster, server.tls.as_ref())?);
    }
    Ok(text)
}

/// Without TLS, only loopback.
fn refuse_open(server: &BusServer) -> Result<(), NatsError> {
    let listens = [
        Some(server.listen),
        server.cluster.as_ref().map(|c| c.listen),
    ];
    let open = listens
        .into_iter()
        .flatten()
        .find(|at| !at.ip().is_loopback());
    match (open, &server.tls) {
        (Some(at), None) => Err(NatsError::Setting(format!(
            "{at} is reachable from other machines, and there is no TLS; give certificates or listen on 127.0.0.1"
        ))),
        _ => Ok(()),
    }
}

fn tls_block(tls: &BusTls, indent: &str) -> Result<String, NatsError> {
    Ok(format!(
        "{indent}tls {{\n\
         {indent}  cert_file: {}\n\
         {indent}  key_file: {}\n\
         {indent}  ca_file: {}\n\
         {indent}  verify: true\n\
         {indent}  min_version: \"1.3\"\n\
         {indent}}}\n",
        quoted_path(&tls.certificate)?,
        quoted_path(&tls.key)?,
        quoted_path(&tls.roots)?,
    ))
}

fn cluster_block(
    authority: &BusAuthority,
    cluster: &BusCluster,
    tls: Option<&BusTls>,
) -> Result<String, NatsError> {
    let mut text = format!(
        "cluster {{\n  name: \"keywheel-{}\"\n  listen: \"{}\"\n  routes: [\n",
        authority.deployment(),
        cluster.listen,
    );
    for route in &cluster.routes {
        crate::token::check_address(route)
            .map_err(|_| NatsError::Setting(format!("`{route}` is not HOST:PORT of a server")))?;
        writeln!(text, "    \"nats-route://{route}\"").map_err(|_| unwritable(route))?;
    }
    text.push_str("  ]\n");
    if let Some(tls) = tls {
        text.push_str(&tls_block(tls, "  ")?);
    }
    text.push_str("}\n");
    Ok(text)
}

fn quoted_path(path: &Path) -> Result<String, NatsError> {
    let text = path
        .to_str()
        .ok_or_else(|| unwritable(&path.to_string_lossy()))?;
    quoted(text)
}

/// A string as the file holds it; what the server would read as something else is refused.
fn quoted(text: &str) -> Result<String, NatsError> {
    if text.is_empty()
        || text
            .chars()
            .any(|c| c.is_control() || matches!(c, '"' | '\\' | '$'))
    {
        return Err(unwritable(text));
    }
    Ok(format!("\"{text}\""))
}

fn unwritable(text: &str) -> NatsError {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    NatsError::Setting(format!(
        "`{shown}` is empty or has characters the file cannot hold; choose another name"
    ))
}
