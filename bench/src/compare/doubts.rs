//! Why not to believe a piece of work, as far as its own figures tell.

use crate::load::Spacing;
use crate::report::{Cell, Doubt, Entry, Path, Status};
use crate::statistics::dependence::Dependence;
use crate::statistics::verdict::MARGIN;
use crate::statistics::{FEWEST_ROUNDS, Null, median};

/// From this part of their time on, what else uses the processors is warned of.
const DISTURBED: f64 = 0.02;

/// By this much a server's process may seem to have used more than its side: the one is read a
/// little after the other.
const TOLERANCE: f64 = 0.02;

/// From this part of it on, a latency is more the client's own.
const LATE: f64 = 0.5;

/// By how much the coefficient of variation of the times between requests may differ from the one
/// that was asked for: 0 of periodic ones, 1 of exponential ones.
const ODD: f64 = 0.5;

/// All of them, the grave ones first.
pub(super) fn of(cell: &Cell) -> Vec<Doubt> {
    let grave = [
        saturated(cell),
        differs(cell),
        side_below_process(cell),
        at_an_end(cell),
        late(cell),
        not_as_asked(cell),
    ];
    let others = [
        noisy(cell),
        dependent(cell),
        disturbed(cell),
        few_rounds(cell),
    ];
    let grave = grave.into_iter().flatten().chain(failures(cell));
    let grave = grave.map(|text| Doubt { grave: true, text });
    let others = others.into_iter().flatten();
    let others = others.map(|text| Doubt { grave: false, text });
    grave.chain(others).collect()
}

/// With whom the client was at its limit, if with any.
fn saturated(cell: &Cell) -> Option<String> {
    let entries = cell.entries.iter().filter(|entry| entry.client_saturated);
    let names: Vec<_> = entries.map(Entry::label).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        match cell.work.is_paced() {
            true => format!(
                "With {names} the client could not send what was due: its latencies are of \
                 requests that left late."
            ),
            false => format!(
                "With {names} the client was at its limit: throughput and time per request are \
                 the client’s, and the server saw fewer requests at once than it could bear."
            ),
        }
    })
}

/// With whom the client was itself late, and so has no say about latencies.
fn late(cell: &Cell) -> Option<String> {
    let is_late = |entry: &&Entry| {
        let parts = entry.rounds.iter().filter_map(|round| {
            let (lateness, latency) = round.lateness_us.zip(round.latency_us)?;
            Some(lateness.p99 / latency.p99)
        });
        let parts: Vec<_> = parts.collect();
        !parts.is_empty() && median(&parts) > LATE
    };
    let names: Vec<_> = cell
        .entries
        .iter()
        .filter(is_late)
        .map(Entry::label)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "With {} much of the p99 latency is the client’s own: it sent requests that late after \
             they were due.",
            names.join(", ")
        )
    })
}

/// With whom requests were not spread over the time as they should have been.
fn not_as_asked(cell: &Cell) -> Option<String> {
    let is_odd = |entry: &&Entry| {
        let differences = entry.rounds.iter().filter_map(|round| {
            let Spacing { asked, sent } = round.spacing?;
            Some((sent.variation - asked.variation).abs())
        });
        let differences: Vec<_> = differences.collect();
        !differences.is_empty() && median(&differences) > ODD
    };
    let names: Vec<_> = cell
        .entries
        .iter()
        .filter(is_odd)
        .map(Entry::label)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "With {} requests were not spread over the time as was asked: they came in other \
             bunches.",
            names.join(", ")
        )
    })
}

/// Whose highest rate was not between the rates that were looked at.
fn at_an_end(cell: &Cell) -> Option<String> {
    let entries = cell.entries.iter().filter(|entry| entry.at_an_end);
    let names: Vec<_> = entries.map(Entry::label).collect();
    (!names.is_empty()).then(|| {
        format!(
            "Of {} no rate that was looked at was too high, or none low enough, for the promise.",
            names.join(", ")
        )
    })
}

/// That the baseline differs from itself.
fn differs(cell: &Cell) -> Option<String> {
    (cell.null == Some(Null::Differs)).then(|| {
        let baseline = &cell.entries[0].contender;
        format!(
            "{baseline} differs from itself here: something other than the servers makes a \
             difference. Believe nothing that is not much larger."
        )
    })
}

/// That it might as well.
fn noisy(cell: &Cell) -> Option<String> {
    (cell.null == Some(Null::NotShown)).then(|| {
        format!(
            "Too noisy for {} to be shown equal to itself within {:.0}\u{a0}%: small differences \
             do not show.",
            cell.entries[0].contender,
            MARGIN * 100.0
        )
    })
}

