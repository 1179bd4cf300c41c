//! A report in the terminal: tables of at most 100 columns.

use std::fmt::Write;

use comfy_table::{Cell as TableCell, CellAlignment, Table, presets};

use super::environment::Environment;
use super::standing::Standing;
use super::{Cell, Count, Entry, Medians, Metric, Report, Status, Step, StepKind, words};
use crate::load::Workload;
use crate::load::summary::{digits, microseconds, thousands};
use crate::statistics::{Estimate, FEWEST_ROUNDS, Null};

/// The widest that a table becomes, in columns.
pub const WIDTH: usize = 100;

/// The narrowest, below which a terminal wraps.
const NARROWEST: u16 = 60;

/// Where it is measured, before anything has been.
pub fn environment(environment: &Environment) -> String {
    let mut text = format!("{}\n", wrap(&words::machine(environment)));
    for warning in &environment.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// One piece of work: who is faster, and all figures.
pub fn cell(cell: &Cell) -> String {
    let work = &cell.work;
    let rounds = cell.entries.iter().map(|entry| entry.rounds.len()).max();
    let mut text = format!("\n{}\n", cell.name);
    let _ = match work.workload {
        Workload::Idle => writeln!(text, "{} rounds", rounds.unwrap_or_default()),
        _ => writeln!(
            text,
            "{} rounds of {} s{}; judged by {}",
            rounds.unwrap_or_default(),
            work.seconds,
            work.rate.map_or_else(String::new, |rate| {
                format!(", {} requests per second", thousands(rate))
            }),
            cell.judged_by.name(),
        ),
    };
    match cell.judged_by {
        Metric::Memory => text += &lines(&memory(cell)),
        _ => {
            text += &lines(&verdicts(cell));
            text += &lines(&details(cell));
        }
    }
    if !cell.steps.is_empty() {
        text += &lines(&ladder(&cell.steps));
    }
    for note in notes(cell) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// What is to be said at the end.
pub fn closing(report: &Report) -> String {
    let mut text = String::new();
    if report.partial {
        text += "\nInterrupted: these are the rounds that were measured by then.\n";
    }
    if report.is_clean() {
        text
    } else {
        text + "\nNot every contender did its work; see above.\n"
    }
}

fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Dynamic)
        .set_width(u16::try_from(WIDTH).unwrap_or(NARROWEST))
        .set_header(heading.iter().map(|&text| match text {
            // Words from the left, numbers from the right.
            "" | "verdict" => TableCell::new(text),
            _ => right(text),
        }));
    table
}

fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn right(text: impl ToString) -> TableCell {
    TableCell::new(text.to_string()).set_alignment(CellAlignment::Right)
}

fn or_dash(text: Option<String>) -> TableCell {
    right(text.unwrap_or_else(|| "–".to_owned()))
}

/// A name that leaves room for figures: of the steps of a ladder, the last feature.
fn label(entry: &Entry) -> String {
    words::short(&entry.label()).replace("uring:none,…,", "…,")
}

/// Who is faster.
fn verdicts(cell: &Cell) -> Table {
    let ratio = format!("{} [95 %]", cell.judged_by.short());
    let mut table = table(&[
        "",
        "requests/s",
        "server side",
        "client side",
        "process",
        &ratio,
        "verdict",
    ]);
    for entry in &cell.entries {
        let medians = entry.medians.as_ref();
        let time =
            |of: fn(&Medians) -> Option<f64>| or_dash(medians.and_then(of).map(microseconds));
        let throughput = medians.map(|medians| {
            let mark = if entry.client_saturated { "¹" } else { "" };
            format!("{}{mark}", thousands(medians.requests_per_second))
        });
        let mut row = vec![
            TableCell::new(label(entry)),
            or_dash(throughput),
            time(|medians| medians.server_side_us),
            time(|medians| medians.client_side_us),
            time(|medians| medians.process_us),
        ];
        row.extend(judgement(cell, entry));
        table.add_row(row);
    }
    table
}

/// The ratio, and what it says or why there is none.
fn judgement(cell: &Cell, entry: &Entry) -> [TableCell; 2] {
    let standing = Standing::of(cell, entry, cell.judged_by);
    let words = match standing {
        Standing::Judged(judged) => cell.judged_by.words(judged.verdict).to_owned(),
        Standing::Skipped(_) | Standing::Failed(_) => format!("{} ²", standing.words()),
        _ => standing.words().to_owned(),
    };
    let ratio = match standing {
        Standing::Baseline => right("1"),
        _ => or_dash(standing.judged().map(|judged| judged.ratio.to_string())),
    };
    [ratio, TableCell::new(words)]
}

