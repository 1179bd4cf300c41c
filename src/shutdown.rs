//! One signal that every engine can wait for: a blocking thread, an event loop or a task.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};

/// The end of service, in two steps; clones are the same signal.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Accept no more; connections go on until their clients close.
    pub drain: Arc<Event>,
    /// Close what is still open.
    pub cut: Arc<Event>,
}

impl Shutdown {
    /// A signal of which nothing has been given yet.
    ///
    /// # Errors
    ///
    /// When `pipe(2)` fails, for example because descriptors are exhausted.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            drain: Arc::new(Event::new()?),
            cut: Arc::new(Event::new()?),
        })
    }
}

/// Something that happens once, for any number of waiters.
///
/// It is a pipe into which nobody writes, and what happens is that its write end is closed. From
/// then on the read end is at its end of file for everyone who asks and as often as they ask: a
/// hang-up for `poll(2)` and epoll, a read of 0 bytes for io_uring.
#[derive(Debug)]
pub struct Event {
    happened: AtomicBool,
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Event {
    /// An event that has not happened.
    ///
    /// # Errors
    ///
    /// When `pipe(2)` fails.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            happened: AtomicBool::new(false),
            reader,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Makes it happen. Happening twice is happening once.
    pub fn set(&self) {
        self.happened.store(true, Ordering::Release);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(writer.take());
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }

    /// The read end once more, for an event loop that wants to own what it watches.
    ///
    /// # Errors
    ///
    /// When descriptors are exhausted, see `dup(2)`.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.reader.try_clone().map(OwnedFd::from)
    }

    /// Blocks the thread until one of `events` has happened.
    pub fn wait_for_any(events: &[&Self]) {
        let mut fds: Vec<_> = events
            .iter()
            .map(|event| PollFd::new(&event.reader, PollFlags::empty())) // hang-ups always show
            .collect();
        while !events.iter().any(|event| event.is_set()) {
            // An interrupted or failed wait leads to another look at the events.
            let _ = poll(&mut fds, None);
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_waiter_sees_what_has_happened_however_late_it_looks() {
        let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Event::wait_for_any(&[&first, &second]));
            }
            second.set();
        });
        Event::wait_for_any(&[&first, &second]);
        assert!(second.is_set());
        assert!(!first.is_set());
    }
}
