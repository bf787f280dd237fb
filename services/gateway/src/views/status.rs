//! The deployment as one gateway knows it: what it heard from instances, what it sees itself, and
//! what a person should do. Pure.
//!
//! Invariant: a part that is needed and not heard is named, never left out.

use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::host::Host;
use keywheel_core::id::{EventId, HostId};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::port::journal::Head;
use keywheel_engine::presence::{
    COPY_FACT, ENDED_FACT, Fact, Health, Presence, Reached, Row, SEAL_FACT, SILENT_AFTER,
};
use keywheel_schemas::api::{Component, ComponentKind, Connection, FactView, Finding, HealthWord};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::subject::role_word;

/// How far a reader of the log may be behind without a word about it.
pub const LAG_LIMIT: u64 = 1000;
/// How long a host may work on an older plan without a word about it.
pub const PLAN_LIMIT: Duration = Duration::from_secs(60);
/// Credentials that end so soon should have been renewed: they live an hour, and are at half of it.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(10 * 60);
/// Clocks may differ so much without a word about it; at two minutes requests are refused.
pub const SKEW_LIMIT: Duration = Duration::from_secs(15);
/// Services that a deployment cannot do without, and that a gateway has to hear.
pub const NEEDED: [Role; 3] = [Role::Scheduler, Role::StoreSync, Role::AuditSink];
/// A fact about a store begins so.
pub const STORE_FACT: &str = "store ";

/// A part that is no instance: a bus or a journal, as this gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: ComponentKind,
    /// Which one.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// How it is.
    pub facts: Vec<Fact>,
}

/// What the view is made from.
pub struct Sources<'a> {
    /// Instances that were heard.
    pub rows: &'a [Row],
    /// Bus and journal.
    pub parts: Vec<Part>,
    /// Every aggregate.
    pub world: &'a World,
    /// Where the log ends.
    pub head: &'a Head,
    /// When the last event was appended, if it is known.
    pub last_event: Option<Timestamp>,
    /// This gateway's version.
    pub version: &'a str,
    /// How long this gateway has listened.
    pub listening: Duration,
    /// By its wall clock.
    pub now: Timestamp,
    /// By its steady clock.
    pub steady: Duration,
}

/// Every part, and what to know about them, worst first.
#[must_use]
pub fn overview(mut sources: Sources<'_>) -> (Vec<Component>, Vec<Finding>) {
    let parts = std::mem::take(&mut sources.parts);
    let known = sources.rows.iter().filter(|row| is_known(&sources, row));
    let mut components: Vec<Component> = known.map(|row| instance(&sources, row)).collect();
    components.extend(missing_hosts(&sources));
    components.extend(missing_services(&sources));
    components.extend(stores(sources.rows, sources.steady));
    components.extend(parts.into_iter().map(|part| whole(&sources, part)));
    components.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let findings = findings(&components);
    (components, findings)
}

/// Whether no store-sync that is heard has its unseal key: then no value can be given out.
#[must_use]
pub fn is_sealed(rows: &[Row], steady: Duration) -> bool {
    let heard = rows.iter().filter(|row| !row.is_silent(steady));
    let store_syncs = heard.filter(|row| row.presence.role == Role::StoreSync);
    let is_open = |fact: &Fact| fact.name == SEAL_FACT && fact.health == Health::Ok;
    !store_syncs
        .flat_map(|row| &row.presence.seen.facts)
        .any(is_open)
}

/// The worst of some.
#[must_use]
pub fn worst(states: impl IntoIterator<Item = HealthWord>) -> HealthWord {
    states.into_iter().max().unwrap_or_default()
}

fn findings(components: &[Component]) -> Vec<Finding> {
    let of = |component: &Component, fact: &FactView| Finding {
        state: fact.state,
        kind: component.kind,
        name: component.name.clone(),
        what: format!("{}: {}", fact.name, fact.note),
        next: fact.next.clone(),
    };
    let mut all: Vec<Finding> = components
        .iter()
        .flat_map(|component| component.facts.iter().map(move |fact| (component, fact)))
        .filter(|(_, fact)| fact.state != HealthWord::Ok)
        .map(|(component, fact)| of(component, fact))
        .collect();
    all.sort_by_key(|finding| (std::cmp::Reverse(finding.state), finding.kind));
    all
}

const fn kind_of(role: Role) -> ComponentKind {
    match role {
        Role::Gateway => ComponentKind::Gateway,
        Role::Scheduler => ComponentKind::Scheduler,
        Role::StoreSync => ComponentKind::StoreSync,
        Role::Injector => ComponentKind::Host,
        Role::AuditSink => ComponentKind::AuditSink,
    }
}

