//! When a server is warm: its throughput no longer changes from one moment to the next.

use std::time::{Duration, Instant};

use super::plan::{Plan, Workload};

/// The shortest time over which throughput is told.
const WINDOW: Duration = Duration::from_millis(20);

/// Requests that say something about throughput.
const ENOUGH: u64 = 50;

/// Windows in a row that must agree.
const ALIKE: usize = 3;

/// What throughput may differ by for no reason: part of it, beside what counting alone makes.
const NOISE: f64 = 0.05;

/// How a warm-up goes, seen over all threads.
pub(super) struct WarmUp {
    least: Instant,
    most: Instant,
    /// A window lasts no longer, however little happens in it.
    longest: Duration,
    /// When the window began, and how many requests had been answered by then.
    began: (Instant, u64),
    /// Windows so far, the last ones: requests per second, and how many there were.
    windows: Vec<(f64, u64)>,
}

/// How a warm-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warmth {
    /// The last windows agree.
    Settled,
    /// There was no time for it.
    Unsettled,
}

impl WarmUp {
    pub(super) fn new(plan: &Plan, start: Instant) -> Self {
        let most = match plan.workload {
            Workload::Idle => plan.warmup,
            _ => plan.warmup_limit.max(plan.warmup),
        };
        Self {
            least: start + plan.warmup,
            most: start + most,
            longest: plan.warmup / ALIKE as u32,
            began: (start, 0),
            windows: Vec::with_capacity(ALIKE),
        }
    }

    /// How it ended, if it has: `answered` requests by `now`.
    pub(super) fn ended(&mut self, now: Instant, answered: u64) -> Option<Warmth> {
        let (began, before) = self.began;
        let (length, count) = (now - began, answered - before);
        let is_full = length >= WINDOW && count >= ENOUGH || length >= self.longest;
        if is_full && !length.is_zero() {
            if self.windows.len() == ALIKE {
                self.windows.remove(0);
            }
            let rate = count as f64 / length.as_secs_f64();
            self.windows.push((rate, count));
            self.began = (now, answered);
        }
        match () {
            () if now < self.least => None,
            () if self.agree() => Some(Warmth::Settled),
            () if now >= self.most => Some(Warmth::Unsettled),
            () => None,
        }
    }

    /// Whether the windows differ by noise only.
    fn agree(&self) -> bool {
        let rates = || self.windows.iter().map(|&(rate, _)| rate);
        let fewest = self.windows.iter().map(|&(_, count)| count).min();
        let (lowest, highest) = (
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(0.0, f64::max),
        );
        // Twice the standard deviation of a difference between counts.
        let counting = (8.0 / fewest.unwrap_or(0).max(1) as f64).sqrt();
        self.windows.len() == ALIKE && highest - lowest <= (NOISE + counting) * highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::tests::plan;

    /// When a warm-up of at least 60 and at most 500 ms ends under a throughput, in milliseconds.
    fn ends(per_ms: impl Fn(u64) -> u64) -> (u64, Warmth) {
        let mut plan = plan();
        plan.warmup = Duration::from_millis(60);
        plan.warmup_limit = Duration::from_millis(500);
        let start = Instant::now();
        let mut warm_up = WarmUp::new(&plan, start);
        let mut answered = 0;
        for ms in 1.. {
            answered += per_ms(ms);
            let now = start + Duration::from_millis(ms);
            if let Some(warmth) = warm_up.ended(now, answered) {
                return (ms, warmth);
            }
        }
        unreachable!("it has a limit")
    }

    #[test]
    fn it_lasts_as_long_as_asked_if_nothing_changes() {
        assert_eq!(ends(|_| 200), (60, Warmth::Settled));
        assert_eq!(ends(|_| 0), (60, Warmth::Settled));
        assert_eq!(ends(|ms| ms % 2), (60, Warmth::Settled));
    }

    #[test]
    fn it_goes_on_while_throughput_rises() {
        // What a server with rings does: 105, then 177 thousand requests per second.
        let (ms, warmth) = ends(|ms| 105 + 72.min(ms * 72 / 100));
        assert!((100..=180).contains(&ms), "{ms}");
        assert_eq!(warmth, Warmth::Settled);
    }

    #[test]
    fn it_ends_if_throughput_never_settles() {
        assert_eq!(ends(|ms| 100 << (ms / 40)), (500, Warmth::Unsettled));
    }
}
