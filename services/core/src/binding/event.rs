//! Facts about a binding, its state and its decisions.

use super::{OnRevoke, Reload, Spec, Target};
use crate::id::{BindingId, SecretId};
use crate::name::BindingName;

/// What happened to a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It grants from now on, or grants something else than before.
    Bound {
        /// Its name, for ever.
        name: BindingName,
        /// What it grants, whole.
        spec: Spec,
    },
    /// It grants nothing any more.
    Unbound,
    /// It is declared and grants nothing, for policies say that its service may not have what it would give.
    Withheld {
        /// Its name, for ever.
        name: BindingName,
        /// What it would grant, whole.
        spec: Spec,
        /// What policies said.
        denial: Denial,
    },
}

/// What policies said of the service that a binding is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The service, as policies name it.
    pub service: String,
    /// The first of the binding's secrets that it may not have.
    pub secret: SecretId,
    /// What decided: that no policy permits it, or those that forbid it.
    pub reason: String,
}

/// A binding that is declared and grants nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// What it would grant.
    pub spec: Spec,
    /// Why it does not.
    pub denial: Denial,
}

/// A normal "no" about a binding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Labels can be set by anyone on the engine's socket.
    #[error(
        "binding `{binding}` selects by labels alone, which anyone on the engine's socket can set; name `host` and `image` too, or say `insecureSelector: true`"
    )]
    SelectorTooWeak {
        /// Name of the binding.
        binding: BindingName,
    },
    /// An env variable can only change by a restart.
    #[error(
        "binding `{binding}` sets an env variable, which only a restart can change; use `reload: {{ restart: {{}} }}` or leave `reload` out"
    )]
    EnvNeedsRestart {
        /// Name of the binding.
        binding: BindingName,
    },
    /// A variable stays in a program for as long as that lives.
    #[error(
        "binding `{binding}` sets an env variable, which only a stop takes away; use `onRevoke: stop` or leave `onRevoke` out"
    )]
    VariableStays {
        /// Name of the binding.
        binding: BindingName,
    },
    /// A lease ends with its container's file, and the container gets another one.
    #[error(
        "binding `{binding}` gives leases, of which only the file goes when one is revoked; leave `onRevoke` out"
    )]
    LeaseOnRevoke {
        /// Name of the binding.
        binding: BindingName,
    },
    /// It grants nothing already.
    #[error("binding `{binding}` is not bound")]
    NotBound {
        /// Name of the binding.
        binding: BindingName,
    },
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its id.
    pub id: BindingId,
    /// Its name.
    pub name: BindingName,
    /// What it grants; `None` once unbound, and while it is withheld.
    pub spec: Option<Spec>,
    /// What it would grant but for the policies.
    pub withheld: Option<Withheld>,
}

impl Binding {
    /// A binding nobody has bound yet.
    #[must_use]
    pub fn new(id: BindingId, name: BindingName) -> Self {
        Self {
            id,
            name,
            spec: None,
            withheld: None,
        }
    }

    /// What was declared, whether policies let it be granted or not; `None` once unbound.
    #[must_use]
    pub fn declared(&self) -> Option<&Spec> {
        let withheld = self.withheld.as_ref().map(|withheld| &withheld.spec);
        self.spec.as_ref().or(withheld)
    }

    /// Grants; the same wish again gives no event.
    ///
    /// # Errors
    /// When the selector is too weak, or the reload or what follows a revocation cannot work.
    pub fn decide_bind(&self, spec: &Spec) -> Result<Option<Event>, Rejection> {
        if !spec.selector.is_strong() && !spec.selector.insecure {
            return Err(Rejection::SelectorTooWeak {
                binding: self.name.clone(),
            });
        }
        let restarts = matches!(spec.reload, Reload::Restart { .. });
        if matches!(spec.target, Target::Env { .. }) && !restarts {
            return Err(Rejection::EnvNeedsRestart {
                binding: self.name.clone(),
            });
        }
        let only_stops = matches!(spec.on_revoke, OnRevoke::Remove | OnRevoke::Stop);
        if matches!(spec.target, Target::Env { .. }) && !only_stops {
            return Err(Rejection::VariableStays {
                binding: self.name.clone(),
            });
        }
        if self.declared() == Some(spec) {
            return Ok(None);
        }
        Ok(Some(Event::Bound {
            name: self.name.clone(),
            spec: spec.clone(),
        }))
    }

    /// Takes the grant back.
    ///
    /// # Errors
    /// When there is none.
    pub fn decide_unbind(&self) -> Result<Event, Rejection> {
        match self.declared() {
            Some(_) => Ok(Event::Unbound),
            None => Err(Rejection::NotBound {
                binding: self.name.clone(),
            }),
        }
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Bound { name, spec } => {
                self.name = name.clone();
                self.spec = Some(spec.clone());
                self.withheld = None;
            }
            Event::Unbound => (self.spec, self.withheld) = (None, None),
            Event::Withheld { name, spec, denial } => {
                self.name = name.clone();
                self.spec = None;
                self.withheld = Some(Withheld {
                    spec: spec.clone(),
                    denial: denial.clone(),
                });
            }
        }
    }
}
