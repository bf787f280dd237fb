//! What happens in one container on change: what its binding says, or what the binding lets its label
//! say. Pure.
//!
//! Invariant: a label alone moves nothing. Anyone on the engine's socket can set it, so it counts only
//! where the binding says `reload: label`, and then it makes nobody else wait longer than a restart with
//! the defaults does.

use keywheel_core::binding::{ContainerFacts, DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload};
use keywheel_schemas::manifest::parse_reload;

/// The label that says what happens on change, in the words of a binding's `reload`.
pub(crate) const RELOAD_LABEL: &str = "dev.keywheel.reload";

/// What happens on change in a container whose label says this. [`Reload::Label`] stays where the label
/// says `none`, and where it cannot be followed.
pub(crate) fn reload_in(planned: &Reload, label: &Result<Reload, String>) -> Reload {
    match planned {
        Reload::Label => match label {
            Ok(Reload::None) | Err(_) => Reload::Label,
            Ok(other) => other.clone(),
        },
        other => other.clone(),
    }
}

/// What the container's label says; the error is for a person, with the next step.
pub(crate) fn said(facts: &ContainerFacts) -> Result<Reload, String> {
    let Some(text) = facts.labels.get(RELOAD_LABEL) else {
        return Err(format!(
            "reload_unknown: its binding says `reload: label`, and it has no label `{RELOAD_LABEL}`; create it with one, like `--label \"{RELOAD_LABEL}={{ signal: HUP }}\"`, or say it in the binding"
        ));
    };
    let reload = parse_reload(text).map_err(|fault| {
        format!(
            "reload_unknown: its label `{RELOAD_LABEL}` is not understood: {fault}; create it anew with one like `--label \"{RELOAD_LABEL}={{ signal: HUP }}\"`, or say it in the binding"
        )
    })?;
    Ok(match reload {
        Reload::Restart {
            settle,
            health_timeout,
            ..
        } => Reload::Restart {
            settle: settle.min(DEFAULT_SETTLE),
            health_timeout: health_timeout.min(DEFAULT_HEALTH_TIMEOUT),
            rollout: None,
        },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use keywheel_core::id::ContainerId;

    use super::*;

    fn labelled(text: Option<&str>) -> ContainerFacts {
        let label = text.map(|text| (RELOAD_LABEL.to_owned(), text.to_owned()));
        ContainerFacts {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            image_name: "app:1".to_owned(),
            labels: BTreeMap::from_iter(label),
            user: None,
        }
    }

    #[test]
    fn a_label_counts_only_where_the_binding_lets_it() {
        let label = said(&labelled(Some("{ signal: HUP }")));
        assert_eq!(reload_in(&Reload::None, &label), Reload::None);
        assert_eq!(reload_in(&Reload::Signal(10), &label), Reload::Signal(10));
        assert_eq!(reload_in(&Reload::Label, &label), Reload::Signal(1));
    }

    #[test]
    fn a_label_that_is_missing_or_not_understood_is_told_with_the_next_step() {
        for (text, part) in [
            (None, "--label"),
            (Some("{ signal: HUB }"), "is not a signal"),
        ] {
            let label = said(&labelled(text));
            assert_eq!(reload_in(&Reload::Label, &label), Reload::Label);
            let fault = label.unwrap_err();
            assert!(
                fault.contains(RELOAD_LABEL) && fault.contains(part),
                "{fault}"
            );
            assert!(
                fault.contains("--label") && fault.contains("in the binding"),
                "{fault}"
            );
        }
        let label = said(&labelled(Some("none")));
        assert_eq!(reload_in(&Reload::Label, &label), Reload::Label);
        assert_eq!(label, Ok(Reload::None));
    }

    #[test]
    fn a_label_may_shorten_the_times_of_a_restart_and_not_lengthen_them() {
        for (text, settle, health_timeout) in [
            (
                "{ restart: { settle: 1h, healthTimeout: 1h } }",
                DEFAULT_SETTLE,
                DEFAULT_HEALTH_TIMEOUT,
            ),
            (
                "{ restart: { settle: 1s, healthTimeout: 2s } }",
                Duration::from_secs(1),
                Duration::from_secs(2),
            ),
        ] {
            let expected = Reload::Restart {
                settle,
                health_timeout,
                rollout: None,
            };
            assert_eq!(said(&labelled(Some(text))), Ok(expected));
        }
    }
}
