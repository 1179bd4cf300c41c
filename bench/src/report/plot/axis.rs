//! From figures to places.

use maud::{Markup, html};

use super::lettering::width;
use super::{BASELINE, LINE, MARGIN, TEXT, WIDTH, at, vertical};

/// The least between the labels of two ticks.
const BETWEEN_LABELS: f64 = 10.0;

/// A ratio further from 1 than this would squash those that are near.
const FAR: f64 = 1.5;

/// The least that an axis of ratios shows on either side of 1: less would make noise look large.
const LEAST: f64 = 1.02;

/// A bar this many times as long as the middle one would squash the others.
const LONG: f64 = 3.0;

/// How much longer than the longest in full a bar is that is cut.
const CUT: f64 = 1.1;

/// The least and the most that an axis holds: no figure here is beyond, and none of them
/// overflows.
const EXTREMES: [f64; 2] = [1e-9, 1e15];

/// An axis along a plot.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    is_logarithmic: bool,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
    /// What is written under its left end, its middle and its right end.
    ends: [String; 3],
}

/// An end of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Axis {
    /// For ratios, which are given with their intervals. Those further from 1 than [`FAR`] are
    /// beyond it, unless they are the most.
    pub(super) fn ratios(intervals: &[[f64; 3]]) -> Self {
        let is_near = |&&[_, median, _]: &&[f64; 3]| (1.0 / FAR..=FAR).contains(&median);
        let most_are_near = intervals.iter().filter(is_near).count() * 2 >= intervals.len();
        let shown = intervals
            .iter()
            .filter(|interval| !most_are_near || is_near(interval));
        let (mut low, mut high) = (1.0 / LEAST, LEAST);
        for &[from, median, to] in shown {
            // A wide interval is cut where a far ratio would be.
            let (least, most) = (median / FAR, median * FAR);
            low = low.min(from.max(least));
            high = high.max(to.min(most));
        }
        let mut axis = Self::logarithmic(low, high);
        axis.ticks = ratio_ticks(axis.low, axis.high);
        axis.thin(1.0);
        let is_beyond = |value| axis.beyond(value).is_some();
        let beyond = intervals.iter().flatten().any(|&value| is_beyond(value));
        let middle = if beyond {
            "log scale, > is beyond it"
        } else {
            "log scale"
        };
        axis.ends = [
            "← better".to_owned(),
            middle.to_owned(),
            "worse →".to_owned(),
        ];
        axis
    }

    /// For latencies in microseconds.
    pub(super) fn latencies(low: f64, high: f64) -> Self {
        let mut axis = Self::logarithmic(low, high);
        axis.ticks = decade_ticks(axis.low, axis.high);
        axis.thin(axis.low);
        axis.ends = ["← better", "log scale", "worse →"].map(str::to_owned);
        axis
    }

    /// For amounts, from zero. Those much larger than the middle one are beyond it. `unit` is how
    /// much a tick counts as 1, and what that is called.
    pub(super) fn amounts(values: &[f64], (unit, name): (f64, &str)) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
        let is_short = |value: &&f64| **value <= middle * LONG;
        let longest = sorted.iter().rfind(is_short).copied().unwrap_or(middle);
        let any_beyond = sorted.last().is_some_and(|&last| last > longest);
        // A bar that is cut must still be the longest.
        let room = if any_beyond { CUT } else { 1.0 };
        let high = (longest * room).clamp(EXTREMES[0], EXTREMES[1]);
        let mut axis = Self {
            is_logarithmic: false,
            low: 0.0,
            high,
            ticks: Vec::new(),
            ends: Default::default(),
        };
        axis.ticks = amount_ticks(high, unit);
        axis.thin(0.0);
        axis.ends[2] = name.to_owned();
        if sorted.last().is_some_and(|&last| last > high) {
            axis.ends[0] = "> is beyond the scale".to_owned();
        }
        axis
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        /// Room beyond the outermost figures, as a factor.
        const ROOM: f64 = 1.01;
        let [least, most] = EXTREMES;
        Self {
            is_logarithmic: true,
            low: low.clamp(least, most) / ROOM,
            high: high.clamp(least, most) * ROOM,
            ticks: Vec::new(),
            ends: Default::default(),
        }
    }

    /// Where a figure is; at an end if it is beyond that.
    pub(super) fn x(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let part = match self.is_logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        MARGIN + part * (WIDTH - 2.0 * MARGIN)
    }

    /// At which end a figure is beyond the axis.
    pub(super) fn beyond(&self, value: f64) -> Option<Side> {
        match value {
            value if value < self.low => Some(Side::Left),
            value if value > self.high => Some(Side::Right),
            _ => None,
        }
    }

    /// Faint lines at the ticks.
    pub(super) fn grid(&self, top: f64, bottom: f64) -> Markup {
        html! {
            @for (value, _) in &self.ticks { (vertical("grid", self.x(*value), top, bottom)) }
        }
    }

    /// The labels of the ticks, below `top`.
    pub(super) fn labels(&self, top: f64) -> Markup {
        html! {
            @for (value, label) in &self.ticks {
                text class="tick" x=(at(self.label_x(*value, label))) y=(at(top + BASELINE)) { (label) }
            }
        }
    }

    /// What is written under the axis, below `top`.
    pub(super) fn ends(&self, top: f64) -> Markup {
        let [left, middle, right] = &self.ends;
        let y = at(top + LINE / 4.0 + BASELINE);
        html! {
            text class="soft" x="0" y=(y) { (left) }
            text class="tick" x=(at(WIDTH / 2.0)) y=(y) { (middle) }
            text class="soft end" x=(at(WIDTH)) y=(y) { (right) }
        }
    }

    /// The middle of a tick's label, which must not leave the plot.
    fn label_x(&self, value: f64, label: &str) -> f64 {
        let half = width(label, TEXT) / 2.0;
        self.x(value).clamp(half, WIDTH - half)
    }

    /// Drops ticks whose labels would touch; the one at `first` stays.
    fn thin(&mut self, first: f64) {
        let mut ticks = std::mem::take(&mut self.ticks);
        ticks.sort_by(|(one, _), (other, _)| {
            let distance = |value: &f64| (self.x(*value) - self.x(first)).abs();
            distance(one).total_cmp(&distance(other))
        });
        let mut taken: Vec<[f64; 2]> = Vec::new();
        for (value, label) in ticks {
            let half = (width(&label, TEXT) + BETWEEN_LABELS) / 2.0;
            let middle = self.label_x(value, &label);
            let [left, right] = [middle - half, middle + half];
            if taken.iter().all(|&[from, to]| right <= from || left >= to) {
                taken.push([left, right]);
                self.ticks.push((value, label));
            }
        }
    }
}

