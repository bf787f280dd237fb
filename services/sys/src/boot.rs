//! Which boot this is, and how long it lasts: what a lease on disk is measured with beside the wall clock.

use std::time::Duration;

use crate::Error;

/// The kernel's id of this boot.
///
/// # Errors
/// When procfs is not there.
pub fn id() -> Result<String, Error> {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_owned())
        .map_err(|source| Error::Os {
            step: "read the boot's id",
            source,
        })
}

/// Time since boot, also while the machine slept.
///
/// # Errors
/// When procfs is not there or does not have the documented shape.
pub fn uptime() -> Result<Duration, Error> {
    let step = "read the time since boot";
    let text =
        std::fs::read_to_string("/proc/uptime").map_err(|source| Error::Os { step, source })?;
    parse(&text).ok_or_else(|| Error::Os {
        step,
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Seconds with two digits after the point, then another number.
fn parse(text: &str) -> Option<Duration> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.get(..2)?.parse().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(10 * hundredths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_has_an_id_and_lasts() {
        assert_eq!(id().unwrap(), id().unwrap());
        assert_eq!(id().unwrap().len(), 36);
        assert!(uptime().unwrap() > Duration::ZERO);
    }

    #[test]
    fn the_time_since_boot_is_read_to_the_hundredth() {
        assert_eq!(
            parse("350735.47 234388.90\n"),
            Some(Duration::from_millis(350_735_470))
        );
        for bad in ["", "350735", "x.47", "1.x2"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
