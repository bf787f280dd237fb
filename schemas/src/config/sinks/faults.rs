//! What is wrong in a file of sinks, all of it: each setting is looked at by itself, whatever is wrong with others.
//!
//! Pure. Of a URL nothing is told but its schemes: its path may be a credential. Nor is what stands where the path of a
//! secret's file belongs: it may be that secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::tables::Found;
use super::{MAX_SINK_NAME_BYTES, MAX_SINK_TEXT_BYTES, MAX_SINKS, MIN_SINK_FILE_BYTES, receiver};
use crate::leaf::shorten;
use crate::near::nearest;

/// What a sort of sink is set by, beside `type`.
pub(super) struct Sort {
    pub(super) word: &'static str,
    /// Without these there is none.
    pub(super) needed: &'static [&'static str],
    pub(super) optional: &'static [&'static str],
}

/// What every sink has.
const NAME: &[&str] = &["name"];

pub(super) static SORTS: [Sort; 5] = [
    Sort {
        word: "file",
        needed: &["name", "path"],
        optional: &["max_bytes", "keep", "format"],
    },
    Sort {
        word: "syslog",
        needed: &["name", "address"],
        optional: &["ca_file", "cert_file", "key_file", "format"],
    },
    Sort {
        word: "nats",
        needed: &["name", "url", "subject"],
        optional: &["credentials_file", "ca_file", "format"],
    },
    Sort {
        word: "otlp",
        needed: &["name", "url"],
        optional: &["authorization_file", "ca_file", "format"],
    },
    Sort {
        word: "http",
        needed: &["name", "url", "key_file"],
        optional: &["ca_file", "format"],
    },
];

impl Sort {
    fn of(word: &str) -> Option<&'static Self> {
        SORTS.iter().find(|sort| sort.word == word)
    }

    /// Every setting of it.
    fn settings(&self) -> Vec<&'static str> {
        let all = self.needed.iter().chain(self.optional);
        all.copied().collect()
    }
}

/// Of the whole file.
pub(super) fn of_file(file: &DeTable<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (key, value) in file {
        let name: &str = key.get_ref();
        match (name, value.get_ref()) {
            ("sink", DeValue::Array(sinks)) => found.extend(of_sinks(sinks)),
            ("sink", _) => {
                let what = "`sink` has to stand in two brackets, `[[sink]]`, once for each";
                found.push((key.span().start, what.to_owned()));
            }
            _ => {
                let near = nearest(name, &["sink"]);
                let what = format!(
                    "`{}` is not known{near}; write `[[sink]]` once for each sink",
                    shorten(name)
                );
                found.push((key.span().start, what));
            }
        }
    }
    found
}

