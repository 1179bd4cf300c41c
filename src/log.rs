//! Where log lines go: to stderr, and a server never waits long for whoever should read them.
//!
//! A pipe that nobody reads takes 64 KiB (see pipe(7)), a terminal that is stopped less. Whoever
//! writes one more line then sleeps until there is room: a worker with all its connections, or a
//! drain that never ends.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::PollFlags;

use crate::poll::ready_within;

/// How long a line may wait for room, which is for readers that are slow. One that is gone costs
/// this once.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a pipe takes without blocking when it is ready for writing: PIPE_BUF, see pipe(7).
const PIECE: usize = 4096;

/// stderr for log lines. One that finds no room in a second is lost, and so are the next, at once,
/// until there is room again: then a line tells how many.
#[derive(Debug)]
pub struct Stderr {
    /// What tells of lines that were lost, in the form that the log has.
    notice: fn(u64) -> String,
    lost: u64,
}

impl Stderr {
    /// For lines of text, or of JSON.
    pub fn new(json: bool) -> Self {
        let notice = if json {
            |lost| {
                format!("{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"lost\":{lost}}}\n")
            }
        } else {
            |lost| format!(" WARN log lines lost: nobody read them lost={lost}\n")
        };
        Self { notice, lost: 0 }
    }

    fn has_room(&self, patience: Duration) -> io::Result<bool> {
        ready_within(io::stderr(), PollFlags::OUT, patience)
    }
}

impl Write for Stderr {
    /// Takes all of `line`, even where it has to lose it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut patience = PATIENCE;
        if self.lost > 0 {
            patience = Duration::ZERO;
            if self.has_room(patience)? {
                let notice = (self.notice)(self.lost);
                self.lost = 0;
                io::stderr().write_all(notice.as_bytes())?;
            }
        }
        for piece in line.chunks(PIECE) {
            if !self.has_room(patience)? {
                self.lost += 1;
                break;
            }
            io::stderr().write_all(piece)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
