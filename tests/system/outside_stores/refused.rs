//! A store that does not work is refused on apply: what is missing is named, with the next step, and
//! nothing is applied.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::nats::TlsFiles;
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::docker;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::wait_current;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::scene::{KEY, credential, give, make_token, secret, vault};

/// Nobody's token.
const WRONG: &str = "nobodys-token-61f0";
/// Looks into `sys`, and reads no secret.
const READER: &str = "path \"secret/metadata/app/db\" { capabilities = [\"read\"] }\n\
                      path \"sys/internal/ui/mounts/secret\" { capabilities = [\"read\"] }";

/// May nothing.
const NOTHING: &str = "path \"none\" { capabilities = [\"deny\"] }";

/// A keywheel, an OpenBao that speaks TLS too, and an authority that signed its certificate.
struct Refusing {
    keywheel: Keywheel,
    bao: OpenBao,
    ca: String,
}

/// Manifests that are refused, and what the refusal has to say.
type Case = (String, &'static str);

#[test]
fn what_is_missing_is_named_and_nothing_is_applied() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let refusing = Refusing::set()?;
    let keywheel = &refusing.keywheel;
    let cases = [
        refusing.ways()?,
        refusing.logins_and_mounts()?,
        refusing.rights()?,
        refusing.credentials()?,
    ];
    for (manifests, part) in cases.iter().flatten() {
        let refused = keywheel.try_apply(manifests)?;
        ensure!(refused.code != 0, "{manifests} is applied");
        let said = refused.stderr;
        ensure!(said.contains(part), "{part}: {said}\n{manifests}");
        ensure!(said.contains("next:"), "no next step: {said}");
        ensure!(!said.contains(KEY) && !said.contains(WRONG), "{said}");
    }
    ensure!(keywheel.json(&["get", "stores"])? == json!([]));
    ensure!(keywheel.json(&["get", "secrets"])? == json!([]));
    let value = refusing.works_when_it_is_right()?;
    let plaintexts = [value, KEY, WRONG].map(str::to_owned);
    keywheel_tests::stage::finish(keywheel, &plaintexts, &[])
}

fn bad(address: &str, auth: &str) -> String {
    vault("bad", address, auth, "60s")
}

/// The same with one more field of `vault`.
fn with(store: &str, field: &str) -> String {
    store.replace(", auth:", &format!(", {field}, auth:"))
}

