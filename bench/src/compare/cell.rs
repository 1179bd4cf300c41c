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
use crate::report::{Cell, Entry, IdleLook, Round, Status};
use crate::statistics::median;
use crate::statistics::search::Search;

/// How long the baseline runs to find out what it can do, in every round of an open loop.
const CALIBRATION: Duration = Duration::from_millis(150);

/// How long to look what the processors do without us.
const LOOK: Duration = Duration::from_millis(250);

/// How long before that the last server has to be gone: what the kernel does for it afterwards, a
/// ring's polling thread first of all, takes up to a tenth of a second.
const SETTLING: Duration = Duration::from_millis(150);

/// A round with fewer requests says nothing about one.
const FEWEST_REQUESTS: u64 = 100;

/// Of what the baseline bears: a rate at which any server keeps any promise that it ever will, and
/// one that none bears.
const LEAST: f64 = 0.01;
const MOST: f64 = 1.5;

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
        let contenders = self.contenders.iter().map(|contender| (contender, false));
        let contenders = contenders.chain(iter::once((baseline, true)));
        let seats = contenders.map(|(contender, null)| Seat::new(contender, null, &plan));
        let mut seats: Vec<_> = seats.collect();
        let idle_look = self.look();
        let mut rates = Vec::new();
        for round in 0..plan.rounds {
            if self.is_stopped() {
                break;
            }
            match self.calibrate(&mut plan, route) {
                Err(_) if self.is_stopped() => break,
                Err(error) => {
                    for seat in &mut seats {
                        let why = format!("the baseline failed: {error:#}");
                        seat.entry.status = Status::Skipped(why);
                    }
                    seats[0].entry.status = Status::Failed(format!("{error:#}"));
                }
                Ok(bears) => {
                    for (index, seat) in seats.iter_mut().enumerate() {
                        seat.prepare(index as u64, bears);
                    }
                }
            }
            rates.extend(plan.work.rate);
            let mut order: Vec<_> = seats.iter_mut().collect();
            if !round.is_multiple_of(2) {
                order.reverse();
            }
            for seat in order {
                if self.is_stopped() {
                    break;
                }
                self.progress.round(&name, &seat.entry.label());
                let turn = self.turn(seat.contender, route, &plan);
                seat.take(&turn, round, idle_look);
            }
        }
        for Seat {
            contender, entry, ..
        } in &mut seats
        {
            if self.counts(entry, &plan) {
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
            invocations: 1,
            entries: seats.into_iter().map(|seat| seat.entry).collect(),
            doubts: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Whether to count what a contender does.
    fn counts(&self, entry: &Entry, plan: &CellPlan) -> bool {
        let is_there = entry.status == Status::Measured && !entry.null;
        is_there && plan.work.promise.is_none() && !self.is_stopped()
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

    /// Finds what the baseline bears at the moment, in requests per second, if that matters: of
    /// some loads the rate is a part of it. Zero if not.
    fn calibrate(&self, plan: &mut CellPlan, route: &Route) -> Result<f64> {
        if plan.work.rate_of_baseline.is_none() && plan.work.promise.is_none() {
            return Ok(0.0);
        }
        plan.work.rate = None;
        let turn = self.turn(&self.contenders[0], route, plan);
        let mut server = turn.start()?;
        let mut load = turn.load(&server);
        load.duration = CALIBRATION;
        let outcome = check(turn.run(&load, &()), &mut server)?;
        let bears = outcome.throughput();
        // Rounded, for people.
        let rate = |part: f64| (bears * part / 100.0).round().max(1.0) * 100.0;
        plan.work.rate = plan.work.rate_of_baseline.map(rate);
        Ok(bears)
    }
}

/// A contender's place in a piece of work.
struct Seat<'a> {
    contender: &'a Contender,
    entry: Entry,
    /// For the highest rate that keeps a promise.
    search: Option<Search>,
}

impl<'a> Seat<'a> {
    fn new(contender: &'a Contender, null: bool, plan: &CellPlan) -> Self {
        let mut entry = evaluate::entry(&contender.name, null);
        if let Some(reason) = contender.excuse(&plan.work) {
            entry.status = Status::Skipped(reason.to_owned());
        }
        Self {
            contender,
            entry,
            search: None,
        }
    }

    /// Before a round, when the baseline bears so many requests per second. `seed` is another for
    /// each, so that not all look at the same rates.
    fn prepare(&mut self, seed: u64, bears: f64) {
        match &mut self.search {
            Some(search) => search.start_round(),
            None => {
                let (low, high) = (bears * LEAST, bears * MOST);
                self.search = Some(Search::new(low, high, seed));
            }
        }
    }

    /// Takes the contender's turn, and keeps what came of it.
    fn take(&mut self, turn: &Turn<'_>, round: usize, idle_look: Option<IdleLook>) {
        let Self { entry, search, .. } = self;
        if entry.status != Status::Measured {
            return;
        }
        let taken = match (turn.plan.work.promise, search) {
            (Some(promise), Some(search)) => {
                let taken = turn.search(round, promise, search);
                entry.at_an_end = search.is_at_an_end();
                taken
            }
            _ => turn.take(round, idle_look),
        };
        match taken {
            Ok(Some(measured)) => entry.rounds.push(measured),
            // Interrupted, which may show as an error of anything.
            Ok(None) => {}
            Err(_) if turn.stop.load(Ordering::Relaxed) => {}
            Err(error) => entry.status = Status::Failed(format!("{error:#}")),
        }
        // Its figures would be those of a handful of requests.
        let is_slow = |round: &Round| round.requests < FEWEST_REQUESTS;
        if turn.plan.work.workload != Workload::Idle && entry.rounds.iter().any(is_slow) {
            entry.status = Status::Skipped(format!(
                "fewer than {FEWEST_REQUESTS} requests in a round; make rounds longer (--duration)"
            ));
            entry.rounds.clear();
        }
    }
}
