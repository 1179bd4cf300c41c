//! One thread of the load: an epoll loop over its share of the connections.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::arrivals::Schedule;
use super::connection::{Connection, NotConnected};
use super::failures::{Failure, Failures, Problem};
use super::gathered::Gathered;
use super::outcome::Interval;
use super::phase::{Phase, Shared};
use super::plan::{Plan, Workload};

/// How often threads hand over what they have measured.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What epoll can tell apart, and how long it takes until a full backlog has room.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// How often to look for what timed out.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

/// How long after a failure a connection is opened anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Before a request is due at least so long, the thread may sleep: epoll tells time in
/// milliseconds, and to be late would count as the server's latency.
const SPIN: Duration = Duration::from_millis(2);

/// The place of one connection and of those that follow it.
pub(super) struct Slot {
    pub(super) connection: Option<Connection>,
    /// When to open it anew.
    pub(super) retry: Option<Instant>,
    /// Where on the tape it begins.
    first: usize,
}

impl Slot {
    pub(super) fn is_open(&self) -> bool {
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
}

pub(super) struct Generator<'a> {
    pub(super) shared: &'a Shared<'a>,
    epoll: OwnedFd,
    pub(super) slots: Vec<Slot>,
    buf: Box<[u8]>,
    pub(super) phase: Phase,
    /// When requests are due in an open loop.
    pub(super) schedule: Option<Schedule>,
    /// Requests that may still be begun.
    pub(super) remaining: u64,
    swept: Instant,
    pub(super) failures: Failures,
    pub(super) gathered: Gathered,
    intervals: Sender<Interval>,
}

impl<'a> Generator<'a> {
    /// With so many connections that are to be opened, for the thread `index`.
    pub(super) fn new(
        shared: &'a Shared<'a>,
        index: usize,
        connections: usize,
        intervals: Sender<Interval>,
    ) -> Result<Self> {
        let mut random = Rng::with_seed(shared.plan.seed.wrapping_add(index as u64));
        let slots = (0..connections).map(|_| Slot {
            connection: None,
            retry: None,
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
            schedule: None,
            remaining: 0,
            swept: now,
            failures: Failures::default(),
            gathered: Gathered::new(now),
            intervals,
        })
    }

