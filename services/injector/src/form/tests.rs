//! What templates make of values, and what they refuse.

use super::*;

fn fill(template: &str, value: &[u8]) -> Result<String, String> {
    let form = Form::new(template, "prod/db");
    let value = Arc::new(SecretBytes::from(value.to_vec()));
    let text = |whole: Arc<SecretBytes>| String::from_utf8_lossy(whole.expose()).into_owned();
    formed(Some(&form), &value, &FurtherValues::new()).map(|formed| text(file(formed)))
}

fn file(formed: Formed) -> Arc<SecretBytes> {
    match formed {
        Formed::File(whole) => whole,
        Formed::Set(files) => panic!("{} files", files.len()),
    }
}

/// Files by name and template, filled in.
fn fill_set(files: &[(&str, &str)], value: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let set_file = |(name, template): &(&str, &str)| SetFile {
        name: FileName::parse(name).unwrap(),
        template: (*template).to_owned(),
    };
    let form = Arc::new(Form {
        shape: Shape::Set(files.iter().map(set_file).collect()),
        secret: SecretName::parse("prod/db").unwrap(),
        further: Vec::new(),
        previous: Vec::new(),
    });
    let value = Arc::new(SecretBytes::from(value.to_vec()));
    match formed(Some(&form), &value, &FurtherValues::new())? {
        Formed::File(_) => panic!("one file"),
        Formed::Set(files) => Ok(files
            .iter()
            .map(|(name, bytes)| (name.to_string(), bytes.expose().to_vec()))
            .collect()),
    }
}

#[test]
fn a_set_has_each_of_its_files_from_one_value_or_none_of_them() {
    let (user, password) = (
        "{{ secret(\"prod/db\").user }}",
        "{{ secret(\"prod/db\").password }}",
    );
    let value = br#"{"user":"app","password":"canary-5e2"}"#;
    let filled = fill_set(&[("password", password), ("user", user)], value).unwrap();
    let expected = [("password", "canary-5e2"), ("user", "app")];
    assert_eq!(
        filled,
        expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    );
    let other = "\n{{ secret(\"prod/db\").token }}";
    let fault = fill_set(&[("password", password), ("token", other)], value).unwrap_err();
    assert!(
        fault.starts_with("template_failed: file `token`: line 2: ")
            && fault.contains("`files.templates`")
            && !fault.contains("canary"),
        "{fault}"
    );
}

