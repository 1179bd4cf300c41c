//! What costs time to count, and so is counted under loads that are not timed.

use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::process::Pid;

use super::turn::Turn;
use crate::load::{Observer, Workload};
use crate::meter::calls::{Calls, Counts};
use crate::report::{Count, Counted, Spread};

/// How long to count at a time, when the server is warm.
const WINDOW: Duration = Duration::from_millis(60);

/// How often.
const TIMES: usize = 3;

impl Turn<'_> {
    /// Counts the server's system calls and context switches. `None` for work without requests, or
    /// if the server fails.
    pub(super) fn count(&self) -> Option<Counted> {
        if self.plan.work.workload == Workload::Idle {
            return None;
        }
        let server = self.start().ok()?;
        let mut load = self.load(&server);
        load.duration = WINDOW.min(load.duration);
        // Counts need no steadier a server than one that is warm.
        load.warmup_limit = load.warmup;
        let processes = server.processes();
        let mut windows = Vec::new();
        for _ in 0..TIMES {
            let counting = Counting {
                processes: &processes,
                state: Mutex::default(),
            };
            let outcome = self.run(&load, &counting).ok()?;
            match (counting.end(), outcome.counts.completed) {
                (_, 0) => {}
                (Ok(counts), requests) => windows.push((counts, requests as f64)),
                (Err(error), _) => {
                    let why = format!("{error:#}");
                    return Some(Counted {
                        context_switches: Count::NotMeasured(why.clone()),
                        system_calls: Count::NotMeasured(why),
                    });
                }
            }
        }
        let spread = |of: fn(&Counts) -> u64| {
            let values = windows
                .iter()
                .map(|(counts, requests)| of(counts) as f64 / requests);
            match Spread::of(&values.collect::<Vec<_>>()) {
                Some(spread) => Count::PerRequest(spread),
                None => Count::NotMeasured("no request was answered meanwhile".to_owned()),
            }
        };
        Some(Counted {
            context_switches: spread(|counts| counts.context_switches),
            system_calls: spread(|counts| counts.system_calls),
        })
    }
}

/// Counts a server's calls while a load is measured.
struct Counting<'a> {
    processes: &'a [Pid],
    state: Mutex<State>,
}

/// How far counting has come.
#[derive(Default)]
enum State {
    #[default]
    NotYet,
    Running(Result<Calls, String>),
    Done(Result<Counts>),
}

impl Counting<'_> {
    fn end(self) -> Result<Counts> {
        match self.state.into_inner() {
            Ok(State::Done(counts)) => counts,
            _ => Err(anyhow!("nothing was measured")),
        }
    }
}

impl Observer for Counting<'_> {
    fn measuring(&self) {
        if let Ok(mut state) = self.state.lock() {
            *state = State::Running(Calls::of(self.processes));
        }
    }

    fn measured(&self) {
        if let Ok(mut state) = self.state.lock()
            && let State::Running(calls) = mem::take(&mut *state)
        {
            let counts = calls.map_err(|why| anyhow!(why));
            *state = State::Done(counts.and_then(|mut calls| Ok(calls.count()?)));
        }
    }
}
