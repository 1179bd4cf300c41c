//! All figures.

use maud::{Markup, html};

use super::shape;
use crate::load::summary::{Latency, microseconds, thousands};
use crate::report::standing::{self, Judged, Standing, is_baseline};
use crate::report::text::bytes;
use crate::report::{Cell, Count, Entry, Medians, Metric, words};
use crate::statistics::{Null, Verdict};

/// In place of what there is not.
const NONE: &str = "–";

/// A table with its title, which scrolls within a box of its own where it does not fit.
pub(super) fn scrolling(id: &str, title: Markup, table: Markup) -> Markup {
    let title_id = format!("{id}-title");
    html! {
        p class="caption" id=(title_id) { (title) }
        div class="scroll" tabindex="0" role="region" aria-labelledby=(title_id) {
            table id=(id) aria-labelledby=(title_id) { (table) }
        }
    }
}

/// Latencies, which only some work has of its own.
const LATENCIES: [Metric; 3] = [Metric::P50, Metric::P90, Metric::P99];

/// What is judged first, then the rest; of these only what there is.
fn metrics(cell: &Cell) -> Vec<Metric> {
    let is_idle = standing::is_about_memory(cell);
    let others = Metric::ALL.into_iter().filter(|&metric| {
        metric != cell.judged_by
            && (!is_idle || metric.quantity() == cell.judged_by.quantity())
            && (cell.work.has_latencies() || !LATENCIES.contains(&metric))
            && cell
                .entries
                .iter()
                .any(|entry| entry.ratio(metric).is_some())
    });
    std::iter::once(cell.judged_by).chain(others).collect()
}

/// The ratios by every metric, with their verdicts.
pub(super) fn ratios(id: &str, cell: &Cell) -> Markup {
    let metrics = metrics(cell);
    let compared = cell
        .entries
        .iter()
        .filter(|entry| !is_baseline(cell, entry) && !entry.rounds.is_empty());
    let compared: Vec<_> = compared.collect();
    let table = html! {
        thead { tr {
            th scope="col" { "contender" }
            @for metric in &metrics { th scope="col" { (metric.name()) } }
        } }
        tbody { @for entry in &compared { tr {
            th scope="row" { (name(entry)) }
            @for &metric in &metrics { td { (standing_by(cell, entry, metric)) } }
        } } }
    };
    let title = html! { "Ratios to the baseline, with intervals of 95\u{a0}%; below 1 is better." };
    html! { @if !compared.is_empty() { (scrolling(&format!("{id}-verdicts"), title, table)) } }
}

/// A contender's name, short enough for a column; in full where contenders are listed.
fn name(entry: &Entry) -> Markup {
    let label = entry.label();
    html! { span title=(label) { (words::short(&label)) } }
}

fn standing_by(cell: &Cell, entry: &Entry, metric: Metric) -> Markup {
    let standing = Standing::of(cell, entry, metric);
    html! {
        @match standing.judged() {
            Some(judged) => (judgement(cell, entry, &judged, metric)),
            None => span class="soft" { (standing.words()) },
        }
    }
}

fn judgement(cell: &Cell, entry: &Entry, judged: &Judged, metric: Metric) -> Markup {
    let is_the_clients = standing::is_the_clients(cell, entry, metric);
    let Judged {
        ratio,
        verdict,
        visible,
    } = judged;
    html! {
        span class="nowrap" { @if !entry.null { (shape(*verdict)) } strong { (words::ratio(ratio.median)) } " " (words::bounds(ratio)) }
        br;
        @if entry.null {
            span class="soft" { (words::null(Null::of(ratio))) }
        } @else {
            span class=(words::class(*verdict)) { (metric.words(*verdict)) }
        }
        @if is_the_clients { span class="soft" { ", but the client’s" } }
        @if let (false, Some(visible), Verdict::NoDifferenceShown) = (entry.null, visible, verdict) {
            div class="soft settle" { "shows from " (words::percent(1.0 + visible)) " on" }
        }
    }
}

/// A column of figures.
struct Column {
    heading: &'static str,
    /// The heading in more words.
    meaning: &'static str,
    figure: fn(&Entry, &Medians) -> Option<Figure>,
}

