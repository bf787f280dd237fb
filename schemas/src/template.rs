//! Templates of secret files: text with places for a secret's value, in a small part of Jinja's syntax.
//!
//! Owns the grammar, for who applies a binding and for who fills one in; it never sees a value.
//! Invariants: what is not known is a fault with its line, never passed through; there is nothing that
//! loops, calls out or names another template, so what a template can become is bounded by its length
//! and the value's.
//!
//! ```text
//! {{ secret("prod/db") }}              the value
//! {{ secret("prod/db").user }}         a field of its JSON object; also ["user"], and fields of fields
//! {{ secret("prod/api") }}             another secret's value: all of them, or nothing, are given out
//! {{ secret("prod/db") | urlencode }}  percent-encoded, for a part of a URL
//! {{ secret("prod/db", version="previous") }}
//!                                      the version before the current one; empty while there is none
//! {{ "{{" }}                           the text itself
//! {# left out #}
//! ```

use std::collections::BTreeSet;
use std::fmt;

use keywheel_core::name::SecretName;

/// Longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 16 << 10;
/// Most files that one binding makes by templates.
pub const MAX_FILES: usize = 32;
/// Most places in one template, comments among them.
pub const MAX_PLACES: usize = 256;
/// Most secrets that the templates of one binding name together, its own among them.
pub const MAX_SECRETS: usize = 8;
/// How deep a field may lie.
pub const MAX_FIELD_DEPTH: usize = 8;

/// A part of a template, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// As it stands.
    Text(&'t str),
    /// A secret's value, or what lies in it.
    Place(Place<'t>),
}

/// A place for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'t> {
    /// Name of the secret.
    pub secret: &'t str,
    /// The way into its JSON object; empty for the whole value.
    pub fields: Vec<&'t str>,
    /// Whether it is percent-encoded.
    pub is_encoded: bool,
    /// Its line in the template, from 1.
    pub line: usize,
    /// Whether the version before the current one is meant. While there is none, nothing stands there.
    pub is_previous: bool,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the template: {}", self.line, self.message)
    }
}

impl std::error::Error for TemplateFault {}

/// What may stand in a place, for the text about what may not.
const FORMS: &str = "`secret(\"NAME\")`, with `.field` or `| urlencode` behind it";

/// Takes a template apart.
///
/// # Errors
/// With the first fault.
pub fn parse(template: &str) -> Result<Vec<Piece<'_>>, TemplateFault> {
    if template.len() > MAX_TEMPLATE_BYTES {
        let message = format!(
            "it has {} bytes; at most {MAX_TEMPLATE_BYTES} are allowed",
            template.len()
        );
        return Err(TemplateFault { line: 1, message });
    }
    let mut pieces = Vec::new();
    let mut places = 0_usize;
    let (mut rest, mut line) = (template, 1);
    while let Some(at) = next_mark(rest) {
        let (text, marked) = rest.split_at(at);
        line += lines(text);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        places += 1;
        if places > MAX_PLACES {
            let message =
                format!("there are more than {MAX_PLACES} places and comments; use fewer");
            return Err(TemplateFault { line, message });
        }
        let (inside, behind) = enclosed(marked, line)?;
        if let Some(expression) = inside {
            pieces.push(Expression::new(expression, line).read()?);
        }
        line += lines(marked) - lines(behind);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Takes a template of a binding of this secret apart, and says which secrets it names.
///
/// # Errors
/// With the first fault: also when it names none, or something that is no secret's name.
pub fn secrets_of(template: &str, own: &str) -> Result<BTreeSet<SecretName>, TemplateFault> {
    let pieces = parse(template)?;
    let mut names = BTreeSet::new();
    for place in pieces.iter().filter_map(place_of) {
        let name = SecretName::parse(place.secret).map_err(|fault| TemplateFault {
            line: place.line,
            message: format!(
                "`{}` is no secret's name: {fault}",
                crate::leaf::shorten(place.secret)
            ),
        })?;
        names.insert(name);
    }
    if names.is_empty() {
        let message = format!("it has no place for the value; write `{{{{ secret(\"{own}\") }}}}`");
        return Err(TemplateFault { line: 1, message });
    }
    Ok(names)
}

/// The secrets of which a template names the version before the current one; none of a text that is no
/// template.
#[must_use]
pub fn previous_in(template: &str) -> BTreeSet<SecretName> {
    let pieces = parse(template).unwrap_or_default();
    let places = pieces.iter().filter_map(place_of);
    let previous = places.filter(|place| place.is_previous);
    previous
        .filter_map(|place| SecretName::parse(place.secret).ok())
        .collect()
}

/// What a binding gives out beside its own secret, when its templates name these.
///
/// # Errors
/// With what is wrong, and what would be right.
pub fn further(
    mut named: BTreeSet<SecretName>,
    own: &SecretName,
) -> Result<BTreeSet<SecretName>, String> {
    if named.len() > MAX_SECRETS {
        return Err(format!(
            "{} secrets are named; the templates of one binding name at most {MAX_SECRETS}",
            named.len()
        ));
    }
    if !named.remove(own) {
        return Err(format!(
            "the binding's own secret `{own}` is named by no template; name it, or write one that is named at `secret`"
        ));
    }
    Ok(named)
}

/// Bounds the templates of several files of one binding together: as long as one may be by itself.
///
/// # Errors
/// With what is too much, and what would be right.
pub fn check_together<'t>(templates: impl Iterator<Item = &'t str>) -> Result<(), String> {
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for template in templates {
        count += 1;
        bytes = bytes.saturating_add(template.len());
    }
    if !(1..=MAX_FILES).contains(&count) {
        return Err(format!(
            "there are {count} files; one binding makes 1 to {MAX_FILES}"
        ));
    }
    if bytes > MAX_TEMPLATE_BYTES {
        return Err(format!(
            "the templates have {bytes} bytes; at most {MAX_TEMPLATE_BYTES} are allowed together"
        ));
    }
    Ok(())
}

