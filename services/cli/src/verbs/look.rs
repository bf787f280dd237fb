//! Verbs that only look: status, lists, descriptions, and the journal's verification.

use keywheel_core::id::RotationId;
use keywheel_schemas::api::{
    BindingView, ConsumerView, Finding, HealthWord, HistoryView, RevocationView, RotationView,
    SecretView, Status, VerifyReport, VersionView,
};
use serde::Serialize;

use super::Desk;
use super::host;
use super::rotate::with_nearest;
use super::store;
use super::streams;
use crate::args::{DescribeArgs, DescribeKind, GetArgs, HistoryArgs, Kind, StatusArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{self, revocations, tame, views};

/// Rotations that the description of a secret shows.
const RECENT: usize = 5;

pub(super) async fn status(desk: &Desk, args: &StatusArgs) -> Result<(), Failure> {
    let status: Status = desk.client.read("/v1/status").await?;
    desk.screen.show(&status, |status| {
        output::status::page(status, desk.screen.color)
    })?;
    if !args.check || status.state != HealthWord::Problem {
        return Ok(());
    }
    let is_problem = |finding: &&Finding| finding.state == HealthWord::Problem;
    let problems = status.findings.iter().filter(is_problem).count();
    Err(Failure::new(
        Exit::Partial,
        format!("{problems} problems; the answer above names them"),
        "do what stands below each of them",
    ))
}

pub(super) async fn secrets(desk: &Desk) -> Result<(), Failure> {
    let secrets: Vec<SecretView> = desk.client.read_all("/v1/secrets").await?;
    desk.screen.show(&secrets, |secrets| {
        views::secrets(secrets, desk.screen.color)
    })
}

pub(super) async fn consumers(desk: &Desk, secret: Option<&str>) -> Result<(), Failure> {
    let path = match secret {
        Some(name) => format!("/v1/consumers?secret={}", escape(name)),
        None => "/v1/consumers".to_owned(),
    };
    let consumers: Vec<ConsumerView> = match (desk.client.read_all(&path).await, secret) {
        (Ok(consumers), _) => consumers,
        (Err(failure), Some(name)) => return Err(with_nearest(desk, name, failure).await),
        (Err(failure), None) => return Err(failure),
    };
    desk.screen.show(&consumers, |consumers| {
        views::consumers(consumers, desk.screen.color)
    })
}

pub(super) async fn history(desk: &Desk, args: &HistoryArgs) -> Result<(), Failure> {
    let at = args.at.as_deref();
    let at = at.map(|text| streams::when("--at", text)).transpose()?;
    let at = at.map(|at| format!("?at={}", escape(&at)));
    let path = format!(
        "/v1/history/{}{}",
        escape(&args.name),
        at.unwrap_or_default()
    );
    let history: HistoryView = match desk.client.read_long(&path).await {
        Ok(history) => history,
        Err(failure) => return Err(with_nearest(desk, &args.name, failure).await),
    };
    desk.screen.show(&history, |history| {
        views::history(history, desk.screen.color)
    })
}

pub(super) async fn list(desk: &Desk, args: &GetArgs) -> Result<(), Failure> {
    if let Some(name) = &args.name {
        return one(desk, args.kind, name).await;
    }
    let color = desk.screen.color;
    match args.kind {
        Kind::Secrets => secrets(desk).await,
        Kind::Bindings => {
            let bindings: Vec<BindingView> = desk.client.read_all("/v1/bindings").await?;
            desk.screen
                .show(&bindings, |bindings| views::bindings(bindings, color))
        }
        Kind::Rotations => {
            let rotations: Vec<RotationView> = desk.client.read_all("/v1/rotations").await?;
            desk.screen
                .show(&rotations, |rotations| views::rotations(rotations, color))
        }
        Kind::Revocations => {
            let revocations: Vec<RevocationView> = desk.client.read_all("/v1/revocations").await?;
            desk.screen.show(&revocations, |revocations| {
                views::revocations(revocations, color)
            })
        }
        Kind::Hosts => host::list(desk).await,
        Kind::Stores => store::list(desk).await,
    }
}

async fn one(desk: &Desk, kind: Kind, name: &str) -> Result<(), Failure> {
    let color = desk.screen.color;
    match kind {
        Kind::Secrets => {
            let found = secret_named(desk, name).await?;
            desk.screen.show(&found, |found| {
                views::secrets(std::slice::from_ref(found), color)
            })
        }
        Kind::Bindings => {
            let found: BindingView = desk
                .client
                .read(&format!("/v1/bindings/{}", escape(name)))
                .await?;
            desk.screen.show(&found, |found| {
                views::bindings(std::slice::from_ref(found), color)
            })
        }
        Kind::Rotations => {
            let found = rotation_of(desk, name).await?;
            desk.screen.show(&found, |found| {
                views::rotations(std::slice::from_ref(found), color)
            })
        }
        Kind::Revocations => {
            let found = revocation_of(desk, name).await?;
            desk.screen.show(&found, |found| {
                views::revocations(std::slice::from_ref(found), color)
            })
        }
        Kind::Hosts => host::one(desk, name).await,
        Kind::Stores => store::one(desk, name).await,
    }
}

pub(super) async fn secret_named(desk: &Desk, name: &str) -> Result<SecretView, Failure> {
    secret_with(desk, name, "").await
}

async fn secret_with(desk: &Desk, name: &str, query: &str) -> Result<SecretView, Failure> {
    match desk
        .client
        .read(&format!("/v1/secrets/{}{query}", escape(name)))
        .await
    {
        Ok(secret) => Ok(secret),
        Err(failure) => Err(with_nearest(desk, name, failure).await),
    }
}

/// A rotation by id, or the newest of a secret.
pub(super) async fn rotation_of(desk: &Desk, name: &str) -> Result<RotationView, Failure> {
    if RotationId::parse(name).is_ok() {
        return desk.client.read(&format!("/v1/rotations/{name}")).await;
    }
    let secret = secret_named(desk, name).await?;
    let rotations: Vec<RotationView> = desk.client.read_all("/v1/rotations").await?;
    rotations
        .into_iter()
        .find(|rotation| rotation.secret == secret.name)
        .ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("{name} has no rotation that is still remembered"),
                "`keywheel events list` has all of them",
            )
        })
}

