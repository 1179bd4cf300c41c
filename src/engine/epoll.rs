//! Readiness: one loop over epoll, and what io_uring has to beat.
//!
//! One buffer serves all connections of a worker, because with readiness a connection needs memory
//! only while its bytes are being handled:
//!
//! ```text
//!    epoll_wait ──▶ for each ready socket: recv(buf) ──▶ feed(buf) ──▶ send(buf)
//! ```
//!
//! What makes it fast is what it does not do. A socket is registered once and level-triggered, so
//! no event costs an `epoll_ctl(2)`, and one `recv(2)` that empties the socket is enough: there is
//! no second one to see EAGAIN. A reply is sent at once. Only if the socket's send buffer is full
//! is the rest of it copied aside and the registration changed to wait for room; until the client
//! has read it, nothing more is read from that client.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use slab::Slab;
use socket2::Socket;

use crate::buffer;
use crate::framing::{Framer, GREETING};
use crate::idle::{self, Quiet};
use crate::worker::{Door, Ended, Next, Traffic, Worker};

/// Events taken from the kernel with one `epoll_wait(2)`.
const BATCH: usize = 512;

/// What an event is about: a connection's key in the table, or one of these.
const LISTENER: u64 = u64::MAX;
const DRAIN: u64 = u64::MAX - 1;
const CUT: u64 = u64::MAX - 2;
const SWEEP: u64 = u64::MAX - 3;

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut service = Service::new(worker, listener)?;
    (service.worker.ready)();
    let mut events = Vec::with_capacity(BATCH);
    while service.is_needed() {
        let timeout = service.update_listener()?.map(to_timespec);
        match epoll::wait(
            &service.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // What closes or adds connections beside the one that an event is about comes when all
        // events have been handled, so that each of these finds its own connection.
        let (mut acceptable, mut sweep, mut cut) = (false, false, false);
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => acceptable = true,
                DRAIN => service.stop_accepting()?,
                CUT => cut = true,
                SWEEP => sweep = true,
                key => service.handle(key as usize),
            }
        }
        if sweep {
            service.sweep();
        }
        if cut {
            service.close_all();
        }
        if acceptable {
            service.accept_some();
        }
    }
    Ok(())
}

struct Service {
    worker: Worker,
    epoll: OwnedFd,
    listener: Socket,
    /// Whether the listener is registered.
    listening: bool,
    /// Whether to think again about the listener.
    reconsider: bool,
    door: Door,
    /// A connection that could not be registered yet.
    waiting: Option<OwnedFd>,
    sweeps: OwnedFd,
    connections: Slab<Connection>,
    buf: Box<[u8]>,
}

struct Connection {
    socket: OwnedFd,
    framer: Framer,
    quiet: Quiet,
    /// The part of a reply for which the socket had no room. While there is one, the socket is
    /// registered for writing and not for reading.
    rest: Vec<u8>,
}

/// How far the handling of an event has come.
enum Progress {
    /// Wait for the next event.
    Waiting,
    /// The client has closed its sending side and has all replies.
    Finished,
}

