//! Finding a time zone by its IANA name, and the nearest name when there is none.

use jiff::tz::{TimeZone, db};

/// Names further away than this are not suggested.
const FAR: usize = 4;

/// A zone by name.
pub(super) fn find(name: &str) -> Result<TimeZone, String> {
    if let Ok(zone) = db().get(name) {
        return Ok(zone);
    }
    let shown: String = name.chars().take(64).collect();
    let wanted = name.to_ascii_lowercase();
    let near = db()
        .available()
        .map(|known| {
            let known = known.as_str().to_owned();
            (distance(&wanted, &known.to_ascii_lowercase()), known)
        })
        .min();
    Err(match near {
        Some((distance, near)) if distance <= FAR => {
            format!("there is no time zone `{shown}`; did you mean `{near}`?")
        }
        _ => format!(
            "there is no time zone `{shown}`; use an IANA name such as `Europe/Berlin` or `UTC`"
        ),
    })
}

/// Edit distance to the whole name, or to the city alone: people often leave the continent out.
fn distance(wanted: &str, known: &str) -> usize {
    let whole = strsim::damerau_levenshtein(wanted, known);
    let city = known.rsplit('/').next().unwrap_or(known);
    whole.min(1 + strsim::damerau_levenshtein(wanted, city))
}
