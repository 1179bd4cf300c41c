//! A report in the terminal: tables that are read at 80 columns, and never wider than 100.

mod tables;

use std::fmt::Write;

use super::environment::Environment;
use super::{Cell, Count, Path, Report, Status, Work, paths, standing, words};
use crate::load::summary::{digits, thousands};
use crate::load::{Arrivals, Workload};
use crate::statistics::FEWEST_ROUNDS;

/// The widest that a table becomes, in columns.
pub const WIDTH: usize = 100;

/// Where sentences are broken.
const PROSE: usize = 80;

/// Where it is measured, before anything has been.
pub fn environment(environment: &Environment) -> String {
    let mut text = format!("{}\n", wrap(&words::machine(environment)));
    if let Some(clock) = &environment.idle_clock {
        let _ = writeln!(text, "{}", wrap(&format!("{} ({clock})", words::SIDE)));
    }
    for warning in &environment.warnings {
        let _ = writeln!(text, "{}", wrap(&format!("warning: {warning}")));
    }
    text
}

/// One piece of work: who is cheaper, and all figures.
pub fn cell(cell: &Cell) -> String {
    let mut text = format!("\n{}\n{}\n", cell.name, wrap(&measured(cell)));
    match standing::is_about_memory(cell) {
        true => text += &tables::memory(cell),
        false => {
            text += &tables::verdicts(cell);
            text += &tables::work(cell);
            if cell.work.has_latencies() {
                text += &tables::latencies(cell);
            }
            text += &tables::counts(cell);
        }
    }
    if !cell.steps.is_empty() {
        text += &tables::ladder(cell);
    }
    for note in notes(cell) {
        let _ = writeln!(text, "{}", wrap(&note));
    }
    text
}

/// How much was measured, and what of it is judged.
fn measured(cell: &Cell) -> String {
    let Work {
        workload,
        rate,
        arrivals,
        promise,
        seconds,
        ..
    } = &cell.work;
    let rounds = cell.entries.iter().map(|entry| entry.rounds.len()).max();
    let mut text = words::count(rounds.unwrap_or_default(), "round");
    if cell.invocations > 1 {
        text += &format!(" in {}", words::count(cell.invocations, "invocation"));
    }
    if *workload == Workload::Idle {
        return text;
    }
    text += &format!(" of {seconds} s");
    if let Some(rate) = rate {
        let when = match arrivals {
            Arrivals::Exponential => "at random",
            Arrivals::Periodic => "evenly spaced",
        };
        text += &format!(", {} requests per second due {when}", thousands(*rate));
    }
    if let Some(promise) = promise {
        text += &format!(", at the highest rate that keeps {promise}");
    }
    format!("{text}; judged by {}", cell.judged_by.name())
}

/// What is to be said at the end.
pub fn closing(report: &Report) -> String {
    let mut text = String::new();
    let pairs = paths::pairs(&report.cells);
    let measured: Vec<_> = pairs
        .iter()
        .filter(|pair| !pair.contenders().is_empty())
        .copied()
        .collect();
    if !measured.is_empty() {
        let _ = write!(
            text,
            "\nthe same work over both paths\n{}{}\n",
            tables::both_paths(&measured),
            wrap(&disagreement(&measured))
        );
        for path in [Path::Hosts, Path::Loopback] {
            let caveat = format!("{path}: {}", paths::caveats(path));
            let _ = writeln!(text, "{}", wrap(&caveat));
        }
    }
    let is_silent = |cell: &Cell| !standing::is_about_memory(cell) && !cell.work.has_latencies();
    if report.cells.iter().any(is_silent) {
        let _ = writeln!(text, "\n{}", wrap(&format!("{}.", words::NO_LATENCY)));
    }
    if report.partial {
        text += "\nInterrupted: these are the rounds that were measured by then.\n";
    }
    if !report.is_clean() {
        text += "\nNot every contender did its work; see above.\n";
    }
    text
}

