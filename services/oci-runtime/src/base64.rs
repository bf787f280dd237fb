//! Standard base64 with padding, decoded strictly into a buffer that is zeroed on drop.

use keywheel_sys::scrub::Scrubbed;

fn digit(byte: u8) -> Option<u32> {
    Some(match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// The decoded bytes; `None` for anything but canonical padded base64.
pub(crate) fn decode(text: &str) -> Option<Scrubbed> {
    let bytes = text.as_bytes();
    let mut sink = Scrubbed::with_capacity(bytes.len() / 4 * 3);
    let mut groups = bytes.chunks_exact(4).peekable();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    while let Some(group) = groups.next() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && groups.peek().is_some()) {
            return None;
        }
        let mut bits = 0;
        for byte in group.iter().take(4 - padding) {
            bits = bits << 6 | digit(*byte)?;
        }
        bits <<= 6 * padding;
        let [_, whole @ ..] = bits.to_be_bytes();
        let (kept, rest) = whole.split_at_checked(3 - padding)?;
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        sink.expose_mut().extend_from_slice(kept);
    }
    Some(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).unwrap().expose(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("+/8A").unwrap().expose(), [0xfb, 0xff, 0]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Z g=", "-_8A", "Zg==\n",
        ] {
            assert!(decode(text).is_none(), "{text}");
        }
    }
}
