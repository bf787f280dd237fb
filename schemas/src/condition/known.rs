//! What a condition says of an event of which only its type and its secret are known.
//!
//! Invariant: an answer that is given is right whatever else the event holds. What hangs on anything else,
//! or on whether the event has it at all, has no answer.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};

use super::CHOICE;

/// What is known.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) secret: &'a str,
    pub(super) type_name: &'a str,
}

/// Its answer, where it hangs on nothing else.
pub(super) fn answer(part: &IdedExpr, about: About<'_>) -> Option<bool> {
    match &part.expr {
        Expr::Literal(LiteralValue::Boolean(answer)) => Some(*answer.inner()),
        Expr::Call(call) => called(call, about),
        _ => None,
    }
}

fn called(call: &CallExpr, about: About<'_>) -> Option<bool> {
    let said: Vec<Option<bool>> = call.args.iter().map(|part| answer(part, about)).collect();
    match (call.func_name.as_str(), call.args.as_slice()) {
        // One that says no settles it, whatever the other says or fails of.
        ("_&&_", _) if said.contains(&Some(false)) => Some(false),
        ("_&&_", _) => said.iter().all(|one| *one == Some(true)).then_some(true),
        ("_||_", _) if said.contains(&Some(true)) => Some(true),
        ("_||_", _) => said.iter().all(|one| *one == Some(false)).then_some(false),
        ("!_", _) => said.first().copied().flatten().map(|answer| !answer),
        (CHOICE, _) => match *said.as_slice() {
            [Some(true), one, _] => one,
            [Some(false), _, other] => other,
            _ => None,
        },
        ("_==_", [one, other]) => Some(text(one, about)? == text(other, about)?),
        ("_!=_", [one, other]) => Some(text(one, about)? != text(other, about)?),
        ("@in", [one, among]) => {
            let Expr::List(list) = &among.expr else {
                return None;
            };
            let texts = list.elements.iter().map(|part| text(part, about));
            let texts: Vec<&str> = texts.collect::<Option<_>>()?;
            Some(texts.contains(&text(one, about)?))
        }
        (name @ ("startsWith" | "endsWith" | "contains"), [other]) => {
            let one = text(call.target.as_deref()?, about)?;
            let other = text(other, about)?;
            Some(match name {
                "startsWith" => one.starts_with(other),
                "endsWith" => one.ends_with(other),
                _ => one.contains(other),
            })
        }
        _ => None,
    }
}

fn text<'a>(part: &'a IdedExpr, about: About<'a>) -> Option<&'a str> {
    match field(part) {
        Some("secret") => Some(about.secret),
        Some("type") => Some(about.type_name),
        _ => literal(part),
    }
}

fn literal(part: &IdedExpr) -> Option<&str> {
    match &part.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The field of the event that a part stands for.
fn field(part: &IdedExpr) -> Option<&str> {
    let Expr::Select(select) = &part.expr else {
        return None;
    };
    let is_event = matches!(&select.operand.expr, Expr::Ident(name) if name == "event");
    (is_event && !select.test).then_some(select.field.as_str())
}

/// The secret that the event has to be about for the part to hold.
pub(super) fn only_secret(part: &IdedExpr) -> Option<&str> {
    let Expr::Call(call) = &part.expr else {
        return None;
    };
    match (call.func_name.as_str(), call.args.as_slice()) {
        ("_&&_", parts) => parts.iter().find_map(only_secret),
        ("_==_", [one, other]) if field(one) == Some("secret") => literal(other),
        ("_==_", [one, other]) if field(other) == Some("secret") => literal(one),
        _ => None,
    }
}

/// Whether it names a variable anywhere.
pub(super) fn names(part: &IdedExpr, variable: &str) -> bool {
    match &part.expr {
        Expr::Ident(name) => name == variable,
        Expr::Select(select) => names(&select.operand, variable),
        Expr::Call(call) => {
            let mut parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.any(|part| names(part, variable))
        }
        Expr::List(list) => list.elements.iter().any(|part| names(part, variable)),
        _ => false,
    }
}
