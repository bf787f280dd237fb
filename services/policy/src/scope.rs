//! Entities of what is asked: their uids, what they are in, and whether a policy's scope means them.
//!
//! Only the two entities of a request are made, with all that they are in written out, so that a decision costs the
//! same however many secrets there are.

use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Entity, EntityId, EntityTypeName, EntityUid, Policy, PrincipalConstraint,
    ResourceConstraint, RestrictedExpression,
};

use crate::words::{ENVIRONMENT, Principal, Resource, Verb};

/// Names of the schema's types, read once.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    action: EntityTypeName,
    user: EntityTypeName,
    service: EntityTypeName,
    group: EntityTypeName,
    environment: EntityTypeName,
    path: EntityTypeName,
    secret: EntityTypeName,
    store: EntityTypeName,
    host: EntityTypeName,
    playbook: EntityTypeName,
    notification: EntityTypeName,
    signal_source: EntityTypeName,
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

impl Types {
    pub(crate) fn read() -> Result<Self, String> {
        let named = |name: &str| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        Ok(Self {
            action: named("Action")?,
            user: named("User")?,
            service: named("Service")?,
            group: named("Group")?,
            environment: named("Environment")?,
            path: named("Path")?,
            secret: named("Secret")?,
            store: named("Store")?,
            host: named("Host")?,
            playbook: named("Playbook")?,
            notification: named("Notification")?,
            signal_source: named("SignalSource")?,
        })
    }

    pub(crate) fn action(&self, verb: Verb) -> EntityUid {
        uid(&self.action, verb.word())
    }

    pub(crate) fn group(&self, name: &str) -> EntityUid {
        uid(&self.group, name)
    }

    pub(crate) fn environment(&self) -> EntityUid {
        uid(&self.environment, ENVIRONMENT)
    }

    pub(crate) fn principal(&self, principal: &Principal) -> EntityUid {
        match principal {
            Principal::User { id, .. } => uid(&self.user, id),
            Principal::Service { name, .. } => uid(&self.service, name),
            Principal::Host { name } => uid(&self.host, name),
        }
    }

    pub(crate) fn resource(&self, resource: &Resource) -> EntityUid {
        match resource {
            Resource::Environment => self.environment(),
            Resource::Path(name) => uid(&self.path, name),
            Resource::Secret(name) => uid(&self.secret, name),
            Resource::Store(name) => uid(&self.store, name),
            Resource::Host(name) => uid(&self.host, name),
            Resource::Playbook(name) => uid(&self.playbook, name),
            Resource::Notification(name) => uid(&self.notification, name),
            Resource::SignalSource(name) => uid(&self.signal_source, name),
        }
    }

    /// All that a resource of this uid is in by its kind and name, without itself.
    pub(crate) fn above(&self, of: &EntityUid) -> Vec<EntityUid> {
        let (kind, id) = (of.type_name(), of.id().unescaped());
        if *kind == self.environment {
            return Vec::new();
        }
        let mut all = vec![self.environment()];
        if *kind == self.secret {
            all.push(uid(&self.path, id));
        }
        if *kind == self.secret || *kind == self.path {
            let ends = id.match_indices('/').map(|(end, _)| end);
            all.extend(ends.filter_map(|end| Some(uid(&self.path, id.get(..end)?))));
        }
        all
    }

    /// The resource that a uid of a policy means; `None` for what is no resource.
    pub(crate) fn resource_of(&self, of: &EntityUid) -> Option<Resource> {
        let (kind, id) = (of.type_name(), of.id().unescaped().to_owned());
        let known = [
            (&self.path, Resource::Path(id.clone())),
            (&self.secret, Resource::Secret(id.clone())),
            (&self.store, Resource::Store(id.clone())),
            (&self.host, Resource::Host(id.clone())),
            (&self.playbook, Resource::Playbook(id.clone())),
            (&self.notification, Resource::Notification(id.clone())),
            (&self.signal_source, Resource::SignalSource(id)),
            (&self.environment, Resource::Environment),
        ];
        let mut known = known.into_iter();
        known.find_map(|(of, resource)| (of == kind).then_some(resource))
    }

    /// The name of a host.
    pub(crate) fn host_of<'u>(&self, of: &'u EntityUid) -> Option<&'u str> {
        (*of.type_name() == self.host).then(|| of.id().unescaped())
    }

    pub(crate) fn is_group(&self, of: &EntityUid) -> bool {
        *of.type_name() == self.group
    }

    /// The principal with its groups.
    pub(crate) fn principal_entity(
        &self,
        principal: &Principal,
        groups: &[EntityUid],
    ) -> Result<Entity, String> {
        let attributes = match principal {
            Principal::User { name, .. } => HashMap::from([("name".to_owned(), text(name))]),
            Principal::Service { path, .. } => {
                let path = RestrictedExpression::new_entity_uid(uid(&self.path, path));
                HashMap::from([("path".to_owned(), path)])
            }
            Principal::Host { .. } => HashMap::new(),
        };
        let parents: HashSet<EntityUid> = groups.iter().cloned().collect();
        Entity::new(self.principal(principal), attributes, parents).map_err(|e| e.to_string())
    }

    /// The resource with all it is in.
    pub(crate) fn resource_entity(
        &self,
        resource: &Resource,
        above: &[EntityUid],
    ) -> Result<Entity, String> {
        let attributes = match resource {
            Resource::Secret(name) => HashMap::from([("name".to_owned(), text(name))]),
            _ => HashMap::new(),
        };
        let parents = above.iter().cloned().collect();
        Entity::new(self.resource(resource), attributes, parents).map_err(|e| e.to_string())
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// An entity and all it is in.
pub(crate) struct Place<'a> {
    pub(crate) own: &'a EntityUid,
    pub(crate) above: &'a [EntityUid],
}

impl Place<'_> {
    fn is_in(&self, of: &EntityUid) -> bool {
        self.own == of || self.above.contains(of)
    }
}

/// Whether the scope of a policy means this principal.
pub(crate) fn means_principal(policy: &Policy, place: &Place<'_>) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Eq(of) => *place.own == of,
        PrincipalConstraint::In(of) => place.is_in(&of),
        PrincipalConstraint::Is(kind) => *place.own.type_name() == kind,
        PrincipalConstraint::IsIn(kind, of) => *place.own.type_name() == kind && place.is_in(&of),
    }
}

/// Whether it means this action.
pub(crate) fn means_action(policy: &Policy, action: &EntityUid) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(of) => of == *action,
        ActionConstraint::In(all) => all.contains(action),
    }
}

/// Whether it means this resource.
pub(crate) fn means_resource(policy: &Policy, place: &Place<'_>) -> bool {
    match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Eq(of) => *place.own == of,
        ResourceConstraint::In(of) => place.is_in(&of),
        ResourceConstraint::Is(kind) => *place.own.type_name() == kind,
        ResourceConstraint::IsIn(kind, of) => *place.own.type_name() == kind && place.is_in(&of),
    }
}

/// The one principal or group that a policy's scope is tied to.
pub(crate) fn tied_principal(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(of)
        | PrincipalConstraint::In(of)
        | PrincipalConstraint::IsIn(_, of) => Some(of),
    }
}

/// The one resource, or what it has to be in, that a policy's scope is tied to.
pub(crate) fn tied_resource(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::Eq(of)
        | ResourceConstraint::In(of)
        | ResourceConstraint::IsIn(_, of) => Some(of),
    }
}