fn of_sinks(sinks: &[Spanned<DeValue<'_>>]) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(beyond) = sinks.get(MAX_SINKS) {
        let count = sinks.len();
        let what = format!("there are {count} sinks; at most {MAX_SINKS} are allowed");
        found.push((beyond.span().start, what));
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    let mut receivers = BTreeSet::new();
    for sink in sinks {
        let begin = sink.span().start;
        let DeValue::Table(settings) = sink.get_ref() else {
            let what = "a sink has settings; write `[[sink]]`, and those below it";
            found.push((begin, what.to_owned()));
            continue;
        };
        found.extend(of_one(begin, settings));
        if let Some((at, name)) = text_of(settings, "name")
            && !names.insert(name)
        {
            let name = shorten(name);
            found.push((
                at,
                format!("two sinks are named `{name}`; give each its own"),
            ));
        }
        if let Some((at, path)) = text_of(settings, "path")
            && !paths.insert(Path::new(path).components().collect::<PathBuf>())
        {
            let what = "another sink writes to the same file; name one of its own";
            found.push((at, format!("{}: {what}", called(settings))));
        }
        if let Some((at, receiver)) = receiver_of(settings)
            && !receivers.insert(receiver)
        {
            let what = "another sink tells the same receiver, and two of them are no more than one; name another receiver, or leave one of the two out";
            found.push((at, format!("{}: {what}", called(settings))));
        }
    }
    found
}

/// Which receiver a sink tells, and where it is named.
fn receiver_of(settings: &DeTable<'_>) -> Option<(usize, String)> {
    let (_, sort) = text_of(settings, "type")?;
    let named_by = match sort {
        "syslog" => "address",
        _ => "url",
    };
    let (at, place) = text_of(settings, named_by)?;
    let subject = text_of(settings, "subject").map_or("", |(_, subject)| subject);
    receiver::of(sort, place, subject).map(|receiver| (at, receiver))
}

/// Of one sink, which begins there.
fn of_one(begin: usize, settings: &DeTable<'_>) -> Vec<Found> {
    let sort = text_of(settings, "type").and_then(|(_, word)| Sort::of(word));
    let mut found: Vec<Found> = type_fault(begin, settings, sort).into_iter().collect();
    for (key, value) in settings {
        let name: &str = key.get_ref();
        if name == "type" {
            continue;
        }
        let unknown = unknown_fault(sort, name).map(|what| (key.span().start, what));
        let wrong = || setting_fault(sort, name, value.get_ref());
        found.extend(unknown.or_else(|| wrong().map(|what| (value.span().start, what))));
    }
    // Whatever sort it is, it has a name.
    let needed = sort.map_or(NAME, |sort| sort.needed);
    let missing = needed.iter().filter(|name| !settings.contains_key(**name));
    found.extend(missing.map(|name| (begin, format!("`{name}` is missing"))));
    found.extend(sort.and_then(|sort| pair_fault(sort, settings)));
    let called = called(settings);
    let found = found.into_iter();
    found
        .map(|(at, what)| (at, format!("{called}: {what}")))
        .collect()
}

/// A setting that is text, and where that is.
fn text_of<'a>(settings: &'a DeTable<'_>, name: &str) -> Option<(usize, &'a str)> {
    let value = settings.get(name)?;
    let text = value.get_ref().as_str()?;
    Some((value.span().start, text))
}

/// What a sink is called in words about it.
fn called(settings: &DeTable<'_>) -> String {
    text_of(settings, "name").map_or_else(
        || "a sink without a name".to_owned(),
        |(_, name)| format!("sink `{}`", shorten(name)),
    )
}

fn type_fault(begin: usize, settings: &DeTable<'_>, sort: Option<&Sort>) -> Option<Found> {
    if sort.is_some() {
        return None;
    }
    let words: Vec<&str> = SORTS.iter().map(|sort| sort.word).collect();
    let known = words.join(", ");
    let Some(given) = settings.get("type") else {
        return Some((begin, format!("`type` is missing; write one of {known}")));
    };
    let at = given.span().start;
    let Some(word) = given.get_ref().as_str() else {
        return Some((at, "`type` has to be text in quotes".to_owned()));
    };
    let near = nearest(word, &words);
    let word = shorten(word);
    Some((
        at,
        format!("type `{word}` is not known{near}; write one of {known}"),
    ))
}

/// Of a type that is not known any setting of any sort may be one.
fn unknown_fault(sort: Option<&Sort>, name: &str) -> Option<String> {
    let Some(sort) = sort else {
        let is_known = SORTS.iter().any(|sort| sort.settings().contains(&name));
        return (!is_known).then(|| format!("setting `{}` is not known", shorten(name)));
    };
    let known = sort.settings();
    (!known.contains(&name)).then(|| {
        format!(
            "setting `{}` is not known{}; one of type `{}` has {}",
            shorten(name),
            nearest(name, &known),
            sort.word,
            known.join(", ")
        )
    })
}