impl Service {
    fn new(worker: Worker, listener: Socket) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Hang-ups are always reported: that is how an event of the shutdown shows.
        let none = EventFlags::empty();
        epoll::add(
            &epoll,
            &worker.shutdown.drain,
            EventData::new_u64(DRAIN),
            none,
        )?;
        epoll::add(&epoll, &worker.shutdown.cut, EventData::new_u64(CUT), none)?;
        let sweeps = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        if let Some(timeout) = worker.idle_timeout {
            let period = to_timespec(idle::period(timeout));
            let every = Itimerspec {
                it_interval: period,
                it_value: period,
            };
            timerfd_settime(&sweeps, TimerfdTimerFlags::empty(), &every)?;
            epoll::add(&epoll, &sweeps, EventData::new_u64(SWEEP), EventFlags::IN)?;
        }
        Ok(Self {
            worker,
            epoll,
            listener,
            listening: false,
            reconsider: true,
            door: Door::default(),
            waiting: None,
            sweeps,
            connections: Slab::new(),
            buf: vec![0; buffer::LARGEST].into_boxed_slice(),
        })
    }

    /// Whether there is, or may yet be, a connection to serve.
    fn is_needed(&self) -> bool {
        !self.connections.is_empty() || !self.worker.shutdown.drain.is_set()
    }

    /// Registers the listener while the next connection is welcome. Returns when to ask again.
    ///
    /// A worker that must not accept unregisters: it would be woken for nothing, in the place of
    /// a peer that could.
    fn update_listener(&mut self) -> io::Result<Option<Duration>> {
        if self.listening && !self.reconsider {
            return Ok(None);
        }
        self.reconsider = false;
        if self.waiting.is_some() {
            self.accept_some();
        }
        let mut next = self.door.next(&self.worker, self.connections.len());
        if next == Next::Accept && !self.listening {
            // One connection, one worker woken (Linux 4.5).
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            let key = EventData::new_u64(LISTENER);
            match epoll::add(&self.epoll, &self.listener, key, flags) {
                Ok(()) => self.listening = true,
                Err(error) => {
                    self.door.failed(&error.into(), &self.worker.shutdown);
                    next = self.door.next(&self.worker, self.connections.len());
                }
            }
        } else if next != Next::Accept && self.listening {
            epoll::delete(&self.epoll, &self.listener)?;
            self.listening = false;
        }
        Ok(match next {
            Next::Later(time) => Some(time),
            Next::Accept | Next::Full | Next::Stop => None,
        })
    }

    /// Accepts what waits in the backlog, as far as the limits allow, and not for so long that
    /// the connections there are would wait for those that go as fast as they come.
    fn accept_some(&mut self) {
        self.reconsider = true;
        for _ in 0..BATCH {
            if self.door.next(&self.worker, self.connections.len()) != Next::Accept {
                break;
            }
            match self.accept() {
                Ok(()) => self.door.succeeded(),
                Err(Errno::AGAIN) => break,
                Err(error) => self.door.failed(&error.into(), &self.worker.shutdown),
            }
        }
    }

    fn accept(&mut self) -> Result<(), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match self.waiting.take() {
            Some(socket) => socket,
            None => {
                let socket = accept_with(&self.listener, flags)?;
                self.worker.settle(&socket);
                socket
            }
        };
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let data = EventData::new_u64(key as u64);
        if let Err(error) = epoll::add(&self.epoll, &socket, data, EventFlags::IN) {
            self.waiting = Some(socket);
            return Err(error);
        }
        entry.insert(Connection {
            socket,
            framer: Framer::new(),
            quiet: Quiet::default(),
            rest: Vec::new(),
        });
        self.worker.counters().opened();
        let traffic = &self.worker.counters().traffic;
        let greeted = self.connections[key].send(&self.epoll, key, GREETING, traffic);
        self.conclude(key, greeted.map(|()| Progress::Waiting));
        Ok(())
    }

    fn stop_accepting(&mut self) -> io::Result<()> {
        self.reconsider = true;
        self.waiting = None;
        // Or it would be reported for ever.
        Ok(epoll::delete(&self.epoll, &self.worker.shutdown.drain)?)
    }

    fn handle(&mut self, key: usize) {
        let traffic = &self.worker.counters().traffic;
        let progress = self.connections[key].advance(&self.epoll, key, &mut self.buf, traffic);
        self.conclude(key, progress);
    }

    fn conclude(&mut self, key: usize, progress: io::Result<Progress>) {
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Finished) => self.close(key, Ended::Closed),
            Err(error) => {
                tracing::debug!(%error, "connection failed");
                self.close(key, Ended::Failed);
            }
        }
    }

    /// Closing the socket unregisters it.
    fn close(&mut self, key: usize, how: Ended) {
        self.connections.remove(key);
        self.worker.counters().closed(how);
    }

    fn sweep(&mut self) {
        // However often the timer has expired by now, it is one sweep.
        let _ = rustix::io::read(&self.sweeps, &mut [0; 8]);
        let counters = self.worker.counters();
        self.connections.retain(|_, connection| {
            let idle = connection.quiet.sweep();
            if idle {
                counters.closed(Ended::TimedOut);
            }
            !idle
        });
    }

    fn close_all(&mut self) {
        for _ in mem::take(&mut self.connections) {
            self.worker.counters().closed(Ended::Cut);
        }
    }
}

impl Connection {
    /// Handles one event: there is something to read, or room for the rest of a reply.
    fn advance(
        &mut self,
        epoll: &OwnedFd,
        key: usize,
        buf: &mut [u8],
        traffic: &Traffic,
    ) -> io::Result<Progress> {
        if !self.rest.is_empty() {
            self.send_rest(epoll, key, traffic)?;
            return Ok(Progress::Waiting);
        }
        let received = match recv(&self.socket, &mut *buf, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(Progress::Finished),
            Ok((received, _)) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Progress::Waiting),
            Err(error) => return Err(error.into()),
        };
        self.quiet.moved();
        traffic.received.add(received);
        let replied = self.framer.feed(&mut buf[..received]);
        self.send(epoll, key, &buf[..replied], traffic)?;
        Ok(Progress::Waiting)
    }

    /// Sends what the socket takes of `reply`, and keeps the rest until there is room.
    fn send(
        &mut self,
        epoll: &OwnedFd,
        key: usize,
        reply: &[u8],
        traffic: &Traffic,
    ) -> io::Result<()> {
        if reply.is_empty() {
            return Ok(());
        }
        let sent = self.send_now(reply, traffic)?;
        if sent < reply.len() {
            self.rest = reply[sent..].to_vec();
            self.wait_for(epoll, key, EventFlags::OUT)?;
        }
        Ok(())
    }

    fn send_rest(&mut self, epoll: &OwnedFd, key: usize, traffic: &Traffic) -> io::Result<()> {
        let sent = self.send_now(&self.rest, traffic)?;
        self.rest.drain(..sent);
        if self.rest.is_empty() {
            self.rest = Vec::new();
            self.wait_for(epoll, key, EventFlags::IN)?;
        }
        Ok(())
    }

    fn send_now(&self, reply: &[u8], traffic: &Traffic) -> io::Result<usize> {
        match send(&self.socket, reply, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.quiet.moved();
                traffic.sent.add(sent);
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_for(&self, epoll: &OwnedFd, key: usize, flags: EventFlags) -> io::Result<()> {
        let key = EventData::new_u64(key as u64);
        Ok(epoll::modify(epoll, self.socket.as_fd(), key, flags)?)
    }
}

fn to_timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
