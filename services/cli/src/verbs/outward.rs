//! `notification …`, `signal …` and `letter …`.

use keywheel_schemas::api::{
    ApplyAnswer, LetterView, NotificationView, ReplayRequest, SignalSourceView,
};
use serde_json::json;

use super::Desk;
use super::revoke::{confirm, require_person};
use crate::args::{LetterVerb, NotificationVerb, SignalVerb};
use crate::exit::Failure;
use crate::http::escape;
use crate::output::{outward as texts, views};

pub(super) async fn notification(desk: &Desk, verb: &NotificationVerb) -> Result<(), Failure> {
    match verb {
        NotificationVerb::List => {
            let all: Vec<NotificationView> = desk.client.read_all("/v1/notifications").await?;
            desk.screen
                .show(&all, |all| texts::notifications(all, desk.screen.color))
        }
        NotificationVerb::Describe { name } => {
            let path = format!("/v1/notifications/{}", escape(name));
            let view: NotificationView = desk.client.read(&path).await?;
            desk.screen.show(&view, texts::notification)
        }
        NotificationVerb::Test { name } => {
            let path = format!("/v1/notifications/{}/test", escape(name));
            let view: NotificationView = desk.client.change(&path, &json!({})).await?;
            desk.screen
                .show(&view, |view| format!("{} has the test", view.receiver))
        }
        NotificationVerb::Replay { name, after } => {
            let path = format!("/v1/notifications/{}/replay", escape(name));
            let request = ReplayRequest { after: *after };
            let view: NotificationView = desk.client.change(&path, &request).await?;
            desk.screen.show(&view, texts::notification)
        }
        NotificationVerb::Remove { name, yes } => {
            let path = format!("/v1/notifications/{}", escape(name));
            let note = format!(
                "This removes the notification {name}: its receiver is told nothing any more."
            );
            remove(desk, ("notification remove", name, &path), &note, *yes).await
        }
    }
}

pub(super) async fn signal(desk: &Desk, verb: &SignalVerb) -> Result<(), Failure> {
    match verb {
        SignalVerb::Sources => {
            let all: Vec<SignalSourceView> = desk.client.read_all("/v1/signal-sources").await?;
            desk.screen
                .show(&all, |all| texts::sources(all, desk.screen.color))
        }
        SignalVerb::RemoveSource { name, yes } => {
            let path = format!("/v1/signal-sources/{}", escape(name));
            let note = format!("This removes the source {name}: its signals are refused.");
            remove(desk, ("signal remove-source", name, &path), &note, *yes).await
        }
    }
}

pub(super) async fn letter(desk: &Desk, verb: &LetterVerb) -> Result<(), Failure> {
    match verb {
        LetterVerb::List => {
            let all: Vec<LetterView> = desk.client.read_all("/v1/letters").await?;
            desk.screen
                .show(&all, |all| texts::letters(all, desk.screen.color))
        }
        LetterVerb::Retry { id } => {
            let path = format!("/v1/letters/{}/retry", escape(id));
            let view: LetterView = desk.client.change(&path, &json!({})).await?;
            let text = |view: &LetterView| format!("{}: {} went well", view.owner, view.heading);
            desk.screen.show(&view, text)
        }
        LetterVerb::Discard { id } => {
            let path = format!("/v1/letters/{}", escape(id));
            let view: LetterView = desk.client.remove(&path).await?;
            let text = |view: &LetterView| format!("{}: {} is gone", view.owner, view.heading);
            desk.screen.show(&view, text)
        }
    }
}

async fn remove(
    desk: &Desk,
    (verb, name, path): (&str, &str, &str),
    note: &str,
    yes: bool,
) -> Result<(), Failure> {
    if !yes {
        require_person(desk.screen, verb)?;
        desk.screen.note(note);
        confirm(desk.screen, name)?;
    }
    let answer: ApplyAnswer = desk.client.remove(path).await?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, false, desk.screen.color)
    })
}