const fn word(health: Health) -> HealthWord {
    match health {
        Health::Ok => HealthWord::Ok,
        Health::Unknown => HealthWord::Unknown,
        Health::Warning => HealthWord::Warning,
        Health::Problem => HealthWord::Problem,
    }
}

fn bare(kind: ComponentKind, name: String, facts: &[Fact]) -> Component {
    let view = |fact: &Fact| FactView {
        name: fact.name.clone(),
        state: word(fact.health),
        note: fact.note.clone(),
        next: fact.next.clone(),
    };
    Component {
        kind,
        name,
        instance: None,
        state: worst(facts.iter().map(|fact| word(fact.health))),
        version: None,
        started: None,
        heard: None,
        reached: None,
        lag: None,
        certificate_end: None,
        connection: None,
        facts: facts.iter().map(view).collect(),
    }
}

fn whole(sources: &Sources<'_>, mut part: Part) -> Component {
    if part.kind == ComponentKind::Journal {
        part.facts.splice(0..0, journal_facts(sources));
    }
    let mut component = bare(part.kind, part.name, &part.facts);
    component.version = part.version;
    component
}

/// An injector that is no live host's any more is nobody.
fn is_known(sources: &Sources<'_>, row: &Row) -> bool {
    let host = row.presence.host;
    host.is_none_or(|host| sources.world.live_host(host).is_some())
}

fn instance(sources: &Sources<'_>, row: &Row) -> Component {
    let presence = &row.presence;
    let host = presence.host.and_then(|host| sources.world.live_host(host));
    let name = host.map_or_else(|| presence.machine.clone(), |host| host.name.to_string());
    let facts: Vec<Fact> = match row.is_silent(sources.steady) {
        true => {
            let said = &row.presence.seen.facts;
            let why = said.iter().filter(|fact| fact.name == ENDED_FACT);
            [silence(row, sources)]
                .into_iter()
                .chain(why.cloned())
                .collect()
        }
        false => alive(row, sources),
    };
    let mut component = bare(kind_of(presence.role), name, &facts);
    component.instance = Some(EventId::from_bytes(presence.instance).to_string());
    component.version = Some(presence.version.clone());
    component.started = Some(presence.started.text());
    component.heard = Some(row.heard.at.text());
    component.reached = presence.seen.reached.map(|reached| match reached {
        Reached::Event(at) | Reached::AuditRecords(at) | Reached::Plan(at) => at,
    });
    component.lag = row.lag();
    component.certificate_end = presence.certificate_end.map(|end| end.text());
    component.connection = presence.bus.as_ref().map(|end| Connection {
        connected: end.connected,
        server_version: end.server_version.clone(),
        connects: end.connects,
        refused: end.refused,
    });
    component
}

fn silence(row: &Row, sources: &Sources<'_>) -> Fact {
    let seconds = sources.steady.saturating_sub(row.heard.steady).as_secs();
    let machine = &row.presence.machine;
    if row.presence.role == Role::Injector {
        let note = format!("not heard for {seconds} s; its containers keep what they have");
        let next = format!(
            "on {machine}: is keywheel-injector running, and does it reach the bus? when the machine is gone: `keywheel host evict`"
        );
        return Fact::problem("presence", note, next);
    }
    let next = format!(
        "on {machine}: start the {} again, or look at its log; when it ended for good, it is forgotten after a day",
        role_word(row.presence.role)
    );
    Fact::problem("presence", format!("not heard for {seconds} s"), next)
}

/// What an instance says, and what this gateway makes of it.
fn alive(row: &Row, sources: &Sources<'_>) -> Vec<Fact> {
    let presence = &row.presence;
    let mut facts = Vec::new();
    facts.extend(lag(row, sources.steady));
    facts.extend(credentials(presence, sources.now));
    facts.extend(skew(row));
    facts.extend(connection(presence));
    if presence.version != sources.version {
        let (theirs, ours) = (&presence.version, sources.version);
        let note = format!("it runs {theirs}, this gateway {ours}");
        facts.push(Fact::warning("version", note, "bring both to one version"));
    }
    let own = presence.seen.facts.iter();
    facts.extend(
        own.filter(|fact| !fact.name.starts_with(STORE_FACT))
            .cloned(),
    );
    facts
}

fn lag(row: &Row, steady: Duration) -> Option<Fact> {
    let lag = row.lag()?;
    match row.presence.seen.reached? {
        Reached::Plan(_) => {
            let behind = steady.saturating_sub(row.behind_since?);
            (behind > PLAN_LIMIT).then(|| {
                let note = format!("it has worked on an older plan for {} s", behind.as_secs());
                Fact::warning("plan", note, "look at the injector's log on that host")
            })
        }
        Reached::AuditRecords(kept) if row.heard.head.is_some_and(|head| kept > head) => {
            let note = format!(
                "it keeps {kept} audit records and the journal has fewer: the journal was cut or put back"
            );
            let next = "keep both files, and compare them with your backup";
            Some(Fact::problem(COPY_FACT, note, next))
        }
        _ => (lag > LAG_LIMIT).then(|| {
            let note = format!("it is {lag} behind the log");
            let next =
                "it catches up by itself; when the number grows, look at its log and its disk";
            Fact::warning("lag", note, next)
        }),
    }
}

