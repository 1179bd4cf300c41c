//! The same piece of work over both paths, and where they disagree.
//!
//! On either path another figure is judged, the one that no shift of work between server and client
//! can bend there. Over loopback that is both sides' work, of which the client's half is the same
//! for all: it makes every ratio milder. So what is compared between paths is what the verdicts say,
//! and not how large the ratios are.

use super::standing::{self, Judged, Standing};
use super::{Cell, Path, Work, words};
use crate::statistics::Verdict;

/// A piece of work over both paths.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) hosts: &'a Cell,
    pub(super) loopback: &'a Cell,
}

/// One contender on both paths.
pub(super) struct Both<'a> {
    pub(super) contender: &'a str,
    pub(super) hosts: Judged,
    pub(super) loopback: Judged,
}

/// How the verdicts on two paths go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accord {
    /// The one is the opposite of the other.
    Opposite,
    /// A difference is shown on one path only.
    OnOnePath,
    /// They are the same.
    Same,
}

/// The pairs among these pieces of work, in their order.
pub(super) fn pairs(cells: &[Cell]) -> Vec<Pair<'_>> {
    let hosts = cells
        .iter()
        .filter(|cell| cell.work.path == Some(Path::Hosts));
    hosts
        .filter_map(|hosts| {
            let loopback = cells.iter().find(|other| is_twin(hosts, other))?;
            Some(Pair { hosts, loopback })
        })
        .collect()
}

/// Whether a piece of work is another's over loopback. A rate that is a part of what the baseline
/// bears is another number on every path.
fn is_twin(hosts: &Cell, other: &Cell) -> bool {
    let alike = Work {
        path: hosts.work.path,
        rate: hosts.work.rate,
        ..other.work.clone()
    };
    other.work.path == Some(Path::Loopback) && alike == hosts.work
}

impl<'a> Pair<'a> {
    /// What is done, without the path.
    pub(super) fn name(&self) -> String {
        let phrase = format!(" {}", Path::Hosts.phrase());
        self.hosts.name.replace(&phrase, "")
    }

    /// Everyone who has a verdict on both paths.
    pub(super) fn contenders(&self) -> Vec<Both<'a>> {
        let entries = self.hosts.entries.iter().filter(|entry| !entry.null);
        let judged = |cell, entry| Standing::of(cell, entry, cell.judged_by).judged();
        entries
            .filter_map(|entry| {
                let other = standing::find(self.loopback, &entry.contender)?;
                Some(Both {
                    contender: &entry.contender,
                    hosts: judged(self.hosts, entry)?,
                    loopback: judged(self.loopback, other)?,
                })
            })
            .collect()
    }

    /// In a sentence: "uring is cheaper between hosts (−13.0 %), no difference shown over loopback
    /// (+1.0 %)".
    pub(super) fn sentence(&self, both: &Both<'_>) -> String {
        let part = |cell: &Cell, judged: &Judged, path: Path| {
            format!(
                "{} {} ({})",
                cell.judged_by.words(judged.verdict),
                path.phrase(),
                words::signed(judged.ratio.median)
            )
        };
        format!(
            "{}: {}, {}",
            words::short(both.contender),
            part(self.hosts, &both.hosts, Path::Hosts),
            part(self.loopback, &both.loopback, Path::Loopback)
        )
    }
}

impl Both<'_> {
    pub(super) fn accord(&self) -> Accord {
        match (self.hosts.verdict, self.loopback.verdict) {
            (one, other) if one == other => Accord::Same,
            (Verdict::NoDifferenceShown, _) | (_, Verdict::NoDifferenceShown) => Accord::OnOnePath,
            _ => Accord::Opposite,
        }
    }
}

/// Every contender whose verdicts differ between the paths, the opposite ones first.
pub(super) fn disagreements<'a>(pairs: &[Pair<'a>]) -> Vec<(Pair<'a>, Both<'a>)> {
    let all = pairs.iter().flat_map(|pair| {
        let both = pair.contenders().into_iter();
        both.map(|both| (*pair, both))
    });
    let mut found: Vec<_> = all
        .filter(|(_, both)| both.accord() != Accord::Same)
        .collect();
    found.sort_by_key(|(_, both)| both.accord());
    found
}

/// What no measurement on this path can tell, in sentences.
pub(super) fn caveats(path: Path) -> &'static str {
    match path {
        Path::Hosts => {
            "Two network namespaces on one machine, joined by a virtual link, each end’s receiving \
             done by its own side. No network card takes part: an interrupt from one processor to \
             another stands in for the card’s. In a virtual machine that is dear, so whatever \
             makes fewer and larger batches is rewarded more than a real card would."
        }
        Path::Loopback => {
            "Whoever sends also does the other end’s receiving: the receiver’s half of TCP runs on \
             the sender’s processor and is charged to the sender. So it cannot be told who pays, \
             and what both sides did is judged. The client’s part in that is much the same for all \
             contenders, which makes every ratio milder than the server’s own."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_same_work_over_both_paths_is_found_and_compared() {
        let cells = fixture::both_paths();
        let pairs = pairs(&cells);
        assert_eq!(pairs.len(), 1);
        assert_eq!(
            pairs[0].name(),
            "request-reply, 64 connections, TCP, 32 bytes"
        );
        let told: Vec<_> = disagreements(&pairs)
            .iter()
            .map(|(pair, both)| (both.accord(), pair.sentence(both).replace('\u{a0}', " ")))
            .collect();
        assert_eq!(told[0].0, Accord::Opposite);
        assert!(
            told[0]
                .1
                .starts_with("tokio-uring: cheaper between hosts (−"),
            "{told:?}"
        );
        assert!(told[0].1.contains("dearer over loopback (+"), "{told:?}");
        assert_eq!(told[1].0, Accord::OnOnePath);
        assert!(told[1].1.starts_with("uring: cheaper"), "{told:?}");
    }

    #[test]
    fn other_work_is_no_pair() {
        let mut cells = fixture::both_paths();
        cells[1].work.connections += 1;
        assert!(pairs(&cells).is_empty());
        cells[1].work = cells[0].work.clone();
        assert!(pairs(&cells).is_empty(), "the same path twice");
    }

    #[test]
    fn a_rate_that_depends_on_the_path_keeps_no_pair_apart() {
        let mut cells = fixture::both_paths();
        for (cell, rate) in cells.iter_mut().zip([20_000.0, 50_000.0]) {
            cell.work.rate_of_baseline = Some(0.25);
            cell.work.rate = Some(rate);
        }
        assert_eq!(pairs(&cells).len(), 1);
    }
}
