//! `kind: Store`, and where in a store a secret lies.
//!
//! Invariant: a credential is only ever named by where it is read; what looks like one is refused
//! without being quoted.

use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::secret::LOCAL_STORE;
use keywheel_core::store::{
    AWS, AwsAuth, AwsSpec, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, MAX_POLL,
    MAX_STORE_TEXT_BYTES, MAX_TIMEOUT, MIN_POLL, OldVersions, Source, StoreSpec, VaultAuth,
    VaultSpec,
};

use super::reader::{Faults, Fields, TextAt, named};
use super::tree::{Located, Node, position};
use super::{MIN_STORE_TIMEOUT, Manifest, Position};

const DEFAULT_MOUNT: &str = "secret";

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, StoreName::parse, faults));
    if let Some(name) = &name
        && name.as_str() == LOCAL_STORE
    {
        let message = "`local` is the store that is always there; give this one another name";
        faults.add(at, message.to_owned());
    }
    let fields = Fields::of(node, "spec", &["vault", "aws", "poll", "timeout"], faults)?;
    let poll = fields.span("poll", MIN_POLL, MAX_POLL, faults);
    let timeout = fields.span("timeout", MIN_STORE_TIMEOUT, MAX_TIMEOUT, faults);
    let backend = match (fields.find("vault"), fields.has("aws")) {
        (Some(vault), false) => read_vault(vault, faults).map(Backend::Vault),
        (None, true) if !fields.has("vault") => {
            read_aws(fields.find("aws"), faults).map(Backend::Aws)
        }
        _ => {
            let message = "`spec` takes either `vault` or `aws`; write for example `vault: { address: \"https://vault:8200\", auth: { token: { file: /etc/keywheel/vault-token } } }` or `aws: {}`";
            faults.add(fields.position, message.to_owned());
            None
        }
    };
    let spec = StoreSpec {
        backend: backend?,
        poll: poll.unwrap_or(DEFAULT_POLL),
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
    };
    Some(Manifest::Store {
        name: name?,
        spec,
        position: at,
    })
}

/// `source` of a secret.
pub(super) fn read_source(fields: &Fields<'_>, faults: &mut Faults) -> Option<Source> {
    let node = fields.find("source")?;
    let source = Fields::of(node, "source", &["path", "field"], faults)?;
    source.required("path", faults);
    let path = text(&source, "path", faults)?;
    let field = text(&source, "field", faults).unwrap_or_default();
    Some(Source { path, field })
}

/// A text within the limit, without control characters.
fn text(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    let (text, at) = fields.text(name, faults)?;
    if text.len() > MAX_STORE_TEXT_BYTES {
        let message = format!("`{name}` has more than {MAX_STORE_TEXT_BYTES} bytes");
        faults.add(at, message);
        return None;
    }
    if text.chars().any(char::is_control) {
        faults.add(at, format!("`{name}` holds a control character"));
        return None;
    }
    Some(text.to_owned())
}

/// The same, and not empty.
fn required(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    fields.required(name, faults)?;
    let found = text(fields, name, faults)?;
    if found.is_empty() {
        faults.add(fields.position_of(name), format!("`{name}` is empty"));
        return None;
    }
    Some(found)
}

/// An absolute path on the machine of store-sync.
pub(super) fn path(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    let found = text(fields, name, faults)?;
    if found.starts_with('/') {
        return Some(found);
    }
    let message =
        format!("`{name}` has to be an absolute path on the machine where store-sync runs");
    faults.add(fields.position_of(name), message);
    None
}

/// Words of a mount, without slashes around them.
fn mount(fields: &Fields<'_>, default: &str, faults: &mut Faults) -> Option<String> {
    if fields.find("mount").is_none() {
        return Some(default.to_owned());
    }
    let found = text(fields, "mount", faults)?;
    let found = found.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if found.split('/').all(plain) {
        return Some(found.to_owned());
    }
    let message =
        "`mount` is a path like `secret` or `team/secret`, without `.`, `..` or empty parts";
    faults.add(fields.position_of("mount"), message.to_owned());
    None
}

