//! Both sides of joining and renewing, back to back.

use keywheel_core::host::{JoinToken as OpenToken, Rejection};
use keywheel_core::id::DeploymentId;
use keywheel_seal::OsEntropy;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::sign::SigningKey;

use super::*;
use crate::bundle::{Bundle, SealingKey};
use crate::token::{Destination, JoinToken};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

struct Gateway {
    authority: Authority,
    bus: BusAuthority,
    trust: BTreeMap<Role, VerifyingKey>,
    servers: Vec<String>,
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

fn gateway() -> Gateway {
    let key = SigningKey::generate(&OsEntropy).verifying_key();
    Gateway {
        authority: Authority::create(deployment(), NOW, &OsEntropy).unwrap(),
        bus: BusAuthority::create(deployment()),
        trust: [(Role::Gateway, key)].into(),
        servers: vec!["tls://bus.example:4222".into()],
    }
}

impl Gateway {
    fn registrar(&self) -> Registrar<'_> {
        Registrar {
            authority: &self.authority,
            bus: &self.bus,
            trust: &self.trust,
            servers: &self.servers,
        }
    }

    fn token(&self, host: u8) -> JoinToken {
        let to = Destination {
            deployment: deployment(),
            address: "gateway.example:7443".into(),
            pin: self.authority.pin(),
        };
        let id = JoinTokenId::from_bytes([host; 16]);
        let name = HostName::parse("web-1").unwrap();
        JoinToken::issue(to, HostId::from_bytes([host; 16]), id, name, &OsEntropy).unwrap()
    }

    fn answer(&self, ask: &JoinAsk) -> JoinAnswer {
        let checked = ask.check().unwrap();
        answer_join(&self.registrar(), &checked, NOW, &OsEntropy).unwrap()
    }

    fn joined(&self) -> Bundle {
        let token = self.token(1);
        let joining = Joining::begin(&token, &OsEntropy).unwrap();
        let answer = self.answer(&over_the_wire(&joining.ask(&token)));
        joining.accept(&answer, NOW).unwrap()
    }
}

fn over_the_wire(ask: &JoinAsk) -> JoinAsk {
    let text = serde_json::to_string(ask).unwrap();
    assert!(text.len() < MAX_ASK_BYTES);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_machine_with_a_token_becomes_the_host_it_was_issued_for() {
    let gateway = gateway();
    let bundle = gateway.joined();
    let identity = bundle.identity.unwrap();
    assert_eq!(identity.name, PeerName::Host(HostId::from_bytes([1; 16])));
    assert_eq!(identity.host_name.unwrap().as_str(), "web-1");
    assert_eq!(identity.trust, gateway.trust);
    assert_eq!(identity.servers, gateway.servers);
    assert_eq!(identity.sealing.len(), 1);
    // EXPOSE: the file's text is looked at by the test.
    let creds = String::from_utf8(bundle.bus.unwrap().expose().to_vec()).unwrap();
    assert!(creds.contains("BEGIN NATS USER JWT") && creds.contains("\nSU"));
}

#[test]
fn the_journal_can_check_what_was_asked_and_never_sees_the_secret() {
    let gateway = gateway();
    let token = gateway.token(1);
    let joining = Joining::begin(&token, &OsEntropy).unwrap();
    let checked = over_the_wire(&joining.ask(&token)).check().unwrap();
    let recorded = token.request(NOW);
    let open = OpenToken {
        host: recorded.host,
        name: recorded.name,
        secret_hash: recorded.secret_hash,
        expires_at: recorded.expires_at,
        is_over: false,
    };
    assert_eq!(open.check(&checked.request, NOW), Ok(()));
    let late = open.check(&checked.request, open.expires_at);
    assert!(matches!(late, Err(Rejection::TokenExpired(_))));
    let other = gateway.token(1);
    let forged = Joining::begin(&other, &OsEntropy).unwrap().ask(&other);
    let forged = open.check(&forged.check().unwrap().request, NOW);
    assert!(matches!(forged, Err(Rejection::TokenForged(_))));
    let shown = format!("{:?}", joining.ask(&token));
    assert!(!shown.contains(&*joining.ask(&token).secret));
}

#[test]
fn an_answer_for_somebody_else_is_refused() {
    let gateway = gateway();
    let (mine, other) = (gateway.token(1), gateway.token(2));
    let ask = |token: &JoinToken| {
        let joining = Joining::begin(token, &OsEntropy).unwrap();
        let ask = joining.ask(token);
        (joining, gateway.answer(&ask))
    };
    let refused = |change: &dyn Fn(&mut JoinAnswer)| {
        let (joining, mut answer) = ask(&mine);
        change(&mut answer);
        let error = joining.accept(&answer, NOW).err();
        matches!(error, Some(EnrolError::Answer(_)))
    };
    assert!(!refused(&|_| {}));
    let (_, theirs) = ask(&other);
    assert!(refused(&|answer| *answer = theirs.clone()));
    assert!(refused(&|answer| answer
        .certificate
        .clone_from(&theirs.certificate)));
    let (_, stale) = ask(&mine);
    assert!(refused(&|answer| answer
        .certificate
        .clone_from(&stale.certificate)));
    let stranger = self::gateway().authority.roots_pem();
    assert!(refused(&|answer| answer.roots.clone_from(&stranger)));
    assert!(refused(
        &|answer| answer.deployment = DeploymentId::default().to_string()
    ));
    assert!(refused(&|answer| answer.v = 2));
    assert!(refused(&|answer| {
        answer.trust.insert("king".into(), String::new());
    }));
}

#[test]
fn a_request_with_a_part_that_is_none_is_refused() {
    let gateway = gateway();
    let token = gateway.token(1);
    let joining = Joining::begin(&token, &OsEntropy).unwrap();
    let refused = |change: &dyn Fn(&mut JoinAsk)| {
        let mut ask = joining.ask(&token);
        change(&mut ask);
        ask.check().is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|ask| ask.v = 9));
    assert!(refused(&|ask| ask.host = "me".into()));
    assert!(refused(&|ask| ask.name = "Web 1".into()));
    assert!(refused(&|ask| ask.secret.0 = "!".into()));
    assert!(refused(&|ask| ask.signing_key = STANDARD.encode([0; 31])));
    assert!(refused(&|ask| {
        let mut weak = [0; 32];
        weak[0] = 1;
        ask.signing_key = STANDARD.encode(weak);
    }));
    assert!(refused(&|ask| ask.sealing_key = String::new()));
    assert!(refused(&|ask| ask.bus_key = gateway.bus.account()));
}

