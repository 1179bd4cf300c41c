//! How a contender stands to the baseline: a ratio and what it says, or why there is none.

use super::{Cell, Entry, Metric, Quantity, Status};
use crate::statistics::{Estimate, FEWEST_ROUNDS, Verdict};

/// A contender's standing by one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing<'a> {
    /// It is what the others are divided by.
    Baseline,
    /// It has a ratio, and this is what it says.
    Judged(Judged),
    /// It was measured too rarely for an interval.
    TooFewRounds,
    /// It was measured, but has no figure by this metric.
    NoFigure,
    /// It was not asked to, for this reason.
    Skipped(&'a str),
    /// It failed, in this way.
    Failed(&'a str),
}

/// A ratio that can be drawn, and what it says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// The ratio to the baseline.
    pub(super) ratio: Estimate,
    /// What it says.
    pub(super) verdict: Verdict,
    /// How far from 1 a true ratio would have had to be to be seen.
    pub(super) visible: Option<f64>,
}

impl<'a> Standing<'a> {
    /// Of an entry of `cell`.
    pub(super) fn of(cell: &'a Cell, entry: &'a Entry, metric: Metric) -> Self {
        match &entry.status {
            Status::Skipped(why) => return Self::Skipped(why),
            Status::Failed(why) => return Self::Failed(why),
            Status::Measured => {}
        }
        if is_baseline(cell, entry) {
            return Self::Baseline;
        }
        let ratio = entry.ratio(metric);
        let estimate = ratio.and_then(|ratio| ratio.estimate);
        match (ratio, estimate.filter(is_drawable)) {
            (Some(ratio), Some(estimate)) => Self::Judged(Judged {
                ratio: estimate,
                verdict: ratio.verdict,
                visible: ratio.visible,
            }),
            _ if entry.rounds.len() < FEWEST_ROUNDS => Self::TooFewRounds,
            _ => Self::NoFigure,
        }
    }

    /// The ratio, if there is one.
    pub(super) fn judged(self) -> Option<Judged> {
        match self {
            Self::Judged(judged) => Some(judged),
            _ => None,
        }
    }

    /// What to say instead of a verdict; of a failure without the reason.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Judged(_) => "",
            Self::TooFewRounds => "too few rounds",
            Self::NoFigure => "no figure",
            Self::Skipped(_) => "not measured",
            Self::Failed(_) => "failed",
        }
    }
}

/// Whether the others are divided by this entry.
pub(super) fn is_baseline(cell: &Cell, entry: &Entry) -> bool {
    let first = cell.entries.first();
    !entry.null && first.is_some_and(|first| first.contender == entry.contender)
}

/// How a contender did a piece of work.
pub(super) fn find<'a>(cell: &'a Cell, contender: &str) -> Option<&'a Entry> {
    let mut entries = cell.entries.iter();
    entries.find(|entry| !entry.null && entry.contender == contender)
}

/// Whether it is memory that a piece of work is about.
pub(super) fn is_about_memory(cell: &Cell) -> bool {
    cell.judged_by.quantity() == Quantity::Memory
}

/// By what a piece of work tells of a quantity; `None` if it tells nothing.
pub(super) fn metric_of(cell: &Cell, quantity: Quantity) -> Option<Metric> {
    if cell.judged_by.quantity() == quantity {
        return Some(cell.judged_by);
    }
    // Other figures of idle connections are of their being opened, and those of a search for the
    // highest rate are of different rates.
    if matches!(
        cell.judged_by.quantity(),
        Quantity::Memory | Quantity::Capacity
    ) {
        return None;
    }
    let known = |metric: Metric| cell.entries.iter().any(|it| it.ratio(metric).is_some());
    let candidates: &[Metric] = match quantity {
        Quantity::Cost if cell.work.path == Some(super::Path::Loopback) => {
            &[Metric::BothSides, Metric::Process]
        }
        Quantity::Cost => &[Metric::ServerSide, Metric::Process],
        // At a given rate the throughput is given.
        Quantity::Speed if cell.work.is_paced() => &[Metric::P50],
        Quantity::Speed => &[Metric::Time],
        Quantity::Capacity | Quantity::Memory => &[],
    };
    candidates.iter().copied().find(|&metric| known(metric))
}

/// Whether a ratio of speeds is the client's doing: either of the two that are compared kept it
/// busy all the time.
pub(super) fn is_the_clients(cell: &Cell, entry: &Entry, metric: Metric) -> bool {
    let is_speed = metric.quantity() == Quantity::Speed;
    let baseline = cell.entries.first();
    is_speed && (entry.client_saturated || baseline.is_some_and(|it| it.client_saturated))
}

/// The ratio of the baseline to itself, by the metric that the cell is judged by.
pub(super) fn null(cell: &Cell) -> Option<Judged> {
    let entry = cell.entries.iter().find(|entry| entry.null)?;
    Standing::of(cell, entry, cell.judged_by).judged()
}

/// Whether a ratio has a place on a logarithmic axis. A figure of zero makes one that has not.
pub(super) fn is_drawable(ratio: &Estimate) -> bool {
    let Estimate { median, low, high } = *ratio;
    [median, low, high].iter().all(|it| it.is_finite()) && low > 0.0 && low <= high && median > 0.0
}
