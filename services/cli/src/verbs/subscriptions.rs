//! `events …`: the stream, and subscriptions, places in it that the gateway keeps.

use keywheel_schemas::api::{AcknowledgeRequest, SubscribeRequest, SubscriptionView};

use super::Desk;
use super::streams::{self, EVENTS, Wish};
use crate::args::{EventsVerb, ListEventsArgs};
use crate::exit::Failure;
use crate::http::escape;
use crate::output::table::columns;

pub(super) async fn events(desk: &Desk, verb: EventsVerb) -> Result<(), Failure> {
    match verb {
        EventsVerb::List(args) => list(desk, &args).await,
        EventsVerb::Tail(args) => streams::tail(desk, &EVENTS, &Wish::of_events(&args)?).await,
        EventsVerb::Subscribe { name, after } => subscribe(desk, name, after).await,
        EventsVerb::Subscriptions => {
            let all: Vec<SubscriptionView> = desk.client.read_all("/v1/subscriptions").await?;
            desk.screen.show(&all, |all| table(all, desk.screen.color))
        }
        EventsVerb::Acknowledge { name, number } => {
            let known = describe(desk, &name).await?;
            let view = acknowledge(desk, &known, number).await?;
            show(desk, &view)
        }
        EventsVerb::Unsubscribe { name } => {
            let path = format!("/v1/subscriptions/{}", escape(&name));
            let gone: SubscriptionView = desk.client.remove(&path).await?;
            desk.screen.show(&gone, |gone| {
                format!(
                    "{} is gone; it stood at event {}",
                    gone.name, gone.acknowledged
                )
            })
        }
    }
}

/// What is acknowledged was written before, and to the subscription that was there before that.
async fn list(desk: &Desk, args: &ListEventsArgs) -> Result<(), Failure> {
    let wish = Wish::of_events(&args.events)?;
    let known = match &args.events.subscription {
        Some(name) if args.acknowledge => Some(describe(desk, name).await?),
        _ => None,
    };
    let last = streams::list(desk, &EVENTS, &wish).await?;
    match (known, last) {
        (Some(known), Some(last)) => acknowledge(desk, &known, last).await.map(drop),
        _ => Ok(()),
    }
}

async fn subscribe(desk: &Desk, name: String, after: Option<u64>) -> Result<(), Failure> {
    let request = SubscribeRequest { name, after };
    let made: SubscriptionView = desk.client.change("/v1/subscriptions", &request).await?;
    show(desk, &made)
}

async fn describe(desk: &Desk, name: &str) -> Result<SubscriptionView, Failure> {
    let path = format!("/v1/subscriptions/{}", escape(name));
    desk.client.read(&path).await
}

async fn acknowledge(
    desk: &Desk,
    known: &SubscriptionView,
    number: u64,
) -> Result<SubscriptionView, Failure> {
    let path = format!("/v1/subscriptions/{}/acknowledge", escape(&known.name));
    let request = AcknowledgeRequest {
        id: known.id.clone(),
        number,
    };
    desk.client.change(&path, &request).await
}

fn show(desk: &Desk, view: &SubscriptionView) -> Result<(), Failure> {
    desk.screen.show(view, |view| {
        table(std::slice::from_ref(view), desk.screen.color)
    })
}

fn table(all: &[SubscriptionView], color: bool) -> String {
    if all.is_empty() {
        return "no subscriptions".to_owned();
    }
    let row = |one: &SubscriptionView| {
        vec![
            one.name.clone(),
            one.acknowledged.to_string(),
            one.behind.to_string(),
        ]
    };
    let rows = all.iter().map(row).collect();
    columns(&["NAME", "ACKNOWLEDGED", "BEHIND"], rows, color)
}
