//! Subjects, streams and permissions on NATS: where each role may speak and listen.
//!
//! Invariants: subjects carry uuids, never the name of a secret, a host or a container; every word
//! below a deployment's prefix belongs to one purpose. A role's permissions are the least it needs:
//! an injector reaches its own plan, its own inbox and nothing of another host's. Values never pass
//! a stream: they travel in answers, sealed. Nothing here connects or checks a message; receivers
//! check signature and role in addition, since a bus server may be taken over.

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};

/// Largest signed document that travels on a bus, in bytes. The bus and its server's configuration
/// both follow it.
pub const MAX_FRAME_BYTES: usize = 8 << 20;
/// First word of every subject.
const PREFIX: &str = "keywheel";

/// The subjects and streams of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    root: String,
    stream: String,
}

/// Who a client of the bus server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// Its role.
    pub role: Role,
    /// Its host; an injector has one, nobody else.
    pub host: Option<HostId>,
}

/// Which subjects a client may use; everything else is refused by the bus server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// May publish to these.
    pub publish: Vec<String>,
    /// May subscribe to these.
    pub subscribe: Vec<String>,
    /// May answer requests it received, wherever their inbox is.
    pub responses: bool,
}

/// A role's word in subjects and on the wire.
#[must_use]
pub const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Scheduler => "scheduler",
        Role::StoreSync => "store-sync",
        Role::Injector => "injector",
        Role::AuditSink => "audit-sink",
    }
}

impl Client {
    /// A service.
    #[must_use]
    pub const fn service(role: Role) -> Self {
        Self { role, host: None }
    }

    /// A host's injector.
    #[must_use]
    pub const fn injector(host: HostId) -> Self {
        Self {
            role: Role::Injector,
            host: Some(host),
        }
    }

    /// Its words: the role, and the host if it has one.
    #[must_use]
    pub fn words(&self) -> String {
        let role = role_word(self.role);
        self.host
            .map_or_else(|| role.to_owned(), |host| format!("{role}.{host}"))
    }

    /// The same with hyphens, as names of consumers are.
    #[must_use]
    pub fn consumer(&self) -> String {
        self.words().replace('.', "-")
    }
}

impl Subjects {
    /// Those of a deployment.
    #[must_use]
    pub fn new(deployment: DeploymentId) -> Self {
        Self {
            root: format!("{PREFIX}.{deployment}"),
            stream: format!("KEYWHEEL-{deployment}"),
        }
    }

    /// Every event, in log order.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}.events", self.root)
    }

    /// Every audit record, in tree order.
    #[must_use]
    pub fn audit(&self) -> String {
        format!("{}.audit", self.root)
    }

    /// Effects for one role.
    #[must_use]
    pub fn work(&self, role: Role) -> String {
        format!("{}.work.{}", self.root, role_word(role))
    }

    /// Effects for every role.
    #[must_use]
    pub fn all_work(&self) -> String {
        format!("{}.work.*", self.root)
    }

    /// One host's plan.
    #[must_use]
    pub fn plan(&self, host: HostId) -> String {
        format!("{}.plan.{host}", self.root)
    }

    /// Every host's plan.
    #[must_use]
    pub fn plans(&self) -> String {
        format!("{}.plan.*", self.root)
    }

    /// The hosts that may speak, with their keys.
    #[must_use]
    pub fn hosts(&self) -> String {
        format!("{}.hosts", self.root)
    }

    /// What the instances of a client tell about themselves: in no stream.
    #[must_use]
    pub fn presence(&self, of: &Client) -> String {
        format!("{}.presence.{}", self.root, of.words())
    }

    /// What every instance tells about itself.
    #[must_use]
    pub fn all_presence(&self) -> String {
        format!("{}.presence.>", self.root)
    }

    /// A client's requests to the role that serves them.
    #[must_use]
    pub fn request(&self, server: Role, from: &Client) -> String {
        format!("{}.ask.{}.{}", self.root, role_word(server), from.words())
    }

    /// All requests to a role.
    #[must_use]
    pub fn requests(&self, server: Role) -> String {
        format!("{}.ask.{}.>", self.root, role_word(server))
    }

    /// Prefix of a client's inbox.
    #[must_use]
    pub fn inbox(&self, of: &Client) -> String {
        format!("{}.inbox.{}", self.root, of.words())
    }

    /// The stream of events.
    #[must_use]
    pub fn event_stream(&self) -> String {
        format!("{}-EVENTS", self.stream)
    }

    /// The stream of audit records.
    #[must_use]
    pub fn audit_stream(&self) -> String {
        format!("{}-AUDIT", self.stream)
    }

    /// The stream of effects.
    #[must_use]
    pub fn work_stream(&self) -> String {
        format!("{}-WORK", self.stream)
    }

    /// The stream of host plans: the newest of each.
    #[must_use]
    pub fn plan_stream(&self) -> String {
        format!("{}-PLAN", self.stream)
    }

    /// The stream of the list of hosts: the newest.
    #[must_use]
    pub fn host_stream(&self) -> String {
        format!("{}-HOSTS", self.stream)
    }

    /// What a client may do.
    #[must_use]
    pub fn permissions(&self, client: &Client) -> Permissions {
        let ask = |server| self.request(server, client);
        let inbox = format!("{}.>", self.inbox(client));
        let mut publish = vec!["$JS.API.INFO".to_owned(), self.presence(client)];
        let mut subscribe = vec![inbox];
        match client.role {
            Role::Gateway => {
                publish.extend([self.events(), self.audit(), self.plans(), self.hosts()]);
                publish.push(self.all_work());
                publish.push(ask(Role::StoreSync));
                publish.extend(self.gateway_streams());
                subscribe.push(self.requests(Role::Gateway));
                subscribe.push(self.all_presence());
            }
            Role::Scheduler => {
                publish.push(ask(Role::Gateway));
                publish.extend(reads(&self.event_stream(), ANY, &self.events()));
            }
            Role::StoreSync => {
                publish.push(ask(Role::Gateway));
                let work = self.work(Role::StoreSync);
                publish.extend(reads(&self.work_stream(), &client.consumer(), &work));
                publish.extend(reads_newest(&self.host_stream(), ANY, &self.hosts()));
                subscribe.push(self.requests(Role::StoreSync));
            }
            Role::AuditSink => {
                publish.push(ask(Role::Gateway));
                publish.extend(reads(&self.audit_stream(), ANY, &self.audit()));
            }
            Role::Injector => {
                publish.extend([ask(Role::Gateway), ask(Role::StoreSync)]);
                if let Some(host) = client.host {
                    let consumer = client.consumer();
                    let plan = self.plan(host);
                    publish.extend(reads_newest(&self.plan_stream(), &consumer, &plan));
                }
            }
        }
        Permissions {
            publish,
            subscribe,
            responses: matches!(client.role, Role::Gateway | Role::StoreSync),
        }
    }

    /// The gateway makes the streams; it may not change, delete or purge one.
    fn gateway_streams(&self) -> Vec<String> {
        let mut allowed = Vec::new();
        for stream in self.streams() {
            for verb in ["CREATE", "INFO"] {
                allowed.push(format!("$JS.API.STREAM.{verb}.{stream}"));
            }
        }
        allowed
    }

    /// Every stream.
    #[must_use]
    pub fn streams(&self) -> [String; 5] {
        [
            self.event_stream(),
            self.audit_stream(),
            self.work_stream(),
            self.plan_stream(),
            self.host_stream(),
        ]
    }
}