/// That a part did more than the whole, which shows that the whole is not what it should be.
fn side_below_process(cell: &Cell) -> Option<String> {
    let is_below = |entry: &&Entry| {
        let medians = entry.medians.as_ref();
        let pair = medians.and_then(|it| Some((it.server_side_us?, it.process_us?)));
        pair.is_some_and(|(side, process)| side < process * (1.0 - TOLERANCE))
    };
    let names: Vec<_> = cell
        .entries
        .iter()
        .filter(is_below)
        .map(Entry::label)
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "Of {} the process did more than its side: it ran on processors that are not the \
             server’s, or what the idle look took off was not there later.",
            names.join(", ")
        )
    })
}

/// That rounds are no independent witnesses.
fn dependent(cell: &Cell) -> Option<String> {
    let contenders = cell.entries.iter().skip(1);
    let ratios: Vec<_> = contenders
        .map(|entry| (entry.label(), cell.ratios_of(entry, cell.judged_by)))
        .filter(|(_, ratios)| ratios.len() >= FEWEST_ROUNDS)
        .collect();
    let among = ratios.len();
    let found = ratios.iter().filter_map(|(name, ratios)| {
        let how = match Dependence::of(ratios, among)? {
            Dependence::Drift => "drifts from the first round to the last",
            Dependence::Alike => "resembles that of the round before",
            Dependence::Alternate => "goes up and down from round to round",
        };
        Some(format!("of {name} {how}"))
    });
    let found: Vec<_> = found.collect();
    (!found.is_empty()).then(|| {
        format!(
            "The rounds are no independent witnesses: the ratio {}. The interval is too narrow; \
             take more rounds, or several invocations (--invocations).",
            found.join(", ")
        )
    })
}

/// That others used the processors.
fn disturbed(cell: &Cell) -> Option<String> {
    let look = cell.idle_look?;
    let is_client_of_interest = cell.work.path == Some(Path::Loopback);
    let most = match is_client_of_interest {
        true => look.server_busy.max(look.client_busy),
        false => look.server_busy,
    };
    (most >= DISTURBED).then(|| {
        format!(
            "Something else uses the processors: before this, the server’s were {:.1}\u{a0}% busy and \
             the client’s {:.1}\u{a0}%. That much is taken off, as if it had gone on like that.",
            look.server_busy * 100.0,
            look.client_busy * 100.0
        )
    })
}

/// That there is too little to conclude from.
fn few_rounds(cell: &Cell) -> Option<String> {
    let most = cell.entries.iter().map(|entry| entry.rounds.len()).max();
    let most = most.unwrap_or_default();
    let rounds = if most == 1 { "round" } else { "rounds" };
    if most < FEWEST_ROUNDS {
        Some(format!(
            "{most} {rounds} measured: nothing is said from fewer than {FEWEST_ROUNDS}."
        ))
    } else {
        (most < cell.rounds).then(|| format!("{most} of {} rounds measured.", cell.rounds))
    }
}

/// Who failed, and why.
fn failures(cell: &Cell) -> impl Iterator<Item = String> {
    let entries = cell.entries.iter();
    entries.filter_map(|entry| match &entry.status {
        Status::Failed(why) => Some(format!("{} failed: {why}", entry.label())),
        Status::Measured | Status::Skipped(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Metric, fixture};

    fn texts(cell: &Cell) -> String {
        let doubts = of(cell).into_iter().map(|doubt| doubt.text);
        doubts.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_quiet_cell_leaves_none() {
        assert_eq!(texts(&fixture::request_reply()), "");
    }

    #[test]
    fn what_else_ran_is_told_from_2_per_cent_on() {
        let mut cell = fixture::request_reply();
        let look = cell.idle_look.as_mut().unwrap();
        look.server_busy = 0.021;
        assert!(texts(&cell).contains("2.1"), "{}", texts(&cell));
    }

    #[test]
    fn a_side_that_did_less_than_its_process_is_told() {
        let mut cell = fixture::request_reply();
        for round in &mut cell.entries[5].rounds {
            round.server_side_us = round.server_side_us.map(|side| side * 0.5);
        }
        let cell = fixture::judge(cell);
        assert_eq!(cell.judged_by, Metric::ServerSide);
        assert!(
            texts(&cell).contains("Of uring the process did more"),
            "{}",
            texts(&cell)
        );
    }
}
