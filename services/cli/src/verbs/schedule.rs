//! `schedule next`: when a secret rotates next, and what the clock does there.

use keywheel_schemas::api::ScheduleView;

use super::Desk;
use super::rotate::with_nearest;
use crate::args::ScheduleVerb;
use crate::exit::Failure;
use crate::http::escape;
use crate::output::schedule;

pub(super) async fn run(desk: &Desk, verb: &ScheduleVerb) -> Result<(), Failure> {
    let ScheduleVerb::Next { name, count } = verb;
    let path = format!("/v1/schedules/{}?count={count}", escape(name));
    let view = match desk.client.read::<ScheduleView>(&path).await {
        Ok(view) => view,
        Err(failure) => return Err(with_nearest(desk, name, failure).await),
    };
    desk.screen.show(&view, schedule::words)
}