/// A revocation by id, or the newest of a secret.
pub(super) async fn revocation_of(desk: &Desk, name: &str) -> Result<RevocationView, Failure> {
    if RotationId::parse(name).is_ok() {
        return desk.client.read(&format!("/v1/revocations/{name}")).await;
    }
    let secret = secret_named(desk, name).await?;
    let revocations: Vec<RevocationView> = desk.client.read_all("/v1/revocations").await?;
    revocations
        .into_iter()
        .find(|revocation| revocation.secret == secret.name)
        .ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("nothing of {name} was revoked"),
                "`keywheel get revocations` lists all",
            )
        })
}

/// A secret with everything around it.
#[derive(Debug, Serialize)]
struct SecretPage {
    #[serde(flatten)]
    secret: SecretView,
    versions: Vec<VersionView>,
    bindings: Vec<BindingView>,
    held_by: Vec<ConsumerView>,
    recent_rotations: Vec<RotationView>,
}

impl SecretPage {
    fn words(&self, color: bool) -> String {
        let mut text = views::secret(&self.secret);
        let mut section =
            |title: &str, body: String| text.push_str(&format!("\n{title}\n{body}\n"));
        section("VERSIONS", views::versions(&self.versions, color));
        if !self.bindings.is_empty() {
            section("BINDINGS", views::bindings(&self.bindings, color));
        }
        section("CONSUMERS", views::consumers(&self.held_by, color));
        if !self.recent_rotations.is_empty() {
            section(
                "RECENT ROTATIONS",
                views::rotations(&self.recent_rotations, color),
            );
        }
        if !self.secret.refused_starts.is_empty() {
            let refused = views::refused_starts(&self.secret.refused_starts, color);
            section("REFUSED STARTS", refused);
        }
        for binding in &self.bindings {
            if let Some(note) = &binding.note {
                text.push_str(&format!(
                    "\nnote: binding {}: {}",
                    tame(&binding.name),
                    tame(note)
                ));
            }
        }
        text
    }
}