/// A figure, or the reason why there is none.
enum Figure {
    Text(String),
    Missing(String),
}

/// Medians over the rounds, and what else is known.
const COLUMNS: [Column; 22] = [
    Column {
        heading: "requests/s",
        meaning: "requests answered per second",
        figure: |_, medians| text(thousands, Some(medians.requests_per_second)),
    },
    Column {
        heading: "kept rate",
        meaning: "the highest rate that kept the promise, in requests per second",
        figure: |_, medians| text(thousands, medians.kept_rate),
    },
    Column {
        heading: "rounds",
        meaning: "rounds measured",
        figure: |entry, _| Some(Figure::Text(entry.rounds.len().to_string())),
    },
    Column {
        heading: "p50",
        meaning: "median latency",
        figure: |_, medians| latency(medians, |latency| latency.p50),
    },
    Column {
        heading: "p90",
        meaning: "latency that one of ten requests exceeds",
        figure: |_, medians| latency(medians, |latency| latency.p90),
    },
    Column {
        heading: "p99",
        meaning: "latency that one of a hundred requests exceeds",
        figure: |_, medians| latency(medians, |latency| latency.p99),
    },
    Column {
        heading: "p99.9",
        meaning: "latency that one of a thousand requests exceeds",
        figure: |_, medians| latency(medians, |latency| latency.p99_9),
    },
    Column {
        heading: "max",
        meaning: "the longest latency of all rounds",
        figure: |_, medians| latency(medians, |latency| latency.max),
    },
    Column {
        heading: "server side",
        meaning: "what the server’s processors did per request, whoever is charged for it",
        figure: |_, medians| text(microseconds, medians.server_side_us),
    },
    Column {
        heading: "client side",
        meaning: "what the client’s processors did per request, but for waiting for a request to be due",
        figure: |_, medians| text(microseconds, medians.client_side_us),
    },
    Column {
        heading: "both sides",
        meaning: "the sum of the two",
        figure: |_, medians| {
            let both = medians.server_side_us.zip(medians.client_side_us);
            text(microseconds, both.map(|(server, client)| server + client))
        },
    },
    Column {
        heading: "process",
        meaning: "processor time of the server’s processes per request, as the kernel charges it",
        figure: |_, medians| text(microseconds, medians.process_us),
    },
    Column {
        heading: "user",
        meaning: "its part in user mode",
        figure: |_, medians| text(microseconds, mode(medians, |user| user)),
    },
    Column {
        heading: "system",
        meaning: "its part in kernel mode",
        figure: |_, medians| text(microseconds, mode(medians, |user| 1.0 - user)),
    },
    Column {
        heading: "switches",
        meaning: "context switches of the server per request; in brackets the least and the most, if they differ",
        figure: |entry, _| count(&entry.counted.as_ref()?.context_switches),
    },
    Column {
        heading: "calls",
        meaning: "system calls of the server per request; in brackets the least and the most, if they differ",
        figure: |entry, _| count(&entry.counted.as_ref()?.system_calls),
    },
    Column {
        heading: "memory/conn.",
        meaning: "memory that the server is charged for per idle connection, its own and the kernel’s",
        figure: |_, medians| text(bytes, medians.memory_per_connection),
    },
    Column {
        heading: "of its own",
        meaning: "memory of the server’s process per idle connection",
        figure: |_, medians| text(bytes, medians.own_memory_per_connection),
    },
    Column {
        heading: "peak memory",
        meaning: "the most that the server has had resident",
        figure: |_, medians| text(bytes, Some(medians.peak_memory as f64)),
    },
    Column {
        heading: "server busy",
        meaning: "the part of the time that the server’s processors were busy",
        figure: |_, medians| text(part, Some(medians.server_busy)),
    },
    Column {
        heading: "client busy",
        meaning: "the part of the time that the client’s threads were running",
        figure: |entry, medians| {
            let busy = part(medians.client_busy);
            Some(Figure::Text(match entry.client_saturated {
                true => format!("{busy}, at its limit"),
                false => busy,
            }))
        },
    },
    Column {
        heading: "client process",
        meaning: "processor time of the client’s threads per request",
        figure: |_, medians| text(microseconds, medians.client_process_us),
    },
];

