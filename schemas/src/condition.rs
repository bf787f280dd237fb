//! Conditions on Keywheel's own events, in CEL: read once, then asked of every event of a type.
//!
//! Invariants: what was read has few, known variables and functions, no macro that walks a list and no
//! arithmetic, so that asking costs at most the text's length times the event's size, both of which are
//! bounded; reading costs what the bounded number of its parts does; asking never fails, for what cannot be
//! said of an event does not hold. What it does not do: know which events there are, or what a secret does
//! after one.

mod known;
pub mod mapping;
mod tokens;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo};
use cel::parser::Parser;
use cel::{Context, Env, Value};
use serde_json::{Map, Value as Json};

use crate::near::nearest;

/// Longest condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 512;
/// Most parts of a condition: names, values, signs and brackets.
pub const MAX_CONDITION_TOKENS: usize = 160;
/// Deepest nesting of a condition.
pub const MAX_CONDITION_DEPTH: u16 = 24;
/// Most of an event's `data` that a condition is asked of: each value counts one, and its bytes as text.
/// Of a larger event `data` is empty.
pub const MAX_CONDITION_DATA: usize = 64 << 10;

/// What a condition may name.
const VARIABLES: [&str; 2] = ["event", "held"];
/// What it may ask of `event`.
const FIELDS: [&str; 7] = ["id", "type", "subject", "time", "secret", "host", "data"];
/// What it may call by name.
const FUNCTIONS: [&str; 4] = ["size", "contains", "startsWith", "endsWith"];
/// Operators that answer yes or no of any two values.
const COMPARISONS: [&str; 7] = ["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"];
const CHOICE: &str = "_?_:_";
const INDEX: &str = "_[_]";
/// Operators whose operands have to be yes or no.
const CONNECTIVES: [&str; 3] = ["_&&_", "_||_", "!_"];

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A condition that was read.
#[derive(Debug, Clone)]
pub struct Condition {
    expression: IdedExpr,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// With text that says where it is wrong, what is wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CONDITION_BYTES {
            return Err(format!(
                "the condition has {} bytes; at most {MAX_CONDITION_BYTES} are allowed: shorten it, or say parts of it as rules of their own",
                text.len()
            ));
        }
        let tokens = tokens::count(text);
        if tokens > MAX_CONDITION_TOKENS {
            return Err(format!(
                "the condition has {tokens} parts; at most {MAX_CONDITION_TOKENS} are allowed: shorten it, or say parts of it as rules of their own"
            ));
        }
        let (expression, source) = read(text)?;
        let place = |id| {
            source
                .offset_for(id)
                .map_or_else(String::new, |(start, _)| {
                    format!(" at character {}", u64::from(start) + 1)
                })
        };
        check(&expression, &place, 1)?;
        expect_answer(&expression, &place)?;
        Ok(Self { expression })
    }

    /// Whether it holds for an event; `held` says whether the event's host was ever given the secret that
    /// asks. What cannot be said of the event does not hold.
    #[must_use]
    pub fn holds(&self, facts: &Facts, held: bool) -> bool {
        self.answer(facts, held) == Some(true)
    }

    /// Whether it holds for no event of a type about a secret, whatever else the event says.
    #[must_use]
    pub fn excludes(&self, secret: &str, type_name: &str) -> bool {
        known::answer(&self.expression, known::About { secret, type_name }) == Some(false)
    }

    /// The only secret whose events it can hold for, where it plainly says one.
    #[must_use]
    pub fn only_secret(&self) -> Option<&str> {
        known::only_secret(&self.expression)
    }

    /// Whether the answer may hang on `held`.
    #[must_use]
    pub fn asks_held(&self) -> bool {
        known::names(&self.expression, "held")
    }

    /// Its answer; `None` when it asks for something that is not known.
    fn answer(&self, facts: &Facts, held: bool) -> Option<bool> {
        let context = if held { &facts.held } else { &facts.apart };
        match Value::resolve(&self.expression, context) {
            Ok(Value::Bool(answer)) => Some(answer),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Reads CEL, of few parts.
fn read(text: &str) -> Result<(IdedExpr, SourceInfo), String> {
    let parser = Parser::new().max_recursion_depth(MAX_CONDITION_DEPTH);
    // The parser is a generated one, and not known to end well for every text; nothing of it is kept.
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(text)));
    let faults = match parsed {
        Ok(Ok(read)) => return Ok(read),
        Ok(Err(faults)) => Some(faults),
        Err(_) => None,
    };
    let first = faults.as_ref().and_then(|faults| faults.errors.first());
    let (line, column) = first.map_or((1, 1), |fault| fault.pos);
    let what = match first.map(|fault| fault.msg.as_str()) {
        // Said of what the parser gave up, with no place.
        Some("UNKNOWN") => too_deep(),
        Some(fault) if fault.contains("ecursion limit") => too_deep(),
        None => "it cannot be read".to_owned(),
        Some(fault) => crate::leaf::shorten(fault),
    };
    Err(format!(
        "the condition is no CEL at line {line}, column {column}: {what}; write for example `event.secret == \"prod/ca\"`"
    ))
}

