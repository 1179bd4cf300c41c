//! One client connection: what it has begun, sent and received of the tape.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ringlab::endpoint::Endpoint;
use ringlab::framing::GREETING;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::failures::{Failure, Problem};
use crate::tape::Tape;

/// How much to gather for one send, in bytes.
const CHUNK: usize = 64 * 1024;

/// How much one connection sends before others have their turn, in bytes.
const TURN: usize = 256 * 1024;

/// Why there is no connection.
pub(super) enum NotConnected {
    /// The server's backlog is full: try again in a moment.
    Later,
    /// It failed.
    Failed(Problem),
}

pub(super) struct Connection {
    socket: Socket,
    is_tcp: bool,
    /// When connecting began.
    pub(super) opened: Instant,
    /// When something arrived last.
    pub(super) moved: Instant,
    pub(super) greeted: bool,
    /// Whether there is more to send, for which the socket had no room or others have their turn.
    pub(super) blocked: bool,
    /// Whether there may be more to receive than one turn takes.
    pub(super) unread: bool,
    /// When each of the requests that are begun and not answered was sent, or was due.
    pub(super) in_flight: VecDeque<Instant>,
    /// The request to begin next.
    next: usize,
    /// Bytes of requests that are begun and not sent: those before `next` on the tape.
    unsent: usize,
    /// The request whose reply is being received.
    awaited: usize,
    /// How far the replies are received.
    received: usize,
}

impl Connection {
    /// Begins to connect; the greeting shows that it is done. Requests are taken from `first` on.
    /// `brief` is for a connection that sends one of them only.
    pub(super) fn open(
        target: &Endpoint,
        tape: &Tape,
        first: usize,
        brief: bool,
        now: Instant,
    ) -> Result<Self, NotConnected> {
        let socket = match target {
            Endpoint::Tcp(address) => connect_tcp(*address, brief),
            Endpoint::Unix(path) => SockAddr::unix(path).and_then(|address| {
                let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
                socket.connect(&address)?;
                Ok(socket)
            }),
        };
        let socket = socket.map_err(|error| match error.kind() {
            // Only Unix sockets report it: TCP goes on in the background.
            ErrorKind::WouldBlock => NotConnected::Later,
            _ => NotConnected::Failed(Problem::new(Failure::Connect, remedy(&error))),
        })?;
        Ok(Self {
            socket,
            is_tcp: matches!(target, Endpoint::Tcp(_)),
            opened: now,
            moved: now,
            greeted: false,
            blocked: false,
            unread: false,
            in_flight: VecDeque::new(),
            next: first,
            unsent: 0,
            awaited: first,
            received: tape.reply(first).start,
        })
    }

