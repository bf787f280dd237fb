//! `events list|tail` and `audit list|tail`: as JSON an array or one object a line, as text one line each.

use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_schemas::api::Status;
use keywheel_schemas::mirror::TextForm as _;

use super::Desk;
use super::audit::gone;
use crate::args::{AuditArgs, EventsArgs, PageArgs};
use crate::client::Lines;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Screen, records};
use crate::span;

/// How many of the latest `list` shows unless asked otherwise.
pub(crate) const LIST_ROWS: u64 = 1000;
/// How many of the latest `tail` begins with.
pub(crate) const TAIL_ROWS: u64 = 10;
/// Output is written in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// A stream of the daemon.
pub(super) struct Source {
    path: &'static str,
    name: &'static str,
    /// One of them.
    one: &'static str,
    /// Shows the latest.
    latest: &'static str,
    words: fn(&[u8]) -> String,
    /// Asks for lines that have their number; a program gets them as they are.
    numbered: &'static str,
    /// The `--after` that a line says is behind it: an event's own number, the number of the record behind a record.
    number: fn(&[u8]) -> Option<u64>,
    total: fn(&Status) -> u64,
}

/// Events of the journal.
pub(super) const EVENTS: Source = Source {
    path: "/v1/events",
    name: "events",
    one: "event",
    latest: "keywheel events list --limit 50",
    words: records::event,
    // They have it already.
    numbered: "",
    number: records::number,
    total: |status| status.events,
};
/// Records of the audit.
pub(super) const AUDIT: Source = Source {
    path: "/v1/audit",
    name: "audit records",
    one: "audit record",
    latest: "keywheel audit list --limit 50",
    words: records::numbered_audit,
    numbered: "&numbered=true",
    number: records::behind_audit,
    total: |status| status.audit_records,
};

/// What is wanted of a stream.
#[derive(Debug, Default)]
pub(super) struct Wish {
    after: Option<u64>,
    limit: Option<u64>,
    /// Filters, as parts of a query.
    filters: Vec<String>,
    /// Whether a time or a subscription says where it begins.
    has_time: bool,
}

impl Wish {
    /// Without filters.
    pub(super) fn of_page(page: &PageArgs) -> Self {
        Self {
            after: page.after,
            limit: page.limit,
            ..Self::default()
        }
    }

    /// With those of events.
    pub(super) fn of_events(args: &EventsArgs) -> Result<Self, Failure> {
        let since = args.since.as_deref();
        let since = since.map(|text| when("--since", text)).transpose()?;
        let filters = [
            ("type", args.kind.as_deref()),
            ("secret", args.secret.as_deref()),
            ("subject", args.subject.as_deref()),
            ("since", since.as_deref()),
            ("subscription", args.subscription.as_deref()),
        ];
        let filters = filters.into_iter();
        let part = |(name, value): (&str, Option<&str>)| {
            value.map(|value| format!("&{name}={}", escape(value)))
        };
        Ok(Self {
            filters: filters.filter_map(part).collect(),
            has_time: since.is_some() || args.subscription.is_some(),
            ..Self::of_page(&args.page)
        })
    }

    /// With those of audit records.
    pub(super) fn of_audit(args: &AuditArgs) -> Result<Self, Failure> {
        let since = args.since.as_deref();
        let since = since.map(|text| when("--since", text)).transpose()?;
        let until = args.until.as_deref();
        let until = until.map(|text| when("--until", text)).transpose()?;
        let filters = [
            ("who", &args.who),
            ("verb", &args.verb),
            ("object", &args.object),
            ("container", &args.container),
            ("outcome", &args.outcome),
            ("policy", &args.policy),
            ("since", &since),
            ("until", &until),
            ("rotation", &args.rotation),
            ("revocation", &args.revocation),
            ("run", &args.run),
            ("trace", &args.trace),
        ];
        let part = |(name, value): (&str, &Option<String>)| {
            let value = value.as_deref()?;
            Some(format!("&{name}={}", escape(value)))
        };
        Ok(Self {
            filters: filters.into_iter().filter_map(part).collect(),
            ..Self::of_page(&args.page)
        })
    }

