//! `keywheel import`: manifests for what lies in a store already, on stdout, for a person to read.
//!
//! It runs where the operator is, with the operator's own credentials: rights to list are not for
//! store-sync. Invariants: names are asked for, never values; the pages are bounded; no Keywheel is
//! needed, and nothing is changed anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::name::StoreName;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore,
    OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::store::{Connect as _, Credentials, Store};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_schemas::config::DEFAULT_STORE_CREDENTIALS_DIR;
use keywheel_schemas::manifest::proposal::{MAX_PROPOSED, Proposal, TooMany, propose};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::Connector;
use serde_json::json;

use super::input;
use crate::args::{ImportAwsArgs, ImportVaultArgs, ImportVerb};
use crate::exit::{Exit, Failure};
use crate::output::{Screen, tame};

/// Most pages that a store is asked for.
const MAX_PAGES: usize = 1000;
/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(120);
/// Most names that are told one by one beside the proposal.
const MAX_TOLD: usize = 20;

/// Prints the proposal.
pub(super) async fn run(screen: Screen, verb: &ImportVerb) -> Result<(), Failure> {
    let (asked, declared, own, prefix) = match verb {
        ImportVerb::Aws(args) => of_aws(args).await?,
        ImportVerb::Vault(args) => of_vault(screen, args)?,
    };
    let clock = Arc::new(SystemClock::new());
    let until = Until::new(clock.now().plus(LONGEST), clock.clone());
    let connector = Connector::new(clock, Arc::new(OsEntropy));
    let store = connector
        .connect(&asked.name, &asked.spec, Arc::new(Own(own)))
        .map_err(|error| refused(&error))?;
    let needs_field = matches!(declared.spec.backend, Backend::Vault(_));
    let (places, without) = places(&*store, prefix, needs_field, &until).await?;
    let mut proposal = propose(&declared, &places).map_err(too_many)?;
    proposal.left_out.extend(without);
    show(screen, &declared.name, prefix, &proposal)
}

type Case<'a> = (NamedStore, NamedStore, Option<SecretBytes>, &'a str);

async fn of_aws(args: &ImportAwsArgs) -> Result<Case<'_>, Failure> {
    let spec = |region: &str, profile: &str| AwsSpec {
        region: region.to_owned(),
        endpoint: args.endpoint.clone(),
        auth: AwsAuth::Chain {
            profile: profile.to_owned(),
        },
    };
    let asked = spec(&args.region, &args.profile);
    // store-sync's machine may have another region by default.
    let region = keywheel_stores::aws::region(&asked).await;
    let region = region.map_err(|error| refused(&error))?;
    let name = name(&args.store)?;
    let asked = named(&name, Backend::Aws(asked));
    let declared = named(&name, Backend::Aws(spec(&region, "")));
    Ok((asked, declared, None, &args.common.path))
}

fn of_vault(screen: Screen, args: &ImportVaultArgs) -> Result<Case<'_>, Failure> {
    let name = name(&args.store)?;
    let ca_file = match &args.ca_file {
        None => String::new(),
        Some(file) => std::path::absolute(file)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "name another file"))?
            .to_string_lossy()
            .into_owned(),
    };
    let token = args.token_file.clone().map_or_else(own_token, Ok)?;
    let own = input::value(screen, &token)?;
    let spec = |file: PathBuf| {
        let token = CredentialRef::File(file.to_string_lossy().into_owned());
        Backend::Vault(VaultSpec {
            address: args.server.trim_end_matches('/').to_owned(),
            namespace: args.namespace.clone(),
            mount: args.mount.trim_matches('/').to_owned(),
            ca_file: ca_file.clone(),
            old_versions: OldVersions::Destroy,
            auth: VaultAuth::Token { token },
        })
    };
    let asked = named(&name, spec(token));
    let usual = || Path::new(DEFAULT_STORE_CREDENTIALS_DIR).join(format!("{name}-token"));
    let declared = args.store_token_file.clone().unwrap_or_else(usual);
    let declared = named(&name, spec(declared));
    Ok((asked, declared, Some(own), &args.common.path))
}

fn own_token() -> Result<PathBuf, Failure> {
    let home = keywheel_daemon::env::read("HOME").ok().flatten();
    let home = home.map(|home| Path::new(&home).join(".vault-token"));
    home.ok_or_else(|| {
        let what = "there is no home directory with a .vault-token";
        Failure::new(
            Exit::Usage,
            what,
            "name your token's file with --token-file",
        )
    })
}

