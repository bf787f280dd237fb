//! The requests that we make to AWS Secrets Manager, each with what it means for us.
//!
//! Owns how they are sent: only before the deadline, and once more with newer credentials when the
//! session had ended. It decides nothing about versions; [`super`] does.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use keywheel_core::name::StoreName;
use keywheel_engine::port::store::{Credentials, Listed, ListedEntry};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::connection::Connection;
use super::failure::{Failure, Reason, failure};

/// The label of the version that is in force.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// The label of the version that a rotation makes.
pub(super) const PENDING: &str = "AWSPENDING";
/// How the KMS key ends that AWS uses where nobody names one; it needs no right.
const AWS_KEY: &str = "alias/aws/secretsmanager";
/// Names in one page; AWS gives at most a hundred.
const PAGE: i32 = 100;

/// Versions of one secret and their labels.
pub(super) struct Versions {
    labels: BTreeMap<String, Vec<String>>,
    /// It is marked for deletion, and nothing can be read or written.
    pub(super) deleted: bool,
    /// AWS rotates it by itself.
    pub(super) rotates: bool,
    /// Its full name.
    pub(super) arn: String,
    /// The KMS key of one's own that it is encrypted with; empty for AWS's.
    pub(super) key: String,
}

impl Versions {
    /// The version in force; an error when there are several.
    pub(super) fn current(&self) -> Result<Option<&str>, PortError> {
        let mut holders = self.holders(CURRENT);
        match (holders.next(), holders.next()) {
            (holder, None) => Ok(holder),
            (_, Some(_)) => {
                let text = format!("two versions hold {CURRENT}, which AWS rules out");
                Err(PortError::new(ErrorKind::Corrupt, text))
            }
        }
    }

    /// Versions with this label; AWS lets one have it.
    pub(super) fn holders(&self, label: &str) -> impl Iterator<Item = &str> {
        let holds = move |labels: &[String]| labels.iter().any(|other| other == label);
        let all = self.labels.iter();
        all.filter(move |(_, labels)| holds(labels))
            .map(|(version, _)| version.as_str())
    }

    /// The labels of a version; none when it is unknown or deprecated.
    pub(super) fn labels_of(&self, version: &str) -> &[String] {
        self.labels.get(version).map_or(&[], Vec::as_slice)
    }

    /// Whether this version has this label.
    pub(super) fn is(&self, version: &str, label: &str) -> bool {
        self.labels_of(version).iter().any(|other| other == label)
    }
}

/// Requests of one call of the port.
pub(super) struct Requests<'a> {
    pub(super) name: &'a StoreName,
    pub(super) connection: &'a Connection,
    pub(super) credentials: &'a dyn Credentials,
    pub(super) until: &'a Until,
}

