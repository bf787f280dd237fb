//! Where a setting's text comes from, and how each sort of setting is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use keywheel_core::name::HostName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::otlp::HEADERS_VARIABLE;
use super::{ConfigError, ConfigFlags, LogFormat, MAX_CONFIG_BYTES, MAX_SOCKET_PATH_BYTES};
use crate::leaf::shorten;
use crate::near::nearest;
use crate::span::{parse_span, span_words};

/// Every setting by its path in the file; its variable is `KEYWHEEL_` and the path in capitals.
pub(super) const SETTINGS: [&str; 48] = [
    "audit.keep_records",
    "audit.max_lag",
    "audit.min_sinks",
    "audit.sinks_file",
    "bus.monitors",
    "bus.servers",
    "cache.password_file",
    "cache.url",
    "credentials.lifetime",
    "data_dir",
    "dual_control.audit_export",
    "dual_control.host_return",
    "dual_control.policy_change",
    "dual_control.sink_change",
    "dual_control.unseal",
    "host.name",
    "identity_dir",
    "injector.first_use",
    "injector.helper",
    "injector.host_cache",
    "injector.host_cache_credential",
    "injector.host_cache_key_file",
    "injector.lease",
    "injector.lease_policy",
    "injector.reconcile_interval",
    "injector.sealing_key_age",
    "journal.password_file",
    "journal.url",
    "listen.advertise_join",
    "listen.api",
    "listen.api_tokens",
    "listen.join",
    "log.format",
    "log.level",
    "login.provider_file",
    "memory.require_locked",
    "metrics.listen",
    "otlp.compression",
    "otlp.endpoint",
    "otlp.headers_file",
    "rotators.webhook_allow",
    "run_dir",
    "signals.allow",
    "signals.credentials_dir",
    "signals.listen",
    "socket",
    "stores.credentials_dir",
    "unseal_key_file",
];

/// What every program calls the collector's address and the compression on the way to it.
const OTLP_VARIABLES: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "otlp.compression"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp.endpoint"),
];

/// A setting's text and where it came from.
struct Given {
    text: String,
    origin: String,
}

/// All settings that were given, the last source winning, and the faults found so far.
pub(super) struct Sources {
    given: BTreeMap<&'static str, Given>,
    pub(super) faults: Vec<ConfigError>,
    /// Whether OpenTelemetry's variable for headers is set; its text is none of ours.
    pub(super) has_otlp_headers: bool,
}

/// The environment variable of a setting.
pub(super) fn variable(setting: &str) -> String {
    format!("KEYWHEEL_{}", setting.replace('.', "_").to_uppercase())
}

impl Sources {
    pub(super) fn read(
        file: Option<(&str, &str)>,
        env: &dyn Fn(&str) -> Option<String>,
        flags: &ConfigFlags,
    ) -> Self {
        let mut sources = Self {
            given: BTreeMap::new(),
            faults: Vec::new(),
            has_otlp_headers: env(HEADERS_VARIABLE).is_some(),
        };
        if let Some((path, text)) = file {
            sources.read_file(path, text);
        }
        // OpenTelemetry's own names; ours win over them.
        for (name, setting) in OTLP_VARIABLES {
            if let Some(text) = env(name) {
                sources.give_readable(setting, text, format!("environment variable {name}"));
            }
        }
        for setting in SETTINGS {
            let name = variable(setting);
            if let Some(text) = env(&name) {
                sources.give_readable(setting, text, format!("environment variable {name}"));
            }
        }
        sources.read_flags(flags);
        sources
    }