fn too_deep() -> String {
    format!("its parts are nested deeper than {MAX_CONDITION_DEPTH}")
}

/// What is known of an event.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its type.
    pub type_name: &'a str,
    /// Its subject, `<aggregate>/<uuid>`.
    pub subject: &'a str,
    /// When it was decided, RFC 3339 in UTC.
    pub time: &'a str,
    /// Name of the secret it is about; empty for none.
    pub secret: &'a str,
    /// Name of the host it is about; empty for none.
    pub host: &'a str,
}

/// An event, ready to be asked about.
pub struct Facts {
    apart: Context<'static, 'static>,
    held: Context<'static, 'static>,
}

impl Facts {
    /// Those of an event.
    #[must_use]
    pub fn of(about: About<'_>, data: &Map<String, Json>) -> Self {
        let mut left = MAX_CONDITION_DATA;
        let data = object(data, &mut left).unwrap_or_else(|| Value::from(no_members()));
        let texts = [
            ("id", about.id),
            ("type", about.type_name),
            ("subject", about.subject),
            ("time", about.time),
            ("secret", about.secret),
            ("host", about.host),
        ];
        let texts = texts.map(|(name, text)| (name.to_owned(), Value::from(text)));
        let mut event = HashMap::from(texts);
        event.insert("data".to_owned(), data);
        let event = Value::from(event);
        let context = |held: bool| {
            let mut context = Context::with_env(Arc::clone(LazyLock::force(&STANDARD)));
            context.add_variable_from_value("event", event.clone());
            context.add_variable_from_value("held", Value::Bool(held));
            context
        };
        Self {
            apart: context(false),
            held: context(true),
        }
    }
}

fn no_members() -> HashMap<String, Value> {
    HashMap::new()
}

/// Takes what an event's data holds, as long as something is left of what it may cost.
fn value(json: &Json, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => {
            *left = left.checked_sub(text.len())?;
            Value::from(text.as_str())
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| value(item, left));
            Value::List(Arc::new(items.collect::<Option<Vec<Value>>>()?))
        }
        Json::Object(members) => object(members, left)?,
    })
}

fn object(members: &Map<String, Json>, left: &mut usize) -> Option<Value> {
    let mut taken = no_members();
    for (name, member) in members {
        *left = left.checked_sub(name.len())?;
        taken.insert(name.clone(), value(member, left)?);
    }
    Some(Value::from(taken))
}

/// Where a part of the text stands, in words.
type Place<'a> = &'a dyn Fn(u64) -> String;

