//! A cut-over's part of a rotation's state: hosts that take the version beforehand, and the gap. What it leads
//! to is `decision`'s.

use super::{Event, Phase, Rotation};

impl Rotation {
    /// What comes before and after a server refuses the version before; a host that is evicted is part of
    /// neither.
    pub(super) fn evolve_cut_over(&mut self, event: &Event) {
        match event {
            Event::HostReleased { host } => {
                self.barrier.remove(host);
                self.staging.remove(host);
            }
            Event::StagingStarted { hosts, deadline } => {
                self.phase = Phase::Staging;
                self.staging = hosts.iter().copied().collect();
                self.deadline = Some(*deadline);
            }
            Event::HostStaged { host } => {
                self.staging.remove(host);
            }
            Event::StagingEnded { .. } => {
                self.staging.clear();
                self.deadline = None;
            }
            Event::CutOver { at } => self.cut_over = Some(*at),
            Event::GapMeasured { since, until } => self.gap = Some(until.since(*since)),
            _ => {}
        }
    }
}
