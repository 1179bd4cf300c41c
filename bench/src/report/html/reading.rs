//! How to read the page, and what it cannot tell.

use maud::{Markup, html};

use crate::report::plot::{self, Heading};
use crate::report::{Metric, Path, Report, paths, words};

/// How to read it, when not to believe it, and what each path cannot tell.
pub(super) fn how_to_read(report: &Report) -> Markup {
    let example = Heading {
        id: "example".to_owned(),
        title: "An example.".to_owned(),
        caption: html! { "Made-up contenders, to learn the marks. The band is what equals differ by." },
    };
    html! {
        section class="reading" {
            h2 { "How to read this" }
            div class="beside" {
                div {
                    (estimate(&report.baseline))
                    (cost(report))
                    (disbelief())
                }
                div {
                    (plot::example(example))
                    (caveats(report))
                }
            }
        }
    }
}

/// What a mark and its bar are.
fn estimate(baseline: &str) -> Markup {
    html! {
        p { "Contenders take turns, restarted for every round. In each round a contender’s figure is "
            "divided by " (baseline) "’s of the same round, so that both had the same machine: by the "
            "geometric mean of its two runs, for " (baseline) " runs twice. Below 1 is better. A mark "
            "is the Hodges–Lehmann estimate of these ratios (the median of all pairs’ means, on the "
            "logarithmic scale), its bar the 95\u{a0}% interval by Wilcoxon’s signed ranks; the faint "
            "ticks beneath are the rounds." }
        p { "A difference is shown if the bar leaves out 1. It is then " em { "cheaper" } " or "
            em { "dearer" } " in processor time, " em { "faster" } " or " em { "slower" } ", "
            em { "smaller" } " or " em { "larger" } " in memory. Otherwise it is "
            em { "no difference shown" } ", which does not say that there is none: beside it stands "
            "from which difference on one would have been seen, four times out of five." }
        p { "The " strong { "(null)" } " row is " (baseline) "’s second run against its first, and the "
            "band behind the marks is its interval: what equals differ by. It vetoes no verdict, for "
            "every bar has the noise in it already. It is a check: if it lies within ±\u{a0}3\u{a0}%, two "
            "equals have come out equal; if not, the work says so." }
    }
}

/// What is judged.
fn cost(report: &Report) -> Markup {
    let is_judged = |metric: Metric| report.cells.iter().any(|cell| cell.judged_by == metric);
    let is_cost = [Metric::ServerSide, Metric::BothSides, Metric::Process].map(is_judged);
    html! {
        @if is_cost.contains(&true) {
            p { strong { "Cost" } " is processor time per request. " (words::SIDE) ". "
                @if is_cost[0] { "Between hosts the server’s side is judged. " }
                @if is_cost[1] { "Over loopback both sides are, because there no shift of work from one to the other changes it. " }
                @if is_cost[2] { "Where sides cannot be told apart, the server’s process is. " }
                "Verdicts about cost, speed and memory do not add up: they are about different things." }
        }
        @if report.cells.iter().any(|cell| !cell.work.has_latencies()) {
            p { (words::NO_LATENCY) "." }
        }
    }
}

fn disbelief() -> Markup {
    html! {
        p { "Do not believe it when" }
        ul {
            li { "the work has a doubt beside it, or there are warnings above;" }
            li { "the client was at its limit: throughput and time are then the client’s;" }
            li { "two runs of the whole comparison differ by more than their bars: rounds within one "
                "cannot show what changes from one to the next;" }
            li { "you have another processor, kernel or network card: measure there. This is one machine." }
        }
        p { "Of twenty bars one misses the truth by chance." }
    }
}

/// What no path that was taken can tell.
fn caveats(report: &Report) -> Markup {
    let taken = |path: &Path| report.cells.iter().any(|it| it.work.path == Some(*path));
    let paths = [Path::Hosts, Path::Loopback].into_iter().filter(taken);
    let paths: Vec<_> = paths.collect();
    html! {
        @if !paths.is_empty() {
            h3 id="paths" { "What a path cannot tell" }
            dl {
                @for path in paths {
                    dt { (words::capital(path.phrase())) }
                    dd { (paths::caveats(path)) }
                }
            }
        }
    }
}
