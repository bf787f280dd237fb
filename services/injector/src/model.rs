//! What is, as far as the injector knows: containers, the file systems it gave them, what each holds.
//!
//! Owned by the reconciler's loop alone. Invariant: a container is one incarnation (id and process);
//! with the process its file systems and holdings go. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{OnRevoke, Reload};
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::name::{Directory, EnvName, FileName};
use keywheel_core::report::{Fact, Item, MAX_SERVICE_BYTES};
use keywheel_engine::port::container_host::ContainerRecord;
use keywheel_sys::procfs::PinnedPid;
use keywheel_sys::secretfs::{FileAttr, SecretDir};

use crate::few::Few;
use crate::form::Form;
use crate::granted::mark;
use crate::kept::KeptValue;
use crate::reload::said;
use crate::shared::VersionKey;

/// Compose's label of a container's project.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Compose's label of its service.
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Swarm's label of its service.
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

/// Where in a container a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file.
    File {
        /// Directory.
        directory: Directory,
        /// File name.
        name: FileName,
    },
    /// A variable of the first program.
    Env {
        /// The variable.
        name: EnvName,
    },
}

/// How far the consumer is with the version it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// Nothing more to do.
    Done,
    /// It has to be told, by signal or restart.
    Due,
    /// It got the version with its start; judged once it runs.
    AtStart,
    /// It restarted; judged by its health since then.
    Gate {
        /// Since when, monotonic.
        since: Duration,
    },
    /// It was found to run well, and is watched for a while yet.
    Watched {
        /// Since when, monotonic.
        since: Duration,
    },
}

/// What a container holds under one binding.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    /// The secret.
    pub(crate) secret: SecretId,
    /// Where.
    pub(crate) place: Place,
    /// Owner and mode of a file as its binding said; `None` for a variable, or when not known.
    pub(crate) attr: Option<FileAttr>,
    /// What was made of the value; meaningless while the version is not known.
    pub(crate) form: Option<Arc<Form>>,
    /// The version; `None` when an earlier run wrote it and it was not compared yet.
    pub(crate) version: Option<u64>,
    /// The versions of the further secrets that it was made of.
    pub(crate) further: BTreeMap<SecretId, u64>,
    /// The versions before the current ones that it was made of, too. Nobody runs on them, so that nothing
    /// is said of them but that they are held.
    pub(crate) previous: BTreeMap<SecretId, u64>,
    /// What was new with this content to a consumer that was not told yet; empty: all of it.
    pub(crate) news: Vec<VersionKey>,
    /// Which content it is: a number of its own whenever it is set anew, so that nothing that is told of
    /// one counts for another, even of the same version. 0: by an earlier run, or of a start.
    pub(crate) content: u64,
    /// How far the consumer is.
    pub(crate) ack: Ack,
    /// What the earlier run remembered: version, and whether it was acknowledged.
    pub(crate) remembered: Option<(u64, bool)>,
    /// The sealed value of a variable, as long as a container runs with it: its health check may need it
    /// when the plan is further already.
    pub(crate) kept: Option<Arc<KeptValue>>,
}

impl Holding {
    /// Every secret that it is made of and its version, as far as is known, its binding's own first.
    pub(crate) fn held(&self) -> impl Iterator<Item = VersionKey> + '_ {
        let remembered = self.remembered.map(|(version, _)| version);
        let own = self.version.or(remembered);
        let further = self.further.iter();
        let further = further.map(|(secret, version)| (*secret, *version));
        let own = own.map(|version| (self.secret, version));
        let is_known = own.is_some();
        own.into_iter().chain(further.filter(move |_| is_known))
    }

    /// Every version that lies in it, those before the current ones among them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = VersionKey> + '_ {
        let previous = self.previous.iter();
        let previous = previous.map(|(secret, version)| (*secret, *version));
        self.held().chain(previous)
    }

    /// The same, with what is new in it.
    pub(crate) fn with(mut self, news: Vec<VersionKey>) -> Self {
        self.news = news;
        self
    }

    /// Whether it is made of this version.
    pub(crate) fn has(&self, one: VersionKey) -> bool {
        self.held().any(|held| held == one)
    }

    /// Whether its consumer does not have this version yet, or was not told of it.
    pub(crate) fn owes(&self, one: VersionKey) -> bool {
        !self.has(one) || (self.ack != Ack::Done && self.untold().contains(&one))
    }

    /// What its consumer is to be told of.
    pub(crate) fn untold(&self) -> Vec<VersionKey> {
        match self.news.is_empty() {
            true => self.held().collect(),
            false => self.news.clone(),
        }
    }

    /// The mark of what it is made of.
    pub(crate) fn mark(&self) -> u64 {
        let further = self.further.iter();
        let further = further.map(|(secret, version)| (*secret, *version));
        mark(self.version.unwrap_or_default(), further)
    }
}

