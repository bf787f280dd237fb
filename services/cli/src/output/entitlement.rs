//! Whether a container gets a secret, for people. Pure.

use keywheel_schemas::api::{EntitlementView, RulePart, RuleView};

use super::table::columns;
use super::tame;
use super::views::short;

/// The answer, and every binding with what of it means others.
pub(crate) fn page(answer: &EntitlementView, color: bool) -> String {
    let word = if answer.entitled { "yes" } else { "no" };
    let mut text = format!(
        "{word}: container {} ({}) on {}, secret {}\n  {}\n",
        tame(&answer.container),
        tame(short(&answer.id)),
        tame(&answer.host),
        tame(&answer.secret),
        tame(&answer.reason)
    );
    if let Some(next) = &answer.next {
        text.push_str(&format!("next: {}\n", tame(next)));
    }
    for rule in &answer.rules {
        text.push_str(&binding(rule, color));
    }
    text
}

fn binding(rule: &RuleView, color: bool) -> String {
    let means = if rule.holds {
        "means it"
    } else {
        "does not mean it"
    };
    let mut text = format!(
        "\nbinding {} {means}; gives {}\n",
        tame(&rule.binding),
        tame(&rule.gives)
    );
    if let Some(state) = &rule.state {
        text.push_str(&format!("  on its host: {}", tame(state)));
        if let Some(refused) = &rule.refused {
            text.push_str(&format!(" ({})", tame(refused)));
        }
        text.push('\n');
    }
    if let Some(withheld) = &rule.withheld {
        text.push_str(&format!("  {}\n", tame(withheld)));
    }
    let row = |part: &RulePart| {
        let holds = if part.holds { "yes" } else { "no" };
        vec![
            part.field.clone(),
            part.wanted.clone(),
            part.found.clone(),
            holds.to_owned(),
        ]
    };
    if !rule.parts.is_empty() {
        let rows = rule.parts.iter().map(row).collect();
        text.push_str(&columns(&["PART", "WANTED", "FOUND", "HOLDS"], rows, color));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_first_then_each_part_and_nothing_steers_the_terminal() {
        let part = RulePart {
            field: "image".to_owned(),
            wanted: "sha256:1".to_owned(),
            found: "sha256:2\u{1b}[31m".to_owned(),
            holds: false,
        };
        let rule = RuleView {
            binding: "web".to_owned(),
            holds: false,
            gives: "env DB".to_owned(),
            parts: vec![part],
            state: Some("refused".to_owned()),
            refused: Some("it has no placeholder".to_owned()),
            withheld: Some("policies withhold it: service `web` may not read".to_owned()),
        };
        let answer = EntitlementView {
            secret: "prod/db".to_owned(),
            container: "shop-web-1".to_owned(),
            id: "a".repeat(64),
            host: "web-1".to_owned(),
            entitled: false,
            binding: Some("web".to_owned()),
            reason: "no binding means it; `web` comes nearest: image is not `sha256:1`".to_owned(),
            next: Some("widen it".to_owned()),
            rules: vec![rule],
        };
        let text = page(&answer, false);
        assert!(text.starts_with("no: container shop-web-1 (aaaaaaaaaaaa) on web-1"));
        for words in [
            "next: widen it",
            "binding web does not mean it; gives env DB",
            "on its host: refused (it has no placeholder)",
            "policies withhold it: service `web` may not read",
            "sha256:2\u{b7}[31m",
        ] {
            assert!(text.contains(words), "no `{words}` in {text}");
        }
    }
}
