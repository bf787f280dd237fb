//! Expressions in CEL that name a part of a signal's content: read once, then asked of each `body`.
//!
//! Invariants: the same bounds and the same small part of the language as conditions have; what an expression
//! gives is a text of at most [`MAX_SIGNAL_TEXT_BYTES`], or it gives nothing; why it gives nothing never quotes
//! the content, which may be anybody's.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use cel::{Context, Value};
use keywheel_core::signal::MAX_SIGNAL_TEXT_BYTES;
use serde_json::Value as Json;

use super::{
    CHOICE, COMPARISONS, CONNECTIVES, FUNCTIONS, INDEX, MAX_CONDITION_BYTES, MAX_CONDITION_DATA,
    MAX_CONDITION_DEPTH, MAX_CONDITION_TOKENS, STANDARD, read, tokens, value, words,
};
use crate::near::nearest;

/// Longest token that is reported, in bytes.
pub const MAX_REPORTED_TOKEN_BYTES: usize = 16 << 10;
/// What an expression may name.
const BODY: &str = "body";

/// An expression that was read.
#[derive(Debug, Clone)]
pub struct Mapping {
    expression: IdedExpr,
}

/// Content, ready to be asked about.
pub struct Body(Context<'static, 'static>);

impl Body {
    /// Takes content; `None` where it is larger than expressions are asked of.
    #[must_use]
    pub fn of(json: &Json) -> Option<Self> {
        let mut left = MAX_CONDITION_DATA;
        let content = value(json, &mut left)?;
        let mut context = Context::with_env(Arc::clone(LazyLock::force(&STANDARD)));
        context.add_variable_from_value(BODY, content);
        Some(Self(context))
    }
}

impl Mapping {
    /// Reads an expression.
    ///
    /// # Errors
    /// With text that says what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CONDITION_BYTES || tokens::count(text) > MAX_CONDITION_TOKENS {
            return Err(format!(
                "the expression has more than {MAX_CONDITION_BYTES} bytes or {MAX_CONDITION_TOKENS} parts; shorten it"
            ));
        }
        let (expression, _) = read(text)?;
        check(&expression, 1)?;
        Ok(Self { expression })
    }

    /// The text that it gives of content; nothing where the content has no such part.
    ///
    /// # Errors
    /// With why it gives none, which quotes nothing of the content.
    pub fn text(&self, body: &Body) -> Result<String, &'static str> {
        self.within(body, MAX_SIGNAL_TEXT_BYTES)
    }

    /// The same of a token that is reported: nothing is kept of it, so it may be longer.
    ///
    /// # Errors
    /// With why it gives none, which quotes nothing of the content.
    pub fn token(&self, body: &Body) -> Result<String, &'static str> {
        self.within(body, MAX_REPORTED_TOKEN_BYTES)
    }

    fn within(&self, body: &Body, most: usize) -> Result<String, &'static str> {
        let given = Value::resolve(&self.expression, &body.0);
        let text = match given {
            Ok(Value::String(text)) => text.as_str().to_owned(),
            Ok(Value::Int(number)) => number.to_string(),
            Ok(Value::UInt(number)) => number.to_string(),
            Ok(Value::Bool(flag)) => flag.to_string(),
            Ok(_) => return Err("is neither a text nor a whole number there"),
            Err(_) => return Err("is not there"),
        };
        if text.len() > most {
            return Err("is longer there than is taken");
        }
        Ok(text)
    }
}

