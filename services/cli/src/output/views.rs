//! The API's views as text for people. Pure.

use keywheel_schemas::api::{
    ApplyAnswer, BindingView, ConsumerView, HistoryView, RefusedStartView, RevocationView,
    RotationView, SecretView, VersionView,
};
use keywheel_schemas::event::resource::Resource;
use keywheel_schemas::mirror::Mirror as _;

use super::table::{columns, fields};

/// Digits of a container id that people know.
const SHORT_ID: usize = 12;

pub(crate) fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Milliseconds, short.
pub(crate) fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(String::new, |ms| {
        if ms < 100.0 {
            format!("{ms:.1} ms")
        } else {
            format!("{ms:.0} ms")
        }
    })
}

/// The digits of a container id that people know.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Secrets.
pub(crate) fn secrets(secrets: &[SecretView], color: bool) -> String {
    let row = |secret: &SecretView| {
        vec![
            secret.name.clone(),
            number(secret.current),
            number(secret.pending),
            secret.consumers.to_string(),
            secret.schedule.clone(),
            secret.next_fires.first().cloned().unwrap_or_default(),
        ]
    };
    let headers = [
        "NAME",
        "CURRENT",
        "PENDING",
        "CONSUMERS",
        "SCHEDULE",
        "NEXT",
    ];
    columns(&headers, secrets.iter().map(row).collect(), color)
}

/// One secret, without what is around it.
pub(crate) fn secret(secret: &SecretView) -> String {
    fields(&[
        ("name", secret.name.clone()),
        ("id", secret.id.clone()),
        ("store", secret.store.clone()),
        (
            "opens",
            secret.rotator.clone().map(accounts).unwrap_or_default(),
        ),
        ("current version", number(secret.current)),
        (
            "pending version",
            secret.pending.map(|v| v.to_string()).unwrap_or_default(),
        ),
        ("versions given out", secret.last_version.to_string()),
        (
            "value",
            if secret.generated {
                "generated"
            } else {
                "provided with `keywheel secret put`"
            }
            .to_owned(),
        ),
        ("rotates", secret.schedule.clone()),
        ("next fires", secret.next_fires.join(", ")),
        ("consumers", secret.consumers.to_string()),
        (
            "open rotation",
            secret.open_rotation.clone().unwrap_or_default(),
        ),
    ])
}

/// Which accounts a secret's versions open, and how they change over.
fn accounts(rotator: Resource) -> String {
    let resource = rotator.into_core();
    format!(
        "{} of {resource} ({})",
        resource.accounts.join(" and "),
        resource.strategy.word()
    )
}

/// Versions.
pub(crate) fn versions(versions: &[VersionView], color: bool) -> String {
    let row = |version: &VersionView| {
        let stage = if version.stage.is_empty() {
            "-"
        } else {
            &version.stage
        };
        vec![
            version.version.to_string(),
            stage.to_owned(),
            version.state.clone(),
            holders(version),
        ]
    };
    columns(
        &["VERSION", "STAGE", "STATE", "HELD BY HOSTS"],
        versions.iter().map(row).collect(),
        color,
    )
}

/// Starts that were refused.
pub(crate) fn refused_starts(starts: &[RefusedStartView], color: bool) -> String {
    let row = |start: &RefusedStartView| {
        vec![
            start.at.clone(),
            start.container.clone(),
            short(&start.id).to_owned(),
            start.host.clone(),
            start.reason.clone(),
        ]
    };
    columns(
        &["AT", "CONTAINER", "ID", "HOST", "WHY"],
        starts.iter().map(row).collect(),
        color,
    )
}

/// Hosts that may hold a version; an evicted one may for good.
fn holders(version: &VersionView) -> String {
    let evicted = version.evicted_hosts.iter();
    let evicted = evicted.map(|host| format!("{host} (evicted)"));
    let hosts: Vec<String> = version.hosts.iter().cloned().chain(evicted).collect();
    hosts.join(", ")
}

