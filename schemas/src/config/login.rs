//! Where people log in: one provider of identities (OpenID Connect), in a file of its own, TOML, that
//! `login.provider_file` names.
//!
//! Invariants: the provider is in this file and nowhere else; no request or manifest makes the gateway believe
//! another one. No secret is in here: what the gateway shows to the provider comes by file path.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::tables::{self, Found, Known};
use crate::leaf::shorten;
use crate::span::parse_span;

/// Longest file of a provider, in bytes.
pub const MAX_PROVIDER_BYTES: usize = 16 << 10;
/// Longest text of a provider, in bytes.
pub const MAX_PROVIDER_TEXT_BYTES: usize = 512;
/// Most scopes beside `openid`.
pub const MAX_PROVIDER_SCOPES: usize = 16;
/// How long a login lives at most, by default: so long may pass until the provider is asked again.
pub const DEFAULT_LOGIN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Shortest such time; a token lives no shorter.
pub const MIN_LOGIN_LIFETIME: Duration = Duration::from_secs(60);
/// Longest such time: a day's work.
pub const MAX_LOGIN_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The claim that is the person's name, by default: no provider gives it to anybody else later.
pub const DEFAULT_NAME_CLAIM: &str = "sub";

/// Without these there is no provider.
const NEEDED: &[&str] = &["issuer", "client_id"];
/// What else its file may say.
const OPTIONAL: &[&str] = &[
    "client_secret_file",
    "ca_file",
    "name_claim",
    "groups_claim",
    "scopes",
    "max_lifetime",
];

/// The file of the provider, TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderFile {
    /// The provider, as it calls itself: `https://HOST[/PATH]`; `http://` of this machine only.
    pub issuer: String,
    /// What the provider calls this deployment.
    pub client_id: String,
    /// File with the secret that the gateway shows to the provider; others may not read it. Default: none, a public
    /// client. Absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<String>,
    /// Authorities (PEM) that its certificate comes from; the system's by default. Absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// The claim that is the person's name. Default `sub`. Name one that people cannot change themselves; of `email`
    /// only a verified one counts.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
    /// The claim with the groups somebody is in. Default: none, and nobody is in a group of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// What is asked for beside `openid`, for example `groups` or `offline_access`. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
    /// How long a login lives at most, from `1m` to `12h`. Default `15m`; never longer than what the provider says of
    /// the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub max_lifetime: Option<String>,
}

fn default_name_claim() -> String {
    DEFAULT_NAME_CLAIM.to_owned()
}

/// Where people log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The file as it is.
    pub file: ProviderFile,
    /// How long a login lives at most.
    pub max_lifetime: Duration,
}

/// Reads the file of the provider.
///
/// # Errors
/// With every fault of it, each with its line; where it is no TOML with those alone.
pub fn parse(path: &Path, text: &str) -> Result<Provider, Vec<ConfigError>> {
    let file: ProviderFile = tables::read(path, text, MAX_PROVIDER_BYTES, of_file)?;
    // It was looked at: one that is there is within its bounds.
    let given = file.max_lifetime.as_deref().and_then(lifetime);
    let max_lifetime = given.unwrap_or(DEFAULT_LOGIN_LIFETIME);
    Ok(Provider { file, max_lifetime })
}

fn lifetime(text: &str) -> Option<Duration> {
    let read = parse_span(text).ok();
    read.filter(|span| (MIN_LOGIN_LIFETIME..=MAX_LOGIN_LIFETIME).contains(span))
}

/// What is wrong in the file, all of it.
fn of_file(file: &DeTable<'_>) -> Vec<Found> {
    let known = Known {
        called: "the file of the provider",
        begin: 0,
        needed: NEEDED,
        optional: OPTIONAL,
    };
    tables::of_table(file, &known, |name, value| match name {
        "scopes" => scopes_faults(value),
        _ => tables::text(name, value).map_or_else(
            |fault| vec![fault],
            |text| text_fault(name, text).into_iter().collect(),
        ),
    })
}

