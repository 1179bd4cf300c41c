//! Where log lines go: to stderr, through a thread of their own, so that nobody who serves waits for
//! whoever should read them.
//!
//! A pipe that nobody reads takes 64 KiB (see pipe(7)), a terminal that is stopped less. Whoever
//! writes one more line then sleeps until there is room: a worker with all its connections, or a
//! drain that never ends. A disk that is full takes nothing at all.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use rustix::event::PollFlags;
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::poll::ready_within;
use crate::threads;

/// Bytes of lines that wait to be written, beside as many that are being written: room for the
/// counters of a thousand workers.
const ROOM: usize = 512 * 1024;

/// How long the end of the process waits for the last lines to be written. Whoever reads needs a
/// fraction of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a pipe takes without blocking when it is ready for writing: PIPE_BUF, see pipe(7).
const PIECE: usize = 4096;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For machines: an object a line
    Json,
}

impl Format {
    /// A line that does not come from an event: nobody can filter it out.
    fn line(self, level: &str, message: &str, lost: Option<u64>) -> String {
        let mut time = String::new();
        // A String takes whatever is written to it.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        match self {
            Self::Text => {
                let lost = lost.map_or(String::new(), |lost| format!(" lost={lost}"));
                format!("{time} {level:>5} {message}{lost}\n")
            }
            Self::Json => {
                let mut line = json!({ "timestamp": time, "level": level, "message": message });
                if let Some(lost) = lost {
                    line["lost"] = json!(lost);
                }
                format!("{line}\n")
            }
        }
    }

    /// What a program says when it has failed.
    fn failure(self, message: &str) -> String {
        match self {
            Self::Text => format!("ringlab: {message}\n"),
            Self::Json => self.line("ERROR", message, None),
        }
    }
}

/// Says why the program failed, where there is no [`Log`]. It loses what nobody reads in a second,
/// and what cannot be written.
pub fn fail(format: Format, message: &str) {
    for piece in format.failure(message).as_bytes().chunks(PIECE) {
        let has_room = ready_within(io::stderr(), PollFlags::OUT, PATIENCE);
        // Not eprintln, which panics when it cannot write.
        if !has_room.unwrap_or(false) || io::stderr().write_all(piece).is_err() {
            break;
        }
    }
}

/// The log of this process. Dropping it waits until the last line is written, but no longer than a
/// second.
#[derive(Debug)]
pub struct Log {
    format: Format,
    queue: Arc<Queue>,
}

impl Log {
    /// Sends events that pass `filter`, and panics, to stderr from now on.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub fn start(format: Format, filter: EnvFilter) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        threads::named("log").spawn(move || writing.write_all(format))?;

        let writer = Arc::clone(&queue);
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || Lines(Arc::clone(&writer)))
            // Or what it cannot format would be told with eprintln.
            .log_internal_errors(false)
            .with_ansi(wants_colour());
        // Where another program has a log of its own, its is the one.
        let _ = match format {
            Format::Text => lines.with_target(false).try_init(),
            Format::Json => lines.json().flatten_event(true).try_init(),
        };
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let backtrace = (backtrace.status() == BacktraceStatus::Captured)
                .then(|| tracing::field::display(backtrace));
            let thread = thread::current();
            tracing::error!(thread = thread.name(), backtrace, "{panic}");
        }));
        Ok(Self { format, queue })
    }

    /// Warns of something that concerns the log itself, whatever its filter.
    pub fn warn(&self, message: &str) {
        self.queue.push(&self.format.line("WARN", message, None));
    }

    /// Says why the program failed.
    pub fn fail(&self, message: &str) {
        self.queue.push(&self.format.failure(message));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Colours are for a terminal that has them and a user who has not declined, see
/// <https://no-color.org>.
fn wants_colour() -> bool {
    let declined = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !declined && !dumb
}

/// One event's way into the queue.
struct Lines(Arc<Queue>);

impl Write for Lines {
    /// Takes all of an event, which comes in one piece.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.push_bytes(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way from those who log to the thread that writes.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something has come to be written, or has been.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines for which there was no room. They came after `lines`.
    lost: u64,
    /// What was taken from here is not written yet.
    writing: bool,
    closed: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        self.push_bytes(line.as_bytes());
    }

    /// Keeps a line, or counts it as lost. Never waits for a reader.
    fn push_bytes(&self, line: &[u8]) {
        let mut waiting = self.lock();
        // After the first that is lost, so are the others until those before are taken: order is
        // worth more than a few short lines.
        if waiting.lost > 0 || waiting.lines.len() + line.len() > ROOM {
            waiting.lost += 1;
        } else {
            waiting.lines.extend_from_slice(line);
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits a little for everything to be written.
    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.changed.notify_all();
        let _ = self
            .changed
            .wait_timeout_while(waiting, PATIENCE, |waiting| {
                waiting.writing || !waiting.is_empty()
            });
    }

    /// All lines that wait, and how many were lost after them; `None` at the end.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let mut waiting = self.lock();
        waiting.writing = false;
        self.changed.notify_all();
        let mut waiting = self
            .changed
            .wait_while(waiting, |waiting| waiting.is_empty() && !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return None;
        }
        waiting.writing = true;
        Some((mem::take(&mut waiting.lines), mem::take(&mut waiting.lost)))
    }

    /// Writes what comes until the end.
    fn write_all(&self, format: Format) {
        let mut stderr = Stderr::default();
        let mut untold = 0;
        while let Some((lines, lost)) = self.take() {
            untold += stderr.write(&lines) + lost;
            if untold > 0 {
                let notice = format.line(
                    "WARN",
                    "log lines lost: there was no room for them",
                    Some(untold),
                );
                if stderr.write(notice.as_bytes()) == 0 {
                    untold = 0;
                }
            }
        }
    }
}

/// stderr for whole lines.
#[derive(Debug, Default)]
struct Stderr {
    /// The last line that was written has no end.
    torn: bool,
}

impl Stderr {
    /// Writes `lines`, however long that takes. Returns how many could not be, because a disk is
    /// full or nobody is there any more.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.write_some(b"\n") == 1 {
            self.torn = false;
        }
        let written = self.write_some(lines);
        if let Some(last) = written.checked_sub(1) {
            self.torn = lines[last] != b'\n';
        }
        let left = lines[written..].iter();
        left.filter(|&&byte| byte == b'\n').count() as u64
    }

    /// Returns how many bytes were written.
    fn write_some(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match io::stderr().write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the file may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = ready_within(io::stderr(), PollFlags::OUT, PATIENCE);
                }
                Err(_) => break,
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_no_room_are_counted_and_the_others_keep_their_order() {
        let queue = Queue::default();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..ROOM / line.len() + 3 {
            queue.push_bytes(&line);
        }
        // Short enough, but it would come before those that are lost.
        queue.push("short\n");
        let (lines, lost) = queue.take().unwrap();
        assert_eq!(lines, line.repeat(ROOM / line.len()));
        assert_eq!(lost, 4);
        queue.push("next\n");
        assert_eq!(queue.take(), Some((b"next\n".to_vec(), 0)));
        queue.lock().closed = true;
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn lines_of_its_own_have_the_form_of_the_others() {
        let line = Format::Json.line("WARN", "say \"no\"\n", Some(3));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "say \"no\"\n");
        assert_eq!(line["lost"], 3);
        let line = Format::Text.line("WARN", "no room", Some(3));
        assert!(line.ends_with("Z  WARN no room lost=3\n"), "{line}");
    }
}