/// How often a reload command failed for one content, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tries {
    /// The content, see [`Holding::content`].
    pub(crate) content: u64,
    /// The command.
    pub(crate) argv: Vec<String>,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// How often.
    pub(crate) failed: u32,
    /// When, monotonic; `None`: not for this content any more.
    pub(crate) again: Option<Duration>,
}

/// A version that cannot be filled into a template. That stays so until one of them changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unformed {
    /// The secret.
    pub(crate) secret: SecretId,
    /// The version.
    pub(crate) version: u64,
    /// The template.
    pub(crate) form: Option<Arc<Form>>,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// What is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Every version that it would have brought, the one of the binding's own secret first.
    pub(crate) versions: Vec<VersionKey>,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// What is under way with a container. One thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Nothing.
    No,
    /// A file system is being attached or got back.
    Attaching,
    /// It is being restarted by us.
    Restarting,
    /// It is being stopped by us.
    Stopping,
    /// It is being paused or cut off its networks by us.
    CuttingOff,
}

/// One incarnation of a container.
pub(crate) struct Tracked {
    /// What the engine said last.
    pub(crate) record: ContainerRecord,
    /// What its label says to do on change; a label stays as it was created.
    pub(crate) label: Result<Reload, String>,
    /// Its first process, once pinned.
    pub(crate) target: Option<Arc<PinnedPid>>,
    /// Start time of that process in clock ticks; 0 until pinned.
    pub(crate) ticks: u64,
    /// Until when it may be between create and start; `None` once the engine says it runs.
    pub(crate) creating_until: Option<Duration>,
    /// File systems of ours in it.
    pub(crate) dirs: Few<Directory, Arc<SecretDir>>,
    /// What it holds.
    pub(crate) holdings: Few<BindingId, Holding>,
    /// What was said of it last, so that it is said once.
    pub(crate) refused: BTreeMap<BindingId, Refused>,
    /// What is under way.
    pub(crate) busy: Busy,
    /// Not before this time is a failed attempt repeated.
    pub(crate) retry_at: Duration,
    /// Not before this time is a failed stop repeated; nothing else holds one up.
    pub(crate) stop_at: Duration,
    /// When it was first seen.
    pub(crate) first_seen: Duration,
    /// When the engine last vouched for it.
    pub(crate) seen: Duration,
    /// Whether its state file is behind.
    pub(crate) dirty: bool,
    /// Owners already translated into the host's ids.
    pub(crate) owners: Few<(u32, u32), (u32, u32)>,
    /// Whether a reload command runs in it. One at a time; files are replaced meanwhile.
    pub(crate) is_commanded: bool,
    /// Reload commands that failed.
    pub(crate) tries: BTreeMap<BindingId, Tries>,
    /// What cannot be filled in, so that it is not tried over and over.
    pub(crate) unformed: BTreeMap<BindingId, Unformed>,
    /// What is to befall it because it lost a revoked value, and was not done yet.
    pub(crate) owed: OnRevoke,
    /// What lies in variables of its program and counts as lost, since it is in quarantine. Only the program's end takes
    /// that away.
    pub(crate) lost: Few<BindingId, Holding>,
}

impl Tracked {
    pub(crate) fn new(record: ContainerRecord, now: Duration) -> Self {
        Self {
            label: said(&record.facts),
            record,
            target: None,
            ticks: 0,
            creating_until: None,
            dirs: Few::default(),
            holdings: Few::default(),
            refused: BTreeMap::new(),
            busy: Busy::No,
            retry_at: Duration::ZERO,
            stop_at: Duration::ZERO,
            first_seen: now,
            seen: now,
            dirty: false,
            owners: Few::default(),
            is_commanded: false,
            tries: BTreeMap::new(),
            unformed: BTreeMap::new(),
            owed: OnRevoke::Remove,
            lost: Few::default(),
        }
    }

