//! From none of the ring's features to the defaults, one at a time.

use maud::{Markup, html};

use super::axis::Axis;
use super::forest::{between_equals, one, verdict, whisker};
use super::{Heading, LINE, MARKS, MIDDLE, Note, Plot, Row, bar, vertical};
use crate::report::standing::{self, Standing, is_drawable};
use crate::report::{Cell, Step, StepKind, words};
use crate::statistics::Estimate;

/// Half the height of a bar.
const HALF: f64 = 5.0;

/// A step in its place: from what was reached before it to what is reached with it.
struct Placed<'a> {
    step: &'a Step,
    ratio: Option<Estimate>,
    from: f64,
    to: f64,
}

impl<'a> Placed<'a> {
    /// All steps of a climb from `start`, each where the one before it ended.
    fn all(climb: &[&'a Step], start: f64) -> Vec<Self> {
        let mut reached = start;
        climb
            .iter()
            .map(|&step| {
                let ratio = step.ratio.filter(is_drawable);
                let from = reached;
                reached *= ratio.map_or(1.0, |ratio| ratio.median);
                let to = reached;
                Self {
                    step,
                    ratio,
                    from,
                    to,
                }
            })
            .collect()
    }

    /// The step's own interval, where the step is.
    fn interval(&self) -> Option<Estimate> {
        self.ratio.map(|ratio| Estimate {
            median: self.to,
            low: self.from * ratio.low,
            high: self.from * ratio.high,
        })
    }
}

/// The climb; `None` if there is none.
pub(in crate::report) fn waterfall(heading: Heading, cell: &Cell) -> Option<Markup> {
    let climb: Vec<_> = cell
        .steps
        .iter()
        .filter(|step| step.kind == StepKind::Climb)
        .collect();
    let (first, last) = (climb.first()?, climb.last()?);
    let start = reached(cell, &first.from);
    let begin = start.unwrap_or(1.0);
    let placed = Placed::all(&climb, begin);
    let axis = axis(&placed, begin);
    let end = placed.last().map_or(begin, |placed| placed.to);
    let mut rows = vec![Row {
        name: words::short(&first.from),
        note: Note::Figures(vec![match start {
            Some(start) => (words::ratio(start), "figure"),
            None => ("set to 1".to_owned(), "soft"),
        }]),
        marks: Some(vertical("level", axis.x(begin), -HALF, HALF)),
    }];
    rows.extend(placed.iter().map(|placed| Row {
        name: format!("+ {}", placed.step.feature),
        note: verdict(placed.ratio.as_ref(), placed.step.verdict, cell.judged_by),
        marks: Some(draw(&axis, placed)),
    }));
    rows.push(Row {
        name: words::short(&last.to),
        note: arrival(end, reached(cell, &last.to)),
        marks: Some(html! {
            (link(&axis, end))
            (vertical("level", axis.x(end), -HALF, HALF))
        }),
    });
    let plot = Plot {
        heading,
        legend: Vec::new(),
        // The baseline's, so that it has no place if the start has none relative to that.
        band: start.and_then(|_| between_equals(standing::null(cell))),
        guides: one(),
        rows,
        axis,
    };
    Some(plot.figure())
}

/// A contender's ratio to the cell's baseline.
fn reached(cell: &Cell, contender: &str) -> Option<f64> {
    let mut entries = cell.entries.iter().filter(|entry| !entry.null);
    let entry = entries.find(|entry| entry.contender == contender)?;
    match Standing::of(cell, entry, cell.judged_by) {
        Standing::Baseline => Some(1.0),
        standing => standing.judged().map(|judged| judged.ratio.median),
    }
}

/// For all that is drawn.
fn axis(placed: &[Placed<'_>], begin: f64) -> Axis {
    let intervals = placed.iter().map(|placed| match placed.interval() {
        Some(Estimate { median, low, high }) => [low, median, high],
        None => [placed.to; 3],
    });
    Axis::ratios(&intervals.chain([[begin; 3]]).collect::<Vec<_>>())
}

/// Where the steps lead, and where it was found to be when measured at once.
fn arrival(product: f64, measured: Option<f64>) -> Note {
    let mut parts = vec![
        ("by steps ".to_owned(), "soft"),
        (words::ratio(product), "figure"),
    ];
    if let Some(measured) = measured {
        parts.push((", measured ".to_owned(), "soft"));
        parts.push((words::ratio(measured), "figure"));
    }
    Note::Figures(parts)
}

/// A step's bar with its interval, hanging from the end of the one before.
fn draw(axis: &Axis, placed: &Placed<'_>) -> Markup {
    let class = format!("step {}", words::class(placed.step.verdict));
    let [from, to] = [axis.x(placed.from), axis.x(placed.to)];
    html! {
        (link(axis, placed.from))
        (bar(&class, from, to, -HALF, HALF))
        (vertical("level", to, -HALF, HALF))
        @if let Some(interval) = placed.interval() { (whisker(axis, &interval)) }
    }
}

/// From the marks of the row above down to those of this one.
fn link(axis: &Axis, value: f64) -> Markup {
    let above = -(LINE + MARKS);
    vertical("link", axis.x(value), above + MIDDLE, -HALF)
}
