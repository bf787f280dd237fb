//! Presence: from everyone to every gateway, kept by nobody.

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::ROLES;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, Incoming, Topic};
use keywheel_engine::presence::{Presence, Seen};

use super::{BusUnderTest, HOST, QUIET, assert_quiet, id, next};

/// What an instance tells of itself.
#[must_use]
pub fn presence(role: Role, host: Option<HostId>, instance: u8) -> Body {
    Body::Presence(Box::new(Presence {
        role,
        host,
        instance: [instance; 16],
        machine: "m".to_owned(),
        version: "1".to_owned(),
        started: Timestamp::default(),
        sent: Timestamp::default(),
        leaving: false,
        certificate_end: None,
        bus: None,
        seen: Seen::default(),
    }))
}

fn said(incoming: &Incoming) -> (Role, Option<HostId>, u8) {
    match &incoming.message.body {
        Body::Presence(said) => (said.role, said.host, said.instance[0]),
        other => panic!("presence was expected, not {other:?}"),
    }
}

fn host_of(role: Role) -> Option<HostId> {
    (role == Role::Injector).then_some(HOST)
}

pub(super) async fn every_listener_hears_everyone(under: &dyn BusUnderTest) {
    let tell = async |role: Role, number: u8| {
        let body = presence(role, host_of(role), number);
        let end = under.endpoint(role);
        let told = end.publish(Topic::Presence, id(number.into()), None, body);
        told.await.unwrap();
    };
    let gateway = under.endpoint(Role::Gateway);
    let mut first = gateway.subscribe(Topic::Presence, "one").await.unwrap();
    let mut second = gateway.subscribe(Topic::Presence, "two").await.unwrap();
    for (number, role) in (1..).zip(ROLES) {
        tell(role, number).await;
        for listener in [&mut first, &mut second] {
            let heard = next(&mut **listener).await;
            assert_eq!(said(&heard), (role, host_of(role), number));
            listener.ack(heard.sequence).await.unwrap();
        }
    }
    assert_quiet(&mut *first, QUIET).await;
    assert_eq!(under.refused(), 0);
}

pub(super) async fn nobody_is_present_for_another_and_only_gateways_listen(
    under: &dyn BusUnderTest,
) {
    let gateway = under.endpoint(Role::Gateway);
    let mut heard = gateway.subscribe(Topic::Presence, "one").await.unwrap();
    let other = HostId::from_bytes([8; 16]);
    for (sender, role, host) in [
        (Role::Scheduler, Role::StoreSync, None),
        (Role::Injector, Role::Injector, Some(other)),
        (Role::Injector, Role::Gateway, None),
    ] {
        let body = presence(role, host, 1);
        let end = under.endpoint(sender);
        let told = end.publish(Topic::Presence, id(1), None, body).await;
        assert_eq!(told.unwrap_err().kind, ErrorKind::Denied);
    }
    assert_quiet(&mut *heard, QUIET).await;
    for role in ROLES.into_iter().filter(|role| *role != Role::Gateway) {
        let end = under.endpoint(role);
        let listening = end.subscribe(Topic::Presence, "x").await;
        assert_eq!(listening.err().map(|e| e.kind), Some(ErrorKind::Denied));
    }
}
