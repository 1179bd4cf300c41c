//! The answer over all pieces of work, in large letters: a sentence for each quantity, because
//! verdicts about different ones do not add up, and one about the paths.

use std::cmp::Reverse;

use maud::{Markup, html};

use crate::report::paths::{self, Accord};
use crate::report::standing::{self, Judged, Standing};
use crate::report::{Cell, Quantity, Report, words};
use crate::statistics::Verdict;

/// The most contenders in a sentence.
const WINNERS: usize = 4;

/// The most contenders of whom it is said that the paths disagree.
const DISAGREEMENTS: usize = 4;

/// All sentences.
pub(super) fn lead(report: &Report) -> Markup {
    let is_ladder = report.cells.iter().any(|cell| !cell.steps.is_empty());
    let quantities = [
        Quantity::Cost,
        Quantity::Speed,
        Quantity::Capacity,
        Quantity::Memory,
    ];
    let sentences: Vec<_> = quantities
        .into_iter()
        .filter_map(|quantity| sentence(report, quantity))
        .collect();
    html! {
        @if sentences.is_empty() {
            p class="lead" { "No answer: " (no_answer(report)) }
        } @else if !is_ladder {
            @for sentence in &sentences { p class="lead" { (sentence) } }
        }
        (over_paths(report))
        (doubts(report))
    }
}

/// "Cost. uring is cheaper in 5 of 9 (−2.1 % to −8.3 %), dearer in 1 (+3.0 %)."; `None` if nothing
/// was judged by it.
fn sentence(report: &Report, quantity: Quantity) -> Option<Markup> {
    let name = match quantity {
        Quantity::Cost => "Cost.",
        Quantity::Speed => "Speed.",
        Quantity::Capacity => "Load.",
        Quantity::Memory => "Memory.",
    };
    let cells = cells(report, quantity);
    let tallies = tallies(report, &cells, quantity);
    if tallies.is_empty() {
        return None;
    }
    let better = words(quantity, Verdict::Better);
    // What bears more is not "bears more", but bears more.
    let is = match quantity {
        Quantity::Capacity => " ",
        _ => " is ",
    };
    let winners = tallies
        .iter()
        .filter(|tally| tally.count(Verdict::Better) > 0);
    let winners: Vec<_> = winners.take(WINNERS).collect();
    let clients = if quantity == Quantity::Speed {
        let is_clients = |cell: &&Cell| cell.entries.iter().any(|it| it.client_saturated);
        cells.iter().copied().filter(is_clients).count()
    } else {
        0
    };
    let everywhere = match cells.len() {
        1 => String::new(),
        count => format!(" in any of {}", words::pieces(count)),
    };
    Some(html! {
        strong { (name) } " "
        @if winners.is_empty() {
            @if quantity == Quantity::Capacity { "Nothing was found that " (better) } @else { "Nothing was found " (better) }
            " than " (report.baseline) (everywhere) "."
        } @else {
            @for (index, tally) in winners.iter().enumerate() {
                @if index > 0 { "; " }
                strong { (words::short(tally.name)) } (is) (tally.parts(quantity, cells.len()))
            }
            "."
        }
        @if clients > 0 {
            " " span class="soft" { "In " (words::pieces(clients)) " the client was at its limit: not counted." }
        }
    })
}

/// The pieces of work that tell of a quantity.
fn cells(report: &Report, quantity: Quantity) -> Vec<&Cell> {
    let cells = report.cells.iter();
    cells
        .filter(|cell| standing::metric_of(cell, quantity).is_some())
        .collect()
}

fn words(quantity: Quantity, verdict: Verdict) -> &'static str {
    use crate::report::Metric;
    let metric = match quantity {
        Quantity::Cost => Metric::ServerSide,
        Quantity::Speed => Metric::Time,
        Quantity::Capacity => Metric::Capacity,
        Quantity::Memory => Metric::Memory,
    };
    metric.words(verdict)
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

/// How a contender stood in all pieces of work, by one quantity.
struct Tally<'a> {
    name: &'a str,
    judged: Vec<Judged>,
}