fn place_of<'p, 't>(piece: &'p Piece<'t>) -> Option<&'p Place<'t>> {
    match piece {
        Piece::Place(place) => Some(place),
        Piece::Text(_) => None,
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// Where the next `{{`, `{%` or `{#` begins.
fn next_mark(text: &str) -> Option<usize> {
    let found = ["{{", "{%", "{#"].iter().filter_map(|mark| text.find(mark));
    found.min()
}

/// What a mark encloses (`None` for a comment), and what stands behind it.
fn enclosed(marked: &str, line: usize) -> Result<(Option<&str>, &str), TemplateFault> {
    let fault = |message: String| Err(TemplateFault { line, message });
    if let Some(comment) = marked.strip_prefix("{#") {
        return match comment.split_once("#}") {
            Some((_, behind)) => Ok((None, behind)),
            None => fault("a comment is not closed; write `#}`".to_owned()),
        };
    }
    let Some(inside) = marked.strip_prefix("{{") else {
        return fault(format!(
            "`{{%` is not known here: there are no statements; write `{{{{ … }}}}` with {FORMS}"
        ));
    };
    // In quotes `}}` closes nothing.
    let mut quote = None;
    for (at, character) in inside.char_indices() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, '}') => {
                let (expression, behind) = inside.split_at(at);
                if let Some(behind) = behind.strip_prefix("}}") {
                    return Ok((Some(expression), behind));
                }
            }
            _ => {}
        }
    }
    fault("a place is not closed; write `}}`".to_owned())
}

