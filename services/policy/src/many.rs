//! One principal's decisions about many things: where policies say the same of several of them, they are asked once.
//!
//! Invariant: what is said here is what [`Set::decide`] says.

use std::collections::HashMap;
use std::mem::Discriminant;

use cedar_policy::EntityUid;

use crate::decide::{Asked, Decision};
use crate::scope::Place;
use crate::set::Set;
use crate::slice::Looked;
use crate::words::{Principal, Resource, Verb};

/// Things of one kind, by the policies that are asked about them.
type Alike = (Discriminant<Resource>, Vec<usize>);

/// Decides about one thing after the other.
#[derive(Debug)]
pub struct Many<'s> {
    set: &'s Set,
    principal: Principal,
    verb: Verb,
    now: i64,
    own: EntityUid,
    groups: Vec<EntityUid>,
    action: EntityUid,
    known: HashMap<Alike, Decision>,
}

impl Set {
    /// Decides for one principal, verb and time about many things.
    #[must_use]
    pub fn many(&self, principal: Principal, verb: Verb, now: i64) -> Many<'_> {
        Many {
            set: self,
            own: self.types.principal(&principal),
            groups: self.groups_of(&principal),
            action: self.types.action(verb),
            principal,
            verb,
            now,
            known: HashMap::new(),
        }
    }
}

impl Many<'_> {
    /// Decides about a thing.
    pub fn decide(&mut self, resource: &Resource) -> Decision {
        let alike = self.alike(resource);
        if let Some(known) = alike.as_ref().and_then(|alike| self.known.get(alike)) {
            return known.clone();
        }
        let decision = self.set.decide(&Asked {
            principal: self.principal.clone(),
            verb: self.verb,
            resource: resource.clone(),
            now: self.now,
        });
        if let Some(alike) = alike {
            self.known.insert(alike, decision.clone());
        }
        decision
    }

    /// How many decisions were remembered.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// What a decision depends on; nothing where some policy looks at the thing itself.
    fn alike(&self, resource: &Resource) -> Option<Alike> {
        // A path may be one that a policy names, and lie below one that another names.
        if matches!(resource, Resource::Path(_) | Resource::Environment) {
            return None;
        }
        let own = self.set.types.resource(resource);
        let above = self.set.above(&own);
        let who = Place {
            own: &self.own,
            above: &self.groups,
        };
        let what = Place {
            own: &own,
            above: &above,
        };
        let looked = Looked {
            who: &who,
            action: &self.action,
            what: &what,
            name: match resource {
                Resource::Secret(name) => Some(name.as_str()),
                _ => None,
            },
        };
        let all = self.set.slices.of(&looked);
        let places = all.map(|filed| filed.is_alike.then(|| std::ptr::from_ref(filed).addr()));
        let places = places.collect::<Option<Vec<usize>>>()?;
        Some((std::mem::discriminant(resource), places))
    }
}
