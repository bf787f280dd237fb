//! What policies say of bindings, asked within the decision that it is about: so nothing is granted in between.

use std::sync::Arc;

use keywheel_core::binding::{Denial, Spec};
use keywheel_core::command::Command;
use keywheel_core::decision::{self, Context};
use keywheel_core::event::Event;
use keywheel_core::name::BindingName;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;

use super::CommandBus;

/// Says what the policies of a world have against what a binding grants, at a time; nothing where they have nothing.
pub type Entitle =
    Arc<dyn Fn(&World, &BindingName, &Spec, Timestamp) -> Option<Denial> + Send + Sync>;

impl CommandBus {
    /// Asks this about what bindings grant; without it they grant what they say.
    #[must_use]
    pub fn with_entitlement(mut self, entitle: Entitle) -> Self {
        self.entitle = Some(entitle);
        self
    }

    /// What a command leads to once its bindings are judged.
    pub(super) fn entitled(
        &self,
        command: &Command,
        events: Vec<Event>,
        ctx: &Context,
    ) -> Vec<Event> {
        let Some(entitle) = &self.entitle else {
            return events;
        };
        if !decision::is_judged(command, &events) {
            return events;
        }
        let judge =
            |world: &World, name: &BindingName, spec: &Spec| entitle(world, name, spec, ctx.now);
        decision::entitle(&self.draft, (command, events), ctx, &judge)
    }
}
