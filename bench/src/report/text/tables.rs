//! The tables of a piece of work.

use comfy_table::{Cell as TableCell, CellAlignment, ContentArrangement, Table, presets};

use super::{WIDTH, bytes, plain};
use crate::load::summary::{digits, microseconds, thousands};
use crate::report::paths::{Accord, Pair};
use crate::report::standing::{Standing, is_the_clients};
use crate::report::{Cell, Count, Entry, Medians, Metric, Path, Step, StepKind, words};
use crate::statistics::{Estimate, Null, Verdict};

/// Between columns.
const APART: u16 = 2;

/// Headings of words, which begin at the left.
const WORDS: [&str; 4] = ["", "verdict", "between hosts", "over loopback"];

/// The judged ratio, and what it says.
pub(super) fn verdicts(cell: &Cell) -> String {
    let name = cell.judged_by.short().trim_end_matches(" ratio");
    let mut table = table(&["", name, "ratio [95 %]", "verdict", "visible"]);
    for entry in &cell.entries {
        let figure = judged_figure(cell, entry.medians.as_ref());
        let mut row = vec![TableCell::new(label(entry)), or_dash(figure)];
        row.extend(judgement(cell, entry));
        table.add_row(row);
    }
    lines(&table)
}

/// What is judged, in microseconds.
fn judged_figure(cell: &Cell, medians: Option<&Medians>) -> Option<String> {
    let medians = medians?;
    let both = || Some(medians.server_side_us? + medians.client_side_us?);
    let latency = medians.latency_us;
    let figure = match cell.judged_by {
        Metric::ServerSide => medians.server_side_us,
        Metric::BothSides => both(),
        Metric::Process => medians.process_us,
        Metric::Time => Some(1e6 / medians.requests_per_second),
        Metric::P50 => latency.map(|latency| latency.p50),
        Metric::P90 => latency.map(|latency| latency.p90),
        Metric::P99 => latency.map(|latency| latency.p99),
        Metric::Capacity => {
            return medians
                .kept_rate
                .map(|rate| format!("{}/s", thousands(rate)));
        }
        Metric::Memory => return medians.memory_per_connection.map(bytes),
        Metric::OwnMemory => return medians.own_memory_per_connection.map(bytes),
    };
    figure.filter(|it| it.is_finite()).map(microseconds)
}

/// The ratio, what it says or why there is none, and from where on a difference would have shown.
fn judgement(cell: &Cell, entry: &Entry) -> [TableCell; 3] {
    let standing = Standing::of(cell, entry, cell.judged_by);
    let judged = standing.judged();
    let words = match standing {
        Standing::Judged(judged) if entry.null => words::null(Null::of(&judged.ratio)).to_owned(),
        Standing::Judged(judged) => cell.judged_by.words(judged.verdict).to_owned(),
        Standing::Skipped(_) | Standing::Failed(_) => format!("{} ²", standing.words()),
        _ => standing.words().to_owned(),
    };
    let ratio = match standing {
        Standing::Baseline => right("1"),
        _ => or_dash(judged.map(|judged| judged.ratio.to_string())),
    };
    let open = judged.filter(|judged| !entry.null && judged.verdict == Verdict::NoDifferenceShown);
    let visible = open.and_then(|judged| judged.visible);
    let visible = visible.map(|visible| format!("from {}", words::percent(1.0 + visible)));
    [
        ratio,
        TableCell::new(words),
        right(visible.unwrap_or_default()),
    ]
}

/// What was done, and who did how much for it.
pub(super) fn work(cell: &Cell) -> String {
    let is_paced = cell.work.is_paced();
    let mut headings = vec!["µs/request", "requests/s"];
    if !is_paced {
        headings.push("time");
    }
    headings.extend(["server", "client", "both", "process", "user+sys"]);
    let mut table = table(&headings);
    for entry in &cell.entries {
        let Some(medians) = &entry.medians else {
            continue;
        };
        let mark = if entry.client_saturated { "¹" } else { "" };
        let throughput = format!("{}{mark}", thousands(medians.requests_per_second));
        let mut row = vec![TableCell::new(label(entry)), right(throughput)];
        if !is_paced {
            let time = entry.ratio(Metric::Time).and_then(|ratio| ratio.estimate);
            let mark = if is_the_clients(cell, entry, Metric::Time) {
                "¹"
            } else {
                ""
            };
            row.push(or_dash(
                time.map(|time| format!("{:.3}{mark}", time.median)),
            ));
        }
        let [server, client] = [medians.server_side_us, medians.client_side_us];
        let both = server.zip(client).map(|(server, client)| server + client);
        let figures = [server, client, both, medians.process_us];
        row.extend(figures.map(|figure| or_dash(figure.map(digits))));
        let split = medians.process_us.zip(medians.user_share);
        row.push(or_dash(split.map(|(cpu, user)| {
            format!("{}+{}", digits(cpu * user), digits(cpu * (1.0 - user)))
        })));
        table.add_row(row);
    }
    lines(&table)
}