    /// Where to begin: as asked, at a time, or so that the latest `rows` come.
    async fn beginning(&self, desk: &Desk, source: &Source, rows: u64) -> Result<u64, Failure> {
        if let Some(after) = self.after {
            return Ok(after);
        }
        if self.has_time {
            return Ok(0);
        }
        let status: Status = desk.client.read("/v1/status").await?;
        Ok((source.total)(&status).saturating_sub(rows))
    }

    fn path(&self, (screen, source): (Screen, &Source), after: u64, rest: &str) -> String {
        let filters = self.filters.concat();
        let numbered = match screen.is_json() {
            true => "",
            false => source.numbered,
        };
        format!("{}?after={after}{rest}{numbered}{filters}", source.path)
    }
}

/// A time, or how long ago, as a time; it was given with this flag.
pub(super) fn when(flag: &str, words: &str) -> Result<String, Failure> {
    if let Ok(span) = span::parse(words) {
        let ago = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let now = SystemClock::new().now().micros();
        return Ok(Timestamp::from_micros(now.saturating_sub(ago)).text());
    }
    let time = Timestamp::parse_text(words).map_err(|_| {
        Failure::new(
            Exit::Usage,
            format!("{flag} is no time and no span"),
            "write a time like 2026-11-28T14:02:00Z, or how long ago like 30m or 24h",
        )
    })?;
    Ok(time.text())
}

/// Shows what there is; the number of the last one, when it has one.
pub(super) async fn list(
    desk: &Desk,
    source: &Source,
    wish: &Wish,
) -> Result<Option<u64>, Failure> {
    let is_filtered = !wish.filters.is_empty();
    let (after, limit) = match is_filtered {
        true => (wish.after.unwrap_or(0), wish.limit),
        false => {
            let rows = wish.limit.unwrap_or(LIST_ROWS);
            (wish.beginning(desk, source, rows).await?, Some(rows))
        }
    };
    let limit = limit.map(|limit| format!("&limit={limit}"));
    let path = wish.path((desk.screen, source), after, &limit.unwrap_or_default());
    let lines = desk.client.lines(&path).await?;
    let gone = gone(lines.begins()).filter(|_| after < lines.begins());
    let (shown, last) = if desk.screen.is_json() {
        array(desk.screen, source, lines).await?
    } else {
        text(desk.screen, source, lines).await?
    };
    if !is_filtered && wish.after.is_none() && wish.limit.is_none() && after > 0 {
        desk.screen.note(&format!(
            "these are the latest {shown} {}; {after} older ones: --after 0 --limit N begins with the first",
            source.name
        ));
    }
    if shown == 0 && !desk.screen.is_json() {
        desk.screen.note(&nothing(source, is_filtered, after));
    }
    if let Some(gone) = gone {
        desk.screen.note(&gone);
    }
    Ok(last)
}

/// What a person is told where nothing was shown: silence would look like a list that went wrong.
fn nothing(source: &Source, is_filtered: bool, after: u64) -> String {
    let Source { one, latest, .. } = source;
    match (is_filtered, after) {
        (true, _) => format!("no {one} fits; leave out a filter, or `{latest}` shows the latest"),
        (false, 0) => format!("there is no {one} yet"),
        (false, _) => format!("no {one} is behind --after {after}; `{latest}` shows the latest"),
    }
}

/// How many lines were shown, and the number of the last one.
type Shown = (u64, Option<u64>);

async fn text(screen: Screen, source: &Source, mut lines: Lines) -> Result<Shown, Failure> {
    let (mut piece, mut shown, mut last) = (String::new(), 0, None);
    while let Some(line) = lines.next().await? {
        last = (source.number)(&line).or(last);
        piece.push_str(&(source.words)(&line));
        piece.push('\n');
        shown += 1;
        if piece.len() >= PIECE_BYTES {
            screen.write(piece.as_bytes())?;
            piece.clear();
        }
    }
    screen.write(piece.as_bytes())?;
    Ok((shown, last))
}

