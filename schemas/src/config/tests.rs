//! Tests of the configuration: order of sources, every fault at once, limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sources::{SETTINGS, variable};
use super::{Config, ConfigFlags, LogFormat, MAX_CONFIG_BYTES, MAX_SOCKET_PATH_BYTES};
use crate::catalogue;

const FILE: &str = r#"
data_dir = "/srv/data"
socket = "/srv/run/kw.sock"
unseal_key_file = "/keys/unseal"

[host]
name = "web-1"

[log]
format = "json"
level = "debug"

[injector]
reconcile_interval = "1m30s"
helper = "/opt/keywheel-nsjoin"
"#;

fn machine() -> ConfigFlags {
    ConfigFlags {
        machine_name: Some("Web-9".to_owned()),
        ..ConfigFlags::default()
    }
}

fn load(
    file: Option<&str>,
    env: &[(&str, &str)],
    flags: ConfigFlags,
) -> Result<Config, Vec<String>> {
    let env: BTreeMap<_, _> = env
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    Config::load(
        file.map(|text| ("kw.toml", text)),
        &|name| env.get(name).cloned(),
        flags,
    )
    .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn one_fault(
    file: Option<&str>,
    env: &[(&str, &str)],
    flags: ConfigFlags,
    start: &str,
    part: &str,
) {
    let found = load(file, env, flags).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(start), "{}", found[0]);
    assert!(found[0].contains(part), "{}", found[0]);
}

#[test]
fn without_any_source_everything_has_its_default() {
    let config = load(None, &[], machine()).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/keywheel"));
    assert_eq!(config.socket, Path::new("/run/keywheel/keywheel.sock"));
    assert_eq!(config.run_dir, Path::new("/run/keywheel"));
    assert_eq!(
        config.unseal_key_file,
        Path::new("/etc/keywheel/unseal.key")
    );
    assert_eq!(config.host_name, "web-9");
    assert_eq!(
        (config.log.format, config.log.level.as_str()),
        (None, "info")
    );
    assert_eq!(config.injector.reconcile_interval, Duration::from_secs(30));
    assert_eq!(config.injector.helper, None);
}

#[test]
fn a_file_is_read_whole_and_the_run_directory_follows_the_socket() {
    let config = load(Some(FILE), &[], machine()).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/data"));
    assert_eq!(config.run_dir, Path::new("/srv/run"));
    assert_eq!(config.host_name, "web-1");
    assert_eq!(
        (config.log.format, config.log.level.as_str()),
        (Some(LogFormat::Json), "debug")
    );
    assert_eq!(config.log.format.map(LogFormat::as_str), Some("json"));
    assert_eq!(config.injector.reconcile_interval, Duration::from_secs(90));
    assert_eq!(
        config.injector.helper,
        Some(PathBuf::from("/opt/keywheel-nsjoin"))
    );
    let flags = ConfigFlags {
        socket: Some("kw.sock".into()),
        ..machine()
    };
    assert_eq!(load(None, &[], flags).unwrap().run_dir, Path::new("."));
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let env = [
        ("KEYWHEEL_LOG_LEVEL", "warn"),
        ("KEYWHEEL_DATA_DIR", "/from/env"),
        ("KEYWHEEL_INJECTOR_RECONCILE_INTERVAL", "5s"),
    ];
    let flags = ConfigFlags {
        data_dir: Some("/from/flag".into()),
        ..machine()
    };
    let config = load(Some(FILE), &env, flags).unwrap();
    assert_eq!(config.log.level, "warn");
    assert_eq!(config.data_dir, Path::new("/from/flag"));
    assert_eq!(config.injector.reconcile_interval, Duration::from_secs(5));
    assert_eq!(config.host_name, "web-1");
}

#[test]
fn every_setting_has_a_variable() {
    let names: Vec<String> = SETTINGS.iter().map(|setting| variable(setting)).collect();
    assert!(names.contains(&"KEYWHEEL_UNSEAL_KEY_FILE".to_owned()));
    assert!(names.contains(&"KEYWHEEL_HOST_NAME".to_owned()));
    for name in &names {
        let found = load(None, &[(name, "")], machine()).unwrap_err();
        assert!(
            found[0].starts_with(&format!("environment variable {name}: ")),
            "{found:?}"
        );
    }
}