    /// Notes what it holds now. What was noted of content before it goes.
    pub(crate) fn put(&mut self, binding: BindingId, holding: Holding) {
        let tried = self.tries.get(&binding);
        if tried.is_some_and(|tried| tried.content != holding.content) {
            self.tries.remove(&binding);
        }
        self.unformed.remove(&binding);
        self.holdings.insert(binding, holding);
    }

    /// Notes that it holds nothing under a binding any more.
    pub(crate) fn drop_holding(&mut self, binding: BindingId) {
        self.tries.remove(&binding);
        self.holdings.remove(&binding);
    }

    /// Counts as lost what lies in variables, and gives what is to be said of it.
    pub(crate) fn lose_variables(&mut self) -> Vec<Item> {
        let held = self.holdings.iter();
        let held = held.filter(|(_, holding)| matches!(holding.place, Place::Env { .. }));
        let held: Vec<BindingId> = held.map(|(binding, _)| *binding).collect();
        let mut items = Vec::new();
        for binding in held {
            items.extend(self.farewells(binding, &Fact::Vanished));
            let lost = self.holdings.remove(&binding);
            self.drop_holding(binding);
            if let Some(holding) = lost {
                // Its health check has nothing, either.
                let kept = None;
                self.lost.insert(binding, Holding { kept, ..holding });
            }
            self.dirty = true;
        }
        items
    }

    /// What counted as lost is held again, as by a program that began with it: it is judged, or has to go.
    pub(crate) fn find_variables(&mut self) {
        for (binding, lost) in std::mem::take(&mut self.lost).iter() {
            let found = Holding {
                ack: Ack::AtStart,
                news: Vec::new(),
                ..lost.clone()
            };
            self.put(*binding, found);
            self.dirty = true;
        }
    }

    /// Notes what is not served, and gives what is to be said of it, of a file of several secrets under
    /// each that it lacks; `None` when all of it was said before.
    pub(crate) fn refuse(&mut self, binding: BindingId, refused: Refused) -> Option<Vec<Item>> {
        if self.refused.get(&binding) == Some(&refused) {
            return None;
        }
        let held = self.holdings.get(&binding);
        let (own, further) = refused.versions.split_first()?;
        let lacks = |one: &&VersionKey| held.is_none_or(|held| held.owes(**one));
        let said = std::iter::once(own).chain(further.iter().filter(lacks));
        let item = |(secret, version): &VersionKey| {
            let (version, reason) = (*version, refused.reason.clone());
            self.item(binding, *secret, Fact::Refused { version, reason })
        };
        let items = said.map(item).collect();
        self.refused.insert(binding, refused);
        Some(items)
    }

    /// Why a version does not fit a template, if that is known already.
    pub(crate) fn unformed(
        &self,
        binding: BindingId,
        (secret, version): (SecretId, u64),
        form: Option<&Arc<Form>>,
    ) -> Option<&str> {
        let is_it = |known: &&Unformed| {
            known.secret == secret && known.version == version && known.form.as_ref() == form
        };
        let known = self.unformed.get(&binding).filter(is_it)?;
        Some(&known.reason)
    }

    /// Whether its first program runs, as far as is known.
    pub(crate) fn is_running(&self) -> bool {
        self.record.running && self.creating_until.is_none()
    }

    /// Whether a file of it may be replaced at this time.
    pub(crate) fn can_write(&self, now: Duration) -> bool {
        self.is_running() && self.busy == Busy::No && now >= self.retry_at
    }

    /// Whether something about what it holds is not known yet. What was looked at and is refused stays what
    /// was remembered; it holds up nobody else.
    pub(crate) fn is_unclear(&self) -> bool {
        self.holdings.iter().any(|(binding, holding)| {
            holding.version.is_none() && !self.refused.contains_key(binding)
        })
    }

    /// The group within which one container restarts at a time.
    pub(crate) fn service(&self) -> Service {
        let label = self
            .record
            .facts
            .labels
            .get(COMPOSE_SERVICE)
            .cloned()
            .unwrap_or_default();
        (self.record.facts.image_digest.clone(), label)
    }

    /// The group of a restart that its own label asks for: nobody else's waits for it or for how it ends.
    pub(crate) fn alone(&self) -> Service {
        alone_of(&self.record.facts.id)
    }

