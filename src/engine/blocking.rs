//! What the two blocking engines share: an accept that minds the limits, a table of open
//! connections through which a deadline reaches threads that block in system calls, and a stream
//! that counts.

use std::io::{self, Write};
use std::net::Shutdown as Direction;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slab::Slab;
use socket2::Socket;

use crate::shutdown::Event;
use crate::worker::{Accepting, Ended, OnFailure, Traffic, Worker};

/// The connections that one worker has open.
pub(super) struct Open<'a> {
    worker: &'a Worker,
    sockets: Mutex<Slab<Arc<Socket>>>,
    /// Signalled when a connection closes, and when the drain begins.
    changed: Condvar,
    /// Nothing is open any more, and nothing will be.
    finished: Event,
}

/// An open connection's place in the table.
#[derive(Clone, Copy)]
pub(super) struct Key(usize);

impl<'a> Open<'a> {
    pub(super) fn new(worker: &'a Worker, listener: &Socket) -> io::Result<Self> {
        // For `next`.
        listener.set_nonblocking(worker.inherited)?;
        Ok(Self {
            worker,
            sockets: Mutex::default(),
            changed: Condvar::new(),
            finished: Event::new()?,
        })
    }

    /// Blocks until fewer than `limit` connections are open and the next has been accepted; `None`
    /// once the drain has begun.
    pub(super) fn accept(
        &self,
        listener: &Socket,
        limit: usize,
        accepting: &mut Accepting,
    ) -> Option<Key> {
        let shutdown = &self.worker.shutdown;
        let mut sockets = self.lock();
        while sockets.len() >= limit && !shutdown.drain.is_set() {
            sockets = self.wait_for_change(sockets);
        }
        drop(sockets);
        for pause in self.worker.pauses_while_ahead() {
            match pause {
                Duration::ZERO => thread::yield_now(),
                pause => thread::sleep(pause),
            }
        }
        while !shutdown.drain.is_set() {
            match self.next(listener) {
                Ok(Some(socket)) => return Some(self.admit(socket)),
                Ok(None) => {}
                Err(error) => match accepting.failed(&error, shutdown) {
                    OnFailure::Stop => break,
                    OnFailure::Retry => {}
                    OnFailure::Wait(time) => thread::sleep(time),
                },
            }
        }
        None
    }

