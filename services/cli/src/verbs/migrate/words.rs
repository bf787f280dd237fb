//! A migration in words: what will be done, and what was. Names only, never a value.

use serde_json::json;

use super::json::text;
use super::look::Case;
use super::recreate::{short, short_id};
use crate::exit::Failure;
use crate::output::table::fields;
use crate::output::{Screen, tame};

/// What a person agrees to.
pub(super) fn plan(case: &Case) -> String {
    let mut text = format!("{}\n{}", facts(case), case.bindings.text());
    for note in &case.notes {
        text.push_str(&format!("note: {}\n", tame(note)));
    }
    text.trim_end().to_owned()
}

fn facts(case: &Case) -> String {
    let host = case.about.get("HostConfig");
    let runtime = host.map_or("", |host| text(host, "Runtime"));
    let image = case.about.get("Config");
    let image = image.map_or("", |config| text(config, "Image"));
    let mut pairs = vec![
        (
            "container",
            format!("{} ({})", case.names.own, short_id(&case.about)),
        ),
        ("image", image.to_owned()),
        ("runtime", format!("{runtime} -> {}", case.runtime)),
    ];
    for wish in &case.wishes {
        let value = match wish.use_current {
            true => "the secret's current version; the container's own value is dropped",
            false => "its value becomes the secret's first version",
        };
        let pair = format!("{} -> {}: {value}", wish.variable, wish.placeholder());
        pairs.push(("variable", pair));
    }
    pairs.push((
        "how",
        "stopped and made anew once; put back when the new one is not healthy".to_owned(),
    ));
    fields(&pairs)
}

/// Shows what was done, or would be.
pub(super) fn show(
    screen: Screen,
    case: &Case,
    new: Option<&str>,
    result: &str,
) -> Result<(), Failure> {
    let variables: Vec<_> = case
        .wishes
        .iter()
        .map(|wish| {
            json!({
                "variable": wish.variable.as_str(),
                "secret": wish.secret.as_str(),
                "value": if wish.use_current { "current" } else { "taken" },
            })
        })
        .collect();
    let answer = json!({
        "container": case.names.own,
        "before": text(&case.about, "Id"),
        "after": new,
        "runtime": case.runtime,
        "variables": variables,
        "manifests": case.bindings.text(),
        "notes": case.notes,
        "result": result,
    });
    screen.show(&answer, |_| match new {
        // What was agreed to stands above.
        Some(new) => format!(
            "{} is container {} under {} now; `keywheel consumers` shows what it holds",
            case.names.own,
            short(new),
            case.runtime
        ),
        None => format!("{}\n{result}", plan(case)),
    })
}
