//! Drawing ids: version 7 uuids, so that ids drawn later sort later.

use keywheel_engine::port::ids::Ids;
use uuid::Uuid;

/// Ids from the system's random source and clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws them")]
    fn draw(&self) -> [u8; 16] {
        Uuid::now_v7().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_seven_and_sort_in_the_order_drawn() {
        let drawn: Vec<[u8; 16]> = (0..1000).map(|_| SystemIds.draw()).collect();
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            drawn
                .iter()
                .all(|id| Uuid::from_bytes(*id).get_version_num() == 7)
        );
    }
}
