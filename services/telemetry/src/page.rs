//! One page of numbers, in Prometheus' text form.
//!
//! Invariant: a label takes at most as many values as its bound says; what comes after is added up
//! under [`OTHER`], so that a deployment that grows costs its Prometheus no more than was said.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::time::Timestamp;
use keywheel_engine::tally::Spread;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use crate::names::{Bound, Fold, Kind, Metric};

/// The value of a label for everything beyond its bound.
pub const OTHER: &str = "other";

/// What is shown of one metric.
struct Shown {
    metric: &'static Metric,
    /// For each label, the values that are told apart.
    seen: Vec<BTreeSet<String>>,
    numbers: BTreeMap<Vec<String>, f64>,
    spreads: BTreeMap<Vec<String>, Spread>,
}

/// Numbers of one moment.
#[derive(Default)]
pub struct Page(BTreeMap<&'static str, Shown>);

impl Page {
    /// Shows a number. Labels come in the order of the metric's.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], number: f64) {
        let shown = self.shown(metric);
        let labels = shown.bounded(labels);
        let fold = |known: f64| match metric.fold {
            Fold::Sum => known + number,
            Fold::Most => known.max(number),
            Fold::Least => known.min(number),
        };
        let known = shown.numbers.get(&labels).copied();
        shown.numbers.insert(labels, known.map_or(number, fold));
    }

    /// Shows a count.
    pub fn count(&mut self, metric: &'static Metric, labels: &[&str], count: u64) {
        self.set(metric, labels, float(count));
    }

    /// Shows a yes or no.
    pub fn flag(&mut self, metric: &'static Metric, labels: &[&str], is: bool) {
        self.set(metric, labels, if is { 1.0 } else { 0.0 });
    }

    /// Shows an instant, in seconds since 1970.
    pub fn at(&mut self, metric: &'static Metric, labels: &[&str], at: Timestamp) {
        self.set(metric, labels, crate::instance::seconds(at));
    }

    /// Begins every series of a metric at nothing, as far as its labels are words and not among those
    /// that are given: Prometheus counts a rise from what was there before, so the first of a series
    /// that was not there would be none.
    pub fn begin(&mut self, metric: &'static Metric, labels: &[&str]) {
        let Some(next) = metric.labels.get(labels.len()) else {
            match metric.kind {
                Kind::Histogram => self.spread(metric, labels, &Spread::default()),
                Kind::Counter | Kind::Gauge => self.set(metric, labels, 0.0),
            }
            return;
        };
        let Bound::Words(words) = next.bound else {
            return;
        };
        for word in words {
            self.begin(metric, &[labels, &[word]].concat());
        }
    }

    /// Shows how spans are spread; those of one set of labels are added up.
    pub fn spread(&mut self, metric: &'static Metric, labels: &[&str], spread: &Spread) {
        let shown = self.shown(metric);
        let labels = shown.bounded(labels);
        shown.spreads.entry(labels).or_default().merge(spread);
    }

    /// The page as Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let families: Vec<MetricFamily> = self.0.values().map(Shown::family).collect();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(error = %error, "metrics not written");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    fn shown(&mut self, metric: &'static Metric) -> &mut Shown {
        self.0.entry(metric.name).or_insert_with(|| Shown {
            metric,
            seen: vec![BTreeSet::new(); metric.labels.len()],
            numbers: BTreeMap::new(),
            spreads: BTreeMap::new(),
        })
    }
}

impl Shown {
    fn bounded(&mut self, labels: &[&str]) -> Vec<String> {
        let given = labels.iter().copied().chain(std::iter::repeat(OTHER));
        let kept = self.metric.labels.iter().zip(&mut self.seen).zip(given);
        kept.map(|((label, seen), value)| {
            let is_told = match label.bound {
                Bound::Words(words) => words.contains(&value),
                Bound::Most(most) => seen.contains(value) || seen.len() < most,
            };
            if !is_told {
                return OTHER.to_owned();
            }
            seen.insert(value.to_owned());
            value.to_owned()
        })
        .collect()
    }

    fn family(&self) -> MetricFamily {
        let kind = match self.metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        };
        let numbers = self.numbers.iter().map(|(labels, number)| {
            let mut sample = self.sample(labels);
            match self.metric.kind {
                Kind::Counter => {
                    let mut counter = Counter::default();
                    counter.set_value(*number);
                    sample.set_counter(counter);
                }
                _ => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(*number);
                    sample.set_gauge(gauge);
                }
            }
            sample
        });
        let spreads = self.spreads.iter().map(|(labels, spread)| {
            let mut sample = self.sample(labels);
            sample.set_histogram(histogram(spread));
            sample
        });
        let mut family = MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(numbers.chain(spreads).collect());
        family
    }

    fn sample(&self, values: &[String]) -> Sample {
        let pair = |(label, value): (&crate::names::Label, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value(value.clone());
            pair
        };
        Sample::from_label(self.metric.labels.iter().zip(values).map(pair).collect())
    }
}

fn histogram(spread: &Spread) -> Histogram {
    let buckets = spread.cumulative().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(spread.count());
    histogram.set_sample_sum(spread.sum().as_secs_f64());
    histogram
}