/// The columns that say something only where latencies do.
const OF_LATENCY: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// The columns that say something about idle connections.
const OF_IDLE_CONNECTIONS: [&str; 4] = ["rounds", "memory/conn.", "of its own", "peak memory"];

fn text(show: fn(f64) -> String, figure: Option<f64>) -> Option<Figure> {
    let figure = figure.filter(|figure| figure.is_finite())?;
    Some(Figure::Text(show(figure)))
}

fn latency(medians: &Medians, of: fn(&Latency) -> f64) -> Option<Figure> {
    text(microseconds, medians.latency_us.as_ref().map(of))
}

fn mode(medians: &Medians, part: fn(f64) -> f64) -> Option<f64> {
    Some(medians.process_us? * part(medians.user_share?))
}

fn count(count: &Count) -> Option<Figure> {
    match count {
        Count::PerRequest(spread) => Some(Figure::Text(words::spread(spread))),
        Count::NotMeasured(why) => Some(Figure::Missing(why.clone())),
    }
}

fn part(part: f64) -> String {
    format!("{:.0}\u{a0}%", part * 100.0)
}

/// Everything measured, a row for each contender.
pub(super) fn figures(id: &str, cell: &Cell) -> Markup {
    let is_idle = standing::is_about_memory(cell);
    let has_latency = cell.work.has_latencies();
    let columns = COLUMNS.iter().filter(|column| {
        let mut entries = cell.entries.iter();
        let is_about_it = match is_idle {
            true => OF_IDLE_CONNECTIONS.contains(&column.heading),
            false => has_latency || !OF_LATENCY.contains(&column.heading),
        };
        let figure = |entry: &Entry| (column.figure)(entry, entry.medians.as_ref()?);
        is_about_it && entries.any(|entry| figure(entry).is_some())
    });
    let columns: Vec<_> = columns.collect();
    let reasons = reasons(cell);
    let table = html! {
        thead { tr {
            th scope="col" { "contender" }
            @for column in &columns {
                th scope="col" class="number" { abbr title=(column.meaning) { (column.heading) } }
            }
        } }
        tbody { @for entry in &cell.entries { (row(cell, entry, &columns, &reasons)) } }
    };
    let title = html! { "All figures: medians over the rounds." };
    html! {
        (scrolling(&format!("{id}-figures"), title, table))
        @for (index, reason) in reasons.iter().enumerate() {
            p class="footnote" { sup { (index + 1) } " not measured: " (reason) }
        }
    }
}

fn row(cell: &Cell, entry: &Entry, columns: &[&Column], reasons: &[String]) -> Markup {
    let standing = super::standing_in(cell, entry);
    let why = match standing {
        Standing::Skipped(why) | Standing::Failed(why) => Some(why),
        _ => None,
    };
    html! {
        tr {
            th scope="row" { (name(entry)) @if is_baseline(cell, entry) { " " span class="soft" { "(baseline)" } } }
            @if let Some(medians) = &entry.medians {
                @for column in columns {
                    td class="number" { (figure((column.figure)(entry, medians), reasons)) }
                }
            } @else {
                td class="soft" colspan=(columns.len().max(1)) {
                    (standing.words()) @if let Some(why) = why { ": " (why) }
                }
            }
        }
    }
}

fn figure(figure: Option<Figure>, reasons: &[String]) -> Markup {
    html! {
        @match figure {
            Some(Figure::Text(text)) => (text),
            Some(Figure::Missing(why)) => {
                (NONE) @if let Some(index) = reasons.iter().position(|it| *it == why) { sup { (index + 1) } }
            }
            None => (NONE),
        }
    }
}

/// Why something was not counted, each reason once.
fn reasons(cell: &Cell) -> Vec<String> {
    let counted = cell
        .entries
        .iter()
        .filter_map(|entry| entry.counted.as_ref());
    let mut reasons = Vec::new();
    for count in counted.flat_map(|counted| [&counted.context_switches, &counted.system_calls]) {
        if let Count::NotMeasured(why) = count
            && !reasons.contains(why)
        {
            reasons.push(why.clone());
        }
    }
    reasons
}
