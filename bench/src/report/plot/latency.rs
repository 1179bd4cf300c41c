//! Percentiles of latency, a line of marks for each contender.

use maud::{Markup, html};

use super::axis::Axis;
use super::{Heading, Note, Plot, Row, at, horizontal, vertical};
use crate::load::summary::{Latency, microseconds};
use crate::report::standing::is_baseline;
use crate::report::{Cell, words};

/// Half the size of a mark.
const MARK: f64 = 4.0;

/// A percentile: what it is called, and how it is drawn.
type Percentile = (&'static str, fn(f64) -> Markup);

/// Each has a shape of its own, the more seldom the lighter.
const PERCENTILES: [Percentile; 5] = [
    ("p50", disc),
    ("p90", stroke),
    ("p99", diamond),
    ("p99.9", ring),
    ("max", cross),
];

/// The latencies of all contenders; `None` if none has any.
pub(in crate::report) fn latencies(heading: Heading, cell: &Cell) -> Option<Markup> {
    let contenders: Vec<_> = cell
        .entries
        .iter()
        .filter(|entry| !entry.null)
        .filter_map(|entry| Some((entry, figures(&entry.medians.as_ref()?.latency_us?)?)))
        .collect();
    let all = || contenders.iter().flat_map(|(_, figures)| figures).copied();
    let axis = Axis::latencies(all().min_by(f64::total_cmp)?, all().max_by(f64::total_cmp)?);
    let rows = contenders.iter().map(|(entry, figures)| Row {
        name: words::short(&entry.contender),
        note: note(figures),
        marks: Some(strip(&axis, figures)),
    });
    let baseline = contenders
        .iter()
        .find(|(entry, _)| is_baseline(cell, entry));
    // The two percentiles that have verdicts of their own.
    let guides = baseline.map(|(_, figures)| [(figures[0], "guide"), (figures[2], "guide")]);
    let plot = Plot {
        heading,
        legend: PERCENTILES.map(|(name, shape)| (shape(0.0), name)).into(),
        rows: rows.collect(),
        band: None,
        guides: guides.into_iter().flatten().collect(),
        axis,
    };
    Some(plot.figure())
}

/// In the order of [`PERCENTILES`]; `None` if one has no place on a logarithmic axis.
fn figures(latency: &Latency) -> Option<[f64; 5]> {
    let Latency {
        p50,
        p90,
        p99,
        p99_9,
        max,
    } = *latency;
    let figures = [p50, p90, p99, p99_9, max];
    let drawable = |&figure: &f64| figure.is_finite() && figure > 0.0;
    figures.iter().all(drawable).then_some(figures)
}

fn note(figures: &[f64; 5]) -> Note {
    let part = |text: String, class| (text, class);
    Note::Figures(vec![
        part("p50 ".to_owned(), "soft"),
        part(microseconds(figures[0]), "figure"),
        part(", p99 ".to_owned(), "soft"),
        part(microseconds(figures[2]), "figure"),
    ])
}

/// The marks of one contender, joined; the lightest are drawn first, not to hide the others.
fn strip(axis: &Axis, figures: &[f64; 5]) -> Markup {
    html! {
        (horizontal("strip", axis.x(figures[0]), axis.x(figures[4])))
        @for ((_, shape), figure) in PERCENTILES.iter().zip(figures).rev() { (shape(axis.x(*figure))) }
    }
}

fn disc(x: f64) -> Markup {
    html! { circle class="percentile" cx=(at(x)) cy="0" r=(MARK) {} }
}

fn ring(x: f64) -> Markup {
    html! { circle class="percentile hollow" cx=(at(x)) cy="0" r=(MARK - 0.5) {} }
}

fn stroke(x: f64) -> Markup {
    vertical("percentile", x, -MARK, MARK)
}

fn diamond(x: f64) -> Markup {
    /// So that it looks as large as a disc.
    const SIZE: f64 = MARK * 1.2;
    let [left, right] = [at(x - SIZE), at(x + SIZE)];
    let middle = at(x);
    html! {
        polygon class="percentile" points=(format!("{left},0 {middle},{} {right},0 {middle},{}", at(-SIZE), at(SIZE))) {}
    }
}

fn cross(x: f64) -> Markup {
    let [left, right] = [at(x - MARK), at(x + MARK)];
    html! {
        @for (from, to) in [(&left, &right), (&right, &left)] {
            line class="percentile" x1=(from) x2=(to) y1=(at(-MARK)) y2=(at(MARK)) {}
        }
    }
}
