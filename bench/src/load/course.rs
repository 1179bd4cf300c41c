//! The course of a run in one thread: open, warm up, measure, finish.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::arrivals::Schedule;
use super::failures::{Failure, Failures, Problem};
use super::gathered::Spread;
use super::generator::{Generator, INTERVAL, MOMENT, SWEEP};
use super::outcome::Interval;
use super::phase::{Phase, Shared};
use super::plan::Workload;
use super::warm_up::{WarmUp, Warmth};

/// Connections that one thread opens at the same time, so that no backlog overflows.
const OPENING: usize = 64;

/// What one thread contributes to the outcome, beside its intervals.
pub(super) struct Share {
    /// How long it was under load before.
    pub(super) warmup: Duration,
    /// How long it measured.
    pub(super) elapsed: Duration,
    /// Its processor time meanwhile.
    pub(super) cpu: Duration,
    /// Of that, what it only waited.
    pub(super) waited: Duration,
    pub(super) failures: Failures,
    pub(super) answered_later: u64,
    pub(super) lateness: Histogram<u64>,
    /// In units of the mean that this thread was to keep.
    pub(super) spread: Spread,
}

/// Runs the thread `index` of `threads`.
pub(super) fn run(
    shared: &Shared<'_>,
    index: usize,
    threads: usize,
    intervals: Sender<Interval>,
) -> Result<Share> {
    let plan = shared.plan;
    if let Some(processors) = &plan.processors {
        let pinned = processors.pin();
        pinned.with_context(|| format!("cannot run on processors {processors}"))?;
    }
    let connections = share(plan.connections, index, threads);
    let mut generator = Generator::new(shared, index, connections, intervals)?;
    let opened = generator.open_all(match plan.workload {
        // The others follow under load.
        Workload::Churn => 1,
        _ => connections,
    })?;

    // All threads begin together.
    shared.is_ready(opened);
    while !shared.are_ready(threads) && !shared.is_stopped() {
        generator.turn(MOMENT)?;
    }
    if shared.opened() == 0 {
        return Ok(generator.share(Duration::ZERO, Duration::ZERO, Duration::ZERO));
    }
    let start = shared.start();
    let is_first = index == 0;
    let measuring = generator.warm_up(start, index, threads)?;
    let cpu = thread_cpu();
    generator.gathered.since = measuring;
    generator.gathered.counts = Default::default();
    generator.phase = Phase::Measuring(measuring);
    if plan.warmup.is_zero() {
        generator.begin(measuring, index, threads)?;
    }
    generator.until(measuring + plan.duration)?;
    let deadline = Instant::now() + plan.timeout;
    if plan.requests.is_some() {
        // The measured time ends with the last reply.
        generator.finish(deadline)?;
    }
    let end = Instant::now();
    let cpu = thread_cpu().saturating_sub(cpu);
    if is_first {
        shared.observer.measured();
    }

    if plan.workload == Workload::Idle {
        generator.send_one_each()?;
    } else {
        generator.phase = Phase::Finishing(measuring, end);
    }
    generator.finish(deadline)?;
    generator.hand_over(measuring, Instant::now());
    Ok(generator.share(measuring - start, end - measuring, cpu))
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Generator<'_> {
    fn share(self, warmup: Duration, elapsed: Duration, cpu: Duration) -> Share {
        let spread = self.gathered.spread;
        Share {
            warmup,
            elapsed,
            cpu,
            waited: self.gathered.waited,
            failures: self.failures,
            answered_later: self.gathered.answered_later,
            lateness: self.gathered.lateness,
            spread: match &self.schedule {
                Some(schedule) => spread.in_units_of(schedule.mean()),
                None => spread,
            },
        }
    }

    /// Opens the first `count` connections, and waits until each is greeted or has failed, or until
    /// there is no more time for it. Returns how many are greeted.
    fn open_all(&mut self, count: usize) -> Result<usize> {
        let deadline = Instant::now() + self.plan().timeout + MOMENT * count as u32;
        let (mut opened, mut settled) = (0, 0);
        while settled < count && !self.shared.is_stopped() && Instant::now() < deadline {
            while opened < count && opened - settled < OPENING {
                self.open(opened)?;
                opened += 1;
            }
            self.turn(MOMENT)?;
            // In order, which is how servers greet.
            settled += self.slots[settled..opened]
                .iter()
                .take_while(|slot| slot.is_open() || slot.retry.is_some())
                .count();
        }
        let late = count - opened;
        if late > 0 && !self.shared.is_stopped() {
            let text = format!("{late} connections were not begun in time");
            let problem = Problem::new(Failure::Timeout, text);
            self.failures.count_many(late as u64, problem);
            // They are, under load.
            let now = Instant::now();
            for slot in &mut self.slots[opened..] {
                slot.retry = Some(now);
            }
        }
        Ok(self.slots.iter().filter(|slot| slot.is_open()).count())
    }

    /// Begins the load.
    fn begin(&mut self, start: Instant, index: usize, threads: usize) -> Result<()> {
        let plan = self.plan();
        let slots = self.slots.len();
        self.remaining = match plan.requests {
            Some(requests) => share(requests as usize, index, threads) as u64,
            None => u64::MAX,
        };
        self.schedule = Schedule::new(plan, index, threads, slots, start);
        for slot in 0..slots {
            match plan.workload {
                Workload::RequestReply | Workload::Stream => self.send(slot, start),
                Workload::Churn if self.remaining == 0 => {}
                Workload::Churn => {
                    // Whole conversations count: one that is open has shown that there is a server.
                    self.slots[slot].connection = None;
                    self.open(slot)?;
                }
                Workload::Idle => {}
            }
        }
        Ok(())
    }

    /// Goes on until the server is warm. Returns when measuring begins, the same for all threads.
    fn warm_up(&mut self, start: Instant, index: usize, threads: usize) -> Result<Instant> {
        let plan = self.plan();
        let is_cold = plan.warmup.is_zero();
        if !is_cold {
            self.phase = Phase::WarmingUp;
            self.begin(start, index, threads)?;
        }
        // The first thread decides.
        let mut warm_up = (index == 0).then(|| WarmUp::new(plan, start));
        let mut told = 0;
        while !self.shared.is_stopped() && (is_cold || !self.is_used_up()) {
            let more = self.gathered.answered - told;
            let answered = self.shared.answered(more);
            told += more;
            let warmth = warm_up.as_mut().and_then(|warm_up| match is_cold {
                true => Some(Warmth::Settled),
                false => warm_up.ended(Instant::now(), answered),
            });
            if let Some(warmth) = warmth {
                return Ok(self.shared.measure(warmth == Warmth::Settled));
            }
            if let Some(measuring) = self.shared.measuring() {
                return Ok(measuring);
            }
            let pause = if is_cold { Duration::ZERO } else { MOMENT };
            self.step(Instant::now() + pause)?;
        }
        Ok(match index {
            0 => self.shared.measure(true),
            _ => self.shared.measuring().unwrap_or_else(Instant::now),
        })
    }

    /// Goes on until `deadline`, or until there is nothing to go on with.
    fn until(&mut self, deadline: Instant) -> Result<()> {
        while !self.shared.is_stopped() && !self.is_used_up() {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if let Phase::Measuring(since) = self.phase
                && now - self.gathered.since >= INTERVAL
            {
                self.hand_over(since, now);
            }
            self.step(deadline)?;
        }
        Ok(())
    }

    /// Whether all requests that may be sent are sent.
    fn is_used_up(&self) -> bool {
        self.remaining == 0 && !self.is_any_busy()
    }

    fn is_any_busy(&self) -> bool {
        (0..self.slots.len()).any(|slot| self.is_busy(slot))
    }

    /// Waits for what has been begun, or was due, at most until `deadline`.
    fn finish(&mut self, deadline: Instant) -> Result<()> {
        match &mut self.schedule {
            Some(schedule) => schedule.end(Instant::now()),
            None => self.remaining = 0,
        }
        while !self.shared.is_stopped() && self.is_any_busy() {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            self.step(deadline.min(now + SWEEP))?;
        }
        if !self.shared.is_stopped() {
            self.give_up();
        }
        Ok(())
    }

    /// Shows of connections that were idle that they live.
    fn send_one_each(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            self.remaining = 1;
            self.send(slot, Instant::now());
            // Or thousands of replies would wait in their sockets, and then time out.
            if slot % OPENING == 0 {
                self.turn(Duration::ZERO)?;
            }
        }
        Ok(())
    }
}

/// What one thread of `threads` gets of `total`.
fn share(total: usize, index: usize, threads: usize) -> usize {
    total / threads + usize::from(index < total % threads)
}