fn text_fault(name: &str, text: &str) -> Option<String> {
    match name {
        "issuer" => issuer_fault(text),
        "client_secret_file" | "ca_file" => {
            (!is_path(text)).then(|| format!("`{name}` is not the absolute path of a file"))
        }
        "max_lifetime" => lifetime(text).is_none().then(|| {
            format!(
                "`max_lifetime` is `{}`; write a span from `1m` to `12h`",
                shorten(text)
            )
        }),
        _ => (!is_word(text)).then(|| {
            format!(
                "`{name}` is `{}`; it has to be 1 to {MAX_PROVIDER_TEXT_BYTES} visible characters",
                shorten(text)
            )
        }),
    }
}

fn scopes_faults(value: &DeValue<'_>) -> Vec<String> {
    let wrong = "`scopes` has to be a list of texts in quotes, such as [\"groups\"]";
    let DeValue::Array(scopes) = value else {
        return vec![wrong.to_owned()];
    };
    let mut faults = Vec::new();
    if scopes.len() > MAX_PROVIDER_SCOPES {
        faults.push(format!(
            "there are {} scopes; at most {MAX_PROVIDER_SCOPES} are allowed",
            scopes.len()
        ));
    }
    let each: &[Spanned<DeValue<'_>>] = scopes;
    for scope in each {
        match scope.get_ref().as_str() {
            None => faults.push(wrong.to_owned()),
            Some(scope) if !is_word(scope) => faults.push(format!(
                "`{}` is no scope; a scope has visible characters only",
                shorten(scope)
            )),
            Some(_) => {}
        }
    }
    faults
}

/// Of another machine only with TLS. One with a login is not repeated.
fn issuer_fault(issuer: &str) -> Option<String> {
    let rest = issuer.strip_prefix("https://");
    let near = issuer.strip_prefix("http://").filter(|rest| {
        ["127.0.0.1", "[::1]", "localhost"]
            .into_iter()
            .filter_map(|host| rest.strip_prefix(host))
            .any(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    let authority = rest.or(near).and_then(|rest| rest.split('/').next());
    let is_good = authority.is_some_and(|authority| !authority.is_empty())
        && !issuer.contains(['@', '?', '#'])
        && is_word(issuer);
    (!is_good).then(|| {
        let said = match issuer.contains('@') {
            true => "`issuer` has a login".to_owned(),
            false => format!("`issuer` is `{}`", shorten(issuer)),
        };
        format!(
            "{said}; write what the provider calls itself, such as https://id.example.org, without a login, a query or a fragment"
        )
    })
}

fn is_word(text: &str) -> bool {
    (1..=MAX_PROVIDER_TEXT_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.len() <= MAX_PROVIDER_TEXT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "issuer = \"https://id.example.org\"\nclient_id = \"keywheel\"\n";

    fn read(text: &str) -> Result<Provider, String> {
        parse(Path::new("provider.toml"), text).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })
    }

    #[test]
    fn issuer_and_client_are_enough_and_the_rest_has_its_defaults() {
        let read = read(LEAST).unwrap();
        assert_eq!(read.max_lifetime, DEFAULT_LOGIN_LIFETIME);
        assert_eq!(read.file.name_claim, DEFAULT_NAME_CLAIM);
        assert_eq!(read.file.groups_claim, None);
        assert_eq!(read.file.client_secret_file, None);
        assert!(read.file.scopes.is_empty());
    }

    #[test]
    fn everything_that_can_be_said_is_read() {
        let text = format!(
            "{LEAST}client_secret_file = \"/etc/keywheel/oidc.secret\"\nca_file = \"/etc/keywheel/id.pem\"\nname_claim = \"email\"\ngroups_claim = \"groups\"\nscopes = [\"email\", \"offline_access\"]\nmax_lifetime = \"1h\"\n"
        );
        let read = read(&text).unwrap();
        assert_eq!(read.max_lifetime, Duration::from_secs(3600));
        assert_eq!(read.file.scopes, ["email", "offline_access"]);
        for local in [
            "http://127.0.0.1:8200/v1",
            "http://localhost",
            "http://[::1]:1/x",
        ] {
            let text = LEAST.replace("https://id.example.org", local);
            assert!(super::tests::read(&text).is_ok(), "{local}");
        }
    }

    #[test]
    fn each_fault_is_named_with_what_to_write() {
        for (text, said) in [
            (
                LEAST.replace("https://id.example.org", "http://id.example.org"),
                "`issuer`",
            ),
            (
                LEAST.replace("https://id.example.org", "http://127.0.0.1.example"),
                "`issuer`",
            ),
            (
                LEAST.replace("https://id.example.org", "https://me@id.example.org"),
                "`issuer`",
            ),
            (
                LEAST.replace("https://id.example.org", "https://id.example.org/?a=b"),
                "`issuer`",
            ),
            (
                LEAST.replace("https://id.example.org", "id.example.org"),
                "`issuer`",
            ),
            (LEAST.replace("\"keywheel\"", "\"\""), "`client_id`"),
            (format!("{LEAST}name_claim = \"a b\"\n"), "`name_claim`"),
            (format!("{LEAST}ca_file = \"id.pem\"\n"), "`ca_file`"),
            (format!("{LEAST}scopes = [\"a b\"]\n"), "no scope"),
            (format!("{LEAST}max_lifetime = \"59s\"\n"), "`max_lifetime`"),
            (format!("{LEAST}max_lifetime = \"13h\"\n"), "`max_lifetime`"),
            (format!("{LEAST}client_secret = \"hunter2\"\n"), "line 3"),
            ("x".repeat(MAX_PROVIDER_BYTES + 1), "at most"),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.contains(said), "{text}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        let login = LEAST.replace(
            "https://id.example.org",
            "https://me:hunter2@id.example.org",
        );
        let fault = read(&login).unwrap_err();
        assert!(
            fault.contains("has a login") && !fault.contains("hunter2"),
            "{fault}"
        );
    }

    #[test]
    fn every_fault_is_told_at_once_and_each_with_its_line() {
        let text = "isuer = \"https://id.example.org\"\nclient_id = 7\nname_claim = \"a b\"\n\
                    scopes = \"groups\"\nmax_lifetime = \"13h\"\n";
        let faults = parse(Path::new("provider.toml"), text).unwrap_err();
        let wanted = [
            ("line 1: ", "did you mean `issuer`?"),
            ("line 1: ", "`issuer` is missing"),
            ("line 2: ", "`client_id` has to be text in quotes"),
            ("line 3: ", "`name_claim` is `a b`"),
            ("line 4: ", "`scopes` has to be a list"),
            ("line 5: ", "`max_lifetime` is `13h`"),
        ];
        assert_eq!(faults.len(), wanted.len(), "{faults:?}");
        for (fault, (begin, part)) in faults.iter().zip(wanted) {
            let told = &fault.message;
            assert!(told.starts_with(begin) && told.contains(part), "{told}");
        }
        let broken = parse(Path::new("provider.toml"), "issuer = x\nnonsense = 1\n").unwrap_err();
        let is_syntax = |fault: &ConfigError| fault.message.contains("line 1: this is not TOML: ");
        assert!(
            !broken.is_empty() && broken.iter().all(is_syntax),
            "{broken:?}"
        );
    }

    #[test]
    fn every_setting_that_there_is_is_known() {
        let text = format!(
            "{LEAST}client_secret_file = \"/s\"\nca_file = \"/c\"\ngroups_claim = \"g\"\nscopes = [\"a\"]\nmax_lifetime = \"1h\"\n"
        );
        let written = serde_json::to_value(read(&text).unwrap().file).unwrap();
        let mut written: Vec<&str> = written
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        written.sort_unstable();
        let mut known = [NEEDED, OPTIONAL].concat();
        known.sort_unstable();
        assert_eq!(written, known);
    }
}