impl Requests<'_> {
    /// What is there, without a value; `None` when there is no such secret.
    pub(super) async fn describe(&self, path: &str) -> Result<Option<Versions>, Failure> {
        let what = format!("looking at `{path}`");
        let ask = |client: Client| client.describe_secret().secret_id(path).send();
        let described = match self.send(&what, ask).await {
            Err(failure) if failure.reason == Reason::Missing => return Ok(None),
            described => described?,
        };
        Ok(Some(Versions {
            deleted: described.deleted_date().is_some(),
            rotates: described.rotation_enabled().unwrap_or(false),
            arn: described.arn().unwrap_or_default().to_owned(),
            key: described
                .kms_key_id()
                .filter(|key| !key.ends_with(AWS_KEY))
                .unwrap_or_default()
                .to_owned(),
            labels: described
                .version_ids_to_stages
                .unwrap_or_default()
                .into_iter()
                .collect(),
        }))
    }

    /// The whole value of a version.
    pub(super) async fn value(&self, path: &str, version: &str) -> Result<SecretBytes, Failure> {
        let what = format!("fetching version {version} of `{path}`");
        let ask = |client: Client| {
            let request = client.get_secret_value();
            request.secret_id(path).version_id(version).send()
        };
        let fetched = self.send(&what, ask).await?;
        let bytes = match (fetched.secret_string, fetched.secret_binary) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(blob)) => blob.into_inner(),
            (None, None) => {
                let text = format!("store `{}`: {what}: it has no value", self.name);
                return Err(PortError::new(ErrorKind::NotFound, text).into());
            }
        };
        SecretBytes::value(bytes).map_err(|error| {
            let text = format!("store `{}`: {what}: {error}", self.name);
            PortError::new(ErrorKind::Denied, text).into()
        })
    }

    /// Makes the secret with this value in force; gives the version.
    pub(super) async fn create(
        &self,
        path: &str,
        token: &str,
        value: &SecretBytes,
    ) -> Result<String, Failure> {
        let what = format!("creating `{path}`");
        let points = &self.connection.points;
        points.pass("store.aws.before_create").await?;
        let ask = |client: Client| {
            let (text, blob) = payload(value);
            let request = client.create_secret().name(path);
            request
                .client_request_token(token)
                .set_secret_string(text)
                .set_secret_binary(blob)
                .send()
        };
        let made = self.send(&what, ask).await?;
        points.pass("store.aws.after_create").await?;
        Ok(made.version_id.unwrap_or_else(|| token.to_owned()))
    }

    /// Puts a value beside the one in force, labelled as pending.
    pub(super) async fn put_pending(
        &self,
        path: &str,
        token: &str,
        value: &SecretBytes,
    ) -> Result<(), Failure> {
        let what = format!("putting version {token} of `{path}`");
        let points = &self.connection.points;
        points.pass("store.aws.before_put").await?;
        let ask = |client: Client| {
            let (text, blob) = payload(value);
            let request = client.put_secret_value().secret_id(path);
            request
                .client_request_token(token)
                .version_stages(PENDING)
                .set_secret_string(text)
                .set_secret_binary(blob)
                .send()
        };
        self.send(&what, ask).await?;
        Ok(points.pass("store.aws.after_put").await?)
    }

    /// Puts a version without a value, which AWS refuses to everybody: to whom it may not be put, for
    /// that reason.
    pub(super) async fn put_nothing(&self, path: &str, token: &str) -> Result<(), Failure> {
        let what = format!("putting nothing at `{path}`");
        let ask = |client: Client| {
            let request = client.put_secret_value().secret_id(path);
            let request = request.client_request_token(token);
            request.version_stages(PENDING).send()
        };
        self.send(&what, ask).await.map(drop)
    }

    /// Moves a label; refused with [`Reason::Label`] when it is not at `from`.
    pub(super) async fn relabel(
        &self,
        path: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), Failure> {
        let what = format!("moving {label} of `{path}`");
        let points = &self.connection.points;
        let [before, after] = match to {
            Some(_) => ["store.aws.before_current", "store.aws.after_current"],
            None => ["store.aws.before_unlabel", "store.aws.after_unlabel"],
        };
        points.pass(before).await?;
        let ask = |client: Client| {
            let request = client.update_secret_version_stage().secret_id(path);
            request
                .version_stage(label)
                .set_remove_from_version_id(from.map(str::to_owned))
                .set_move_to_version_id(to.map(str::to_owned))
                .send()
        };
        self.send(&what, ask).await?;
        Ok(points.pass(after).await?)
    }

    /// A page of names that begin with this.
    pub(super) async fn names(
        &self,
        prefix: &str,
        page: Option<&str>,
        at_most: Option<i32>,
    ) -> Result<Listed, Failure> {
        let filter = (!prefix.is_empty()).then(|| {
            let filter = Filter::builder().key(FilterNameStringType::Name);
            vec![filter.values(prefix).build()]
        });
        let ask = |client: Client| {
            let request = client.list_secrets().max_results(at_most.unwrap_or(PAGE));
            request
                .set_filters(filter.clone())
                .set_next_token(page.map(str::to_owned))
                .send()
        };
        let listed = self.send("listing names", ask).await?;
        let names = listed.secret_list.unwrap_or_default().into_iter();
        let entries = names
            .filter_map(|entry| entry.name)
            .filter(|name| name.starts_with(prefix));
        let entry = |path| ListedEntry {
            path,
            fields: Vec::new(),
        };
        Ok(Listed {
            entries: entries.map(entry).collect(),
            next: listed.next_token.filter(|next| !next.is_empty()),
        })
    }

    async fn send<T, E, F>(&self, what: &str, ask: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let what = format!("store `{}`: {what}", self.name);
        match self.send_once(&what, &ask).await {
            Err(failure) if failure.reason == Reason::Expired => {
                self.connection.forget().await;
                self.send_once(&what, &ask).await
            }
            answer => answer,
        }
    }

    async fn send_once<T, E, F>(&self, what: &str, ask: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.until.check()?;
        let client = self.connection.client(self.credentials, self.until).await?;
        let answer = Box::pin(ask(client)).await;
        answer.map_err(|error| failure(what, &error))
    }
}

/// Text where it is text, as people and AWS's own tools expect; bytes otherwise. The SDK keeps its
/// copy until the request is done.
fn payload(value: &SecretBytes) -> (Option<String>, Option<Blob>) {
    // EXPOSE: the value goes to its store.
    let bytes = value.expose();
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(Blob::new(bytes))),
    }
}
