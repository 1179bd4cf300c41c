//! All figures.

use maud::{Markup, html};

use super::shape;
use crate::load::summary::{Latency, digits, microseconds, thousands};
use crate::report::standing::{Judged, Standing, is_baseline};
use crate::report::text::bytes;
use crate::report::{Cell, Count, Entry, Medians, Metric, Report, words};
use crate::statistics::Verdict;

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

/// What is judged first, then the rest; of these only what there is.
fn metrics(cell: &Cell) -> Vec<Metric> {
    let is_idle = cell.judged_by == Metric::Memory;
    let others = Metric::ALL.into_iter().filter(|&metric| {
        metric != cell.judged_by
            && !is_idle
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
            @for &metric in &metrics { td { (standing(cell, entry, metric)) } }
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

fn standing(cell: &Cell, entry: &Entry, metric: Metric) -> Markup {
    let standing = Standing::of(cell, entry, metric);
    html! {
        @match standing.judged() {
            Some(judged) => (judgement(cell, entry, &judged, metric)),
            None => span class="soft" { (standing.words()) },
        }
    }
}

fn judgement(cell: &Cell, entry: &Entry, judged: &Judged, metric: Metric) -> Markup {
    // If either of the two that are compared kept the client busy.
    let is_the_clients = entry.client_saturated || cell.entries[0].client_saturated;
    let Judged {
        ratio,
        verdict,
        visible,
    } = judged;
    html! {
        span class="nowrap" { (shape(*verdict)) strong { (words::ratio(ratio.median)) } " " (words::bounds(ratio)) }
        br;
        span class=(words::class(*verdict)) { (metric.words(*verdict)) }
        @if is_the_clients && metric == Metric::Time { span class="soft" { ", but the client’s" } }
        @if let (Some(visible), Verdict::NoDifferenceShown) = (visible, verdict) {
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
const COLUMNS: [Column; 17] = [
    Column {
        heading: "requests/s",
        meaning: "requests answered per second",
        figure: |_, medians| text(thousands, Some(medians.requests_per_second)),
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
        heading: "CPU",
        meaning: "processor time of the server per request",
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
        meaning: "context switches of the server per request, from its start to its end",
        figure: |entry, _| count(&entry.counted.as_ref()?.context_switches),
    },
    Column {
        heading: "calls",
        meaning: "system calls of the server per request, under load",
        figure: |entry, _| count(&entry.counted.as_ref()?.system_calls),
    },
    Column {
        heading: "memory/conn.",
        meaning: "memory of the server’s own per idle connection",
        figure: |_, medians| text(bytes, medians.memory_per_connection),
    },
    Column {
        heading: "peak memory",
        meaning: "the most that the server has had resident",
        figure: |_, medians| text(bytes, Some(medians.peak_memory as f64)),
    },
    Column {
        heading: "server busy",
        meaning: "the part of the time that the server’s processors were running it",
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
        heading: "client CPU",
        meaning: "processor time of the client per request",
        figure: |_, medians| text(microseconds, medians.client_process_us),
    },
];

/// The columns that say something about idle connections.
const OF_IDLE_CONNECTIONS: [&str; 3] = ["rounds", "memory/conn.", "peak memory"];

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
        Count::PerRequest(count) => text(digits, Some(count.median)),
        Count::NotMeasured(why) => Some(Figure::Missing(why.clone())),
    }
}

fn part(part: f64) -> String {
    format!("{:.0}\u{a0}%", part * 100.0)
}

/// Everything measured, a row for each contender.
pub(super) fn figures(id: &str, cell: &Cell) -> Markup {
    let is_idle = cell.judged_by == Metric::Memory;
    let columns = COLUMNS.iter().filter(|column| {
        let mut entries = cell.entries.iter();
        let is_about_it = !is_idle || OF_IDLE_CONNECTIONS.contains(&column.heading);
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

/// Where it was measured, and how.
pub(super) fn environment(report: &Report) -> Markup {
    let environment = &report.environment;
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let rows = [
        ("kernel", environment.kernel.clone()),
        ("architecture", environment.machine.clone()),
        ("processor", environment.processor.clone()),
        ("processors", environment.processors.to_string()),
        (
            "virtual machine",
            yes(environment.virtual_machine).to_owned(),
        ),
        (
            "server ran on processor",
            environment.server_processors.clone(),
        ),
        (
            "client ran on processor",
            environment.client_processors.clone(),
        ),
        ("frequency governor", or_none(environment.governor.clone())),
        (
            "TCP congestion control",
            or_none(environment.congestion_control.clone()),
        ),
        (
            "load average before",
            or_none(environment.load_average.map(|load| format!("{load:.2}"))),
        ),
        (
            "ring features",
            environment.ring_features.replace(',', ", "),
        ),
        ("command", command(&report.command)),
        ("preset", report.preset.clone()),
        ("baseline", report.baseline.clone()),
        ("began", report.started.clone()),
        ("took", words::duration(report.seconds)),
    ];
    let named =
        |title: &str, (name, value): (&String, &String)| (format!("{title}{name}"), value.clone());
    let mitigations = environment.mitigations.iter();
    let mitigations = mitigations.map(|pair| named("mitigation of ", pair));
    let versions = environment.versions.iter();
    let versions = versions.map(|pair| named("version of ", pair));
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    let rows = rows.into_iter().chain(versions).chain(mitigations);
    html! {
        table class="pairs" {
            tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } } }
        }
    }
}

/// Who was measured.
pub(super) fn contenders(report: &Report) -> Markup {
    html! {
        dl {
            @for contender in &report.contenders {
                dt { (contender.name) }
                dd {
                    code { (contender.command) }
                    @if let Some(features) = &contender.features {
                        br; span class="soft" { "features: " (features.replace(',', ", ")) }
                    }
                }
            }
        }
    }
}

/// The command line as a shell would take it.
fn command(words: &[String]) -> String {
    let joined = shlex::try_join(words.iter().map(String::as_str));
    joined.unwrap_or_else(|_| words.join(" "))
}
