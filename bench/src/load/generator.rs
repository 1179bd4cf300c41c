//! One thread of the load: an epoll loop over its share of the connections.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};

use super::connection::{Connection, NotConnected};
use super::failures::{Failure, Failures, Problem};
use super::{Counts, INTERVAL, Interval, Plan, Shared, Workload, histogram};

/// Connections that one thread opens at the same time, so that no backlog overflows.
const OPENING: usize = 64;

/// How long after a failure a connection is opened anew.
const PAUSE: Duration = Duration::from_millis(100);

/// How long after a full backlog.
const MOMENT: Duration = Duration::from_millis(1);

/// How often to look for what timed out.
const SWEEP: Duration = Duration::from_millis(100);

/// Before a request is due at least so long, the thread may sleep: epoll tells time in
/// milliseconds, and to be late would count as the server's latency.
const SPIN: Duration = Duration::from_millis(2);

/// What one thread contributes to the outcome, beside its intervals.
pub(super) struct Share {
    /// How long it measured.
    pub(super) elapsed: Duration,
    /// Its processor time meanwhile.
    pub(super) cpu: Duration,
    pub(super) failures: Failures,
    /// Connections that were open when the load began.
    pub(super) opened: usize,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connections are being opened.
    Opening,
    /// Under load, not measured.
    WarmingUp,
    /// Under load, since the given time.
    Measuring(Instant),
    /// Nothing new begins; what was begun in the given time is still measured.
    Finishing(Instant, Instant),
}

/// The place of one connection and of those that follow it.
struct Slot {
    connection: Option<Connection>,
    /// When to open it anew.
    retry: Option<Instant>,
    /// When the requests that it must send in an open loop were due.
    due: VecDeque<Instant>,
    /// Where on the tape it begins.
    first: usize,
}

/// When requests are due in an open loop.
struct Pace {
    next: Instant,
    period: Duration,
    /// The slot whose turn it is.
    slot: usize,
}

struct Generator<'a> {
    shared: &'a Shared<'a>,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    buf: Box<[u8]>,
    phase: Phase,
    pace: Option<Pace>,
    /// Requests that may still be begun.
    remaining: u64,
    swept: Instant,
    failures: Failures,
    /// Since when `latency` and `counts` are gathered.
    gathered: Instant,
    latency: Histogram<u64>,
    counts: Counts,
    intervals: Sender<Interval>,
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
    let mut generator = Generator::new(shared, index, threads, intervals)?;
    let opened = generator.open_all(match plan.workload {
        // The others follow under load.
        Workload::Churn => 1,
        _ => generator.slots.len(),
    })?;

    // All threads begin together.
    shared.ready.fetch_add(1, Ordering::SeqCst);
    while shared.ready.load(Ordering::SeqCst) < threads && !generator.is_stopped() {
        generator.turn(MOMENT)?;
    }
    let mut share = Share {
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        failures: Failures::default(),
        opened,
    };
    if opened == 0 {
        share.failures = generator.failures;
        return Ok(share);
    }
    let start = *shared.start.get_or_init(Instant::now);
    if !plan.warmup.is_zero() {
        generator.phase = Phase::WarmingUp;
        generator.begin(start, index, threads)?;
        generator.until(start + plan.warmup)?;
    }
    if index == 0 {
        shared.observer.measuring();
    }
    let (cpu, measuring) = (thread_cpu(), Instant::now());
    generator.phase = Phase::Measuring(measuring);
    generator.gathered = measuring;
    if plan.warmup.is_zero() {
        generator.begin(measuring, index, threads)?;
    }
    generator.until(start + plan.warmup + plan.duration)?;
    if plan.requests.is_some() {
        // The measured time ends with the last reply.
        generator.finish()?;
    }
    share.elapsed = measuring.elapsed();
    share.cpu = thread_cpu().saturating_sub(cpu);
    if index == 0 {
        shared.observer.measured();
    }

    if plan.workload == Workload::Idle {
        generator.send_one_each()?;
    } else {
        generator.phase = Phase::Finishing(measuring, measuring + share.elapsed);
    }
    generator.finish()?;
    generator.hand_over(Instant::now());
    share.failures = generator.failures;
    Ok(share)
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Slot {
    fn is_open(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.greeted)
    }

    /// Whether it waits for room to send.
    fn is_blocked(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.blocked)
    }

    /// Whether something is begun, or due, and not answered.
    fn is_busy(&self, workload: Workload) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            !connection.in_flight.is_empty()
                || !self.due.is_empty()
                || workload == Workload::Churn && !connection.greeted
        })
    }
}

