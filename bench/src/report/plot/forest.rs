//! Ratios with their intervals, and what equals differ by.

use maud::{Markup, html};

use super::axis::{Axis, Side};
use super::{Heading, Note, Plot, Row, arrow, at, bar, horizontal, vertical};
use crate::report::standing::{self, Judged, Standing, is_drawable};
use crate::report::{Cell, Entry, Metric, StepKind, words};
use crate::statistics::{Estimate, Null, Verdict};

/// Half the height of an interval's bar.
const HALF: f64 = 3.0;

/// Half the size of the mark of a median.
const MARK: f64 = 4.5;

/// Where the ticks of single rounds begin and end, below the interval.
const RUG: [f64; 2] = [5.5, 11.0];

/// The ratios of all contenders to the baseline, by the metric that the cell is judged by.
pub(in crate::report) fn ratios(heading: Heading, cell: &Cell) -> Markup {
    let contenders: Vec<_> = cell
        .entries
        .iter()
        .filter(|entry| !standing::is_baseline(cell, entry))
        .map(|entry| {
            let standing = Standing::of(cell, entry, cell.judged_by);
            let rounds = match standing {
                Standing::Judged(_) | Standing::TooFewRounds => drawable(entry, cell),
                _ => Vec::new(),
            };
            (entry, standing, rounds)
        })
        .collect();
    let axis = Axis::ratios(
        &contenders
            .iter()
            .filter_map(|(_, standing, rounds)| extent(standing.judged(), rounds))
            .collect::<Vec<_>>(),
    );
    let rows = contenders.iter().map(|(entry, standing, rounds)| Row {
        name: words::short(&entry.label()),
        note: note(*standing, cell.judged_by, entry.null),
        marks: (standing.judged().is_some() || !rounds.is_empty()).then(|| {
            // Equals have no verdict.
            let says = |judged: Judged| match entry.null {
                true => Verdict::NoDifferenceShown,
                false => judged.verdict,
            };
            let verdict = |judged: Judged| marked(&axis, &judged.ratio, says(judged));
            html! { (rug(&axis, rounds)) @if let Some(judged) = standing.judged() { (verdict(judged)) } }
        }),
    });
    Plot {
        heading,
        legend: Vec::new(),
        rows: rows.collect(),
        band: between_equals(standing::null(cell)),
        guides: one(),
        axis,
    }
    .figure()
}

/// What taking a feature from the defaults, or adding it to them, does.
pub(in crate::report) fn steps(heading: Heading, cell: &Cell) -> Markup {
    let steps: Vec<_> = cell
        .steps
        .iter()
        .filter(|step| step.kind != StepKind::Climb)
        .map(|step| (step, step.ratio.filter(is_drawable)))
        .collect();
    let drawn = steps.iter().filter_map(|(_, ratio)| *ratio);
    let null = standing::null(cell);
    let axis = Axis::ratios(
        &drawn
            .chain(null.map(|null| null.ratio))
            .map(|ratio| [ratio.low, ratio.median, ratio.high])
            .collect::<Vec<_>>(),
    );
    let rows = steps.iter().map(|(step, ratio)| {
        let (name, end) = match step.kind {
            StepKind::Remove => (format!("− {}", step.feature), " without it"),
            StepKind::Add | StepKind::Climb => (format!("+ {}", step.feature), " with it"),
        };
        let mut note = verdict(ratio.as_ref(), step.verdict, cell.judged_by);
        if let (Note::Figures(parts), true) =
            (&mut note, step.verdict != Verdict::NoDifferenceShown)
        {
            parts.push((end.to_owned(), "soft"));
        }
        let marks = ratio.map(|ratio| marked(&axis, &ratio, step.verdict));
        Row { name, note, marks }
    });
    Plot {
        heading,
        legend: Vec::new(),
        rows: rows.collect(),
        band: between_equals(null),
        guides: one(),
        axis,
    }
    .figure()
}

/// Made-up ratios, to learn how to read real ones.
pub(in crate::report) fn example(heading: Heading) -> Markup {
    let of = |median, low, high| Estimate { median, low, high };
    let null = Judged {
        ratio: of(1.002, 0.985, 1.015),
        verdict: Verdict::NoDifferenceShown,
        visible: None,
    };
    let rows = [
        ("a: better", of(0.935, 0.92, 0.95), Verdict::Better),
        (
            "b: covers 1",
            of(0.99, 0.96, 1.02),
            Verdict::NoDifferenceShown,
        ),
        (
            "c: small, yet shown",
            of(1.01, 1.004, 1.016),
            Verdict::Worse,
        ),
        ("d: worse", of(1.08, 1.06, 1.1), Verdict::Worse),
    ];
    let axis = Axis::ratios(&rows.map(|(_, ratio, _)| [ratio.low, ratio.median, ratio.high]));
    let rows = rows.map(|(name, ratio, says)| Row {
        name: name.to_owned(),
        note: verdict(Some(&ratio), says, Metric::ServerSide),
        marks: Some(marked(&axis, &ratio, says)),
    });
    Plot {
        heading,
        legend: Vec::new(),
        rows: rows.into(),
        band: between_equals(Some(null)),
        guides: one(),
        axis,
    }
    .figure()
}

