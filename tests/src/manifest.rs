//! Manifests for tests, written as a person would.

use std::fmt::Write as _;

/// Which containers a binding names.
#[derive(Clone, Debug)]
pub struct Selector<'a> {
    /// The host's name from `keywheel status`.
    pub host: &'a str,
    /// The image's config digest.
    pub image: &'a str,
    /// The value of the label `app`.
    pub app: &'a str,
}

/// A secret of the local store with a generated value; `more` is added to its
/// spec, one line each.
#[must_use]
pub fn secret(name: &str, more: &[&str]) -> String {
    let mut text = format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  store: local\n"
    );
    if !more.iter().any(|line| line.starts_with("generator")) {
        text.push_str("  generator: { length: 32 }\n");
    }
    for line in more {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("---\n");
    text
}

/// A binding as a file; `reload` is the YAML of the field.
#[must_use]
pub fn file_binding(
    name: &str,
    secret: &str,
    on: &Selector<'_>,
    file: &str,
    reload: &str,
) -> String {
    binding(
        name,
        secret,
        on,
        &format!("file: {{ name: {file}, mode: \"0400\" }}"),
        reload,
    )
}

/// A binding as a file that is made by a template.
#[must_use]
pub fn template_binding(
    name: &str,
    secret: &str,
    on: &Selector<'_>,
    file: &str,
    template: &str,
) -> String {
    told_template_binding(name, secret, on, file, template, "none")
}

/// The same, where the container is told; `reload` is the YAML of the field.
#[must_use]
pub fn told_template_binding(
    name: &str,
    secret: &str,
    on: &Selector<'_>,
    file: &str,
    template: &str,
    reload: &str,
) -> String {
    // Rust's quotes and escapes are YAML's, too, for what stands in these templates.
    let target = format!("file: {{ name: {file}, mode: \"0400\", template: {template:?} }}");
    binding(name, secret, on, &target, reload)
}

/// A binding as several files that change together, by name and template.
#[must_use]
pub fn files_binding(
    name: &str,
    secret: &str,
    on: &Selector<'_>,
    directory: &str,
    templates: &[(&str, &str)],
) -> String {
    let each = templates.iter();
    let each = each.map(|(file, template)| format!("{file}: {template:?}"));
    let templates = each.collect::<Vec<_>>().join(", ");
    let target =
        format!("files: {{ name: {directory}, mode: \"0400\", templates: {{ {templates} }} }}");
    binding(name, secret, on, &target, "none")
}

/// A binding as an environment variable.
#[must_use]
pub fn env_binding(
    name: &str,
    secret: &str,
    on: &Selector<'_>,
    variable: &str,
    reload: &str,
) -> String {
    binding(
        name,
        secret,
        on,
        &format!("env: {{ name: {variable} }}"),
        reload,
    )
}

fn binding(name: &str, secret: &str, on: &Selector<'_>, target: &str, reload: &str) -> String {
    let Selector { host, image, app } = on;
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: {{ name: {name} }}\nspec:\n  secret: {secret}\n  \
         containers: {{ host: \"{host}\", image: \"{image}\", labels: {{ app: {app} }} }}\n  {target}\n  \
         reload: {reload}\n---\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_names_all_it_was_given() {
        let on = Selector {
            host: "h",
            image: "sha256:0",
            app: "a",
        };
        let text = file_binding("b", "s/x", &on, "f", "{ signal: HUP }");
        for part in [
            "host: \"h\"",
            "image: \"sha256:0\"",
            "app: a",
            "name: f",
            "signal: HUP",
            "secret: s/x",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_secret_has_one_generator() {
        assert_eq!(
            secret("a", &["generator: { length: 9 }"])
                .matches("generator")
                .count(),
            1
        );
        assert_eq!(secret("a", &[]).matches("generator").count(), 1);
    }
}