    /// Begins up to `budget` requests and sends them, until the socket has no room or much has been
    /// sent; then `blocked` is set. `since` tells from when a request counts as it is begun. Returns the bytes sent.
    pub(super) fn send(
        &mut self,
        tape: &Tape,
        mut budget: usize,
        mut since: impl FnMut() -> Instant,
    ) -> Result<usize, Problem> {
        self.blocked = false;
        let mut total = 0;
        loop {
            // Neighbours on the tape leave in one send.
            let is_at_end = |connection: &Self| connection.next == 0 && connection.unsent > 0;
            while budget > 0 && self.unsent < CHUNK && !is_at_end(self) {
                self.in_flight.push_back(since());
                self.unsent += tape.request(self.next).len();
                self.next = tape.after(self.next);
                budget -= 1;
            }
            if self.unsent == 0 {
                return Ok(total);
            }
            if total >= TURN {
                self.blocked = true;
                return Ok(total);
            }
            let end = match self.next {
                0 => tape.requests().len(),
                next => tape.request(next).start,
            };
            let chunk = &tape.requests()[end - self.unsent..end];
            match rustix::net::send(&self.socket, chunk, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.unsent -= sent;
                    total += sent;
                }
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(total);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Receives once, and compares. `replied` is told of each complete reply, and from when its
    /// request counts. Returns the number of bytes; 0 if there was nothing.
    pub(super) fn receive(
        &mut self,
        tape: &Tape,
        buf: &mut [u8],
        mut replied: impl FnMut(Instant),
    ) -> Result<usize, Problem> {
        let (_, received) = match rustix::net::recv(&self.socket, &mut *buf, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(Problem::new(Failure::Closed, self.describe(tape))),
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => {
                self.unread = false;
                return Ok(0);
            }
            Err(error) if self.greeted => return Err(broken(error)),
            Err(error) => {
                let text = remedy(&error.into());
                return Err(Problem::new(Failure::Connect, text));
            }
        };
        self.unread = received == buf.len();
        let mut bytes = &buf[..received];
        if !self.greeted {
            let Some(rest) = bytes.strip_prefix(GREETING) else {
                let text = format!("{:#04x} in place of the greeting", bytes[0]);
                return Err(Problem::new(Failure::WrongBytes, text));
            };
            self.greeted = true;
            bytes = rest;
        }
        while !bytes.is_empty() {
            if self.in_flight.is_empty() {
                let text = format!("{} bytes that nothing had asked for", bytes.len());
                return Err(Problem::new(Failure::WrongBytes, text));
            }
            let reply = tape.reply(self.awaited);
            let length = bytes.len().min(reply.end - self.received);
            let expected = &tape.replies()[self.received..][..length];
            let (part, rest) = bytes.split_at(length);
            if part != expected {
                return Err(mismatch(part, expected, self.received - reply.start));
            }
            bytes = rest;
            self.received += length;
            if self.received == reply.end {
                self.awaited = tape.after(self.awaited);
                self.received = tape.reply(self.awaited).start;
                if let Some(since) = self.in_flight.pop_front() {
                    replied(since);
                }
            }
        }
        Ok(received)
    }

    /// What this connection is waiting for.
    pub(super) fn describe(&self, tape: &Tape) -> String {
        if !self.greeted {
            return "before the greeting".to_owned();
        }
        if self.in_flight.is_empty() {
            return "while nothing was asked for".to_owned();
        }
        let reply = tape.reply(self.awaited);
        format!(
            "after {} of {} bytes of a reply",
            self.received - reply.start,
            reply.len()
        )
    }
}

impl Drop for Connection {
    /// Closes with a FIN, which is the end of the conversation for the server, and for TCP with a
    /// reset behind it, which leaves no TIME_WAIT.
    ///
    /// TIME_WAIT would hold the port for a minute, and there are only some 28,000
    /// (`net.ipv4.ip_local_port_range`). And its end is work, which the kernel charges to whatever
    /// runs at that time on the processor that the server's FIN was sent from: to a server that is
    /// measured a minute later.
    fn drop(&mut self) {
        if self.is_tcp {
            // What cannot be shut down any more has ended already.
            let _ = self.socket.shutdown(Shutdown::Write);
            let _ = self.socket.set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect_tcp(address: SocketAddr, brief: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if !brief {
        socket.set_tcp_nodelay(true)?;
        // Every system has it, and others pace what they send, with a timer per packet: that would
        // be the client's cost, and part of the latency. The server's socket keeps the system's
        // default.
        socket.set_tcp_congestion(b"reno")?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(socket),
        other => other.map(|()| socket),
    }
}

fn remedy(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => {
            format!("{error}: is the server running there?")
        }
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{error}: all local ports are in use; widen net.ipv4.ip_local_port_range, or open \
             fewer connections"
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            format!("{error}: raise the limit on descriptors, see `ulimit -n`")
        }
        _ => error.to_string(),
    }
}

fn broken(error: Errno) -> Problem {
    let failure = match error {
        Errno::CONNRESET | Errno::PIPE => Failure::Reset,
        Errno::TIMEDOUT => Failure::Timeout,
        _ => Failure::Closed,
    };
    Problem::new(failure, io::Error::from(error).to_string())
}

fn mismatch(received: &[u8], expected: &[u8], offset: usize) -> Problem {
    let wrong = received.iter().zip(expected).position(|(a, b)| a != b);
    let at = wrong.unwrap_or_default();
    let text = format!(
        "{:#04x} in place of {:#04x}, byte {} of a reply",
        received[at],
        expected[at],
        offset + at
    );
    Problem::new(Failure::WrongBytes, text)
}
