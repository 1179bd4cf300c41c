//! The highest rate that keeps a promise, such as "99 of 100 requests within 1 ms".
//!
//! Near that rate the answer is chance: a look of half a second keeps the promise or not. So the
//! rate is that which keeps it in half of all looks, each round finds it anew, and the rounds'
//! ratios to the baseline's make an [`Estimate`](super::Estimate) as those of any other figure do,
//! in which what disturbed a round cancels and what chance did is in the interval.

/// How much wider each step is than the one before, until a look goes the other way.
const GROWTH: f64 = 2.0;

/// How far from the last bound a round starts, as a part of the rate.
const FIRST_STEP: f64 = 0.12;

/// A round ends when kept and broken rates are no further apart than this part.
const RESOLUTION: f64 = 0.03;

/// The search of one contender's rate, by one look after the other.
///
/// A round is a binary search without bounds (Bentley and Yao, *An Almost Optimal Algorithm for
/// Unbounded Searching*, Information Processing Letters 5, 1976) on the logarithm of the rate: from
/// where it starts in growing steps until looks differ, then by halves. The first starts in the
/// middle of what is possible. All later ones start near what the first one found, and not where
/// the last one ended, which would make them depend on each other; each a little elsewhere, so
/// that the steps between the rates that are tried leave no mark on the ratio (dither).
///
/// Contenders take turns look by look: `next_rate` of each, then `observe` of each, until all
/// searches of the round `is_round_over`. The baseline searches as any other, and the null
/// contender, too.
#[derive(Debug, Clone)]
pub struct Search {
    /// The logarithms of the lowest and highest rate that are tried.
    range: (f64, f64),
    /// Where rounds start, once a round has been.
    center: Option<f64>,
    /// What the rounds have found.
    found: Vec<f64>,
    /// This round's look.
    next: f64,
    /// How far the next look goes beyond the last, while only one bound is known.
    step: f64,
    /// The highest rate that kept the promise in this round.
    kept: Option<f64>,
    /// The lowest that did not.
    broken: Option<f64>,
    random: fastrand::Rng,
}

impl Search {
    /// Between a rate that surely keeps the promise and one that surely does not. `seed` should be
    /// another for each contender; the same seed makes the same search.
    pub fn new(low: f64, high: f64, seed: u64) -> Self {
        let low = if low.is_nan() { f64::MIN_POSITIVE } else { low };
        let low = low.clamp(f64::MIN_POSITIVE, f64::MAX);
        let range = (low.ln(), high.max(low).min(f64::MAX).ln());
        Self {
            range,
            center: None,
            found: Vec::new(),
            next: f64::midpoint(range.0, range.1),
            step: FIRST_STEP,
            kept: None,
            broken: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The rate to look at, in the unit of those given to [`Search::new`].
    pub fn next_rate(&self) -> f64 {
        self.next.exp()
    }

    /// Whether this round has found its rate: [`Search::start_round`] goes on.
    pub fn is_round_over(&self) -> bool {
        self.result().is_some()
    }

    /// Takes down whether the promise was kept at [`Search::next_rate`].
    pub fn observe(&mut self, is_kept: bool) {
        if self.is_round_over() {
            return;
        }
        let (low, high) = self.range;
        if is_kept {
            self.kept = Some(self.next);
        } else {
            self.broken = Some(self.next);
        }
        self.next = match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => f64::midpoint(kept, broken),
            (Some(kept), None) => (kept + self.step).min(high),
            (None, Some(broken)) => (broken - self.step).max(low),
            (None, None) => self.next,
        };
        self.step *= GROWTH;
        if let Some(found) = self.result() {
            self.found.push(found);
            self.center.get_or_insert(found);
        }
    }

    /// What this round has found, once it is over: the middle between the bounds, or an end of the
    /// range.
    fn result(&self) -> Option<f64> {
        let (low, high) = self.range;
        match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => {
                (broken - kept <= RESOLUTION).then(|| f64::midpoint(kept, broken))
            }
            (Some(kept), None) => (kept >= high).then_some(high),
            (None, Some(broken)) => (broken <= low).then_some(low),
            (None, None) => None,
        }
    }

    /// Begins the next round. A round that is not over is given up.
    pub fn start_round(&mut self) {
        let (low, high) = self.range;
        let center = self.center.unwrap_or(f64::midpoint(low, high));
        let dither = FIRST_STEP * (self.random.f64() - 0.5);
        self.next = (center + dither).clamp(low, high);
        self.step = FIRST_STEP;
        (self.kept, self.broken) = (None, None);
    }

    /// The rate of each round so far. A ratio of rates of which more is better is to be turned over
    /// before it is judged: the baseline's divided by the contender's.
    pub fn rates(&self) -> Vec<f64> {
        self.found.iter().map(|rate| rate.exp()).collect()
    }

    /// Whether a round's rate is an end of the range, beyond which nobody looked.
    pub fn is_at_an_end(&self) -> bool {
        let (low, high) = self.range;
        let mut found = self.found.iter();
        found.any(|&rate| rate <= low || rate >= high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate of one round and how many looks it took, of a server that keeps the promise up to
    /// `limit` exactly.
    fn round(search: &mut Search, limit: f64) -> (f64, usize) {
        let mut looks = 0;
        while !search.is_round_over() {
            search.observe(search.next_rate() <= limit);
            looks += 1;
            assert!(looks < 50, "{search:?}");
        }
        (*search.rates().last().unwrap(), looks)
    }

    #[test]
    fn a_sharp_limit_is_found_in_a_few_looks() {
        let mut search = Search::new(1e3, 1e6, 1);
        let (first, looks) = round(&mut search, 123_456.0);
        assert!((first / 123_456.0 - 1.0).abs() < RESOLUTION, "{first}");
        assert!(looks <= 12, "{looks}");
        for _ in 0..20 {
            search.start_round();
            let (rate, looks) = round(&mut search, 123_456.0);
            assert!((rate / 123_456.0 - 1.0).abs() < RESOLUTION, "{rate}");
            assert!(looks <= 6, "{looks}");
        }
        assert!(!search.is_at_an_end());
    }

    #[test]
    fn a_limit_that_has_moved_is_followed() {
        let mut search = Search::new(1e3, 1e6, 1);
        round(&mut search, 100_000.0);
        search.start_round();
        let (rate, _) = round(&mut search, 30_000.0);
        assert!((rate / 30_000.0 - 1.0).abs() < RESOLUTION, "{rate}");
    }

    #[test]
    fn a_limit_beyond_the_range_is_told() {
        for limit in [0.0, 1e9] {
            let mut search = Search::new(1e3, 1e6, 1);
            round(&mut search, limit);
            assert!(search.is_at_an_end());
            search.start_round();
            round(&mut search, limit);
        }
        let mut search = Search::new(5.0, 5.0, 1);
        round(&mut search, 7.0);
        let rate = search.rates()[0];
        assert!((rate - 5.0).abs() < 1e-9, "{rate}");
    }
}