fn name(text: &str) -> Result<StoreName, Failure> {
    let name = StoreName::parse(text);
    name.map_err(|error| Failure::new(Exit::Usage, error.to_string(), "give --store another name"))
}

fn named(name: &StoreName, backend: Backend) -> NamedStore {
    NamedStore {
        name: name.clone(),
        spec: StoreSpec {
            backend,
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    }
}

/// The operator's own credential, read once.
struct Own(Option<SecretBytes>);

#[async_trait]
impl Credentials for Own {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        let own = self.0.as_ref().ok_or_else(|| {
            PortError::new(
                ErrorKind::NotFound,
                "no credential was given on this command line",
            )
        })?;
        // EXPOSE: the line break at its end is no part of it; the copy is our kind of memory too.
        let bytes = own.expose().trim_ascii_end();
        Ok(SecretBytes::copied(bytes))
    }
}

/// All places below the prefix, and those whose fields could not be listed.
async fn places(
    store: &dyn Store,
    prefix: &str,
    needs_field: bool,
    until: &Until,
) -> Result<(Vec<Source>, Vec<Source>), Failure> {
    let (mut places, mut without, mut page) = (Vec::new(), Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let listed = store.list(prefix, page.as_deref(), until).await;
        let listed = listed.map_err(|error| refused(&error))?;
        for entry in listed.entries {
            let place = |field| Source {
                path: entry.path.clone(),
                field,
            };
            match (entry.fields.is_empty(), needs_field) {
                (true, true) => without.push(place(String::new())),
                (true, false) => places.push(place(String::new())),
                (false, _) => places.extend(entry.fields.iter().cloned().map(place)),
            }
        }
        if places.len() > MAX_PROPOSED {
            return Err(too_many(TooMany));
        }
        page = listed.next;
        if page.is_none() {
            return Ok((places, without));
        }
    }
    let what = format!("the list did not end after {MAX_PAGES} pages");
    Err(Failure::new(
        Exit::Unavailable,
        what,
        "give a longer --path",
    ))
}

fn show(
    screen: Screen,
    store: &StoreName,
    prefix: &str,
    proposal: &Proposal,
) -> Result<(), Failure> {
    let place = |place: &Source| json!({ "path": place.path, "field": place.field });
    if proposal.secrets == 0 && proposal.left_out.is_empty() {
        let what = format!("store `{store}` has no secret below `{}`", tame(prefix));
        return Err(Failure::new(
            Exit::NotFound,
            what,
            "check --path, and that your credentials may list there",
        ));
    }
    let renamed = proposal.renamed.iter();
    let renamed: Vec<_> = renamed
        .map(|(at, name)| json!({ "path": at.path, "field": at.field, "name": name.as_str() }))
        .collect();
    let left_out: Vec<_> = proposal.left_out.iter().map(place).collect();
    let answer = json!({
        "manifests": proposal.text,
        "secrets": proposal.secrets,
        "renamed": renamed,
        "leftOut": left_out,
    });
    screen.show(&answer, |_| proposal.text.clone())?;
    if !screen.is_json() {
        tell(screen, proposal);
    }
    Ok(())
}

/// What a person should know of it, beside the text itself.
fn tell(screen: Screen, proposal: &Proposal) {
    let words = |place: &Source| match place.field.as_str() {
        "" => tame(&place.path),
        field => format!("{} field {}", tame(&place.path), tame(field)),
    };
    let renamed = proposal.renamed.iter();
    let renamed = renamed.map(|(place, name)| format!("renamed: {} is {name}", words(place)));
    let left_out = proposal.left_out.iter();
    let left_out = left_out.map(|place| {
        format!(
            "left out: {}: no field that could be listed, or no text",
            words(place)
        )
    });
    let all: Vec<String> = renamed.chain(left_out).collect();
    for line in all.iter().take(MAX_TOLD) {
        screen.note(line);
    }
    if all.len() > MAX_TOLD {
        screen.note(&format!("… and {} more", all.len() - MAX_TOLD));
    }
    screen.note(&format!(
        "{} secrets proposed, no value was read",
        proposal.secrets
    ));
}

fn too_many(error: TooMany) -> Failure {
    Failure::new(Exit::Input, error.to_string(), "give a longer --path")
}

fn refused(error: &PortError) -> Failure {
    let exit = match error.kind {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Denied => Exit::Denied,
        ErrorKind::Conflict => Exit::Conflict,
        ErrorKind::Unavailable => Exit::Unavailable,
        ErrorKind::Corrupt => Exit::Unexpected,
    };
    let next = "check the address and your own credentials for that store, then repeat";
    Failure::new(exit, keywheel_daemon::chain(error), next)
}