    fn read_flags(&mut self, flags: &ConfigFlags) {
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
        };
        let said = [
            ("data_dir", "--data-dir", path(&flags.data_dir)),
            ("socket", "--socket", path(&flags.socket)),
            ("run_dir", "--run-dir", path(&flags.run_dir)),
            (
                "unseal_key_file",
                "--unseal-key-file",
                path(&flags.unseal_key_file),
            ),
            ("host.name", "--host-name", flags.host_name.clone()),
            ("log.format", "--log-format", flags.log_format.clone()),
            ("log.level", "--log-level", flags.log_level.clone()),
            (
                "metrics.listen",
                "--metrics-listen",
                flags.metrics_listen.clone(),
            ),
            (
                "otlp.endpoint",
                "--otlp-endpoint",
                flags.otlp_endpoint.clone(),
            ),
        ];
        for (setting, flag, text) in said {
            if let Some(text) = text {
                self.give_readable(setting, text, flag.to_owned());
            }
        }
    }

    /// What was no text has a mark where its bytes were: another path than the one that was meant.
    fn give_readable(&mut self, setting: &'static str, text: String, origin: String) {
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let message = format!("`{setting}` is not UTF-8 text; write it anew, or leave it out");
            self.faults.push(ConfigError { origin, message });
            return;
        }
        self.give(setting, text, origin);
    }

    fn give(&mut self, setting: &'static str, text: String, origin: String) {
        self.given.insert(setting, Given { text, origin });
    }

    fn read_file(&mut self, path: &str, text: &str) {
        if text.len() > MAX_CONFIG_BYTES {
            let message = format!(
                "the file has {} bytes; at most {MAX_CONFIG_BYTES} are allowed",
                text.len()
            );
            self.faults.push(ConfigError {
                origin: path.to_owned(),
                message,
            });
            return;
        }
        let file = File { path, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = file.origin(error.span().map_or(0, |span| span.start));
            self.faults.push(ConfigError {
                origin,
                message: format!("this is not TOML: {}", error.message()),
            });
        }
        self.read_table(&file, "", table.get_ref());
    }

    fn read_table(&mut self, file: &File<'_>, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let inner = format!("{name}.");
            let is_section = SETTINGS.iter().any(|setting| setting.starts_with(&inner));
            match (
                SETTINGS.iter().find(|setting| **setting == name),
                value.get_ref(),
            ) {
                (Some(setting), DeValue::String(text)) => {
                    self.give(setting, text.to_string(), file.origin(value.span().start));
                }
                (Some(setting), _) => {
                    let message = format!("`{setting}` has to be text in quotes");
                    self.faults.push(ConfigError {
                        origin: file.origin(value.span().start),
                        message,
                    });
                }
                (None, DeValue::Table(section)) if is_section => {
                    self.read_table(file, &inner, section)
                }
                (None, _) => self.refuse_unknown(file, key, &name),
            }
        }
    }

    fn refuse_unknown(
        &mut self,
        file: &File<'_>,
        key: &Spanned<toml::de::DeString<'_>>,
        name: &str,
    ) {
        let near = nearest(name, &SETTINGS);
        let message = format!(
            "setting `{}` is not known{near}; known settings: {}",
            shorten(name),
            SETTINGS.join(", ")
        );
        self.faults.push(ConfigError {
            origin: file.origin(key.span().start),
            message,
        });
    }

    /// Notes a fault of a setting, where its text came from.
    pub(super) fn fault(&mut self, setting: &str, message: String) {
        let origin = self
            .given
            .get(setting)
            .map_or_else(|| format!("default of `{setting}`"), |g| g.origin.clone());
        self.faults.push(ConfigError { origin, message });
    }

    fn given(&self, setting: &str) -> Option<String> {
        self.given.get(setting).map(|given| given.text.clone())
    }

    pub(super) fn text(&mut self, setting: &str, default: &str) -> String {
        let Some(text) = self.given(setting) else {
            return default.to_owned();
        };
        if text.is_empty() {
            self.fault(
                setting,
                format!("`{setting}` is empty; leave it out for `{default}`"),
            );
        }
        text
    }

    pub(super) fn optional_text(&mut self, setting: &str) -> Option<String> {
        let text = self.given(setting)?;
        if text.is_empty() {
            self.fault(setting, format!("`{setting}` is empty; leave it out"));
        }
        Some(text)
    }

    /// Words between commas, each of which passes the check.
    pub(super) fn list(
        &mut self,
        setting: &str,
        most: usize,
        check: fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let Some(text) = self.optional_text(setting) else {
            return Vec::new();
        };
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        if words.len() > most {
            let message = format!("`{setting}` has {} entries, at most {most}", words.len());
            self.fault(setting, message);
        }
        for word in &words {
            if let Err(why) = check(word) {
                self.fault(setting, format!("`{}` {why}", shorten(word)));
            }
        }
        words
    }

    /// An address to listen at.
    pub(super) fn address(&mut self, setting: &str) -> Option<SocketAddr> {
        let text = self.optional_text(setting)?;
        let parsed = text.parse();
        if parsed.is_err() {
            let message = format!(
                "`{}` is not an address; write IP:PORT, for example 0.0.0.0:8443",
                shorten(&text)
            );
            self.fault(setting, message);
        }
        parsed.ok()
    }

    pub(super) fn optional_path(&mut self, setting: &str) -> Option<PathBuf> {
        let text = self.given(setting)?;
        if text.is_empty() || text.contains('\0') {
            self.fault(
                setting,
                format!("`{setting}` is not a path; name one or leave it out"),
            );
        }
        Some(PathBuf::from(text))
    }

    pub(super) fn path(&mut self, setting: &str, default: &str) -> PathBuf {
        self.optional_path(setting)
            .unwrap_or_else(|| PathBuf::from(default))
    }

    pub(super) fn socket(&mut self, setting: &str, default: &str) -> PathBuf {
        let path = self.path(setting, default);
        let bytes = path.as_os_str().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            let message = format!(
                "the socket's path has {bytes} bytes; the kernel takes at most {MAX_SOCKET_PATH_BYTES}; name a shorter one"
            );
            self.fault(setting, message);
        }
        path
    }

    pub(super) fn host_name(&mut self, setting: &str, machine: Option<String>) -> Option<HostName> {
        let named = self
            .given(setting)
            .or_else(|| machine.map(|name| name.to_lowercase()));
        let Some(name) = named else {
            self.fault(
                setting,
                "this machine has no name; name the host with --host-name or `host.name`"
                    .to_owned(),
            );
            return None;
        };
        match HostName::parse(&name) {
            Ok(name) => Some(name),
            Err(error) => {
                self.fault(setting, error.to_string());
                None
            }
        }
    }

    pub(super) fn log_format(&mut self, setting: &str) -> Option<LogFormat> {
        let given = self.given(setting)?;
        let all = [LogFormat::Text, LogFormat::Json, LogFormat::Journald];
        let found = all.into_iter().find(|format| format.as_str() == given);
        if found.is_none() {
            let message = format!(
                "`{}` is not a log format; use `text`, `json` or `journald`",
                shorten(&given)
            );
            self.fault(setting, message);
        }
        found
    }

    pub(super) fn span(
        &mut self,
        setting: &str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        self.optional_span(setting, bounds).unwrap_or(default)
    }

    pub(super) fn optional_span(
        &mut self,
        setting: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.given(setting)?;
        let bounded = parse_span(&text).and_then(|span| {
            if bounds.contains(&span) {
                return Ok(span);
            }
            let (least, most) = (span_words(*bounds.start()), span_words(*bounds.end()));
            Err(format!("has to lie between {least} and {most}"))
        });
        bounded
            .inspect_err(|fault| self.fault(setting, format!("`{setting}` {fault}")))
            .ok()
    }
}

/// The configuration file, for positions.
struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    /// `FILE:line:column` of a byte.
    fn origin(&self, byte: usize) -> String {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        format!("{}:{line}:{column}", self.path)
    }
}
