//! What must hold for any series.

use hdrhistogram::Histogram;
use proptest::prelude::*;

use super::dependence::Dependence;
use super::search::Search;
use super::tails::Tails;
use super::{Estimate, FEWEST_ROUNDS, Null, Verdict};

fn ratios() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.01..100.0, FEWEST_ROUNDS..40)
}

fn is_close(one: &Estimate, other: &Estimate) -> bool {
    let ends = |it: &Estimate| [it.median, it.low, it.high];
    let mut pairs = ends(one).into_iter().zip(ends(other));
    pairs.all(|(one, other)| (one / other - 1.0).abs() < 1e-9)
}

proptest! {
    #[test]
    fn the_estimate_is_inside_its_interval_and_that_inside_the_data(ratios in ratios()) {
        let estimate = Estimate::of(&ratios).unwrap();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        prop_assert!(estimate.covers(estimate.median));
        prop_assert!(estimate.low >= least * (1.0 - 1e-9), "{estimate}");
        prop_assert!(estimate.high <= most * (1.0 + 1e-9), "{estimate}");
        prop_assert!(estimate.visible() >= 0.0);
    }

    #[test]
    fn another_unit_scales_the_estimate(ratios in ratios(), scale in 0.01..100.0) {
        let estimate = Estimate::of(&ratios).unwrap();
        let scaled: Vec<_> = ratios.iter().map(|ratio| ratio * scale).collect();
        let expected = Estimate {
            median: estimate.median * scale,
            low: estimate.low * scale,
            high: estimate.high * scale,
        };
        prop_assert!(is_close(&Estimate::of(&scaled).unwrap(), &expected));
    }

    #[test]
    fn who_is_divided_by_whom_does_not_matter(ratios in ratios()) {
        let estimate = Estimate::of(&ratios).unwrap();
        let inverse: Vec<_> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
        let expected = Estimate {
            median: 1.0 / estimate.median,
            low: 1.0 / estimate.high,
            high: 1.0 / estimate.low,
        };
        let inverse = Estimate::of(&inverse).unwrap();
        prop_assert!(is_close(&inverse, &expected), "{inverse} {expected}");
    }

    #[test]
    fn the_order_of_rounds_does_not_matter_to_the_estimate(
        (ratios, shuffled) in ratios().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle())),
    ) {
        prop_assert!(is_close(&Estimate::of(&ratios).unwrap(), &Estimate::of(&shuffled).unwrap()));
    }

    #[test]
    fn no_number_is_too_strange(
        values in prop::collection::vec(prop::num::f64::ANY, 0..40),
        among in 0_usize..100,
    ) {
        if let Some(estimate) = Estimate::of(&values) {
            prop_assert!(estimate.low <= estimate.high);
            Verdict::of(&estimate);
            Null::of(&estimate);
        }
        Estimate::of_differences(&values);
        Dependence::of(&values, among);
    }

    #[test]
    fn a_search_ends_whatever_is_answered(
        low in prop::num::f64::ANY,
        high in prop::num::f64::ANY,
        answers in prop::collection::vec(any::<bool>(), 200),
        seed in any::<u64>(),
    ) {
        let mut search = Search::new(low, high, seed);
        for &is_kept in &answers {
            prop_assert!(search.next_rate().is_finite());
            search.observe(is_kept);
        }
        prop_assert!(search.is_round_over());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn dependence_is_a_matter_of_ranks(ratios in ratios()) {
        let stretched: Vec<_> = ratios.iter().map(|ratio| ratio.powi(3)).collect();
        prop_assert_eq!(Dependence::of(&ratios, 1), Dependence::of(&stretched, 1));
    }

    #[test]
    fn a_percentile_of_equal_rounds_is_the_percentile_of_one(
        latencies in prop::collection::vec(1_u64..1_000_000, 1..100),
        quantile in 0.0..1.0,
    ) {
        let mut round = Histogram::<u64>::new(3).unwrap();
        for &latency in &latencies {
            round.record(latency).unwrap();
        }
        let tails = Tails::of(&vec![round.clone(); FEWEST_ROUNDS]);
        let all: Vec<_> = (0..FEWEST_ROUNDS).collect();
        prop_assert_eq!(tails.quantile(quantile, &all), tails.quantile(quantile, &[0]));
        let found = tails.quantile(quantile, &[0]).unwrap();
        prop_assert!(round.equivalent(found, round.value_at_quantile(quantile)));
        let ratio = tails.ratio(&tails, quantile).unwrap();
        prop_assert!(ratio.covers(1.0) && ratio.high - ratio.low < 1e-9);
    }
}
