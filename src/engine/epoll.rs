//! Readiness: one loop over epoll, and what io_uring has to beat.
//!
//! One buffer serves all connections of a worker, because with readiness a connection needs memory
//! only while its bytes are being handled:
//!
//! ```text
//!    epoll_wait ──▶ for each ready socket: recv(buf) ──▶ feed(buf) ──▶ send(buf)
//! ```
//!
//! What makes it fast is what it does not do. A socket is registered edge-triggered, so neither an
//! event nor the wait for room costs an `epoll_ctl(2)`, and one `recv(2)` that does not fill the
//! buffer has emptied the socket: there is no second one to see EAGAIN. (Unless there is an end or
//! urgent data to come to, which the event tells: `epoll(7)`, `tcp(7)`.) A reply is sent at once.
//! Only if the socket's send buffer is full is the rest of it copied aside; until the client has
//! read it, nothing more is read from that client.
//!
//! Whoever has filled the buffer has its next turn after the others who are ready.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
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

/// What a connection is registered for. Room is added when a socket is full for the first time:
/// most never are, and for each the kernel would first report that there is some.
const NEWS: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

pub(super) fn run(worker: Worker, listener: Socket) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut service = Service::new(worker, listener)?;
    (service.worker.ready)();
    let mut events = Vec::with_capacity(BATCH);
    while service.is_needed() {
        let timeout = service.update_listener()?;
        // Not to wait, if somebody has more.
        let timeout = if service.unfinished.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.map(to_timespec);
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
        let unfinished = mem::take(&mut service.unfinished);
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => acceptable = true,
                DRAIN => service.stop_accepting()?,
                CUT => cut = true,
                SWEEP => sweep = true,
                key => service.handle(key as usize, event.flags),
            }
        }
        for key in unfinished {
            service.resume(key);
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
    /// Those whose last read has filled the buffer. None is closed while it is listed here.
    unfinished: Vec<usize>,
    buf: Box<[u8]>,
    /// Memory for the next part of a reply for which there is no room.
    spare: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    framer: Framer,
    quiet: Quiet,
    /// A reply that ends in a part for which the socket had no room. While there is one, nothing
    /// is read.
    rest: Vec<u8>,
    /// How much of it has been sent since.
    sent: usize,
    /// Whether the socket is registered for news of room.
    awaits_room: bool,
    /// Whether there may be something to read, and whether a read that does not fill the buffer
    /// would leave some of it.
    readable: bool,
    read_on: bool,
    /// Whether it is in [`Service::unfinished`].
    unfinished: bool,
}

/// How far the handling of an event has come.
enum Progress {
    /// Wait for the next event.
    Waiting,
    /// There may be more to read.
    Unfinished,
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
            unfinished: Vec::new(),
            spare: Vec::new(),
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
        if let Err(error) = epoll::add(&self.epoll, &socket, data, NEWS) {
            self.waiting = Some(socket);
            return Err(error);
        }
        entry.insert(Connection {
            socket,
            framer: Framer::new(),
            quiet: Quiet::default(),
            rest: Vec::new(),
            sent: 0,
            awaits_room: false,
            readable: false,
            read_on: false,
            unfinished: false,
        });
        self.worker.counters().opened();
        let greeted = self.turn(key).send(Source::Greeting);
        self.conclude(key, greeted.map(|()| Progress::Waiting));
        Ok(())
    }

    fn stop_accepting(&mut self) -> io::Result<()> {
        self.reconsider = true;
        self.waiting = None;
        // Or it would be reported for ever.
        Ok(epoll::delete(&self.epoll, &self.worker.shutdown.drain)?)
    }

    fn handle(&mut self, key: usize, news: EventFlags) {
        let connection = &mut self.connections[key];
        // An end, an error and urgent data are to be read, too.
        connection.readable |= news.intersects(EventFlags::OUT.complement());
        connection.read_on |= news.intersects(EventFlags::IN.union(EventFlags::OUT).complement());
        // Otherwise its turn comes below.
        if !connection.unfinished {
            let progress = self.turn(key).advance(news);
            self.conclude(key, progress);
        }
    }

    /// Goes on where there was more to read.
    fn resume(&mut self, key: usize) {
        let connection = self.connections.get_mut(key);
        if connection.is_some_and(|connection| mem::take(&mut connection.unfinished)) {
            let progress = self.turn(key).advance(EventFlags::empty());
            self.conclude(key, progress);
        }
    }

    fn turn(&mut self, key: usize) -> Turn<'_> {
        Turn {
            key,
            connection: &mut self.connections[key],
            epoll: &self.epoll,
            buf: &mut self.buf,
            spare: &mut self.spare,
            traffic: &self.worker.counters().traffic,
        }
    }

    fn conclude(&mut self, key: usize, progress: io::Result<Progress>) {
        match progress {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Unfinished) => {
                self.connections[key].unfinished = true;
                self.unfinished.push(key);
            }
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

/// One connection's turn, with what it may use meanwhile.
struct Turn<'a> {
    key: usize,
    connection: &'a mut Connection,
    epoll: &'a OwnedFd,
    buf: &'a mut [u8],
    spare: &'a mut Vec<u8>,
    traffic: &'a Traffic,
}