#[test]
fn all_faults_of_all_sources_come_at_once() {
    let file = "dada_dir = \"/x\"\n[log]\nformat = 5\nlevel = \"info\"\n[injector]\nreconcile_interval = \"30\"\n";
    let env = [("KEYWHEEL_HOST_NAME", "WEB 1")];
    let flags = ConfigFlags {
        log_format: Some("xml".to_owned()),
        ..machine()
    };
    let found = load(Some(file), &env, flags).unwrap_err().join("\n");
    for part in [
        "kw.toml:1:1: setting `dada_dir` is not known (did you mean `data_dir`?)",
        "kw.toml:3:10: `log.format` has to be text in quotes",
        "kw.toml:6:22: `injector.reconcile_interval` `30` is not a span",
        "environment variable KEYWHEEL_HOST_NAME: `WEB 1` is not a valid host name",
        "--log-format: `xml` is not a log format; use `text`, `json` or `journald`",
    ] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
    assert_eq!(found.lines().count(), 5, "{found}");
}

#[test]
fn a_variable_or_a_flag_that_is_no_text_is_refused_and_not_taken_for_another_path() {
    use std::os::unix::ffi::OsStringExt as _;
    let words = "`data_dir` is not UTF-8 text";
    let variable = [("KEYWHEEL_DATA_DIR", "/srv/\u{fffd}")];
    one_fault(
        None,
        &variable,
        machine(),
        "environment variable KEYWHEEL_DATA_DIR",
        words,
    );
    let bytes = b"/srv/\xff".to_vec();
    let flags = ConfigFlags {
        data_dir: Some(PathBuf::from(std::ffi::OsString::from_vec(bytes))),
        ..machine()
    };
    one_fault(None, &[], flags, "--data-dir", words);
}

#[test]
fn unknown_names_are_refused_at_their_place() {
    one_fault(
        Some("[injector]\nreconcile = \"1s\"\n"),
        &[],
        machine(),
        "kw.toml:2:1: ",
        "setting `injector.reconcile` is not known",
    );
    one_fault(
        Some("[gateway]\nx = 1\n"),
        &[],
        machine(),
        "kw.toml:1:2: ",
        "known settings: audit.keep_records",
    );
    one_fault(
        Some("log = \"text\"\n"),
        &[],
        machine(),
        "kw.toml:1:1: ",
        "setting `log` is not known",
    );
}

#[test]
fn text_that_is_not_toml_is_refused_at_its_place() {
    let found = load(Some("data_dir = \n"), &[], machine()).unwrap_err();
    assert!(
        found[0].starts_with("kw.toml:1:") && found[0].contains("this is not TOML"),
        "{found:?}"
    );
    let twice = load(Some("data_dir = \"a\"\ndata_dir = \"b\"\n"), &[], machine()).unwrap_err();
    assert!(twice[0].starts_with("kw.toml:2:"), "{twice:?}");
}

#[test]
fn a_key_inside_the_data_directory_is_refused() {
    let flags = ConfigFlags {
        data_dir: Some("/d".into()),
        unseal_key_file: Some("/d/keys/unseal".into()),
        ..machine()
    };
    one_fault(
        None,
        &[],
        flags,
        "--unseal-key-file: ",
        "must not lie inside the data directory `/d`",
    );
    let flags = ConfigFlags {
        data_dir: Some("/etc".into()),
        ..machine()
    };
    one_fault(
        None,
        &[],
        flags,
        "default of `unseal_key_file`: ",
        "name a file elsewhere",
    );
    let beside = ConfigFlags {
        data_dir: Some("/d".into()),
        unseal_key_file: Some("/data/unseal".into()),
        ..machine()
    };
    assert!(load(None, &[], beside).is_ok());
}

#[test]
fn what_may_be_sent_to_a_store_lies_apart_from_what_is_ours() {
    let config = load(None, &[], machine()).unwrap();
    assert_eq!(
        config.store_credentials_dir,
        Path::new("/etc/keywheel/stores")
    );
    for (directory, why) in [
        ("/var/lib/keywheel/stores", "must not lie in each other"),
        ("/var", "must not lie in each other"),
        ("/etc/keywheel", "must not hold the unseal key"),
        ("stores", "is not absolute"),
    ] {
        let file = format!("[stores]\ncredentials_dir = \"{directory}\"\n");
        let place = "kw.toml:2:19: ";
        one_fault(Some(&file), &[], machine(), place, why);
    }
    let env = [("KEYWHEEL_STORES_CREDENTIALS_DIR", "/run/credentials")];
    let config = load(None, &env, machine()).unwrap();
    assert_eq!(config.store_credentials_dir, Path::new("/run/credentials"));
}

