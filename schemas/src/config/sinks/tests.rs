//! What the file of sinks may say, and what it may not.

use super::*;

const ALL: &str = r#"
[[sink]]
name = "archive"
type = "file"
path = "/var/log/keywheel/audit.jsonl"
max_bytes = 1048576
keep = 12

[[sink]]
name = "siem"
type = "syslog"
address = "siem.example.org:6514"
ca_file = "/etc/keywheel/siem-ca.pem"
cert_file = "/etc/keywheel/siem.pem"
key_file = "/etc/keywheel/siem.key"
format = "ocsf"

[[sink]]
name = "lake"
type = "nats"
url = "tls://nats.example.org:4222"
subject = "security.keywheel.audit"
credentials_file = "/etc/keywheel/lake.creds"

[[sink]]
name = "logs"
type = "otlp"
url = "http://127.0.0.1:4318/v1/logs"

[[sink]]
name = "hook"
type = "http"
url = "https://audit.example.org/keywheel"
key_file = "/etc/keywheel/hook.key"
"#;

fn read(text: &str) -> Result<Vec<Sink>, String> {
    parse(Path::new("sinks.toml"), text).map_err(|faults| {
        let faults = faults.iter().map(ToString::to_string);
        faults.collect::<Vec<_>>().join("; ")
    })
}

