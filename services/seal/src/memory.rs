//! How this process keeps keys and values in its memory (H2): what of it is locked, and what a person can do where the
//! kernel or a limit does not allow that.
//!
//! The memory itself is the sys crate's. It decides nothing: whoever starts a process asks [`prepare`] first, and
//! refuses to go on, or says so.

pub use keywheel_sys::locked::{ADVISED_LIMIT_BYTES, State, prepare, state};

/// What a person can do about [`plain`].
pub const NEXT_STEP: &str = "allow the process to lock 64 MiB: `LimitMEMLOCK=64M` in its unit, \
     `ulimits: { memlock: 67108864 }` in Compose (of ours: MEMLOCK_BYTES), `ulimit -l 65536` in a shell; \
     then start it again";

/// What was not locked, in words; none where all of it is.
#[must_use]
pub fn plain(state: &State) -> Option<String> {
    let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
    if state.is_locked() {
        return None;
    }
    let plain = kib(u64::try_from(state.plain_bytes).unwrap_or(u64::MAX));
    let limit = match state.limit {
        Some(limit) => format!("it may lock {}", kib(limit)),
        None => "its limit is none".to_owned(),
    };
    let refusal = match &state.refusal {
        Some(refusal) => format!(" ({refusal})"),
        None => String::new(),
    };
    Some(format!(
        "keys and values were in memory that may be swapped, up to {plain}: {limit}{refusal}"
    ))
}

/// How keys and values are kept, in words.
#[must_use]
pub fn kept(state: &State) -> String {
    let is_secret = state.secret_bytes > 0 && state.locked_bytes == 0;
    match (plain(state), is_secret) {
        (Some(plain), _) => plain,
        (None, true) => {
            "keys and values lie in memory that is never swapped and that only their process reads"
                .to_owned()
        }
        (None, false) => "keys and values lie in memory that is never swapped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_locked_is_said_with_its_limit_and_reason() {
        let locked = State {
            locked_bytes: 4096,
            limit: Some(8 << 20),
            ..State::default()
        };
        assert_eq!(plain(&locked), None);
        assert!(kept(&locked).ends_with("never swapped"));
        let both = State {
            secret_bytes: 4096,
            ..locked.clone()
        };
        assert!(kept(&both).ends_with("never swapped"), "not all of it is");
        let secret = State {
            locked_bytes: 0,
            ..both
        };
        assert!(kept(&secret).contains("only their process reads"));
        let plainly = State {
            plain_bytes: 5000,
            refusal: Some("out of memory".to_owned()),
            ..locked
        };
        let said = plain(&plainly).unwrap();
        for part in ["5 KiB", "it may lock 8192 KiB", "(out of memory)"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(kept(&plainly), said);
        let unlimited = State {
            limit: None,
            refusal: None,
            ..plainly
        };
        assert!(plain(&unlimited).unwrap().ends_with("its limit is none"));
    }

    #[test]
    fn the_next_step_names_the_limit_that_the_units_have() {
        let bytes = ADVISED_LIMIT_BYTES;
        for limit in [
            format!("LimitMEMLOCK={}M", bytes >> 20),
            format!("memlock: {bytes}"),
            format!("ulimit -l {}", bytes >> 10),
            format!("{} MiB", bytes >> 20),
        ] {
            assert!(NEXT_STEP.contains(&limit), "{limit}");
        }
    }
}
