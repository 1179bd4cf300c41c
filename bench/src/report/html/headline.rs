//! The first screen: who is faster, by how much, and where.

use maud::{Markup, html};

use super::lead::lead;
use super::overview::overview;
use super::{shape, standing_in};
use crate::report::standing::{self, Judged, Standing};
use crate::report::words::VERDICTS;
use crate::report::{Cell, Entry, Report, Step, StepKind, words};
use crate::statistics::Verdict;

/// With more pieces of work than these, each gets a sentence for its best contender only.
const FEW_CELLS: usize = 2;

/// The most sentences for one of a few pieces of work.
const SENTENCES: usize = 3;

/// What the report answers.
pub(super) fn question(report: &Report) -> String {
    let baseline = &report.baseline;
    if is_ladder(report) {
        return "What are io_uring’s features worth?".to_owned();
    }
    let mut others = report.contenders.iter().map(|contender| &contender.name);
    others.by_ref().next();
    let subject = match (others.next(), others.next()) {
        (Some(only), None) => only,
        _ => "anything",
    };
    let better = super::overview::word_of_all(report, Verdict::Better);
    format!("Is {subject} {better} than {baseline}?")
}

fn is_ladder(report: &Report) -> bool {
    report.cells.iter().any(|cell| !cell.steps.is_empty())
}

/// Whether the answer is better seen than read.
fn is_curve(report: &Report) -> bool {
    !report.cells.is_empty() && report.cells.iter().all(|cell| cell.point.is_some())
}

/// The question, the answer, and where it was found.
pub(super) fn header(report: &Report) -> Markup {
    let sentences = match report.cells.len() {
        cells if cells <= FEW_CELLS => SENTENCES,
        _ => 1,
    };
    html! {
        header {
            h1 { (question(report)) }
            p class="soft" {
                (words::machine(&report.environment)) "; "
                time datetime=(report.started) { (report.started.replace('T', " ").replace('Z', " UTC")) }
                "."
            }
            @if report.partial {
                p class="notice" {
                    strong { "Partial: " } "it was interrupted after " (words::duration(report.seconds))
                    "; these are the rounds that were measured by then."
                }
            }
            (lead(report))
            @if !is_curve(report) { div class="answers" {
                @for (index, cell) in report.cells.iter().enumerate() {
                    section class="answer" {
                        h2 { a href=(format!("#cell-{index}")) { (cell.name) } }
                        (answer(cell, &report.baseline, sentences))
                    }
                }
            } }
            @if report.cells.len() > 1 && !is_ladder(report) && !is_curve(report) { (overview(report)) }
        }
    }
}

/// One piece of work in sentences.
fn answer(cell: &Cell, baseline: &str, sentences: usize) -> Markup {
    let judged = judged(cell);
    let told = judged.len().min(sentences);
    let told = match judged.first() {
        // Of many pieces of work only what is good news gets a sentence, or the only news.
        Some((_, best)) if sentences == 1 && judged.len() > 1 => {
            usize::from(best.verdict == Verdict::Better)
        }
        _ => told,
    };
    let (full, rest) = judged.split_at(told);
    html! {
        ul {
            @for (entry, judged) in full { li class=(words::class(judged.verdict)) {
                (sentence(cell, entry, judged, baseline))
            } }
            @for verdict in VERDICTS { (summary(cell, verdict, rest, !full.is_empty())) }
            (worth(cell))
            (others(cell))
            @for doubt in cell.doubts.iter().filter(|doubt| doubt.grave) {
                li class="doubt" { (doubt.text) }
            }
        }
    }
}

/// Everyone with a verdict, the faster first, then the slower, the nearest first; of a ladder only
/// who is no step of it.
fn judged(cell: &Cell) -> Vec<(&Entry, Judged)> {
    let is_rung = |name: &str| {
        let mut climb = cell.steps.iter().filter(|it| it.kind == StepKind::Climb);
        let is_start = climb.next().is_some_and(|first| first.from == name);
        !is_start && cell.steps.iter().any(|step| step.to == name)
    };
    let entries = cell.entries.iter().filter(|entry| !entry.null);
    let mut judged: Vec<_> = entries
        .filter(|entry| !is_rung(&entry.contender))
        .filter_map(|entry| Some((entry, standing_in(cell, entry).judged()?)))
        .collect();
    judged.sort_by(|(_, one), (_, other)| {
        let rank = |judged: &Judged| VERDICTS.iter().position(|&it| it == judged.verdict);
        let by_rank = rank(one).cmp(&rank(other));
        by_rank.then(one.ratio.median.total_cmp(&other.ratio.median))
    });
    judged
}

