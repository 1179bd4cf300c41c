//! When the requests of an open loop are due.
//!
//! Every connection has arrivals of its own, and belongs to them: were a request that is due given
//! to whichever connection has room, a server that neglects some connections would hardly be
//! charged for it. Together these independent Poisson processes are one Poisson process of the
//! whole rate, and evenly spaced arrivals of connections, each with its own offset, are evenly
//! spaced together.
//!
//! What is owed is never listed. A connection's arrivals are made one by one, from a random stream
//! of its own, when it has room for them: the next one, however long ago it was due, is all that is
//! kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::outcome::Gaps;
use super::plan::{Arrivals, Plan};

/// The arrivals at the connections of one thread.
pub(super) struct Schedule {
    start: Instant,
    arrivals: Arrivals,
    /// The mean time between arrivals at one connection, in nanoseconds.
    gap: f64,
    /// Nothing is due from then on, in nanoseconds since `start`.
    end: f64,
    connections: Vec<Arriving>,
    /// Connections that have room, by when their next request is due.
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
}

/// The arrivals at one connection.
struct Arriving {
    random: Rng,
    /// When the next one is due, in nanoseconds since the start.
    next: f64,
    /// Whether the connection could send it.
    has_room: bool,
    /// Whether it is among those that wait.
    is_waiting: bool,
}

/// A request that is to be sent now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Due {
    /// Since when.
    pub(super) since: Instant,
    /// Whether its connection had room for it then; otherwise it has it only now.
    pub(super) had_room: bool,
}

impl Schedule {
    /// For `connections` of the thread `index` of `threads`, from `start` on; `None` in a closed
    /// loop.
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        threads: usize,
        connections: usize,
        start: Instant,
    ) -> Option<Self> {
        let rate = plan.rate?;
        let between = 1e9 / rate;
        let gap = between * plan.connections as f64;
        let arriving = |slot: usize| {
            let number = index + slot * threads;
            let mut random = Rng::with_seed(plan.seed ^ (number as u64 + 1).rotate_left(32));
            let next = match plan.arrivals {
                Arrivals::Exponential => exponential(&mut random, gap),
                Arrivals::Periodic => between * number as f64,
            };
            Arriving {
                random,
                next,
                has_room: false,
                is_waiting: false,
            }
        };
        Some(Self {
            start,
            arrivals: plan.arrivals,
            gap,
            end: f64::INFINITY,
            connections: (0..connections).map(arriving).collect(),
            waiting: BinaryHeap::with_capacity(connections),
        })
    }

    /// What the plan asks for.
    pub(super) fn asked(plan: &Plan) -> Option<Gaps> {
        Some(Gaps {
            mean: 1.0 / plan.rate?,
            variation: match plan.arrivals {
                Arrivals::Exponential => 1.0,
                Arrivals::Periodic => 0.0,
            },
        })
    }

    /// The mean time between arrivals at all connections of this thread, in nanoseconds.
    pub(super) fn mean(&self) -> f64 {
        self.gap / self.connections.len() as f64
    }

    /// When the next request is due for which there is room.
    pub(super) fn next(&self) -> Option<Instant> {
        let Reverse((at, _)) = self.waiting.peek()?;
        Some(self.start + Duration::from_nanos(*at))
    }

    /// A connection that has room for what is due to it by `now`.
    pub(super) fn connection_due(&mut self, now: Instant) -> Option<usize> {
        let passed = self.passed(now);
        while let Some(&Reverse((at, slot))) = self.waiting.peek()
            && at as f64 <= passed
        {
            self.waiting.pop();
            let arriving = &mut self.connections[slot];
            arriving.is_waiting = false;
            if !arriving.has_room {
                continue;
            }
            if arriving.next <= passed {
                return Some(slot);
            }
            // It has sent what it was waiting with, together with others.
            self.set_room(slot, true);
        }
        None
    }

    /// Takes the next request of a connection, if it is due by `now`.
    pub(super) fn take(&mut self, slot: usize, now: Instant) -> Option<Due> {
        let passed = self.passed(now).min(self.end);
        let arriving = &mut self.connections[slot];
        if arriving.next > passed || arriving.next >= self.end {
            return None;
        }
        let due = Due {
            since: self.start + Duration::from_nanos(arriving.next as u64),
            had_room: arriving.has_room,
        };
        arriving.next += match self.arrivals {
            Arrivals::Exponential => exponential(&mut arriving.random, self.gap),
            Arrivals::Periodic => self.gap,
        };
        Some(due)
    }

    /// Says whether a connection could send another request.
    pub(super) fn set_room(&mut self, slot: usize, has_room: bool) {
        let arriving = &mut self.connections[slot];
        arriving.has_room = has_room;
        if has_room && !arriving.is_waiting && arriving.next < self.end {
            arriving.is_waiting = true;
            // Not before it is due.
            self.waiting
                .push(Reverse((arriving.next.ceil() as u64, slot)));
        }
    }

    /// Lets nothing be due from `end` on, nor later if it has an end already.
    pub(super) fn end(&mut self, end: Instant) {
        self.end = self.end.min(self.passed(end));
        self.waiting.clear();
        for slot in 0..self.connections.len() {
            self.connections[slot].is_waiting = false;
            self.set_room(slot, self.connections[slot].has_room);
        }
    }

    /// Whether something was due to a connection by the end, if that is set, that is not sent.
    pub(super) fn owes(&self, slot: usize) -> bool {
        self.end.is_finite() && self.connections[slot].next < self.end
    }

    /// How many requests are due and not sent, once the end is set. Of exponential arrivals it is
    /// what is to be expected of so much time: to make each of them could take as long again.
    pub(super) fn owed(&self) -> u64 {
        let owed = |arriving: &Arriving| match self.end - arriving.next {
            time if time > 0.0 => 1 + (time / self.gap) as u64,
            _ => 0,
        };
        self.connections.iter().map(owed).sum()
    }

    fn passed(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_nanos() as f64
    }
}

