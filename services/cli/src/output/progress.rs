//! How a wait goes on, on stderr: for terminals a view that changes in place, a line for each consumer;
//! else plain lines, each said once.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;
use keywheel_schemas::api::{ConsumerView, RevocationView, RotationView};

use super::{Screen, tame, views};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);
/// How many of those that are missing are named in a sentence.
const MAX_NAMED: usize = 3;
/// Most consumers with a line of their own.
const MAX_ROWS: usize = 16;

/// How something stands: in a line, and in one for each that takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// All of it.
    pub(crate) headline: String,
    /// Who, and how far; whoever is missing first.
    pub(crate) rows: Vec<(String, String)>,
}

impl Standing {
    /// The whole view.
    fn page(&self) -> String {
        let mut text = self.headline.clone();
        let width = self.rows.iter().take(MAX_ROWS);
        let width = width.map(|(who, _)| who.chars().count()).max().unwrap_or(0);
        for (who, how) in self.rows.iter().take(MAX_ROWS) {
            text.push_str(&format!("\n  {who:<width$}  {how}"));
        }
        let more = self.rows.len().saturating_sub(MAX_ROWS);
        if more > 0 {
            text.push_str(&format!("\n  and {more} more"));
        }
        text
    }
}

/// What was said of a wait without a terminal.
#[derive(Debug, Default)]
struct Said {
    headline: String,
    rows: BTreeMap<String, String>,
}

impl Said {
    /// Lines for what is new.
    fn news(&mut self, standing: Standing) -> Vec<String> {
        let mut lines = Vec::new();
        if self.headline != standing.headline {
            lines.push(standing.headline.clone());
            self.headline = standing.headline;
        }
        for (who, how) in standing.rows {
            if self.rows.get(&who) != Some(&how) {
                lines.push(format!("  {who}: {how}"));
                self.rows.insert(who, how);
            }
        }
        lines
    }
}

/// Where it is shown.
#[derive(Debug)]
pub(crate) enum Progress {
    /// In place, on a terminal.
    Live(ProgressBar),
    /// As lines.
    Plain(PlainLines),
}

/// Lines, each said once.
#[derive(Debug)]
pub(crate) struct PlainLines {
    screen: Screen,
    said: Said,
}

impl Progress {
    /// Begins.
    pub(crate) fn begin(screen: Screen) -> Self {
        if screen.live {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            return Self::Live(bar);
        }
        let said = Said::default();
        Self::Plain(PlainLines { screen, said })
    }

    /// Says how it stands.
    pub(crate) fn say(&mut self, standing: Standing) {
        match self {
            Self::Live(bar) => bar.set_message(standing.page()),
            Self::Plain(lines) => {
                for line in lines.said.news(standing) {
                    lines.screen.note(&line);
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// How a rotation stands, consumer by consumer.
pub(crate) fn standing(rotation: &RotationView) -> Standing {
    let mut consumers: Vec<&ConsumerView> = rotation.consumers.iter().collect();
    consumers.sort_by_key(|consumer| !views::is_behind(consumer, rotation.version));
    Standing {
        headline: headline(rotation),
        rows: consumers.into_iter().map(row).collect(),
    }
}

fn row(consumer: &ConsumerView) -> (String, String) {
    let who = format!(
        "{} on {}, {}",
        tame(&consumer.name),
        tame(&consumer.host),
        tame(&consumer.binding)
    );
    let mut how = format!(
        "version {} of {}, {}",
        consumer.version,
        consumer.assigned,
        tame(&consumer.state)
    );
    for more in [&consumer.restart, &consumer.reason].into_iter().flatten() {
        how.push_str(&format!(", {}", tame(more)));
    }
    (who, how)
}

fn headline(rotation: &RotationView) -> String {
    format!(
        "{} version {}: {}, {} consumers acknowledged",
        tame(&rotation.secret),
        rotation.version,
        tame(&rotation.state),
        views::acknowledged(rotation)
    )
}

/// How a rotation stands, in a sentence.
pub(crate) fn rotation(rotation: &RotationView) -> String {
    let missing = rotation
        .consumers
        .iter()
        .filter(|c| views::is_behind(c, rotation.version));
    let named = |consumer: &ConsumerView| match &consumer.restart {
        Some(restart) => format!("{} ({})", tame(&consumer.name), tame(restart)),
        None => tame(&consumer.name),
    };
    let names: Vec<String> = missing.map(named).collect();
    let mut words = headline(rotation);
    if !names.is_empty() {
        let more = names.len().saturating_sub(MAX_NAMED);
        let named = names
            .into_iter()
            .take(MAX_NAMED)
            .collect::<Vec<_>>()
            .join(", ");
        words.push_str(&format!("; missing: {named}"));
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
    }
    words
}

/// How a revocation stands.
pub(crate) fn revocation(revocation: &RevocationView) -> String {
    if revocation.state == "awaiting_replacement" {
        return format!("{}: waits for its replacement", revocation.secret);
    }
    match revocation.waiting_hosts.as_slice() {
        [] => format!(
            "{}: gone from all containers; the store: {}{}",
            revocation.secret,
            revocation.backend,
            match revocation.states.proof.as_str() {
                "awaited" => "; a login with it is not refused yet",
                "still_accepted" => "; a login with it is still let in",
                _ => "",
            }
        ),
        hosts => format!(
            "{}: may still be held by {}",
            revocation.secret,
            hosts.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headline: &str, rows: &[(&str, &str)]) -> Standing {
        let owned = |(who, how): &(&str, &str)| ((*who).to_owned(), (*how).to_owned());
        Standing {
            headline: headline.to_owned(),
            rows: rows.iter().map(owned).collect(),
        }
    }

    #[test]
    fn each_line_is_said_once_until_it_changes() {
        let mut said = Said::default();
        let first = of("0 of 2", &[("a", "waiting"), ("b", "waiting")]);
        let lines = said.news(first.clone());
        assert_eq!(lines, ["0 of 2", "  a: waiting", "  b: waiting"]);
        assert!(said.news(first).is_empty());
        let next = of("1 of 2", &[("b", "waiting"), ("a", "reloaded")]);
        assert_eq!(said.news(next), ["1 of 2", "  a: reloaded"]);
    }

    #[test]
    fn the_view_has_a_line_for_each_up_to_a_bound() {
        let page = of("0 of 2", &[("a", "waiting"), ("long", "reloaded")]).page();
        assert_eq!(page, "0 of 2\n  a     waiting\n  long  reloaded");
        let many = vec![("a", "waiting"); MAX_ROWS];
        assert!(!of("x", &many).page().contains("more"));
        let many = vec![("a", "waiting"); MAX_ROWS + 1];
        let page = of("x", &many).page();
        assert_eq!(page.lines().count(), MAX_ROWS + 2);
        assert!(page.ends_with("and 1 more"), "{page}");
    }
}