/// What stands between `{{` and `}}`, read from its beginning.
struct Expression<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Expression<'t> {
    fn new(text: &'t str, line: usize) -> Self {
        Self { rest: text, line }
    }

    fn read(mut self) -> Result<Piece<'t>, TemplateFault> {
        if let Some(text) = self.quoted()? {
            self.end()?;
            return Ok(Piece::Text(text));
        }
        let word = self.word();
        if word != "secret" {
            return Err(self.fault(&format!(
                "`{}` is not known; write {FORMS}",
                crate::leaf::shorten(if word.is_empty() { self.rest } else { word })
            )));
        }
        self.expect("(")?;
        let Some(secret) = self.quoted()? else {
            return Err(self.fault("the secret's name has to stand in quotes: `secret(\"NAME\")`"));
        };
        let is_previous = self.version()?;
        self.expect(")")?;
        let fields = self.fields()?;
        let is_encoded = self.filter()?;
        self.end()?;
        let line = self.line;
        Ok(Piece::Place(Place {
            secret,
            fields,
            is_encoded,
            line,
            is_previous,
        }))
    }

    /// Which version is meant: `true` for the one before the current one.
    fn version(&mut self) -> Result<bool, TemplateFault> {
        if !self.take(",") {
            return Ok(false);
        }
        let word = self.word();
        if word != "version" {
            return Err(self.fault(&format!(
                "`{}` is not known behind a secret's name; write `version=\"previous\"`, or nothing for the current one",
                crate::leaf::shorten(if word.is_empty() { self.rest } else { word })
            )));
        }
        self.expect("=")?;
        match self.quoted()? {
            Some("current") => Ok(false),
            Some("previous") => Ok(true),
            Some(other) => Err(self.fault(&format!(
                "version `{}` is not known{}; known: current, previous",
                crate::leaf::shorten(other),
                crate::near::nearest(other, &["current", "previous"])
            ))),
            None => Err(self.fault("the version has to stand in quotes: `version=\"previous\"`")),
        }
    }

    fn fields(&mut self) -> Result<Vec<&'t str>, TemplateFault> {
        let mut fields = Vec::new();
        loop {
            if self.take(".") {
                let word = self.word();
                if word.is_empty() {
                    return Err(self.fault("behind the dot a field's name is missing"));
                }
                fields.push(word);
            } else if self.take("[") {
                let Some(name) = self.quoted()? else {
                    return Err(
                        self.fault("a field in brackets has to stand in quotes: `[\"NAME\"]`")
                    );
                };
                self.expect("]")?;
                fields.push(name);
            } else {
                return Ok(fields);
            }
            if fields.len() > MAX_FIELD_DEPTH {
                return Err(self.fault(&format!(
                    "a field lies deeper than {MAX_FIELD_DEPTH} names; flatten the object"
                )));
            }
        }
    }

    fn filter(&mut self) -> Result<bool, TemplateFault> {
        if !self.take("|") {
            return Ok(false);
        }
        match self.word() {
            "urlencode" => Ok(true),
            other => Err(self.fault(&format!(
                "filter `{}` is not known{}; known: urlencode",
                crate::leaf::shorten(other),
                crate::near::nearest(other, &["urlencode"])
            ))),
        }
    }

    fn end(&mut self) -> Result<(), TemplateFault> {
        if self.rest.trim_start().is_empty() {
            return Ok(());
        }
        let found = crate::leaf::shorten(self.rest.trim());
        Err(self.fault(&format!("`{found}` is not known here; write {FORMS}")))
    }

    /// A text in quotes, without escapes: no name needs one.
    fn quoted(&mut self) -> Result<Option<&'t str>, TemplateFault> {
        let rest = self.rest.trim_start();
        let Some(open) = rest
            .chars()
            .next()
            .filter(|first| matches!(*first, '"' | '\''))
        else {
            return Ok(None);
        };
        // Both quotes are one byte long.
        let Some((text, behind)) = rest.split_at(1).1.split_once(open) else {
            return Err(self.fault("a quote is not closed"));
        };
        if text.contains('\\') {
            return Err(self.fault("a backslash is not known in quotes"));
        }
        self.rest = behind;
        Ok(Some(text))
    }

    /// Letters, digits and `_`; empty when there are none.
    fn word(&mut self) -> &'t str {
        let rest = self.rest.trim_start();
        let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let end = rest.find(|character: char| !is_word(character));
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        self.rest = behind;
        word
    }

    fn take(&mut self, mark: &str) -> bool {
        match self.rest.trim_start().strip_prefix(mark) {
            Some(behind) => {
                self.rest = behind;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, mark: &str) -> Result<(), TemplateFault> {
        if self.take(mark) {
            return Ok(());
        }
        Err(self.fault(&format!("`{mark}` is missing; write {FORMS}")))
    }

    fn fault(&self, message: &str) -> TemplateFault {
        TemplateFault {
            line: self.line,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
