//! Files that people write for Keywheel beside manifests: sinks of the audit, the provider of identities, a key
//! service's settings, sets of policies, and an operator's credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use serde_json::Value;

use crate::refusal::{
    BAD_INPUT, CONFIG, NO_INPUT, USAGE, assert_nothing_lost, assert_refused, with_something,
};
use crate::starting::refused_up;

/// Nobody listens there: who gets as far as asking says so with another code.
const NOWHERE: &str = "https://127.0.0.1:1";

/// A file that the configuration names, with one fault.
struct Named {
    /// Section and name of the setting.
    setting: (&'static str, &'static str),
    text: &'static str,
    /// What has to be said beside the file.
    words: [&'static str; 3],
}

const NAMED: [Named; 4] = [
    Named {
        setting: ("audit", "sinks_file"),
        text: "[[sink]]\nname = \"local\"\ntype = \"carrier-pigeon\"\n",
        words: ["line 3", "`carrier-pigeon`", "audit.md"],
    },
    Named {
        setting: ("audit", "sinks_file"),
        text: "[[sink]]\ntype = \"file\"\nname = \"local\"\npath = \"not/absolute\"\n",
        words: ["line 4", "absolute", "audit.md"],
    },
    Named {
        setting: ("login", "provider_file"),
        text: "issuer = \"https://id.example\"\nclient_id = \"keywheel\"\nnonsense = 1\n",
        words: ["line 3", "`nonsense`", "people.md"],
    },
    Named {
        setting: ("login", "provider_file"),
        text: "issuer = \"http://id.example\"\nclient_id = \"keywheel\"\n",
        words: ["issuer", "https://", "people.md"],
    },
];

/// A configuration that names a file.
fn configuration(keywheel: &Keywheel, named: &Named, path: &str) -> Result<String> {
    let (section, name) = named.setting;
    let text = format!("[{section}]\n{name} = \"{path}\"\n");
    let file = keywheel.scratch().write("named-config.toml", text)?;
    Ok(file.display().to_string())
}

/// `up` is refused for each of them, and for one that is not there.
fn refuse_named(keywheel: &Keywheel) -> Result<()> {
    for named in &NAMED {
        let path = keywheel.scratch().write("named.toml", named.text)?;
        let path = path.display().to_string();
        let config = configuration(keywheel, named, &path)?;
        let said = refused_up(keywheel, &["--config", &config])?;
        assert_refused(&said, USAGE, &[&[path.as_str()][..], &named.words].concat());

        let (section, name) = named.setting;
        let config = configuration(keywheel, named, "/nonexistent/named.toml")?;
        let said = refused_up(keywheel, &["--config", &config])?;
        let setting = format!("{section}.{name}");
        assert_refused(&said, NO_INPUT, &["/nonexistent/named.toml", &setting]);
    }
    Ok(())
}

#[test]
fn a_bad_file_of_sinks_or_of_the_provider_ends_the_start_before_anything_is_opened() -> Result<()> {
    let fresh = Keywheel::prepare()?;
    refuse_named(&fresh)?;
    assert!(
        !fresh.data_dir().exists() && !fresh.unseal_key().exists(),
        "something was made"
    );
    let mut keywheel = with_something()?;
    keywheel.stop()?;
    let journal = keywheel.data_dir().join("journal.db");
    let before = fs::read(&journal)?;
    refuse_named(&keywheel)?;
    assert!(fs::read(&journal)? == before, "the journal is another");
    keywheel.up(&Options::default())?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn bad_settings_of_a_key_service_make_nothing() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    for (text, words) in [
        (
            "[kms]\nkey = \"alias/x\"\nregoin = \"eu\"\n",
            ["line 3", "`regoin`", "seal.md"],
        ),
        (
            "[kms]\nkey = 5\nregoin = \"eu\"\n",
            ["line 2", "line 3", "seal.md"],
        ),
        ("[kms]\nkey = 5\n", ["line 2", "text in quotes", "seal.md"]),
    ] {
        let path = keywheel.scratch().write("unseal.toml", text)?;
        let path = path.display().to_string();
        let (data, key) = (keywheel.data_dir(), keywheel.unseal_key());
        let (data, key) = (data.display().to_string(), key.display().to_string());
        let unseal = format!("kms:{path}");
        let words_of_init = [
            "init",
            "--single",
            "--out",
            &data,
            "--unseal-key-file",
            &key,
            "--unseal",
            &unseal,
        ];
        let said = keywheel.cli(&words_of_init)?;
        assert_refused(&said, USAGE, &[&[path.as_str()][..], &words].concat());
    }
    assert!(
        !keywheel.data_dir().exists() && !keywheel.unseal_key().exists(),
        "something was made"
    );
    Ok(())
}

/// Sets of which the server refuses each, with what it says.
const POLICIES: [(&str, &[&str]); 3] = [
    ("this is no policy\n", &["ends at line", "not Cedar"]),
    (
        "@id(\"x\") permit (principal, action == Action::\"fly\", resource);\n",
        &["policy `x`", "does not fit the schema", "fly"],
    ),
    (
        "permit (principal, action, resource);\n",
        &["has no name", "@id("],
    ),
];

#[test]
fn a_bad_set_of_policies_is_refused_on_record_and_the_one_before_is_in_force() -> Result<()> {
    let keywheel = with_something()?;
    let folder = keywheel.scratch().join("policies");
    fs::create_dir(&folder)?;
    let set = folder.display().to_string();
    for (text, words) in POLICIES {
        fs::write(folder.join("a.cedar"), text)?;
        let said = keywheel.cli(&["policy", "apply", &set])?;
        assert_refused(&said, BAD_INPUT, words);
    }
    fs::write(
        folder.join("a.cedar"),
        "@id(\"a\") permit (principal, action, resource);\n",
    )?;
    let groups = folder.join("groups.json");
    fs::write(&groups, "{")?;
    let said = keywheel.cli(&["policy", "apply", &set])?;
    let groups = groups.display().to_string();
    assert_refused(&said, BAD_INPUT, &[&groups, "EOF", "access.md"]);
    let said = keywheel.cli(&["policy", "apply", "/nonexistent"])?;
    assert_refused(&said, NO_INPUT, &["/nonexistent"]);

    let shown = keywheel.json(&["policy", "show"])?;
    assert_eq!(shown["version"], 0, "{shown}");
    let audit = keywheel.stream("audit")?;
    let is = |row: &&Value| row["verb"] == "apply-policies" && row["outcome"] == "malformed";
    assert_eq!(audit.iter().filter(is).count(), POLICIES.len());
    assert_nothing_lost(&keywheel)
}

/// Credentials as `init` makes them.
struct Credentials {
    made: PathBuf,
    /// A copy that is changed.
    copy: PathBuf,
}

impl Credentials {
    fn make(keywheel: &Keywheel) -> Result<Self> {
        let made = keywheel.scratch().join("deployment");
        let key = keywheel.scratch().join("key/gateway-unseal.key");
        let (out, key) = (made.display().to_string(), key.display().to_string());
        let words = ["init", "--out", &out, "--unseal-key-file", &key];
        keywheel.cli(&words)?.ok()?;
        let copy = keywheel.scratch().join("credentials");
        Ok(Self { made, copy })
    }