impl<'a> Generator<'a> {
    fn new(
        shared: &'a Shared<'a>,
        index: usize,
        threads: usize,
        intervals: Sender<Interval>,
    ) -> Result<Self> {
        let plan = shared.plan;
        let connections = share(plan.connections, index, threads);
        let mut random = fastrand::Rng::with_seed(plan.seed.wrapping_add(index as u64));
        let slots = (0..connections).map(|_| Slot {
            connection: None,
            retry: None,
            due: VecDeque::new(),
            first: random.usize(..shared.tape.len()),
        });
        let now = Instant::now();
        Ok(Self {
            shared,
            epoll: epoll::create(CreateFlags::CLOEXEC)
                .context("cannot create an epoll instance")?,
            slots: slots.collect(),
            buf: vec![0; 64 * 1024].into_boxed_slice(),
            phase: Phase::Opening,
            pace: None,
            remaining: 0,
            swept: now,
            failures: Failures::default(),
            gathered: now,
            latency: histogram(),
            counts: Counts::default(),
            intervals,
        })
    }

    fn plan(&self) -> &'a Plan {
        self.shared.plan
    }

    fn is_stopped(&self) -> bool {
        let Shared { stop, failed, .. } = self.shared;
        stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed)
    }

    /// Opens the first `count` connections, and waits until each is greeted or has failed. Returns
    /// how many are greeted.
    fn open_all(&mut self, count: usize) -> Result<usize> {
        let (mut opened, mut settled) = (0, 0);
        while settled < count && !self.is_stopped() {
            while opened < count && opened - settled < OPENING {
                self.open(opened)?;
                opened += 1;
            }
            self.turn(MOMENT)?;
            let is_settled = |slot: &&Slot| slot.is_open() || slot.retry.is_some();
            // In order, which is how servers greet.
            settled += self.slots[settled..opened]
                .iter()
                .take_while(is_settled)
                .count();
        }
        Ok(self.slots.iter().filter(|slot| slot.is_open()).count())
    }

    /// Begins the load.
    fn begin(&mut self, start: Instant, index: usize, threads: usize) -> Result<()> {
        let plan = self.plan();
        self.remaining = match plan.requests {
            Some(requests) => share(requests as usize, index, threads) as u64,
            None => u64::MAX,
        };
        if let Some(rate) = plan.rate {
            let period = Duration::from_secs_f64(threads as f64 / rate);
            self.pace = Some(Pace {
                next: start + period.mul_f64(index as f64 / threads as f64),
                period,
                slot: 0,
            });
            return Ok(());
        }
        for slot in 0..self.slots.len() {
            match plan.workload {
                Workload::RequestReply | Workload::Stream => self.send(slot, start),
                Workload::Churn if self.remaining == 0 => {}
                Workload::Churn if self.slots[slot].is_open() => {
                    self.remaining -= 1;
                    self.send(slot, start);
                }
                Workload::Churn => self.open(slot)?,
                Workload::Idle => {}
            }
        }
        Ok(())
    }

    /// Goes on until `deadline`, or until there is nothing to go on with.
    fn until(&mut self, deadline: Instant) -> Result<()> {
        while !self.is_stopped() && !self.is_used_up() {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if matches!(self.phase, Phase::Measuring(_)) && now - self.gathered >= INTERVAL {
                self.hand_over(now);
            }
            self.send_due(now);
            let next = self.pace.as_ref().map_or(deadline, |pace| pace.next);
            self.turn(timeout(next.min(deadline) - now, self.pace.is_some()))?;
        }
        Ok(())
    }

    /// Whether all requests that may be sent are sent.
    fn is_used_up(&self) -> bool {
        self.remaining == 0
            && self
                .slots
                .iter()
                .all(|slot| !slot.is_busy(self.plan().workload))
    }

    /// Waits for what has been begun; begins nothing.
    fn finish(&mut self) -> Result<()> {
        self.remaining = 0;
        self.pace = None;
        let Plan {
            workload, timeout, ..
        } = *self.plan();
        let deadline = Instant::now() + timeout;
        while !self.is_stopped() && self.slots.iter().any(|slot| slot.is_busy(workload)) {
            self.turn(SWEEP)?;
            if Instant::now() >= deadline {
                self.give_up_due();
            }
        }
        Ok(())
    }

    /// Sends no more of what an open loop owes, which may be more than there will ever be time for.
    fn give_up_due(&mut self) {
        for slot in &mut self.slots {
            let owed = slot.due.len();
            if owed > 0 {
                slot.due.clear();
                let text = format!("{owed} requests were due that there was no time to send");
                self.failures.count(Problem::new(Failure::Timeout, text));
            }
        }
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

    /// Sends what an open loop owes by now.
    fn send_due(&mut self, now: Instant) {
        while let Some(pace) = &mut self.pace
            && pace.next <= now
            && self.remaining > 0
        {
            self.remaining -= 1;
            let (slot, due) = (pace.slot, pace.next);
            pace.next += pace.period;
            pace.slot = (slot + 1) % self.slots.len();
            self.slots[slot].due.push_back(due);
            self.send(slot, now);
        }
    }

    /// Waits for events, at most so long, and handles them and what is overdue.
    fn turn(&mut self, timeout: Duration) -> Result<()> {
        let mut events = [const {
            Event {
                flags: EventFlags::empty(),
                data: EventData::new_u64(0),
            }
        }; 256];
        // An interruption shows, and so does what times out, even if there are no events.
        let timeout = Timespec::try_from(timeout.min(SWEEP)).unwrap_or_default();
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error).context("cannot wait for events"),
        };
        for event in &events[..ready] {
            self.handle(event.data.u64() as usize, event.flags)?;
        }
        let now = Instant::now();
        if now - self.swept
            >= if self.phase == Phase::Opening {
                MOMENT
            } else {
                SWEEP
            }
        {
            self.swept = now;
            self.sweep(now)?;
        }
        Ok(())
    }

    /// An event is reported once (EPOLLET), which spares the kernel a second look at every socket:
    /// so a connection is read until it is empty, or asks for another report.
    fn handle(&mut self, slot: usize, flags: EventFlags) -> Result<()> {
        // Reports of a full reply buffer come first: a server that waits for room reads nothing.
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            self.receive(slot)?;
        }
        if flags.contains(EventFlags::RDHUP) {
            // The end came with, or soon after, what has just been read.
            self.report_again(slot);
        }
        if flags.contains(EventFlags::OUT) && self.slots[slot].is_blocked() {
            self.send(slot, Instant::now());
        }
        Ok(())
    }

    fn receive(&mut self, slot: usize) -> Result<()> {
        let Some(connection) = &mut self.slots[slot].connection else {
            return Ok(());
        };
        let tape = self.shared.tape;
        let (latency, counts) = (&mut self.latency, &mut self.counts);
        let phase = self.phase;
        let (mut now, mut replies) = (None, 0);
        let received = connection.receive(tape, &mut self.buf, |since| {
            replies += 1;
            let now = *now.get_or_insert_with(Instant::now);
            if phase.counts(since) {
                let passed = now.saturating_duration_since(since);
                latency.saturating_record(passed.as_nanos() as u64);
            }
        });
        let now = now.unwrap_or_else(Instant::now);
        let received = match received {
            Ok(received) => received,
            Err(problem) => {
                self.fail(slot, problem);
                return Ok(());
            }
        };
        connection.moved = now;
        if matches!(phase, Phase::Measuring(_)) {
            counts.completed += replies;
            counts.received += received as u64;
        }
        let unread = connection.unread;
        if self.plan().workload == Workload::Churn && replies > 0 {
            self.slots[slot].connection = None;
            if self.remaining > 0 {
                self.open(slot)?;
            }
            return Ok(());
        }
        if !self.slots[slot].is_blocked() {
            self.send(slot, now);
        }
        if unread {
            self.report_again(slot);
        }
        Ok(())
    }

    /// Has an event reported for what is left to be done on a connection.
    fn report_again(&mut self, index: usize) {
        let Some(connection) = &self.slots[index].connection else {
            return;
        };
        let data = EventData::new_u64(index as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::modify(&self.epoll, connection, data, flags) {
            self.fail(index, Problem::new(Failure::Closed, error.to_string()));
        }
    }

    /// Sends what a connection may send, `now`.
    fn send(&mut self, index: usize, now: Instant) {
        let plan = self.plan();
        let phase = self.phase;
        let slot = &mut self.slots[index];
        let Some(connection) = slot.connection.as_mut().filter(|it| it.greeted) else {
            return;
        };
        if phase == Phase::Opening {
            return;
        }
        let in_flight = connection.in_flight.len();
        let room = plan.pipeline.saturating_sub(in_flight);
        let may = match plan.workload {
            _ if plan.rate.is_some() => room.min(slot.due.len()),
            Workload::RequestReply => room,
            Workload::Stream => usize::MAX,
            Workload::Churn | Workload::Idle => 1 - in_flight.min(1),
        };
        // Otherwise a request counts as soon as it is due, or its connection opened.
        let counts_now = plan.rate.is_none() && plan.workload != Workload::Churn;
        let may = match counts_now {
            true => may.min(usize::try_from(self.remaining).unwrap_or(usize::MAX)),
            false => may,
        };
        let opened = connection.opened;
        let sent = connection.send(self.shared.tape, may, || match plan.workload {
            Workload::Churn => opened,
            _ => slot.due.pop_front().unwrap_or(now),
        });
        if counts_now {
            let begun = connection.in_flight.len() - in_flight;
            self.remaining -= begun as u64;
        }
        let sent = match sent {
            Ok(sent) => sent,
            Err(problem) => return self.fail(index, problem),
        };
        if matches!(phase, Phase::Measuring(_)) {
            self.counts.sent += sent as u64;
        }
        if connection.blocked {
            self.report_again(index);
        }
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let now = Instant::now();
        let slot = &mut self.slots[index];
        slot.retry = None;
        let Shared { plan, tape, .. } = self.shared;
        let brief = plan.workload == Workload::Churn;
        match Connection::open(&plan.target, tape, slot.first, brief, now) {
            Ok(connection) => {
                // The next one goes on elsewhere on the tape.
                slot.first = tape.after(slot.first);
                let data = EventData::new_u64(index as u64);
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, &connection, data, flags)
                    .context("cannot watch a connection")?;
                slot.connection = Some(connection);
                if plan.workload == Workload::Churn {
                    self.remaining = self.remaining.saturating_sub(1);
                }
            }
            Err(NotConnected::Later) => slot.retry = Some(now + MOMENT),
            Err(NotConnected::Failed(problem)) => self.fail(index, problem),
        }
        Ok(())
    }

    fn fail(&mut self, slot: usize, problem: Problem) {
        self.failures.count(problem);
        let slot = &mut self.slots[slot];
        // What it owed is lost with it; what is due goes to the connection that follows.
        slot.connection = None;
        slot.retry = Some(Instant::now() + PAUSE);
    }

    /// Opens anew what is to be opened anew, ends what has taken too long.
    fn sweep(&mut self, now: Instant) -> Result<()> {
        let may_open = self.phase == Phase::Opening || self.remaining > 0;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.retry.is_some_and(|at| at <= now) && may_open {
                self.open(index)?;
                continue;
            }
            let Some(connection) = &slot.connection else {
                continue;
            };
            let since = match connection.in_flight.front() {
                Some(&since) => since.max(connection.moved),
                None if connection.greeted => continue,
                None => connection.opened,
            };
            let quiet = now.saturating_duration_since(since);
            if quiet > self.plan().timeout {
                let waiting = connection.describe(self.shared.tape);
                let text = format!("nothing for {:.1} s {waiting}", quiet.as_secs_f64());
                self.fail(index, Problem::new(Failure::Timeout, text));
            }
        }
        Ok(())
    }

    /// Hands over what has been gathered until `now`.
    fn hand_over(&mut self, now: Instant) {
        let measuring = match self.phase {
            Phase::Measuring(since) | Phase::Finishing(since, _) => since,
            Phase::Opening | Phase::WarmingUp => now,
        };
        let interval = Interval {
            start: self.gathered - measuring,
            length: now.saturating_duration_since(self.gathered),
            latency: self.latency.clone(),
            counts: self.counts,
        };
        self.latency.reset();
        self.counts = Counts::default();
        self.gathered = now;
        // Whoever listens lives as long as the threads do.
        let _ = self.intervals.send(interval);
    }
}

impl Phase {
    /// Whether the latency of a request that counts from `since` is measured.
    fn counts(self, since: Instant) -> bool {
        match self {
            Self::Opening | Self::WarmingUp => false,
            Self::Measuring(start) => since >= start,
            Self::Finishing(start, end) => (start..end).contains(&since),
        }
    }
}

/// What one thread of `threads` gets of `total`.
fn share(total: usize, index: usize, threads: usize) -> usize {
    total / threads + usize::from(index < total % threads)
}

/// How long to wait for events if something is to be done in `ahead`.
fn timeout(ahead: Duration, is_paced: bool) -> Duration {
    match is_paced {
        // Epoll rounds up to milliseconds.
        true if ahead < SPIN => Duration::ZERO,
        true => ahead - SPIN / 2,
        false => ahead,
    }
}
