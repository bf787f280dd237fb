//! Measured durations and what is said about them.

use std::time::Duration;

/// Durations in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one in milliseconds.
    pub fn add(&mut self, milliseconds: f64) {
        self.0.push(milliseconds);
    }

    /// Adds one as measured.
    pub fn add_span(&mut self, span: Duration) {
        self.add(span.as_secs_f64() * 1e3);
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that this share (0 to 1) of all values does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let wanted = (share * sorted.len() as f64).ceil() as usize;
        sorted
            .get(wanted.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// The middle.
    #[must_use]
    pub fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    /// Nearly the worst.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut samples = Samples::default();
        for value in (1..=100).rev() {
            samples.add(f64::from(value));
        }
        assert_eq!(
            (samples.p50(), samples.p99(), samples.count()),
            (50.0, 99.0, 100)
        );
    }

    #[test]
    fn the_samples_of_another_are_added() {
        let (mut samples, mut other) = (Samples::default(), Samples::new());
        samples.add(1.0);
        other.add(3.0);
        samples.extend(&other);
        assert_eq!((samples.count(), samples.quantile(1.0)), (2, 3.0));
    }

    #[test]
    fn one_value_is_every_quantile() {
        let mut samples = Samples::default();
        samples.add_span(Duration::from_millis(7));
        assert_eq!((samples.p50(), samples.p99()), (7.0, 7.0));
    }
}
