//! All verdicts at a glance.

use maud::{Markup, html};

use super::tables::scrolling;
use super::{shape, standing_in};
use crate::report::paths;
use crate::report::standing::{self, Standing};
use crate::report::words::VERDICTS;
use crate::report::{Cell, Metric, Report, words};
use crate::statistics::Verdict;

/// A verdict's word, if all pieces of work are judged by the same quantity; otherwise one that goes
/// with any.
pub(super) fn word_of_all(report: &Report, verdict: Verdict) -> &'static str {
    let first = report.cells.first().map(|cell| cell.judged_by);
    let metric = first.unwrap_or(Metric::ServerSide);
    let mut cells = report.cells.iter();
    match (
        cells.all(|it| it.judged_by.quantity() == metric.quantity()),
        verdict,
    ) {
        (false, Verdict::Better) => "better",
        (false, Verdict::Worse) => "worse",
        _ => metric.words(verdict),
    }
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
    let pairs = paths::pairs(&report.cells);
    let disputed = paths::disagreements(&pairs);
    let is_disputed = |cell: &Cell, contender: &str| {
        disputed.iter().any(|(pair, both)| {
            both.contender == contender
                && [pair.hosts, pair.loopback]
                    .iter()
                    .any(|it| it.name == cell.name)
        })
    };
    let title = html! {
        "All verdicts at a glance, relative to " (report.baseline)
        @if let Some(metric) = common { ", judged by " (metric.name()) }
        ". "
        @for verdict in VERDICTS {
            span class="nowrap" { (shape(verdict)) (word_of_all(report, verdict)) } " "
        }
        @if !disputed.is_empty() { span class="nowrap" { "≠ the other path says otherwise" } }
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
            @for contender in &contenders { td class="number" {
                (glance(cell, &contender.name))
                @if is_disputed(cell, &contender.name) { abbr title="the other path says otherwise" { " ≠" } }
            } }
        } } }
    };
    scrolling("overview", title, table)
}

/// A verdict at a glance.
fn glance(cell: &Cell, contender: &str) -> Markup {
    let standing = standing::find(cell, contender).map(|entry| standing_in(cell, entry));
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