    /// The same fact about everything that is held under a binding.
    pub(crate) fn facts(&self, binding: BindingId, fact: impl Fn(u64) -> Fact) -> Vec<Item> {
        let holding = self.holdings.get(&binding).into_iter();
        let held = holding.flat_map(Holding::held);
        held.map(|(secret, version)| self.item(binding, secret, fact(version)))
            .collect()
    }

    /// The same last word about everything that is held under a binding, also while versions are not known.
    pub(crate) fn farewells(&self, binding: BindingId, farewell: &Fact) -> Vec<Item> {
        let mut items = self.facts(binding, |_| farewell.clone());
        let holding = self.holdings.get(&binding).filter(|_| items.is_empty());
        items.extend(holding.map(|held| self.item(binding, held.secret, farewell.clone())));
        items
    }

    pub(crate) fn item(&self, binding: BindingId, secret: SecretId, fact: Fact) -> Item {
        Item {
            container: self.record.facts.id.clone(),
            container_name: self.record.facts.name.clone(),
            image_digest: self.record.facts.image_digest.clone(),
            binding,
            secret,
            fact,
            service: service_name(&self.record.facts.labels),
        }
    }
}

/// The service that a container belongs to, as people name it; empty for one of its own. Labels are what its
/// creator says: they widen what a revocation hits, and grant nothing.
pub(crate) fn service_name(labels: &BTreeMap<String, String>) -> String {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let service = match (label(COMPOSE_PROJECT), label(COMPOSE_SERVICE)) {
        (_, "") => label(SWARM_SERVICE).to_owned(),
        ("", service) => service.to_owned(),
        (project, service) => format!("{project}/{service}"),
    };
    match service.len() <= MAX_SERVICE_BYTES {
        true => service,
        false => String::new(),
    }
}

/// The group that a container is by itself.
pub(crate) fn alone_of(id: &ContainerId) -> Service {
    (format!("container {id}"), String::new())
}

/// Image and, under Compose, service.
pub(crate) type Service = (String, String);

/// All containers.
pub(crate) type Containers = BTreeMap<ContainerId, Tracked>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::place_of;
    use crate::decide::tests::{binding, file, tracked};

    const OWN: SecretId = SecretId::from_bytes([1; 16]);
    const OTHER: SecretId = SecretId::from_bytes([9; 16]);

    #[test]
    fn a_container_tells_its_service_as_people_name_it() {
        let of = |labels: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            service_name(&labels.iter().map(owned).collect())
        };
        let web = (COMPOSE_SERVICE, "web");
        assert_eq!(of(&[(COMPOSE_PROJECT, "shop"), web]), "shop/web");
        assert_eq!(of(&[web]), "web");
        assert_eq!(of(&[(SWARM_SERVICE, "shop_web")]), "shop_web");
        assert_eq!(of(&[(COMPOSE_PROJECT, "shop")]), "");
        let longest = "s".repeat(MAX_SERVICE_BYTES);
        assert_eq!(of(&[(SWARM_SERVICE, &longest)]), longest);
        assert_eq!(of(&[(SWARM_SERVICE, &format!("{longest}s"))]), "");
    }

    #[test]
    fn a_refusal_is_said_once_and_again_for_another_version_of_any_of_its_secrets() {
        let planned = binding(1, file("db"), Reload::None, Some(3));
        let id = planned.binding;
        let place = place_of(&planned.target);
        let held = Holding {
            secret: OWN,
            place,
            attr: None,
            form: None,
            version: Some(3),
            further: BTreeMap::from([(OTHER, 1)]),
            previous: BTreeMap::new(),
            news: Vec::new(),
            content: 1,
            ack: Ack::Done,
            remembered: None,
            kept: None,
        };
        let mut one = tracked("runc", &[]);
        one.put(id, held);
        let mut said = |other, reason: &str| {
            let refused = Refused {
                versions: vec![(OWN, 3), (OTHER, other)],
                reason: reason.to_owned(),
            };
            let items = one.refuse(id, refused)?;
            let secrets = items.iter().map(|item| item.secret);
            Some(secrets.collect::<Vec<_>>())
        };
        assert_eq!(said(1, "no"), Some(vec![OWN]), "the other one it has");
        assert_eq!(said(1, "no"), None);
        assert_eq!(said(2, "no"), Some(vec![OWN, OTHER]));
        assert_eq!(said(2, "no"), None);
        assert_eq!(said(2, "another reason"), Some(vec![OWN, OTHER]));
    }
}
