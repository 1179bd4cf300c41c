//! Amounts as bars from zero.

use maud::{Markup, html};

use super::axis::{Axis, Side};
use super::forest::beyond;
use super::{Heading, Note, Plot, Row, bar};
use crate::load::summary::{digits, microseconds};
use crate::report::standing::is_baseline;
use crate::report::text::bytes;
use crate::report::{Cell, Entry, Medians, words};

/// Half the height of a bar.
const HALF: f64 = 6.0;

/// What a contender took: parts of a bar with their styles, and in words.
struct Amount<'a> {
    entry: &'a Entry,
    parts: Vec<(f64, &'static str)>,
    note: String,
}

impl Amount<'_> {
    fn total(&self) -> f64 {
        self.parts.iter().map(|(part, _)| part).sum()
    }
}

/// Processor time per request in user and in kernel mode; `None` if nothing was measured.
pub(in crate::report) fn cpu(heading: Heading, cell: &Cell) -> Option<Markup> {
    let amounts = amounts(cell, |medians| {
        let cpu = medians.process_us.filter(|&cpu| is_amount(cpu))?;
        let share = medians.user_share;
        Some(match share.filter(|share| (0.0..=1.0).contains(share)) {
            None => (vec![(cpu, "whole")], microseconds(cpu)),
            Some(share) => {
                let (user, system) = (cpu * share, cpu * (1.0 - share));
                let sum = format!("{} + {} = ", digits(user), digits(system));
                (
                    vec![(user, "user"), (system, "system")],
                    sum + &format!("{} µs", digits(cpu)),
                )
            }
        })
    });
    let legend = vec![
        (swatch("user"), "user mode"),
        (swatch("system"), "kernel mode"),
    ];
    draw(heading, cell, amounts, legend, (1.0, "µs per request"))
}

/// Memory per idle connection; `None` if nothing was measured.
pub(in crate::report) fn memory(heading: Heading, cell: &Cell) -> Option<Markup> {
    const KIB: f64 = 1024.0;
    let amounts = amounts(cell, |medians| {
        let memory = medians.memory_per_connection;
        let memory = memory.filter(|&memory| is_amount(memory))?;
        Some((vec![(memory, "whole")], bytes(memory)))
    });
    let most = amounts.iter().map(Amount::total).fold(0.0, f64::max);
    let unit = match most >= KIB {
        true => (KIB, "KiB per connection"),
        false => (1.0, "bytes per connection"),
    };
    draw(heading, cell, amounts, Vec::new(), unit)
}

fn is_amount(amount: f64) -> bool {
    amount.is_finite() && amount >= 0.0
}

/// What each contender took, of those that have a figure.
fn amounts<'a>(
    cell: &'a Cell,
    of: impl Fn(&Medians) -> Option<(Vec<(f64, &'static str)>, String)>,
) -> Vec<Amount<'a>> {
    let entries = cell.entries.iter().filter(|entry| !entry.null);
    entries
        .filter_map(|entry| {
            let (parts, note) = of(entry.medians.as_ref()?)?;
            Some(Amount { entry, parts, note })
        })
        .collect()
}

fn draw(
    heading: Heading,
    cell: &Cell,
    amounts: Vec<Amount<'_>>,
    legend: Vec<(Markup, &'static str)>,
    unit: (f64, &str),
) -> Option<Markup> {
    let totals: Vec<_> = amounts.iter().map(Amount::total).collect();
    let axis = (!totals.is_empty()).then(|| Axis::amounts(&totals, unit))?;
    let rows = amounts.iter().map(|amount| Row {
        name: words::short(&amount.entry.contender),
        note: Note::Figures(vec![(amount.note.clone(), "figure")]),
        marks: Some(stack(&axis, &amount.parts)),
    });
    let mut entries = amounts.iter();
    let baseline = entries.find(|amount| is_baseline(cell, amount.entry));
    let guide = baseline.map(|baseline| (baseline.total(), "guide"));
    let plot = Plot {
        heading,
        legend,
        rows: rows.collect(),
        band: None,
        guides: guide.into_iter().collect(),
        axis,
    };
    Some(plot.figure())
}

/// The parts end to end.
fn stack(axis: &Axis, parts: &[(f64, &'static str)]) -> Markup {
    let mut end = 0.0;
    let placed: Vec<_> = parts
        .iter()
        .map(|&(part, class)| {
            let from = end;
            end += part;
            (class, axis.x(from), axis.x(end))
        })
        .collect();
    html! {
        @for (class, from, to) in placed { (bar(class, from, to, -HALF, HALF)) }
        @if axis.beyond(end).is_some() { (beyond(axis, Side::Right, "over")) }
    }
}

/// What a part looks like.
fn swatch(class: &'static str) -> Markup {
    bar(class, -HALF, HALF, -HALF, HALF)
}