/// `https`, or `http` to this very machine; without a user, a query or a fragment.
fn address(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    let found = text(fields, name, faults)?;
    let fault = address_fault(&found);
    if let Some(fault) = fault {
        faults.add(fields.position_of(name), format!("`{name}` {fault}"));
        return None;
    }
    Some(found.trim_end_matches('/').to_owned())
}

/// The server of a store: an address, or `aws`.
pub(super) fn server(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    fields.find(name)?;
    match text(fields, name, faults)? {
        aws if aws == AWS => Some(aws),
        _ => address(fields, name, faults),
    }
}

fn address_fault(address: &str) -> Option<&'static str> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // Never quoted: what stands before the `@` may be a password.
        return Some("holds a user or password; leave that out and name credentials under `auth`");
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    if host.is_empty() || rest.contains(['?', '#', ' ']) {
        return Some("has to be like `https://vault.example:8200`");
    }
    let is_loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => None,
        "http" if is_loopback => None,
        "http" => Some(
            "is `http`, which is allowed to a loopback address only; write `https://…` and name the authority in `caFile`",
        ),
        _ => Some("has to begin with `https://`"),
    }
}

/// A credential: where it is read. A bare text is what people write when they mean the value.
fn credential(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<CredentialRef> {
    let node = fields.required(name, faults)?;
    if !matches!(node.value, Node::Map(_)) {
        let message = format!(
            "`{name}` looks like the credential itself; a manifest never holds one: write it to a file that only root reads and name that with `{name}: {{ file: /etc/keywheel/NAME }}`, or keep it with `keywheel secret put NAME --value-file FILE` and name that with `{name}: {{ secret: NAME }}`"
        );
        faults.add(position(node), message);
        return None;
    }
    let from = Fields::of(node, "the credential", &["file", "secret"], faults)?;
    match (from.find("file"), from.find("secret")) {
        (Some(_), None) => path(&from, "file", faults).map(CredentialRef::File),
        (None, Some(_)) => {
            let secret = from.named("secret", SecretName::parse, faults);
            secret.map(CredentialRef::Secret)
        }
        _ => {
            let message = format!("`{name}` takes either `file` or `secret`");
            faults.add(position(node), message);
            None
        }
    }
}

fn read_vault(node: &Located, faults: &mut Faults) -> Option<VaultSpec> {
    let known = [
        "address",
        "namespace",
        "mount",
        "caFile",
        "oldVersions",
        "auth",
    ];
    let fields = Fields::of(node, "vault", &known, faults)?;
    fields.required("address", faults);
    let address = address(&fields, "address", faults);
    let namespace = text(&fields, "namespace", faults).unwrap_or_default();
    let mount = mount(&fields, DEFAULT_MOUNT, faults);
    let ca_file = match fields.find("caFile") {
        Some(_) => path(&fields, "caFile", faults),
        None => Some(String::new()),
    };
    let old_versions = old_versions(&fields, faults);
    let auth = fields.required("auth", faults);
    let auth = auth.and_then(|node| read_vault_auth(node, faults));
    Some(VaultSpec {
        address: address?,
        namespace,
        mount: mount?,
        ca_file: ca_file?,
        old_versions,
        auth: auth?,
    })
}

fn old_versions(fields: &Fields<'_>, faults: &mut Faults) -> OldVersions {
    match text(fields, "oldVersions", faults).as_deref() {
        None | Some("destroy") => OldVersions::Destroy,
        Some("softDelete") => OldVersions::SoftDelete,
        Some(_) => {
            let message = "`oldVersions` is `destroy`, or `softDelete` for those who may want to bring one back";
            if let Some(node) = fields.find("oldVersions") {
                faults.add(position(node), message.to_owned());
            }
            OldVersions::Destroy
        }
    }
}

fn read_vault_auth(node: &Located, faults: &mut Faults) -> Option<VaultAuth> {
    let methods = ["token", "appRole", "cert", "jwt"];
    let fields = Fields::of(node, "auth", &methods, faults)?;
    let named: Vec<&str> = methods.into_iter().filter(|m| fields.has(m)).collect();
    let [method] = named.as_slice() else {
        let message = "`auth` takes one of `token`, `appRole`, `cert`, `jwt`; write for example `auth: { token: { file: /etc/keywheel/vault-token } }`";
        faults.add(fields.position, message.to_owned());
        return None;
    };
    if *method == "token" {
        let token = credential(&fields, "token", faults)?;
        return Some(VaultAuth::Token { token });
    }
    let node = fields.required(method, faults)?;
    match *method {
        "appRole" => {
            let known = ["mount", "roleId", "secretId", "wrapped"];
            let fields = Fields::of(node, "appRole", &known, faults)?;
            let role_id = required(&fields, "roleId", faults);
            let secret_id = credential(&fields, "secretId", faults);
            Some(VaultAuth::AppRole {
                mount: mount(&fields, "approle", faults)?,
                wrapped: fields.flag("wrapped", faults).unwrap_or(false),
                role_id: role_id?,
                secret_id: secret_id?,
            })
        }
        "cert" => {
            let known = ["mount", "role", "certificate", "key"];
            let fields = Fields::of(node, "cert", &known, faults)?;
            let certificate = credential(&fields, "certificate", faults);
            let key = credential(&fields, "key", faults);
            Some(VaultAuth::Cert {
                mount: mount(&fields, "cert", faults)?,
                role: text(&fields, "role", faults).unwrap_or_default(),
                certificate: certificate?,
                key: key?,
            })
        }
        _ => {
            let fields = Fields::of(node, "jwt", &["mount", "role", "token"], faults)?;
            let role = required(&fields, "role", faults);
            let token = credential(&fields, "token", faults);
            Some(VaultAuth::Jwt {
                mount: mount(&fields, "jwt", faults)?,
                role: role?,
                token: token?,
            })
        }
    }
}

/// `aws:` with nothing behind it means the standard chain for all of it.
fn read_aws(node: Option<&Located>, faults: &mut Faults) -> Option<AwsSpec> {
    let chain = |profile| AwsAuth::Chain { profile };
    let Some(node) = node else {
        return Some(AwsSpec {
            region: String::new(),
            endpoint: String::new(),
            auth: chain(String::new()),
        });
    };
    let fields = Fields::of(node, "aws", &["region", "endpoint", "auth"], faults)?;
    let region = text(&fields, "region", faults).unwrap_or_default();
    let endpoint = match fields.find("endpoint") {
        Some(_) => address(&fields, "endpoint", faults),
        None => Some(String::new()),
    };
    let auth = match fields.find("auth") {
        Some(node) => read_aws_auth(node, faults),
        None => Some(chain(String::new())),
    };
    Some(AwsSpec {
        region,
        endpoint: endpoint?,
        auth: auth?,
    })
}

fn read_aws_auth(node: &Located, faults: &mut Faults) -> Option<AwsAuth> {
    let fields = Fields::of(node, "auth", &["profile", "keys"], faults)?;
    match (fields.find("profile"), fields.find("keys")) {
        (Some(_), None) => {
            let profile = text(&fields, "profile", faults)?;
            Some(AwsAuth::Chain { profile })
        }
        (None, Some(node)) => {
            let known = ["accessKeyId", "secretAccessKey", "sessionToken"];
            let fields = Fields::of(node, "keys", &known, faults)?;
            let access_key_id = required(&fields, "accessKeyId", faults);
            let secret_access_key = credential(&fields, "secretAccessKey", faults);
            let session_token = match fields.find("sessionToken") {
                Some(_) => Some(credential(&fields, "sessionToken", faults)?),
                None => None,
            };
            Some(AwsAuth::Keys {
                access_key_id: access_key_id?,
                secret_access_key: secret_access_key?,
                session_token,
            })
        }
        _ => {
            let message =
                "`auth` takes either `profile` or `keys`; leave it out for the standard chain";
            faults.add(fields.position, message.to_owned());
            None
        }
    }
}
