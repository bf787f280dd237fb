//! `kind: Binding`.

use std::collections::BTreeSet;

use keywheel_core::binding::{
    Binding, DEFAULT_DIRECTORY, OnRevoke, Rejection, Reload, SetFile, Spec, Target,
};
use keywheel_core::id::{BindingId, SecretId};
use keywheel_core::name::{BindingName, Directory, EnvName, FileName, SecretName};

use super::reader::{Faults, Fields, TextAt, named, open_fields};
use super::reload::{default_restart, read_reload};
use super::scalar::parse_mode;
use super::selector::read_selector;
use super::tree::{Located, Node, position};
use super::{Manifest, Position};
use crate::template::{check_together, further, previous_in, secrets_of};

/// What a binding's `spec` has.
const FIELDS: [&str; 7] = [
    "secret",
    "containers",
    "file",
    "files",
    "env",
    "reload",
    "onRevoke",
];
/// Permission bits of a file that names none.
const DEFAULT_MODE: u32 = 0o400;
/// Highest user and group id; the one above means "none" to the kernel.
const MAX_UID: u32 = u32::MAX - 1;

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, BindingName::parse, faults));
    let fields = Fields::of(node, "spec", &FIELDS, faults)?;
    fields.required("secret", faults);
    let secret = fields.named("secret", SecretName::parse, faults);
    let selector = fields
        .required("containers", faults)
        .and_then(|node| read_selector(node, faults));
    let mut named = Named::default();
    let target = read_target(&fields, (secret.as_ref(), &mut named), faults);
    let previous = std::mem::take(&mut named.previous);
    let also = named.further(secret.as_ref(), faults);
    let is_env = matches!(target, Some(Target::Env { .. }));
    let reload = match fields.find("reload") {
        Some(node) => read_reload(node, faults),
        None if is_env => Some(default_restart()),
        None => Some(Reload::None),
    };
    let on_revoke = read_on_revoke(&fields, faults);
    let (name, selector, target, reload) = (name?, selector?, target?, reload?);
    let spec = Spec {
        secret: SecretId::default(),
        also: BTreeSet::new(),
        selector,
        target,
        reload,
        previous: BTreeSet::new(),
        on_revoke,
    };
    refuse_by_rule(&name, &spec, &fields, faults);
    let Spec {
        selector,
        target,
        reload,
        ..
    } = spec;
    Some(Manifest::Binding {
        name,
        secret: secret?,
        also,
        selector,
        target,
        reload,
        previous,
        on_revoke,
        position: at,
    })
}

/// What befalls a container that loses a revoked value.
fn read_on_revoke(fields: &Fields<'_>, faults: &mut Faults) -> OnRevoke {
    let Some((word, at)) = fields.text("onRevoke", faults) else {
        return OnRevoke::default();
    };
    OnRevoke::parse(word).unwrap_or_else(|| {
        let known = OnRevoke::WORDS.map(|(word, _)| format!("`{word}`"));
        let found = crate::leaf::shorten(word);
        let known = known.join(", ");
        faults.add(
            at,
            format!("onRevoke `{found}` is not known; write one of {known}"),
        );
        OnRevoke::default()
    })
}

/// Asks the core's own rule, so that all faults come at once and in one wording.
fn refuse_by_rule(name: &BindingName, spec: &Spec, fields: &Fields<'_>, faults: &mut Faults) {
    let Err(rejection) = Binding::new(BindingId::default(), name.clone()).decide_bind(spec) else {
        return;
    };
    let field = match rejection {
        Rejection::EnvNeedsRestart { .. } => "reload",
        Rejection::VariableStays { .. } => "onRevoke",
        _ => "containers",
    };
    faults.add(fields.position_of(field), rejection.to_string());
}

/// The secrets that a binding's templates name, and where the first of them begins.
#[derive(Default)]
struct Named {
    secrets: BTreeSet<SecretName>,
    /// Those whose version before the current one they name.
    previous: BTreeSet<SecretName>,
    at: Option<Position>,
    is_faulty: bool,
}

impl Named {
    fn read(
        &mut self,
        (template, at): (&str, Position),
        own: Option<&SecretName>,
        faults: &mut Faults,
    ) {
        self.at.get_or_insert(at);
        match secrets_of(template, own.map_or("NAME", SecretName::as_str)) {
            Ok(secrets) => {
                self.secrets.extend(secrets);
                self.previous.extend(previous_in(template));
            }
            Err(fault) => {
                self.is_faulty = true;
                faults.add(at, fault.to_string());
            }
        }
    }

    /// Those beside the binding's own. What is named by a faulty template is not known.
    fn further(self, own: Option<&SecretName>, faults: &mut Faults) -> BTreeSet<SecretName> {
        let (Some(own), Some(at), false) = (own, self.at, self.is_faulty) else {
            return BTreeSet::new();
        };
        further(self.secrets, own).unwrap_or_else(|fault| {
            faults.add(at, fault);
            BTreeSet::new()
        })
    }
}