/// Where verdicts differ between the paths.
fn disagreement(pairs: &[paths::Pair<'_>]) -> String {
    let found = paths::disagreements(pairs);
    let opposite = found
        .iter()
        .filter(|(_, both)| both.accord() == paths::Accord::Opposite)
        .count();
    match (found.len(), opposite) {
        (0, _) => "The paths agree.".to_owned(),
        (all, 0) => format!("In {all} of these a difference is shown on one path only."),
        (all, opposite) => format!(
            "The paths disagree: in {opposite} of these the verdicts are opposite, in {} a \
             difference is shown on one path only.",
            all - opposite
        ),
    }
}

/// An amount of memory.
pub fn bytes(bytes: f64) -> String {
    const KIB: f64 = 1024.0;
    match bytes {
        bytes if bytes >= KIB * KIB => format!("{} MiB", digits(bytes / (KIB * KIB))),
        bytes if bytes >= KIB => format!("{} KiB", digits(bytes / KIB)),
        bytes => format!("{bytes:.0} B"),
    }
}

/// What must be said below the tables.
fn notes(cell: &Cell) -> Vec<String> {
    let mut notes = Vec::new();
    if cell.entries.iter().any(|entry| entry.client_saturated) {
        notes.push(match cell.work.is_paced() {
            true => "¹ the client could not send what was due: latencies are the client’s",
            false => "¹ the client was at its limit: throughput and time are the client’s",
        });
    }
    let mut notes: Vec<_> = notes.into_iter().map(str::to_owned).collect();
    for entry in &cell.entries {
        match &entry.status {
            Status::Measured => {}
            Status::Skipped(why) | Status::Failed(why) => {
                notes.push(format!("² {}: {why}", entry.label()));
            }
        }
    }
    let rounds = cell.entries.iter().map(|entry| entry.rounds.len()).max();
    let is_short = rounds.is_some_and(|rounds| (1..FEWEST_ROUNDS).contains(&rounds));
    notes.extend(cell.doubts.iter().map(|doubt| match doubt.grave {
        true => format!("! {}", doubt.text),
        false => doubt.text.clone(),
    }));
    if is_short && cell.doubts.is_empty() {
        notes.push(format!(
            "nothing is said from fewer than {FEWEST_ROUNDS} rounds"
        ));
    }
    notes.extend(between_invocations(cell));
    let counted = cell
        .entries
        .iter()
        .filter_map(|entry| entry.counted.as_ref());
    let missing = counted.flat_map(|counted| [&counted.context_switches, &counted.system_calls]);
    let mut missing = missing.filter_map(|count| match count {
        Count::NotMeasured(why) => Some(why),
        Count::PerRequest(_) => None,
    });
    if let Some(why) = missing.next() {
        notes.push(format!("system calls not measured: {why}"));
    }
    notes
}

/// How much ratios differ from one invocation to the next, if there were several.
fn between_invocations(cell: &Cell) -> Option<String> {
    let entries = cell.entries.iter();
    let told = entries.filter_map(|entry| {
        let between = entry.ratio(cell.judged_by)?.between_invocations?;
        let between = words::percent(1.0 + between);
        Some(format!("{} {between}", entry.label()))
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| {
        format!(
            "between invocations, which the intervals include: {}",
            told.join(", ")
        )
    })
}

/// Breaks a sentence into lines that fit.
fn wrap(sentence: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    // Not at spaces that are no place for a line to break.
    for word in sentence.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > PROSE {
            text.push_str("\n  ");
            column = 2;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    plain(&text)
}

/// With spaces that `grep` finds.
fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn all() -> Vec<Cell> {
        let mut cells = fixture::both_paths();
        cells.extend([fixture::failing(), fixture::paced(), fixture::idle()]);
        cells.extend(fixture::loads());
        cells
    }

    #[test]
    fn everything_is_read_at_80_columns() {
        let cells = all();
        let mut text: String = cells.iter().map(cell).collect();
        let report = fixture::of(cells);
        text += &environment(&report.environment);
        text += &closing(&report);
        for line in text.lines() {
            let is_title = line.starts_with("request-reply");
            assert!(is_title || line.chars().count() <= 80, "{line}\n{text}");
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn the_rungs_of_a_ladder_fit_100() {
        for line in cell(&fixture::ladder()).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn latencies_are_shown_where_they_say_something() {
        let closed = cell(&fixture::request_reply());
        assert!(!closed.contains("p99"), "{closed}");
        let open = cell(&fixture::paced());
        for word in ["p50", "p90", "p99", "p99.9", "max"] {
            assert!(open.contains(word), "{word}: {open}");
        }
        let mut single = fixture::request_reply();
        single.work.connections = 1;
        assert!(cell(&single).contains("p99"));
    }

    #[test]
    fn who_has_no_verdict_is_told_what_could_have_been_seen() {
        let text = cell(&fixture::request_reply());
        let line = text.lines().find(|line| line.starts_with("tokio "));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("no difference shown"), "{text}");
        assert!(line.ends_with(" %"), "{text}");
        assert!(
            text.lines()
                .any(|line| line.contains("uring ") && line.ends_with("cheaper")),
            "{text}"
        );
    }

    #[test]
    fn the_end_says_where_paths_disagree() {
        let text = closing(&fixture::of(fixture::both_paths()));
        assert!(text.contains("The paths disagree: in 1 of these"), "{text}");
        assert!(text.contains("opposite"), "{text}");
        assert!(text.contains("Closed loops"), "{text}");
        let alone = closing(&fixture::of(vec![fixture::paced()]));
        assert_eq!(alone, "");
    }

    #[test]
    fn doubts_are_told_the_grave_ones_marked() {
        let mut judged = fixture::request_reply();
        judged.entries[5].client_saturated = true;
        judged.doubts = vec![crate::report::Doubt {
            grave: true,
            text: "Nobody was there.".to_owned(),
        }];
        let text = cell(&judged);
        assert!(text.contains("! Nobody was there."), "{text}");
        assert!(text.contains("¹ the client was at its limit"), "{text}");
    }
}
