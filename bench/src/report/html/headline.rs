//! The first screen: who is faster, by how much, and where.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::overview::{find, metric_of_all, overview};
use super::{doubts, shape, standing_in};
use crate::report::standing::{self, Judged, Standing};
use crate::report::{Cell, Entry, Metric, Report, Step, StepKind, words};
use crate::statistics::Verdict;

/// With more pieces of work than these, each gets a sentence for its best contender only.
const FEW_CELLS: usize = 2;

/// The most sentences for one of a few pieces of work.
const SENTENCES: usize = 3;

/// The most contenders whose verdicts are added up.
const WINNERS: usize = 4;

/// The verdicts, the better first.
pub(super) const VERDICTS: [Verdict; 3] =
    [Verdict::Better, Verdict::Worse, Verdict::NoDifferenceShown];

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
    let better = metric_of_all(report).words(Verdict::Better);
    format!("Is {subject} {better} than {baseline}?")
}

fn is_ladder(report: &Report) -> bool {
    report.cells.iter().any(|cell| !cell.steps.is_empty())
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
            div class="answers" {
                @for (index, cell) in report.cells.iter().enumerate() {
                    section class="answer" {
                        h2 { a href=(format!("#cell-{index}")) { (cell.name) } }
                        (answer(cell, &report.baseline, sentences))
                    }
                }
            }
            @if report.cells.len() > 1 && !is_ladder(report) { (overview(report)) }
        }
    }
}

/// The answer over all pieces of work, in large letters.
fn lead(report: &Report) -> Markup {
    let tallies = tallies(report);
    let baseline = &report.baseline;
    let faster = metric_of_all(report).words(Verdict::Better);
    let winners: Vec<_> = tallies
        .iter()
        .filter(|tally| tally.count(Verdict::Better) > 0)
        .collect();
    let everywhere = match report.cells.len() {
        1 => String::new(),
        cells => format!(" in any of {cells} pieces of work"),
    };
    html! {
        @if is_ladder(report) && !tallies.is_empty() {}
        @else if tallies.is_empty() {
            p class="lead" { "No answer: " (no_answer(report)) }
        } @else if winners.is_empty() {
            p class="lead" { "Not shown: nothing was found " (faster) " than " (baseline) (everywhere) "." }
        } @else if report.cells.len() == 1 {
            @let names: Vec<_> = winners.iter().map(|tally| words::short(tally.name)).collect();
            @let doubts = report.cells.iter().any(|cell| !doubts::grave(cell, baseline).is_empty());
            p class="lead" { "Yes: " (words::list(&names)) "." @if doubts { " There are doubts, see below." } }
        } @else {
            @for tally in winners.iter().take(WINNERS) { p class="lead" { (tally.sentence(report)) } }
        }
    }
}

/// Why nothing was judged.
fn no_answer(report: &Report) -> &'static str {
    let entries = || report.cells.iter().flat_map(|cell| &cell.entries);
    if report.cells.is_empty() {
        "nothing was measured."
    } else if entries().all(|entry| entry.rounds.is_empty()) {
        "nothing could be measured."
    } else if entries().filter(|entry| !entry.null).count() == report.cells.len() {
        "there was nobody to compare with."
    } else {
        "too little was measured."
    }
}

/// How a contender stood in all pieces of work.
struct Tally<'a> {
    name: &'a str,
    judged: Vec<(Metric, Judged)>,
}

impl<'a> Tally<'a> {
    fn new(report: &Report, name: &'a str) -> Self {
        let judged = report.cells.iter().filter_map(|cell| {
            let judged = standing_in(cell, find(cell, name)?).judged()?;
            Some((cell.judged_by, judged))
        });
        Self {
            name,
            judged: judged.collect(),
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        let judged = self.judged.iter();
        judged.filter(|(_, it)| it.verdict == verdict).count()
    }

    /// "uring is faster in 5 of 9 (−2.1 % to −8.3 %), smaller in 1 (−10.5 %), slower in 1 (+3.0 %)."
    fn sentence(&self, report: &Report) -> Markup {
        let mut groups: Vec<(&str, Verdict, Vec<f64>)> = Vec::new();
        for verdict in VERDICTS {
            for (metric, judged) in self.judged.iter().filter(|(_, it)| it.verdict == verdict) {
                let words = metric.words(verdict);
                match groups.iter_mut().find(|(known, ..)| *known == words) {
                    Some((.., ratios)) => ratios.push(judged.ratio.median),
                    None => groups.push((words, verdict, vec![judged.ratio.median])),
                }
            }
        }
        let mut all = format!(" of {}", report.cells.len());
        let parts = groups.into_iter().map(|(words, verdict, ratios)| {
            let count = ratios.len();
            let all = std::mem::take(&mut all);
            format!("{words} in {count}{all}{}", range(verdict, ratios))
        });
        let parts: Vec<_> = parts.collect();
        html! { strong { (words::short(self.name)) } " is " (parts.join(", ")) "." }
    }
}

/// How large differences were that were shown, the smallest and the largest.
fn range(verdict: Verdict, mut ratios: Vec<f64>) -> String {
    ratios.sort_by(|one, other| one.ln().abs().total_cmp(&other.ln().abs()));
    match ratios[..] {
        _ if verdict == Verdict::NoDifferenceShown => String::new(),
        [] => String::new(),
        [only] => format!(" ({})", words::signed(only)),
        [least, .., most] => format!(" ({} to {})", words::signed(least), words::signed(most)),
    }
}

/// Of everyone who was judged at all, the most often faster first, of these the least often slower.
fn tallies(report: &Report) -> Vec<Tally<'_>> {
    let contenders = report.contenders.iter();
    let mut tallies: Vec<_> = contenders
        .map(|contender| Tally::new(report, &contender.name))
        .filter(|tally| !tally.judged.is_empty())
        .collect();
    let rank = |tally: &Tally<'_>| {
        let [faster, slower] = [Verdict::Better, Verdict::Worse].map(|it| tally.count(it));
        (Reverse(faster), slower)
    };
    tallies.sort_by_key(rank);
    tallies
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
            @for doubt in doubts::grave(cell, baseline) {
                li class="doubt" { (doubt) }
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
    let is_noise = judged.verdict == Verdict::NoDifferenceShown && !judged.ratio.covers(1.0);
    html! {
        (shape(judged.verdict))
        strong { (words::short(&entry.contender)) } ": "
        (words::difference(metric, &judged.ratio, baseline))
        @if is_noise { ", no more than " (baseline) " differs from itself" }
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
    let lines = [
        (
            Verdict::Better,
            "Worth having, slower without it",
            of(StepKind::Remove, Verdict::Worse),
        ),
        (
            Verdict::Worse,
            "Costs more than it brings, faster without it",
            of(StepKind::Remove, Verdict::Better),
        ),
        (
            Verdict::Better,
            "Faster when added to the defaults",
            of(StepKind::Add, Verdict::Better),
        ),
        (
            Verdict::Worse,
            "Slower when added to the defaults",
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