/// Counts are shown as floats, exactly up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other number"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::names;

    fn lines(page: &Page, name: &str) -> Vec<String> {
        let text = page.text();
        let of = text.lines().filter(|line| line.starts_with(name));
        of.map(str::to_owned).collect()
    }

    #[test]
    fn a_label_is_told_apart_up_to_its_bound_and_added_up_beyond() {
        for (metric, most) in [
            (&names::SECRET_AGE, names::MOST_SECRETS),
            (&names::HOST_PLAN_LAG, names::MOST_HOSTS),
        ] {
            let mut page = Page::default();
            for n in 0..most {
                page.count(metric, &[&format!("name-{n}")], 5);
            }
            assert_eq!(lines(&page, metric.name).len(), most);
            assert!(!page.text().contains(OTHER));
            page.count(metric, &["one-more"], 7);
            page.count(metric, &["yet-another"], 6);
            page.count(metric, &["name-0"], 9);
            let lines = lines(&page, metric.name);
            assert_eq!(
                lines.len(),
                most + 1,
                "the known ones, and one for all others"
            );
            // An age's worst is what counts.
            let other = lines.iter().find(|line| line.contains("\"other\""));
            assert!(other.is_some_and(|line| line.ends_with("} 7")), "{other:?}");
            let known = lines.iter().find(|line| line.contains("\"name-0\""));
            assert!(known.is_some_and(|line| line.ends_with("} 9")), "{known:?}");
        }
    }

    #[test]
    fn beyond_the_bound_counts_are_sums_and_instants_the_earliest() {
        let mut page = Page::default();
        for n in 0..names::MOST_SECRETS {
            page.count(&names::STRAGGLERS, &[&n.to_string()], 1);
            page.count(&names::SECRET_LAST_ROTATION, &[&n.to_string()], 1);
        }
        for (name, number) in [("a", 3), ("b", 4)] {
            page.count(&names::STRAGGLERS, &[name], number);
            page.count(&names::SECRET_LAST_ROTATION, &[name], number);
        }
        let text = page.text();
        assert!(text.contains("keywheel_stragglers{secret=\"other\"} 7\n"));
        let earliest = "keywheel_secret_last_rotation_timestamp_seconds{secret=\"other\"} 3\n";
        assert!(text.contains(earliest), "{text}");
    }

    #[test]
    fn beyond_the_bound_spreads_are_added_up() {
        let spread = |millis| {
            let mut spread = Spread::default();
            spread.add(Duration::from_millis(millis));
            spread
        };
        let mut page = Page::default();
        for n in 0..names::MOST_STORES {
            let name = format!("store-{n}");
            page.spread(&names::STORE_DURATION, &[&name, "set"], &spread(1));
        }
        assert!(!page.text().contains(OTHER), "as many as the bound says");
        for (name, millis) in [("one-more", 7), ("yet-another", 60), ("a-third", 2_000)] {
            page.spread(&names::STORE_DURATION, &[name, "set"], &spread(millis));
        }
        let text = page.text();
        let name = names::STORE_DURATION.name;
        let labels = "store=\"other\",operation=\"set\"";
        for line in [
            format!("{name}_bucket{{{labels},le=\"0.01\"}} 1"),
            format!("{name}_bucket{{{labels},le=\"0.1\"}} 2"),
            format!("{name}_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("{name}_sum{{{labels}}} 2.067"),
            format!("{name}_count{{{labels}}} 3"),
            format!("{name}_count{{store=\"store-0\",operation=\"set\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn every_word_begins_at_nothing_and_what_is_counted_is_added_to_that() {
        let mut page = Page::default();
        page.begin(&names::ROTATION_STEP_FAILURES, &[]);
        page.count(&names::ROTATION_STEP_FAILURES, &["set"], 1);
        page.begin(&names::ROTATION_DURATION, &[]);
        page.begin(&names::STORE_ERRORS, &["vault", "set"]);
        page.begin(&names::STRAGGLERS, &[]);
        let shown = lines(&page, "keywheel_rotation_step_failures_total");
        assert_eq!(shown.len(), 8, "{shown:?}");
        let ones = shown.iter().filter(|line| line.ends_with(" 1"));
        assert_eq!(ones.count(), 1, "{shown:?}");
        let counts = lines(&page, "keywheel_rotation_duration_seconds_count");
        assert_eq!(counts.len(), 4, "{counts:?}");
        let errors = lines(&page, "keywheel_store_errors_total{store=\"vault\"");
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert!(
            errors.iter().all(|line| line.ends_with("} 0")),
            "{errors:?}"
        );
        let names_only = lines(&page, "keywheel_stragglers");
        assert!(names_only.is_empty(), "names are not known: {names_only:?}");
    }

    #[test]
    fn a_word_that_nobody_named_is_another_and_a_missing_one_too() {
        let mut page = Page::default();
        page.count(&names::ROTATIONS, &["somehow"], 1);
        page.count(&names::ROTATIONS, &[], 1);
        page.count(&names::ROTATIONS, &["schedule"], 4);
        let text = page.text();
        assert!(text.contains("keywheel_rotations_total{trigger=\"other\"} 2\n"));
        assert!(text.contains("keywheel_rotations_total{trigger=\"schedule\"} 4\n"));
    }

    #[test]
    fn names_of_secrets_cannot_break_out_of_their_line() {
        let mut page = Page::default();
        page.count(&names::SECRET_AGE, &["a\"} 1\nkeywheel_x{b=\"\\"], 1);
        assert_eq!(lines(&page, "keywheel").len(), 1);
    }

    #[test]
    fn a_spread_has_every_bound_a_count_and_a_sum() {
        let mut spread = Spread::default();
        for millis in [4, 5, 6, 3_600_000] {
            spread.add(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.spread(&names::PROPAGATION, &[], &spread);
        let text = page.text();
        for line in [
            "# TYPE keywheel_propagation_seconds histogram",
            "keywheel_propagation_seconds_bucket{le=\"0.005\"} 2",
            "keywheel_propagation_seconds_bucket{le=\"1800\"} 3",
            "keywheel_propagation_seconds_bucket{le=\"+Inf\"} 4",
            "keywheel_propagation_seconds_sum 3600.015",
            "keywheel_propagation_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
