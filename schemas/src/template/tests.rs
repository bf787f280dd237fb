//! What a template may say, and the fault of each text that is none.

use proptest::prelude::*;

use super::*;

fn place(secret: &'static str, fields: &[&'static str], is_encoded: bool) -> Piece<'static> {
    Piece::Place(Place {
        secret,
        fields: fields.to_vec(),
        is_encoded,
        line: 1,
        is_previous: false,
    })
}

#[test]
fn text_and_places_come_apart_and_text_stays_as_it_is() {
    let pieces = parse("pg://app:{{ secret(\"prod/db\") }}@db/app\n").unwrap();
    let expected = [
        Piece::Text("pg://app:"),
        place("prod/db", &[], false),
        Piece::Text("@db/app\n"),
    ];
    assert_eq!(pieces, expected);
    for (text, expected) in [
        ("{{secret('a')}}", place("a", &[], false)),
        ("{{ secret(\"a\").b_1 }}", place("a", &["b_1"], false)),
        (
            "{{ secret(\"a\") . b [ \"c-d}}\" ] }}",
            place("a", &["b", "c-d}}"], false),
        ),
        (
            "{{ secret(\"a\").b | urlencode }}",
            place("a", &["b"], true),
        ),
        ("{{ \"{{\" }}", Piece::Text("{{")),
        ("{ } }} {", Piece::Text("{ } }} {")),
    ] {
        assert_eq!(parse(text).unwrap(), [expected], "{text}");
    }
    assert!(parse("").unwrap().is_empty());
    assert!(parse("{# {{ x }} #}").unwrap().is_empty());
}

#[test]
fn a_place_says_which_version_it_means_and_the_current_one_by_default() {
    let previous = |text: &str| match parse(text).unwrap().as_slice() {
        [Piece::Place(place)] => (place.secret.to_owned(), place.is_previous),
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("{{ secret(\"a\") }}", false),
        ("{{ secret(\"a\", version=\"current\") }}", false),
        ("{{ secret(\"a\", version=\"previous\") }}", true),
        ("{{secret('a',version='previous')}}", true),
        (
            "{{ secret(\"a\" , version = \"previous\" ).b | urlencode }}",
            true,
        ),
    ] {
        assert_eq!(previous(text), ("a".to_owned(), expected), "{text}");
    }
    for (text, part) in [
        (
            "{{ secret(\"a\", \"previous\") }}",
            "is not known behind a secret's name",
        ),
        (
            "{{ secret(\"a\", versoin=\"previous\") }}",
            "`versoin` is not known",
        ),
        ("{{ secret(\"a\", version) }}", "`=` is missing"),
        ("{{ secret(\"a\", version=previous) }}", "in quotes"),
        (
            "{{ secret(\"a\", version=\"previos\") }}",
            "did you mean `previous`?",
        ),
        (
            "{{ secret(\"a\", version=\"3\") }}",
            "known: current, previous",
        ),
        ("{{ secret(\"a\", version=\"previous\" }}", "`)` is missing"),
        (
            "{{ secret(\"a\",) }}",
            "is not known behind a secret's name",
        ),
    ] {
        let fault = parse(text).unwrap_err();
        assert!(fault.message.contains(part), "{text}: {fault}");
    }
    let both = "{{ secret(\"a\") }}{{ secret(\"a\", version=\"previous\") }}{{ secret(\"b\") }}";
    assert_eq!(secrets_of(both, "a").unwrap(), names(&["a", "b"]));
    assert_eq!(previous_in(both), names(&["a"]));
    assert!(previous_in("{{ secret(").is_empty());
}

#[test]
fn a_fault_names_its_line_and_what_would_be_right() {
    for (text, line, part) in [
        ("{{ secret(\"a\") ", 1, "write `}}`"),
        ("a\nb {{ secret(\"a }}", 2, "not closed"),
        ("{# a\n", 1, "write `#}`"),
        ("\n\n{% if x %}", 3, "no statements"),
        ("{% include \"x\" %}", 1, "no statements"),
        ("{{ }}", 1, "is not known"),
        ("{{ env.HOME }}", 1, "`env` is not known"),
        ("{{ secrets(\"a\") }}", 1, "`secrets` is not known"),
        ("{{ secret(a) }}", 1, "in quotes"),
        ("{{ secret }}", 1, "`(` is missing"),
        ("{{ secret(\"a\" }}", 1, "`)` is missing"),
        ("{{ secret(\"a\"). }}", 1, "a field's name is missing"),
        ("{{ secret(\"a\")[0] }}", 1, "in quotes"),
        ("{{ secret(\"a\")[\"b\" }}", 1, "`]` is missing"),
        (
            "{{ secret(\"a\") | urlencod }}",
            1,
            "did you mean `urlencode`?",
        ),
        ("{{ secret(\"a\") | upper }}", 1, "known: urlencode"),
        ("{{ secret(\"a\") * 9 }}", 1, "`* 9` is not known here"),
        ("{{ secret(\"a\\\\\") }}", 1, "backslash"),
        ("{# a\nb #}\n{{ x }}", 3, "`x` is not known"),
        ("{{ secret(\"a\")\n }}\n{{ x }}", 3, "`x` is not known"),
    ] {
        let fault = parse(text).unwrap_err();
        assert_eq!(fault.line, line, "{text}: {fault}");
        assert!(fault.message.contains(part), "{text}: {fault}");
    }
}