impl Tally<'_> {
    fn count(&self, verdict: Verdict) -> usize {
        let judged = self.judged.iter();
        judged.filter(|it| it.verdict == verdict).count()
    }

    /// "cheaper in 5 of 9 (−2.1 % to −8.3 %), dearer in 1 (+3.0 %)".
    fn parts(&self, quantity: Quantity, cells: usize) -> String {
        let shown = [Verdict::Better, Verdict::Worse].into_iter();
        let shown = shown.filter(|&verdict| self.count(verdict) > 0);
        let parts = shown.enumerate().map(|(index, verdict)| {
            let of = |judged: &Judged| judged.ratio.median;
            let judged = self.judged.iter().filter(|it| it.verdict == verdict);
            let range = range(judged.map(of).collect());
            let word = words(quantity, verdict);
            let count = self.count(verdict);
            match (cells, index) {
                (1, _) => format!("{word}{range}"),
                (_, 0) => format!("{word} in {count} of {cells}{range}"),
                _ => format!("{word} in {count}{range}"),
            }
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// How large differences were that were shown, the smallest and the largest.
fn range(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(|one, other| one.ln().abs().total_cmp(&other.ln().abs()));
    match ratios[..] {
        [] => String::new(),
        [only] => format!(" ({})", words::signed(only)),
        [least, .., most] if words::signed(least) == words::signed(most) => {
            format!(" ({})", words::signed(least))
        }
        [least, .., most] => format!(" ({} to {})", words::signed(least), words::signed(most)),
    }
}

/// Of everyone who was judged at all, the most often better first, of these the least often worse.
fn tallies<'a>(report: &'a Report, cells: &[&Cell], quantity: Quantity) -> Vec<Tally<'a>> {
    let judged = |cell: &Cell, name: &str| {
        let metric = standing::metric_of(cell, quantity)?;
        let entry = standing::find(cell, name)?;
        let is_own = !standing::is_the_clients(cell, entry, metric);
        let judged = Standing::of(cell, entry, metric).judged()?;
        is_own.then_some(judged)
    };
    let contenders = report.contenders.iter();
    let mut tallies: Vec<_> = contenders
        .map(|contender| Tally {
            name: &contender.name,
            judged: cells
                .iter()
                .filter_map(|cell| judged(cell, &contender.name))
                .collect(),
        })
        .filter(|tally| !tally.judged.is_empty())
        .collect();
    tallies.sort_by_key(|tally| {
        let [better, worse] = [Verdict::Better, Verdict::Worse].map(|it| tally.count(it));
        (Reverse(better), worse)
    });
    tallies
}

/// Where the verdicts depend on the path.
fn over_paths(report: &Report) -> Markup {
    let pairs = paths::pairs(&report.cells);
    let compared: usize = pairs.iter().map(|pair| pair.contenders().len()).sum();
    let found = paths::disagreements(&pairs);
    let is_opposite = found
        .iter()
        .any(|(_, both)| both.accord() == Accord::Opposite);
    let told = found.iter().take(DISAGREEMENTS).map(|(pair, both)| {
        let sentence = pair.sentence(both);
        match pairs.len() {
            1 => sentence,
            _ => format!("{sentence}, for {}", pair.name()),
        }
    });
    let told: Vec<_> = told.collect();
    html! {
        @if compared > 0 && found.is_empty() {
            p class="lead" { strong { "Paths." } " Both paths give the same verdicts." }
        } @else if compared > 0 {
            p class="lead" {
                strong { "Paths." }
                @if is_opposite { " They disagree in " } @else { " A difference is shown on one path only in " }
                (found.len()) " of " (compared) " comparisons (" a href="#paths" { "why" } ")"
                @if report.cells.iter().any(|cell| cell.point.is_none()) && report.cells.len() > 1 { ", marked ≠ below" }
                ":"
            }
            ul class="disagreements" {
                @for sentence in &told { li { (sentence) "." } }
                @if found.len() > told.len() { li class="soft" { "and " (found.len() - told.len()) " more." } }
            }
        }
    }
}

/// Which pieces of work nobody should read without the doubts beside them.
fn doubts(report: &Report) -> Markup {
    let is_doubtful = |cell: &Cell| cell.doubts.iter().any(|doubt| doubt.grave);
    let cells = report.cells.iter().enumerate();
    let doubtful: Vec<_> = cells.filter(|(_, cell)| is_doubtful(cell)).collect();
    html! {
        @if !doubtful.is_empty() {
            p class="notice" {
                "There are grave doubts about "
                @if report.cells.len() == 1 { "this; see below." }
                @else {
                    (words::pieces(doubtful.len())) ": "
                    @for (place, (index, cell)) in doubtful.iter().enumerate() {
                        @if place > 0 { "; " }
                        a href=(format!("#cell-{index}")) { (cell.name) }
                    }
                    "."
                }
            }
        }
    }
}