fn exponential(random: &mut Rng, mean: f64) -> f64 {
    // Between 0 and 1, without 0.
    -mean * (1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::tests::plan;

    const SECOND: Duration = Duration::from_secs(1);

    /// All that becomes due within a second, in order.
    fn arrivals(plan: &Plan) -> Vec<f64> {
        let start = Instant::now();
        let mut schedule = Schedule::new(plan, 0, 1, plan.connections, start).unwrap();
        let mut all = Vec::new();
        for slot in 0..plan.connections {
            while let Some(due) = schedule.take(slot, start + SECOND) {
                all.push((due.since - start).as_secs_f64());
            }
        }
        all.sort_by(f64::total_cmp);
        all
    }

    fn gaps(arrivals: &[f64]) -> (f64, f64) {
        let gaps: Vec<_> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let squares = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
        (mean, (squares / gaps.len() as f64).sqrt() / mean)
    }

    #[test]
    fn exponential_arrivals_of_all_connections_together_are_a_poisson_process() {
        let mut plan = plan();
        (plan.connections, plan.rate) = (10, Some(50_000.0));
        plan.arrivals = Arrivals::Exponential;
        let (mean, variation) = gaps(&arrivals(&plan));
        // Five standard errors of the estimates: 1/√50,000.
        assert!((mean * 50_000.0 - 1.0).abs() < 0.025, "{mean}");
        assert!((variation - 1.0).abs() < 0.03, "{variation}");
    }

    #[test]
    fn periodic_arrivals_of_all_connections_together_are_periodic() {
        let mut plan = plan();
        (plan.connections, plan.rate) = (10, Some(1000.0));
        plan.arrivals = Arrivals::Periodic;
        let arrivals = arrivals(&plan);
        assert_eq!(arrivals.len(), 1001, "at 0, 1, 2, …, 1000 ms");
        let (mean, variation) = gaps(&arrivals);
        assert!((mean * 1000.0 - 1.0).abs() < 1e-3, "{mean}");
        assert!(variation < 1e-3, "{variation}");
    }

    #[test]
    fn what_is_owed_is_counted_and_not_listed() {
        let mut plan = plan();
        (plan.connections, plan.rate) = (4, Some(1e8));
        for arrivals in [Arrivals::Exponential, Arrivals::Periodic] {
            plan.arrivals = arrivals;
            let start = Instant::now();
            let mut schedule = Schedule::new(&plan, 0, 1, 4, start).unwrap();
            for _ in 0..1000 {
                assert!(schedule.take(0, start + SECOND).is_some());
            }
            schedule.end(start + SECOND);
            let owed = schedule.owed() as f64;
            assert!((owed / 1e8 - 1.0).abs() < 1e-4, "{owed}");
        }
    }

    #[test]
    fn what_is_due_within_the_nanosecond_is_waited_for() {
        let mut plan = plan();
        plan.rate = Some(3e8);
        plan.arrivals = Arrivals::Periodic;
        let start = Instant::now();
        let at = |nanos| start + Duration::from_nanos(nanos);
        let mut schedule = Schedule::new(&plan, 0, 1, 1, start).unwrap();
        schedule.take(0, start).unwrap();
        schedule.set_room(0, true);
        assert_eq!(schedule.connection_due(at(3)), None, "it is 3.33");
        assert_eq!(schedule.connection_due(at(4)), Some(0));
    }

    #[test]
    fn requests_wait_for_their_own_connection() {
        let mut plan = plan();
        (plan.connections, plan.rate) = (2, Some(2.0));
        plan.arrivals = Arrivals::Periodic;
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut schedule = Schedule::new(&plan, 0, 1, 2, start).unwrap();
        assert_eq!(schedule.next(), None, "nobody has room");
        schedule.set_room(1, true);
        assert_eq!(schedule.next(), Some(at(0.5)));
        assert_eq!(schedule.connection_due(at(0.4)), None);
        assert_eq!(schedule.connection_due(at(0.6)), Some(1));
        let due = schedule.take(1, at(0.6)).unwrap();
        assert_eq!((due.since, due.had_room), (at(0.5), true));
        assert_eq!(schedule.take(1, at(0.6)), None);
        let due = schedule.take(0, at(0.6)).unwrap();
        assert_eq!((due.since, due.had_room), (start, false));
    }
}