/// A binding with its consumers.
#[derive(Debug, Serialize)]
struct BindingPage {
    #[serde(flatten)]
    binding: BindingView,
    held_by: Vec<ConsumerView>,
}

pub(super) async fn describe(desk: &Desk, args: &DescribeArgs) -> Result<(), Failure> {
    let color = desk.screen.color;
    match args.kind {
        DescribeKind::Secret => {
            let page = secret_page(desk, &args.name).await?;
            desk.screen.show(&page, |page| page.words(color))
        }
        DescribeKind::Binding => {
            let binding: BindingView = desk
                .client
                .read(&format!("/v1/bindings/{}", escape(&args.name)))
                .await?;
            let mut held_by = consumers_of(desk, &binding.secret).await?;
            held_by.retain(|consumer| consumer.binding == binding.name);
            desk.screen.show(&BindingPage { binding, held_by }, |page| {
                format!(
                    "{}\n{}",
                    views::binding(&page.binding),
                    views::consumers(&page.held_by, color)
                )
            })
        }
        DescribeKind::Rotation => {
            let rotation = rotation_of(desk, &args.name).await?;
            desk.screen
                .show(&rotation, |rotation| views::rotation(rotation, color))
        }
        DescribeKind::Revocation => {
            let revocation = revocation_of(desk, &args.name).await?;
            desk.screen.show(&revocation, revocations::revocation)
        }
        DescribeKind::Host => host::describe(desk, &args.name).await,
        DescribeKind::Store => store::describe(desk, &args.name).await,
    }
}

async fn consumers_of(desk: &Desk, secret: &str) -> Result<Vec<ConsumerView>, Failure> {
    desk.client
        .read_all(&format!("/v1/consumers?secret={}", escape(secret)))
        .await
}

async fn secret_page(desk: &Desk, name: &str) -> Result<SecretPage, Failure> {
    let secret = secret_with(desk, name, "?refused_starts=true").await?;
    let versions = desk
        .client
        .read(&format!("/v1/versions/{}", escape(name)))
        .await?;
    let mut bindings: Vec<BindingView> = desk.client.read_all("/v1/bindings").await?;
    bindings.retain(|binding| binding.secret == secret.name);
    let held_by = consumers_of(desk, name).await?;
    let mut recent_rotations: Vec<RotationView> = desk.client.read_all("/v1/rotations").await?;
    recent_rotations.retain(|rotation| rotation.secret == secret.name);
    recent_rotations.truncate(RECENT);
    Ok(SecretPage {
        secret,
        versions,
        bindings,
        held_by,
        recent_rotations,
    })
}

pub(super) async fn journal(desk: &Desk) -> Result<(), Failure> {
    let report: VerifyReport = desk.client.read_long("/v1/journal/verify").await?;
    desk.screen.show(&report, |report| {
        let verdict = if report.verified {
            "verified"
        } else {
            "NOT VERIFIED"
        };
        let mut text = format!(
            "{verdict}: {} events, {} audit records; {} events folded anew and compared with what runs",
            report.events, report.audit_records, report.replayed
        );
        if report.removed_records > 0 {
            text.push_str(&format!(
                "\n  audit records 0 to {} were removed by their age; of these the leaf hashes",
                report.removed_records - 1
            ));
        }
        for fault in &report.faults {
            text.push_str(&format!("\n  {}", tame(fault)));
        }
        text
    })?;
    if report.verified {
        return Ok(());
    }
    let first = report
        .faults
        .first()
        .map_or("no reason was given", String::as_str);
    Err(Failure::new(
        Exit::Unverified,
        format!("the journal does not verify: {first}"),
        "keep a copy of the data directory as it is; somebody, some disk or a fault of keywheel changed it",
    ))
}
