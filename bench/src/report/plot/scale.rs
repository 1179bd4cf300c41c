//! A scale from figures to places, with round figures along it.

use super::axis::{decades, plain, ratio_ticks, round_time};
use crate::load::summary::{microseconds, thousands};
use crate::report::words;

/// The least between two ticks.
const APART: f64 = 20.0;

/// The widest label of a tick.
pub(super) const fn at_left() -> f64 {
    51.0
}

/// What figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Unit {
    /// Times in microseconds.
    Time,
    /// Ratios to the baseline.
    Ratio,
    /// Requests per second.
    Rate,
}

/// A scale.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    is_logarithmic: bool,
    figures: [f64; 2],
    places: [f64; 2],
    ticks: Vec<(f64, String)>,
}

impl Unit {
    /// A figure as it is told.
    pub(in crate::report) fn figure(self, figure: f64) -> String {
        match self {
            Self::Time => microseconds(figure),
            Self::Ratio => words::ratio(figure),
            Self::Rate => format!("{}/s", thousands(figure)),
        }
    }

    /// A round figure.
    fn label(self, figure: f64) -> String {
        match self {
            Self::Time => round_time(figure),
            Self::Ratio => plain(figure),
            Self::Rate if figure >= 1e6 => format!("{} M", plain(figure / 1e6)),
            Self::Rate if figure >= 1e3 => format!("{} k", plain(figure / 1e3)),
            Self::Rate => plain(figure),
        }
    }

    /// A logarithmic scale for figures between two, with ticks.
    pub(super) fn scale(self, &[low, high]: &[f64; 2], places: [f64; 2]) -> Scale {
        /// Room beyond the outermost figures, as a factor.
        const ROOM: f64 = 1.03;
        /// Less than this on either side of 1 would make noise look large.
        const LEAST: f64 = 1.05;
        let [mut low, mut high] = [low.max(1e-9) / ROOM, high.clamp(1e-9, 1e15) * ROOM];
        if self == Self::Ratio {
            (low, high) = (low.min(1.0 / LEAST), high.max(LEAST));
        }
        let mut scale = Scale::logarithmic([low, high], places);
        scale.ticks = match self {
            Self::Ratio => ratio_ticks(low, high),
            _ => {
                let ticks = round(low, high).into_iter();
                ticks.map(|figure| (figure, self.label(figure))).collect()
            }
        };
        scale.thin();
        scale
    }
}

impl Scale {
    pub(super) fn linear(figures: [f64; 2], places: [f64; 2]) -> Self {
        Self {
            is_logarithmic: false,
            figures,
            places,
            ticks: Vec::new(),
        }
    }

    pub(super) fn logarithmic([low, high]: [f64; 2], places: [f64; 2]) -> Self {
        let low = low.max(1e-9);
        Self {
            is_logarithmic: true,
            // Of a single figure a scale has nothing to say, but must have a place for it.
            figures: [low, high.max(low * 1.000_001)],
            places,
            ticks: Vec::new(),
        }
    }

    /// Where a figure is; at an end if it is beyond that.
    pub(super) fn place(&self, figure: f64) -> f64 {
        let [low, high] = self.figures;
        let figure = figure.clamp(low, high);
        let part = match self.is_logarithmic {
            true => (figure / low).ln() / (high / low).ln(),
            false => (figure - low) / (high - low),
        };
        let [from, to] = self.places;
        from + part * (to - from)
    }

    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// Drops ticks that are too close to one before; 1 stays.
    fn thin(&mut self) {
        let mut ticks = std::mem::take(&mut self.ticks);
        ticks.sort_by_key(|(_, label)| label != "1");
        for (figure, label) in ticks {
            let place = self.place(figure);
            let is_free = |(other, _): &(f64, String)| (self.place(*other) - place).abs() >= APART;
            if self.ticks.iter().all(is_free) {
                self.ticks.push((figure, label));
            }
        }
    }
}

/// A handful of round figures between two.
fn round(low: f64, high: f64) -> Vec<f64> {
    /// With fewer ticks one cannot read a scale.
    const FEWEST: usize = 3;
    let candidates: [&[f64]; 4] = [
        &[1.0],
        &[1.0, 2.0, 5.0],
        &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        &[
            1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0,
        ],
    ];
    let ticks = candidates
        .into_iter()
        .map(|of_each| decades(low, high, of_each).collect::<Vec<_>>());
    let mut all: Vec<_> = ticks.collect();
    let enough = all.iter().position(|ticks| ticks.len() >= FEWEST);
    match enough {
        Some(index) => all.swap_remove(index),
        None => steps(low, high),
    }
}

/// Evenly spaced round figures, between two that are close to each other.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let decade = 10_f64.powf((high - low).log10().floor());
    let steps = [0.1, 0.2, 0.5, 1.0].map(|factor| factor * decade);
    let fits = |step: &f64| (high - low) / step <= 6.0;
    let step = steps.into_iter().find(fits).unwrap_or(decade);
    let first = (low / step).ceil();
    let last = (high / step).floor();
    let count = (last - first).clamp(0.0, 10.0) as usize;
    (0..=count)
        .map(|index| (first + index as f64) * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_has_ticks_to_read_it_by() {
        for (unit, low, high) in [
            (Unit::Time, 3.5, 16.0),
            (Unit::Time, 3.9, 4.1),
            (Unit::Time, 40.0, 90_000.0),
            (Unit::Rate, 9_000.0, 310_000.0),
            (Unit::Ratio, 0.99, 1.01),
            (Unit::Ratio, 0.5, 2.0),
        ] {
            let scale = unit.scale(&[low, high], [190.0, 0.0]);
            assert!(scale.ticks().len() >= 2, "{unit:?} {low} {high}: {scale:?}");
            assert!(scale.ticks().len() <= 10, "{scale:?}");
        }
    }

    #[test]
    fn labels_have_room() {
        use super::super::lettering::width;
        for (unit, figure) in [
            (Unit::Time, 500.0),
            (Unit::Time, 2e5),
            (Unit::Rate, 5e5),
            (Unit::Ratio, 0.95),
        ] {
            let label = unit.label(figure);
            assert!(width(&label, super::super::TEXT) <= at_left(), "{label}");
        }
    }

    #[test]
    fn every_figure_has_a_finite_place() {
        for unit in [Unit::Time, Unit::Ratio, Unit::Rate] {
            for [low, high] in [[1.0, 1.0], [0.0, 1e300], [5.0, 5.0]] {
                let scale = unit.scale(&[low, high], [190.0, 0.0]);
                for figure in [0.0, 1.0, 1e300] {
                    let place = scale.place(figure);
                    assert!((0.0..=190.0).contains(&place), "{place} {scale:?}");
                }
            }
        }
    }
}