#[test]
fn a_set_is_bounded_as_a_whole() {
    let whole = "{{ secret(\"prod/db\") }}";
    let half = vec![b'a'; MAX_VALUE_BYTES / 2];
    assert!(fill_set(&[("a", whole), ("b", whole)], &half).is_ok());
    let more = format!("x{whole}");
    let fault = fill_set(&[("a", whole), ("b", &more)], &half).unwrap_err();
    assert!(fault.contains("longer than 1048576 bytes"), "{fault}");
    // Fields are counted over all files, too.
    let value = format!(r#"{{"a":"x","b":"{}"}}"#, "y".repeat(MAX_VALUE_BYTES - 20));
    let places = "{{ secret(\"prod/db\").a }}".repeat(MAX_FIELD_BYTES / value.len());
    assert!(fill_set(&[("a", &places)], value.as_bytes()).is_ok());
    let one = "{{ secret(\"prod/db\").a }}";
    let fault = fill_set(&[("a", &places), ("b", one)], value.as_bytes()).unwrap_err();
    assert!(fault.contains("more than 16777216 bytes"), "{fault}");
}

#[test]
fn as_many_files_are_allowed_as_a_file_system_takes_in_one_set() {
    let allowed = keywheel_schemas::template::MAX_FILES;
    assert_eq!(allowed, keywheel_sys::secretfs::MAX_SET_FILES);
}

#[test]
fn a_value_its_fields_and_what_a_url_may_hold_are_filled_in() {
    let url = "postgres://app:{{ secret(\"prod/db\") }}@db/app";
    assert_eq!(fill(url, b"pw").unwrap(), "postgres://app:pw@db/app");
    let object = r#"{"user":"a\u00fc\"","password":"p/w@ 1","port":5432,"tls":true,"in":{"a b":"x"},"low":-1}"#;
    for (place, expected) in [
        (".user", "aü\""),
        (".password", "p/w@ 1"),
        (".password | urlencode", "p%2Fw%40%201"),
        (".user | urlencode", "a%C3%BC%22"),
        (".port", "5432"),
        (".low", "-1"),
        (".tls", "true"),
        (".in[\"a b\"]", "x"),
        ("", object),
    ] {
        let template = format!("<{{{{ secret(\"prod/db\"){place} }}}}>");
        let filled = fill(&template, object.as_bytes()).unwrap();
        assert_eq!(filled, format!("<{expected}>"));
    }
}

#[test]
fn a_value_without_a_template_is_not_copied() {
    let value = Arc::new(SecretBytes::from(vec![0, 255]));
    let made = file(formed(None, &value, &FurtherValues::new()).unwrap());
    assert!(Arc::ptr_eq(&made, &value));
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let form = Form::new("a{{ secret(\"prod/db\") }}", "prod/db");
    let value = Arc::new(SecretBytes::from(vec![0, 255]));
    let filled = formed(Some(&form), &value, &FurtherValues::new()).unwrap();
    assert_eq!(file(filled).expose(), [b'a', 0, 255]);
}

#[test]
fn several_secrets_stand_in_one_file_each_with_its_own_fields() {
    let api = SecretId::from_bytes([9; 16]);
    let template = "{{ secret(\"prod/db\").user }}:{{ secret(\"prod/api\").key }}";
    let of = |version| {
        Arc::new(Form {
            shape: Shape::File(template.to_owned()),
            secret: SecretName::parse("prod/db").unwrap(),
            further: vec![Further {
                secret: api,
                name: SecretName::parse("prod/api").unwrap(),
                version,
            }],
            previous: Vec::new(),
        })
    };
    assert_ne!(of(1), of(2), "another version of any is another form");
    assert_eq!(of(2).versions(), BTreeMap::from([(api, 2)]));
    let bytes = |text: &str| Arc::new(SecretBytes::from(text.as_bytes().to_vec()));
    let own = bytes("{\"user\":\"app\"}");
    let further = FurtherValues::from([((api, 1), bytes("{\"key\":\"k-1\"}"))]);
    let filled = file(formed(Some(&of(1)), &own, &further).unwrap());
    assert_eq!(filled.expose(), b"app:k-1");
    let fault = formed(Some(&of(1)), &own, &FurtherValues::new()).unwrap_err();
    assert!(
        fault.contains("`prod/api` is another secret"),
        "without its value: {fault}"
    );
    let long = "y".repeat(MAX_VALUE_BYTES - 20);
    let further = FurtherValues::from([((api, 1), bytes(&format!("{{\"key\":\"{long}\"}}")))]);
    let places = MAX_FIELD_BYTES / MAX_VALUE_BYTES + 1;
    let many = "{{ secret(\"prod/api\").key }}".repeat(places);
    let form = Form {
        shape: Shape::File(many),
        ..(*of(1)).clone()
    };
    let fault = formed(Some(&Arc::new(form)), &own, &further).unwrap_err();
    assert!(fault.contains("more than 16777216 bytes"), "{fault}");
}

/// A form of one secret and the version before it, if there is one.
fn with_previous(template: &str, version: Option<u64>) -> Arc<Form> {
    let previous = version.map(|version| Further {
        secret: SecretId::from_bytes([2; 16]),
        name: SecretName::parse("prod/db").unwrap(),
        version,
    });
    Arc::new(Form {
        previous: previous.into_iter().collect(),
        ..(*Form::new(template, "prod/db")).clone()
    })
}

#[test]
fn the_version_before_stands_beside_the_current_one_and_nothing_while_there_is_none() {
    let template = "{{ secret(\"prod/db\") }},{{ secret(\"prod/db\", version=\"previous\") }};";
    let bytes = |text: &str| Arc::new(SecretBytes::from(text.as_bytes().to_vec()));
    let key = (SecretId::from_bytes([2; 16]), 3);
    let values = FurtherValues::from([(key, bytes("old"))]);
    let filled = |form: &Arc<Form>, values| {
        let formed = formed(Some(form), &bytes("new"), values).unwrap();
        String::from_utf8_lossy(file(formed).expose()).into_owned()
    };
    let both = with_previous(template, Some(3));
    assert_eq!(filled(&both, &values), "new,old;");
    let alone = with_previous(template, None);
    assert_eq!(filled(&alone, &FurtherValues::new()), "new,;");
    assert_ne!(both, alone, "what dies is another form");
    assert_ne!(both, with_previous(template, Some(2)));
    assert_eq!(both.previous_versions(), BTreeMap::from([key]));
    assert!(alone.previous_versions().is_empty() && both.versions().is_empty());
    // With a version that it was not given it is not filled in, and a person is told how to leave it out.
    let fault = formed(Some(&both), &bytes("new"), &FurtherValues::new()).unwrap_err();
    assert!(
        fault.contains("`keywheel revoke prod/db --version 3`"),
        "{fault}"
    );
}

#[test]
fn a_field_of_the_version_before_is_its_own_or_empty() {
    let template = "{{ secret(\"prod/db\", version=\"previous\").key | urlencode }}|{{ secret(\"prod/db\").key }}";
    let bytes = |text: &str| Arc::new(SecretBytes::from(text.as_bytes().to_vec()));
    let new = bytes("{\"key\":\"n\"}");
    let old = (
        (SecretId::from_bytes([2; 16]), 3),
        bytes("{\"key\":\"o/1\"}"),
    );
    let of = |version, values: FurtherValues| {
        let formed = formed(Some(&with_previous(template, version)), &new, &values);
        formed.map(|formed| String::from_utf8_lossy(file(formed).expose()).into_owned())
    };
    assert_eq!(
        of(Some(3), FurtherValues::from([old])),
        Ok("o%2F1|n".to_owned())
    );
    assert_eq!(of(None, FurtherValues::new()), Ok("|n".to_owned()));
    // Made for something else: another field, or no object at all.
    for text in ["{\"kid\":\"o\"}", "plain"] {
        let other = ((SecretId::from_bytes([2; 16]), 3), bytes(text));
        let filled = of(Some(3), FurtherValues::from([other]));
        assert_eq!(filled, Ok("|n".to_owned()), "{text}");
    }
    let other = "{{ secret(\"prod/api\", version=\"previous\") }}{{ secret(\"prod/db\") }}";
    let fault = formed(
        Some(&with_previous(other, None)),
        &new,
        &FurtherValues::new(),
    )
    .unwrap_err();
    assert!(fault.contains("`prod/api` is another secret"), "{fault}");
}

#[test]
fn a_fault_says_where_and_never_what_the_value_is() {
    let of = |path: &str| format!("\n{{{{ secret(\"prod/db\"){path} }}}}");
    for (template, value, part) in [
        (of(".a"), "canary-9c1", "not a JSON object"),
        (of(".a"), "\"canary-9c1\"", "not a JSON object"),
        (of(".a"), "{\"canary-9c1\":1}", "has no field `a`"),
        (
            of(".a.b"),
            "{\"a\":{\"c\":\"canary-9c1\"}}",
            "has no field `a.b`",
        ),
        (of(".a.b"), "{\"a\":\"canary-9c1\"}", "at `a.b`"),
        (of(".a"), "{\"a\":[\"canary-9c1\"]}", "at `a`"),
        (of(".a"), "{\"a\":null,\"b\":\"canary-9c1\"}", "at `a`"),
        (of(".a"), "{\"a\":1.5,\"b\":\"canary-9c1\"}", "at `a`"),
        (of(".a"), "{\"a\":\"x\"} canary-9c1", "not a JSON object"),
        (
            of("").replace("prod/db", "prod/x"),
            "canary-9c1",
            "another secret",
        ),
        (of(".").replace("}}", ""), "canary-9c1", "not closed"),
    ] {
        let fault = fill(&template, value.as_bytes()).unwrap_err();
        assert!(fault.starts_with("template_failed: "), "{fault}");
        assert!(fault.contains(part) && fault.contains("line 2"), "{fault}");
        assert!(!fault.contains("canary"), "{fault}");
    }
}

#[test]
fn what_is_filled_in_is_as_long_as_a_value_may_be_and_not_longer() {
    let value = vec![b'a'; MAX_VALUE_BYTES - 1];
    assert!(fill("x{{ secret(\"prod/db\") }}", &value).is_ok());
    let fault = fill("xx{{ secret(\"prod/db\") }}", &value).unwrap_err();
    assert!(fault.contains("longer than 1048576 bytes"), "{fault}");
}

#[test]
fn fields_are_read_up_to_the_limit_and_not_beyond() {
    let head = r#"{"a":"x","b":""#;
    let padding = "y".repeat(MAX_VALUE_BYTES - head.len() - 2);
    let value = format!("{head}{padding}\"}}");
    let places = MAX_FIELD_BYTES / value.len();
    let template = |places: usize| "{{ secret(\"prod/db\").a }}".repeat(places);
    let filled = fill(&template(places), value.as_bytes()).unwrap();
    assert_eq!(filled, "x".repeat(places));
    let fault = fill(&template(places + 1), value.as_bytes()).unwrap_err();
    assert!(fault.contains("more than 16777216 bytes"), "{fault}");
    // The whole value is read by nobody.
    let whole = "{{ secret(\"prod/db\") }}";
    let fault = fill(&whole.repeat(places + 1), value.as_bytes()).unwrap_err();
    assert!(fault.contains("longer than"), "{fault}");
}

#[test]
fn no_value_makes_the_reader_of_fields_panic() {
    let place = Place {
        secret: "a",
        fields: vec!["a", "b"],
        is_encoded: false,
        line: 1,
        is_previous: false,
    };
    keywheel_testkit::hostile(br#"{"x":[1,{}],"a":{"b":"c\u00e4"}}"#, |bytes| {
        drop(field(bytes, &place));
    });
}
