//! Renewals over the bus, as the gateway's end answers them; evictions as the bus is told them.

use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, Message};
use keywheel_identity::authority::addresses;
use keywheel_identity::bundle::{Bundle, SealingKey};
use keywheel_identity::enrol::{RenewAnswer, Renewing};
use keywheel_seal::OsEntropy;
use keywheel_seal::hpke::HostKeyPair;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::bus_server::BusServer;
use crate::door::Spans;
use crate::testing::members::{LIFETIME, Members};

fn end_of(members: &Members) -> BusServer {
    let api = members.bench.api.clone();
    BusServer {
        bus: api.bus,
        commands: api.commands,
        view: api.view,
        journal: api.journal,
        clock: api.clock,
        ids: api.ids,
        renewals: Some(members.registry.clone()),
        unenrolled: Arc::default(),
        refused: Arc::default(),
    }
}

fn message(sender: Role, host: Option<HostId>, ask: Vec<u8>) -> Message {
    Message {
        id: [1; 16],
        sender,
        host,
        traceparent: None,
        body: Body::Renew(ask),
    }
}

fn asked(renewing: &Renewing) -> Vec<u8> {
    serde_json::to_vec(&renewing.ask()).unwrap()
}

fn sealing_key(generation: u64, made: Timestamp) -> SealingKey {
    SealingKey {
        generation,
        made,
        pair: HostKeyPair::generate(&OsEntropy),
    }
}

fn answered(body: Body) -> RenewAnswer {
    let Body::Renewed(bytes) = body else {
        panic!("{body:?}");
    };
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_host_renews_with_its_next_sealing_key_until_it_is_evicted() {
    let members = Members::start(Spans::default()).await;
    let end = end_of(&members);
    let mut identity = members.join("web-2").await.identity.unwrap();
    let host = identity.host().unwrap();
    identity.sealing.push(sealing_key(2, members.now()));
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.with_sealing_key(identity.newest_sealing().unwrap());
    let ask = message(Role::Injector, Some(host), asked(&renewing));
    let answer = answered(end.answer(&ask).await.unwrap());
    let bundle = renewing.accept(identity, &answer).unwrap();
    let sealing = bundle.identity.unwrap();
    let newest = sealing.newest_sealing().unwrap();
    {
        let committed = members.bench.api.view.read();
        let known = &committed.world.hosts[&host];
        assert_eq!(known.key_generation, 2);
        assert_eq!(known.sealing_key, newest.pair.public().to_bytes());
        let signing_key = sealing.signing.verifying_key().to_bytes();
        assert_eq!(known.signing_key, Some(signing_key));
    }
    let words = ["renew-credentials", &host.to_string(), "allowed"];
    assert_eq!(members.records(&words).await.len(), 1);

    // Told again it is no change, and no command.
    end.answer(&ask).await.unwrap();
    assert_eq!(members.records(&["rotate-host-key"]).await.len(), 1);

    let skipping = Renewing::begin().unwrap();
    let skipping = skipping.with_sealing_key(&sealing_key(9, members.now()));
    let ask = message(Role::Injector, Some(host), asked(&skipping));
    let refused = end.answer(&ask).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    let nonsense = message(Role::Injector, Some(host), b"{}".to_vec());
    let refused = end.answer(&nonsense).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    for why in ["does not follow", "is not as expected"] {
        let words = ["renew-credentials", &host.to_string(), "denied", why];
        assert_eq!(members.records(&words).await.len(), 1, "{why}");
    }
    // No command is made of what the rules refuse, however often: each would be a record.
    assert_eq!(members.records(&["rotate-host-key"]).await.len(), 1);

    members.evict(host).await;
    let renewing = Renewing::begin().unwrap();
    let ask = message(Role::Injector, Some(host), asked(&renewing));
    let refused = end.answer(&ask).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    let words = ["renew-credentials", "denied", "evicted"];
    assert_eq!(members.records(&words).await.len(), 1);
}

#[tokio::test]
async fn a_service_gets_credentials_of_its_own_role_and_nonsense_gets_none() {
    let members = Members::start(Spans::default()).await;
    let end = end_of(&members);
    let directory = members.credentials_of("scheduler");
    let (before, identity) = Bundle::read_speaker(&directory).unwrap();
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.keeping_addresses(&before.tls);
    let ask = message(Role::Scheduler, None, asked(&renewing));
    let answer = answered(end.answer(&ask).await.unwrap());
    renewing
        .accept(identity, &answer)
        .unwrap()
        .write(&directory)
        .unwrap();
    let (after, identity) = Bundle::read_speaker(&directory).unwrap();
    assert_eq!(identity.servers, ["tls://bus.example:4222"]);
    let (_, ends) = after.tls.life().unwrap();
    assert_eq!(ends, members.now().plus(LIFETIME));
    let leaf = CertificateDer::from_pem_slice(after.tls.chain_pem.as_bytes()).unwrap();
    assert_eq!(addresses(&leaf).unwrap(), ["scheduler.example"]);

    // Nobody gets the addresses of another.
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.keeping_addresses(&before.tls);
    let ask = message(Role::StoreSync, None, asked(&renewing));
    assert_eq!(end.answer(&ask).await.unwrap_err().kind, ErrorKind::Denied);

    // What is for the scheduler fits nobody else.
    let (_, other) = Bundle::read_speaker(&members.credentials_of("store-sync")).unwrap();
    let renewing = Renewing::begin().unwrap();
    let ask = message(Role::Scheduler, None, asked(&renewing));
    let answer = answered(end.answer(&ask).await.unwrap());
    assert!(renewing.accept(other, &answer).is_err());

    for nonsense in [b"{}".to_vec(), vec![b'x'; MAX_ASK_BYTES + 1]] {
        let ask = message(Role::Scheduler, None, nonsense);
        assert_eq!(end.answer(&ask).await.unwrap_err().kind, ErrorKind::Denied);
    }
    for (whose, count) in [("service/storesync", 1), ("service/scheduler", 2)] {
        let words = ["renew-credentials", "denied", whose];
        assert_eq!(members.records(&words).await.len(), count, "{whose}");
    }
}

#[tokio::test]
async fn an_eviction_revokes_every_permit_of_the_host_and_the_claim_says_so() {
    let members = Members::start(Spans::default()).await;
    let identity = members.join("web-2").await.identity.unwrap();
    let host = identity.host().unwrap();
    let before = members.registry.claim(None, members.now()).unwrap();
    assert_eq!(members.refuse(), 0);
    members.evict(host).await;
    assert_eq!((members.refuse(), members.refuse()), (1, 0));
    let after = members
        .registry
        .claim(Some(&before), members.now())
        .unwrap();
    assert!(after.len() > before.len(), "it names the revoked key");
    let alien = "not.a.claim";
    assert!(members.registry.claim(Some(alien), members.now()).is_err());
}
