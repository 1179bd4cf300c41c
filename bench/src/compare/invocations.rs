//! Several invocations of a comparison, pooled.
//!
//! What a process draws once for its life, such as where its memory lies, all its rounds have in
//! common: the client's, too. So for whatever is published, the whole comparison is run several
//! times, each by a process of its own, and the interval is that of [`Invocations`].
//!
//! [`Invocations`]: crate::statistics::invocations::Invocations

use super::evaluate::evaluate;
use crate::processors::Processors;
use crate::report::{Cell, Entry, Report};

/// One report of several, of the same work and contenders. `None` of none.
pub fn pool(reports: Vec<Report>) -> Option<Report> {
    let mut reports = reports.into_iter();
    let mut pooled = reports.next()?;
    for report in reports {
        pooled.partial |= report.partial;
        pooled.seconds += report.seconds;
        for warning in report.environment.warnings {
            if !pooled.environment.warnings.contains(&warning) {
                pooled.environment.warnings.push(warning);
            }
        }
        for cell in report.cells {
            if let Some(known) = pooled
                .cells
                .iter_mut()
                .find(|known| known.name == cell.name)
            {
                add(known, cell);
            }
        }
    }
    let count = |text: &str| text.parse().map_or(1, |it: Processors| it.count());
    let servers = count(&pooled.environment.server_processors);
    let clients = count(&pooled.environment.client_processors);
    for cell in &mut pooled.cells {
        evaluate(cell, servers, clients);
    }
    Some(pooled)
}

/// Adds the rounds of one more invocation.
fn add(pooled: &mut Cell, cell: Cell) {
    let first = pooled.invocations * pooled.rounds;
    pooled.invocations += cell.invocations;
    let mut others = cell.entries;
    for entry in &mut pooled.entries {
        let is_same =
            |other: &Entry| other.contender == entry.contender && other.null == entry.null;
        let Some(position) = others.iter().position(is_same) else {
            continue;
        };
        let other = others.swap_remove(position);
        entry
            .rounds
            .extend(other.rounds.into_iter().map(|mut round| {
                round.round += first;
                round
            }));
        // What failed once has failed.
        if entry.status == crate::report::Status::Measured {
            entry.status = other.status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Metric, fixture};

    #[test]
    fn an_interval_of_several_invocations_has_what_differs_between_them() {
        let one = fixture::of(vec![fixture::request_reply()]);
        let mut other = one.clone();
        for round in &mut other.cells[0].entries[5].rounds {
            round.server_side_us = round.server_side_us.map(|side| side * 1.1);
        }
        let single = one.cells[0].entries[5].ratio(Metric::ServerSide);
        let single = single.unwrap().clone();
        let pooled = pool(vec![one.clone(), other, one]).unwrap();
        let cell = &pooled.cells[0];
        let ratio = cell.entries[5].ratio(Metric::ServerSide).unwrap();
        assert_eq!(cell.entries[5].rounds.len(), 3 * fixture::ROUNDS);
        assert_eq!((cell.invocations, cell.rounds), (3, fixture::ROUNDS));
        let width = |ratio: &crate::report::Ratio| {
            let estimate = ratio.estimate.unwrap();
            estimate.high - estimate.low
        };
        assert!(width(ratio) > 3.0 * width(&single), "{ratio:?} {single:?}");
        assert!(ratio.between_invocations.unwrap() > 0.02, "{ratio:?}");
    }

    #[test]
    fn of_no_report_there_is_none() {
        assert_eq!(pool(Vec::new()), None);
    }
}
