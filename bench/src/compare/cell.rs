//! One piece of work, measured with all contenders.

use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::contender::Contender;
use super::preset::CellPlan;
use super::route::Route;
use super::turn::{Turn, check};
use super::{Field, Progress, evaluate};
use crate::load::Workload;
use crate::report::{Cell, Entry, IdleLook, Status};
use crate::statistics::median;

/// How long the baseline runs to find out what it can do, in every round of an open loop.
const CALIBRATION: Duration = Duration::from_millis(150);

/// How long to look what the processors do without us.
const LOOK: Duration = Duration::from_millis(250);

/// How long before that the last server has to be gone: what the kernel does for it afterwards, a
/// ring's polling thread first of all, takes up to a tenth of a second.
const SETTLING: Duration = Duration::from_millis(150);

/// Who measures.
pub(super) struct Bench<'a> {
    pub(super) field: Field<'a>,
    pub(super) contenders: &'a [Contender],
    pub(super) progress: &'a mut dyn Progress,
    pub(super) stop: &'a AtomicBool,
}

impl Bench<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Measures one piece of work with all contenders.
    pub(super) fn measure(&mut self, mut plan: CellPlan, route: &Route) -> Cell {
        let name = plan.name();
        let baseline = &self.contenders[0];
        let mut entries: Vec<_> = self
            .contenders
            .iter()
            .map(|contender| (contender, evaluate::entry(&contender.name, false)))
            .chain(iter::once((
                baseline,
                evaluate::entry(&baseline.name, true),
            )))
            .collect();
        for (contender, entry) in &mut entries {
            if let Some(reason) = contender.excuse(&plan.work) {
                entry.status = Status::Skipped(reason.to_owned());
            }
        }
        let idle_look = self.look();
        let mut rates = Vec::new();
        for round in 0..plan.rounds {
            if let Err(error) = self.calibrate(&mut plan, route)
                && !self.is_stopped()
            {
                for (_, entry) in &mut entries {
                    entry.status = Status::Skipped(format!("the baseline failed: {error:#}"));
                }
                entries[0].1.status = Status::Failed(format!("{error:#}"));
            }
            rates.extend(plan.work.rate);
            let mut order: Vec<_> = entries.iter_mut().collect();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for (contender, entry) in order {
                if self.is_stopped() {
                    break;
                }
                self.progress.round(&name, &entry.label());
                let turn = self.turn(contender, route, &plan);
                take(&turn, entry, round, idle_look);
            }
        }
        for (contender, entry) in &mut entries {
            if !self.is_stopped() && entry.status == Status::Measured && !entry.null {
                entry.counted = self.turn(contender, route, &plan).count();
            }
        }
        if !rates.is_empty() {
            plan.work.rate = Some(median(&rates));
        }
        Cell {
            name,
            work: plan.work,
            judged_by: plan.judged_by,
            point: plan.point,
            idle_look,
            null: None,
            rounds: plan.rounds,
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
            doubts: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn turn<'t>(
        &'t self,
        contender: &'t Contender,
        route: &'t Route,
        plan: &'t CellPlan,
    ) -> Turn<'t> {
        Turn {
            field: &self.field,
            contender,
            route,
            plan,
            stop: self.stop,
        }
    }

    /// What the processors do without us.
    fn look(&self) -> Option<IdleLook> {
        let comparison = self.field.comparison;
        let mut clock = self.field.clock?.lock().ok()?;
        thread::sleep(SETTLING);
        let before = clock.read().ok()?;
        thread::sleep(LOOK);
        let after = clock.read().ok()?;
        let passed = after.since(&before).as_secs_f64();
        let sides = [&comparison.server_processors, &comparison.client_processors];
        let [server_busy, client_busy] = sides.map(|processors| {
            let busy = after.busy_since(&before, processors)?;
            Some(busy.as_secs_f64() / (passed * processors.count() as f64).max(1e-9))
        });
        Some(IdleLook {
            server_busy: server_busy?,
            client_busy: client_busy?,
        })
    }

    /// Finds the rate of an open loop: a part of what the baseline can do at the moment.
    fn calibrate(&self, plan: &mut CellPlan, route: &Route) -> Result<()> {
        let Some(part) = plan.work.rate_of_baseline else {
            return Ok(());
        };
        plan.work.rate = None;
        let turn = self.turn(&self.contenders[0], route, plan);
        let mut server = turn.start()?;
        let mut load = turn.load(&server);
        load.duration = CALIBRATION;
        let outcome = check(turn.run(&load, &()), &mut server)?;
        // Rounded, for people.
        plan.work.rate = Some((outcome.throughput() * part / 100.0).round().max(1.0) * 100.0);
        Ok(())
    }
}

/// Takes a contender's turn, and keeps what came of it.
fn take(turn: &Turn<'_>, entry: &mut Entry, round: usize, idle_look: Option<IdleLook>) {
    if entry.status != Status::Measured {
        return;
    }
    match turn.take(round, idle_look) {
        Ok(Some(measured)) => entry.rounds.push(measured),
        // Interrupted, which may show as an error of anything.
        Ok(None) => {}
        Err(_) if turn.stop.load(Ordering::Relaxed) => {}
        Err(error) => entry.status = Status::Failed(format!("{error:#}")),
    }
    // Its figures would be those of a handful of requests.
    let is_slow = |round: &crate::report::Round| round.requests < FEWEST_REQUESTS;
    if turn.plan.work.workload != Workload::Idle && entry.rounds.iter().any(is_slow) {
        entry.status = Status::Skipped(format!(
            "fewer than {FEWEST_REQUESTS} requests in a round; make rounds longer (--duration)"
        ));
        entry.rounds.clear();
    }
}

/// A round with fewer requests says nothing about one.
const FEWEST_REQUESTS: u64 = 100;