/// Any consumer name: in a stream that one role reads, each instance has its own.
const ANY: &str = "*";

/// What reading one subject of a stream under a consumer name needs.
fn reads(stream: &str, consumer: &str, filter: &str) -> Vec<String> {
    vec![
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{filter}"),
        format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
        format!("$JS.ACK.{stream}.{consumer}.>"),
    ]
}

/// The same where only the newest matters: a reader begins anew each time.
fn reads_newest(stream: &str, consumer: &str, filter: &str) -> Vec<String> {
    let mut allowed = reads(stream, consumer, filter);
    allowed.push(format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}"));
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects() -> Subjects {
        Subjects::new(DeploymentId::from_bytes([7; 16]))
    }

    #[test]
    fn an_injector_reaches_nothing_of_another_host() {
        let (mine, other) = (HostId::from_bytes([1; 16]), HostId::from_bytes([2; 16]));
        let subjects = subjects();
        let own = subjects.permissions(&Client::injector(mine));
        let theirs = subjects.permissions(&Client::injector(other));
        let shared: Vec<_> = own
            .publish
            .iter()
            .filter(|subject| theirs.publish.contains(subject))
            .collect();
        assert_eq!(shared.len(), 2, "only infos are shared: {shared:?}");
        assert!(shared.iter().all(|subject| subject.contains("INFO")));
        assert!(
            own.subscribe
                .iter()
                .all(|subject| subject.contains(&mine.to_string()))
        );
        assert!(!own.responses);
    }

    #[test]
    fn only_the_gateway_speaks_in_topics() {
        let subjects = subjects();
        let host = HostId::from_bytes([1; 16]);
        let clients = [
            Client::service(Role::Scheduler),
            Client::service(Role::StoreSync),
            Client::service(Role::AuditSink),
            Client::injector(host),
        ];
        for client in clients {
            let allowed = subjects.permissions(&client).publish;
            for topic in [
                subjects.events(),
                subjects.audit(),
                subjects.plan(host),
                subjects.hosts(),
            ] {
                assert!(!allowed.contains(&topic), "{client:?} may publish {topic}");
            }
            assert!(
                !allowed
                    .iter()
                    .any(|subject| subject.contains("STREAM.CREATE"))
            );
        }
        let gateway = subjects
            .permissions(&Client::service(Role::Gateway))
            .publish;
        assert!(gateway.contains(&subjects.events()));
        assert!(!gateway.iter().any(|s| {
            ["DELETE", "PURGE", "UPDATE"]
                .iter()
                .any(|verb| s.contains(verb))
        }));
    }
}
