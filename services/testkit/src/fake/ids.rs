//! Ids that count up: unlike each other, the same in every run, sorting in the order drawn.

use std::sync::atomic::{AtomicU64, Ordering};

use keywheel_engine::port::ids::Ids;

/// Draws 1, 2, 3, … in the last eight bytes.
#[derive(Debug, Default)]
pub struct FakeIds {
    drawn: AtomicU64,
    /// First eight bytes of every id; sources with other ones never draw the same id.
    source: u64,
}

impl FakeIds {
    /// Counts from 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts from 1 under another prefix.
    #[must_use]
    pub fn of_source(source: u64) -> Self {
        Self {
            drawn: AtomicU64::new(0),
            source,
        }
    }
}

impl Ids for FakeIds {
    fn draw(&self) -> [u8; 16] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        (u128::from(self.source) << 64 | u128::from(number)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_drawn_and_sources_do_not_meet() {
        let (one, other) = (FakeIds::new(), FakeIds::of_source(1));
        let drawn = [one.draw(), one.draw(), other.draw(), other.draw()];
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
