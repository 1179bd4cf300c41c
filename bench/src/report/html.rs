//! A report as a page: one file that loads nothing, for a phone as well as for a desk.

mod doubts;
mod headline;
mod overview;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::{self, Heading};
use super::standing::Standing;
use super::{Cell, Entry, Metric, Path, Report, Step, StepKind, Work, words};
use crate::load::Workload;
use crate::load::summary::thousands;
use crate::statistics::Verdict;

/// How the page looks.
const STYLE: &str = include_str!("html/page.css");

/// The page.
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The page needs nothing but its own style; browsers can hold it to that.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (headline::question(report)) " Linux " (report.environment.kernel) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (headline::header(report))
                main {
                    (warnings(report))
                    (how_to_read(&report.baseline))
                    @for (index, cell) in report.cells.iter().enumerate() { (section(index, cell, &report.baseline)) }
                    (environment(report))
                }
                (footer(report))
            }
        }
    };
    page.into_string()
}

/// What makes the measurement less trustworthy.
fn warnings(report: &Report) -> Markup {
    let warnings = &report.environment.warnings;
    html! {
        @if !warnings.is_empty() {
            section class="notice" {
                h2 { "Warnings" }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

fn how_to_read(baseline: &str) -> Markup {
    let example = Heading {
        id: "example".to_owned(),
        title: "An example.".to_owned(),
        caption: html! { "Made-up contenders, to learn the marks." },
    };
    html! {
        section class="reading" {
            h2 { "How to read this" }
            div class="beside" {
                div {
                    p { "Contenders take turns. In each round a contender’s figure is divided by "
                        (baseline) "’s of the same round, so that both had the same machine. Below 1 "
                        "is better. A mark is the median of these ratios, its bar the 95\u{a0}% interval, "
                        "the faint ticks beneath are the rounds." }
                    p { "The grey band is " strong { "the noise floor" } ": " (baseline) " measured "
                        "against itself, as a contender like the others. A difference counts only if "
                        "the bar leaves out 1 " em { "and" } " the mark is outside the band. Then the "
                        "verdict is " em { "faster" } " or " em { "slower" } "; otherwise it is "
                        em { "no difference shown" } ", which does not say that there is none." }
                    p { "Do not believe it when" }
                    ul {
                        li { "the grey band is wide, or leaves out 1: the machine was not quiet;" }
                        li { "the client was at its limit: throughput and time are then the client’s;" }
                        li { "there are warnings above, or only a few rounds;" }
                        li { "you have another processor or kernel: measure there. This is one machine, "
                            "and its loopback device, not a network." }
                    }
                }
                (plot::example(example))
            }
        }
    }
}

/// One piece of work.
fn section(index: usize, cell: &Cell, baseline: &str) -> Markup {
    let id = format!("cell-{index}");
    html! {
        section id=(id) class="cell" {
            h2 { (cell.name) }
            p class="soft" { (work(cell)) }
            (notice(&doubts::of(cell, baseline)))
            @if !cell.entries.is_empty() {
                (plots(&id, cell, baseline))
                (tables::ratios(&id, cell))
                (tables::figures(&id, cell))
            }
        }
    }
}

fn notice(doubts: &[String]) -> Markup {
    html! {
        @if !doubts.is_empty() {
            ul class="notice" { @for doubt in doubts { li { (doubt) } } }
        }
    }
}

/// What was done, in figures.
fn work(cell: &Cell) -> String {
    let Work {
        workload,
        transport,
        connections,
        sizes,
        pipeline,
        rate,
        path,
        rate_of_baseline: _,
        promise: _,
        arrivals: _,
        warmup_seconds,
        seconds,
    } = &cell.work;
    let connections = words::count(*connections, "connection");
    let path = path.map_or("", Path::phrase);
    let mut text = format!("{workload} over {transport} {path}, {connections}");
    if *workload != Workload::Idle {
        text += &format!(", messages of {sizes} bytes, {pipeline} in flight on each");
    }
    if let Some(rate) = rate {
        text += &format!(", {} requests due per second", thousands(*rate));
    }
    text += &format!("; {}", words::count(cell.rounds, "round"));
    if *workload != Workload::Idle {
        text += &format!(" of {seconds} s after {warmup_seconds} s of warm-up");
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
    let ratios = heading(
        "ratios",
        &format!(
            "{}, relative to {baseline}.",
            words::capital(cell.judged_by.name())
        ),
        html! { "Below 1 is better. Grey: " (baseline) " against itself, the noise floor; ticks: single rounds." },
    );
    let latency = heading(
        "latency",
        "Latency.",
        html! { "Medians over the rounds, of the maximum the largest. Dashed: p50 and p99 of " (baseline) "." },
    );
    let cpu = heading(
        "cpu",
        "Server CPU per request.",
        html! { "User + kernel mode = both, in microseconds. Dashed: " (baseline) "." },
    );
    let memory = heading(
        "memory",
        "Memory per idle connection.",
        html! { "The server’s own. Dashed: " (baseline) "." },
    );
    html! {
        @if !cell.steps.is_empty() { (ladder(heading, cell, baseline)) }
        div class="plots" {
            (plot::ratios(ratios, cell))
            @if cell.judged_by == Metric::Memory {
                (plot::memory(memory, cell).unwrap_or_default())
            } @else {
                (plot::latencies(latency, cell).unwrap_or_default())
                (plot::cpu(cpu, cell).unwrap_or_default())
            }
        }
    }
}

/// What the ring's features are worth: the climb from none to the defaults, and each alone.
fn ladder(heading: impl Fn(&str, &str, Markup) -> Heading, cell: &Cell, baseline: &str) -> Markup {
    let climb = heading(
        "ladder",
        &format!(
            "From no feature to the defaults: {} relative to {baseline}.",
            cell.judged_by.name()
        ),
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
            "If they are slower without a feature, it is worth having."
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

fn environment(report: &Report) -> Markup {
    html! {
        section id="environment" {
            h2 { "Where and how it was measured" }
            (tables::environment(report))
            h3 { "Contenders" }
            (tables::contenders(report))
        }
    }
}

fn footer(report: &Report) -> Markup {
    html! {
        footer {
            p { "Made by ringlab-bench; report version " (report.version) ". The JSON holds every round." }
        }
    }
}

/// How an entry stands by what its cell is judged by.
fn standing_in<'a>(cell: &'a Cell, entry: &'a Entry) -> Standing<'a> {
    Standing::of(cell, entry, cell.judged_by)
}

/// A verdict's shape, for eyes only.
fn shape(verdict: Verdict) -> Markup {
    html! { span class=(format!("shape {}", words::class(verdict))) aria-hidden="true" { (words::shape(verdict)) } " " }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::report::{Status, fixture};
    use crate::statistics::Estimate;

    fn plain(page: &str) -> String {
        page.replace('\u{a0}', " ")
    }

    fn all() -> Report {
        fixture::of(vec![
            fixture::request_reply(),
            fixture::failing(),
            fixture::idle(),
        ])
    }

    /// The values of all attributes that hold coordinates.
    fn coordinates(page: &str) -> impl Iterator<Item = &str> {
        const NAMES: [&str; 14] = [
            "x",
            "y",
            "x1",
            "x2",
            "y1",
            "y2",
            "cx",
            "cy",
            "r",
            "width",
            "height",
            "points",
            "transform",
            "viewBox",
        ];
        let tags = page.split('<').filter_map(|tag| tag.split('>').next());
        tags.flat_map(|tag| tag.split("\" ").filter_map(|it| it.split_once("=\"")))
            .filter(|(name, _)| {
                let name = name.rsplit(' ').next().unwrap_or_default();
                NAMES.contains(&name)
            })
            .map(|(_, value)| value.trim_end_matches('"'))
    }

    fn assert_finite(page: &str) {
        let mut count = 0;
        for value in coordinates(page) {
            let value = value.replace("translate(", "").replace(')', "");
            for number in value.split([' ', ',']).filter(|text| !text.is_empty()) {
                let number: f64 = number.parse().unwrap_or(f64::NAN);
                assert!(number.is_finite(), "{value}");
                count += 1;
            }
        }
        assert!(count > 0, "no plot");
        for word in ["NaN", ">inf", " inf ", "[inf", "-inf"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    /// Every element that is opened is closed, in order.
    fn assert_balanced(page: &str) {
        const VOID: [&str; 2] = ["meta", "br"];
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let name = tag.split([' ', '>']).next().unwrap_or_default();
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !VOID.contains(&name) && !name.starts_with('!') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn every_piece_of_work_has_its_plots() {
        let page = render(&all());
        for id in [
            "cell-0-ratios",
            "cell-0-latency",
            "cell-0-cpu",
            "cell-1-ratios",
            "cell-1-latency",
            "cell-1-cpu",
            "cell-2-ratios",
            "cell-2-memory",
        ] {
            let count = page
                .matches(&format!("<figure class=\"plot\" id=\"{id}\">"))
                .count();
            assert_eq!(count, 1, "{id}");
        }
        for id in [
            "cell-2-latency",
            "cell-2-cpu",
            "cell-0-ladder",
            "cell-0-memory",
        ] {
            assert!(!page.contains(&format!("id=\"{id}\"")), "{id}");
        }
        let page = render(&fixture::of(vec![fixture::ladder()]));
        for id in ["cell-0-ladder", "cell-0-steps", "cell-0-ratios"] {
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }

    #[test]
    fn no_identity_is_given_twice() {
        let page = render(&all());
        let mut seen = BTreeMap::new();
        for id in page
            .split(" id=\"")
            .skip(1)
            .filter_map(|it| it.split('"').next())
        {
            *seen.entry(id).or_insert(0) += 1;
        }
        seen.retain(|_, count| *count > 1);
        assert_eq!(seen, BTreeMap::new());
    }

    #[test]
    fn names_and_reasons_are_escaped() {
        let mut report = all();
        const EVIL: &str = "<script>alert(\"1\")</script>";
        for cell in &mut report.cells {
            EVIL.clone_into(&mut cell.name);
            EVIL.clone_into(&mut cell.entries[5].contender);
            cell.entries[1].status = Status::Skipped(EVIL.to_owned());
            cell.entries[2].status = Status::Failed(EVIL.to_owned());
        }
        EVIL.clone_into(&mut report.contenders[5].name);
        EVIL.clone_into(&mut report.contenders[5].command);
        EVIL.clone_into(&mut report.environment.processor);
        report.environment.warnings.push(EVIL.to_owned());
        let page = render(&report);
        assert!(page.contains("&lt;script&gt;alert"));
        assert!(!page.contains("<script"));
        assert!(!page.contains("alert(\""));
        assert_balanced(&page);
    }

    #[test]
    fn a_page_loads_nothing_and_runs_nothing() {
        let page = render(&all());
        for forbidden in [
            "<script", "<link", "<img", "<iframe", "<object", "http://", "https://", "@import",
            "url(", "src=", "onclick=", "onload=",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_element_is_closed() {
        assert_balanced(&render(&all()));
        assert_balanced(&render(&fixture::of(vec![fixture::ladder()])));
    }

    #[test]
    fn the_first_screen_says_who_is_faster_and_by_how_much() {
        let mut report = fixture::report();
        let uring = &mut report.cells[0].entries[5];
        let ratio = uring
            .ratios
            .iter_mut()
            .find(|it| it.metric == Metric::ServerSide);
        ratio.unwrap().estimate = Some(Estimate {
            median: 0.935,
            low: 0.919,
            high: 0.956,
        });
        let page = plain(&render(&report));
        let header = page.split("</header>").next().unwrap();
        assert!(header.contains("6.5 % less server CPU per request than epoll [4.4, 8.1 %]"));
        assert!(header.contains("6.12.48+deb13-amd64"), "which kernel");
        assert!(header.contains("No difference shown") || header.contains("no difference shown"));
        assert!(header.contains("Yes: uring"));
    }

    #[test]
    fn nothing_shown_is_said() {
        let mut report = fixture::report();
        for entry in &mut report.cells[0].entries {
            for ratio in &mut entry.ratios {
                ratio.verdict = Verdict::NoDifferenceShown;
            }
        }
        let page = render(&report);
        assert!(page.contains("Not shown: nothing was found faster than epoll."));
    }

    #[test]
    fn what_was_interrupted_is_called_partial() {
        let mut report = all();
        assert!(!render(&report).contains("Partial"));
        report.partial = true;
        assert!(render(&report).contains("Partial"));
    }

    #[test]
    fn doubts_are_told_at_the_top() {
        let mut report = fixture::of(vec![fixture::failing()]);
        let entries = &mut report.cells[0].entries;
        entries[5].client_saturated = true;
        let last = entries.len() - 1;
        entries[last].ratios[0].verdict = Verdict::Worse;
        let page = render(&report);
        let header = page.split("</header>").next().unwrap();
        assert!(header.contains("With uring the client was at its limit"));
        assert!(header.contains("threads failed: 1 × wrong byte"));
        assert!(header.contains("epoll differs from itself here"));
        assert!(header.contains("Not measured: sequential"));
    }

    #[test]
    fn what_was_not_counted_has_its_reason() {
        let page = render(&fixture::of(vec![fixture::failing()]));
        assert!(page.contains("not measured: perf_event_open: Permission denied"));
    }

    #[test]
    fn degenerate_reports_have_finite_plots() {
        let one_round = {
            let mut cell = fixture::request_reply();
            for entry in &mut cell.entries {
                entry.rounds.truncate(1);
            }
            fixture::judge(cell)
        };
        let nothing_answered = {
            let mut cell = fixture::request_reply();
            for round in cell.entries.iter_mut().flat_map(|entry| &mut entry.rounds) {
                (round.requests, round.latency_us) = (0, None);
            }
            fixture::judge(cell)
        };
        let alone = {
            let mut cell = fixture::request_reply();
            cell.entries.drain(1..cell.entries.len() - 1);
            fixture::judge(cell)
        };
        let all_failed = {
            let mut cell = fixture::request_reply();
            for entry in &mut cell.entries {
                entry.rounds.clear();
                entry.status = Status::Failed("it did not start".to_owned());
            }
            fixture::judge(cell)
        };
        let free_of_charge = {
            let mut cell = fixture::request_reply();
            for round in &mut cell.entries[0].rounds {
                round.server_side_us = Some(0.0);
            }
            fixture::judge(cell)
        };
        let steps_unmeasured = {
            let mut cell = fixture::ladder();
            for step in &mut cell.steps {
                step.ratio = None;
            }
            cell
        };
        for cell in [
            one_round,
            nothing_answered,
            alone,
            all_failed,
            free_of_charge,
            steps_unmeasured,
            fixture::idle(),
            fixture::ladder(),
        ] {
            let page = render(&fixture::of(vec![cell]));
            assert_finite(&page);
            assert_balanced(&page);
        }
        let empty = render(&fixture::of(Vec::new()));
        assert!(empty.contains("No answer: nothing was measured."));
        assert_finite(&empty);
    }

    #[test]
    fn headings_are_in_order() {
        let page = render(&all());
        let levels = page
            .split("<h")
            .skip(1)
            .filter_map(|it| it.split(['>', ' ']).next());
        let mut before = 0;
        for level in levels.filter_map(|level| level.parse::<u32>().ok()) {
            assert!(level <= before + 1, "h{level} after h{before}");
            before = level;
        }
    }
}