/// One contender in a sentence.
fn sentence(cell: &Cell, entry: &Entry, judged: &Judged, baseline: &str) -> Markup {
    let metric = cell.judged_by;
    html! {
        (shape(judged.verdict))
        strong { (words::short(&entry.contender)) } ": "
        (words::difference(metric, &judged.ratio, baseline))
        ": " strong class="verdict" { (metric.words(judged.verdict)) } "."
        @if let (Some(visible), true) = (judged.visible, judged.verdict == Verdict::NoDifferenceShown) {
            " At this noise, differences show from " (words::percent(1.0 + visible)) " on."
        }
    }
}

/// Several contenders with the same verdict in a line.
fn summary(cell: &Cell, verdict: Verdict, rest: &[(&Entry, Judged)], also: bool) -> Markup {
    let metric = cell.judged_by;
    let mut names: Vec<_> = rest
        .iter()
        .filter(|(_, judged)| judged.verdict == verdict)
        .map(|(entry, judged)| {
            let amount = words::amount(metric, judged.ratio.median);
            format!("{} ({amount})", words::short(&entry.contender))
        })
        .collect();
    if verdict == Verdict::NoDifferenceShown {
        names.sort();
    }
    let words = metric.words(verdict);
    let title = match also && verdict == Verdict::Better {
        true => format!("also {words}"),
        false => words.to_owned(),
    };
    html! {
        @if !names.is_empty() {
            li class=(words::class(verdict)) {
                (shape(verdict)) strong class="verdict" { (words::capital(&title)) } ": " (words::list(&names)) "."
            }
        }
    }
}

/// What the steps of a ladder are worth.
fn worth(cell: &Cell) -> Markup {
    let metric = cell.judged_by;
    let of = |kind: StepKind, verdict: Verdict| -> Vec<String> {
        let steps = cell
            .steps
            .iter()
            .filter(|step| step.kind == kind && step.verdict == verdict);
        let told = steps.filter_map(|step: &Step| {
            let ratio = step.ratio.filter(standing::is_drawable)?;
            let amount = words::amount(metric, ratio.median);
            Some(format!("{} ({amount})", step.feature))
        });
        told.collect()
    };
    let [better, worse] = [Verdict::Better, Verdict::Worse].map(|it| metric.words(it));
    let lines = [
        (
            Verdict::Better,
            format!("Worth having, {worse} without it"),
            of(StepKind::Remove, Verdict::Worse),
        ),
        (
            Verdict::Worse,
            format!("Takes more than it brings, {better} without it"),
            of(StepKind::Remove, Verdict::Better),
        ),
        (
            Verdict::Better,
            format!("{} when added to the defaults", words::capital(better)),
            of(StepKind::Add, Verdict::Better),
        ),
        (
            Verdict::Worse,
            format!("{} when added to the defaults", words::capital(worse)),
            of(StepKind::Add, Verdict::Worse),
        ),
    ];
    let mut rest = of(StepKind::Remove, Verdict::NoDifferenceShown);
    rest.extend(of(StepKind::Add, Verdict::NoDifferenceShown));
    html! {
        @for (verdict, words, features) in lines {
            @if !features.is_empty() {
                li class=(words::class(verdict)) { (shape(verdict)) strong { (words) } ": " (words::list(&features)) "." }
            }
        }
        @if !rest.is_empty() {
            li class="open" { (shape(Verdict::NoDifferenceShown)) strong { "No difference shown" } " against the defaults: " (words::list(&rest)) "." }
        }
    }
}

/// Who has no verdict, by the reason.
fn others(cell: &Cell) -> Markup {
    let with = |words: &str| -> Vec<String> {
        let entries = cell.entries.iter().filter(|entry| !entry.null);
        let named = entries.filter(|entry| standing_in(cell, entry).words() == words);
        named.map(|entry| words::short(&entry.contender)).collect()
    };
    // Of those that failed, the reasons are told as well.
    let reasons = [
        Standing::Skipped(""),
        Standing::TooFewRounds,
        Standing::NoFigure,
    ];
    html! {
        @for words in reasons.map(Standing::words) {
            @let names = with(words);
            @if !names.is_empty() { li class="soft" { (words::capital(words)) ": " (words::list(&names)) "." } }
        }
    }
}
