//! `containers` of a binding: which containers it means.
//!
//! Invariant: a part that was written and cannot be read leaves no selector at all, since one without it would mean
//! more containers than its author did.

use std::collections::BTreeMap;

use keywheel_core::binding::{ImageSelector, Selector, user_of};
use keywheel_core::name::HostName;

use super::reader::{Faults, Fields, open_fields};
use super::tree::{Located, position};
use super::{
    MAX_CONTAINER_NAME_BYTES, MAX_IMAGE_BYTES, MAX_LABEL_BYTES, MAX_LABELS, MAX_USER_BYTES,
};

/// What `containers` has.
const FIELDS: [&str; 7] = [
    "host",
    "image",
    "labels",
    "name",
    "project",
    "user",
    "insecureSelector",
];
/// Where Compose, and whoever does as it does, keeps a container's project.
const PROJECT_LABEL: &str = "com.docker.compose.project";

pub(super) fn read_selector(node: &Located, faults: &mut Faults) -> Option<Selector> {
    let fields = Fields::of(node, "containers", &FIELDS, faults)?;
    let host = fields.named("host", HostName::parse, faults);
    let image = fields.named("image", parse_image, faults);
    let name = fields.named("name", parse_name, faults);
    let user = fields.named("user", parse_user, faults);
    let mut labels = fields
        .find("labels")
        .map(|node| read_labels(node, faults))
        .unwrap_or_default();
    let project = fields.named("project", parse_project, faults);
    let insecure = fields.flag("insecureSelector", faults).unwrap_or(false);
    let read = [
        ("host", host.is_some()),
        ("image", image.is_some()),
        ("name", name.is_some()),
        ("user", user.is_some()),
        ("project", project.is_some()),
    ];
    let is_lost = |(name, is_read): (&str, bool)| fields.find(name).is_some() && !is_read;
    if read.into_iter().any(is_lost) {
        return None;
    }
    if let Some(project) = project {
        let other = labels.insert(PROJECT_LABEL.to_owned(), project.clone());
        if other.is_some_and(|other| other != project) {
            let text = format!(
                "`project` and the label `{PROJECT_LABEL}` ask for two projects; write one of them"
            );
            faults.add(fields.position_of("project"), text);
        }
    }
    Some(Selector {
        host,
        image,
        labels,
        insecure,
        container: None,
        name,
        user,
    })
}

fn parse_image(text: &str) -> Result<ImageSelector, String> {
    let shown = crate::leaf::shorten(text);
    if let Some(digest) = text.strip_prefix("sha256:") {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digest.len() == 64 && digest.bytes().all(digits) {
            return Ok(ImageSelector::Digest(text.to_owned()));
        }
        return Err(format!(
            "`{shown}` is not an image's config digest: `sha256:` and 64 lower-case hexadecimal digits; `docker image inspect --format '{{{{.Id}}}}' IMAGE` prints it"
        ));
    }
    if text.is_empty() || text.len() > MAX_IMAGE_BYTES {
        return Err(format!("an image name has 1 to {MAX_IMAGE_BYTES} bytes"));
    }
    let byte =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    if !text.bytes().all(byte) {
        return Err(format!(
            "`{shown}` is not an image: write its config digest `sha256:…` or its repository name"
        ));
    }
    Ok(ImageSelector::Repository(text.to_owned()))
}

/// A name as engines take one, with `*` behind it where only its beginning is meant.
fn parse_name(text: &str) -> Result<String, String> {
    let plain = text.strip_suffix('*').unwrap_or(text);
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let begins = plain
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !begins || text.len() > MAX_CONTAINER_NAME_BYTES || !plain.bytes().all(byte) {
        let shown = crate::leaf::shorten(text);
        return Err(format!(
            "`{shown}` is no name of a container: 1 to {MAX_CONTAINER_NAME_BYTES} letters, digits, `_`, `.` and `-`, and `*` at its end for all that begin so"
        ));
    }
    Ok(text.to_owned())
}

/// A user as a container is configured with one. A group says nothing of who it is, so none is written.
fn parse_user(text: &str) -> Result<String, String> {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if text.is_empty() || text.len() > MAX_USER_BYTES || !text.bytes().all(byte) {
        let shown = crate::leaf::shorten(text);
        return Err(format!(
            "`{shown}` is no user: write its name or number in quotes as the container is configured with it, without a group; `docker inspect -f '{{{{.Config.User}}}}' CONTAINER` prints that, and nothing for root, which is `0` here"
        ));
    }
    Ok(user_of(text).to_owned())
}

fn parse_project(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_LABEL_BYTES {
        return Err(format!("a project's name has 1 to {MAX_LABEL_BYTES} bytes"));
    }
    Ok(text.to_owned())
}

fn read_labels(node: &Located, faults: &mut Faults) -> BTreeMap<String, String> {
    let Some(fields) = open_fields(node, "labels", faults) else {
        return BTreeMap::new();
    };
    let labels = fields.texts(faults);
    if labels.len() > MAX_LABELS {
        faults.add(
            position(node),
            format!("there are more than {MAX_LABELS} labels; select by fewer"),
        );
    }
    let too_long = labels
        .iter()
        .flat_map(|(key, value)| [key, value])
        .find(|(text, _)| text.len() > MAX_LABEL_BYTES);
    if let Some((_, at)) = too_long {
        faults.add(
            *at,
            format!("a label's key and value have at most {MAX_LABEL_BYTES} bytes each"),
        );
    }
    labels
        .into_iter()
        .map(|((key, _), (value, _))| (key.to_owned(), value.to_owned()))
        .collect()
}