/// Round ratios: evenly spaced if they are close to each other, otherwise 1, 2, 5 of each decade.
pub(super) fn ratio_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    /// Up to this ratio of the ends a logarithmic scale looks almost linear.
    const ALMOST_LINEAR: f64 = 2.5;
    /// More would be crowded on a phone.
    const MOST: f64 = 7.0;
    if high / low > ALMOST_LINEAR {
        return decades(low, high, &[1.0, 2.0, 5.0])
            .map(|value| (value, plain(value)))
            .collect();
    }
    let steps = [
        (0.005, 3),
        (0.01, 2),
        (0.02, 2),
        (0.05, 2),
        (0.1, 1),
        (0.2, 1),
    ];
    let fits = |&(step, _): &(f64, usize)| (high - low) / step <= MOST;
    let (step, digits) = steps.into_iter().find(fits).unwrap_or((0.5, 1));
    let [from, to] = [(low / step).ceil() as i64, (high / step).floor() as i64];
    let ticks = (from..=to).map(|index| index as f64 * step);
    ticks
        .map(|value| match (value - 1.0).abs() < step / 2.0 {
            true => (1.0, "1".to_owned()),
            false => (value, format!("{value:.digits$}")),
        })
        .collect()
}

/// Round times, in microseconds.
fn decade_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    /// With more decades, 2 and 5 of each would be crowded.
    const FEW: f64 = 100.0;
    let of_each: &[f64] = match high / low > FEW {
        true => &[1.0],
        false => &[1.0, 2.0, 5.0],
    };
    decades(low, high, of_each)
        .map(|value| (value, round_time(value)))
        .collect()
}

