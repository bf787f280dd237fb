//! What is on record of a request on the bus, beside who may send it.
//!
//! Knows the name of a record's verb only: what else stands in it is for the tests of who writes it.

use super::*;

/// Who writes such records: the gateway, which alone answers for the log.
const WRITER: &str = include_str!("../../../../gateway/src/bus_server.rs");
/// Where bodies are.
const BODIES: &str = include_str!("../../port/bus.rs");
/// Of what is no request.
const ASKS_NOTHING: Recorded =
    Recorded::None("it asks for nothing: it tells or answers, and what it tells of is on record");

/// What a body leaves on record.
#[derive(Debug, PartialEq, Eq)]
enum Recorded {
    /// What the gateway asks for somebody: under the verb by which they asked the gateway.
    ByItsAsker,
    /// A record of its own, under this verb.
    OfItsOwn(&'static str),
    /// Nothing, and why not.
    None(&'static str),
}

/// Of every body. A new variant does not compile here until somebody says what of it is on record.
fn recorded_as(body: &Body) -> Recorded {
    match body {
        // One that the role's table does not hold. What it holds leaves the records of its command (`auditing`).
        Body::Submit { .. } => Recorded::OfItsOwn("submit"),
        // Of a host that was evicted, or is not enrolled.
        Body::ReadPlan { .. } => Recorded::OfItsOwn("read-plan"),
        Body::Renew(_) => Recorded::OfItsOwn("renew-credentials"),
        // What is not granted. Of what is, the host reports what came of it.
        Body::OpenValue(_) => Recorded::OfItsOwn("open-value"),
        Body::Stash { .. }
        | Body::DropStash { .. }
        | Body::CheckStore { .. }
        | Body::LookNow { .. }
        | Body::Compare(_)
        | Body::ReadSeal
        | Body::Unseal { .. }
        | Body::Seal
        | Body::RotateKek => Recorded::ByItsAsker,
        Body::ReadEvents { .. } | Body::ReadAudit { .. } => {
            Recorded::None("workers follow the log for as long as they run, and it holds no value")
        }
        Body::ReadHosts | Body::ReadStores { .. } => {
            Recorded::None("store-sync follows what it serves, and no value is among it")
        }
        Body::ReadStoreKey => Recorded::None("the key is public"),
        Body::Event(_)
        | Body::Audit(_)
        | Body::Work { .. }
        | Body::Plan(_)
        | Body::Verdict(_)
        | Body::Events(_)
        | Body::AuditLeaves(_)
        | Body::Hosts(_)
        | Body::Renewed(_)
        | Body::Granted { .. }
        | Body::SealedValue(_)
        | Body::StoreKey(_)
        | Body::Presence(_)
        | Body::Stores(_)
        | Body::Tried(_)
        | Body::Looked(_)
        | Body::Compared(_)
        | Body::SealState(_)
        | Body::Done
        | Body::Failed { .. } => ASKS_NOTHING,
    }
}

fn is_request(row: &(Role, &'static str)) -> bool {
    row.1.starts_with("request ")
}

#[test]
fn every_request_on_the_bus_has_its_record_or_says_why_it_has_none() {
    for body in all_bodies() {
        let rows = rows(&body);
        let recorded = recorded_as(&body);
        let asks = rows.iter().any(is_request);
        assert_eq!(asks, recorded != ASKS_NOTHING, "{body:?}");
        match recorded {
            // Nobody but the gateway asks for others.
            Recorded::ByItsAsker => {
                assert_eq!(rows, [(Role::Gateway, "request store-sync")], "{body:?}");
            }
            Recorded::OfItsOwn(verb) => {
                let is_written = ["verb: ", "verb = "]
                    .iter()
                    .any(|member| WRITER.contains(&format!("{member}\"{verb}\"")));
                assert!(is_written, "the gateway writes no `{verb}`: {body:?}");
            }
            Recorded::None(why) => assert!(!why.is_empty(), "{body:?}"),
        }
    }
}

/// The first word of what is written of a variant.
fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric());
    text.get(..end.unwrap_or(text.len())).unwrap()
}

#[test]
fn every_body_is_among_those_that_are_judged() {
    let (_, variants) = BODIES.split_once("pub enum Body {\n").unwrap();
    let (variants, _) = variants.split_once("\n}\n").unwrap();
    let indented = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "));
    let named = indented.filter(|line| line.starts_with(|letter: char| letter.is_uppercase()));
    let there_are: BTreeSet<String> = named.map(|line| word(line).to_owned()).collect();
    let judged: BTreeSet<String> = all_bodies()
        .iter()
        .map(|body| word(&format!("{body:?}")).to_owned())
        .collect();
    assert_eq!(judged, there_are);
}