fn setting_fault(sort: Option<&Sort>, name: &str, value: &DeValue<'_>) -> Option<String> {
    match name {
        "max_bytes" => match whole(value) {
            Some(bytes) if bytes >= MIN_SINK_FILE_BYTES => None,
            Some(bytes) => Some(format!(
                "`max_bytes` is {bytes}; at least {MIN_SINK_FILE_BYTES} are needed"
            )),
            None => Some("`max_bytes` has to be a whole number of bytes".to_owned()),
        },
        "keep" => {
            let count = whole(value).and_then(|count| u32::try_from(count).ok());
            count.is_none().then(|| {
                let most = u32::MAX;
                format!("`keep` has to be a whole number of files, 0 to {most}")
            })
        }
        _ => match value.as_str() {
            Some(text) => text_fault(sort, name, text),
            None => Some(format!("`{name}` has to be text in quotes")),
        },
    }
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn text_fault(sort: Option<&Sort>, name: &str, text: &str) -> Option<String> {
    match name {
        "name" => name_fault(text),
        "address" => address_fault(text),
        "subject" => subject_fault(text),
        "url" => url_fault(text, schemes(sort?)),
        "format" => format_fault(text),
        "authorization_file" | "credentials_file" | "key_file" => secret_fault(name, text),
        _ => path_fault(text),
    }
}

fn schemes(sort: &Sort) -> [&'static str; 2] {
    match sort.word {
        "nats" => ["tls://", "nats://"],
        _ => ["https://", "http://"],
    }
}

/// At the one of the two that is there.
fn pair_fault(sort: &Sort, settings: &DeTable<'_>) -> Option<Found> {
    if sort.word != "syslog" {
        return None;
    }
    let given = |name: &str| settings.get(name).map(|value| value.span().start);
    let at = match (given("cert_file"), given("key_file")) {
        (Some(at), None) | (None, Some(at)) => at,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let what = "`cert_file` and `key_file` belong together; name both or neither";
    Some((at, what.to_owned()))
}

fn format_fault(format: &str) -> Option<String> {
    (!["native", "ocsf"].contains(&format))
        .then(|| format!("`format` is `{}`; write native or ocsf", shorten(format)))
}

fn name_fault(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name =
        !name.is_empty() && name.len() <= MAX_SINK_NAME_BYTES && name.chars().all(is_plain);
    (!is_name).then(|| {
        format!("its name has to be 1 to {MAX_SINK_NAME_BYTES} small letters, digits and hyphens")
    })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.len() <= MAX_SINK_TEXT_BYTES
}

/// Of a file that holds a secret.
fn secret_fault(name: &str, path: &str) -> Option<String> {
    (!is_path(path)).then(|| {
        format!(
            "`{name}` is not the absolute path of a file of at most {MAX_SINK_TEXT_BYTES} bytes; what it says is not repeated, for it may be what belongs into that file"
        )
    })
}

fn path_fault(path: &str) -> Option<String> {
    (!is_path(path)).then(|| {
        format!(
            "`{}` is not the absolute path of a file of at most {MAX_SINK_TEXT_BYTES} bytes",
            shorten(path)
        )
    })
}

fn address_fault(address: &str) -> Option<String> {
    let parts = address.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_graphic() && c != '/')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    (!is_address || address.len() > MAX_SINK_TEXT_BYTES).then(|| {
        format!(
            "`{}` is not an address; write HOST:PORT, for example siem.example.org:6514",
            shorten(address)
        )
    })
}

/// Shows no more of it than its scheme: a path may be a credential.
fn url_fault(url: &str, schemes: [&str; 2]) -> Option<String> {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    let is_url = authority
        .is_some_and(|authority| !authority.is_empty() && !authority.contains('@'))
        && url.chars().all(|c| c.is_ascii_graphic())
        && url.len() <= MAX_SINK_TEXT_BYTES;
    (!is_url).then(|| {
        format!(
            "`url` is no address without a login; write {}HOST:PORT, or {} of this machine",
            schemes[0], schemes[1]
        )
    })
}

fn subject_fault(subject: &str) -> Option<String> {
    let is_token = |token: &str| {
        !token.is_empty()
            && token
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
    };
    let is_subject = subject.len() <= MAX_SINK_TEXT_BYTES && subject.split('.').all(is_token);
    (!is_subject).then(|| {
        format!(
            "`{}` is not a subject; write words with dots between, for example keywheel.audit",
            shorten(subject)
        )
    })
}
