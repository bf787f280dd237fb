//! Another root for everyone, while messages flow.

use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_identity::authority::{Authority, LongLived};
use keywheel_seal::OsEntropy;

use crate::deployment::{Deployment, now, until};
use crate::renewal::Traffic;

const LIFE: Duration = Duration::from_secs(20);
const MEMBERS: [Role; 2] = [Role::Gateway, Role::AuditSink];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollover_ends_without_a_message_lost_or_a_request_failed() {
    let mut deployment = Deployment::start(LIFE);
    let gateway = deployment.gateway().await;
    let sink = deployment.member(Role::AuditSink).await;
    let mut traffic = Traffic::start(&gateway, &sink).await;
    traffic.step().await;

    let first = deployment.roots(Role::Gateway);
    let next = Authority::create(DeploymentId::from_bytes([7; 16]), now(), &OsEntropy).unwrap();
    let new_root = next.roots_pem();
    {
        let mut authority = deployment.authorities.certificates.write().unwrap();
        authority.begin_rollover(next, now(), &OsEntropy).unwrap();
    }
    let all_trust = |deployment: &Deployment, roots: &str| {
        MEMBERS.iter().all(|role| deployment.roots(*role) == roots)
    };
    let both = format!("{new_root}{first}");
    while !all_trust(&deployment, &both) {
        traffic.step().await;
    }
    deployment.refresh_bus_server();

    let is_finished = |deployment: &Deployment| {
        let mut authority = deployment.authorities.certificates.write().unwrap();
        authority.finish_rollover(now(), LongLived::Drop).is_ok()
    };
    while !is_finished(&deployment) {
        traffic.step().await;
    }
    while !all_trust(&deployment, &new_root) {
        traffic.step().await;
    }
    traffic.step().await;
    traffic.finish().await;

    // Under the new root alone.
    deployment.refresh_bus_server();
    let before = (gateway.health().connects, sink.health().connects);
    deployment.server.restart();
    until("everyone to come back", || {
        let (gateway, sink) = (gateway.health(), sink.health());
        let is_back = gateway.connected && sink.connected;
        is_back && gateway.connects > before.0 && sink.connects > before.1
    })
    .await;
}
