//! Amounts as bars from zero.

use maud::{Markup, html};

use super::axis::{Axis, Side};
use super::forest::beyond;
use super::{Heading, Note, Plot, Row, bar, vertical};
use crate::load::summary::{digits, microseconds};
use crate::report::standing::is_baseline;
use crate::report::text::bytes;
use crate::report::{Cell, Entry, Medians, Metric, words};

/// Half the height of a bar.
const HALF: f64 = 6.0;

/// What a contender took.
struct Amount<'a> {
    entry: &'a Entry,
    taken: Taken,
}

/// Parts of a bar with their styles, a place on it, and all in words.
struct Taken {
    parts: Vec<(f64, &'static str)>,
    mark: Option<f64>,
    note: String,
}

impl Amount<'_> {
    fn total(&self) -> f64 {
        self.taken.parts.iter().map(|(part, _)| part).sum()
    }

    /// Of what is judged.
    fn judged(&self, cell: &Cell) -> f64 {
        let first = self.taken.parts.first().map(|(part, _)| *part);
        match cell.judged_by {
            Metric::ServerSide => first.unwrap_or_default(),
            _ => self.total(),
        }
    }
}

/// Processor time per request by side, with the process's own as a mark; where sides are unknown,
/// the process's in user and in kernel mode. `None` if nothing was measured.
pub(in crate::report) fn sides(heading: Heading, cell: &Cell) -> Option<Markup> {
    let amounts = amounts(cell, by_side);
    if amounts.is_empty() {
        let modes = self::amounts(cell, by_mode);
        let legend = vec![
            (swatch("user"), "user mode"),
            (swatch("system"), "kernel mode"),
        ];
        return draw(heading, cell, modes, legend, (1.0, "µs per request"));
    }
    let legend = vec![
        (swatch("user"), "server’s side"),
        (swatch("system"), "client’s side"),
        (tick(0.0), "of that, the server’s process"),
    ];
    draw(heading, cell, amounts, legend, (1.0, "µs per request"))
}

fn by_side(medians: &Medians) -> Option<Taken> {
    let server = medians.server_side_us.filter(|&side| is_amount(side))?;
    let client = medians.client_side_us.filter(|&side| is_amount(side))?;
    Some(Taken {
        parts: vec![(server, "user"), (client, "system")],
        mark: medians.process_us.filter(|&process| is_amount(process)),
        note: format!("{} + {} µs", digits(server), digits(client)),
    })
}

fn by_mode(medians: &Medians) -> Option<Taken> {
    let process = medians.process_us.filter(|&process| is_amount(process))?;
    let share = medians.user_share;
    let (parts, note) = match share.filter(|share| (0.0..=1.0).contains(share)) {
        None => (vec![(process, "whole")], microseconds(process)),
        Some(share) => {
            let (user, system) = (process * share, process * (1.0 - share));
            let note = format!("{} + {} µs", digits(user), digits(system));
            (vec![(user, "user"), (system, "system")], note)
        }
    };
    Some(Taken {
        parts,
        mark: None,
        note,
    })
}

/// Memory per idle connection; `None` if nothing was measured.
pub(in crate::report) fn memory(heading: Heading, cell: &Cell) -> Option<Markup> {
    const KIB: f64 = 1024.0;
    let amounts = amounts(cell, |medians| {
        let memory = match cell.judged_by {
            Metric::OwnMemory => medians.own_memory_per_connection,
            _ => medians.memory_per_connection,
        };
        let memory = memory.filter(|&memory| is_amount(memory))?;
        Some(Taken {
            parts: vec![(memory, "whole")],
            mark: None,
            note: bytes(memory),
        })
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
fn amounts(cell: &Cell, of: impl Fn(&Medians) -> Option<Taken>) -> Vec<Amount<'_>> {
    let entries = cell.entries.iter().filter(|entry| !entry.null);
    entries
        .filter_map(|entry| {
            let taken = of(entry.medians.as_ref()?)?;
            Some(Amount { entry, taken })
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
        note: Note::Figures(vec![(amount.taken.note.clone(), "figure")]),
        marks: Some(stack(&axis, &amount.taken)),
    });
    let mut entries = amounts.iter();
    let baseline = entries.find(|amount| is_baseline(cell, amount.entry));
    let guide = baseline.map(|baseline| (baseline.judged(cell), "guide"));
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
fn stack(axis: &Axis, Taken { parts, mark, .. }: &Taken) -> Markup {
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
        @if let Some(mark) = mark.filter(|&mark| axis.beyond(mark).is_none()) { (tick(axis.x(mark))) }
        @if axis.beyond(end).is_some() { (beyond(axis, Side::Right, "over")) }
    }
}

/// A place on a bar.
fn tick(x: f64) -> Markup {
    const REACH: f64 = HALF + 2.5;
    html! {
        (vertical("process halo", x, -REACH, REACH))
        (vertical("process", x, -REACH, REACH))
    }
}

/// What a part looks like.
fn swatch(class: &'static str) -> Markup {
    bar(class, -HALF, HALF, -HALF, HALF)
}