/// Bindings; why one gives nothing stands below.
pub(crate) fn bindings(bindings: &[BindingView], color: bool) -> String {
    let row = |binding: &BindingView| {
        vec![
            binding.name.clone(),
            secrets_of(binding),
            binding.selector.clone(),
            binding.target.clone(),
            binding.reload.clone(),
            binding.consumers.to_string(),
        ]
    };
    let headers = [
        "NAME",
        "SECRET",
        "CONTAINERS",
        "TARGET",
        "RELOAD",
        "CONSUMERS",
    ];
    let mut text = columns(&headers, bindings.iter().map(row).collect(), color);
    for binding in bindings {
        if let Some(withheld) = &binding.withheld {
            text.push_str(&format!(
                "\n{}: {}",
                super::tame(&binding.name),
                super::tame(withheld)
            ));
        }
    }
    text
}

fn secrets_of(binding: &BindingView) -> String {
    let own = std::iter::once(binding.secret.as_str());
    let all = own.chain(binding.also.iter().map(String::as_str));
    all.collect::<Vec<_>>().join(", ")
}

/// One binding, without what is around it.
pub(crate) fn binding(binding: &BindingView) -> String {
    fields(&[
        ("name", binding.name.clone()),
        ("id", binding.id.clone()),
        ("secret", secrets_of(binding)),
        ("containers", binding.selector.clone()),
        ("target", binding.target.clone()),
        ("reload", binding.reload.clone()),
        ("on revoke", binding.on_revoke.clone().unwrap_or_default()),
        ("consumers", binding.consumers.to_string()),
        ("note", binding.note.clone().unwrap_or_default()),
        ("withheld", binding.withheld.clone().unwrap_or_default()),
    ])
}

/// Consumers; why one was refused stands below.
pub(crate) fn consumers(consumers: &[ConsumerView], color: bool) -> String {
    let row = |consumer: &ConsumerView| {
        vec![
            consumer.secret.clone(),
            match (consumer.version, consumer.previous) {
                (0, _) => "-".to_owned(),
                (version, Some(previous)) => format!("{version}, {previous}"),
                (version, None) => version.to_string(),
            },
            if consumer.assigned == 0 {
                "-".to_owned()
            } else {
                consumer.assigned.to_string()
            },
            match &consumer.restart {
                Some(restart) => format!("{}, {restart}", consumer.state),
                None => consumer.state.clone(),
            },
            format!("{} ({})", consumer.name, short(&consumer.container)),
            consumer.host.clone(),
            consumer.binding.clone(),
            milliseconds(consumer.latency_ms),
        ]
    };
    if consumers.is_empty() {
        return "no consumers".to_owned();
    }
    let headers = [
        "SECRET",
        "HOLDS",
        "WANTED",
        "STATE",
        "CONTAINER",
        "HOST",
        "BINDING",
        "SWAPPED IN",
    ];
    let mut text = columns(&headers, consumers.iter().map(row).collect(), color);
    for consumer in consumers {
        if let Some(reason) = &consumer.reason {
            text.push_str(&format!(
                "\n{}: {}",
                super::tame(&consumer.name),
                super::tame(reason)
            ));
        }
    }
    text
}

/// What the log says of a time.
pub(crate) fn history(history: &HistoryView, color: bool) -> String {
    format!(
        "{} at {}, after event {}\n\nVERSIONS\n{}\n\nCONSUMERS\n{}",
        super::tame(&history.secret),
        super::tame(&history.at),
        history.number,
        versions(&history.versions, color),
        consumers(&history.consumers, color)
    )
}

