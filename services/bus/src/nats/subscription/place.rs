//! A reader's place in a stream that the bus server may lose.
//!
//! Invariant: the numbers it gives only grow from one life of the stream to the next, and between two
//! lives there is a hole.

/// A reader's place.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// When the stream was made, as the bus server says it.
    life: Option<i128>,
    /// Added to the bus server's numbers.
    base: u64,
    /// The highest number of the bus server in this life.
    last: u64,
    /// A life began that the reader has not heard of yet.
    is_news: bool,
}

impl Place {
    /// The stream is of this life; whether it is another than before.
    pub(super) fn enter(&mut self, life: i128) -> bool {
        let before = self.life.replace(life);
        if before.is_none_or(|before| before == life) {
            return false;
        }
        self.base = self.base + self.last + 1;
        self.last = 0;
        self.is_news = true;
        true
    }

    /// Whether a life began since this was last asked.
    pub(super) const fn take_news(&mut self) -> bool {
        std::mem::replace(&mut self.is_news, false)
    }

    /// The number to hand out for the bus server's.
    pub(super) fn sequence(&mut self, raw: u64) -> u64 {
        self.last = self.last.max(raw);
        self.base + raw
    }

    /// The bus server's number after which to go on, if any was seen.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_made_anew_shows_a_hole_and_never_goes_back() {
        let mut place = Place::default();
        assert!(!place.enter(100));
        assert_eq!(
            [place.sequence(7), place.sequence(9), place.sequence(8)],
            [7, 9, 8]
        );
        assert!(!place.enter(100), "the same life");
        assert!(!place.take_news());
        assert!(place.enter(200));
        assert!(place.take_news() && !place.take_news());
        assert_eq!(place.last(), 0);
        assert_eq!(place.sequence(1), 11, "10 is the hole");
        assert!(place.enter(300));
        assert_eq!(place.sequence(1), 13);
    }

    #[test]
    fn a_life_in_which_nothing_was_read_leaves_a_hole_too() {
        let mut place = Place::default();
        place.enter(1);
        assert_eq!(place.sequence(5), 5);
        place.enter(2);
        place.enter(3);
        assert_eq!(place.sequence(1), 8);
    }
}
