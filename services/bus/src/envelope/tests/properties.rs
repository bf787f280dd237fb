//! Whatever arrives, reading comes back; and nothing that was not signed is taken.

use proptest::prelude::{any, prop, proptest};

use super::*;

/// A value that JSON text of any shape may hold.
fn text() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::string::string_regex("[\\[\\]{}\",:a-z0-9 .eE+-]{0,200}").unwrap()
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(document: Vec<u8>, signature in any::<[u8; 32]>(), text in text()) {
        let sender = identity(Role::Gateway);
        let trust = trust(&sender);
        let to = Receiver::Topic(&Topic::Audit);
        let mut whole = [0; 64];
        whole[..32].copy_from_slice(&signature);
        for document in [document, text.into_bytes()] {
            let frame = Frame { document, signature: whole };
            assert!(decode(&trust, to, NOW, &frame).is_err());
        }
    }

    #[test]
    fn a_mutated_message_is_never_taken(
        row in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let rows = request_rows();
        let (role, address, body) = row.get(&rows);
        let sender = identity(*role);
        let to = Receiver::Request(*address);
        let frame = write(&sender, to, body);
        let mut changed = frame.clone();
        for (at, byte) in changes {
            let at = at.index(changed.document.len());
            changed.document[at] = byte;
        }
        let taken = decode(&trust(&sender), to, NOW, &changed).is_ok();
        assert_eq!(taken, changed == frame);
    }

    #[test]
    fn no_signed_body_makes_the_reader_panic(text in text(), kind in any::<prop::sample::Index>()) {
        // A trusted but broken sender: the body is the first thing it may choose freely.
        let kind = *kind.get(Kind::ALL);
        if let Ok(data) = RawValue::from_string(text) {
            let read = body::from_json(kind, (Role::Gateway, None), &data);
            // A body is an object; a list of its members in their order is read like one, `[]` as one without any.
            assert!(read.is_err() || data.get().contains(['{', '[']), "{kind:?} {data}");
        }
    }

    #[test]
    fn a_signed_body_with_one_member_changed_is_read_or_refused(
        row in any::<prop::sample::Index>(),
        member in any::<prop::sample::Index>(),
        text in text(),
    ) {
        let rows = request_rows();
        let (_, _, body) = row.get(&rows);
        let (kind, data) = body::to_json(body).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(data.get()).unwrap();
        let members = value.as_object_mut().unwrap();
        let keys: Vec<String> = members.keys().cloned().collect();
        if keys.is_empty() {
            members.insert("unknown".to_owned(), text.into());
        } else {
            members.insert(keys[member.index(keys.len())].clone(), text.into());
        }
        let data = serde_json::value::to_raw_value(&value).unwrap();
        // What asks for credentials, or is sealed, is bytes to the bus; whoever opens it refuses it.
        let is_bytes = matches!(kind, Kind::Renew | Kind::Stash | Kind::Unseal | Kind::Compare);
        assert!(is_bytes || body::from_json(kind, (Role::Gateway, None), &data).is_err(), "{kind:?} {data}");
    }
}
