//! Random histories: commands that make sense, commands that come late, and reports that lie.
//!
//! After every command the invariants hold; after all of them, once everybody behaves again, every
//! rotation and revocation ends.

mod invariants;
mod moves;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::assignment;
use crate::binding::{self, Reload, Target};
use crate::command::{Command, Declaration};
use crate::decision::{Context, Enrolment, Refusal, decide};
use crate::event::Event;
use crate::host::{JoinRequest, TokenRequest};
use crate::id::{
    BindingId, ContainerId, HostId, JoinTokenId, RevocationId, RotationId, SecretId, SlotId,
};
use crate::name::{BindingName, EnvName, FileName, HostName, SecretName};
use crate::plan::{HostPlan, PlannedBinding, plan_host};
use crate::report::{Fact, HostReport, Item};
use crate::revocation::Backend;
use crate::rotation::{self, Phase, Step};
use crate::schedule::{Canary, OnDeadline, RotationPolicy, Schedule};
use crate::secret;
use crate::testing::{anywhere, container, env, file, generated, on_host, restart};
use crate::time::Timestamp;
use crate::world::World;

use moves::*;
use reports::{given_to, honest_report};

const SECRETS: u8 = 2;
const BINDINGS: u8 = 3;
const HOSTS: u8 = 2;
const CONTAINERS: u8 = 3;
/// Rounds after which everything must have ended when everybody behaves.
const HEALED_AFTER: usize = 20;

/// The world as it runs, its log, and what the invariants remember.
#[derive(Default)]
struct Model {
    world: World,
    log: Vec<Event>,
    commands: u8,
    clock: u64,
    staged: BTreeMap<SecretId, u64>,
    dead: BTreeSet<(SecretId, u64)>,
    /// Acknowledged because their binding granted the secret no more: the host's word counts.
    excused: BTreeSet<assignment::Key>,
}

impl Model {
    fn fresh(&self) -> [u8; 16] {
        let mut id = [0xaa; 16];
        id[15] = self.commands;
        id
    }