/// The ratios of single rounds that have a place on the axis.
fn drawable(entry: &Entry, cell: &Cell) -> Vec<f64> {
    let mut ratios = cell.ratios_of(entry, cell.judged_by);
    ratios.retain(|&ratio| ratio.is_finite() && ratio > 0.0);
    ratios
}

/// What the axis should show: the interval, or without one where the rounds are.
fn extent(judged: Option<Judged>, rounds: &[f64]) -> Option<[f64; 3]> {
    if let Some(Judged { ratio, .. }) = judged {
        return Some([ratio.low, ratio.median, ratio.high]);
    }
    let least = rounds.iter().copied().min_by(f64::total_cmp)?;
    let most = rounds.iter().copied().max_by(f64::total_cmp)?;
    Some([least, crate::statistics::median(rounds), most])
}

fn note(standing: Standing<'_>, metric: Metric, is_null: bool) -> Note {
    match standing {
        Standing::Judged(judged) if is_null => Note::Figures(vec![
            (format!("{} ", words::ratio(judged.ratio.median)), "figure"),
            (words::null(Null::of(&judged.ratio)).to_owned(), "soft"),
        ]),
        Standing::Judged(judged) => verdict(Some(&judged.ratio), judged.verdict, metric),
        Standing::Skipped(why) => Note::Reason(format!("not measured: {why}")),
        Standing::Failed(why) => Note::Reason(format!("failed: {why}")),
        Standing::Baseline | Standing::TooFewRounds | Standing::NoFigure => {
            Note::Figures(vec![(standing.words().to_owned(), "soft")])
        }
    }
}

/// The ratio and the verdict, or that there is none.
pub(super) fn verdict(ratio: Option<&Estimate>, verdict: Verdict, metric: Metric) -> Note {
    Note::Figures(match ratio {
        None => vec![(Standing::TooFewRounds.words().to_owned(), "soft")],
        Some(ratio) => vec![
            (format!("{} ", words::ratio(ratio.median)), "figure"),
            (metric.words(verdict).to_owned(), words::class(verdict)),
        ],
    })
}

/// What equals differ by: the null contender's interval. No verdict depends on it.
pub(super) fn between_equals(null: Option<Judged>) -> Option<[f64; 2]> {
    null.map(|Judged { ratio, .. }| [ratio.low, ratio.high])
}

/// The line at which nothing differs.
pub(super) fn one() -> Vec<(f64, &'static str)> {
    vec![(1.0, "one")]
}

/// Single rounds.
fn rug(axis: &Axis, ratios: &[f64]) -> Markup {
    let [top, bottom] = RUG;
    html! {
        @for &ratio in ratios.iter().filter(|&&ratio| axis.beyond(ratio).is_none()) {
            (vertical("rug", axis.x(ratio), top, bottom))
        }
    }
}

/// An interval with its median; what is beyond the axis as arrows.
fn marked(axis: &Axis, ratio: &Estimate, verdict: Verdict) -> Markup {
    let class = words::class(verdict);
    let ends = [ratio.low, ratio.high].map(|end| axis.beyond(end));
    let [from, to] = [axis.x(ratio.low), axis.x(ratio.high)];
    html! {
        (bar(&format!("interval {class}"), from, to, -HALF, HALF))
        @for side in ends.into_iter().flatten() { (beyond(axis, side, class)) }
        @if axis.beyond(ratio.median).is_none() { (mark(verdict, axis.x(ratio.median))) }
    }
}

/// An arrow at the axis's end.
pub(super) fn beyond(axis: &Axis, side: Side, class: &str) -> Markup {
    let value = match side {
        Side::Left => f64::MIN,
        Side::Right => f64::MAX,
    };
    arrow(class, axis.x(value), side)
}

/// A median: each verdict has a shape of its own.
fn mark(verdict: Verdict, x: f64) -> Markup {
    let class = format!("mark {}", words::class(verdict));
    match verdict {
        Verdict::Worse => bar(&class, x - MARK, x + MARK, -MARK, MARK),
        Verdict::Better | Verdict::NoDifferenceShown => {
            html! { circle class=(class) cx=(at(x)) cy="0" r=(MARK) {} }
        }
    }
}

/// A line from one end of an interval to the other.
pub(super) fn whisker(axis: &Axis, ratio: &Estimate) -> Markup {
    horizontal("whisker", axis.x(ratio.low), axis.x(ratio.high))
}