impl Refusing {
    fn set() -> Result<Self> {
        let keywheel = Keywheel::start()?;
        let (issuer, ca) = authority(&keywheel, "ca")?;
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &issuer)?;
        let files = TlsFiles {
            ca: ca.clone().into(),
            certificate: credential(&keywheel, "server.pem", &certificate.pem())?,
            key: credential(&keywheel, "server-key.pem", &key.serialize_pem())?,
        };
        let bao = OpenBao::start(Some(&files));
        make_token(&bao);
        Ok(Self { keywheel, bao, ca })
    }

    fn plain(&self) -> String {
        format!("http://{}", self.bao.address())
    }

    /// Wrong addresses and certificates.
    fn ways(&self) -> Result<Vec<Case>> {
        let key = by_file(&self.keywheel, "right", KEY)?;
        let tls = bad(&self.bao.tls_url(), &key);
        let foreign = authority(&self.keywheel, "foreign")?.1;
        Ok(vec![
            (bad("http://127.0.0.1:1", &key), "127.0.0.1:1 "),
            (tls.clone(), "certificate"),
            (with(&tls, &format!("caFile: \"{foreign}\"")), "certificate"),
            (
                with(&tls, "caFile: /nonexistent/ca.pem"),
                "/nonexistent/ca.pem",
            ),
        ])
    }

    /// A wrong token, and places that are not there.
    fn logins_and_mounts(&self) -> Result<Vec<Case>> {
        let key = by_file(&self.keywheel, "right", KEY)?;
        let wrong = by_file(&self.keywheel, "wrong", WRONG)?;
        let right = bad(&self.plain(), &key);
        Ok(vec![
            (bad(&self.plain(), &wrong), "refuses the token"),
            (
                with(&right, "mount: elsewhere"),
                "no engine at mount elsewhere",
            ),
            (with(&right, "mount: sys"), "KV engine of version 2"),
            (
                with(&right, "namespace: nowhere"),
                "another namespace than `nowhere`",
            ),
        ])
    }

    /// Tokens that may not do what is needed.
    fn rights(&self) -> Result<Vec<Case>> {
        let reader = by_file(&self.keywheel, "reader", &self.token("reader", READER)?)?;
        let powerless = by_file(&self.keywheel, "powerless", &self.token("none", NOTHING)?)?;
        let writes = secret(
            "test/writes",
            "bad",
            "app/db",
            "password",
            "  generator: {}\n",
        );
        let reader = bad(&self.plain(), &reader);
        Ok(vec![
            (
                bad(&self.plain(), &powerless),
                "add the policy that `keywheel store policy NAME` prints",
            ),
            (
                reader.clone() + &reads(),
                "lacks `read` on secret/data/app/db",
            ),
            (reader + &writes, "`patch`"),
        ])
    }

    /// Credentials that are not there, open to all, empty, or in the manifest itself.
    fn credentials(&self) -> Result<Vec<Case>> {
        let open = credential(&self.keywheel, "open", KEY)?;
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644))?;
        let open = format!("token: {{ file: \"{}\" }}", open.display());
        let empty = by_file(&self.keywheel, "empty", "\n")?;
        let ours = self.keywheel.unseal_key().display().to_string();
        let of = |auth: &str| bad(&self.plain(), auth);
        Ok(vec![
            (
                of("token: { file: /nonexistent/token }"),
                "/nonexistent/token",
            ),
            (
                // Nobody who may declare a store has store-sync send it a file of its own.
                of(&format!("token: {{ file: \"{ours}\" }}")),
                "stores.credentials_dir",
            ),
            (of(&open), "chmod o-rwx"),
            (of(&empty), "is empty"),
            (
                of("token: { secret: no/such }"),
                "keywheel secret put no/such",
            ),
            (
                of(&format!("token: {KEY}")),
                "looks like the credential itself",
            ),
        ])
    }

    /// Over TLS, with the credential as a secret of ours; gives the value that is taken over.
    fn works_when_it_is_right(&self) -> Result<&'static str> {
        give(&self.keywheel, "keywheel/bao", &self.bao.tls_url(), KEY)?;
        let value = "over-tls-3e88";
        let body = json!({ "data": { "password": value } }).to_string();
        self.bao.must("POST", "secret/data/app/db", &[], &body);
        let store = bad(&self.bao.tls_url(), "token: { secret: keywheel/bao }");
        let store = with(&store, &format!("caFile: \"{}\"", self.ca));
        self.keywheel.apply(&(store + &reads()))?;
        wait_current(&self.keywheel, "test/reads", 1)?;
        Ok(value)
    }

    /// A token with one policy of this text.
    fn token(&self, name: &str, policy: &str) -> Result<String> {
        let body = json!({ "policy": policy }).to_string();
        self.bao
            .must("PUT", &format!("sys/policies/acl/{name}"), &[], &body);
        let body = json!({ "policies": [name] }).to_string();
        let made = self.bao.must("POST", "auth/token/create", &[], &body);
        let made: Value = serde_json::from_str(&made)?;
        Ok(made["auth"]["client_token"]
            .as_str()
            .context("no token")?
            .to_owned())
    }
}

fn by_file(keywheel: &Keywheel, name: &str, text: &str) -> Result<String> {
    let path = credential(keywheel, name, text)?;
    Ok(format!("token: {{ file: \"{}\" }}", path.display()))
}

/// A certificate authority, and the file with its certificate.
fn authority(
    keywheel: &Keywheel,
    name: &str,
) -> Result<(CertifiedIssuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let path = credential(keywheel, &format!("{name}.pem"), &issuer.pem())?;
    Ok((issuer, path.display().to_string()))
}

/// A secret that Keywheel follows.
fn reads() -> String {
    secret("test/reads", "bad", "app/db", "password", "")
}
