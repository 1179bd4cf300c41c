//! What happens in a round, drawn from its seed before anything does.

use std::iter;
use std::ops::Range;

use ringlab::features::{Choice, Feature, Features};

use crate::row::Row;
use crate::support;

/// The part of one client.
#[derive(Debug)]
pub(crate) struct Script {
    /// The turn in which it connects.
    pub(crate) start: u32,
    /// Whether the kernel has little room for what is on its way.
    pub(crate) small_buffers: bool,
    /// What the steps send, in order.
    pub(crate) input: Vec<u8>,
    /// In reverse: the next one is the last.
    pub(crate) steps: Vec<Step>,
    /// Bytes that it reads in one turn at most.
    pub(crate) appetite: usize,
    /// For how many turns it can neither read nor send before it reads again.
    pub(crate) endurance: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends the next so many bytes of the input, if the socket takes them all in one call.
    Send(usize),
    /// Goes on when all that it is owed has come.
    CatchUp,
    /// Goes on after so many turns.
    Pause(u32),
    StopReading,
    Read,
    HalfClose,
    /// Closes, whatever is on its way.
    Close,
    /// Closes so that the server sees a reset.
    Reset,
}

impl Script {
    /// `enough` says how much of the usual amount of input is enough.
    pub(crate) fn new(random: &mut fastrand::Rng, enough: impl Fn(usize) -> usize) -> Self {
        let (length, largest) = match random.u8(0..16) {
            // Who leaves early, or just listens.
            0..4 => (random.usize(0..2) * random.usize(0..30), 30),
            // Who has something to say.
            4..11 => (random.usize(1..2000), random.usize(1..300)),
            // Streams, some of them of more than the sockets hold.
            11..15 => (random.usize(1..100_000), random.usize(1..20_000)),
            _ => (random.usize(1..1_500_000), random.usize(1..200_000)),
        };
        let length = enough(length).min(length.max(1));
        let mut steps: Vec<_> = middle(length, largest.max(length / 200), random).collect();
        end(&mut steps, random);
        steps.reverse();
        Self {
            // Alone, or with others in a burst.
            start: random.u32(0..60) * random.u32(0..2) + 20 * random.u32(0..3),
            // TCP gets through a small window only as fast as its timers go.
            small_buffers: random.bool() && length < 2000,
            input: input(length, random),
            steps,
            appetite: random
                .choice([40, 1000, 4096, 70_000])
                .unwrap_or(1)
                .max(length / 200),
            endurance: random.u32(1..40),
        }
    }
}

/// A conversation up to its end.
fn middle(length: usize, largest: usize, random: &mut fastrand::Rng) -> impl Iterator<Item = Step> {
    let mut rest = length;
    iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        Some(match random.u8(0..24) {
            0 | 1 => Step::CatchUp,
            2..5 => Step::Pause(random.u32(1..10)),
            5 => Step::StopReading,
            6 => Step::Read,
            _ => {
                let piece = random.usize(1..=largest.min(rest));
                rest -= piece;
                Step::Send(piece)
            }
        })
    })
}

fn end(steps: &mut Vec<Step>, random: &mut fastrand::Rng) {
    // Most hear the server out; the others leave at any point.
    let orderly = random.u8(0..3) > 0;
    if !orderly {
        steps.truncate(random.usize(0..=steps.len()));
    }
    match random.u8(0..6) {
        _ if orderly => steps.push(Step::HalfClose),
        0 | 1 => steps.push(Step::Close),
        2 | 3 => steps.push(Step::Reset),
        4 => steps.extend([Step::CatchUp, Step::Close]),
        _ => steps.extend([Step::HalfClose, Step::Pause(random.u32(0..5)), Step::Close]),
    }
}

fn input(length: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    // Of long inputs a piece, again and again. It is no multiple of any buffer, so that bytes in
    // the wrong place are wrong bytes.
    const PERIOD: usize = 10_007;
    let mut piece = support::random_input(length.min(PERIOD), random);
    match random.u8(0..4) {
        // One message, of which every byte has to come back.
        0 => {
            let closing = piece.iter_mut().filter(|byte| **byte == b'$');
            closing.for_each(|byte| *byte = b'x');
            piece.iter_mut().take(1).for_each(|byte| *byte = b'^');
        }
        // Hardly anything has to.
        1 => piece.iter_mut().for_each(|byte| *byte = random.u8(..)),
        _ => {}
    }
    let mut input = piece.repeat(length.div_ceil(PERIOD).max(1));
    input.truncate(length);
    input
}

/// What happens to the server.
#[derive(Debug)]
pub(crate) struct Course {
    /// Options of `ringlab serve`.
    pub(crate) args: Vec<String>,
    pub(crate) listen: Listen,
    pub(crate) ending: Ending,
    /// Turns during which the process is stopped, so that much happens at once.
    pub(crate) stops: Vec<Range<u32>>,
    /// Whether it closes connections that are quiet for a moment.
    pub(crate) impatient: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Listen {
    V4,
    V6,
    Unix,
}

/// When SIGTERM comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// When everybody has left.
    Afterwards,
    /// In this turn; connections may go on to their end.
    Drain(u32),
    /// In this turn; connections are closed soon after.
    Cut(u32),
}

impl Course {
    /// For so many `clients`, on a kernel that has the features `available`.
    pub(crate) fn new(
        row: &Row,
        clients: usize,
        available: Option<Features>,
        random: &mut fastrand::Rng,
    ) -> Self {
        let workers = if row.concurrent() {
            random.u32(1..4)
        } else {
            1
        };
        let mut args = vec!["--workers".to_owned(), workers.to_string()];
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if random.u8(0..3) == 0 {
            option("--max-connections", random.usize(1..=clients).to_string());
        }
        if let Some(available) = available {
            option("--uring-features", features(available, random));
            let entries = random.choice([1, 2, 8, 256]).unwrap_or(256);
            option("--uring-entries", entries.to_string());
        }
        let impatient = random.u8(0..10) == 0;
        // Else so long that nobody can be saved from waiting by a look at idle connections.
        option(
            "--idle-timeout",
            if impatient { "40ms" } else { "2h" }.to_owned(),
        );
        let ending = match random.u8(0..8) {
            0 => Ending::Drain(random.u32(0..150)),
            1 => Ending::Cut(random.u32(0..150)),
            _ => Ending::Afterwards,
        };
        let drain = match ending {
            Ending::Cut(_) => random.choice(["0", "3ms", "20ms"]).unwrap_or("0"),
            _ => "2h",
        };
        option("--drain-timeout", drain.to_owned());
        Self {
            args,
            listen: match random.u8(0..8) {
                0 => Listen::V6,
                1..4 => Listen::Unix,
                _ => Listen::V4,
            },
            ending,
            stops: stops(random),
            impatient,
        }
    }
}

/// Any of the features that can be had together.
fn features(available: Features, random: &mut fastrand::Rng) -> String {
    loop {
        let some = available.iter().filter(|_| random.bool());
        let some: Vec<_> = iter::once("none").chain(some.map(Feature::name)).collect();
        let list = some.join(",");
        if list.parse::<Choice>().is_ok() {
            return list;
        }
    }
}

fn stops(random: &mut fastrand::Rng) -> Vec<Range<u32>> {
    let mut start = 0;
    let count = random.usize(0..6);
    iter::repeat_with(|| {
        start += random.u32(1..50);
        let end = start + random.u32(1..15);
        let stop = start..end;
        start = end;
        stop
    })
    .take(count)
    .collect()
}