/// All the other figures.
fn details(cell: &Cell) -> Table {
    let mut table = table(&[
        "",
        "p50",
        "p99",
        "max",
        "user+sys",
        "switches",
        "calls",
        "peak mem",
        "client",
        "time ratio",
    ]);
    for entry in &cell.entries {
        let Some(medians) = &entry.medians else {
            continue;
        };
        let latency = medians.latency_us;
        let counted = entry.counted.as_ref();
        let split = medians
            .process_us
            .zip(medians.user_share)
            .map(|(cpu, user)| format!("{}+{}", digits(cpu * user), digits(cpu * (1.0 - user))));
        let time = entry.ratio(Metric::Time).and_then(|ratio| ratio.estimate);
        table.add_row([
            TableCell::new(label(entry)),
            or_dash(latency.map(|latency| microseconds(latency.p50))),
            or_dash(latency.map(|latency| microseconds(latency.p99))),
            or_dash(latency.map(|latency| microseconds(latency.max))),
            or_dash(split),
            or_dash(counted.and_then(|counted| count(&counted.context_switches))),
            or_dash(counted.and_then(|counted| count(&counted.system_calls))),
            right(bytes(medians.peak_memory as f64)),
            or_dash(medians.client_process_us.map(microseconds)),
            or_dash(time.map(|time| format!("{:.3}", time.median))),
        ]);
    }
    table
}

fn count(count: &Count) -> Option<String> {
    match count {
        Count::PerRequest(count) => Some(digits(count.median)),
        Count::NotMeasured(_) => None,
    }
}

/// What idle connections cost.
fn memory(cell: &Cell) -> Table {
    let ratio = format!("{} [95 %]", cell.judged_by.short());
    let mut table = table(&["", "per connection", "peak", &ratio, "verdict"]);
    for entry in &cell.entries {
        let medians = entry.medians.as_ref();
        let per_connection = medians.and_then(|medians| medians.memory_per_connection);
        let mut row = vec![
            TableCell::new(label(entry)),
            or_dash(per_connection.map(bytes)),
            or_dash(medians.map(|medians| bytes(medians.peak_memory as f64))),
        ];
        row.extend(judgement(cell, entry));
        table.add_row(row);
    }
    table
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

/// What each feature is worth.
fn ladder(steps: &[Step]) -> Table {
    let mut table = table(&["", "ratio [95 %]", "verdict"]);
    for step in steps {
        let label = match step.kind {
            StepKind::Climb => format!("from nothing: +{}", step.feature),
            StepKind::Remove => format!("defaults: -{}", step.feature),
            StepKind::Add => format!("defaults: +{}", step.feature),
        };
        let words = match step.ratio {
            Some(_) => step.verdict.to_string(),
            None => "too few rounds".to_owned(),
        };
        table.add_row([
            TableCell::new(label),
            or_dash(step.ratio.map(|ratio: Estimate| ratio.to_string())),
            TableCell::new(words),
        ]);
    }
    table
}

/// What must be said below the tables.
fn notes(cell: &Cell) -> Vec<String> {
    let mut notes = Vec::new();
    if cell.entries.iter().any(|entry| entry.client_saturated) {
        notes.push("¹ the client was at its limit: the throughput is the client's".to_owned());
    }
    for entry in &cell.entries {
        match &entry.status {
            Status::Measured => {}
            Status::Skipped(why) | Status::Failed(why) => {
                notes.push(format!("² {}: {why}", entry.label()));
            }
        }
    }
    let null = cell.entries.iter().find(|entry| entry.null);
    if let Some(ratio) = null.and_then(|entry| entry.ratio(cell.judged_by)) {
        if ratio.estimate.is_none() {
            notes.push(format!(
                "nothing is said from fewer than {FEWEST_ROUNDS} rounds"
            ));
        }
    }
    match cell.null {
        Some(Null::Differs) => notes.push(
            "the baseline differs from itself here: something other than the servers makes a \
             difference; believe nothing that is not much larger"
                .to_owned(),
        ),
        Some(Null::NotShown) => notes
            .push("too noisy for the baseline to be shown equal to itself within 3 %".to_owned()),
        Some(Null::Equivalent) | None => {}
    }
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
    notes.into_iter().map(|note| wrap(&note)).collect()
}

/// Breaks a sentence into lines that fit.
fn wrap(sentence: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in sentence.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push_str("\n  ");
            column = 2;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}
