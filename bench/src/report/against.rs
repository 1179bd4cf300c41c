//! A report against an earlier one.
//!
//! The two were not measured in the same rounds, so their figures say nothing about each other:
//! the machine may have been another in all but name. What can be compared is how each contender
//! stood to the baseline then and now; that cancels the machine's speed, but not all that depends
//! on it, so differences of the environments are told first.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::{Cell, Entry, Metric, Report, VERSION, Work};
use crate::load::summary::thousands;
use crate::statistics::{Estimate, Verdict, invocations};

/// A contender's standing now divided by its standing then.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which contender.
    pub contender: String,
    /// In which piece of work.
    pub cell: String,
    /// By what.
    pub metric: Metric,
    /// The ratio to the baseline now divided by that of then; `None` from too few rounds.
    pub quotient: Option<Estimate>,
    /// What it says; `None` if that cannot be told from one invocation each.
    pub verdict: Option<Verdict>,
}

/// Reads an earlier report.
///
/// # Errors
///
/// When it is no report, or one of another version.
pub fn read(text: &str) -> Result<Report> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } =
        serde_json::from_str(text).context("this is not a report of ringlab-bench compare")?;
    if version == 1 {
        bail!(
            "the report has version 1, of which what was judged is another figure (the processor \
             time of the server's process, by the median of ratios to one run of the baseline): \
             measure anew with this program, or compare with the program that made it"
        );
    }
    if version != VERSION {
        bail!("the report has version {version}, and this program reads version {VERSION}");
    }
    serde_json::from_str(text).context("this is not a report of ringlab-bench compare")
}

/// What has changed from `then` to `now`, for all that both have measured.
pub fn changes(now: &Report, then: &Report) -> Vec<Change> {
    let mut changes = Vec::new();
    for cell in &now.cells {
        let Some(before) = then.cells.iter().find(|before| before.name == cell.name) else {
            continue;
        };
        for entry in cell.entries.iter().skip(1).filter(|entry| !entry.null) {
            let mut entries = before.entries.iter().skip(1).filter(|before| !before.null);
            if let Some(earlier) = entries.find(|earlier| earlier.contender == entry.contender) {
                changes.push(change(cell, entry, before, earlier));
            }
        }
    }
    changes
}

fn change(cell: &Cell, entry: &Entry, before: &Cell, earlier: &Entry) -> Change {
    let metric = cell.judged_by;
    let judged = invocations::Change::of(
        &cell.estimates_of(entry, metric),
        &before.estimates_of(earlier, metric),
    );
    let quotient = judged.map(|judged| *judged.quotient());
    let verdict = match judged {
        Some(invocations::Change::Judged { verdict, .. }) => Some(verdict),
        _ => None,
    };
    Change {
        contender: entry.contender.clone(),
        cell: cell.name.clone(),
        metric,
        quotient,
        verdict,
    }
}

/// Whether figures of the one say something about the other. A rate that was found by measuring
/// is never the same again.
fn is_alike(work: &Work, other: &Work) -> bool {
    let rates = work.rate.zip(other.rate);
    let rate = rates.is_none_or(|(rate, other)| (rate / other - 1.0).abs() < 0.1);
    rate && Work {
        rate: work.rate,
        ..other.clone()
    } == *work
}

/// What the name of a piece of work does not tell.
fn measure(work: &Work) -> String {
    let rate = work.rate.map_or(String::new(), |rate| {
        format!(" at {} requests per second", thousands(rate))
    });
    format!("{} s after {} s{rate}", work.seconds, work.warmup_seconds)
}

/// The changes in words.
pub fn text(now: &Report, then: &Report) -> String {
    let mut text = format!("\nagainst the report of {}\n", then.started);
    for difference in now.environment.differences(&then.environment) {
        let _ = writeln!(text, "warning: another environment: {difference}");
    }
    if now.baseline != then.baseline {
        let _ = writeln!(
            text,
            "warning: another baseline: {} now, {} then; standings cannot be compared",
            now.baseline, then.baseline
        );
        return text;
    }
    for cell in &now.cells {
        let before = then.cells.iter().find(|before| before.name == cell.name);
        if let Some(before) = before.filter(|before| !is_alike(&before.work, &cell.work)) {
            let _ = writeln!(
                text,
                "warning: other work under the same name: {}: {} now, {} then",
                cell.name,
                measure(&cell.work),
                measure(&before.work)
            );
        }
    }
    for contender in &now.contenders {
        let before = then.contenders.iter().find(|it| it.name == contender.name);
        if let Some(before) = before.filter(|before| before.command != contender.command) {
            let _ = writeln!(
                text,
                "warning: another command of {}: {} now, {} then",
                contender.name, contender.command, before.command
            );
        }
    }
    let changes = changes(now, then);
    if changes.is_empty() {
        text += "the two have no work and contender in common\n";
    }
    let mut cell = "";
    for change in &changes {
        if change.cell != cell {
            cell = &change.cell;
            let _ = writeln!(
                text,
                "{cell}, {} relative to {}",
                change.metric.name(),
                now.baseline
            );
        }
        let quotient = match change.quotient {
            Some(quotient) => format!("× {quotient}"),
            None => "too few rounds".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {:28} {quotient:28} {}",
            change.contender,
            match change.verdict {
                Some(verdict) => change.metric.words(verdict),
                None => "cannot be told from one invocation each",
            }
        );
    }
    text
}