    /// Those of somebody, to be spoilt.
    fn of(&self, whose: &str) -> Result<&Path> {
        if self.copy.exists() {
            fs::remove_dir_all(&self.copy)?;
        }
        fs::create_dir(&self.copy)?;
        let from = self.made.join(whose);
        let entries = fs::read_dir(&from).with_context(|| format!("no {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            fs::copy(entry.path(), self.copy.join(entry.file_name()))?;
        }
        Ok(&self.copy)
    }
}

/// A question with these credentials.
fn ask_with(keywheel: &Keywheel, identity: &Path) -> Result<Output> {
    let identity = identity.display().to_string();
    let words = ["--address", NOWHERE, "--identity", &identity, "status"];
    keywheel.cli(&words)
}

#[test]
fn bad_credentials_of_an_operator_are_named_before_anybody_is_asked() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let credentials = Credentials::make(&keywheel)?;
    let own = "operators/admin";
    for (file, text, words) in [
        ("tls.pem", "junk", "the certificate cannot be read"),
        ("tls.key", "junk", "the private key cannot be read"),
        ("ca.pem", "junk", "trusted roots cannot be read"),
    ] {
        let copy = credentials.of(own)?;
        fs::write(copy.join(file), text)?;
        let said = ask_with(&keywheel, copy)?;
        assert_refused(&said, CONFIG, &[&copy.display().to_string(), words]);
    }
    let copy = credentials.of(own)?;
    let of_another = credentials.made.join("gateway/tls.key");
    fs::copy(of_another, copy.join("tls.key"))?;
    let said = ask_with(&keywheel, copy)?;
    assert_refused(&said, CONFIG, &[&copy.display().to_string(), "consistent"]);

    let copy = credentials.of("store-sync")?;
    let said = ask_with(&keywheel, copy)?;
    assert_refused(&said, CONFIG, &["store-sync", "not of an operator"]);

    let copy = credentials.of(own)?;
    let key = copy.join("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let said = ask_with(&keywheel, copy)?;
    let key = key.display().to_string();
    assert_refused(&said, NO_INPUT, &[&key, "chmod 600", "issue"]);
    let said = ask_with(&keywheel, Path::new("/nonexistent"))?;
    assert_refused(&said, NO_INPUT, &["/nonexistent", "--identity"]);
    Ok(())
}