/// Where what is to be sent lies.
#[derive(Clone, Copy)]
enum Source {
    Greeting,
    /// In the shared buffer, so many bytes.
    Shared(usize),
}

impl Turn<'_> {
    /// There may be something to read, or room for the rest of a reply.
    fn advance(&mut self, news: EventFlags) -> io::Result<Progress> {
        if !self.connection.rest.is_empty() {
            if news.intersects(EventFlags::IN.union(EventFlags::PRI).complement()) {
                self.send_rest()?;
            }
            if !self.connection.rest.is_empty() {
                return Ok(Progress::Waiting);
            }
        }
        if !self.connection.readable {
            return Ok(Progress::Waiting);
        }
        let received = match recv(&self.connection.socket, &mut *self.buf, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(Progress::Finished),
            Ok((received, _)) => received,
            Err(Errno::AGAIN) => {
                self.connection.readable = false;
                self.connection.read_on = false;
                return Ok(Progress::Waiting);
            }
            Err(Errno::INTR) => return Ok(Progress::Unfinished),
            Err(error) => return Err(error.into()),
        };
        self.connection.quiet.moved();
        self.traffic.received.add(received);
        self.connection.readable = received == self.buf.len() || self.connection.read_on;
        let replied = self.connection.framer.feed(&mut self.buf[..received]);
        self.send(Source::Shared(replied))?;
        Ok(
            if self.connection.readable && self.connection.rest.is_empty() {
                Progress::Unfinished
            } else {
                Progress::Waiting
            },
        )
    }

    /// Sends what the socket takes, and keeps the rest until there is room.
    fn send(&mut self, source: Source) -> io::Result<()> {
        let reply = match source {
            Source::Greeting => GREETING,
            Source::Shared(len) => &self.buf[..len],
        };
        if reply.is_empty() {
            return Ok(());
        }
        let sent = send_now(self.connection, reply, self.traffic)?;
        if sent == reply.len() {
            return Ok(());
        }
        let mut rest = mem::take(self.spare);
        rest.clear();
        rest.extend_from_slice(&reply[sent..]);
        self.connection.rest = rest;
        self.connection.sent = 0;
        if !mem::replace(&mut self.connection.awaits_room, true) {
            // Room that has come since is reported as well.
            let key = EventData::new_u64(self.key as u64);
            let news = NEWS.union(EventFlags::OUT);
            epoll::modify(self.epoll, self.connection.socket.as_fd(), key, news)?;
        }
        Ok(())
    }

    fn send_rest(&mut self) -> io::Result<()> {
        let rest = &self.connection.rest[self.connection.sent..];
        self.connection.sent += send_now(self.connection, rest, self.traffic)?;
        if self.connection.sent == self.connection.rest.len() {
            *self.spare = mem::take(&mut self.connection.rest);
        }
        Ok(())
    }
}

fn send_now(connection: &Connection, reply: &[u8], traffic: &Traffic) -> io::Result<usize> {
    // An attempt that was interrupted is no reason to wait for room.
    match retry_on_intr(|| send(&connection.socket, reply, SendFlags::NOSIGNAL)) {
        Ok(sent) => {
            connection.quiet.moved();
            traffic.sent.add(sent);
            Ok(sent)
        }
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn to_timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
