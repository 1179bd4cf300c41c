//! One piece of work.

use maud::{Markup, html};

use super::tables;
use crate::load::Workload;
use crate::load::summary::thousands;
use crate::report::plot::{self, Heading};
use crate::report::{Cell, Path, Step, StepKind, standing, words};

/// Everything about it. What lies on a curve has been seen there, and is folded.
pub(super) fn section(index: usize, cell: &Cell, baseline: &str) -> Markup {
    let id = format!("cell-{index}");
    html! {
        section id=(id) class="cell" {
            @if cell.point.is_some() {
                details {
                    summary { h2 { (cell.name) } }
                    (content(&id, cell, baseline))
                }
            } @else {
                h2 { (cell.name) }
                (content(&id, cell, baseline))
            }
        }
    }
}

fn content(id: &str, cell: &Cell, baseline: &str) -> Markup {
    html! {
        p class="soft" { (work(cell)) }
        @if !cell.doubts.is_empty() {
            ul class="notice" {
                @for doubt in &cell.doubts {
                    li { @if doubt.grave { strong { (doubt.text) } } @else { (doubt.text) } }
                }
            }
        }
        @if !cell.entries.is_empty() {
            (plots(id, cell, baseline))
            (tables::ratios(id, cell))
            (tables::figures(id, cell))
        }
    }
}

/// What was done, in figures.
fn work(cell: &Cell) -> String {
    let work = &cell.work;
    let connections = words::count(work.connections, "connection");
    let path = work
        .path
        .map_or(String::new(), |path| format!(" {}", path.phrase()));
    let mut text = format!(
        "{} over {}{path}, {connections}",
        work.workload, work.transport
    );
    if work.workload != Workload::Idle {
        let (sizes, pipeline) = (&work.sizes, work.pipeline);
        text += &format!(", messages of {sizes} bytes, {pipeline} in flight on each");
    }
    if let Some(rate) = work.rate {
        text += &format!(", {} requests due per second", thousands(rate));
    }
    if let Some(part) = work.rate_of_baseline {
        text += &format!(" ({:.0}\u{a0}% of what the baseline bears)", part * 100.0);
    }
    if let Some(promise) = work.promise {
        text += &format!(", at the highest rate that keeps {promise}");
    }
    text += "; ";
    if cell.invocations > 1 {
        text += &format!("{} of ", words::count(cell.invocations, "invocation"));
    }
    text += &words::count(cell.rounds, "round");
    if work.workload != Workload::Idle {
        text += &format!(
            " of {} s after {} s of warm-up",
            work.seconds, work.warmup_seconds
        );
    }
    format!("{text}; judged by {}.", cell.judged_by.name())
}

/// All plots of a piece of work, as far as there is something to draw.
fn plots(id: &str, cell: &Cell, baseline: &str) -> Markup {
    let heading = |name: &str, title: &str, caption: Markup| Heading {
        id: format!("{id}-{name}"),
        title: title.to_owned(),
        caption,
    };
    let title = words::capital(cell.judged_by.name());
    let ratios = heading(
        "ratios",
        &format!("{title}, relative to {baseline}."),
        html! { "Below 1 is better. Band: what equals differ by; ticks: single rounds." },
    );
    html! {
        @if !cell.steps.is_empty() { (ladder(heading, cell, baseline)) }
        div class="plots" {
            (plot::ratios(ratios, cell))
            @if standing::is_about_memory(cell) {
                @let caption = html! { "What is judged. Dashed: " (baseline) "." };
                (plot::memory(heading("memory", "Memory per idle connection.", caption), cell).unwrap_or_default())
            } @else {
                @let (title, caption) = sides(cell, baseline);
                (plot::sides(heading("cpu", title, caption), cell).unwrap_or_default())
                @if cell.work.has_latencies() {
                    @let caption = html! { "Medians over the rounds, of the maximum the largest. Dashed: p50 and p99 of " (baseline) "." };
                    (plot::latencies(heading("latency", "Latency.", caption), cell).unwrap_or_default())
                }
            }
        }
    }
}

/// What is said above the bars of processor time.
fn sides(cell: &Cell, baseline: &str) -> (&'static str, Markup) {
    let entries = cell.entries.iter();
    let mut medians = entries.filter_map(|entry| entry.medians.as_ref());
    if !medians.any(|medians| medians.server_side_us.is_some()) {
        let caption =
            html! { "User + kernel mode of the server’s process. Dashed: " (baseline) "." };
        return ("Processor time per request.", caption);
    }
    let bent = match cell.work.path {
        Some(Path::Hosts) => "",
        Some(Path::Loopback) | None => " Whoever sends does the other’s receiving.",
    };
    let caption = html! { "What each side’s processors did." (bent) " Dashed: " (baseline) "." };
    ("Processor time per request, by side.", caption)
}

/// What the ring's features are worth: the climb from none to the defaults, and each alone.
fn ladder(heading: impl Fn(&str, &str, Markup) -> Heading, cell: &Cell, baseline: &str) -> Markup {
    let worse = cell.judged_by.words(crate::statistics::Verdict::Worse);
    let title = format!(
        "From no feature to the defaults: {} relative to {baseline}.",
        cell.judged_by.name()
    );
    let climb = heading(
        "ladder",
        &title,
        html! {
            "Each bar begins where the one above ended and is as long as its step’s ratio; the "
            "line is that ratio’s 95\u{a0}% interval. Leftwards is better."
        },
    );
    let steps = heading(
        "steps",
        "Each feature against the defaults.",
        html! {
            "The defaults with the feature taken away (−) or added (+), relative to the defaults. "
            "If they are " (worse) " without a feature, it is worth having."
        },
    );
    let is_single = |step: &Step| step.kind != StepKind::Climb;
    html! {
        div class="plots" {
            (plot::waterfall(climb, cell).unwrap_or_default())
            @if cell.steps.iter().any(is_single) { (plot::steps(steps, cell)) }
        }
    }
}