    /// Blocks until the next connection has been accepted, or something else has happened.
    fn next(&self, listener: &Socket) -> io::Result<Option<Socket>> {
        let drain = &self.worker.shutdown.drain;
        if self.worker.inherited {
            // The drain wakes nobody from accept(2) here. Every worker is woken for every
            // connection, and all but one find it gone.
            let mut fds = [
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(drain, PollFlags::empty()), // hang-ups always show
            ];
            poll(&mut fds, None)?;
            if drain.is_set() {
                return Ok(None);
            }
        }
        match listener.accept() {
            Ok((socket, _)) => Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.worker.inherited => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn admit(&self, socket: Socket) -> Key {
        self.worker.counters().opened();
        self.worker.settle(&socket);
        let socket = Arc::new(socket);
        let key = self.lock().insert(Arc::clone(&socket));
        // `watch` closes what is in the table at the deadline; this may have come too late.
        if self.worker.shutdown.cut.is_set() {
            let _ = socket.shutdown(Direction::Both);
        }
        Key(key)
    }

    /// Holds a connection's `conversation` to its end, with the idle timeout in force, and closes.
    pub(super) fn serve(&self, key: Key, conversation: impl FnOnce(Stream<'_>) -> io::Result<()>) {
        let mut place = self.place(key);
        let socket = Arc::clone(&self.lock()[key.0]);
        let stream = Stream {
            socket: &socket,
            timeout: self.worker.idle_timeout,
            traffic: &self.worker.counters().traffic,
        };
        let result = self
            .limit_waiting(&socket)
            .and_then(|()| conversation(stream));
        place.ended = match result {
            // SO_RCVTIMEO or SO_SNDTIMEO has passed and not a byte was moved, see socket(7).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ended::TimedOut,
            _ if self.worker.shutdown.cut.is_set() => Ended::Cut,
            Ok(()) => Ended::Closed,
            Err(error) => {
                tracing::debug!(%error, "connection failed");
                Ended::Failed
            }
        };
    }

    /// Gives the connection's place back, and with it the socket, when dropped.
    pub(super) fn place(&self, key: Key) -> Place<'_> {
        Place {
            open: self,
            key,
            ended: Ended::Failed,
        }
    }

    /// Blocks until the last connection has closed, then lets [`Open::watch`] return.
    pub(super) fn finish(&self) {
        let mut sockets = self.lock();
        while !sockets.is_empty() {
            sockets = self.wait_for_change(sockets);
        }
        self.finished.set();
    }

    /// Brings the shutdown's two steps to threads that wait for something else. It blocks until
    /// the worker has finished, so it has a thread of its own.
    pub(super) fn watch(&self) {
        let shutdown = &self.worker.shutdown;
        Event::wait_for_any(&[&shutdown.drain, &self.finished]);
        // Under the lock, so that nobody is between looking at the signal and waiting.
        drop(self.lock());
        self.changed.notify_all();

        Event::wait_for_any(&[&shutdown.cut, &self.finished]);
        for (_, socket) in self.lock().iter() {
            // A pending recv(2) returns 0, a pending send(2) fails.
            let _ = socket.shutdown(Direction::Both);
        }
    }

    /// The kernel counts a timeout per call: a send that moves a part of its bytes and then waits
    /// in vain comes back as a success, and the next one waits again. So a client that never reads
    /// is closed after one to two idle timeouts.
    fn limit_waiting(&self, socket: &Socket) -> io::Result<()> {
        socket.set_read_timeout(self.worker.idle_timeout)?;
        socket.set_write_timeout(self.worker.idle_timeout)
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Socket>>> {
        // Nothing that runs under this lock leaves the table half changed.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_change<'g>(
        &self,
        sockets: MutexGuard<'g, Slab<Arc<Socket>>>,
    ) -> MutexGuard<'g, Slab<Arc<Socket>>> {
        self.changed
            .wait(sockets)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's claim to its place in the table, which ends with it: even a conversation that
/// panics must not keep a drain waiting.
pub(super) struct Place<'a> {
    open: &'a Open<'a>,
    key: Key,
    ended: Ended,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // In this order, so that whoever is accepted in its place is not one too many.
        self.open.worker.counters().closed(self.ended);
        self.open.lock().remove(self.key.0);
        self.open.changed.notify_all();
    }
}

/// A connection's socket, which counts what it moves.
pub(super) struct Stream<'a> {
    socket: &'a Socket,
    /// What [`Open::limit_waiting`] has set.
    timeout: Option<Duration>,
    traffic: &'a Traffic,
}

impl Stream<'_> {
    pub(super) fn receive(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let received = self.retry_on_interruption(|waits| {
            let flags = if waits {
                RecvFlags::empty()
            } else {
                RecvFlags::DONTWAIT
            };
            let (received, _) = recv(self.socket, &mut *buf, flags)?;
            Ok(received)
        })?;
        self.traffic.received.add_shared(received);
        Ok(received)
    }

    /// With a timeout set, SA_RESTART does not apply, see `signal(7)`, and the timeout starts anew
    /// with each call: interruptions that come more often must not put it off for ever. The last
    /// call does not wait, but takes what has come while the process was stopped.
    fn retry_on_interruption(
        &self,
        mut call: impl FnMut(bool) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        let mut waits = true;
        let mut interrupted = None;
        loop {
            match call(waits) {
                Err(Errno::INTR) => {
                    let first = interrupted.get_or_insert_with(Instant::now);
                    waits = self.timeout.is_none_or(|timeout| first.elapsed() < timeout);
                }
                result => return Ok(result?),
            }
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let sent = self.retry_on_interruption(|waits| {
            let flags = if waits {
                SendFlags::NOSIGNAL
            } else {
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT
            };
            send(self.socket, buf, flags)
        })?;
        self.traffic.sent.add_shared(sent);
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
