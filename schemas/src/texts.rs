//! The texts of a JSON document, one after another: for who looks for one of them and keeps none.
//!
//! Invariants: nothing is copied out of the document but a text with escapes, which its reader keeps until the next;
//! names of members are no texts; what is no JSON, or nested too deep for it, has none.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Shows every text of a document, however deep; whether it is JSON as a whole.
pub fn each(document: &[u8], mut show: impl FnMut(&str)) -> bool {
    let mut reading = serde_json::Deserializer::from_slice(document);
    let read = Texts(&mut show).deserialize(&mut reading);
    read.is_ok() && reading.end().is_ok()
}

struct Texts<'a, F>(&'a mut F);

impl<'de, F: FnMut(&str)> DeserializeSeed<'de> for Texts<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str)> Visitor<'de> for Texts<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_element_seed(Texts(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while all.next_key::<IgnoredAny>()?.is_some() {
            all.next_value_seed(Texts(&mut *self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(document: &str) -> (bool, Vec<String>) {
        let mut all = Vec::new();
        let is_json = each(document.as_bytes(), |text| all.push(text.to_owned()));
        (is_json, all)
    }

    #[test]
    fn every_text_is_shown_and_no_name() {
        let document =
            r#"{"username":"app","password":"a\"b","n":[1,-2,0.5,null,true,{"deep":["c"]}]}"#;
        let wanted = ["app", "a\"b", "c"].map(str::to_owned).to_vec();
        assert_eq!(texts(document), (true, wanted));
        assert_eq!(texts("\"alone\""), (true, vec!["alone".to_owned()]));
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        for document in ["", "plain", "{\"a\":", "\"a\" \"b\"", "{\"a\":1}}"] {
            assert!(!texts(document).0, "{document}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(texts(&deep), (false, Vec::new()));
    }
}