/// Refuses what is unknown, and what costs more than a look.
fn check(part: &IdedExpr, depth: u16) -> Result<(), String> {
    if depth > MAX_CONDITION_DEPTH {
        return Err(format!(
            "the expression is nested deeper than {MAX_CONDITION_DEPTH}; name the part by a shorter way"
        ));
    }
    match &part.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if name == BODY => Ok(()),
        Expr::Ident(name) => Err(format!(
            "the expression names `{}`, which is not known{}; it may name `{BODY}`, like `{BODY}.incident.id`, or say a text in quotes",
            crate::leaf::shorten(name),
            nearest(name, &[BODY]),
        )),
        Expr::Select(select) => check(&select.operand, depth + 1),
        Expr::Call(call) => {
            check_call(call)?;
            let mut parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.try_for_each(|part| check(part, depth + 1))
        }
        Expr::List(list) => list
            .elements
            .iter()
            .try_for_each(|part| check(part, depth + 1)),
        Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(
            "the expression walks a list or makes a mapping, which costs too much; name one part, like `body.findings[0].id`"
                .to_owned(),
        ),
    }
}

fn check_call(call: &CallExpr) -> Result<(), String> {
    let name = call.func_name.as_str();
    let is_known = FUNCTIONS.contains(&name)
        || COMPARISONS.contains(&name)
        || CONNECTIVES.contains(&name)
        || [CHOICE, INDEX].contains(&name);
    if is_known {
        return Ok(());
    }
    Err(format!(
        "the expression calls `{}`, which is not for expressions; besides comparisons, `in`, `&&`, `||`, `!`, `? :` and `has` there are {}",
        crate::leaf::shorten(name.trim_matches('_')),
        words(&FUNCTIONS)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Body {
        let json = json!({
            "incident": { "id": 4711, "open": true, "title": "leak" },
            "findings": [{ "path": "prod/db" }],
            "long": "x".repeat(MAX_SIGNAL_TEXT_BYTES + 1),
            "longest": "x".repeat(MAX_SIGNAL_TEXT_BYTES),
        });
        Body::of(&json).unwrap()
    }

    fn given(text: &str) -> Result<String, &'static str> {
        Mapping::parse(text).unwrap().text(&body())
    }

    #[test]
    fn a_part_is_named_or_chosen_or_said() {
        for (text, wanted) in [
            ("body.incident.id", "4711"),
            ("body.incident.open", "true"),
            ("body.findings[0].path", "prod/db"),
            ("\"com.example.leak\"", "com.example.leak"),
            ("has(body.kind) ? body.kind : \"leak\"", "leak"),
        ] {
            assert_eq!(given(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_text_or_too_long_gives_nothing() {
        assert_eq!(given("body.incident.nobody"), Err("is not there"));
        assert_eq!(given("body.findings[7].path"), Err("is not there"));
        assert_eq!(
            given("body.incident"),
            Err("is neither a text nor a whole number there")
        );
        assert!(given("body.longest").is_ok());
        assert_eq!(given("body.long"), Err("is longer there than is taken"));
    }

    #[test]
    fn a_token_may_be_longer_and_has_its_bound() {
        let token = |length: usize| {
            let body = Body::of(&json!({ "token": "x".repeat(length) })).unwrap();
            Mapping::parse("body.token").unwrap().token(&body)
        };
        let longest = token(MAX_REPORTED_TOKEN_BYTES).unwrap();
        assert_eq!(longest.len(), MAX_REPORTED_TOKEN_BYTES);
        let longer = token(MAX_REPORTED_TOKEN_BYTES + 1);
        assert_eq!(longer, Err("is longer there than is taken"));
    }

    #[test]
    fn what_costs_or_is_unknown_is_refused() {
        for (text, part) in [
            ("event.id", "may name `body`"),
            ("body.findings.map(f, f.path)", "walks a list"),
            ("body.incident.id + 1", "calls `+`"),
            ("matches(body.a, \"a\")", "calls `matches`"),
            ("body.", "is no CEL"),
        ] {
            let fault = Mapping::parse(text).map(drop).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
        let long = format!("\"{}\"", "x".repeat(MAX_CONDITION_BYTES));
        assert!(Mapping::parse(&long).is_err());
    }

    #[test]
    fn content_that_is_too_large_is_not_asked_about() {
        let large = json!({ "text": "x".repeat(MAX_CONDITION_DATA) });
        assert!(Body::of(&large).is_none());
    }
}
