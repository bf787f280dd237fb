//! `keywheel ca`: another root for the deployment, without a connection lost. At the gateway's machine;
//! a running gateway takes the changed file up by itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::authority::{Authority, LongLived, MEMBER_LIFETIME_MOST};
use keywheel_member::ends;
use keywheel_schemas::config::apart::MIN_CREDENTIAL_LIFETIME;
use keywheel_seal::{OsEntropy, SecretBytes};

use crate::args::{CaArgs, CaVerb, FinishArgs, OwnCa};
use crate::credentials::{Opened, open};
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::span;

/// Largest file of a certificate or key, in bytes.
const MAX_PEM_BYTES: u64 = 64 << 10;

/// Does what `ca` says.
pub(crate) fn run(screen: Screen, verb: &CaVerb) -> Result<(), Failure> {
    match verb {
        CaVerb::Begin(args) => begin(screen, args),
        CaVerb::Status(args) => {
            let opened = open(args)?;
            tell(screen, &opened.authority, "")
        }
        CaVerb::Finish(args) => finish(screen, args),
    }
}

/// One's own authority, if one was given.
pub(crate) fn own(given: &OwnCa, deployment: DeploymentId) -> Result<Option<Authority>, Failure> {
    let (Some(certificate), Some(key)) = (&given.ca_cert, &given.ca_key) else {
        return Ok(None);
    };
    let chain = String::from_utf8(read(certificate)?).map_err(|_| {
        let what = format!("{} is no text", certificate.display());
        Failure::new(Exit::Input, what, "give a PEM file")
    })?;
    let key = SecretBytes::from(read(key)?);
    let own = Authority::from_pem(deployment, &chain, &key).map_err(|e| refused(&e))?;
    Ok(Some(own))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    // As large as the file may be, so that a key is not copied while it grows.
    let room = usize::try_from(MAX_PEM_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room);
    let reading =
        File::open(path).and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes));
    reading.map_err(|e| {
        let what = format!("cannot read {}: {e}", path.display());
        Failure::new(Exit::NoInput, what, "name a PEM file that you may read")
    })?;
    Ok(bytes)
}

fn begin(screen: Screen, args: &CaArgs) -> Result<(), Failure> {
    let mut opened = open(&args.home)?;
    let deployment = opened.identity.deployment;
    let now = SystemClock::new().now();
    let next = match own(&args.own, deployment)? {
        Some(own) => own,
        None => Authority::create(deployment, now, &OsEntropy).map_err(|e| refused(&e))?,
    };
    let begun = opened.authority.begin_rollover(next, now, &OsEntropy);
    begun.map_err(|e| refused(&e))?;
    keep(&opened)?;
    tell(
        screen,
        &opened.authority,
        "certificates come from the new root; both are trusted\n",
    )
}

fn finish(screen: Screen, args: &FinishArgs) -> Result<(), Failure> {
    let mut opened = open(&args.home)?;
    let life = lifetime(args.lifetime.as_deref())?;
    opened.authority = opened.authority.with_member_lifetime(life);
    let old = if args.drop_long_lived {
        LongLived::Drop
    } else {
        LongLived::Wait
    };
    let now: Timestamp = SystemClock::new().now();
    let finished = opened.authority.finish_rollover(now, old);
    finished.map_err(|e| refused(&e))?;
    keep(&opened)?;
    tell(
        screen,
        &opened.authority,
        "the old root is trusted no more\n",
    )
}

fn lifetime(given: Option<&str>) -> Result<Duration, Failure> {
    let Some(text) = given else {
        return Ok(MEMBER_LIFETIME_MOST);
    };
    let bounds = MIN_CREDENTIAL_LIFETIME..=MEMBER_LIFETIME_MOST;
    span::parse(text)
        .ok()
        .filter(|life| bounds.contains(life))
        .ok_or_else(|| {
            let what = format!("`{text}` is no life of credentials");
            Failure::new(
                Exit::Usage,
                what,
                "write one from 10s to 24h, as `credentials.lifetime` at the gateway says",
            )
        })
}

fn keep(opened: &Opened) -> Result<(), Failure> {
    let sealed = opened.authority.seal(&opened.unseal, &OsEntropy);
    let sealed = sealed.map_err(|e| refused(&e))?;
    opened.home.keep_authority(&sealed).map_err(|e| refused(&e))
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        Exit::Conflict,
        keywheel_daemon::chain(error),
        "`keywheel ca status` says where a rollover is",
    )
}

fn tell(screen: Screen, authority: &Authority, done: &str) -> Result<(), Failure> {
    let members = authority.rollover_ends(LongLived::Drop).map(ends);
    let everyone = authority.rollover_ends(LongLived::Wait).map(ends);
    let json = serde_json::json!({
        "rolling_over": authority.is_rolling_over(),
        "members_done_at": members,
        "everyone_done_at": everyone,
    });
    screen.show(&json, |_| match (members, everyone) {
        (Some(members), Some(everyone)) => format!(
            "{done}a rollover is under way\n  services and hosts renew by themselves, the last at {members}\n  bus servers and people: `keywheel credentials refresh` on their directories, then SIGHUP to nats-server\n  with several gateways: bring authority.json to each\nthen: keywheel ca finish --drop-long-lived; without the flag it waits until {everyone}\n"
        ),
        _ => format!("{done}no rollover is under way\n"),
    })
}