#[test]
fn a_renewal_brings_new_keys_and_keeps_what_is_still_needed() {
    let gateway = gateway();
    let before = gateway.joined();
    let mut identity = before.identity.unwrap();
    let (name, signing) = (identity.name.clone(), identity.signing.verifying_key());
    identity.sealing.push(SealingKey {
        generation: 2,
        made: NOW,
        pair: HostKeyPair::generate(&OsEntropy),
    });
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.with_sealing_key(identity.newest_sealing().unwrap());
    let ask: RenewAsk =
        serde_json::from_str(&serde_json::to_string(&renewing.ask()).unwrap()).unwrap();
    let (generation, key) = renewed_sealing_key(&ask).unwrap().unwrap();
    let later = NOW.plus(std::time::Duration::from_secs(3600));
    let registrar = gateway.registrar();
    let answer = answer_renewal(&registrar, &name, &ask, later, &OsEntropy).unwrap();
    let after = renewing.accept(identity, &answer).unwrap();
    let identity = after.identity.unwrap();
    assert_eq!(generation, 2);
    assert_eq!(
        identity.newest_sealing().unwrap().pair.public().to_bytes(),
        key
    );
    assert_eq!(identity.sealing.len(), 2, "the old key may still be needed");
    assert_eq!(identity.signing.verifying_key(), signing);
    assert!(!after.tls.key_pem.ct_eq(&before.tls.key_pem));
    assert!(!after.bus.unwrap().ct_eq(&before.bus.unwrap()));
}

#[test]
fn a_renewal_never_gives_another_name() {
    let gateway = gateway();
    let identity = gateway.joined().identity.unwrap();
    let renewing = Renewing::begin().unwrap();
    let other = PeerName::Host(HostId::from_bytes([9; 16]));
    let registrar = gateway.registrar();
    let answer = answer_renewal(&registrar, &other, &renewing.ask(), NOW, &OsEntropy).unwrap();
    assert!(renewing.accept(identity, &answer).is_err());
    let renewing = Renewing::begin().unwrap();
    let person = PeerName::Operator(crate::name::OperatorName::parse("ada").unwrap());
    let refused = answer_renewal(&registrar, &person, &renewing.ask(), NOW, &OsEntropy);
    assert!(matches!(refused, Err(EnrolError::NotRenewed(_))));
    assert!(matches!(renewed_sealing_key(&renewing.ask()), Ok(None)));
}