/// A binding's own secret, if it could be read, and those that its templates name.
type Secrets<'a> = (Option<&'a SecretName>, &'a mut Named);

fn read_target(fields: &Fields<'_>, secrets: Secrets<'_>, faults: &mut Faults) -> Option<Target> {
    let one = fields.find("file");
    match (one, fields.find("files"), fields.find("env")) {
        (Some(file), None, None) => read_file(file, secrets, faults),
        (None, Some(files), None) => read_files(files, secrets, faults),
        (None, None, Some(env)) => {
            let fields = Fields::of(env, "env", &["name"], faults)?;
            fields.required("name", faults)?;
            Some(Target::Env {
                name: fields.named("name", EnvName::parse, faults)?,
            })
        }
        (None, None, None) => {
            let message = "`file`, `files` or `env` is missing in spec; write for example `file: { name: db_password }`";
            faults.add(fields.position, message.to_owned());
            None
        }
        (_, files, env) => {
            let second = if env.is_some() { "env" } else { "files" };
            let first = match (one, files) {
                (None, Some(_)) => "files",
                _ => "file",
            };
            let message =
                format!("`{first}` and `{second}` do not go together; write one binding for each");
            faults.add(fields.position_of(second), message);
            None
        }
    }
}

fn read_file(node: &Located, (own, named): Secrets<'_>, faults: &mut Faults) -> Option<Target> {
    let fields = Fields::of(
        node,
        "file",
        &["directory", "name", "uid", "gid", "mode", "template"],
        faults,
    )?;
    let place = read_place(&fields, faults);
    let template = fields.text("template", faults).map(|(template, at)| {
        named.read((template, at), own, faults);
        template.to_owned()
    });
    let place = place?;
    Some(Target::File {
        directory: place.directory,
        name: place.name,
        uid: place.uid,
        gid: place.gid,
        mode: place.mode,
        template,
    })
}

fn read_files(node: &Located, (own, secrets): Secrets<'_>, faults: &mut Faults) -> Option<Target> {
    let fields = Fields::of(
        node,
        "files",
        &["directory", "name", "uid", "gid", "mode", "templates"],
        faults,
    )?;
    let place = read_place(&fields, faults);
    let node = fields.required("templates", faults)?;
    let templates = open_fields(node, "templates", faults)?.texts(faults);
    if matches!(&node.value, Node::Map(entries) if entries.len() != templates.len()) {
        return None;
    }
    let texts = templates.iter().map(|(_, (template, _))| *template);
    if let Err(fault) = check_together(texts) {
        faults.add(position(node), fault);
        return None;
    }
    let mut files = Vec::with_capacity(templates.len());
    for (name, (template, at)) in templates {
        secrets.read((template, at), own, faults);
        let name = named(name, FileName::parse, faults);
        let template = template.to_owned();
        files.extend(name.map(|name| SetFile { name, template }));
    }
    // Their order in the text says nothing.
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let place = place?;
    Some(Target::Files {
        directory: place.directory,
        name: place.name,
        uid: place.uid,
        gid: place.gid,
        mode: place.mode,
        files,
    })
}

/// Where a file or a directory of files is, and whose it is.
struct PlaceOf {
    directory: Directory,
    name: FileName,
    uid: u32,
    gid: u32,
    mode: u32,
}

fn read_place(fields: &Fields<'_>, faults: &mut Faults) -> Option<PlaceOf> {
    fields.required("name", faults);
    let name = fields.named("name", FileName::parse, faults);
    let directory = match fields.find("directory") {
        Some(_) => fields.named("directory", Directory::parse, faults),
        None => Directory::parse(DEFAULT_DIRECTORY).ok(),
    };
    let uid = fields.number("uid", 0, MAX_UID, faults).unwrap_or(0);
    let gid = fields.number("gid", 0, MAX_UID, faults).unwrap_or(0);
    let mode = read_mode(fields, faults);
    Some(PlaceOf {
        directory: directory?,
        name: name?,
        uid,
        gid,
        mode,
    })
}

fn read_mode(fields: &Fields<'_>, faults: &mut Faults) -> u32 {
    let Some(node) = fields.find("mode") else {
        return DEFAULT_MODE;
    };
    let mode = match &node.value {
        Node::Text(text) => parse_mode(text),
        Node::Integer(_) | Node::Float => Err(
            "`mode` has to be in quotes, like mode: \"0400\": without them YAML reads a number, and which one depends on its version".to_owned(),
        ),
        other => Err(format!("`mode` has to be octal digits in quotes, like \"0400\", not {}", other.words())),
    };
    mode.unwrap_or_else(|fault| {
        faults.add(position(node), fault);
        DEFAULT_MODE
    })
}