async fn array(screen: Screen, source: &Source, mut lines: Lines) -> Result<Shown, Failure> {
    let (mut piece, mut shown, mut last) = (b"[".to_vec(), 0, None);
    while let Some(line) = lines.next().await? {
        last = (source.number)(&line).or(last);
        piece.extend_from_slice(if shown == 0 { b"\n" } else { b",\n" });
        piece.extend_from_slice(&line);
        shown += 1;
        if piece.len() >= PIECE_BYTES {
            screen.write(&piece)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(b"\n]\n");
    screen.write(&piece)?;
    Ok((shown, last))
}

pub(super) async fn tail(desk: &Desk, source: &Source, wish: &Wish) -> Result<(), Failure> {
    let rows = if wish.filters.is_empty() {
        TAIL_ROWS
    } else {
        0
    };
    let mut after = wish.beginning(desk, source, rows).await?;
    let limit = wish.limit.map(|limit| format!("&limit={limit}"));
    let rest = format!("&follow=true{}", limit.unwrap_or_default());
    let path = wish.path((desk.screen, source), after, &rest);
    let mut lines = desk.client.lines(&path).await?;
    let mut shown = 0;
    let broken = loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break None,
            Err(failure) => break Some(failure),
        };
        shown += 1;
        after = (source.number)(&line).unwrap_or(after + 1);
        if desk.screen.is_json() {
            desk.screen.write(&[line.as_slice(), b"\n"].concat())?;
        } else {
            desk.screen
                .write(format!("{}\n", (source.words)(&line)).as_bytes())?;
        }
    };
    if wish.limit.is_some_and(|limit| shown >= limit) {
        return Ok(());
    }
    let next = format!("when it is up again, go on with --after {after}");
    Err(match broken {
        Some(failure) if failure.exit != Exit::Unavailable => failure,
        Some(failure) => failure.with_next(next),
        None => Failure::new(
            Exit::Unavailable,
            "the stream ended: keywheel stopped",
            next,
        ),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Format};

    #[test]
    fn what_is_no_time_is_named_by_its_flag_and_not_repeated() {
        for wrong in ["hunter2", "9d", "2026-13-41T00:00:00Z"] {
            let failure = when("--until", wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            let text = failure.to_string();
            assert!(text.contains("--until") && !text.contains(wrong), "{text}");
            assert!(text.contains("24h"), "{text}");
        }
    }

    #[test]
    fn where_nothing_fits_a_person_is_told_what_shows_more() {
        for (source, one) in [(&AUDIT, "no audit record"), (&EVENTS, "no event")] {
            let latest = format!("`{}`", source.latest);
            for (is_filtered, after) in [(true, 0), (true, 7), (false, 7)] {
                let said = nothing(source, is_filtered, after);
                assert!(said.starts_with(one) && said.contains(&latest), "{said}");
                assert_eq!(said.contains("leave out a filter"), is_filtered, "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
            assert!(!nothing(source, false, 0).contains("--after"));
            assert!(Cli::try_parse_from(source.latest.split(' ')).is_ok());
        }
    }

    #[test]
    fn a_person_gets_numbers_and_a_program_the_records_as_they_are() {
        let wish = Wish {
            filters: vec!["&verb=inject".to_owned()],
            ..Wish::default()
        };
        let table = Screen::of_terminal(Format::Table);
        let json = Screen::of_terminal(Format::Json);
        let path = |screen, source| wish.path((screen, source), 7, "&limit=2");
        let asked = "/v1/audit?after=7&limit=2&numbered=true&verb=inject";
        assert_eq!(path(table, &AUDIT), asked);
        assert_eq!(path(json, &AUDIT), "/v1/audit?after=7&limit=2&verb=inject");
        assert_eq!(path(table, &EVENTS), path(json, &EVENTS));
    }
}
