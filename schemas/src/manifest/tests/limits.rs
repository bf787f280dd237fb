//! Limits, at their value and one beyond.

use super::super::{
    MAX_COMMAND_TIMEOUT, MAX_COMMAND_WORD_BYTES, MAX_COMMAND_WORDS, MAX_CONTAINER_NAME_BYTES,
    MAX_DEADLINE, MAX_USER_BYTES, MIN_DEADLINE,
};
use super::*;

#[test]
fn limits_hold_and_the_limit_itself_is_allowed() {
    let filled = |bytes: usize| format!("{EXAMPLE}#{}", "x".repeat(bytes - EXAMPLE.len() - 1));
    assert!(read(&filled(MAX_MANIFEST_BYTES)).is_ok());
    assert!(faults(&filled(MAX_MANIFEST_BYTES + 1))[0].contains("at most 1048576 are allowed"));
    let documents = |count: usize| {
        (0..count)
            .map(|n| secret("{}").replace("name: db", &format!("name: db-{n}")))
            .collect::<Vec<_>>()
            .join("---\n")
    };
    assert_eq!(
        read(&documents(MAX_DOCUMENTS)).unwrap().len(),
        MAX_DOCUMENTS
    );
    let many = faults(&documents(MAX_DOCUMENTS + 1));
    assert!(many[0].contains("over a limit: it has more than 1000 documents"));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(
        faults(&deep)[0].contains("over a limit: it is nested deeper than 32"),
        "{:?}",
        faults(&deep)
    );
    let aliases = "a: &x 1\nb: *x\n";
    assert!(
        faults(aliases)[0].contains("over a limit: aliases like `*name`"),
        "{:?}",
        faults(aliases)
    );
    let labels = |count: usize| {
        (0..count)
            .map(|n| format!("l{n}: x"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let with = |labels: &str| {
        binding("  file: { name: db }").replace(
            "image: shop/app",
            &format!("image: shop/app, labels: {{ {labels} }}"),
        )
    };
    assert!(read(&with(&labels(MAX_LABELS))).is_ok());
    assert!(faults(&with(&labels(MAX_LABELS + 1)))[0].contains("more than 64 labels"));
    assert!(read(&with(&format!("a: {}", "x".repeat(MAX_LABEL_BYTES)))).is_ok());
    assert!(
        faults(&with(&format!("a: {}", "x".repeat(MAX_LABEL_BYTES + 1))))[0]
            .contains("at most 4096")
    );
}

#[test]
fn a_container_s_name_and_user_at_the_limit_are_allowed_and_one_more_is_not() {
    let with = |part: &str| {
        let all = format!("image: shop/app, {part}");
        binding("  file: { name: db }").replace("image: shop/app", &all)
    };
    let name = |bytes: usize| with(&format!("name: {}*", "x".repeat(bytes - 1)));
    assert!(read(&name(MAX_CONTAINER_NAME_BYTES)).is_ok());
    let over = &faults(&name(MAX_CONTAINER_NAME_BYTES + 1))[0];
    assert!(over.contains("no name of a container: 1 to 128"), "{over}");
    let user = |bytes: usize| with(&format!("user: {}", "x".repeat(bytes)));
    assert!(read(&user(MAX_USER_BYTES)).is_ok());
    let over = &faults(&user(MAX_USER_BYTES + 1))[0];
    assert!(over.contains("is no user"), "{over}");
}

#[test]
fn a_span_and_a_name_at_its_limit_is_allowed_and_one_more_is_not() {
    let rotation =
        |fields: &str| secret(&format!("{{ generator: {{}}, rotation: {{ {fields} }} }}"));
    let interval = |seconds: u64| rotation(&format!("interval: {seconds}s"));
    let jitter = |seconds: u64| rotation(&format!("interval: 366d, jitter: {seconds}s"));
    let deadline = |seconds: u64| rotation(&format!("deadline: {seconds}s"));
    let restart = |field: &str, seconds: u64| {
        binding(&format!(
            "  file: {{ name: db }}\n  reload: {{ restart: {{ {field}: {seconds}s }} }}"
        ))
    };
    let image = |bytes: u64| {
        let name = "i".repeat(usize::try_from(bytes).unwrap());
        binding("  file: { name: db }").replace("shop/app", &name)
    };
    type Text<'a> = &'a dyn Fn(u64) -> String;
    let rows: [(&str, Text<'_>, u64); 6] = [
        ("interval", &interval, MAX_INTERVAL.as_secs()),
        ("jitter", &jitter, MAX_JITTER.as_secs()),
        ("deadline", &deadline, MAX_DEADLINE.as_secs()),
        (
            "settle",
            &|n| restart("settle", n),
            MAX_RESTART_WAIT.as_secs(),
        ),
        (
            "healthTimeout",
            &|n| restart("healthTimeout", n),
            MAX_RESTART_WAIT.as_secs(),
        ),
        ("image", &image, MAX_IMAGE_BYTES as u64),
    ];
    for (what, text, most) in rows {
        assert!(read(&text(most)).is_ok(), "{what}: {:?}", read(&text(most)));
        assert_eq!(faults(&text(most + 1)).len(), 1, "{what}");
    }
    assert!(read(&interval(MIN_INTERVAL.as_secs())).is_ok());
    assert!(read(&deadline(MIN_DEADLINE.as_secs())).is_ok());
    assert_eq!(faults(&deadline(MIN_DEADLINE.as_secs() - 1)).len(), 1);
}

#[test]
fn more_faults_than_people_read_are_counted() {
    let fields: Vec<_> = (0..MAX_FAULTS + 5).map(|n| format!("x{n}: 1")).collect();
    let found = faults(&secret(&format!("{{ {} }}", fields.join(", "))));
    assert_eq!(found.len(), MAX_FAULTS + 1);
    assert!(
        found[MAX_FAULTS].ends_with("and 5 more; mend these first"),
        "{}",
        found[MAX_FAULTS]
    );
}

#[test]
fn a_command_at_its_limits_is_allowed_and_one_more_is_not() {
    let command = |words: &[String], timeout: u64| {
        binding(&format!(
            "  file: {{ name: db }}\n  reload: {{ command: [{}], timeout: {timeout}s }}",
            words.join(", ")
        ))
    };
    let words = |count: usize| vec!["a".to_owned(); count];
    let long = |bytes: usize| vec!["a".repeat(bytes)];
    let most = MAX_COMMAND_TIMEOUT.as_secs();
    for text in [
        command(&words(MAX_COMMAND_WORDS), most),
        command(&long(MAX_COMMAND_WORD_BYTES), 1),
    ] {
        assert!(read(&text).is_ok(), "{:?}", read(&text));
    }
    for (text, part) in [
        (command(&words(MAX_COMMAND_WORDS + 1), 1), "at most 64"),
        (
            command(&long(MAX_COMMAND_WORD_BYTES + 1), 1),
            "at most 4096",
        ),
        (command(&words(1), most + 1), "between 1s and 300s"),
    ] {
        assert!(faults(&text)[0].contains(part), "{:?}", faults(&text));
    }
}
