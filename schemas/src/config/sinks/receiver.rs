//! Which receiver a sink tells, in one spelling of the many: two sinks that tell the same one are one place for the
//! records, whatever it is called.
//!
//! Pure: no name is looked up, so two names of one machine stay two. What comes out is compared and shown to nobody: a
//! path may be a credential.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The receiver of a sink of this type, by its address or URL, and its subject where it has one.
pub(super) fn of(sort: &str, place: &str, subject: &str) -> Option<String> {
    match sort {
        "syslog" => Some(format!("syslog {}", machine(place, None)?)),
        // By either scheme it is the same server, and a path means nothing to it.
        "nats" => {
            let (authority, _) = parts(place)?;
            Some(format!(
                "nats {} {subject}",
                machine(authority, Some(4222))?
            ))
        }
        "otlp" | "http" => {
            let (authority, rest) = parts(place)?;
            let port = match place.starts_with("http://") {
                true => 80,
                false => 443,
            };
            let machine = machine(authority, Some(port))?;
            Some(format!("{sort} {machine} {}", resource(rest)))
        }
        _ => None,
    }
}

/// A URL's authority, and what stands behind it.
fn parts(url: &str) -> Option<(&str, &str)> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest.split_at_checked(end)
}

/// Host and port; `None` where there is neither a port nor one that goes without saying.
fn machine(authority: &str, usual: Option<u16>) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            (host, behind.strip_prefix(':'))
        }
        None => authority
            .rsplit_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse::<u16>().ok()?,
        None => usual?,
    };
    Some(format!("{} {port}", host_in_one_spelling(host)))
}

fn host_in_one_spelling(host: &str) -> String {
    let small = host.to_ascii_lowercase();
    let name = small.strip_suffix('.').unwrap_or(&small);
    let Ok(address) = name.parse::<IpAddr>() else {
        return name.to_owned();
    };
    let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    match address.to_canonical() {
        // Whoever calls no address in particular calls this machine.
        address if here.contains(&address) || address.is_unspecified() => "localhost".to_owned(),
        address => address.to_string(),
    }
}

/// Path and query, without what leads nowhere else: dots, slashes too many, and letters that are written by number.
fn resource(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = text
        .split_once('?')
        .map_or((text, None), |(path, query)| (path, Some(query)));
    let path = decoded(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let query = query.map(|query| format!("?{query}"));
    format!("/{}{}", parts.join("/"), query.unwrap_or_default())
}

/// The same path with each letter that needs no number as itself, and all other numbers in capitals.
fn decoded(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| is_hexadecimal(digits));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let rest = match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                plain.push(c);
                piece.get(2..)
            }
            Some(_) => {
                plain.push('%');
                plain.push_str(&digits.unwrap_or_default().to_ascii_uppercase());
                piece.get(2..)
            }
            None => {
                plain.push('%');
                Some(piece)
            }
        };
        plain.push_str(rest.unwrap_or_default());
    }
    plain
}

fn is_hexadecimal(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_receiver_is_one_however_it_is_written() {
        let rows: [(&str, &[&str]); 8] = [
            (
                "syslog",
                &[
                    "siem.example.org:6514",
                    "SIEM.Example.org:6514",
                    "siem.example.org.:6514",
                    "siem.example.org:06514",
                ],
            ),
            ("syslog", &["[2001:db8::1]:6514", "[2001:DB8:0::1]:6514"]),
            (
                "syslog",
                &[
                    "127.0.0.1:6514",
                    "localhost:6514",
                    "[::1]:6514",
                    "0.0.0.0:6514",
                    "[::]:6514",
                ],
            ),
            ("syslog", &["192.0.2.1:6514", "[::ffff:192.0.2.1]:6514"]),
            (
                "nats",
                &[
                    "tls://nats.example.org:4222",
                    "tls://nats.example.org",
                    "tls://NATS.example.org./",
                    "nats://nats.example.org",
                ],
            ),
            (
                "otlp",
                &[
                    "https://logs.example.org/v1/logs",
                    "https://logs.example.org:443/v1/logs/",
                    "https://logs.example.org:/v1//logs",
                    "https://LOGS.example.org/./v0/../v1/logs#here",
                    "https://logs.example.org/v1/%6cogs",
                ],
            ),
            (
                "http",
                &[
                    "http://127.0.0.1",
                    "http://localhost:80/",
                    "http://[::1]:80/%2E",
                ],
            ),
            (
                "http",
                &[
                    "https://a.example/x%2fy?k=1",
                    "https://a.example:443/x%2Fy/?k=1",
                ],
            ),
        ];
        for (sort, spellings) in rows {
            let first = of(sort, spellings[0], "s").unwrap();
            for spelling in spellings {
                let other = of(sort, spelling, "s");
                assert_eq!(other.as_ref(), Some(&first), "{spelling}");
            }
        }
    }

    #[test]
    fn others_stay_others() {
        let all = [
            of("syslog", "siem.example.org:6514", ""),
            of("syslog", "siem.example.org:6515", ""),
            of("syslog", "siem2.example.org:6514", ""),
            of("nats", "tls://siem.example.org:6514", "a.b"),
            of("nats", "tls://siem.example.org:6514", "a.B"),
            of("nats", "tls://siem.example.org", "a.b"),
            of("http", "https://siem.example.org/a", ""),
            of("http", "https://siem.example.org/A", ""),
            of("http", "https://siem.example.org/a?b", ""),
            of("http", "https://siem.example.org/a?B", ""),
            of("http", "https://siem.example.org:8443/a", ""),
            of("http", "https://siem.example.org/a%2Fb", ""),
            of("http", "https://siem.example.org/a/b", ""),
            of("otlp", "https://siem.example.org/a", ""),
            of("http", "http://127.0.0.1/a", ""),
            of("http", "http://127.0.0.2/a", ""),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(one.is_some(), "{n}");
            let same = all.iter().filter(|other| *other == one).count();
            assert_eq!(same, 1, "{one:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_no_receiver() {
        for (sort, place) in [
            ("syslog", "siem.example.org"),
            ("syslog", "siem.example.org:http"),
            ("syslog", "[::1:6514"),
            ("nats", "nats.example.org"),
            ("http", "https://a.example:99999/"),
            ("file", "/var/log/audit.jsonl"),
            ("kafka", "https://a.example/"),
        ] {
            assert_eq!(of(sort, place, ""), None, "{place}");
        }
    }
}