fn credentials(presence: &Presence, now: Timestamp) -> Option<Fact> {
    let end = presence.certificate_end?;
    let left = end.since(now);
    if left.is_zero() {
        let note = format!("they ended at {}", end.text());
        let next = "issue new ones; its next connect to the bus is refused";
        return Some(Fact::problem("credentials", note, next));
    }
    (left < EXPIRY_WARNING).then(|| {
        let note = format!(
            "they end in {} min and were not renewed",
            left.as_secs() / 60
        );
        let next = "look at its log for why they are not renewed; issue new ones before they end";
        Fact::warning("credentials", note, next)
    })
}

fn skew(row: &Row) -> Option<Fact> {
    let (here, there) = (row.heard.at, row.presence.sent);
    let apart = here.since(there).max(there.since(here));
    (apart > SKEW_LIMIT).then(|| {
        let way = if there > here { "ahead of" } else { "behind" };
        let note = format!("its clock is {} s {way} this gateway's", apart.as_secs());
        let next = "set both by one time server; from 120 s on, what it asks is refused";
        Fact::warning("clock", note, next)
    })
}

fn connection(presence: &Presence) -> Option<Fact> {
    let problem = presence.bus.as_ref()?.problem.clone()?;
    let next = "compare the bus server's configuration with what `keywheel init` made";
    Some(Fact::warning("bus", problem, next))
}

/// Hosts that joined and were not heard.
fn missing_hosts(sources: &Sources<'_>) -> Vec<Component> {
    let is_heard = |id: HostId| sources.rows.iter().any(|row| row.presence.host == Some(id));
    let missing = |host: &Host| {
        let name = host.name.to_string();
        let next = format!(
            "on {name}: is keywheel-injector running? when the machine is gone: `keywheel host evict {name}`"
        );
        bare(ComponentKind::Host, name, &[unheard(sources, next)])
    };
    let live = sources.world.live_hosts();
    live.filter(|host| !is_heard(host.id))
        .map(missing)
        .collect()
}

/// Services that a deployment cannot do without and that were not heard.
fn missing_services(sources: &Sources<'_>) -> Vec<Component> {
    let is_heard = |role: Role| sources.rows.iter().any(|row| row.presence.role == role);
    let missing = |role: Role| {
        let next = format!(
            "start one: `keywheel server {} --config FILE`",
            role_word(role)
        );
        bare(kind_of(role), "-".to_owned(), &[unheard(sources, next)])
    };
    let missed = NEEDED.into_iter().filter(|role| !is_heard(*role));
    missed.map(missing).collect()
}

fn unheard(sources: &Sources<'_>, next: String) -> Fact {
    let seconds = sources.listening.as_secs();
    if sources.listening <= SILENT_AFTER {
        let note = format!("not heard yet; this gateway has listened for {seconds} s");
        return Fact::unknown("presence", note, "ask again in half a minute");
    }
    let note = format!("not heard since this gateway began to listen, {seconds} s ago");
    Fact::problem("presence", note, next)
}

/// The stores that store-syncs told about, each as the worst of them sees it.
#[must_use]
pub fn stores(rows: &[Row], steady: Duration) -> Vec<Component> {
    let mut stores: Vec<Component> = Vec::new();
    let heard = rows.iter().filter(|row| !row.is_silent(steady));
    for fact in heard.flat_map(|row| &row.presence.seen.facts) {
        let Some(name) = fact.name.strip_prefix(STORE_FACT) else {
            continue;
        };
        let told = Fact {
            name: "store".to_owned(),
            ..fact.clone()
        };
        let component = bare(ComponentKind::Store, name.to_owned(), &[told]);
        match stores.iter_mut().find(|store| store.name == name) {
            Some(known) if known.state < component.state => *known = component,
            Some(_) => {}
            None => stores.push(component),
        }
    }
    stores
}

fn journal_facts(sources: &Sources<'_>) -> Vec<Fact> {
    let head = sources.head;
    let age = sources.last_event.map_or_else(String::new, |at| {
        let seconds = sources.now.since(at).as_secs();
        format!(", the last one {seconds} s ago")
    });
    let origin = head.checkpoint.lines().next().unwrap_or_default();
    let signed = format!("{} audit records, signed as {origin}", head.audit_size);
    vec![
        Fact::ok("head", format!("{} events{age}", head.number)),
        Fact::ok("checkpoint", signed),
    ]
}

#[cfg(test)]
mod tests;