#[test]
fn limits_hold_and_the_limit_itself_is_allowed() {
    let socket = |bytes: usize| ConfigFlags {
        socket: Some(format!("/{}", "s".repeat(bytes - 1)).into()),
        ..machine()
    };
    assert!(load(None, &[], socket(MAX_SOCKET_PATH_BYTES)).is_ok());
    one_fault(
        None,
        &[],
        socket(MAX_SOCKET_PATH_BYTES + 1),
        "--socket: ",
        "at most 107",
    );
    for (text, taken) in [
        ("1s", true),
        ("999ms", false),
        ("1h", true),
        ("3601s", false),
    ] {
        let loaded = load(
            None,
            &[("KEYWHEEL_INJECTOR_RECONCILE_INTERVAL", text)],
            machine(),
        );
        assert_eq!(loaded.is_ok(), taken, "{text}");
    }
    let filled = |bytes: usize| format!("{FILE}#{}", "x".repeat(bytes - FILE.len() - 1));
    assert!(load(Some(&filled(MAX_CONFIG_BYTES)), &[], machine()).is_ok());
    assert!(
        load(Some(&filled(MAX_CONFIG_BYTES + 1)), &[], machine()).unwrap_err()[0]
            .contains("at most 65536")
    );
}

#[test]
fn a_machine_without_a_name_needs_one() {
    one_fault(
        None,
        &[],
        ConfigFlags::default(),
        "default of `host.name`: ",
        "--host-name",
    );
    let odd = ConfigFlags {
        machine_name: Some("büro".to_owned()),
        ..ConfigFlags::default()
    };
    one_fault(
        None,
        &[],
        odd,
        "default of `host.name`: ",
        "not a valid host name",
    );
}

#[test]
fn the_schema_agrees_with_the_loader() {
    let schema = catalogue::published("config.v1");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let value = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    assert!(validator.is_valid(&value(FILE)));
    for setting in SETTINGS {
        let unknown = match setting.split_once('.') {
            Some((section, _)) => format!("[{section}]\nother = \"x\"\n"),
            None => format!("{setting} = 5\n"),
        };
        assert!(!validator.is_valid(&value(&unknown)), "{unknown}");
        assert!(load(Some(&unknown), &[], machine()).is_err(), "{unknown}");
    }
    // Each setting of the loader is one of the schema.
    let shown = schema.to_string();
    for setting in SETTINGS {
        let last = setting.rsplit('.').next().unwrap();
        assert!(shown.contains(&format!("\"{last}\":")), "{setting}");
    }
}

const APART: &str = r#"
identity_dir = "/etc/keywheel/gateway"
[bus]
servers = "tls://a:4222, tls://b:4222"
[journal]
url = "postgres://kw@db/kw"
password_file = "/etc/keywheel/pg"
[listen]
api = "0.0.0.0:8443"
api_tokens = "on"
[credentials]
lifetime = "10m"
[injector]
sealing_key_age = "1h"
first_use = "on"
"#;

#[test]
fn services_that_run_apart_have_settings_of_their_own() {
    let config = load(Some(APART), &[], machine()).unwrap();
    let (apart, minute) = (config.apart, Duration::from_secs(60));
    assert_eq!(apart.credential_lifetime, Some(10 * minute));
    assert_eq!(config.injector.sealing_key_age, 60 * minute);
    assert!(config.injector.first_use);
    assert_eq!(apart.bus_servers, ["tls://a:4222", "tls://b:4222"]);
    let journal = apart.journal.as_ref().unwrap();
    assert_eq!(journal.url, "postgres://kw@db/kw");
    assert_eq!(
        journal.password_file,
        Some(PathBuf::from("/etc/keywheel/pg"))
    );
    assert_eq!(apart.listen_api, Some(([0, 0, 0, 0], 8443).into()));
    assert!(apart.api_tokens);
    assert_eq!((apart.cache.as_ref(), apart.listen_join), (None, None));
    assert_eq!(apart.first_given(), Some("identity_dir"));
    assert_eq!(
        load(None, &[], machine()).unwrap().apart.first_given(),
        None
    );
}

#[test]
fn wrong_settings_of_services_apart_say_what_would_be_right() {
    let cases = [
        (
            "[bus]\nservers = \"a:1\"\n",
            "kw.toml:2:11",
            "tls://HOST:PORT",
        ),
        (
            "[journal]\nurl = \"mysql://x\"\n",
            "kw.toml:2:7",
            "postgres://USER@HOST",
        ),
        (
            "[journal]\nurl = \"postgres://u:p@h/d\"\n",
            "kw.toml:2:7",
            "journal.password_file",
        ),
        (
            "[cache]\npassword_file = \"/x\"\n",
            "kw.toml:2:17",
            "without `cache.url`",
        ),
        ("[listen]\napi = \"8443\"\n", "kw.toml:2:7", "IP:PORT"),
        (
            "[listen]\napi_tokens = \"yes\"\n",
            "kw.toml:2:14",
            "neither `on` nor `off`",
        ),
        (
            "[credentials]\nlifetime = \"25h\"\n",
            "kw.toml:2:12",
            "has to lie between",
        ),
        (
            "[injector]\nfirst_use = \"yes\"\n",
            "kw.toml:2:13",
            "neither `on` nor `off`",
        ),
        (
            "[injector]\nsealing_key_age = \"1s\"\n",
            "kw.toml:2:19",
            "has to lie between",
        ),
    ];
    for (text, origin, part) in cases {
        one_fault(Some(text), &[], machine(), origin, part);
    }
    let many = vec!["tls://a:1"; super::apart::MAX_BUS_SERVERS + 1].join(",");
    let text = format!("[bus]\nservers = \"{many}\"\n");
    one_fault(Some(&text), &[], machine(), "kw.toml:2:11", "at most 16");
}

