//! The highest rate at which a contender keeps a promise about its latencies.

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::turn::Turn;
use crate::load::{Outcome, Plan};
use crate::report::{Promise, Round};
use crate::statistics::search::Search;

/// A server that answers fewer than this part of what is due does not bear it, however fast it
/// answers those.
const ON_TIME: f64 = 0.98;

/// How long replies are waited for after a look, which decides nothing any more: as many times the
/// promised time, within these bounds.
const PATIENCE: f64 = 10.0;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// `p99=1ms`, `p99.9=500us`.
impl FromStr for Promise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a percentile and a time, such as p99=1ms".to_owned();
        let (percentile, limit) = text.split_once('=').ok_or_else(expected)?;
        let percentile = percentile.strip_prefix('p').ok_or_else(expected)?;
        let percentile: f64 = percentile.parse().map_err(|_| expected())?;
        if !(1.0..=99.999).contains(&percentile) {
            return Err("expected a percentile from p1 to p99.999".to_owned());
        }
        let limit = ringlab::cli::duration(limit)?;
        if !(Duration::from_micros(1)..=Duration::from_secs(60)).contains(&limit) {
            return Err("expected a time from 1us to 60s".to_owned());
        }
        Ok(Self {
            quantile: percentile / 100.0,
            limit_us: limit.as_secs_f64() * 1e6,
        })
    }
}

impl Promise {
    /// Whether a look at some rate has shown that it is kept there.
    fn is_kept(&self, load: &Plan, outcome: &Outcome) -> bool {
        let rate = load.rate.unwrap_or_default();
        let latency = outcome.latency.value_at_quantile(self.quantile) as f64 / 1000.0;
        let is_on_time = outcome.throughput() >= rate * ON_TIME;
        is_on_time && outcome.failures.is_empty() && latency <= self.limit_us
    }
}

impl Turn<'_> {
    /// Looks at one rate after the other until this round's is found. `None` if it was interrupted.
    pub(super) fn search(
        &self,
        round: usize,
        promise: Promise,
        search: &mut Search,
    ) -> Result<Option<Round>> {
        let server = self.start()?;
        let mut load = self.load(&server);
        let patience = Duration::from_secs_f64(promise.limit_us * PATIENCE / 1e6);
        load.timeout = patience.clamp(SHORTEST, LONGEST);
        let mut found = Round::nothing(round);
        while !search.is_round_over() {
            load.rate = Some(search.next_rate());
            let outcome = self.run(&load, &())?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            found.seconds += outcome.elapsed.as_secs_f64();
            found.requests += outcome.counts.completed;
            search.observe(promise.is_kept(&load, &outcome));
        }
        found.kept_rate = search.rates().last().copied();
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_a_percentile_and_a_time() {
        let promise: Promise = "p99.9=500us".parse().unwrap();
        assert!((promise.quantile - 0.999).abs() < 1e-9);
        assert_eq!(promise.limit_us, 500.0);
        assert_eq!(promise.to_string(), "p99.9 within 500 µs");
        for text in [
            "", "p99", "99=1ms", "p99=1", "p0=1ms", "p100=1ms", "p99=0s", "pnan=1ms",
        ] {
            assert!(text.parse::<Promise>().is_err(), "{text}");
        }
    }
}
