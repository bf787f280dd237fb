//! Instants and spans as the page shows them.

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

/// An instant to the millisecond; the page says that it is UTC.
pub(super) fn instant(text: &str) -> String {
    match text.get(..23) {
        Some(head) => head.replace('T', " "),
        None => text.to_owned(),
    }
}

/// The same, on one line wherever it stands.
pub(super) fn moment(text: &str) -> String {
    instant(text).replace(' ', "\u{a0}")
}

/// A span for people: `3.2 ms`, `12.345 s`, `1 h 2 min 3 s`.
pub(super) fn passed(micros: u64) -> String {
    if micros < SECOND {
        return format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
    }
    let (seconds, rest) = (micros / SECOND, micros % SECOND);
    if seconds < 60 {
        return format!("{seconds}.{:03} s", rest / 1000);
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min {seconds} s"),
    }
}

/// How long it took most, nearly all, and the last one; `None` for nobody.
pub(super) fn percentiles(micros: impl Iterator<Item = u64>) -> Option<String> {
    let mut all: Vec<u64> = micros.collect();
    all.sort_unstable();
    let longest = all.last()?;
    if let [one] = all.as_slice() {
        return Some(format!(
            "1 container is through with it, within {}.",
            passed(*one)
        ));
    }
    let place = |percent: usize| {
        // The nearest rank: so many of a hundred took no longer.
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).copied().unwrap_or(*longest)
    };
    Some(format!(
        "{} containers are through with it: half of them within {}, 99 of 100 within {}, the last one within {}.",
        all.len(),
        passed(place(50)),
        passed(place(99)),
        passed(*longest)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_exact_enough() {
        for (micros, text) in [
            (0, "0.0 ms"),
            (3_250, "3.2 ms"),
            (999_999, "999.9 ms"),
            (12_345_678, "12.345 s"),
            (61 * SECOND, "1 min 1 s"),
            (3_723 * SECOND, "1 h 2 min 3 s"),
        ] {
            assert_eq!(passed(micros), text);
        }
        assert_eq!(
            instant("2026-11-21T10:00:00.123456Z"),
            "2026-11-21 10:00:00.123"
        );
        assert_eq!(instant("soon"), "soon");
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(percentiles(std::iter::empty()), None);
        let line = percentiles((1..=100).map(|n| n * 1000)).unwrap();
        for part in ["100 containers", "50.0 ms", "99.0 ms", "100.0 ms"] {
            assert!(line.contains(part), "{line}");
        }
        let one = percentiles(std::iter::once(7000)).unwrap();
        assert_eq!(one, "1 container is through with it, within 7.0 ms.");
    }
}
