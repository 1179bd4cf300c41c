//! What the page must be, whatever was measured.

use std::collections::BTreeMap;

use super::*;
use crate::report::{Metric, Status, fixture};
use crate::statistics::Estimate;

fn plain(page: &str) -> String {
    page.replace('\u{a0}', " ")
}

fn all() -> Report {
    fixture::of(vec![fixture::paced(), fixture::failing(), fixture::idle()])
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
        "cell-1-latency",
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
        "<script", "<link", "<img", "<iframe", "<object", "http://", "https://", "@import", "url(",
        "src=", "onclick=", "onload=",
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
    assert!(header.contains(
        "6.5 % less processor time of the server’s side per request than epoll [4.4, 8.1 %]"
    ));
    assert!(header.contains("6.12.48+deb13-amd64"), "which kernel");
    assert!(header.contains("No difference shown") || header.contains("no difference shown"));
    assert!(
        header.contains("uring</strong> is cheaper (−6.5 %)"),
        "{header}"
    );
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
    assert!(page.contains("Nothing was found cheaper than epoll."));
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
    let mut cell = report.cells.remove(0);
    for round in &mut cell.entries[5].rounds {
        round.client_process_us = round.seconds * 0.99e6;
    }
    let null = cell.entries.len() - 1;
    for round in &mut cell.entries[null].rounds {
        round.server_side_us = round.server_side_us.map(|side| side * 1.2);
    }
    report.cells.push(fixture::judge(cell));
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
fn curves_have_a_line_for_everyone_and_a_name_at_its_end() {
    let loads = fixture::of(fixture::loads());
    let page = render(&loads);
    for (curve, panels) in [
        ("curve-0", &["ratio", "cost", "p50", "p99", "p999"][..]),
        ("curve-1", &["ratio", "cost", "p50", "p99", "p999"]),
    ] {
        for panel in panels {
            let figure = format!("<figure class=\"plot\" id=\"{curve}-{panel}\">");
            let drawn = page.split(&figure).nth(1).expect(panel);
            let drawn = drawn.split("</figure>").next().unwrap();
            // Of the baseline's ratio to itself there is but the null contender's band.
            let lines = if *panel == "ratio" { 3 } else { 4 };
            assert_eq!(drawn.matches("class=\"curve\"").count(), lines, "{panel}");
            assert_eq!(drawn.matches("class=\"label\"").count(), lines, "{panel}");
            assert!(drawn.contains("class=\"equals\""), "{panel}");
        }
    }
    assert_finite(&page);
    assert_balanced(&page);

    let page = render(&fixture::of(fixture::connections()));
    for id in ["curve-0-cost", "curve-0-throughput", "curve-1-ratio"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(
        !page.contains("id=\"curve-0-p99\""),
        "closed loops have no latency"
    );
    assert_finite(&page);
    assert_balanced(&page);
}

#[test]
fn curves_of_little_are_drawn_as_far_as_they_go() {
    let mut cells = fixture::loads();
    for cell in &mut cells {
        for entry in &mut cell.entries {
            entry.rounds.truncate(2);
        }
    }
    cells[3].entries[2].rounds.clear();
    let cells: Vec<_> = cells.into_iter().map(fixture::judge).collect();
    for cells in [cells[..1].to_vec(), cells[6..7].to_vec(), cells] {
        let page = render(&fixture::of(cells));
        assert_balanced(&page);
        assert_finite(&page);
    }
}

#[test]
fn each_quantity_has_a_sentence_and_the_paths_another() {
    let mut cells = fixture::both_paths();
    cells.push(fixture::idle());
    let page = plain(&render(&fixture::of(cells)));
    let header = page.split("</header>").next().unwrap();
    for sentence in [
        "<strong>Cost.</strong>",
        "<strong>Speed.</strong>",
        "<strong>Memory.</strong>",
        "<strong>Paths.</strong> They disagree",
        "tokio-uring: cheaper between hosts",
        "≠",
    ] {
        assert!(header.contains(sentence), "{sentence}: {header}");
    }
    for caveat in ["stands in for the card’s", "Whoever sends"] {
        assert!(page.contains(caveat), "{caveat}");
    }
}

#[test]
fn the_noise_floor_vetoes_nothing() {
    let page = render(&all());
    for word in ["noise floor", "veto is", "outside the band"] {
        assert!(!page.contains(word), "{word}");
    }
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