fn names(all: &[&str]) -> BTreeSet<SecretName> {
    let name = |name: &&str| SecretName::parse(name).unwrap();
    all.iter().map(name).collect()
}

#[test]
fn a_template_says_which_secrets_it_names_and_none_at_all_is_refused() {
    let several =
        "{{ secret(\"prod/db\").user }}{{ secret(\"prod/api\") }}{{ secret(\"prod/db\") }}";
    let named = secrets_of(several, "prod/db").unwrap();
    assert_eq!(named, names(&["prod/api", "prod/db"]));
    let fault = secrets_of("a\n{{ secret(\"Prod DB\") }}", "prod/db").unwrap_err();
    assert_eq!(fault.line, 2);
    assert!(fault.message.contains("is no secret's name"), "{fault}");
    let fault = secrets_of("no place", "prod/db").unwrap_err();
    assert!(
        fault.message.contains("{{ secret(\"prod/db\") }}"),
        "{fault}"
    );
}

#[test]
fn what_is_named_beside_its_own_a_binding_gives_out_too_up_to_a_limit() {
    let own = SecretName::parse("own").unwrap();
    assert_eq!(further(names(&["own", "b"]), &own), Ok(names(&["b"])));
    let fault = further(names(&["b"]), &own).unwrap_err();
    assert!(fault.contains("own secret `own` is named by no"), "{fault}");
    let many = |count: usize| {
        let others = (1..count).map(|n| SecretName::parse(&format!("s{n}")).unwrap());
        further(others.chain([own.clone()]).collect(), &own)
    };
    assert_eq!(many(MAX_SECRETS).map(|all| all.len()), Ok(MAX_SECRETS - 1));
    let fault = many(MAX_SECRETS + 1).unwrap_err();
    assert!(fault.contains("at most 8"), "{fault}");
}

#[test]
fn limits_hold_and_the_limit_itself_is_allowed() {
    let place = "{{ secret(\"a\") }}";
    let long = |bytes: usize| format!("{place}{}", "x".repeat(bytes - place.len()));
    assert!(parse(&long(MAX_TEMPLATE_BYTES)).is_ok());
    let fault = parse(&long(MAX_TEMPLATE_BYTES + 1)).unwrap_err();
    assert!(fault.message.contains("at most 16384"), "{fault}");
    assert!(parse(&place.repeat(MAX_PLACES)).is_ok());
    let fault = parse(&place.repeat(MAX_PLACES + 1)).unwrap_err();
    assert!(fault.message.contains("more than 256 places"), "{fault}");
    let comment = "{# a #}";
    assert!(parse(&comment.repeat(MAX_PLACES)).is_ok());
    let fault = parse(&format!("{place}{}", comment.repeat(MAX_PLACES))).unwrap_err();
    assert!(fault.message.contains("places and comments"), "{fault}");
    let deep = |depth: usize| format!("{{{{ secret(\"a\"){} }}}}", ".b".repeat(depth));
    assert!(parse(&deep(MAX_FIELD_DEPTH)).is_ok());
    let fault = parse(&deep(MAX_FIELD_DEPTH + 1)).unwrap_err();
    assert!(fault.message.contains("deeper than 8"), "{fault}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "(?s).{0,100}", marked in "[{}%#\"'|.()\\[\\] secrt\n]{0,60}") {
        let _either = parse(&text);
        let _either = parse(&marked);
        let _either = parse(&format!("{{{{ secret(\"a\"){marked} }}}}"));
        let _either = parse(&format!("{{{{ secret(\"a\", version{marked}) }}}}"));
    }

    #[test]
    fn only_the_version_before_is_named_as_previous(versions in proptest::collection::vec(0_u8..3, 1..20)) {
        let word = |version: &u8| ["", ", version=\"current\"", ", version=\"previous\""][usize::from(*version)];
        let places = versions.iter().enumerate();
        let places = places.map(|(n, version)| format!("x{{{{ secret(\"s{n}\"{}) }}}}", word(version)));
        let text: String = places.collect();
        let pieces = parse(&text).unwrap();
        let meant: Vec<bool> = pieces.iter().filter_map(place_of).map(|place| place.is_previous).collect();
        let expected: Vec<bool> = versions.iter().map(|version| *version == 2).collect();
        prop_assert_eq!(meant, expected);
        let previous = versions.iter().filter(|version| **version == 2).count();
        prop_assert_eq!(previous_in(&text).len(), previous);
    }
}

#[test]
fn several_templates_are_bounded_together() {
    let together = |count: usize, bytes: usize| {
        let template = "x".repeat(bytes);
        check_together(std::iter::repeat_n(template.as_str(), count))
    };
    for (count, bytes) in [(1, 0), (MAX_FILES, 1), (2, MAX_TEMPLATE_BYTES / 2)] {
        assert_eq!(together(count, bytes), Ok(()));
    }
    for (count, bytes, part) in [
        (0, 0, "there are 0 files"),
        (MAX_FILES + 1, 1, "makes 1 to 32"),
        (2, MAX_TEMPLATE_BYTES / 2 + 1, "16386 bytes"),
    ] {
        let fault = together(count, bytes).unwrap_err();
        assert!(fault.contains(part), "{fault}");
    }
}