/// How long requests took.
pub(super) fn latencies(cell: &Cell) -> String {
    let mut table = table(&["latency", "p50", "p90", "p99", "p99.9", "max"]);
    for entry in &cell.entries {
        let Some(latency) = entry.medians.as_ref().and_then(|it| it.latency_us) else {
            continue;
        };
        let figures = [
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p99_9,
            latency.max,
        ];
        let mut row = vec![TableCell::new(label(entry))];
        row.extend(figures.map(|figure| right(microseconds(figure))));
        table.add_row(row);
    }
    lines(&table)
}

/// What was counted, and how much memory and time was taken.
pub(super) fn counts(cell: &Cell) -> String {
    let mut table = table(&[
        "per request",
        "calls",
        "switches",
        "server busy",
        "client busy",
        "peak memory",
    ]);
    for entry in &cell.entries {
        let Some(medians) = &entry.medians else {
            continue;
        };
        let counted = entry.counted.as_ref();
        let part = |part: f64| right(format!("{:.0} %", part * 100.0));
        table.add_row([
            TableCell::new(label(entry)),
            or_dash(counted.and_then(|counted| count(&counted.system_calls))),
            or_dash(counted.and_then(|counted| count(&counted.context_switches))),
            part(medians.server_busy),
            part(medians.client_busy),
            right(bytes(medians.peak_memory as f64)),
        ]);
    }
    lines(&table)
}

fn count(count: &Count) -> Option<String> {
    match count {
        Count::PerRequest(spread) => Some(words::spread(spread)),
        Count::NotMeasured(_) => None,
    }
}

/// What idle connections cost: in bytes first, for a ratio of little to little says little.
pub(super) fn memory(cell: &Cell) -> String {
    let of = |entry: Option<&Entry>| {
        let medians = entry?.medians.as_ref()?;
        match cell.judged_by {
            Metric::OwnMemory => medians.own_memory_per_connection,
            _ => medians.memory_per_connection,
        }
    };
    let baseline = of(cell.entries.first());
    let mut judged = table(&["connection", "memory", "more", "ratio [95 %]", "verdict"]);
    let mut others = table(&["", "of its own", "peak"]);
    for entry in &cell.entries {
        let medians = entry.medians.as_ref();
        let more = of(Some(entry)).zip(baseline).map(|(ours, theirs)| {
            let sign = if ours < theirs { "−" } else { "+" };
            format!("{sign}{}", bytes((ours - theirs).abs()))
        });
        let [ratio, verdict, _] = judgement(cell, entry);
        judged.add_row([
            TableCell::new(label(entry)),
            or_dash(judged_figure(cell, medians)),
            or_dash(more),
            ratio,
            verdict,
        ]);
        if let Some(medians) = medians {
            others.add_row([
                TableCell::new(label(entry)),
                or_dash(medians.own_memory_per_connection.map(bytes)),
                right(bytes(medians.peak_memory as f64)),
            ]);
        }
    }
    lines(&judged) + &lines(&others)
}

/// What each feature is worth.
pub(super) fn ladder(cell: &Cell) -> String {
    let mut table = table(&["", "ratio [95 %]", "verdict"]);
    for step in &cell.steps {
        let Step { kind, feature, .. } = step;
        let label = match kind {
            StepKind::Climb => format!("from nothing: +{feature}"),
            StepKind::Remove => format!("defaults: -{feature}"),
            StepKind::Add => format!("defaults: +{feature}"),
        };
        let words = match step.ratio {
            Some(_) => cell.judged_by.words(step.verdict),
            None => Standing::TooFewRounds.words(),
        };
        table.add_row([
            TableCell::new(label),
            or_dash(step.ratio.map(|ratio: Estimate| ratio.to_string())),
            TableCell::new(words),
        ]);
    }
    lines(&table)
}

/// The same work over both paths, side by side.
pub(super) fn both_paths(pairs: &[Pair<'_>]) -> String {
    let mut table = table(&["", Path::Hosts.phrase(), Path::Loopback.phrase(), ""]);
    let mut text = String::new();
    for pair in pairs {
        for both in pair.contenders() {
            let of = |cell: &Cell, judged: &crate::report::standing::Judged| {
                let verdict = cell.judged_by.words(judged.verdict);
                TableCell::new(format!("{:.3} {verdict}", judged.ratio.median))
            };
            let accord = match both.accord() {
                Accord::Opposite => "opposite",
                Accord::OnOnePath => "on one path",
                Accord::Same => "",
            };
            table.add_row([
                TableCell::new(words::short(both.contender)),
                of(pair.hosts, &both.hosts),
                of(pair.loopback, &both.loopback),
                TableCell::new(accord),
            ]);
        }
    }
    // Titles stand across all columns, which no row of the table can.
    let mut rows = lines(&table)
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter();
    text.extend(rows.next().map(|heading| heading + "\n"));
    for pair in pairs {
        text += &format!("{}\n", pair.name());
        for row in rows.by_ref().take(pair.contenders().len()) {
            text += &format!("{row}\n");
        }
    }
    text
}

fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    let header = headings.iter().enumerate();
    let header = header.map(|(index, &text)| match index == 0 || WORDS.contains(&text) {
        true => TableCell::new(text),
        false => right(text),
    });
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX))
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, APART));
    }
    table
}

/// Nothing of a table without rows.
fn lines(table: &Table) -> String {
    if table.row_iter().next().is_none() {
        return String::new();
    }
    let lines = table.lines();
    lines.map(|line| plain(line.trim_end()) + "\n").collect()
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