    fn now(&self) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(self.clock))
    }

    fn run(&mut self, command: &Command) {
        self.commands = self.commands.wrapping_add(1);
        self.clock += 1;
        let mut seed = [0x55; 16];
        seed[0] = self.commands;
        let ctx = Context {
            now: self.now(),
            seed,
            enrolment: Enrolment::Local,
        };
        let (Ok(events) | Err(Refusal { events, .. })) = decide(&self.world, command, &ctx);
        for event in &events {
            self.invariant_versions_only_grow_and_the_dead_stay_dead(event);
            self.note_excused(event);
            self.log.push(event.clone());
            let number = u64::try_from(self.log.len()).unwrap();
            self.world.apply(number, event);
        }
        self.invariant_one_open_rotation_and_sane_stages();
        self.invariant_plans_hold_only_what_was_granted();
        self.invariant_retired_versions_are_held_by_nobody(command, &events);
        self.invariant_barriers_open_by_complete_reports(command, &events);
    }

    fn note_excused(&mut self, event: &Event) {
        match event {
            Event::Rotation(id, rotation::Event::ConsumerAcknowledged { consumer }) => {
                let secret = self.world.rotations[id].secret;
                let spec = self.world.bindings[&consumer.binding].spec.as_ref();
                if spec.is_none_or(|spec| !spec.names(secret)) {
                    self.excused.insert(consumer.clone());
                }
            }
            Event::Assignment(key, assignment::Event::Assigned { .. }) => {
                self.excused.remove(key);
            }
            _ => {}
        }
    }

    fn command_of(&mut self, step: &Move) -> Option<Command> {
        let rotation = RotationId::from_bytes(self.fresh());
        Some(match step {
            Move::ApplySecret(n, has_generator) => Command::Apply(vec![Declaration::Secret {
                id: secret_id(*n),
                rotation,
                name: secret_name(*n),
                spec: spec_of(*n, *has_generator),
            }]),
            Move::ApplyBinding {
                binding,
                secret,
                also,
                host,
                form,
            } => Command::Apply(vec![Declaration::Binding {
                id: binding_id(*binding),
                name: binding_name(*binding),
                secret: secret_name(*secret),
                also: also.then(|| secret_name(1 - *secret)).into_iter().collect(),
                previous: (*form == 1 && (*also || *secret == KEEPS))
                    .then(|| secret_name(KEEPS))
                    .into_iter()
                    .collect(),
                selector: host.map_or_else(anywhere, |n| on_host(host_name(n))),
                target: target(*binding, *form),
                reload: [Reload::None, Reload::Signal(1), restart()][usize::from(*form)].clone(),
                on_revoke: crate::binding::OnRevoke::Remove,
            }]),
            Move::Unbind(n) => Command::Unbind {
                name: binding_name(*n),
            },
            Move::Put(n, provided) => Command::Put {
                id: secret_id(*n),
                rotation,
                name: secret_name(*n),
                provided: *provided,
            },
            Move::Rotate(n) => Command::Rotate {
                rotation,
                secret: secret_name(*n),
            },
            Move::Due(n, slot) => Command::Due {
                rotation,
                secret: secret_id(*n),
                slot: SlotId::from_bytes([*slot; 16]),
                scheduled: Timestamp::from_micros(i64::from(*slot)),
                after: None,
                tzdata: None,
            },
            Move::Revoke(n, version) => Command::Revoke {
                revocation: RevocationId::from_bytes(self.fresh()),
                secret: secret_name(*n),
                version: version.map(|nth| self.recent(secret_id(*n), nth)),
                reason: "leaked".to_owned(),
                is_emergency: false,
            },
            Move::Enrol(n) => Command::EnrolHost {
                host: host_id(*n),
                name: host_name(*n),
                sealing_key: [*n; 32],
            },
            Move::Token(_) | Move::Join(_) | Move::Evict(_) => return self.admission_of(step),
            other => return self.reaction_of(other),
        })
    }

    /// Who comes and who goes.
    fn admission_of(&self, step: &Move) -> Option<Command> {
        Some(match step {
            Move::Token(n) => Command::IssueJoinToken(TokenRequest {
                host: HostId::from_bytes(self.fresh()),
                name: host_name(*n),
                token: JoinTokenId::from_bytes(self.fresh()),
                secret_hash: [1; 32],
                expires_at: self.now().plus(Duration::from_secs(3600)),
            }),
            Move::Join(knows_secret) => {
                let (token, open) = self.world.join_tokens.first_key_value()?;
                Command::JoinHost(JoinRequest {
                    host: open.host,
                    name: open.name.clone(),
                    token: *token,
                    secret_hash: [u8::from(*knows_secret); 32],
                    signing_key: [2; 32],
                    sealing_key: [3; 32],
                })
            }
            Move::Evict(n) => Command::EvictHost {
                host: self.world.host_named(&host_name(*n))?.id,
                reason: "stolen".to_owned(),
            },
            _ => return None,
        })
    }

    fn known_rotation(&self, nth: u8) -> Option<RotationId> {
        let known = self.world.rotations.len();
        let nth = usize::from(nth).checked_rem(known)?;
        self.world.rotations.keys().nth(nth).copied()
    }

    /// What workers, timers, hosts and people in between send.
    fn reaction_of(&mut self, step: &Move) -> Option<Command> {
        Some(match step {
            Move::Answer { fails, late } => return self.answer(*fails, *late),
            Move::AnswerRevoke { fails, late } => return self.answer_revoke(*fails, *late),
            Move::Retry => Command::RetryStep {
                rotation: self.world.open_rotations().next()?.id,
            },
            Move::RetryRevoke => Command::RetryRevoke {
                revocation: self.world.revocations.values().find(|r| !r.closed)?.id,
            },
            Move::Deadline => {
                self.clock += rotation::ACK_DEADLINE.as_secs();
                Command::DeadlinePassed {
                    rotation: self.world.open_rotations().next()?.id,
                }
            }
            Move::StepIn(nth, how) => Command::Intervene {
                rotation: self.known_rotation(*nth)?,
                intervention: match how {
                    0 => rotation::Intervention::Abort,
                    1 => rotation::Intervention::Retry,
                    _ => rotation::Intervention::Force,
                },
                reason: "because".to_owned(),
            },
            Move::Report { .. } => Command::Report(self.lie(step)?),
            Move::Start {
                host,
                container,
                binding,
            } => Command::Report(self.start(*host, *container, *binding)?),
            Move::HonestReport(n) => {
                Command::Report(honest_report(&self.world, host_id(*n), self.now()))
            }
            _ => return None,
        })
    }

    fn answer(&self, fails: bool, late: bool) -> Option<Command> {
        let mut open: Vec<_> = self.world.open_rotations().collect();
        let first = usize::from(self.commands) % open.len().max(1);
        open.rotate_left(first);
        let performing = open.iter().find_map(|open| match open.phase {
            Phase::Performing { step, attempt } => Some((open.id, step, attempt)),
            _ => None,
        });
        let (rotation, step, attempt) = performing?;
        let attempt = if late {
            attempt.saturating_sub(1)
        } else {
            attempt
        };
        Some(Command::StepOutcome {
            rotation,
            step,
            attempt,
            failure: fails.then(|| "down".to_owned()),
            is_away: false,
            remote: None,
            sessions: None,
        })
    }

    fn answer_revoke(&self, fails: bool, late: bool) -> Option<Command> {
        let asked = self
            .world
            .revocations
            .values()
            .find_map(|open| match open.backend {
                Backend::Asked { attempt } if !open.closed => Some((open.id, attempt)),
                _ => None,
            });
        let (revocation, attempt) = asked?;
        let attempt = if late {
            attempt.saturating_sub(1)
        } else {
            attempt
        };
        Some(Command::RevokeOutcome {
            revocation,
            attempt,
            failure: fails.then(|| "down".to_owned()),
        })
    }

    fn start(&self, host: u8, n: u8, binding: u8) -> Option<HostReport> {
        let plan = plan_host(&self.world, host_id(host))?;
        let planned = plan
            .bindings
            .iter()
            .find(|planned| planned.binding == binding_id(binding))?;
        let versions = given_to(&plan, planned, &container(n))?;
        let at = self.now();
        let item = |(secret, version): &(SecretId, u64)| Item {
            container: container(n),
            container_name: "c".to_owned(),
            image_digest: "sha256:1".to_owned(),
            binding: planned.binding,
            secret: *secret,
            fact: Fact::Reloaded {
                version: *version,
                at,
            },
            service: String::new(),
        };
        Some(HostReport {
            generation: plan.generation,
            items: versions.iter().map(item).collect(),
            holds: versions,
            knows_staged: true,
            ..HostReport::empty(host_id(host))
        })
    }

    /// The n-th newest version of a secret.
    fn recent(&self, secret: SecretId, n: u8) -> u64 {
        let last = self
            .world
            .secrets
            .get(&secret)
            .map_or(0, |secret| secret.last_version);
        last.saturating_sub(u64::from(n))
    }

    /// Two secrets with a version each, served on both hosts.
    fn served(&mut self) {
        let binding = |n| Move::ApplyBinding {
            binding: n,
            secret: n,
            also: false,
            host: None,
            form: n % 2,
        };
        let mut prelude = vec![
            Move::Enrol(0),
            Move::Enrol(1),
            Move::ApplySecret(0, true),
            Move::ApplySecret(1, true),
        ];
        prelude.extend((0..8).map(|_| Move::Answer {
            fails: false,
            late: false,
        }));
        prelude.extend([binding(0), binding(1)]);
        prelude.extend((0..HOSTS).map(|host| Move::Start {
            host,
            container: host,
            binding: host,
        }));
        prelude.extend((0..HOSTS).map(|host| Move::Start {
            host,
            container: 2,
            binding: 1 - host,
        }));
        self.play(&prelude);
        assert_eq!(self.world.assignments.len(), 4);
    }

    fn play(&mut self, moves: &[Move]) {
        for step in moves {
            if let Some(command) = self.command_of(step) {
                self.run(&command);
            }
        }
    }

    fn lie(&self, step: &Move) -> Option<HostReport> {
        let Move::Report {
            host,
            items,
            holds,
            complete,
            current_plan,
        } = step
        else {
            return None;
        };
        let at = self.now();
        let items = items.iter().map(|(c, binding, fact, version)| {
            let bound = self
                .world
                .bindings
                .get(&binding_id(*binding))
                .and_then(|b| b.spec.as_ref());
            let nth = |spec: &binding::Spec| {
                let nth = usize::from(*c) % (spec.also.len() + 1);
                spec.secrets().nth(nth).unwrap_or(spec.secret)
            };
            let secret = bound.map_or(secret_id(0), nth);
            let version = self.recent(secret, *version);
            let fact = match fact {
                0 => Fact::Swapped { version, at },
                1 => Fact::Reloaded { version, at },
                2 => Fact::Withdrawn,
                3 => Fact::Vanished,
                _ => Fact::Refused {
                    version,
                    reason: "no".to_owned(),
                },
            };
            Item {
                container: container(*c),
                container_name: "c".to_owned(),
                image_digest: "sha256:1".to_owned(),
                binding: binding_id(*binding),
                secret,
                fact,
                service: String::new(),
            }
        });
        let newest = self.world.host_generation(host_id(*host));
        Some(HostReport {
            generation: if *current_plan { newest } else { newest / 2 },
            items: items.collect(),
            containers: (0..*current_plan as u8 * 2).map(container).collect(),
            holds: holds
                .iter()
                .map(|(n, version)| (secret_id(*n), self.recent(secret_id(*n), *version)))
                .collect(),
            complete: *complete,
            knows_staged: true,
            ..HostReport::empty(host_id(*host))
        })
    }

    /// Everybody behaves from now on: steps succeed, stores confirm, hosts reconcile.
    fn heal(&mut self) {
        for _ in 0..HEALED_AFTER {
            let retries: Vec<Command> = self
                .world
                .open_rotations()
                .filter(|open| matches!(open.phase, Phase::Retrying { .. }))
                .map(|open| Command::RetryStep { rotation: open.id })
                .chain(
                    self.world
                        .revocations
                        .values()
                        .filter(|open| {
                            !open.closed && matches!(open.backend, Backend::Failed { .. })
                        })
                        .map(|open| Command::RetryRevoke {
                            revocation: open.id,
                        }),
                )
                .collect();
            retries.iter().for_each(|command| self.run(command));
            let watched = self.world.open_rotations();
            let watched = watched.filter(|open| open.phase == Phase::Canary);
            let watched: Vec<RotationId> = watched.map(|open| open.id).collect();
            for rotation in watched {
                self.run(&Command::DeadlinePassed { rotation });
            }
            let round = usize::from(SECRETS) * 8;
            for _ in 0..round {
                self.answer(false, false)
                    .iter()
                    .for_each(|command| self.run(command));
            }
            for _ in 0..round {
                self.answer_revoke(false, false)
                    .iter()
                    .for_each(|command| self.run(command));
            }
            for host in self.world.hosts.keys().copied().collect::<Vec<_>>() {
                let report = honest_report(&self.world, host, self.now());
                self.run(&Command::Report(report));
            }
        }
    }
}

/// The secret whose version before the current one stays alive; bindings of the second form name it.
const KEEPS: u8 = 1;

/// The first secret holds at its deadline and has canaries, the others force.
fn spec_of(n: u8, has_generator: bool) -> secret::Spec {
    secret::Spec {
        rotation: RotationPolicy {
            schedule: Schedule::Interval(Duration::from_secs(60)),
            on_deadline: match n {
                0 => OnDeadline::Hold,
                _ => OnDeadline::Force,
            },
            keep_previous: n == KEEPS,
            canary: (n != KEEPS).then_some(Canary {
                consumers: 1,
                watch: Duration::from_secs(1),
            }),
            ..RotationPolicy::default()
        },
        ..if has_generator {
            generated()
        } else {
            secret::Spec::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_over_random_histories(moves in moves(), from_the_middle in prop::bool::weighted(0.8)) {
        let mut model = Model::default();
        if from_the_middle {
            model.served();
        }
        model.play(&moves);
        model.invariant_replay_gives_the_same_world();
        model.invariant_everything_ends_once_everybody_behaves();
        model.invariant_replay_gives_the_same_world();
    }
}
