//! A form as it is posted: `application/x-www-form-urlencoded`. What is in it may be a credential.

use std::fmt::Write as _;

use keywheel_seal::SecretBytes;

/// A form that grows.
#[derive(Default)]
pub(super) struct Form(Vec<(&'static str, String)>);

impl Form {
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.push((name, encoded(value)));
        self
    }

    /// In one piece: a grown buffer would leave a copy behind.
    pub(super) fn written(self) -> SecretBytes {
        let room = self
            .0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2);
        let mut text = Vec::with_capacity(room.sum());
        for (name, value) in self.0 {
            let value = SecretBytes::from(value.into_bytes());
            if !text.is_empty() {
                text.push(b'&');
            }
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            // EXPOSE: the form carries it to the provider.
            text.extend_from_slice(value.expose());
        }
        SecretBytes::from(text)
    }
}

/// Every byte that is not a letter, digit or one of `-._~` by its number.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            // A string takes whatever is written to it.
            let _written = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_end_where_another_begins() {
        let form = Form::default()
            .with("code", "a&b=c d+e%")
            .with("scope", "openid groups");
        // EXPOSE: tests look at its form.
        let text = String::from_utf8(form.written().expose().to_vec()).unwrap();
        assert_eq!(text, "code=a%26b%3Dc%20d%2Be%25&scope=openid%20groups");
    }
}
