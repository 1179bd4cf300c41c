//! All verdicts at a glance.

use maud::{Markup, html};

use super::headline::VERDICTS;
use super::tables::scrolling;
use super::{shape, standing_in};
use crate::report::standing::Standing;
use crate::report::{Cell, Entry, Metric, Report, words};
use crate::statistics::Verdict;

/// Memory if nothing else was judged: "smaller" is the word then, not "faster".
pub(super) fn metric_of_all(report: &Report) -> Metric {
    let mut cells = report.cells.iter();
    let is_memory = cells.all(|cell| cell.judged_by == Metric::Memory) && !report.cells.is_empty();
    if is_memory {
        Metric::Memory
    } else {
        Metric::ServerSide
    }
}

/// How a contender did a piece of work.
pub(super) fn find<'a>(cell: &'a Cell, contender: &str) -> Option<&'a Entry> {
    let mut entries = cell.entries.iter();
    entries.find(|entry| !entry.null && entry.contender == contender)
}

/// A table of all pieces of work and all contenders.
pub(super) fn overview(report: &Report) -> Markup {
    let contenders: Vec<_> = report
        .contenders
        .iter()
        .filter(|contender| contender.name != report.baseline)
        .collect();
    // What all are judged by is said once.
    let metric = report.cells.first().map(|cell| cell.judged_by);
    let common = metric.filter(|&metric| report.cells.iter().all(|it| it.judged_by == metric));
    let title = html! {
        "All verdicts at a glance, relative to " (report.baseline)
        @if let Some(metric) = common { ", judged by " (metric.name()) }
        ". "
        @for verdict in VERDICTS {
            span class="nowrap" { (shape(verdict)) (meaning(report, verdict)) } " "
        }
    };
    let table = html! {
        thead { tr {
            th scope="col" { "work" }
            @for contender in &contenders { th scope="col" class="number" { (words::short(&contender.name)) } }
        } }
        tbody { @for (index, cell) in report.cells.iter().enumerate() { tr {
            th scope="row" {
                a href=(format!("#cell-{index}")) { (cell.name) }
                @if common.is_none() { span class="soft" { ": " (cell.judged_by.name()) } }
            }
            @for contender in &contenders { td class="number" { (glance(cell, &contender.name)) } }
        } } }
    };
    scrolling("overview", title, table)
}

/// What a shape means in a table of all pieces of work.
fn meaning(report: &Report, verdict: Verdict) -> &'static str {
    let is_mixed = report
        .cells
        .iter()
        .any(|cell| cell.judged_by == Metric::Memory)
        && metric_of_all(report) != Metric::Memory;
    match verdict {
        Verdict::Better if is_mixed => "faster or smaller",
        Verdict::Worse if is_mixed => "slower or larger",
        _ => metric_of_all(report).words(verdict),
    }
}

/// A verdict at a glance.
fn glance(cell: &Cell, contender: &str) -> Markup {
    let standing = find(cell, contender).map(|entry| standing_in(cell, entry));
    html! {
        @match standing {
            Some(Standing::Judged(judged)) => {
                // The shape is for eyes only.
                span class="nowrap" {
                    (shape(judged.verdict)) (words::signed(judged.ratio.median))
                    span class="unseen" { " " (cell.judged_by.words(judged.verdict)) }
                }
            }
            Some(standing) => span class="soft" { (standing.words()) },
            None => "–",
        }
    }
}
