//! What a panic says: where it was, and nothing of what it was about.
//!
//! Invariant (rule C5): the message is told to nobody, since it may quote what was worked on. What a panic ends is not
//! decided here.

use std::io::Write as _;
use std::panic::{Location, set_hook};

/// From now on a panic anywhere in this program says on stderr where it was, and no more.
pub fn withhold_messages() {
    set_hook(Box::new(|panic| {
        // When stderr is gone, nobody is there to tell.
        let _ = std::io::stderr().write_all(line(panic.location()).as_bytes());
    }));
}

fn line(place: Option<&Location<'_>>) -> String {
    let place = place.map_or_else(
        || "a place that is not known".to_owned(),
        Location::to_string,
    );
    format!(
        "error: a fault in keywheel at {place}; what it was about is withheld, since that may be a value\n  next: report this line\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_PANICS";
    const NAME: &str = "panics::tests::a_panic_tells_where_it_was_and_not_what_it_was_about";
    const CANARY: &str = "canary-in-a-panic-é";

    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn told() -> Option<String> {
        std::env::var(CHILD).ok()
    }

    /// This test once more, as a program of its own whose hook counts for nobody else.
    fn child(how: &str) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--test-threads=1", "--nocapture"])
            .env(CHILD, how)
            .output()
            .unwrap()
    }

    #[test]
    fn a_panic_tells_where_it_was_and_not_what_it_was_about() {
        if let Some(how) = told() {
            if how == "withheld" {
                withhold_messages();
            }
            let fault = std::thread::spawn(|| "x".parse::<u32>().expect(CANARY)).join();
            assert!(fault.is_err());
            return;
        }
        let said = |how| {
            let output = child(how);
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        assert!(said("as it is").contains(CANARY), "nothing is withheld");
        let withheld = said("withheld");
        assert!(!withheld.contains("canary-in"), "{withheld}");
        assert!(withheld.contains("panics.rs:"), "{withheld}");
    }
}