/// A setting that the schema shows and nobody reads would be refused.
#[test]
fn the_schema_shows_the_settings_that_are_read() {
    let schema = catalogue::published("config.v1");
    let properties = |shape: &serde_json::Value| {
        let named = shape["properties"].as_object();
        named.map(|named| named.keys().cloned().collect::<Vec<_>>())
    };
    let mut shown = std::collections::BTreeSet::new();
    for name in properties(&schema).unwrap() {
        let text = schema["properties"][&name].to_string();
        let sections = schema["$defs"].as_object().unwrap();
        let section = sections
            .iter()
            .find(|(section, _)| text.contains(&format!("#/$defs/{section}\"")));
        match section.and_then(|(_, shape)| properties(shape)) {
            Some(inner) => shown.extend(inner.iter().map(|one| format!("{name}.{one}"))),
            None => drop(shown.insert(name)),
        }
    }
    let read = SETTINGS.map(str::to_owned);
    assert_eq!(shown, read.into());
}

#[test]
fn memory_has_to_be_locked_where_somebody_says_so() {
    let read = |text| load(Some(text), &[], machine()).map(|config| config.require_locked_memory);
    assert!(!load(None, &[], machine()).unwrap().require_locked_memory);
    assert_eq!(read("[memory]\nrequire_locked = \"off\"\n"), Ok(false));
    assert_eq!(read("[memory]\nrequire_locked = \"on\"\n"), Ok(true));
    let found = read("[memory]\nrequire_locked = \"yes\"\n").unwrap_err();
    assert!(
        found[0].starts_with("kw.toml:2:18: ") && found[0].contains("neither `on` nor `off`"),
        "{found:?}"
    );
}

#[test]
fn receivers_of_this_machine_are_named_one_by_one() {
    assert!(load(None, &[], machine()).unwrap().webhook_allow.is_empty());
    let file = "[rotators]\nwebhook_allow = \"127.0.0.1:8099, [::1]:8099\"\n";
    let allowed = load(Some(file), &[], machine()).unwrap().webhook_allow;
    let wanted =
        ["127.0.0.1:8099", "[::1]:8099"].map(|one| one.parse::<std::net::SocketAddr>().unwrap());
    assert_eq!(allowed, wanted);
    let name = "[rotators]\nwebhook_allow = \"localhost:8099\"\n";
    let found = load(Some(name), &[], machine()).unwrap_err();
    assert!(found[0].contains("write IP:PORT"), "{found:?}");
    let many = vec!["127.0.0.1:1"; super::MAX_WEBHOOK_ALLOW + 1].join(",");
    let many = format!("[rotators]\nwebhook_allow = \"{many}\"\n");
    let found = load(Some(&many), &[], machine()).unwrap_err();
    assert!(found[0].contains("at most"), "{found:?}");
}

#[test]
fn signals_are_taken_on_loopback_and_their_keys_lie_apart() {
    let read = |text: &str| load(Some(text), &[], machine());
    let signals = load(None, &[], machine()).unwrap().signals;
    assert_eq!((signals.listen, signals.allow.len()), (None, 0));
    let file = "[signals]\nlisten = \"127.0.0.1:8210\"\nallow = \"127.0.0.1:8099\"\n";
    let signals = read(file).unwrap().signals;
    assert_eq!(signals.listen.map(|at| at.port()), Some(8210));
    assert_eq!(signals.allow.len(), 1);
    let many = vec!["127.0.0.1:1"; super::signals::MAX_SIGNALS_ALLOW + 1].join(",");
    for (text, part) in [
        ("listen = \"0.0.0.0:8210\"".to_owned(), "without TLS"),
        (
            "credentials_dir = \"signals\"".to_owned(),
            "is not absolute",
        ),
        (
            "credentials_dir = \"/etc/keywheel\"".to_owned(),
            "the unseal key",
        ),
        ("allow = \"localhost:1\"".to_owned(), "write IP:PORT"),
        (format!("allow = \"{many}\""), "at most"),
    ] {
        let found = read(&format!("[signals]\n{text}\n")).unwrap_err();
        assert!(found[0].contains(part), "{text}: {found:?}");
    }
}
