//! What one thread measures.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::arrivals::Due;
use super::outcome::{Counts, Gaps, Interval, histogram};
use super::phase::Phase;

pub(super) struct Gathered {
    /// Since when `latency` and `counts` are gathered.
    pub(super) since: Instant,
    pub(super) counts: Counts,
    latency: Histogram<u64>,
    /// Replies since the load began, measured or not.
    pub(super) answered: u64,
    /// Replies to requests of the measured time that came after it.
    pub(super) answered_later: u64,
    /// See [`Outcome::lateness`](super::Outcome::lateness).
    pub(super) lateness: Histogram<u64>,
    pub(super) spread: Spread,
    /// See [`Outcome::waited`](super::Outcome::waited).
    pub(super) waited: Duration,
}

impl Gathered {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            counts: Counts::default(),
            latency: histogram(),
            answered: 0,
            answered_later: 0,
            lateness: histogram(),
            spread: Spread::default(),
            waited: Duration::ZERO,
        }
    }

    /// A request that counts from `since` is answered.
    pub(super) fn reply(&mut self, phase: Phase, since: Instant, now: Instant) {
        self.answered += 1;
        if phase.counts(since) {
            let passed = now.saturating_duration_since(since);
            self.latency.saturating_record(nanos(passed));
            self.answered_later += u64::from(!phase.is_measuring());
        }
        self.counts.completed += u64::from(phase.is_measuring());
    }

    /// A request of an open loop is about to be written.
    pub(super) fn sends(&mut self, phase: Phase, due: Due, now: Instant) {
        if !phase.counts(due.since) {
            return;
        }
        let late = match due.had_room {
            true => now.saturating_duration_since(due.since),
            // It had to wait for the server.
            false => Duration::ZERO,
        };
        self.lateness.saturating_record(nanos(late));
        if phase.is_measuring() {
            self.spread.add(now);
        }
    }

    /// What has been gathered until `now` in a run that is measured since `start`.
    pub(super) fn interval(&mut self, start: Instant, now: Instant) -> Interval {
        let interval = Interval {
            start: self.since.saturating_duration_since(start),
            length: now.saturating_duration_since(self.since),
            latency: self.latency.clone(),
            counts: self.counts,
        };
        self.latency.reset();
        self.counts = Counts::default();
        self.since = now;
        interval
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The times between events, summed up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    last: Option<Instant>,
    count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last).as_nanos() as f64;
            self.count += 1.0;
            self.sum += gap;
            self.squares += gap * gap;
        }
    }

    /// The same in units of `mean` nanoseconds, so that threads with different shares of the load
    /// can be added up.
    pub(super) fn in_units_of(self, mean: f64) -> Self {
        Self {
            last: None,
            count: self.count,
            sum: self.sum / mean,
            squares: self.squares / (mean * mean),
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// What that says of a load in which requests were to be `mean` seconds apart; `None` if there
    /// were too few.
    pub(super) fn gaps(self, mean: f64) -> Option<Gaps> {
        let relative = self.sum / self.count;
        let variance = (self.squares / self.count - relative * relative).max(0.0);
        (self.count >= 2.0 && relative > 0.0).then(|| Gaps {
            mean: relative * mean,
            variation: variance.sqrt() / relative,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_told_by_mean_and_variation() {
        let start = Instant::now();
        let mut spread = Spread::default();
        for ms in [0, 1, 4, 5, 8] {
            spread.add(start + Duration::from_millis(ms));
        }
        // Gaps of 1, 3, 1 and 3 ms, where the thread should have had a mean of 1 ms, and the whole
        // load one of 0.5.
        let gaps = spread.in_units_of(1e6).gaps(0.0005).unwrap();
        assert!((gaps.mean - 0.001).abs() < 1e-9, "{gaps:?}");
        assert!((gaps.variation - 0.5).abs() < 1e-9, "{gaps:?}");
        assert_eq!(Spread::default().gaps(1.0), None);
    }
}