    pub(super) fn plan(&self) -> &'a Plan {
        self.shared.plan
    }

    /// Whether something is begun, or due, on a connection, and not answered.
    pub(super) fn is_busy(&self, index: usize) -> bool {
        let Some(connection) = &self.slots[index].connection else {
            return false;
        };
        let owes = |schedule: &Schedule| self.remaining > 0 && schedule.owes(index);
        !connection.in_flight.is_empty()
            || self.plan().workload == Workload::Churn && !connection.greeted
            || self.schedule.as_ref().is_some_and(owes)
    }

    /// Sends what is due, and handles what happens until `deadline` or until something has
    /// happened.
    pub(super) fn step(&mut self, deadline: Instant) -> Result<()> {
        let now = self.send_due();
        let next = self.schedule.as_ref().and_then(Schedule::next);
        let ahead = next.map_or(deadline, |next| next.min(deadline)) - now;
        let timeout = match next {
            // Epoll rounds up to milliseconds.
            Some(_) if ahead < SPIN => Duration::ZERO,
            Some(_) => ahead - SPIN / 2,
            None => ahead,
        };
        let events = self.turn(timeout)?;
        if events == 0 && timeout.is_zero() && self.phase.is_measuring() {
            self.gathered.waited += now.elapsed();
        }
        Ok(())
    }

    /// Sends what is due in an open loop on connections that have room. Returns the time then.
    fn send_due(&mut self) -> Instant {
        loop {
            let now = Instant::now();
            let schedule = self.schedule.as_mut().filter(|_| self.remaining > 0);
            match schedule.and_then(|schedule| schedule.connection_due(now)) {
                Some(slot) => self.send(slot, now),
                None => return now,
            }
        }
    }

    /// Waits for events, at most so long, and handles them and what is overdue. Returns how many
    /// there were.
    pub(super) fn turn(&mut self, timeout: Duration) -> Result<usize> {
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
        let pause = match self.phase {
            Phase::Opening => MOMENT,
            _ => SWEEP,
        };
        if now - self.swept >= pause {
            self.swept = now;
            self.sweep(now)?;
        }
        Ok(ready)
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
        let phase = self.phase;
        let gathered = &mut self.gathered;
        let (mut now, mut replies) = (None, 0);
        let received = connection.receive(tape, &mut self.buf, |since| {
            replies += 1;
            gathered.reply(phase, since, *now.get_or_insert_with(Instant::now));
        });
        let now = now.unwrap_or_else(Instant::now);
        if phase.is_measuring() {
            gathered.counts.received += received.bytes as u64;
        }
        if let Err(problem) = received.result {
            self.fail(slot, problem);
            return Ok(());
        }
        connection.moved = now;
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
    pub(super) fn send(&mut self, index: usize, now: Instant) {
        let plan = self.shared.plan;
        let phase = self.phase;
        let slot = &mut self.slots[index];
        let Some(connection) = slot.connection.as_mut().filter(|it| it.greeted) else {
            return;
        };
        if phase == Phase::Opening {
            return;
        }
        let room = |connection: &Connection| match plan.workload {
            Workload::RequestReply => plan.pipeline.saturating_sub(connection.in_flight.len()),
            Workload::Stream => usize::MAX,
            Workload::Churn | Workload::Idle => 1 - connection.in_flight.len().min(1),
        };
        let mut requests = room(connection);
        let mut bytes = match plan.workload {
            Workload::Stream => connection.room_in(plan.window),
            _ => usize::MAX,
        };
        let opened = connection.opened;
        let (remaining, gathered) = (&mut self.remaining, &mut self.gathered);
        let schedule = &mut self.schedule;
        let sent = connection.send(self.shared.tape, |length| {
            let is_opening_counted = plan.workload == Workload::Churn;
            if requests == 0 || bytes == 0 || *remaining == 0 && !is_opening_counted {
                return None;
            }
            let since = match schedule {
                Some(schedule) => {
                    let due = schedule.take(index, now)?;
                    gathered.sends(phase, due, now);
                    due.since
                }
                // Its connection was what it began with.
                None if is_opening_counted => opened,
                None => now,
            };
            requests -= 1;
            bytes = bytes.saturating_sub(length);
            *remaining -= u64::from(!is_opening_counted);
            Some(since)
        });
        if let Some(schedule) = schedule {
            schedule.set_room(index, room(connection) > 0 && !connection.blocked);
        }
        let sent = match sent {
            Ok(sent) => sent,
            Err(problem) => return self.fail(index, problem),
        };
        if phase.is_measuring() {
            gathered.counts.sent += sent as u64;
        }
        if connection.blocked {
            self.report_again(index);
        }
    }

    pub(super) fn open(&mut self, index: usize) -> Result<()> {
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

    pub(super) fn fail(&mut self, index: usize, problem: Problem) {
        self.failures.count(problem);
        let slot = &mut self.slots[index];
        // What was in flight is lost with it; what is due goes to the connection that follows.
        if let Some(connection) = slot.connection.take() {
            connection.abort();
        }
        slot.retry = Some(Instant::now() + PAUSE);
        if let Some(schedule) = &mut self.schedule {
            schedule.set_room(index, false);
        }
    }

    /// Opens anew what is to be opened anew, ends what has taken too long.
    fn sweep(&mut self, now: Instant) -> Result<()> {
        let may_open = match self.phase {
            Phase::Opening => true,
            Phase::WarmingUp | Phase::Measuring(_) => self.remaining > 0,
            Phase::Finishing(..) => false,
        };
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.retry.is_some_and(|at| at <= now) && may_open {
                self.open(index)?;
                continue;
            }
            let overdue = slot.connection.as_ref().and_then(|connection| {
                let quiet = connection.quiet(now)?;
                (quiet > self.plan().timeout).then(|| {
                    let waiting = connection.describe(self.shared.tape);
                    format!("nothing for {:.1} s {waiting}", quiet.as_secs_f64())
                })
            });
            if let Some(text) = overdue {
                self.fail(index, Problem::new(Failure::Timeout, text));
            }
        }
        Ok(())
    }

    /// Sends no more of what is due, waits no longer for what is not answered.
    pub(super) fn give_up(&mut self) {
        let owed = self.schedule.as_ref().map_or(0, Schedule::owed);
        let owed = owed.min(self.remaining);
        if owed > 0 {
            let text = format!("{owed} requests were due that there was no time to send");
            let problem = Problem::new(Failure::Timeout, text);
            self.failures.count_many(owed, problem);
        }
        self.remaining = 0;
        for index in 0..self.slots.len() {
            if self.is_busy(index)
                && let Some(connection) = &self.slots[index].connection
            {
                let waiting = connection.describe(self.shared.tape);
                let text = format!("given up {waiting}, as time was over");
                self.fail(index, Problem::new(Failure::Timeout, text));
            }
        }
    }

    /// Hands over what has been gathered until `now` in a run that is measured since `start`.
    pub(super) fn hand_over(&mut self, start: Instant, now: Instant) {
        // Whoever listens lives as long as the threads do.
        let _ = self.intervals.send(self.gathered.interval(start, now));
    }
}
