//! How the gateway comes to know this host: by a token when it joined, else by telling it at start.
//!
//! Invariant: the plan is read before anything else is asked or told. No key is made here.

use keywheel_core::command::Command;
use keywheel_core::id::CommandId;
use keywheel_daemon::{chain, names};
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Subscription, Topic};
use keywheel_engine::port::journal::Verdict;

use crate::contact::GATEWAY_TIMEOUT;
use crate::error::InjectorError;
use crate::service::{RETRY_FIRST, RETRY_MOST};
use crate::shared::Shared;

/// Listens for plans, enrols the host unless it joined, and reads its plan; repeats until the gateway
/// answers.
pub(crate) async fn enrol(shared: &Shared) -> Result<Box<dyn Subscription>, InjectorError> {
    let host = shared.options.host;
    let consumer = format!("injector-{host}");
    let mut wait = RETRY_FIRST;
    loop {
        let attempt = async {
            let plans = shared.bus.subscribe(Topic::Plan(host), &consumer).await?;
            Ok::<_, PortError>((plans, present(shared).await?))
        };
        let fault = match attempt.await {
            Ok((plans, Presented::Known)) => {
                // The plan before anything else; without it the next question tries again.
                if let Err(error) = shared.reach().await {
                    tracing::warn!({ names::ERROR } = chain(&error), "plan not read");
                }
                shared.contact.enrolled();
                return Ok(plans);
            }
            Ok((_, Presented::Refused(reason))) => {
                return Err(InjectorError::Enrol {
                    host: shared.options.host_name.to_string(),
                    reason,
                });
            }
            Ok((_, Presented::Later(why))) => why,
            Err(error) => chain(&error),
        };
        tracing::warn!({ names::REASON } = fault, "host not enrolled yet");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// What the gateway says of this host.
enum Presented {
    Known,
    Refused(String),
    Later(String),
}

/// Tells the gateway host and sealing key; a host that joined is known already.
async fn present(shared: &Shared) -> Result<Presented, PortError> {
    if shared.has_joined {
        return Ok(Presented::Known);
    }
    let Some(sealing_key) = shared.keys.public() else {
        return Ok(Presented::Later("this host has no sealing key".to_owned()));
    };
    let command = Command::EnrolHost {
        host: shared.options.host,
        name: shared.options.host_name.clone(),
        sealing_key: sealing_key.to_bytes(),
    };
    let body = Body::Submit {
        id: CommandId::from_bytes(shared.ids.draw()),
        command,
    };
    let answer = shared
        .bus
        .request(Address::Gateway, None, body, GATEWAY_TIMEOUT)
        .await?;
    Ok(match answer {
        Body::Verdict(Verdict::Accepted { .. }) => Presented::Known,
        Body::Verdict(Verdict::Rejected { text, .. }) => Presented::Refused(text),
        Body::Failed { text, .. } => Presented::Later(text),
        _ => Presented::Later("the gateway answered something else than a verdict".to_owned()),
    })
}
