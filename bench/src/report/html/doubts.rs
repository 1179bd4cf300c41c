//! Why not to believe a piece of work, as far as its own figures tell.

use crate::report::{Cell, Entry, Status, standing, words};
use crate::statistics::{FEWEST_ROUNDS, Verdict};

/// From here on the noise floor is wide: most differences between servers are smaller.
const WIDE: f64 = 0.05;

/// All of them.
pub(super) fn of(cell: &Cell, baseline: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    doubts.extend(noise(cell, baseline).or_else(|| wide(cell)));
    let most = cell.entries.iter().map(|entry| entry.rounds.len()).max();
    let most = most.unwrap_or_default();
    if most < FEWEST_ROUNDS {
        doubts.push(format!(
            "{} measured; nothing is said from fewer than {FEWEST_ROUNDS}.",
            words::count(most, "round")
        ));
    } else if most < cell.rounds {
        doubts.push(format!("{most} of {} rounds measured.", cell.rounds));
    }
    doubts.extend(saturated(cell));
    doubts.extend(failures(cell));
    doubts
}

/// Those without which nobody should read a verdict.
pub(super) fn grave(cell: &Cell, baseline: &str) -> Vec<String> {
    let doubts = saturated(cell).into_iter().chain(noise(cell, baseline));
    doubts.chain(failures(cell)).collect()
}

/// That the baseline differs from itself.
fn noise(cell: &Cell, baseline: &str) -> Option<String> {
    let null = standing::null(cell)?;
    let [low, high] = [null.ratio.low, null.ratio.high].map(words::signed);
    (null.verdict != Verdict::NoDifferenceShown).then(|| {
        format!(
            "{baseline} differs from itself here ({low} to {high}): the machine was not quiet. \
             Believe nothing that is not much larger."
        )
    })
}

/// That the baseline might as well.
fn wide(cell: &Cell) -> Option<String> {
    let null = standing::null(cell)?;
    let reach = (null.ratio.low.ln().abs()).max(null.ratio.high.ln().abs());
    let [low, high] = [null.ratio.low, null.ratio.high].map(words::signed);
    (reach > WIDE).then(|| {
        format!("The noise floor is wide ({low} to {high}): smaller differences do not show.")
    })
}

/// With whom the client was at its limit, if with any.
fn saturated(cell: &Cell) -> Option<String> {
    let entries = cell.entries.iter().filter(|entry| entry.client_saturated);
    let names: Vec<_> = entries.map(Entry::label).collect();
    (!names.is_empty()).then(|| {
        format!(
            "With {} the client was at its limit, not the server: throughput and time per request \
             are the client’s.",
            words::list(&names)
        )
    })
}

/// Who failed, and why.
fn failures(cell: &Cell) -> Vec<String> {
    let entries = cell.entries.iter();
    entries
        .filter_map(|entry| match &entry.status {
            Status::Failed(why) => Some(format!("{} failed: {why}", entry.label())),
            Status::Measured | Status::Skipped(_) => None,
        })
        .collect()
}
