//! What can go wrong with a connection, counted by kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of failure.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// A connection could not be opened.
    Connect,
    /// What came back is not what the protocol's reference replies.
    WrongBytes,
    /// The server reset a connection.
    Reset,
    /// The server closed a connection that the client had not.
    Closed,
    /// No greeting, or no byte of a reply, came in time.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect failed",
            Self::WrongBytes => "wrong bytes",
            Self::Reset => "connection reset",
            Self::Closed => "closed too early",
            Self::Timeout => "timed out",
        })
    }
}

/// A failure, and what exactly happened.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) failure: Failure,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self {
            failure,
            detail: detail.into(),
        }
    }
}

/// How many failures there were of each kind, with an example of each.
#[derive(Debug, Clone, Default)]
pub struct Failures(BTreeMap<Failure, (u64, String)>);

impl Failures {
    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Kinds, counts and examples.
    pub fn iter(&self) -> impl Iterator<Item = (Failure, u64, &str)> {
        let entries = self.0.iter();
        entries.map(|(&failure, (count, example))| (failure, *count, example.as_str()))
    }

    /// One of them.
    pub fn first(&self) -> Option<(Failure, &str)> {
        self.iter()
            .next()
            .map(|(failure, _, example)| (failure, example))
    }

    pub(super) fn count(&mut self, problem: Problem) {
        self.count_many(1, problem);
    }

    /// Counts so many that are alike.
    pub(super) fn count_many(&mut self, count: u64, problem: Problem) {
        let entry = self.0.entry(problem.failure);
        entry.or_insert((0, problem.detail)).0 += count;
    }

    pub(super) fn add(&mut self, other: Self) {
        for (failure, (count, example)) in other.0 {
            self.0.entry(failure).or_insert((0, example)).0 += count;
        }
    }
}
