//! What a host of a random history says when it does what its plan asks.

use super::*;

/// What a binding gives out to a container: all its secrets or none.
pub(super) fn given_to(
    plan: &HostPlan,
    planned: &PlannedBinding,
    container: &ContainerId,
) -> Option<Vec<(SecretId, u64)>> {
    let ahead = |secret: SecretId| {
        let mut staged = plan.staged.iter().filter(|one| one.secret == secret);
        let own = staged.find(|one| one.canaries.contains(container))?;
        Some(own.grant)
    };
    let own = ahead(planned.secret).or(planned.current)?;
    let mut given = vec![(planned.secret, own.version)];
    for further in &planned.also {
        let grant = ahead(further.secret).or(further.current)?;
        given.push((further.secret, grant.version));
    }
    Some(given)
}

/// What a host says that did all its plan asks: every consumer runs on what the plan gives, and
/// nothing else is left.
pub(super) fn honest_report(world: &World, host: HostId, at: Timestamp) -> HostReport {
    let plan = plan_host(world, host);
    let given = |container: &ContainerId, binding: BindingId| {
        let plan = plan.as_ref()?;
        let mut bindings = plan.bindings.iter();
        let planned = bindings.find(|planned| planned.binding == binding)?;
        given_to(plan, planned, container)
    };
    let own = world.assignments.iter().filter(|(key, _)| key.host == host);
    let mut held: BTreeMap<(&ContainerId, BindingId), Vec<SecretId>> = BTreeMap::new();
    for (key, state) in own {
        let place = (&key.container, key.binding);
        held.entry(place).or_default().push(state.secret);
    }
    let mut items: Vec<Item> = Vec::new();
    for ((container, binding), secrets) in held {
        let versions = given(container, binding).unwrap_or_default();
        let is_gone = |secret: &SecretId| versions.iter().all(|(given, _)| given != secret);
        let gone = secrets.into_iter().filter(is_gone);
        let gone = gone.map(|secret| (secret, Fact::Withdrawn));
        let all = gone.chain(
            versions
                .iter()
                .map(|&(secret, version)| (secret, Fact::Reloaded { version, at })),
        );
        items.extend(all.map(|(secret, fact)| Item {
            container: container.clone(),
            container_name: "c".to_owned(),
            image_digest: "sha256:1".to_owned(),
            binding,
            secret,
            fact,
            service: String::new(),
        }));
    }
    let holds = items.iter().filter_map(|item| match item.fact {
        Fact::Reloaded { version, .. } => Some((item.secret, version)),
        _ => None,
    });
    // What lies beside it lies in the file of a container that has it, and nowhere else.
    let has_file = |planned: &&PlannedBinding| {
        let mut own = items.iter().filter(|item| item.binding == planned.binding);
        own.any(|item| matches!(item.fact, Fact::Reloaded { .. }))
    };
    let bindings = plan.iter().flat_map(|plan| &plan.bindings);
    let previous = bindings
        .filter(has_file)
        .flat_map(|planned| &planned.previous);
    let previous = previous.map(|one| (one.secret, one.grant.version));
    let staged = plan.iter().flat_map(|plan| &plan.staged);
    let staged = staged.map(|one| (one.secret, one.grant.version));
    let holds = holds.chain(previous).chain(staged).collect();
    HostReport {
        containers: items.iter().map(|item| item.container.clone()).collect(),
        generation: world.host_generation(host),
        items,
        holds,
        complete: true,
        knows_staged: true,
        ..HostReport::empty(host)
    }
}