/// The products of powers of ten and `of_each` that are between two values.
pub(super) fn decades(low: f64, high: f64, of_each: &[f64]) -> impl Iterator<Item = f64> {
    let [from, to] = [low.log10().floor() as i32, high.log10().floor() as i32];
    let values = (from..=to).flat_map(move |power| {
        let decade = 10_f64.powi(power);
        of_each.iter().map(move |factor| factor * decade)
    });
    values.filter(move |value| (low..=high).contains(value))
}

/// A handful of round amounts from zero.
fn amount_ticks(high: f64, unit: f64) -> Vec<(f64, String)> {
    /// At least so many steps fit.
    const STEPS: f64 = 3.0;
    let most = high / unit;
    let decade = 10_f64.powf((most / STEPS).log10().floor());
    let factors = [5.0, 2.0, 1.0];
    let fits = |factor: &f64| most / (factor * decade) >= STEPS;
    let step = factors.into_iter().find(fits).unwrap_or(1.0) * decade;
    let count = (most / step).floor() as usize;
    (0..=count)
        .map(|index| index as f64 * step)
        .map(|value| (value * unit, plain(value)))
        .collect()
}

/// A round time, given in microseconds.
pub(super) fn round_time(micros: f64) -> String {
    match micros {
        micros if micros >= 1e6 => format!("{} s", plain(micros / 1e6)),
        micros if micros >= 1e3 => format!("{} ms", plain(micros / 1e3)),
        micros => format!("{} µs", plain(micros)),
    }
}

/// A round number without the noise of its binary form.
pub(super) fn plain(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        let mut ticks: Vec<_> = axis.ticks.iter().collect();
        ticks.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        ticks.into_iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn a_far_ratio_does_not_squash_near_ones() {
        let axis = Axis::ratios(&[[0.92, 0.935, 0.946], [2.7, 2.9, 3.0]]);
        assert_eq!(axis.beyond(2.9), Some(Side::Right));
        assert_eq!(axis.beyond(0.935), None);
        assert!(axis.x(0.946) - axis.x(0.92) > 50.0);
    }

    #[test]
    fn far_ratios_alone_are_shown_in_place() {
        let axis = Axis::ratios(&[[2.7, 2.9, 3.0], [7.0, 8.0, 9.0]]);
        assert_eq!(axis.beyond(8.0), None);
        assert_eq!(labels(&axis), ["1", "2", "5"]);
    }

    #[test]
    fn one_is_always_labelled() {
        for high in [1.001, 1.03, 1.2, 1.49, 3.0, 40.0, 1e6] {
            let axis = Axis::ratios(&[[1.0, high, high]]);
            assert!(labels(&axis).contains(&"1"), "{high}: {:?}", labels(&axis));
            assert!(labels(&axis).len() >= 2, "{high}: {:?}", labels(&axis));
        }
    }

    #[test]
    fn amounts_begin_at_zero() {
        let axis = Axis::amounts(&[2.81, 2.7, 4.5], (1.0, "µs"));
        assert_eq!(labels(&axis), ["0", "1", "2", "3", "4"]);
        assert_eq!(axis.x(0.0), MARGIN);
        let axis = Axis::amounts(&[9000.0, 8000.0, 99_000.0], (1024.0, "KiB"));
        assert_eq!(axis.beyond(99_000.0), Some(Side::Right));
    }

    #[test]
    fn every_figure_has_a_finite_place() {
        for axis in [
            Axis::ratios(&[]),
            Axis::ratios(&[[1e-300, 1.0, 1e300]]),
            Axis::latencies(1.0, 1.0),
            Axis::latencies(1e-3, 1e9),
            Axis::amounts(&[], (1.0, "µs")),
            Axis::amounts(&[0.0, 0.0], (1.0, "µs")),
            Axis::amounts(&[1e300], (1.0, "µs")),
        ] {
            for value in [0.0, 1e-300, 1.0, 1e300] {
                let x = axis.x(value);
                assert!((0.0..=WIDTH).contains(&x), "{value}: {x} in {axis:?}");
            }
            for (value, label) in &axis.ticks {
                assert!(value.is_finite() && !label.is_empty(), "{axis:?}");
            }
        }
    }
}
