//! The examples of orders to a host about its containers.

use keywheel_core::binding::OnRevoke;
use keywheel_core::host::{Event, Had, OrderKind, OrderOutcome, Origin, Subject};
use keywheel_core::id::ContainerId;

use super::playbook::RUN;
use super::{NIGHT, SECRET};

fn subject(container: &ContainerId) -> Subject {
    Subject {
        container: container.clone(),
        name: "web-7".to_owned(),
        image_digest: "sha256:1".to_owned(),
        service: "shop/web".to_owned(),
    }
}

fn origin(step: &str) -> Origin {
    Origin {
        run: RUN,
        step: step.to_owned(),
        place: 2,
    }
}

pub(super) fn of_host(container: &ContainerId) -> Vec<Event> {
    vec![
        Event::OrdersKnown,
        Event::RestartOrdered {
            subject: subject(container),
            origin: origin("restart"),
            not_before: Some(NIGHT),
        },
        Event::QuarantineOrdered {
            subject: subject(container),
            origin: origin("quarantine"),
            action: OnRevoke::Disconnect,
            reason: "an intruder is in it".to_owned(),
            had: vec![Had {
                secret: SECRET,
                version: 2,
                in_variable: false,
            }],
        },
        Event::OrderEnded {
            container: container.clone(),
            order: OrderKind::Restart,
            outcome: OrderOutcome::Failed {
                reason: "its health check fails since the restart".to_owned(),
            },
            at: NIGHT,
        },
        Event::QuarantineLifted {
            container: container.clone(),
            by: "unix:1000".to_owned(),
            reason: "looked at, and rebuilt".to_owned(),
        },
    ]
}
