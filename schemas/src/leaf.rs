//! Leaves with a form of their own: instants, spans, permission bits, keys.
//!
//! Instants are RFC 3339 in UTC with six digits of fraction; spans are ISO 8601 in seconds
//! (`PT43200S`, `PT0.25S`); permission bits are an octal string; keys are standard base64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::store::{MAX_REMOTE_VERSION_BYTES, RemoteVersion};
use keywheel_core::time::Timestamp;
use schemars::{Schema, json_schema};

use crate::mirror::TextForm;

/// First instant RFC 3339 can say, in microseconds: 0001-01-01.
const FIRST_INSTANT: i64 = -62_135_596_800_000_000;
/// Last instant that is written, in microseconds: 9999-12-30T21:59:59.999999.
const LAST_INSTANT: i64 = 253_402_207_199_999_999;

impl TextForm for Timestamp {
    const NAME: &'static str = "Instant";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
    /// Instants outside the years 1 to 9999 are written as the nearest one inside.
    fn text(&self) -> String {
        let micros = self.micros().clamp(FIRST_INSTANT, LAST_INSTANT);
        jiff::Timestamp::from_microsecond(micros)
            .map_or_else(|_| String::new(), |t| format!("{t:.6}"))
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<jiff::Timestamp>();
        parsed
            .map(|t| Self::from_micros(t.as_microsecond()))
            .map_err(|error| error.to_string())
    }
}

impl TextForm for Duration {
    const NAME: &'static str = "Span";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^PT[0-9]+(\\.[0-9]{1,9})?S$" })
    }
    fn text(&self) -> String {
        let nanos = self.subsec_nanos();
        if nanos == 0 {
            return format!("PT{}S", self.as_secs());
        }
        let fraction = format!("{nanos:09}");
        format!("PT{}.{}S", self.as_secs(), fraction.trim_end_matches('0'))
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let bad = || format!("`{}` is not a span like PT30S or PT0.25S", shorten(text));
        let number = text
            .strip_prefix("PT")
            .and_then(|rest| rest.strip_suffix('S'))
            .ok_or_else(bad)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(bad());
        }
        let seconds = whole.parse().map_err(|_| bad())?;
        let nanos = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        Ok(Self::new(seconds, nanos))
    }
}

/// Permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Where a backend draws a line between its sessions; as text, for it may use all bits.
impl TextForm for i64 {
    const NAME: &'static str = "Mark";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^-?[0-9]{1,19}$" })
    }
    fn text(&self) -> String {
        self.to_string()
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let number = text.parse::<Self>().ok();
        number
            .filter(|number| number.to_string() == text)
            .ok_or_else(|| format!("`{}` is not a whole number of 64 bits", shorten(text)))
    }
}

impl TextForm for Mode {
    const NAME: &'static str = "Mode";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-7]{3,11}$" })
    }
    fn text(&self) -> String {
        format!("{:04o}", self.0)
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let bits = if digits {
            u32::from_str_radix(text, 8).ok()
        } else {
            None
        };
        bits.map(Self)
            .ok_or_else(|| format!("`{}` are not permission bits like 0400", shorten(text)))
    }
}

impl TextForm for [u8; 32] {
    const NAME: &'static str = "Key";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64", "minLength": 44, "maxLength": 44 })
    }
    fn text(&self) -> String {
        STANDARD.encode(self)
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).ok();
        bytes
            .and_then(|bytes| Self::try_from(bytes).ok())
            .ok_or_else(|| "is not base64 of 32 bytes".to_owned())
    }
}

impl TextForm for RemoteVersion {
    const NAME: &'static str = "RemoteVersion";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_REMOTE_VERSION_BYTES })
    }
    fn text(&self) -> String {
        self.0.clone()
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let fits = (1..=MAX_REMOTE_VERSION_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a store's version has 1 to {MAX_REMOTE_VERSION_BYTES} bytes without control characters"
        ))
    }
}

/// At most `MAX` octets as standard base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Octets<const MAX: usize>(pub Vec<u8>);

impl<const MAX: usize> TextForm for Octets<MAX> {
    const NAME: &'static str = "Octets";
    fn schema() -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64", "maxLength": MAX.div_ceil(3) * 4 })
    }
    fn text(&self) -> String {
        STANDARD.encode(&self.0)
    }
    fn parse_text(text: &str) -> Result<Self, String> {
        let octets = STANDARD
            .decode(text)
            .map_err(|_| "is not base64".to_owned())?;
        if octets.len() > MAX {
            return Err(format!(
                "has {} bytes; at most {MAX} are allowed",
                octets.len()
            ));
        }
        Ok(Self(octets))
    }
}

/// Enough of a text to recognise it.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_a_store_has_a_limit() {
        let of = |bytes: usize| RemoteVersion::parse_text(&"7".repeat(bytes));
        assert!(of(1).is_ok() && of(MAX_REMOTE_VERSION_BYTES).is_ok());
        assert!(of(0).is_err() && of(MAX_REMOTE_VERSION_BYTES + 1).is_err());
        assert!(RemoteVersion::parse_text("1\n").is_err());
    }

    #[test]
    fn spans_are_exact_to_the_nanosecond() {
        for (span, text) in [
            (Duration::from_secs(43_200), "PT43200S"),
            (Duration::from_millis(250), "PT0.25S"),
            (Duration::new(1, 1), "PT1.000000001S"),
            (Duration::MAX, "PT18446744073709551615.999999999S"),
        ] {
            assert_eq!(span.text(), text);
            assert_eq!(Duration::parse_text(text), Ok(span));
        }
        for bad in [
            "",
            "PT",
            "PTS",
            "PT1",
            "1S",
            "PT-1S",
            "PT1.S",
            "PT1.0000000000S",
            "PT1h",
        ] {
            assert!(Duration::parse_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_have_six_digits_and_absurd_ones_are_written_as_the_nearest() {
        let micros = 1_795_300_994_000_001;
        let text = Timestamp::from_micros(micros).text();
        assert!(text.ends_with(".000001Z"), "{text}");
        assert_eq!(
            Timestamp::parse_text(&text),
            Ok(Timestamp::from_micros(micros))
        );
        assert!(
            Timestamp::from_micros(0)
                .text()
                .ends_with("00:00:00.000000Z")
        );
        for edge in [FIRST_INSTANT, LAST_INSTANT] {
            let text = Timestamp::from_micros(edge).text();
            assert_eq!(
                Timestamp::parse_text(&text),
                Ok(Timestamp::from_micros(edge))
            );
        }
        assert_eq!(
            Timestamp::from_micros(i64::MAX).text(),
            Timestamp::from_micros(LAST_INSTANT).text()
        );
    }

    #[test]
    fn permission_bits_are_octal() {
        assert_eq!(Mode(0o400).text(), "0400");
        assert_eq!(Mode::parse_text("0400"), Ok(Mode(0o400)));
        assert_eq!(Mode::parse_text(&Mode(u32::MAX).text()), Ok(Mode(u32::MAX)));
        for bad in ["", "0x1", "8", "-1", "99999999999999"] {
            assert!(Mode::parse_text(bad).is_err(), "{bad}");
        }
    }
}