#[test]
fn every_sort_of_sink_is_read() {
    let sinks = read(ALL).unwrap();
    let kinds: Vec<_> = sinks
        .iter()
        .map(|sink| (sink.name(), sink.kind()))
        .collect();
    let wanted = [
        ("archive", "file"),
        ("siem", "syslog"),
        ("lake", "nats"),
        ("logs", "otlp"),
        ("hook", "http"),
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(sinks[1].format(), SinkFormat::Ocsf);
    assert_eq!(sinks[0].format(), SinkFormat::Native);
    assert_eq!(read(""), Ok(Vec::new()));
}

#[test]
fn what_is_not_known_or_not_whole_is_refused_with_its_place() {
    for (from, to, told) in [
        ("keep = 12", "kept = 12", "line "),
        (
            "type = \"otlp\"",
            "type = \"kafka\"",
            "type `kafka` is not known",
        ),
        ("key_file = \"/etc/keywheel/hook.key\"", "", "key_file"),
        ("max_bytes = 1048576", "max_bytes = 10", "`max_bytes` is 10"),
        ("\"archive\"", "\"Archive\"", "small letters"),
        ("\"siem\"", "\"archive\"", "two sinks are named `archive`"),
        (
            "/var/log/keywheel/audit.jsonl",
            "audit.jsonl",
            "absolute path",
        ),
        (
            "/etc/keywheel/hook.key",
            "canary",
            "`key_file` is not the absolute path",
        ),
        (
            "credentials_file = \"/etc/keywheel/lake.creds\"",
            "credentials_file = \"canary\"",
            "`credentials_file` is not the absolute path",
        ),
        ("siem.example.org:6514", "siem.example.org", "HOST:PORT"),
        ("siem.example.org:6514", ":6514", "HOST:PORT"),
        (
            "key_file = \"/etc/keywheel/siem.key\"",
            "",
            "belong together",
        ),
        (
            "tls://nats.example.org",
            "tcp://nats.example.org",
            "tls://HOST:PORT",
        ),
        (
            "security.keywheel.audit",
            "security..audit",
            "not a subject",
        ),
        ("security.keywheel.audit", "security.>", "not a subject"),
        (
            "https://audit.example.org/keywheel",
            "https://a:canary@b/",
            "without a login",
        ),
    ] {
        let text = ALL.replacen(from, to, 1);
        assert_ne!(text, ALL, "{from}");
        let fault = read(&text).unwrap_err();
        assert!(fault.contains(told), "{to}: {fault}");
        assert!(
            fault.contains("sinks.toml") && !fault.contains("canary"),
            "{fault}"
        );
    }
}

#[test]
fn two_sinks_have_no_file_together() {
    let other = ALL.replacen("archive", "other", 1);
    let both = format!(
        "{}\n{}",
        &ALL[..ALL.find("[[sink]]\nname = \"siem\"").unwrap()],
        other
    );
    let fault = read(&both).unwrap_err();
    assert!(fault.contains("the same file"), "{fault}");
    // Written otherwise it is the same.
    let at = both.find("path = \"/").unwrap() + "path = \"/".len();
    let mut again = both.clone();
    again.insert_str(at, "./");
    let fault = read(&again).unwrap_err();
    assert!(fault.contains("the same file"), "{fault}");
}

#[test]
fn two_sinks_have_no_receiver_together() {
    for (name, from, to) in [
        ("siem", "siem.example.org:6514", "SIEM.example.org.:6514"),
        (
            "lake",
            "tls://nats.example.org:4222",
            "tls://nats.example.org",
        ),
        (
            "logs",
            "http://127.0.0.1:4318/v1",
            "http://localhost:4318/canary/../v1",
        ),
        (
            "hook",
            "https://audit.example.org/",
            "https://audit.example.org:443//",
        ),
    ] {
        let begin = ALL.find(&format!("[[sink]]\nname = \"{name}\"")).unwrap();
        let one = ALL[begin..].split("\n\n").next().unwrap();
        let second = one.replace(&format!("\"{name}\""), "\"second\"");
        // Whatever else is another, it is told the same.
        for format in ["native", "ocsf"] {
            let again = second.replace(from, to).replace("\nformat = \"ocsf\"", "");
            assert!(again.contains(to), "{again}");
            let fault = read(&format!("{ALL}\n{again}\nformat = \"{format}\"\n")).unwrap_err();
            assert!(
                fault.contains("sink `second`: another sink tells the same receiver"),
                "{fault}"
            );
            assert!(!fault.contains("canary"), "{fault}");
        }
    }
    let lake = ALL.find("[[sink]]\nname = \"lake\"").unwrap();
    let lake = ALL[lake..].split("\n\n").next().unwrap();
    let other = lake
        .replace("\"lake\"", "\"second\"")
        .replace("keywheel.audit", "keywheel.more");
    assert_eq!(
        read(&format!("{ALL}\n{other}\n")).unwrap().len(),
        6,
        "another subject is another receiver"
    );
}

#[test]
fn there_are_as_many_sinks_as_the_limit_and_not_one_more() {
    let of = |count: usize| {
        let one = |n: usize| {
            format!(
                "[[sink]]\nname = \"s{n}\"\ntype = \"otlp\"\nurl = \"http://127.0.0.1:{}/v1/logs\"\n",
                n + 1
            )
        };
        read(&(0..count).map(one).collect::<String>()).map(|sinks| sinks.len())
    };
    assert_eq!(of(MAX_SINKS), Ok(MAX_SINKS));
    assert!(of(MAX_SINKS + 1).unwrap_err().contains("at most 16"));
    let long = format!("#{}", "x".repeat(MAX_SINKS_BYTES));
    assert!(read(&long).unwrap_err().contains("at most 65536"));
}

#[test]
fn every_fault_is_told_at_once_and_each_with_its_line() {
    let text = r#"[[sink]]
name = "Archive"
type = "file"
path = "audit.jsonl"
max_bytes = 10
kept = 12

[[sink]]
name = "siem"
type = "syslog"
cert_file = "/etc/keywheel/siem.pem"
format = "xml"

[[sink]]
name = "siem"
type = "otpl"
url = 7

[[sinks]]
"#;
    let faults = parse(Path::new("sinks.toml"), text).unwrap_err();
    let wanted = [
        ("line 2: sink `Archive`: ", "small letters"),
        ("line 4: sink `Archive`: ", "absolute path"),
        ("line 5: sink `Archive`: ", "`max_bytes` is 10"),
        (
            "line 6: sink `Archive`: setting `kept` ",
            "did you mean `keep`?",
        ),
        ("line 8: sink `siem`: ", "`address` is missing"),
        ("line 11: sink `siem`: ", "belong together"),
        ("line 12: sink `siem`: ", "`format` is `xml`"),
        ("line 15: ", "two sinks are named `siem`"),
        ("line 16: sink `siem`: ", "did you mean `otlp`?"),
        ("line 17: sink `siem`: ", "`url` has to be text"),
        ("line 19: `sinks` ", "did you mean `sink`?"),
    ];
    assert_eq!(faults.len(), wanted.len(), "{faults:?}");
    for (fault, (begin, part)) in faults.iter().zip(wanted) {
        assert_eq!(fault.origin, "sinks.toml");
        let told = &fault.message;
        assert!(told.starts_with(begin) && told.contains(part), "{told}");
    }
}

#[test]
fn what_is_no_toml_is_told_alone_and_with_its_line() {
    let text = "[[sink]]\nname = \"archive\"\ntype = file\n";
    let faults = parse(Path::new("sinks.toml"), text).unwrap_err();
    let told: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    let is_syntax = |told: &&str| told.starts_with("line 3: this is not TOML: ");
    assert!(!told.is_empty() && told.iter().all(is_syntax), "{told:?}");
}

#[test]
fn the_settings_of_each_sort_are_those_that_such_a_sink_has() {
    for sink in read(ALL).unwrap() {
        let written = serde_json::to_value(&sink).unwrap();
        let sort = faults::SORTS.iter().find(|sort| sort.word == sink.kind());
        let sort = sort.unwrap();
        let mut known = [["type"].as_slice(), sort.needed, sort.optional].concat();
        known.sort_unstable();
        let written = written.as_object().unwrap().keys();
        let mut written: Vec<&str> = written.map(String::as_str).collect();
        written.sort_unstable();
        assert_eq!(written, known);
    }
}

#[test]
fn a_sink_is_read_with_what_it_needs_and_names_what_it_lacks_of_that() {
    for sort in &faults::SORTS {
        let line = |name: &str| {
            let value = match name {
                "name" => "n",
                "address" => "siem.example.org:6514",
                "subject" => "keywheel.audit",
                "url" if sort.word == "nats" => "tls://nats.example.org:4222",
                "url" => "https://audit.example.org/",
                _ => "/var/lib/keywheel/file",
            };
            format!("{name} = \"{value}\"\n")
        };
        let head = format!("[[sink]]\ntype = \"{}\"\n", sort.word);
        let with = |names: Vec<&str>| {
            let lines: String = names.into_iter().map(line).collect();
            read(&format!("{head}{lines}"))
        };
        assert_eq!(with(sort.needed.to_vec()).unwrap().len(), 1);
        for left_out in sort.needed {
            let others = sort.needed.iter().copied();
            let fault = with(others.filter(|name| name != left_out).collect()).unwrap_err();
            let missing = format!("`{left_out}` is missing");
            assert!(fault.contains(&missing), "{fault}");
            assert!(fault.contains("line 1: "), "{fault}");
        }
    }
}