/// Rotations.
pub(crate) fn rotations(rotations: &[RotationView], color: bool) -> String {
    let row = |rotation: &RotationView| {
        vec![
            rotation.rotation_id.clone(),
            rotation.secret.clone(),
            rotation.version.to_string(),
            rotation.state.clone(),
            rotation.trigger.clone(),
            acknowledged(rotation),
            milliseconds(rotation.timings.requested_to_acknowledged_ms),
        ]
    };
    let headers = [
        "ROTATION",
        "SECRET",
        "VERSION",
        "STATE",
        "TRIGGER",
        "ACKNOWLEDGED",
        "WITHIN",
    ];
    columns(&headers, rotations.iter().map(row).collect(), color)
}

/// `k of n`.
pub(crate) fn acknowledged(rotation: &RotationView) -> String {
    let done = rotation
        .consumers
        .iter()
        .filter(|c| !is_behind(c, rotation.version))
        .count();
    format!("{done} of {}", rotation.consumers.len())
}

/// Whether a consumer does not run on the version yet.
pub(crate) fn is_behind(consumer: &ConsumerView, version: u64) -> bool {
    match consumer.state.as_str() {
        "vanished" | "withdrawn" => false,
        "swapped" | "reloaded" => consumer.version < version,
        _ => true,
    }
}

/// One rotation with its consumers.
pub(crate) fn rotation(rotation: &RotationView, color: bool) -> String {
    let mut text = fields(&[
        ("rotation", rotation.rotation_id.clone()),
        ("secret", rotation.secret.clone()),
        ("version", rotation.version.to_string()),
        ("state", rotation.state.clone()),
        ("trigger", rotation.trigger.clone()),
        (
            "swapped within",
            milliseconds(rotation.timings.promoted_to_swapped_ms),
        ),
        (
            "acknowledged within",
            milliseconds(rotation.timings.requested_to_acknowledged_ms),
        ),
        (
            "closed within",
            milliseconds(rotation.timings.requested_to_closed_ms),
        ),
    ]);
    if let Some(gap) = rotation.timings.gap_ms {
        let gap = milliseconds(Some(gap));
        text.push_str(&format!(
            "gap:  {gap}, from the server's new password to the last consumer that had it\n"
        ));
    }
    for line in &rotation.waiting_for {
        text.push_str(&format!("waits for:  {}\n", super::tame(line)));
    }
    if let Some(next) = &rotation.next_step {
        text.push_str(&format!("next:  {}\n", super::tame(next)));
    }
    if !rotation.consumers.is_empty() {
        text.push_str(&format!("\n{}", consumers(&rotation.consumers, color)));
    }
    text
}

pub(crate) fn version_list(versions: &[u64]) -> String {
    versions
        .iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Revocations.
pub(crate) fn revocations(revocations: &[RevocationView], color: bool) -> String {
    let row = |revocation: &RevocationView| {
        vec![
            revocation.revocation_id.clone(),
            revocation.secret.clone(),
            version_list(&revocation.versions),
            revocation.state.clone(),
            milliseconds(revocation.withdrawn_ms),
            revocation.reason.clone(),
        ]
    };
    let headers = [
        "REVOCATION",
        "SECRET",
        "VERSIONS",
        "STATE",
        "WITHDRAWN IN",
        "REASON",
    ];
    columns(&headers, revocations.iter().map(row).collect(), color)
}

/// What became of a manifest.
pub(crate) fn applied(answer: &ApplyAnswer, dry_run: bool, color: bool) -> String {
    let row = |applied: &keywheel_schemas::api::Applied| {
        let action = if dry_run && applied.action != "unchanged" {
            format!("would be {}", applied.action)
        } else {
            applied.action.clone()
        };
        vec![applied.kind.clone(), applied.name.clone(), action]
    };
    let mut text = columns(
        &["KIND", "NAME", "ACTION"],
        answer.results.iter().map(row).collect(),
        color,
    );
    for applied in &answer.results {
        if let Some(note) = &applied.note {
            text.push_str(&format!(
                "\nnote: {}: {}",
                super::tame(&applied.name),
                super::tame(note)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests;