/// Refuses what is unknown, and what costs more than a look.
fn check(part: &IdedExpr, place: Place<'_>, depth: u16) -> Result<(), String> {
    let at = || place(part.id);
    if depth > MAX_CONDITION_DEPTH {
        return Err(format!(
            "the condition goes too far{}: {}; say parts of it as rules of their own",
            at(),
            too_deep()
        ));
    }
    match &part.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => Err(format!(
            "the condition names `{}`{}, which is not known{}; it may name `event` and `held`",
            crate::leaf::shorten(name),
            at(),
            nearest(name, &VARIABLES),
        )),
        Expr::Select(select) => {
            check_field(select, &at())?;
            check(&select.operand, place, depth + 1)
        }
        Expr::Call(call) => {
            check_call(call, &at())?;
            let parts = call.target.as_deref().into_iter().chain(&call.args);
            each(parts, place, depth + 1)
        }
        Expr::List(list) => each(&list.elements, place, depth + 1),
        Expr::Comprehension(_) => Err(format!(
            "the condition walks a list{}, by `all`, `exists`, `exists_one`, `map` or `filter`, which costs too much; ask for one value with `in`, or for a part by its place, like `event.data.versions[0]`",
            at()
        )),
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(format!(
            "the condition makes a mapping{}, which says nothing of an event; compare the event's own parts with `==`",
            at()
        )),
    }
}

fn each<'a>(
    parts: impl IntoIterator<Item = &'a IdedExpr>,
    place: Place<'_>,
    depth: u16,
) -> Result<(), String> {
    let mut parts = parts.into_iter();
    parts.try_for_each(|part| check(part, place, depth))
}

/// `event` has few fields; what its `data` has depends on the event's type.
fn check_field(select: &SelectExpr, at: &str) -> Result<(), String> {
    let is_event = matches!(&select.operand.expr, Expr::Ident(name) if name == "event");
    if !is_event || FIELDS.contains(&select.field.as_str()) {
        return Ok(());
    }
    Err(format!(
        "the condition asks for `event.{}`{at}, which no event has{}; an event has {}",
        crate::leaf::shorten(&select.field),
        nearest(&select.field, &FIELDS),
        words(&FIELDS)
    ))
}

fn check_call(call: &CallExpr, at: &str) -> Result<(), String> {
    let name = call.func_name.as_str();
    let is_known = FUNCTIONS.contains(&name)
        || COMPARISONS.contains(&name)
        || CONNECTIVES.contains(&name)
        || [CHOICE, INDEX].contains(&name);
    if is_known {
        return Ok(());
    }
    Err(format!(
        "the condition calls `{}`{at}, which is not for conditions{}; besides comparisons, `in`, `&&`, `||`, `!` and `has` there are {}",
        crate::leaf::shorten(name.trim_matches('_')),
        nearest(name, &FUNCTIONS),
        words(&FUNCTIONS)
    ))
}

fn words(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Refuses what can never be yes or no. What `data` holds is known only when an event comes.
fn expect_answer(part: &IdedExpr, place: Place<'_>) -> Result<(), String> {
    let other = match &part.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => return Ok(()),
        Expr::Literal(LiteralValue::String(_)) => "a text",
        Expr::Literal(_) => "a number or another value",
        Expr::Ident(name) if name == "held" => return Ok(()),
        Expr::Ident(_) => "the whole event",
        Expr::Select(select) if select.test => return Ok(()),
        Expr::Select(select) => match &select.operand.expr {
            Expr::Ident(_) if select.field == "data" => "all of an event's data",
            Expr::Ident(_) => "a text",
            _ => return Ok(()),
        },
        Expr::Call(call) => match call.func_name.as_str() {
            "size" => "a number",
            name if name == CHOICE || CONNECTIVES.contains(&name) => {
                let parts = &call.args;
                return parts.iter().try_for_each(|part| expect_answer(part, place));
            }
            _ => return Ok(()),
        },
        _ => "a list",
    };
    Err(format!(
        "the condition is {other}{}, and not yes or no; compare it, like `event.secret == \"prod/ca\"`",
        place(part.id)
    ))
}

#[cfg(test)]
mod tests;
